"""The board of one round: how much room each node has as decisions are made, and what they were.

Two planes, `[N, R]` in held units, nodes by name:

    now     free at this moment: capacity less all that holds room, less what this round launches
    total   free once the dying and this round's victims are gone, less all that this round launches or reserves,
            less what is kept for pending tasks whose turn has not come

A launch needs both, a reservation only `total`. Only the resources that an arrival asks for are looked at, so
that a node that is over its capacity in one resource still takes a task that asks for others.
Everything here can be undone, because gangs are tried before they are placed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from priority.claim import Claim
from priority.cover import Cover, Effort
from priority.herd import Beast, Herd, Picks
from priority.mercy import Mercy
from priority.resources import Resources
from priority.rules import Mask, Rules
from priority.snapshot import Plane, Snapshot


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """A request as a vector `[R]`, and the columns that it asks for."""

    request: Plane
    asked: npt.NDArray[np.intp]
    amounts: Plane
    """`request[asked]`."""
    columns: tuple[int, ...]
    sizes: tuple[int, ...]
    """`asked` and `amounts` once more, as plain integers."""


FITS_MAX = 20_000_000
"""Of so many shapes, times nodes, it is remembered at a time where they fit."""

ROWS_MAX = 64
"""Where more nodes than this have changed, all are looked at anew."""


class Spot(NamedTuple):
    """Where this round puts a task: launched now, or reserved. (A tuple: thousands are made in a round.)"""

    claim: Claim
    node: int
    launch: bool


@dataclass(frozen=True, slots=True)
class Closed:
    """A node that a task keeps: others up to a rank stay away, but for those for whom room is kept there by `for`."""

    holder: str
    rank: int
    welcome: frozenset[str]
    """The holder too."""


class Board:
    """Mutable, and lives for one round."""

    def __init__(self, snapshot: Snapshot) -> None:
        planes = snapshot.settled()
        self.names = planes.names
        self.axis = snapshot.axis()
        self.rules = Rules(snapshot, planes)
        self.capacity, self.now, self.total = planes.room()
        self.spots: dict[str, Spot] = {}
        self.reserved: defaultdict[int, dict[str, Claim]] = defaultdict(dict)
        """By node: the tasks that this round reserves there, by id."""
        self.launched: defaultdict[int, dict[str, Claim]] = defaultdict(dict)
        """By node: the tasks that this round launches there, by id."""
        self.killed: dict[int, Claim] = {}
        """Victims by their place in the herd, and for whom."""
        self.killed_on: dict[int, set[int]] = {}
        self.gained: set[int] = set()
        """Nodes with more coming room than when the waiting tasks were last looked at."""
        self.closed: dict[int, Closed] = {}
        """Nodes that tasks keep which have waited for long."""
        self.staying: dict[str, list[int]] = {}
        """Tasks, while they are placed, that may go to these nodes only."""
        self.effort = Effort()
        """What searches for the least victims may still cost in this round."""
        self.covers: dict[Hashable, tuple[Cover | None, tuple[int, int] | None]] = {}
        """Least covers that are known, see `preempt`: the cover; or None, and the bound below which there is none."""
        self.log: list[int] = []
        """Nodes, each time that something has changed there."""
        self.changed: dict[int, int] = {}
        """Of each node that has changed: how long the log was then."""
        self.gains: list[int] = []
        """Nodes, each time that room has become free there, or a victim was spared."""
        self.prices: dict[Hashable, Any] = {}
        """See `prices`."""
        self.within: dict[Hashable, Any] = {}
        """Of some levels: who of the herd was there when the round began, and what they bring; see `prices`."""
        self._levels: dict[tuple[int, int], Plane] | None = None
        self._fits: dict[int, Fits] = {}
        self._relevels: list[tuple[int, int]] = []
        """Victims that came (-1) and went (1) since the levels were last asked for."""
        self._places: dict[int, Picks] = {}
        self._there: dict[int, list[Beast]] = {}
        self._snapshot = snapshot
        self._column = {name: column for column, name in enumerate(self.axis)}
        self._asks: dict[int, list[int]] = {}
        """By node: of each resource how many ask for it of all that arrives or that room is kept for."""
        self._kept: dict[str, tuple[Claim, list[int]]] = {}
        self._shape_of: dict[int, Shape] = {}
        self._herd: Herd | None = None
        self.mercy: Mercy | None = None
        """Whom policy spares; None: nobody (or no task needs a victim yet)."""
        self.scale: npt.NDArray[np.float64] = planes.shared("scale", self._scale)

    def _scale(self) -> npt.NDArray[np.float64]:
        size = np.array([self._snapshot.size().get(name, 0) for name in self.axis], np.float64)
        return np.divide(1.0, size, out=np.zeros(len(size)), where=size > 0)

    @property
    def herd(self) -> Herd:
        """All that may be a victim; made when the first task needs one."""
        if self._herd is None:
            snapshot = self._snapshot
            stock = snapshot.settled().stock
            self._herd = Herd(stock, len(self.axis), snapshot.tiers, snapshot.now_us)
            if snapshot.terms.spares:
                self.mercy = Mercy(snapshot, self._herd)
                if stock.levels is not None:
                    self._levels = self.mercy.levels(len(self.names), len(self.axis))
        return self._herd

    @property
    def levels(self) -> dict[tuple[int, int], Plane] | None:
        """See `Stock.levels`: of those that are no victims."""
        stock, herd = self._snapshot.settled().stock, self.herd
        if stock.levels is None or not (self._relevels or self._levels):
            return stock.levels
        if self._levels is None:  # the first time that a victim counts
            rows, width = len(self.names), len(self.axis)
            self._levels = {level: plane[:rows, :width].copy(order="F") for level, plane in stock.levels.items()}
        for victim, sign in self._relevels:
            level = self._levels[int(herd.rank[victim]), int(herd.priority[victim])]
            level[herd.node[victim]] += sign * herd.request[victim]
        self._relevels.clear()
        return self._levels

    def beasts_on(self, node: int) -> list[Beast]:
        """Of the herd all that is on a node, victims too."""
        there = self._there.get(node)
        if there is None:
            there = self._there[node] = [self.herd.beast(place) for place in self.places_on(node).tolist()]
        return there

    def places_on(self, node: int) -> Picks:
        """The same as places in the herd, by id."""
        there = self._places.get(node)
        if there is None:
            stock = self._snapshot.settled().stock
            there = self._places[node] = np.array(sorted(stock.on(node), key=stock.id), np.intp)
        return there

    # --- questions ---

    def vector(self, request: Resources) -> Plane:
        """A request as `[R]`."""
        vector = np.zeros(len(self.axis), np.int64)
        for name, amount in request.items():
            vector[self._column[name]] = amount
        return vector

    def shape(self, claim: Claim) -> Shape:
        """The same object for equal requests."""
        known = self._shape_of.get(id(claim.request))  # requests live as long as the snapshot does not change
        if known is not None:
            return known
        key = tuple(sorted(claim.request.items())) if len(claim.request) > 1 else tuple(claim.request.items())
        shape: Shape = self._snapshot.settled().shared(("shape", key), lambda: self._shape(claim.request))
        self._shape_of[id(claim.request)] = shape
        return shape

    def _shape(self, request: Resources) -> Shape:
        vector = self.vector(request)
        asked = np.flatnonzero(vector)
        amounts = vector[asked]
        return Shape(vector, asked, amounts, tuple(asked.tolist()), tuple(amounts.tolist()))

    def allowed(self, claim: Claim) -> Mask:
        """Nodes that are up, meet the constraints and are within the limits; says nothing of room and ceilings."""
        mask = self.rules.may_take(claim)
        within = self.rules.open(claim)
        if within is not None:
            mask = mask & within
        if self.closed and (shut := self.shut(claim)):
            mask = mask.copy()
            mask[shut] = False
        if claim.id in self.staying:
            here = np.zeros_like(mask)
            here[self.staying[claim.id]] = True
            mask = mask & here
        return mask

    def shut(self, claim: Claim) -> list[int]:
        """Nodes that others keep from a task."""
        rank = self._snapshot.tiers[claim.tier].rank
        return [row for row, one in self.closed.items() if rank <= one.rank and claim.id not in one.welcome]

    def reopen(self, claim: Claim) -> None:
        """A task that kept a node has room."""
        for row in [row for row, one in self.closed.items() if one.holder == claim.id]:
            del self.closed[row]
            self.gained.add(row)
            self.gains.append(row)

    def arrivals(self, node: int) -> list[Claim]:
        """What this round launches and reserves on a node, by id."""
        there = self.launched.get(node, {}) | self.reserved.get(node, {})
        return [there[id] for id in sorted(there)]

    @staticmethod
    def fits(shape: Shape, plane: Plane) -> Mask:
        """Nodes with room for it in that plane."""
        mask: Mask | None = None
        for column, amount in zip(shape.columns, shape.sizes, strict=True):
            fit = plane[:, column] >= amount
            mask = fit if mask is None else np.logical_and(mask, fit, out=mask)
        return np.ones(len(plane), np.bool_) if mask is None else mask

    def room(self, claim: Claim, *, now: bool) -> Mask | None:
        """Nodes where a task may go and has room, now or with what is coming; None: there are none."""
        mask = self.fitting(claim, now=now)
        if mask is None:
            return None
        mask = mask & self.allowed(claim)
        return mask if mask.any() else None

    def fitting(self, claim: Claim, *, now: bool) -> Mask | None:
        """Nodes with room for it, whether it may go there or not, to be read only; None: there are none."""
        return self._fitting(claim).mask(now=now)

    def free(self, claim: Claim) -> Mask | None:
        """The same of what is free now, whatever is reserved."""
        return self._fitting(claim).free()

    def smallest_first(self) -> Picks:
        """Nodes by all that they have, each resource as a part of the cluster's; then by name."""
        return np.argsort((self.capacity * self.scale).sum(axis=1), kind="stable")

    def most_free(self) -> list[int]:
        """Of each resource the most that any node has free now."""
        return [int(most) for most in self.now.max(axis=0, initial=0)]

    def _fitting(self, claim: Claim) -> Fits:
        shape = self.shape(claim)
        known = self._fits.get(id(shape))
        if known is None:
            while len(self._fits) * len(self.names) >= FITS_MAX:
                del self._fits[next(iter(self._fits))]
            known = self._fits[id(shape)] = Fits(self, shape)
        return known

    def best(self, mask: Mask, shape: Shape, plane: Plane) -> int:
        """Of the nodes in the mask (at least one) the one that it fills best, the first by name of equals."""
        rows = np.flatnonzero(mask)
        if len(rows) == 1:
            return int(rows[0])
        left = ((plane[rows] - shape.request) * self.scale).sum(axis=1)
        return int(rows[np.argmin(left)])

    def _note(self, node: int) -> None:
        self.log.append(node)
        self.changed[node] = len(self.log)

    def _ask(self, node: int, shape: Shape, change: int) -> None:
        asks = self._asks.get(node)
        if asks is None:
            asks = self._asks[node] = [0] * len(self.axis)
        for column in shape.columns:
            asks[column] += change

    # --- placing ---

    def put(self, claim: Claim, node: int, launch: bool) -> None:
        """Give a task its place."""
        shape = self.shape(claim)
        self.spots[claim.id] = Spot(claim, node, launch)
        self._note(node)
        self.total[node] -= shape.request
        self._ask(node, shape, 1)
        if launch:
            self.now[node] -= shape.request
            self.launched[node][claim.id] = claim
        else:
            self.reserved[node][claim.id] = claim
        self.rules.give(claim, node)

    def put_all(self, groups: Sequence[tuple[Sequence[Claim], Sequence[int], Sequence[int]]], *, launch: bool) -> None:
        """Give groups of tasks, each of one shape, their places: on each of some nodes so many."""
        on, spots, give = self.launched if launch else self.reserved, self.spots, self.rules.give
        counts_too = self.rules.counts
        all_rows: list[int] = []
        all_counts: list[int] = []
        shapes: list[Shape] = []
        for claims, rows, counts in groups:
            at = 0
            for node, count in zip(rows, counts, strict=True):
                there = on[node]
                for claim in claims[at : at + count]:
                    spots[claim.id] = Spot(claim, node, launch)
                    there[claim.id] = claim
                    if counts_too:
                        give(claim, node)
                at += count
            all_rows += rows
            all_counts += counts
            shapes += [self.shape(claims[0])] * len(rows)
        picks, many = np.array(all_rows, np.intp), np.array(all_counts, np.int64)
        requests = np.array([shape.request for shape in shapes]).reshape(-1, len(self.axis))
        for column in range(len(self.axis)):
            amounts = requests[:, column] * many
            np.subtract.at(self.total[:, column], picks, amounts)
            if launch:
                np.subtract.at(self.now[:, column], picks, amounts)
        for row, count, shape in zip(all_rows, all_counts, shapes, strict=True):
            self._ask(row, shape, count)
            self._note(row)

    def keeps(self) -> bool:
        """Whether room, or a whole node, is held for some task until its turn."""
        return bool(self._kept) or bool(self.closed)

    def lift(self, claim: Claim) -> Spot:
        """The inverse of `put`; answers where it was."""
        spot = self.spots.pop(claim.id)
        shape = self.shape(claim)
        self._note(spot.node)
        self.gains.append(spot.node)
        self.total[spot.node] += shape.request
        self._ask(spot.node, shape, -1)
        if spot.launch:
            self.now[spot.node] += shape.request
            del self.launched[spot.node][claim.id]
        else:
            del self.reserved[spot.node][claim.id]
        self.rules.take_back(claim, spot.node)
        return spot

    # --- keeping room by `for` ---

    def keep(self, claim: Claim, node: int) -> None:
        """Hold room on a node for a pending task until its turn, if it fits there.

        Limits and ceilings count it too, so that none ahead of it uses up what it needs there; not of a gang, which
        may wait for long for its other members.
        """
        shape = self.shape(claim)
        if not self.fits(shape, self.total[node : node + 1])[0]:
            return
        held = self._kept.setdefault(claim.id, (claim, []))[1]
        if not held and claim.gang is None:  # it will be on one of them only
            self.rules.give(claim, node)
        held.append(node)
        self._note(node)
        self.total[node] -= shape.request
        self._ask(node, shape, 1)

    def kept(self, claims: Iterable[Claim]) -> list[tuple[str, int]]:
        """Which of these tasks have room held for them, and where."""
        return [(claim.id, node) for claim in claims if claim.id in self._kept for node in self._kept[claim.id][1]]

    def unkeep(self, claims: Iterable[Claim]) -> dict[str, list[int]]:
        """Let go of what is held for these tasks; answers where that was, by task."""
        where: dict[str, list[int]] = {}
        for claim in claims:
            if claim.id in self._kept:
                nodes = where[claim.id] = self._kept.pop(claim.id)[1]
                if claim.gang is None:
                    self.rules.take_back(claim, nodes[0])
                shape = self.shape(claim)
                for node in nodes:
                    self._note(node)
                # what its job's limits let go of may be anywhere
                self.gains += nodes if self.rules.job(claim) is None else range(len(self.names))
                for node in nodes:
                    self.total[node] += shape.request
                    self._ask(node, shape, -1)
        return where

    # --- victims ---

    def kill(self, victim: int, preemptor: Claim) -> None:
        """Make a victim of a running task."""
        herd = self.herd
        node = int(herd.node[victim])
        was_prey = bool(herd.alive[victim])
        herd.alive[victim] = False
        self.killed[victim] = preemptor
        self.killed_on.setdefault(node, set()).add(victim)
        self.total[node] += herd.request[victim]
        self._relevel(victim, node, -1 if was_prey else 0)
        if self.mercy is not None:
            self._share(victim, 1)

    def _relevel(self, victim: int, node: int, sign: int) -> None:
        self._note(node)
        self.gains.append(node)
        if sign and self.herd.soft(victim):
            self._relevels.append((victim, sign))

    def spare(self, victim: int) -> None:
        """The inverse of `kill`."""
        herd = self.herd
        node = int(herd.node[victim])
        del self.killed[victim]
        self.killed_on[node].discard(victim)
        self.total[node] -= herd.request[victim]
        if self.mercy is not None:
            self._share(victim, -1)
        herd.alive[victim] = self.mercy is None or self.mercy.may(victim)
        self._relevel(victim, node, int(herd.alive[victim]))

    def may_hand(self, victim: int, heir: Claim) -> bool:
        """Whether a victim may be another's from now on, by what that one may still destroy."""
        mercy, former = self.mercy, self.killed[victim]
        owner = heir.role, heir.tier
        if mercy is None or owner == (former.role, former.tier):
            return True
        return mercy.work(victim) <= mercy.left_to_destroy(owner, self.killed)

    def _share(self, victim: int, sign: int) -> None:
        """Others are prey no longer, or again, by the budgets that they share with a victim."""
        herd, mercy = self.herd, self.mercy
        assert mercy is not None
        for other in mercy.count(victim, sign):
            may = mercy.may(other)
            if other == victim or other in self.killed or may == bool(herd.alive[other]):
                continue
            herd.alive[other] = may
            self._relevel(other, int(herd.node[other]), 1 if may else -1)
        if sign < 0 and mercy.policy.shares:
            nodes = mercy.touched(victim)
            self.gained.update(nodes)
            self.gains += nodes

    def hangs(self, node: int, claim: Claim, victims: Sequence[int]) -> bool:
        """Whether, without a task and these victims of its own, something else that arrives there no longer fits."""
        shape, request = self.shape(claim), self.herd.request
        own = dict(zip(shape.columns, shape.sizes, strict=True))
        for column, asks in enumerate(self._asks[node]):
            if asks > (column in own):
                freed = sum(request.item(victim, column) for victim in victims)
                if self.total.item(node, column) + own.get(column, 0) < freed:
                    return True
        return False

    def spareable(self, node: int) -> bool:
        """Whether some victim there could be given back and all that arrives would still fit; what is kept aside."""
        victims = self.killed_on.get(node)
        if not victims:
            return False
        room = self.total[node].tolist()
        for claim, nodes in self._kept.values():
            if node in nodes:
                room = [amount + more for amount, more in zip(room, self.shape(claim).request.tolist(), strict=True)]
        arrivals = *self.launched.get(node, {}).values(), *self.reserved.get(node, {}).values()
        asked = {column for claim in arrivals for column in self.shape(claim).columns}
        request = self.herd.request
        return any(all(request.item(victim, column) <= room[column] for column in asked) for victim in victims)

    def needless(self, node: int, takers: Collection[str] | None = None) -> list[int]:
        """Give back every victim on the node that nothing there needs, the most important first; answers which.

        With `takers`, only victims that are killed for one of these tasks.
        """
        victims = self.killed_on.get(node)
        if victims and takers is not None:
            victims = {victim for victim in victims if self.killed[victim].id in takers}
        if not victims:
            return []
        asked = [column for column, asks in enumerate(self._asks[node]) if asks]
        request, total = self.herd.request, self.total

        def free(victim: int) -> bool:
            return all(request.item(victim, column) <= total.item(node, column) for column in asked)

        spared = []
        for victim in sorted(filter(free, victims), key=self.herd.key, reverse=True):
            if free(victim):
                self.spare(victim)
                spared.append(victim)
        return spared


