"""The doorbell's button: whoever rings goes on at once, and a thread of its own carries it to Redis.

A submission waits for its commit; that it waited for Redis too, and its thread for the next batch with it, was a
quarter of the time of a flood of submissions. What is rung while one message is on its way goes together with the
next. While Redis is away the newest calls are kept, and what is lost beyond (`KEPT_MAX`, the end of the process)
is found by the scheduler's sweep.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from threading import Condition, Thread
from typing import Any

import orjson
import redis

from priority.wire.connection import Line

KEPT_MAX = 100_000
"""So many jobs of a tier are kept while Redis is away."""

JOBS_A_CALL = 5_000

CLOSE_S = 1.0
"""How long `close` waits for what is on its way."""

Command = tuple[Any, ...]

Told = Callable[[Mapping[str, Sequence[str]], int | None], list[Command]]
"""How (tier -> jobs, last event) is said in Redis' words."""


class Ringer:
    """Rings on one connection. `ring` may be called from any thread; the thread begins with the first."""

    def __init__(self, line: Line, commands: Told) -> None:
        self._line = line
        self._commands = commands
        self._changed = Condition()
        self._jobs: dict[str, deque[str]] = {}
        self._event: int | None = None
        self._thread: Thread | None = None
        self._sending = False
        self._closed = False

    def ring(self, tier: str, jobs: Sequence[str], last_event: int | None = None) -> None:
        """Never waits, never raises."""
        with self._changed:
            if self._closed:
                return
            if jobs:
                self._keep(tier).extend(jobs)
            if last_event is not None:
                self._event = max(last_event, self._event or 0)
            if self._thread is None:
                self._thread = Thread(target=self._run, name="priority-ringer", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def close(self) -> None:
        """Send what is to be sent if Redis is there, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._thread is None or not (self._sending or self._pending()), CLOSE_S)
        self._line.close()

    def _keep(self, tier: str) -> deque[str]:
        return self._jobs.setdefault(tier, deque(maxlen=KEPT_MAX))

    def _pending(self) -> bool:
        return self._event is not None or any(self._jobs.values())

    def _run(self) -> None:
        while True:
            with self._changed:
                self._sending = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._closed or self._pending())
                if not self._pending():
                    return
                jobs, event = {tier: list(some) for tier, some in self._jobs.items() if some}, self._event
                self._jobs, self._event, self._sending = {}, None, True
            try:
                self._send(self._commands(jobs, event))
            except (redis.exceptions.RedisError, OSError):
                self._put_back(jobs, event)
                if not self._line.wait() or self._closed:
                    return

    def _send(self, commands: Sequence[Command]) -> None:
        """As one write, on the bare connection: the client's pipeline takes three times as long."""
        connection: Any = self._line.client.connection
        connection.send_packed_command(connection.pack_commands(commands))
        for _ in commands:
            connection.read_response()
        self._line.works()

    def _put_back(self, jobs: Mapping[str, Sequence[str]], event: int | None) -> None:
        """In front of what has come since. Sent twice, if the answer was lost: a call only says where to look."""
        with self._changed:
            for tier, some in jobs.items():
                newer = list(self._jobs.get(tier, ()))
                self._jobs[tier] = deque([*some, *newer], maxlen=KEPT_MAX)
            if event is not None:
                self._event = max(event, self._event or 0)


def call_of(jobs: Sequence[str]) -> list[bytes]:
    """Jobs as the texts of entries, none too long."""
    return [orjson.dumps(jobs[start : start + JOBS_A_CALL]) for start in range(0, len(jobs), JOBS_A_CALL)]
