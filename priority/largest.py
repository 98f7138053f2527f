"""Of each resource an amount than which no task asks for more: looked up when somebody asks, then kept up."""

from __future__ import annotations

from collections.abc import Callable

AGAIN = 4
"""It is looked up anew when a fourth of the tasks has gone: among those may have been the largest."""


class Largest:
    """By column of the stock."""

    __slots__ = ("_gone", "_most")

    def __init__(self) -> None:
        self._most: dict[int, int] = {}
        self._gone = 0

    def of(self, column: int, look: Callable[[], int]) -> int:
        """Nobody asks for more."""
        found = self._most.get(column)
        if found is None:
            found = self._most[column] = look()
        return found

    def came(self, column: int, amount: int) -> None:
        """Somebody asks for so much."""
        if amount > self._most.get(column, amount):
            self._most[column] = amount

    def gone(self, count: int, size: int) -> None:
        """So many have gone, of so many."""
        self._gone += count
        if self._gone > size // AGAIN:
            self.forget()

    def forget(self) -> None:
        """The columns are others than they were."""
        self._most, self._gone = {}, 0
