"""Of one level those with whom the least work would be lost, kept from round to round: who is taken first is here.

The work lost with a task only grows, and with each as fast as it has cpus. So of all that are not here it is known how
much is lost at least, at any later time; and whoever comes to the level comes here. Who is gone is left out when the
front is looked at. It is made anew when too many have come, or when it proves nothing any more (see `sole`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.int64]
Picks = npt.NDArray[np.intp]

ALL = np.iinfo(np.int64).max
"""No work is as much: everybody is here."""

SIZE, ROOM = 128, 512
"""So many are here at first, and at most."""


class Front:
    """Places in the stock."""

    __slots__ = ("_at_us", "_least", "_places", "_size", "_slowest")

    def __init__(self, picks: Picks, works: Plane, cpus: Plane, now_us: int) -> None:
        self._at_us, self._least, self._slowest = now_us, ALL, 0
        if len(picks) > SIZE:
            order = np.argpartition(works, SIZE)
            self._least = int(works[order[SIZE]])
            self._slowest = int(cpus[order[SIZE:]].min())
            picks = picks[order[:SIZE]]
        self._size = len(picks)
        self._places: Picks = np.empty(ROOM, np.intp)
        self._places[: self._size] = picks

    def __len__(self) -> int:
        return self._size

    def add(self, place: int) -> bool:
        """One has come to the level; False: there is no room for it here."""
        if self._size == ROOM:
            return False
        self._places[self._size] = place
        self._size += 1
        return True

    def here(self, levels: npt.NDArray[np.int16], code: int) -> Picks:
        """Who of them is still there, by the level of each place; some maybe twice."""
        places = self._places[: self._size]
        stay = levels.take(places) == code
        if not stay.all():
            places = places[stay]
            self._size = len(places)
            self._places[: self._size] = places
        return places

    def beyond(self, now_us: int) -> int:
        """With nobody who is not here less work than this would be lost."""
        passed_us = now_us - self._at_us
        if self._least == ALL:
            return ALL
        if passed_us < 0:
            return 0
        # Of those with no work to lose when it was made some may not have begun: see `since` in the future.
        return self._least + (self._slowest * passed_us if self._least else 0)
