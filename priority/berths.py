"""Which places of the stock are on which node: chains through the places, so that to come and to go are the same for
a node of ten tasks and one of a thousand, and a million tasks need two small numbers each.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

NOBODY = -1


class Berths:
    """By row of a node its places, in no fixed order."""

    __slots__ = ("_ahead", "_behind", "_first")

    def __init__(self, rows: int) -> None:
        self._first = array("i", [NOBODY]) * rows
        """Of each row."""
        self._behind, self._ahead = array("i"), array("i")
        """By place: its neighbours in the chain of its row."""

    def __len__(self) -> int:
        return len(self._first)

    def enter(self, place: int, row: int) -> None:
        """A place is on a node: one that is on none, or the first that never was given."""
        first = self._first[row]
        if place == len(self._behind):
            self._behind.append(first)
            self._ahead.append(NOBODY)
        else:
            self._behind[place], self._ahead[place] = first, NOBODY
        if first >= 0:
            self._ahead[first] = place
        self._first[row] = place

    def leave(self, place: int, row: int) -> None:
        """The inverse of `enter`."""
        behind, ahead = self._behind[place], self._ahead[place]
        if ahead >= 0:
            self._behind[ahead] = behind
        else:
            self._first[row] = behind
        if behind >= 0:
            self._ahead[behind] = ahead

    def on(self, row: int) -> list[int]:
        """All places on a node."""
        found, place, behind = [], self._first[row], self._behind
        while place >= 0:
            found.append(place)
            place = behind[place]
        return found

    def move_rows(self, old: Sequence[int], rows: int) -> None:
        """What is row `old[n]` is row `n` from now on; the others had nobody. There is room for so many."""
        self._first = array("i", [self._first[row] for row in old])
        self.more_rows(rows)

    def more_rows(self, rows: int) -> None:
        """There is room for so many nodes from now on."""
        self._first.extend([NOBODY] * (rows - len(self._first)))
