"""Where the service has its time from: the system, or a test's hand."""

from __future__ import annotations

import time


class SystemClock:
    """The machine's own clock."""

    def now_us(self) -> int:
        """Microseconds since the epoch, UTC."""
        return time.time_ns() // 1000


class HandClock:
    """A clock that stands still until it is moved: for tests and simulations."""

    def __init__(self, start_us: int = 1_000_000_000_000_000) -> None:
        self._now_us = start_us

    def now_us(self) -> int:
        """Microseconds since the epoch, as far as it was moved."""
        return self._now_us

    def move(self, seconds: float) -> None:
        """Let time pass (or go back, if negative)."""
        self._now_us += round(seconds * 1_000_000)
