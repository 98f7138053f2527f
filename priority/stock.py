"""Every task that is on a node, in columns: what victims are chosen from. Kept up in batches.

Events only say who came and who is gone; when somebody reads the columns, `settle` brings in all of them at once.
A task has a place in the columns for as long as it is there; a place that is free is used again, so places say
nothing. `request` is stored column by column, so that one resource of all tasks is contiguous.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from priority.berths import Berths
from priority.claim import DYING, RUNS, Claim
from priority.front import Front
from priority.largest import Largest
from priority.roll import NOBODY, Kind, Roll
from priority.tier import Tier

Plane = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Picks = npt.NDArray[np.intp]
Codes = npt.NDArray[np.int32]

HARD = np.iinfo(np.int64).max
"""The rank of a tier that is not preemptible, to those above it: no rank is higher."""

SAFE = 2**62
"""A product below this fits 64 bits."""

Level = tuple[int, int]
"""Tier rank and priority."""

LEVELS_MAX = 32
"""With more levels than this they are not summed up: the planes would be larger than they are worth."""

Gone = tuple[str, int, Kind]
"""Its job, the row of its node, and what it had in common with others."""

FEW = 8
"""So many events are brought into the columns one by one; of more all at once."""

MADE_MAX = 16_384
"""So many claims are at hand at a time; others are made anew when somebody asks for them (see `roll`)."""

_FIRST, _ROWS = 16, 8
"""There is room for so many tasks, and nodes, at first."""


class Stock:
    """`K` places. What is read: the columns, up to `size`."""

    def __init__(self, tiers: Mapping[str, Tier]) -> None:
        self._tiers = tiers
        self._roll = Roll()
        self._berths = Berths(_ROWS)
        self._made: dict[int, Claim] = {}
        """Claims that somebody has asked for, by place."""
        self.nodes: list[str] = []
        """Their names, by row."""
        self._free: list[int] = []
        self.size = 0
        """Places that were ever used."""
        self.claims: Sequence[Claim | None] = _Claims(self)
        """By place; None: nobody is there."""
        self.live: Flags = np.zeros(_FIRST, np.bool_)
        """Runs, on a node that is up: may be a victim."""
        self.row: Picks = np.zeros(_FIRST, np.intp)
        """Of its node in the planes."""
        self.rank: Plane = np.zeros(_FIRST, np.int64)
        self.soft: Plane = np.zeros(_FIRST, np.int64)
        """The rank of its tier, `HARD` if that is not preemptible."""
        self.priority: Plane = np.zeros(_FIRST, np.int64)
        self.since: Plane = np.zeros(_FIRST, np.int64)
        self.owner: Codes = np.zeros(_FIRST, np.int32)
        """Its (tier, role), as a code."""
        self.request: Plane = np.zeros((_FIRST, 4), np.int64, order="F")
        self.cpus: Plane = np.zeros(_FIRST, np.int64)
        """One column of `request`, see `_request`."""
        self._cpus: int | None = None
        self.owners: dict[tuple[str, str], int] = {}
        self._priorities: dict[tuple[str, str], dict[int, int]] = {}
        """Of each (tier, role): how many live tasks have each priority; as of the last `settle`, those that are gone
        since are counted still."""
        self.levels: dict[Level, Plane] | None = {}
        """Of each rank and priority: what live tasks of preemptible tiers hold, `[N, R]`; None: there are too many."""
        self.level: npt.NDArray[np.int16] = np.full(_FIRST, NOBODY, np.int16)
        """Whose level this is: a place in `known`; `NOBODY` of those that no level counts."""
        self.known: dict[Level, int] = {}
        self._level_of: list[Level] = []
        """By code: the inverse of `known`."""
        self.dying: Flags = np.zeros(_FIRST, np.bool_)
        self._came: dict[int, tuple[Claim, int, bool, int, int]] = {}
        """By place, what `settle` has not brought into the columns: the task, its row, whether it is live, the codes of
        its level and owner."""
        self._gone: list[int] = []
        """Places of which `settle` has not taken anything from the columns."""
        self._fronts: dict[int, Front] = {}
        """By level, of those that were asked for."""
        self._oldest_us, self._widest = HARD, 0
        self._largest = Largest()
        self._scratch: dict[str, Plane] = {}

    def put(self, claim: Claim, row: int, live: bool) -> int:
        """A task is on a node; how many have come since `settle`."""
        if self._free:
            place = self._free.pop()
        else:
            place = self.size
            if place == len(self.live):
                self._grow()
            self.size += 1
        self._roll.enter(claim, place)
        self._berths.enter(place, row)
        owner, code = (claim.tier, claim.role), NOBODY
        if live := live and claim.state in RUNS:
            priorities = self._priorities.setdefault(owner, {})
            priorities[claim.priority] = priorities.get(claim.priority, 0) + 1
            tier = self._tiers[claim.tier]
            if tier.preemptible:
                code = self._code(tier.rank, claim.priority)
        self._came[place] = claim, row, live, code, self.owners.setdefault(owner, len(self.owners))
        self._widest = max(self._widest, claim.request.get("cpus", 0))
        self._oldest_us = min(self._oldest_us, claim.since_us)
        return len(self._came)

    def leave(self, id: str) -> int:
        """A task is gone, or is on its way to another place in the columns; answers where it was, -1 if nowhere.

        If it is `fresh`, `settle` must follow; `drop` in any case.
        """
        return self._roll.leave(id)

    def fresh(self, place: int) -> bool:
        """Whether who is there has come since `settle`."""
        return place in self._came

    def drop(self, place: int) -> Gone:
        """See `leave`; answers who it was."""
        job, kind = self._roll.gone(place)
        row = self.row.item(place)
        self._berths.leave(place, row)
        self._made.pop(place, None)
        self._gone.append(place)
        return job, row, kind

    def settle(self, axis: Mapping[str, int], holds: Plane, leaves: Plane) -> bool:
        """Bring all that has come and gone into the columns and the levels, and into two planes `[N, R]`: what is held
        by all, and by the dying. False: nothing had.
        """
        if not (self._came or self._gone):
            return False
        if len(self._came) + len(self._gone) <= FEW:
            for place in self._came:
                self._bring_one(place, axis, holds, leaves)
            for place in self._gone:
                self._take_one(place, holds, leaves)
        else:
            if self._came:
                self._bring_all(axis, holds, leaves)
            if self._gone:
                self._take_all(holds, leaves)
        self._free += self._gone
        self._largest.gone(len(self._gone), self.size)
        self._came.clear()
        self._gone.clear()
        if self.levels is None:
            self._level_anew()
        return True

    def _level_anew(self) -> None:
        """Sum levels up again if there are half as many as may be by now; fewer would not last."""
        there: set[Level] = set()
        for (tier, _), priorities in self._priorities.items():
            if self._tiers[tier].preemptible:
                there.update((self._tiers[tier].rank, priority) for priority in priorities)
                if len(there) > LEVELS_MAX // 2:
                    return
        size = self.size
        self.known, self._level_of, self.levels = {}, [], {}
        self._fronts.clear()
        self.level[:size] = NOBODY
        for level in there:
            rank, priority = level
            some = self.live[:size] & (self.soft[:size] == rank) & (self.priority[:size] == priority)
            self.level[:size][some] = self._code(rank, priority)
            np.add.at(self.levels[level], self.row[:size][some], self.request[:size][some])

    def _bring_one(self, place: int, axis: Mapping[str, int], holds: Plane, leaves: Plane) -> None:
        claim, row, live, code, owner = self._came[place]
        tier = self._tiers[claim.tier]
        self.row[place], self.live[place], self.level[place], self.owner[place] = row, live, code, owner
        self.rank[place] = tier.rank
        self.soft[place] = tier.rank if tier.preemptible else HARD
        self.priority[place], self.since[place] = claim.priority, claim.since_us
        dying = self.dying[place] = claim.state in DYING
        level = self._level(code)
        self._come_to_front(place, code)
        for name, amount in claim.request.items():
            column = axis[name]
            self._largest.came(column, amount)
            self.request[place, column] = amount
            holds[row, column] += amount
            if dying:
                leaves[row, column] += amount
            if level is not None:
                level[row, column] += amount

    def _take_one(self, place: int, holds: Plane, leaves: Plane) -> None:
        row, code = self.row.item(place), self.level.item(place)
        level = self._level(code)
        if self.live[place]:
            self._no_more(self.owner_at(place), self.priority.item(place), 1)
        for column, amount in enumerate(self.request[place].tolist()):
            if amount:
                holds[row, column] -= amount
                if self.dying[place]:
                    leaves[row, column] -= amount
                if level is not None:
                    level[row, column] -= amount
                self.request[place, column] = 0
        self.live[place], self.level[place] = False, NOBODY

    def _bring_all(self, axis: Mapping[str, int], holds: Plane, leaves: Plane) -> None:
        came = self._came
        places = np.fromiter(came, np.intp, len(came))
        claims, rows, live, codes, owners = zip(*came.values(), strict=True)
        tiers = [self._tiers[claim.tier] for claim in claims]
        self.row[places], self.live[places], self.level[places], self.owner[places] = rows, live, codes, owners
        self.rank[places] = [tier.rank for tier in tiers]
        self.soft[places] = [tier.rank if tier.preemptible else HARD for tier in tiers]
        self.priority[places] = [claim.priority for claim in claims]
        self.since[places] = [claim.since_us for claim in claims]
        self.dying[places] = [claim.state in DYING for claim in claims]
        for name in {name for claim in claims for name in claim.request}:
            column, amounts = axis[name], [claim.request.get(name, 0) for claim in claims]
            self.request[places, column] = amounts
            self._largest.came(column, max(amounts))
        for place, code in zip(came, codes, strict=True) if self._fronts else ():
            self._come_to_front(place, code)
        self._sum_up(places, np.add, holds, leaves)

    def _take_all(self, holds: Plane, leaves: Plane) -> None:
        places = np.array(self._gone, np.intp)
        self._sum_up(places, np.subtract, holds, leaves)
        live, owners = places[self.live[places]], [*self.owners]
        for (owner, priority), count in Counter(
            zip(self.owner[live].tolist(), self.priority[live].tolist(), strict=True)
        ).items():
            self._no_more(owners[owner], priority, count)
        self.request[places] = 0
        self.live[places] = False
        self.level[places] = NOBODY

    def _no_more(self, owner: tuple[str, str], priority: int, count: int) -> None:
        """So many live tasks of that tier and role, and of that priority, are gone."""
        priorities = self._priorities[owner]
        priorities[priority] -= count
        if not priorities[priority]:
            del priorities[priority]

    def _sum_up(self, places: Picks, way: Any, holds: Plane, leaves: Plane) -> None:
        """Add what tasks hold to the planes, or subtract it."""
        rows, codes, dying = self.row[places], self.level[places], self.dying[places]
        planes: list[tuple[Plane, Flags | None]] = [(holds, None)]
        if dying.any():
            planes.append((leaves, dying))
        for code in np.unique(codes).tolist():
            level = self._level(code)
            if level is not None:
                planes.append((level, codes == code))
        for column in range(holds.shape[1]):
            amounts = self.request[:, column].take(places)
            for plane, some in planes if amounts.any() else ():
                if some is None:
                    way.at(plane[:, column], rows, amounts)
                else:
                    way.at(plane[:, column], rows[some], amounts[some])

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

    def largest(self, column: int) -> int:
        """Nobody asks for more of a resource; nor did anybody who has gone since it was looked up."""
        return self._largest.of(column, lambda: int(self.request[: self.size, column].max(initial=0)))

    def of_levels(self, levels: Collection[Level]) -> Flags:
        """`[K]`: those of these levels, whoever of them is a victim by now."""
        codes = self.level[: self.size]
        if len(levels) == 1:
            return np.asarray(codes == self.known[next(iter(levels))])
        table = np.zeros(len(self.known) + 1, np.bool_)  # the last: `NOBODY`
        table[[self.known[level] for level in levels]] = True
        return table.take(codes, mode="wrap")

    def front(self, level: Level, now_us: int, *, anew: bool = False) -> tuple[Picks, int]:
        """Those of a level with whom the least work is lost (some maybe twice), and how much at least with any other.

        Where it is `small`.
        """
        code = self.known[level]
        front = None if anew else self._fronts.get(code)
        if front is None:
            picks = np.flatnonzero(self.level[: self.size] == code)
            front = self._fronts[code] = Front(picks, self.works_of(picks, now_us), self.cpus.take(picks), now_us)
        return front.here(self.level, code), front.beyond(now_us)

    def _come_to_front(self, place: int, code: int) -> None:
        front = self._fronts.get(code)
        if front is not None and not front.add(place):
            del self._fronts[code]

    def scratch(self, name: str) -> Plane:
        """`[K]` of whatever was there: large arrays that every round needs are not made anew each time."""
        plane = self._scratch.get(name)
        if plane is None or len(plane) < self.size:
            plane = self._scratch[name] = np.empty(len(self.live), np.int64)
        return plane[: self.size]

    def claim(self, id: str) -> Claim | None:
        """A task that has a place."""
        place = self._roll.place(id)
        return None if place == NOBODY else self.at(place)

    def place(self, id: str) -> int:
        """A task's place in the columns; -1: it has none."""
        return self._roll.place(id)

    def on(self, row: int) -> list[int]:
        """The places of all that is on a node, in no fixed order."""
        return self._berths.on(row)

    def id(self, place: int) -> str:
        """Whoever is there."""
        return self._roll.id(place)

    def jobs(self) -> Iterator[tuple[str, str]]:
        """Of each task its id and its job's name."""
        return self._roll.jobs()

    def owner_at(self, place: int) -> tuple[str, str]:
        """The tier and role of whoever is there."""
        return self._roll.owner(place)

    def at(self, place: int, *, keep: bool = True) -> Claim | None:
        """Whoever is at a place; None: nobody. `keep`: it will probably be asked for again."""
        if (made := self._made.get(place)) is not None:
            return made
        if place in self._came:
            return self._came[place][0]
        if not self._roll.there(place):
            return None
        node = self.nodes[self.row.item(place)]
        made = self._roll.claim(place, node, self.priority.item(place), self.since.item(place))
        if keep:
            if len(self._made) >= MADE_MAX:
                self._made.clear()
            self._made[place] = made
        return made

    def _level(self, code: int) -> Plane | None:
        """The plane of a level by its code; None: it has none."""
        return None if code == NOBODY or self.levels is None else self.levels[self._level_of[code]]

    def _code(self, rank: int, priority: int) -> int:
        """Of a level; `NOBODY` if levels are not kept."""
        code = self.known.get((rank, priority))
        if code is None:
            if self.levels is None:
                return NOBODY
            code = len(self.known)
            if code == LEVELS_MAX:
                self.levels = None
                return NOBODY
            self.known[rank, priority] = code
            self._level_of.append((rank, priority))
            self.levels[rank, priority] = np.zeros((len(self._berths), self.request.shape[1]), np.int64, order="F")
        return code

    def widen(self, order: Sequence[int], width: int, cpus: int | None) -> None:
        """The resource that was in column `order[n]` is in column `n` from now on (-1: a new one)."""
        self._largest.forget()
        request = np.zeros((len(self.live), width), np.int64, order="F")
        for new, old in enumerate(order):
            if old >= 0:
                request[:, new] = self.request[:, old]
        self._cpus = cpus
        self._request(request)
        for key, former in (self.levels or {}).items():
            plane = np.zeros((len(self._berths), width), np.int64, order="F")
            for new, old in enumerate(order):
                if old >= 0:
                    plane[:, new] = former[:, old]
            self._levels()[key] = plane

    def move_rows(self, new: Picks, old: Picks, rows: int) -> None:
        """The node of row `n` has row `new[n]` from now on; `old` are those that remain, with room for `rows`."""
        self.row[: self.size] = new[self.row[: self.size]]
        self.nodes = [self.nodes[row] for row in old.tolist()]
        self._berths.move_rows(old.tolist(), rows)
        for key, former in (self.levels or {}).items():
            plane = np.zeros((rows, former.shape[1]), np.int64, order="F")
            plane[: len(old)] = former[old]
            self._levels()[key] = plane

    def more_rows(self, rows: int) -> None:
        """There is room for so many nodes from now on."""
        self._berths.more_rows(rows)
        for key, former in (self.levels or {}).items():
            plane = np.zeros((rows, former.shape[1]), np.int64, order="F")
            plane[: len(former)] = former
            self._levels()[key] = plane

    def _levels(self) -> dict[Level, Plane]:
        return {} if self.levels is None else self.levels

    def _grow(self) -> None:
        more = len(self.live)
        for name in ("live", "dying", "row", "rank", "soft", "priority", "since", "owner", "level"):
            old = getattr(self, name)
            new = np.zeros(2 * more, old.dtype)  # what is not used yet costs nothing until it is
            new[:more] = old
            setattr(self, name, new)
        request = np.zeros((2 * more, self.request.shape[1]), np.int64, order="F")
        request[:more] = self.request
        self._request(request)

    def _request(self, request: Plane) -> None:
        self.request = request
        self.cpus = np.zeros(len(request), np.int64) if self._cpus is None else request[:, self._cpus]


class _Claims(Sequence[Claim | None]):
    """What the stock has, by place."""

    def __init__(self, stock: Stock) -> None:
        self._stock = stock

    def __len__(self) -> int:
        return self._stock.size

    @overload
    def __getitem__(self, place: int) -> Claim | None: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Claim | None]: ...

    def __getitem__(self, place: int | slice) -> Claim | Sequence[Claim | None] | None:
        if isinstance(place, slice):
            return [self._stock.at(one) for one in range(*place.indices(len(self)))]
        return self._stock.at(place)

    def __iter__(self) -> Iterator[Claim | None]:
        return (self._stock.at(place, keep=False) for place in range(len(self)))
