"""The queue on Redis streams.

Keys
    priority:calls:TIER    stream; each entry is one call: `jobs` is a JSON list of job uids
    priority:events        stream of one entry: `id` is that of the newest event that was announced

There is one consumer group (`scheduler`) and, as one scheduler leads, one consumer: a leader that takes over
under the same name gets at once what the former one had read and not acknowledged. Entries are deleted when
they are acknowledged, so a stream is as long as what is not dealt with, and no longer than `LENGTH_MAX`:
what is cut off beyond is found by the sweep.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import redis

from priority.ports import Call
from priority.wire.connection import Line, Lost, connect

GROUP = "scheduler"
LENGTH_MAX = 100_000
BLOCK_S = 5.0
"""How long one read waits; then it is asked again, which shows a server that went away without a word."""
ANSWER_S = 1.0
"""For what must not hold a caller up: `ring`, `publish` and `acknowledge`."""
REST_S = 0.5
"""After a failure these do not try again for so long, so that a lost Redis costs a caller nothing."""
EVENTS = "priority:events"


def stream(tier: str) -> str:
    """The name of a tier's stream."""
    return f"priority:calls:{tier}"


class RedisQueue:
    """`ports.Queue`. `tiers` from the highest rank to the lowest: in this order a batch is delivered."""

    def __init__(self, url: str, tiers: Iterable[str], consumer: str = "leader", batch: int = 1000) -> None:
        self._streams = {stream(tier): tier for tier in tiers}
        self._consumer = consumer
        self._batch = batch
        self._client = connect(url, ANSWER_S)
        self._ears = Line(url, BLOCK_S + 5.0)
        self._eyes = Line(url, BLOCK_S + 5.0)
        self._rest_until = 0.0

    # --- what any thread may call --------------------------------------------------------------------------

    def ring(self, tier: str, jobs: Sequence[str]) -> None:
        """See `ports.Queue`."""
        if jobs:
            fields: Any = {"jobs": json.dumps(list(jobs))}
            self._try(lambda: self._client.xadd(stream(tier), fields, maxlen=LENGTH_MAX, approximate=True))

    def acknowledge(self, calls: Sequence[Call]) -> None:
        """See `ports.Queue`."""
        ids: dict[str, list[bytes]] = {}
        for call in calls:
            if call.token is not None:
                ids.setdefault(stream(call.tier), []).append(call.token)

        def send() -> None:
            with self._client.pipeline(transaction=False) as pipeline:
                for name, entries in ids.items():
                    pipeline.xack(name, GROUP, *entries)
                    pipeline.xdel(name, *entries)
                pipeline.execute(raise_on_error=False)

        if ids:
            self._try(send)

    def publish(self, last_event: int) -> None:
        """See `ports.Queue`."""

        self._try(lambda: self._client.xadd(EVENTS, {"id": last_event}, maxlen=1, approximate=False))

    def close(self) -> None:
        """See `ports.Queue`."""
        self._ears.close()
        self._eyes.close()
        self._client.close()

    def _try(self, act: Callable[[], Any]) -> None:
        if time.monotonic() < self._rest_until:
            return
        try:
            act()
        except (redis.exceptions.RedisError, OSError):
            self._rest_until = time.monotonic() + REST_S

    # --- the scheduler's thread ----------------------------------------------------------------------------

    def listen(self, deliver: Callable[[list[Call]], None]) -> None:
        """See `ports.Queue`. What `deliver` raises ends it; its calls come again when it begins again."""
        again = True
        while not self._ears.closed:
            try:
                calls, again = self._read(again)
            except (redis.exceptions.RedisError, *Lost):
                # A connection lost, or a group lost with all else that Redis held: begin with a new group.
                again = True
                if not self._ears.wait():
                    return
                continue
            if calls and not self._ears.closed:
                deliver(calls)

    def _read(self, again: bool) -> tuple[list[Call], bool]:
        """One batch; `again`: what was delivered before and never acknowledged, until there is no more of it."""
        client = self._ears.client
        if again:
            self._make_groups(client)
            self._claim(client)
        since = "0" if again else ">"
        found: Any = client.xreadgroup(
            GROUP,
            self._consumer,
            dict.fromkeys(self._streams, since),
            count=self._batch,
            block=None if again else round(BLOCK_S * 1000),
        )
        self._ears.works()
        calls = [
            Call(self._streams[name.decode()], jobs, entry)
            for name, entries in (found or {}).items()
            for entry, fields in entries
            if (jobs := _jobs(fields)) is not None
        ]
        # What is delivered again stays pending until it is acknowledged: read it once, not for ever.
        return calls, False

    def _make_groups(self, client: redis.Redis) -> None:
        for name in self._streams:
            try:
                client.xgroup_create(name, GROUP, id="0", mkstream=True)
            except redis.exceptions.ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    def _claim(self, client: redis.Redis) -> None:
        """Take over what consumers of other names left behind."""
        for name in self._streams:
            with contextlib.suppress(redis.exceptions.ResponseError):
                client.xautoclaim(name, GROUP, self._consumer, min_idle_time=0, count=self._batch, justid=True)

    # --- the watchers' thread ------------------------------------------------------------------------------

    def watch(self, wake: Callable[[int], None]) -> None:
        """See `ports.Queue`. What was announced before it began does not wake, except where Redis was not there."""
        seen, missed = b"", False
        while not self._eyes.closed:
            try:
                newest, number = self._newest(self._eyes.client)
                if newest != seen and (seen or missed):
                    wake(number)
                seen = newest
                while (found := self._wait(self._eyes.client, seen)) is not None:
                    seen, number = found
                    wake(number)
                missed = False
            except (redis.exceptions.RedisError, *Lost):
                missed = True
                if not self._eyes.wait():
                    return

    def _newest(self, client: redis.Redis) -> tuple[bytes, int]:
        entries: Any = client.xrevrange(EVENTS, count=1)
        self._eyes.works()
        return (entries[0][0], _number(entries[0][1])) if entries else (b"0-0", 0)

    def _wait(self, client: redis.Redis, seen: bytes) -> tuple[bytes, int] | None:
        """The newest announcement after `seen`; None if none comes for a while (look at all anew then: a Redis that
        was emptied counts from its clock, which may have been set back).
        """
        found: Any = client.xread({EVENTS: seen}, block=round(BLOCK_S * 1000))
        if not found or self._eyes.closed:
            return None
        entry, fields = found[EVENTS.encode()][-1]
        return entry, _number(fields)


def _jobs(fields: Any) -> tuple[str, ...] | None:
    """What an entry says; None if it is none of ours (Redis is not believed)."""
    try:
        jobs = json.loads(fields[b"jobs"])
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return tuple(jobs) if isinstance(jobs, list) and all(isinstance(job, str) for job in jobs) else None


def _number(fields: Any) -> int:
    try:
        return int(fields[b"id"])
    except (KeyError, TypeError, ValueError):
        return 0
