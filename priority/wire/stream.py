"""Reading Redis streams so that nothing read is lost before it is acknowledged."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import redis

from priority.wire.connection import Line

GROUP = "scheduler"
"""The one consumer group: what one scheduler has acknowledged no other needs."""

DONE_MAX = 10_000
"""So many entries at most are deleted with one read."""


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
        self._done: deque[tuple[str, bytes]] = deque()

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

    def done(self, entries: Iterable[tuple[str, bytes]]) -> None:
        """From any thread: these are dealt with. They are deleted with the next read, as a message of its own for each
        was a third of the scheduler's work in a flood; until then they may come again after a crash.
        """
        self._done.extend(entries)

    def _read(self, client: redis.Redis, since: dict[str, str], block_ms: int | None) -> list[tuple[str, bytes, Any]]:
        """One write, on the bare connection: the client's own way takes three times as long."""
        connection: Any = client.connection
        done = self._deletions()
        wait = () if block_ms is None else ("BLOCK", block_ms)
        head = ("XREADGROUP", "GROUP", GROUP, self._consumer, "COUNT", self._batch)
        read = (*head, *wait, "STREAMS", *since.keys(), *since.values())
        connection.send_packed_command(connection.pack_commands([*done, read]))
        for _ in done:
            with suppress(redis.exceptions.ResponseError):  # all was lost meanwhile: then these were too
                connection.read_response()
        found = connection.read_response()
        self._line.works()
        by_name = {name.decode(): entries for name, entries in found or ()}
        return [(name, entry, _pairs(fields)) for name in self._names for entry, fields in by_name.get(name, ())]

    def _deletions(self) -> list[tuple[Any, ...]]:
        ids: dict[str, list[bytes]] = {}
        for _ in range(min(len(self._done), DONE_MAX)):
            name, entry = self._done.popleft()
            ids.setdefault(name, []).append(entry)
        return [
            command for name, some in ids.items() for command in (("XACK", name, GROUP, *some), ("XDEL", name, *some))
        ]

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


def _pairs(fields: Any) -> Any:
    """`[name, value, ...]` as a dictionary; None for an entry that was cut off its stream meanwhile."""
    return None if fields is None else dict(zip(fields[::2], fields[1::2], strict=True))
