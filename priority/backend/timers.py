"""What is to be done later, in a loop that waits for other things as well."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from priority.backend.custody import now_s


class Timers:
    """Acts by the time at which they are due, in seconds of CLOCK_BOOTTIME."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def later(self, after_s: float, act: Callable[[], None]) -> None:
        """Once, after so long."""
        self._count += 1
        heapq.heappush(self._due, (now_s() + after_s, self._count, act))

    def fire(self) -> None:
        """Do all that is due."""
        now = now_s()
        while self._due and self._due[0][0] <= now:
            heapq.heappop(self._due)[2]()

    @property
    def next_s(self) -> float:
        """When the next is due; infinity if none is."""
        return self._due[0][0] if self._due else float("inf")
