"""The queue on Redis streams.

Keys
    priority:calls:TIER    stream; each entry is one call: `jobs` is a JSON list of job uids
    priority:events        stream of one entry: `id` is that of the newest event that was announced

There is one consumer group (`scheduler`) and, as one scheduler leads, one consumer: a leader that takes over
under the same name gets at once what the former one had read and not acknowledged. Entries are deleted with
the next read after they were acknowledged, so a stream is hardly longer than what is not dealt with, and no
longer than `LENGTH_MAX`: what is cut off beyond is found by the sweep.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import redis

from priority.ports import Call
from priority.queue.ringer import Command, Ringer, call_of
from priority.wire.connection import Line, Lost, connect
from priority.wire.stream import Inlet

LENGTH_MAX = 100_000
BLOCK_S = 5.0
"""How long one read waits; then it is asked again, which shows a server that went away without a word."""
ANSWER_S = 1.0
"""For what must not hold a caller up: `publish` and `alive`."""
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
        self._client = connect(url, ANSWER_S)
        self._ears = Line(url, BLOCK_S + 5.0)
        self._inlet = Inlet(self._ears, self._streams, consumer, batch)
        self._eyes = Line(url, BLOCK_S + 5.0)
        self._ringer = Ringer(Line(url, ANSWER_S), _calls)
        self._rest_until = 0.0

    # --- what any thread may call --------------------------------------------------------------------------

    def ring(self, tier: str, jobs: Sequence[str], last_event: int | None = None) -> None:
        """See `ports.Queue`. Returns at once; a thread sends it."""
        if jobs or last_event is not None:
            self._ringer.ring(tier, jobs, last_event)

    def acknowledge(self, calls: Sequence[Call]) -> None:
        """See `ports.Queue`."""
        self._inlet.done((stream(call.tier), call.token) for call in calls if call.token is not None)

    def publish(self, last_event: int) -> None:
        """See `ports.Queue`."""

        self._try(lambda: self._client.xadd(EVENTS, {"id": last_event}, maxlen=1, approximate=False))

    def alive(self) -> bool:
        """See `ports.Queue`."""
        try:
            return bool(self._client.ping())
        except (redis.exceptions.RedisError, OSError):
            return False

    def close(self) -> None:
        """See `ports.Queue`."""
        self._ringer.close()
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
        while not self._ears.closed:
            try:
                entries = self._inlet.read(BLOCK_S)
            except (redis.exceptions.RedisError, *Lost):
                # A connection lost, or a group lost with all else that Redis held.
                self._inlet.lost()
                if not self._ears.wait():
                    return
                continue
            calls = [Call(self._streams[name], _jobs(fields), entry) for name, entry, fields in entries]
            if calls and not self._ears.closed:
                deliver(calls)

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


def _calls(jobs: Mapping[str, Sequence[str]], last_event: int | None) -> list[Command]:
    commands: list[Command] = [
        ("XADD", stream(tier), "MAXLEN", "~", LENGTH_MAX, "*", "jobs", call)
        for tier, some in jobs.items()
        for call in call_of(some)
    ]
    if last_event is not None:
        commands.append(("XADD", EVENTS, "MAXLEN", "=", 1, "*", "id", last_event))
    return commands


def _jobs(fields: Any) -> tuple[str, ...]:
    """What an entry says; nothing if it is none of ours (Redis is not believed)."""
    try:
        jobs = json.loads(fields[b"jobs"])
    except (KeyError, TypeError, ValueError, RecursionError):
        return ()
    return tuple(job for job in jobs if isinstance(job, str)) if isinstance(jobs, list) else ()


def _number(fields: Any) -> int:
    try:
        return int(fields[b"id"])
    except (KeyError, TypeError, ValueError):
        return 0
