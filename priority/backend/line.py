"""Reports in line inside one process, delivered at least once."""

from __future__ import annotations

from collections import deque
from itertools import count
from threading import Condition

from priority.orders import Delivery, Report


class Line:
    """First in, first out; what was taken and not acknowledged comes again after `begin_again`."""

    def __init__(self, batch: int = 1000) -> None:
        self._batch = batch
        self._changed = Condition()
        self._reports: deque[Report] = deque()
        self._taken: dict[int, Delivery] = {}
        self._tokens = count(1)
        self._closed = False

    def put(self, report: Report) -> None:
        """Append one."""
        with self._changed:
            self._reports.append(report)
            self._changed.notify_all()

    def take(self, wait: bool) -> Delivery | None:
        """All there is, up to a batch. None when there is nothing (and `wait` is not wanted) or it is closed."""
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._closed or self._reports)
            if self._closed or not self._reports:
                return None
            reports = tuple(self._reports.popleft() for _ in range(min(self._batch, len(self._reports))))
            delivery = Delivery(reports, next(self._tokens))
            self._taken[delivery.token] = delivery
            return delivery

    def acknowledge(self, delivery: Delivery) -> None:
        """It need not come again."""
        with self._changed:
            self._taken.pop(delivery.token, None)

    def begin_again(self) -> None:
        """What was taken and not acknowledged goes back to the front."""
        with self._changed:
            for delivery in reversed(self._taken.values()):
                self._reports.extendleft(reversed(delivery.reports))
            self._taken.clear()

    def lose(self) -> None:
        """Forget everything."""
        with self._changed:
            self._reports.clear()
            self._taken.clear()

    def close(self) -> None:
        """Wake who waits, with None."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
