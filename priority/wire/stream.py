"""Reading Redis streams so that nothing read is lost before it is acknowledged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import redis

from priority.wire.connection import Line

GROUP = "scheduler"
"""The one consumer group: what one scheduler has acknowledged no other needs."""


class Inlet:
    """The end of some streams at which one consumer takes entries out, in the order of the names given.

    At first, and after every error, come the entries that this or any other consumer was given and has not
    acknowledged; then new ones. Raises what redis-py raises; call `lost` then and read on.
    """

    def __init__(self, line: Line, names: Iterable[str], consumer: str, batch: int = 1000) -> None:
        self._line = line
        self._names = list(names)
        self._consumer = consumer
        self._batch = batch
        self._again: dict[str, str] | None = None
        self._ready = False

    def lost(self) -> None:
        """After an error: the server may have another memory now."""
        self._ready = False

    def read(self, block_s: float) -> list[tuple[str, bytes, Any]]:
        """(stream, id, fields) of the next entries, waiting up to `block_s` for new ones."""
        client = self._line.client
        if not self._ready:
            self._prepare(client)
        if self._again is not None:
            found = self._read(client, self._again, None)
            for name, entry, _ in found:
                self._again[name] = entry.decode()
            if found:
                return found
            self._again = None
        return self._read(client, dict.fromkeys(self._names, ">"), max(1, round(block_s * 1000)))

    def acknowledge(self, client: redis.Redis, entries: Iterable[tuple[str, bytes]]) -> None:
        """Done with these: they are deleted. From any thread, with a client of its own."""
        ids: dict[str, list[bytes]] = {}
        for name, entry in entries:
            ids.setdefault(name, []).append(entry)
        if not ids:
            return
        with client.pipeline(transaction=False) as pipeline:
            for name, some in ids.items():
                pipeline.xack(name, GROUP, *some)
                pipeline.xdel(name, *some)
            pipeline.execute(raise_on_error=False)

    def _read(self, client: redis.Redis, since: dict[str, str], block_ms: int | None) -> list[tuple[str, bytes, Any]]:
        streams: Any = since
        found: Any = client.xreadgroup(GROUP, self._consumer, streams, count=self._batch, block=block_ms)
        self._line.works()
        by_name = {name.decode(): entries for name, entries in (found or {}).items()}
        return [(name, entry, fields) for name in self._names for entry, fields in by_name.get(name, ())]

    def _prepare(self, client: redis.Redis) -> None:
        for name in self._names:
            try:
                client.xgroup_create(name, GROUP, id="0", mkstream=True)
            except redis.exceptions.ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise
            cursor: Any = b"0-0"
            while True:  # take over what consumers of other names left behind
                claimed: Any = client.xautoclaim(name, GROUP, self._consumer, 0, start_id=cursor, count=self._batch)
                cursor = claimed[0]
                if cursor in (b"0-0", "0-0"):
                    break
        self._again = dict.fromkeys(self._names, "0")
        self._ready = True
