"""What the budgets of policy count of the last hour, kept as it happens: see `priority.policy.Past`."""

from __future__ import annotations

from collections import Counter, deque

from priority.policy import HOUR_US, WORK, Past

Owner = tuple[str, str]
"""(role, job) or (role, tier)."""


class Lately:
    """Not safe for threads. Work is in milli-cores times microseconds."""

    def __init__(self) -> None:
        self._events: deque[tuple[int, Owner, Owner, int]] = deque()
        self._destroyed: Counter[Owner] = Counter()
        self._lost: Counter[Owner] = Counter()
        self._gone: Counter[Owner] = Counter()
        self._changed = False

    def add(self, at_us: int, taker: Owner, giver: Owner, lost: int) -> None:
        """A preemption, later than those before: whose (role, tier) destroyed how much of whose work."""
        self._events.append((at_us, taker, giver, lost // WORK))
        self._count(taker, giver, lost // WORK)

    def gone(self, job: Owner, count: int) -> None:
        """So many more tasks of a job were preempted, are dead and wait (less, if negative)."""
        self._gone[job] += count
        self._changed = True

    def advance(self, now_us: int) -> None:
        """Forget what is older than an hour."""
        while self._events and self._events[0][0] <= now_us - HOUR_US:
            _, taker, giver, work = self._events.popleft()
            self._count(taker, giver, -work)

    def next_us(self) -> int | None:
        """When the oldest is forgotten."""
        return self._events[0][0] + HOUR_US if self._events else None

    def news(self) -> Past | None:
        """As things are now, if anything has changed since this was last asked."""
        if not self._changed:
            return None
        self._changed = False
        return Past(dict(+self._gone), dict(+self._destroyed), dict(+self._lost))

    def _count(self, taker: Owner, giver: Owner, work: int) -> None:
        self._destroyed[taker] += work
        self._lost[giver] += work
        self._changed = True