class Fits:
    """Where one shape has room on the board, kept up as that changes."""

    def __init__(self, board: Board, shape: Shape) -> None:
        self._board, self._shape = board, shape
        self._look()

    def _look(self) -> None:
        board = self._board
        self._seen = len(board.log)
        self._total = board.fits(self._shape, board.total)
        self._any = int(np.count_nonzero(self._total))
        self._now: Mask | None = None
        """In room that is free now; None: not asked for yet."""
        self._any_now = 0

    def mask(self, *, now: bool) -> Mask | None:
        """`[N]`, to be read only; None: nowhere."""
        log = self._board.log
        if self._seen != len(log):
            rows = set(log[self._seen :])
            if len(rows) > ROWS_MAX:
                self._look()
            else:
                self._seen = len(log)
                self._look_at(list(rows))
        if not self._any:
            return None
        if not now:
            return self._total
        free = self._free()
        return None if free is None else free & self._total

    def free(self) -> Mask | None:
        """The same of what is free now, whatever is reserved."""
        self.mask(now=False)
        return self._free()

    def _free(self) -> Mask | None:
        if self._now is None:
            self._now = self._board.fits(self._shape, self._board.now)
            self._any_now = int(np.count_nonzero(self._now))
        return self._now if self._any_now else None

    def _look_at(self, rows: list[int]) -> None:
        if len(rows) < 3:
            for row in rows:
                self._look_at_one(row)
            return
        board = self._board
        total = now = np.ones(len(rows), np.bool_)
        for column, size in zip(self._shape.columns, self._shape.sizes, strict=True):
            total = total & (board.total[rows, column] >= size)
            now = now & (board.now[rows, column] >= size)
        self._any += int(total.sum()) - int(self._total[rows].sum())
        self._total[rows] = total
        if self._now is not None:
            self._any_now += int(now.sum()) - int(self._now[rows].sum())
            self._now[rows] = now

    def _look_at_one(self, row: int) -> None:
        board, total, now = self._board, True, True
        for column, size in zip(self._shape.columns, self._shape.sizes, strict=True):
            total = total and board.total.item(row, column) >= size
            now = now and board.now.item(row, column) >= size
        self._any += total - self._total.item(row)
        self._total[row] = total
        if self._now is not None:
            self._any_now += now - self._now.item(row)
            self._now[row] = now


Extra = Callable[[Iterable[Claim]], Plane]
"""More room `[N, R]` that some tasks could have where they are together, such as that of their lawful victims."""
