"""The queue inside one process: the twin of the Redis one, for tests and simulation."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from threading import Condition

from priority.ports import Call


class MemoryQueue:
    """Passes the same contract as `RedisQueue`. `tiers` from the highest rank to the lowest.

    Faults on request: while `down` is set nothing gets through (Redis is away), and `lose` forgets all
    that is kept (Redis was emptied).
    """

    def __init__(self, tiers: Iterable[str], batch: int = 1000) -> None:
        self.down = False
        self._batch = batch
        self._changed = Condition()
        self._waiting: dict[str, deque[Call]] = {tier: deque() for tier in tiers}
        self._delivered: OrderedDict[int, Call] = OrderedDict()
        self._next = 0
        self._last_event = 0
        self._closed = False

    def ring(self, tier: str, jobs: Sequence[str], last_event: int | None = None) -> None:
        """See `ports.Queue`."""
        with self._changed:
            if last_event is not None:
                self.publish(last_event)
            if self.down or not jobs:
                return
            self._next += 1
            self._waiting[tier].append(Call(tier, tuple(jobs), self._next))
            self._changed.notify_all()

    def listen(self, deliver: Callable[[list[Call]], None]) -> None:
        """See `ports.Queue`. Beginning again stands for a crash: what was not acknowledged comes again."""
        self._return_delivered()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or any(self._waiting.values()))
                if self._closed:
                    return
            deliver(self.take())

    def take(self) -> list[Call]:
        """One batch at once, perhaps none: `listen` for tests that move everything by hand."""
        with self._changed:
            calls: list[Call] = []
            for waiting in self._waiting.values():
                while waiting and len(calls) < self._batch:
                    calls.append(waiting.popleft())
            for call in calls:
                self._delivered[call.token] = call
            return calls

    def acknowledge(self, calls: Sequence[Call]) -> None:
        """See `ports.Queue`."""
        with self._changed:
            for call in calls:
                self._delivered.pop(call.token, None)

    def publish(self, last_event: int) -> None:
        """See `ports.Queue`."""
        with self._changed:
            if not self.down:
                self._last_event = max(self._last_event, last_event)
                self._changed.notify_all()

    def watch(self, wake: Callable[[int], None]) -> None:
        """See `ports.Queue`."""
        seen = self._last_event
        while True:
            with self._changed:
                while not self._closed and self._last_event <= seen:
                    self._changed.wait()
                if self._closed:
                    return
                seen = self._last_event
            wake(seen)

    def alive(self) -> bool:
        """See `ports.Queue`."""
        return not self.down and not self._closed

    def lose(self) -> None:
        """A fault: all that was kept is gone."""
        with self._changed:
            for waiting in self._waiting.values():
                waiting.clear()
            self._delivered.clear()

    def close(self) -> None:
        """See `ports.Queue`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _return_delivered(self) -> None:
        with self._changed:
            for call in reversed(self._delivered.values()):
                self._waiting[call.tier].appendleft(call)
            self._delivered.clear()
