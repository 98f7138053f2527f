"""One simple task that has no room: its cheapest victims, without a board.

What a search comes to where nothing else is to be decided: no other task could take the victims or the room, and
nothing is to be mended afterwards. The choice is the one that `prices` makes; what is looked at is the columns of the
stock as they are. None where it is not that simple (see `find`), and where no victims make room.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from priority.claim import RUNS, Claim
from priority.cover import Cover, Effort, least_cover
from priority.herd import work_lost
from priority.planes import Planes
from priority.reach import lowest_first
from priority.snapshot import Snapshot
from priority.stock import Flags, Level, Picks, Plane

Found = tuple[int, tuple[Claim, ...]]
"""The row of a node, and the victims there."""

FEW = 64
"""Of so few that may be taken first the others are looked at, too, if none of them will do."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One resource of a request, and what there is of it."""

    name: str
    column: int
    size: int
    room: Plane
    """`[N]`: free and coming."""


def find(snapshot: Snapshot, claim: Claim, asks: Sequence[Ask]) -> Found | None:
    """The cheapest victims for a task of which only the request says where it may go, and which fits nowhere.

    None if policy spares anybody, if levels are not kept, or if no tasks of lower tiers make room.
    """
    planes = snapshot.settled()
    if snapshot.terms.spares or planes.stock.levels is None or not planes.stock.small(snapshot.now_us):
        return None
    return _Search(snapshot, planes, claim, asks).run()


class _Search:
    def __init__(self, snapshot: Snapshot, planes: Planes, claim: Claim, asks: Sequence[Ask]) -> None:
        self._snapshot, self._planes, self._stock = snapshot, planes, planes.stock
        self._now_us = snapshot.now_us
        self._up = planes.up()
        self._asks = asks
        rank = snapshot.tiers[claim.tier].rank
        self._levels = sorted(level for level in self._stock.levels or () if level[0] < rank)

    def run(self) -> Found | None:
        """See `find`."""
        found = self._lowest()
        if found is None:
            return None
        level, nodes = found
        levels = [one for one in self._levels if one[0] <= level[0] and one[1] <= level[1]]
        best = self._one(levels, nodes)
        if best is None:
            return self._several(levels, level, nodes)
        claim = self._stock.claims[best]
        assert claim is not None
        return self._stock.row.item(best), (claim,)

    def _lowest(self) -> tuple[Level, Flags] | None:
        """The lowest rank, then the lowest priority, up to which all victims together make room, and where they do."""
        rows = len(self._up)
        for rank in dict.fromkeys(rank for rank, _ in self._levels):
            sums = [ask.room for ask in self._asks]
            priorities = sorted({one[1] for one in self._levels if one[0] <= rank})
            for priority in priorities:
                nodes = self._up
                mine = [one for one in self._levels if one[0] <= rank and one[1] == priority]
                for place, ask in enumerate(self._asks):
                    for one in mine:
                        sums[place] = sums[place] + self._level(one)[:rows, ask.column]
                    nodes = nodes & (sums[place] >= ask.size)
                if nodes.any():
                    return (rank, priority), nodes
        return None

    def _level(self, level: Level) -> Plane:
        assert self._stock.levels is not None
        return self._stock.levels[level]

    # --- one victim ---

    def _one(self, levels: Sequence[Level], nodes: Flags) -> int | None:
        """The one that is enough alone with the least work lost: most likely it is of those with the least of all."""
        stock, now_us = self._stock, self._now_us
        for ask in self._asks:
            if ask.size - int(ask.room[nodes].max()) > stock.largest(ask.column):
                return None
        fronts = [stock.front(level, now_us) for level in levels]
        beyond = min(least for _, least in fronts)
        best = self._best([places for places, _ in fronts])
        if best is not None and best[0] < beyond:
            return best[1]
        for level, (places, least) in zip(levels, fronts, strict=True):
            if best is not None or (len(places) < FEW and least <= beyond):
                stock.front(level, now_us, anew=True)  # the next search will find more there
        best = self._best([np.flatnonzero(stock.of_levels(levels))])
        return None if best is None else best[1]

    def _best(self, some: Sequence[Picks]) -> tuple[int, int] | None:
        """The least work lost with one of these that is enough alone, and its place; of equals the first by node."""
        stock = self._stock
        places = some[0] if len(some) == 1 else np.concatenate(some)
        rows = stock.row.take(places)
        mask = self._up.take(rows)
        for ask in self._asks:
            mask &= stock.request[:, ask.column].take(places) + ask.room.take(rows) >= ask.size
        places = places[mask]
        if not len(places):
            return None
        works = stock.works_of(places, self._now_us)
        least = works.min()
        equal = places[works == least].tolist()
        return int(least), equal[0] if len(equal) == 1 else min(equal, key=self._order)

    def _order(self, place: int) -> tuple[int, int, int, str]:
        claim = self._stock.claims[place]
        assert claim is not None
        return self._stock.row.item(place), self._stock.rank.item(place), claim.priority, claim.id

    # --- several victims ---

    def _several(self, levels: Sequence[Level], level: Level, nodes: Flags) -> Found | None:
        """The least cover; its node is the first of equals."""
        stock, rows = self._stock, np.flatnonzero(nodes)
        size, effort = stock.size, Effort()
        picks = np.flatnonzero(stock.of_levels(levels))
        needs = [(stock.request[:size, ask.column], ask.size - ask.room.take(rows)) for ask in self._asks]
        bounds = lowest_first(picks, stock.row[:size], rows, needs, self._works)
        best: tuple[tuple[int, int], int] | None = None
        victims: tuple[Claim, ...] = ()
        for count, work, row in bounds or ():
            if best is not None and (count, work) > best[0]:
                break
            there = self._there(row, level)
            cover = self._cover(row, there, None if best is None else best[0], effort)
            if cover is not None and (best is None or (cover.cost, row) < best):
                best, victims = (cover.cost, row), tuple(there[item] for item in cover.items)
        return None if best is None else (best[1], victims)

    def _works(self, places: Picks) -> Plane:
        return self._stock.works_of(places, self._now_us)

    def _there(self, row: int, level: Level) -> list[Claim]:
        """Who may be taken on a node, the least important first."""
        tiers, found = self._snapshot.tiers, []
        for claim in self._snapshot.tasks_on(self._planes.names[row]):
            tier = tiers[claim.tier]
            if claim.state in RUNS and tier.preemptible and tier.rank <= level[0] and claim.priority <= level[1]:
                found.append((tier.rank, claim.priority, work_lost(claim, self._now_us), claim.id, claim))
        found.sort()
        return [one[4] for one in found]

    def _cover(self, row: int, there: list[Claim], bound: tuple[int, int] | None, effort: Effort) -> Cover | None:
        """The least cover on a node, if it costs at most `bound`."""
        works = [work_lost(claim, self._now_us) for claim in there]
        need = [max(ask.size - ask.room.item(row), 0) for ask in self._asks]
        amounts = [[claim.request.get(ask.name, 0) for ask in self._asks] for claim in there]
        return least_cover(amounts, works, need, None if bound is None else (bound[0], bound[1] + 1), effort)
