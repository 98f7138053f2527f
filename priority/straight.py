"""A few simple tasks that all have room without victims, or a single one that has none: without a board.

What most rounds come to, and a tenth of what a whole round costs. The plan is the one that `round` would make: where
everybody has a place and there are no victims, or only those of one task, there is nothing to mend and no order to
defend. None where it is not that simple: gangs, constraints, limits, a ceiling, nodes that are kept, room that is kept
by `for` and not used there, or somebody without room (a single task: without victims that make room, see `sole`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from priority import sole
from priority.claim import Claim
from priority.fairness import Shares, Turns, units
from priority.planes import Planes
from priority.snapshot import Snapshot
from priority.stock import Flags, Plane

MOST = 16
"""Of more tasks a round is made."""

Spots = dict[str, tuple[str, bool]]
"""By task: its node, and whether it is launched there."""


@dataclass(frozen=True, slots=True)
class Straight:
    """What a round comes to."""

    spots: Spots
    victims: tuple[Claim, ...] = ()
    """Of the only task."""


def straight(snapshot: Snapshot) -> Straight | None:
    """A place for all that waits, or None."""
    if not 0 < snapshot.waiting() <= MOST or snapshot.gangs() or snapshot.terms.holds_after_s:
        return None
    claims = {claim.id: claim for claim in snapshot.pending()}
    if not all(_simple(snapshot, claim) for claim in claims.values()):
        return None
    planes = snapshot.settled()
    rows = planes.rows()
    wanted: dict[str, list[int]] = {}
    for dying in snapshot.dying():
        if dying.kept_for in claims and dying.node is not None:
            wanted.setdefault(dying.kept_for, []).append(rows[dying.node])
    room = _Room(snapshot, planes)
    if not wanted:
        if len(claims) == 1:
            return _single(snapshot, room, next(iter(claims.values())))
        if not all(room.anywhere(claim) for claim in claims.values()):
            return None
    spots = _in_turn(snapshot, room, claims, wanted)
    return None if spots is None else Straight(spots)


def _single(snapshot: Snapshot, room: _Room, claim: Claim) -> Straight | None:
    spot = room.place(claim, set())
    if spot is not None:
        return Straight({claim.id: (room.names[spot[0]], spot[1])})
    found = sole.find(snapshot, claim, room.asks(claim))
    return None if found is None else Straight({claim.id: (room.names[found[0]], False)}, found[1])


def _simple(snapshot: Snapshot, claim: Claim) -> bool:
    if claim.constraints or not claim.request:
        return False
    role = snapshot.role(claim.role)
    if not (role.quota or role.users) or not snapshot.tiers[claim.tier].preemptible:
        return True
    return claim.tier not in role.quota and claim.tier not in role.users.get(claim.user, {})


def _in_turn(snapshot: Snapshot, room: _Room, claims: dict[str, Claim], wanted: dict[str, list[int]]) -> Spots | None:
    shares = Shares(snapshot)
    for id, rows in wanted.items():
        for row in set(rows):
            if not room.keep(claims[id], row):
                return None
    turn: Iterable[Claim] = claims.values()
    if len(claims) > 1:
        ranks = {name: tier.rank for name, tier in snapshot.tiers.items()}
        turn = (unit.members[0] for unit in Turns(units(claims.values()), shares, ranks))
    found: Spots = {}
    for claim in turn:
        mine = set(wanted.get(claim.id, ()))
        for row in mine:
            room.let_go(claim, row)
        spot = room.place(claim, mine)
        if spot is None or (mine and not spot[1] and spot[0] not in mine):
            return None
        found[claim.id] = room.names[spot[0]], spot[1]
        shares.give([claim])
    return found


class _Room:
    """What is free `now`, and in `total` once the dying are gone, less what has been taken and what is kept."""

    def __init__(self, snapshot: Snapshot, planes: Planes) -> None:
        self.names = planes.names
        self._planes, self._up = planes, planes.up()
        self._column = {name: column for column, name in enumerate(snapshot.axis())}
        self._now: dict[int, Plane] = {}
        self._total: dict[int, Plane] = {}
        self._dying = any(True for _ in snapshot.dying())
        self._size = snapshot.size()

    def anywhere(self, claim: Claim) -> bool:
        """Whether, as things are, it could be somewhere."""
        return bool(self._fits(claim, self._all).any())

    def asks(self, claim: Claim) -> list[sole.Ask]:
        """Its request, and what is free and coming of that, by column."""
        asks = [(name, self._column[name], amount) for name, amount in claim.request.items() if amount]
        return [sole.Ask(*one, self._all(one[1])) for one in sorted(asks, key=lambda one: one[1])]

    def keep(self, claim: Claim, row: int) -> bool:
        """Hold room for a task until its turn, if it fits there and may be there."""
        columns = [(self._all(self._column[name]), amount) for name, amount in claim.request.items()]
        if not self._up[row] or any(plane[row] < amount for plane, amount in columns):
            return False
        for plane, amount in columns:
            plane[row] -= amount
        return True

    def let_go(self, claim: Claim, row: int) -> None:
        """Its turn has come."""
        for name, amount in claim.request.items():
            self._all(self._column[name])[row] += amount

    def place(self, claim: Claim, mine: set[int]) -> tuple[int, bool] | None:
        """Launch it, or else reserve: on the first node of its own, or where it fits best; which, and whether now."""
        coming = self._fits(claim, self._all)
        if not coming.any():
            return None
        free = coming & self._fits(claim, self._free) if self._dying else coming
        now = bool(free.any())
        row = self._best(claim, free, self._free, mine) if now else self._best(claim, coming, self._all, mine)
        for name, amount in claim.request.items():
            column = self._column[name]
            self._all(column)[row] -= amount
            if now and self._dying:
                self._free(column)[row] -= amount
        return row, now

    def _fits(self, claim: Claim, of: _Of) -> Flags:
        mask = self._up
        for name, amount in claim.request.items():
            mask = mask & (of(self._column[name]) >= amount)
        return mask

    def _best(self, claim: Claim, mask: Flags, of: _Of, mine: set[int]) -> int:
        """One of its own, the first; else the one that it fills best, the first by name of equals."""
        own = [row for row in mine if mask[row]]
        if own:
            return min(own)
        rows = np.flatnonzero(mask)
        if len(rows) == 1:
            return int(rows[0])
        plane = np.empty((len(rows), len(self._column)), np.int64, order="F")
        for name, column in self._column.items():
            np.subtract(of(column).take(rows), claim.request.get(name, 0), out=plane[:, column])
        size = self._size
        scale = np.array([1.0 / size[name] if size.get(name) else 0.0 for name in self._column])
        left: npt.NDArray[np.float64] = (plane * scale).sum(axis=1)
        return int(rows[np.argmin(left)])

    def _free(self, column: int) -> Plane:
        free = self._now.get(column)
        if free is None:
            free = self._now[column] = self._planes.free(column)
        return free

    def _all(self, column: int) -> Plane:
        if not self._dying:
            return self._free(column)
        total = self._total.get(column)
        if total is None:
            total = self._total[column] = self._planes.free(column) + self._planes.leaving(column)
        return total


_Of = Callable[[int], Plane]
"""A resource's room, by its column."""
