"""Running tasks of the lowest level that a tier may take, those first with which the least work is lost.

Of all victims that are enough alone the first one here is the cheapest, and nothing cheaper makes room: what is of a
lower level there is none of. Only the first of them are sorted; more when those are not enough.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from priority.board import Board
from priority.rules import Mask
from priority.stock import Picks, Plane

TAKEN = -(2**62)
"""Less room than anybody asks for."""

WINDOW = 64
"""So many are looked at first, and four times as many each time that none is enough."""

MORE = 256


class Line:
    """As the board was when it was made, and what is told since: see `take` and `look`."""

    def __init__(self, board: Board, rank: int, size: int) -> None:
        self._board = board
        herd = board.herd
        picks = np.flatnonzero(herd.alive & (herd.soft_ranks < rank))
        for values in (herd.rank, herd.priority):
            mine = values[picks]
            if len(picks) and mine.min() != mine.max():
                picks = picks[mine == mine.min()]
        works = herd.works()
        assert works is not None
        self._all, self._works = picks, works[picks]
        self._gone: set[int] = set()
        self._told: dict[int, Plane] = {}
        self._sort(4 * size + MORE)

    def _sort(self, size: int) -> None:
        herd, picks, works = self._board.herd, self._all, self._works
        self._size = size
        if len(picks) > size:
            some = works <= np.partition(works, size)[size]
            picks, works = picks[some], works[some]
        rows = herd.node[picks]
        order = np.lexsort((rows, works))
        picks, works, rows = picks[order], works[order], rows[order]
        equal = np.flatnonzero((works[1:] == works[:-1]) & (rows[1:] == rows[:-1]))
        if len(equal):
            keys = {at: herd.key(int(picks[at])) for at in {*equal.tolist(), *(equal + 1).tolist()}}
            none = (0, 0, 0, "")
            by_key = sorted(range(len(picks)), key=lambda at: (works[at], rows[at], keys.get(at, none)))
            picks = picks[by_key]
        self.places: list[int] = picks.tolist()
        """In the herd."""
        self.rows: list[int] = rows.tolist()
        self._node: Picks = rows
        self._requests: Plane = herd.request[picks]
        self._reach: Plane = np.ascontiguousarray((self._requests + self._board.total[rows]).T)
        """`[R, L]`: the room on its node were it gone."""
        self._at: dict[int, list[int]] = {}
        for at, row in enumerate(self.rows):
            self._at.setdefault(row, []).append(at)
        self._start = 0
        for row, room in self._told.items():
            self.look(row, room)

    def first(self, asks: Sequence[tuple[int, int]], open_: Mask | None) -> int | None:
        """The first that is enough alone for one that asks so much of these columns, on an open node; None: none is."""
        while True:
            reach, start, width = self._reach, self._start, WINDOW
            while start < len(self.rows):
                mask: Mask | None = None
                for column, size in asks:
                    enough = reach[column, start : start + width] >= size
                    mask = enough if mask is None else np.logical_and(mask, enough, out=mask)
                assert mask is not None
                if open_ is not None:
                    mask &= open_[self._node[start : start + width]]
                at = int(mask.argmax())
                if mask[at]:
                    return start + at
                start += width
                width *= 4
            if len(self.rows) == len(self._all):
                return None
            self._sort(8 * self._size)

    def take(self, at: int) -> Plane:
        """It is a victim from now on; answers what it leaves. (To be followed by `look` at its node.)"""
        self._gone.add(self.places[at])
        self._reach[:, at] = TAKEN
        while self._start < len(self.rows) and self._reach[0, self._start] == TAKEN:
            self._start += 1
        taken: Plane = self._requests[at]
        return taken

    def look(self, row: int, room: Plane) -> None:
        """A node has so much room from now on."""
        self._told[row] = room
        for at in self._at.get(row, ()):
            self._reach[:, at] = TAKEN if self.places[at] in self._gone else self._requests[at] + room
