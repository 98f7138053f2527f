"""Every task that is on a node, in columns: what victims are chosen from. Kept up event by event.

A task has a place in the columns for as long as it is there; a place that is free is used again, so places say
nothing. `request` is stored column by column, so that one resource of all tasks is contiguous.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from priority.claim import RUNS, Claim
from priority.tier import Tier

Plane = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Picks = npt.NDArray[np.intp]

HARD = np.iinfo(np.int64).max
"""The rank of a tier that is not preemptible, to those above it: no rank is higher."""

SAFE = 2**62
"""A product below this fits 64 bits."""

Level = tuple[int, int]
"""Tier rank and priority."""

NOBODY = -1

LEVELS_MAX = 32
"""With more levels than this they are not summed up: the planes would be larger than they are worth."""

_FIRST = 16


class Stock:
    """`K` places. What is read: the columns, up to `size`."""

    def __init__(self, tiers: Mapping[str, Tier]) -> None:
        self._tiers = tiers
        self._place: dict[str, int] = {}
        self._free: list[int] = []
        self.size = 0
        """Places that were ever used."""
        self.claims: list[Claim | None] = []
        self.live: Flags = np.zeros(_FIRST, np.bool_)
        """Runs, on a node that is up: may be a victim."""
        self.row: Picks = np.zeros(_FIRST, np.intp)
        """Of its node in the planes."""
        self.rank: Plane = np.zeros(_FIRST, np.int64)
        self.soft: Plane = np.zeros(_FIRST, np.int64)
        """The rank of its tier, `HARD` if that is not preemptible."""
        self.priority: Plane = np.zeros(_FIRST, np.int64)
        self.since: Plane = np.zeros(_FIRST, np.int64)
        self.cpus: Plane = np.zeros(_FIRST, np.int64)
        self.owner: Plane = np.zeros(_FIRST, np.int64)
        """Its (tier, role), as a code."""
        self.request: Plane = np.zeros((_FIRST, 4), np.int64, order="F")
        self.owners: dict[tuple[str, str], int] = {}
        self._priorities: dict[tuple[str, str], Counter[int]] = {}
        self.levels: dict[Level, Plane] | None = {}
        """Of each rank and priority: what live tasks of preemptible tiers hold, `[N, R]`; None: there are too many."""
        self.level: npt.NDArray[np.int16] = np.full(_FIRST, NOBODY, np.int16)
        """Whose level this is: a place in `known`; `NOBODY` of those that no level counts."""
        self.known: dict[Level, int] = {}
        self._rows = 8
        self._oldest_us, self._widest = HARD, 0
        self._scratch: dict[str, Plane] = {}

    def put(self, claim: Claim, row: int, columns: Sequence[int], live: bool) -> None:
        """A task is on a node. (`columns` are those of its request, in its order.)"""
        if self._free:
            place = self._free.pop()
            self.claims[place] = claim
        else:
            place = self.size
            if place == len(self.live):
                self._grow()
            self.claims.append(claim)
            self.size += 1
        self._place[claim.id] = place
        tier = self._tiers[claim.tier]
        owner = claim.tier, claim.role
        self.row[place] = row
        self.rank[place] = tier.rank
        self.soft[place] = tier.rank if tier.preemptible else HARD
        self.priority[place] = claim.priority
        self.since[place] = claim.since_us
        self.owner[place] = self.owners.setdefault(owner, len(self.owners))
        request = self.request
        cpus = 0
        live = live and claim.state in RUNS
        level = self._level(tier.rank, claim.priority) if live and tier.preemptible else None
        for column, (name, amount) in zip(columns, claim.request.items(), strict=True):
            request[place, column] = amount
            if level is not None:
                level[row, column] += amount
            if name == "cpus":
                cpus = amount
        self.level[place] = NOBODY if level is None else self.known[tier.rank, claim.priority]
        self.cpus[place] = cpus
        self._widest = max(self._widest, cpus)
        self._oldest_us = min(self._oldest_us, claim.since_us)
        if live:
            self.live[place] = True
            self._priorities.setdefault(owner, Counter())[claim.priority] += 1

    def drop(self, claim: Claim, columns: Sequence[int]) -> None:
        """A task is gone, or is on its way to another place in the columns."""
        place = self._place.pop(claim.id, None)
        if place is None:
            return
        self.claims[place] = None
        self._free.append(place)
        live = bool(self.live[place])
        tier = self._tiers[claim.tier]
        level = self._level(tier.rank, claim.priority) if live and tier.preemptible else None
        for column, amount in zip(columns, claim.request.values(), strict=True):
            self.request[place, column] = 0
            if level is not None:
                level[self.row[place], column] -= amount
        if live:
            self.live[place] = False
            self.level[place] = NOBODY
            priorities = self._priorities[claim.tier, claim.role]
            priorities[claim.priority] -= 1
            if not priorities[claim.priority]:
                del priorities[claim.priority]

    def has_below(self, tier: str, role: str, priority: int) -> bool:
        """Whether some running task of that role and tier has a lower priority."""
        return any(one < priority for one in self._priorities.get((tier, role), ()))

    def works(self, now_us: int) -> Plane | None:
        """`[K]`: milli-cores times microseconds since each started, if that fits 64 bits. The next call reuses it."""
        size = self.size
        if not self.small(now_us):
            return None
        works = self.scratch("works")
        np.subtract(now_us, self.since[:size], out=works)
        np.maximum(works, 0, out=works)
        return np.multiply(works, self.cpus[:size], out=works)

    def small(self, now_us: int) -> bool:
        """Whether the work lost with each fits 64 bits."""
        if self._widest * (now_us - self._oldest_us) < SAFE:
            return True
        size = self.size
        age = np.maximum(now_us - self.since[:size], 0)
        return int(self.cpus[:size].max(initial=0)) * int(age.max(initial=0)) < SAFE

    def works_of(self, places: Picks, now_us: int) -> Plane:
        """The same of some of them, where it is `small`."""
        works = now_us - self.since.take(places)
        np.maximum(works, 0, out=works)
        return np.multiply(works, self.cpus.take(places), out=works)

    def of_levels(self, levels: Collection[Level]) -> Picks:
        """Places of those of these levels, whoever of them is a victim by now."""
        codes = self.level[: self.size]
        if len(levels) == 1:
            return np.flatnonzero(codes == self.known[next(iter(levels))])
        table = np.zeros(len(self.known) + 1, np.bool_)  # the last: `NOBODY`
        table[[self.known[level] for level in levels]] = True
        return np.flatnonzero(table.take(codes, mode="wrap"))

    def scratch(self, name: str) -> Plane:
        """`[K]` of whatever was there: large arrays that every round needs are not made anew each time."""
        plane = self._scratch.get(name)
        if plane is None or len(plane) < self.size:
            plane = self._scratch[name] = np.empty(len(self.live), np.int64)
        return plane[: self.size]

    def claim(self, id: str) -> Claim | None:
        """A task that has a place."""
        place = self._place.get(id)
        return None if place is None else self.claims[place]

    def place(self, id: str) -> int:
        """A task's place in the columns; -1: it has none."""
        return self._place.get(id, -1)

    def _level(self, rank: int, priority: int) -> Plane | None:
        levels = self.levels
        if levels is None:
            return None
        plane = levels.get((rank, priority))
        if plane is None:
            if len(levels) == LEVELS_MAX:
                self.levels = None
                return None
            self.known[rank, priority] = len(self.known)
            plane = levels[rank, priority] = np.zeros((self._rows, self.request.shape[1]), np.int64, order="F")
        return plane

    def widen(self, order: Sequence[int], width: int) -> None:
        """The resource that was in column `order[n]` is in column `n` from now on (-1: a new one)."""
        request = np.zeros((len(self.live), width), np.int64, order="F")
        for new, old in enumerate(order):
            if old >= 0:
                request[:, new] = self.request[:, old]
        self.request = request
        for key, former in (self.levels or {}).items():
            plane = np.zeros((self._rows, width), np.int64, order="F")
            for new, old in enumerate(order):
                if old >= 0:
                    plane[:, new] = former[:, old]
            self._levels()[key] = plane

    def move_rows(self, new: Picks, old: Picks, rows: int) -> None:
        """The node of row `n` has row `new[n]` from now on; `old` are those that remain, with room for `rows`."""
        self.row[: self.size] = new[self.row[: self.size]]
        self._rows = rows
        for key, former in (self.levels or {}).items():
            plane = np.zeros((rows, former.shape[1]), np.int64, order="F")
            plane[: len(old)] = former[old]
            self._levels()[key] = plane

    def more_rows(self, rows: int) -> None:
        """There is room for so many nodes from now on."""
        self._rows = rows
        for key, former in (self.levels or {}).items():
            plane = np.zeros((rows, former.shape[1]), np.int64, order="F")
            plane[: len(former)] = former
            self._levels()[key] = plane

    def _levels(self) -> dict[Level, Plane]:
        return {} if self.levels is None else self.levels

    def _grow(self) -> None:
        more = len(self.live)
        for name in ("live", "row", "rank", "soft", "priority", "since", "cpus", "owner", "level"):
            old = getattr(self, name)
            new = np.zeros(2 * more, old.dtype)  # what is not used yet costs nothing until it is
            new[:more] = old
            setattr(self, name, new)
        request = np.zeros((2 * more, self.request.shape[1]), np.int64, order="F")
        request[:more] = self.request
        self.request = request
