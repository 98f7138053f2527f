"""Very many tasks of one tier for which victims must go, decided at once: nobody waits, so nobody's turn matters.

Tasks that are alike are one kind; the largest kind first, and of each kind the first in the pending order first:

    1. in room that is free now
    2. in room that is coming, also what is left of victims that were taken before
    3. one victim after the other, the least important first (see `Line`), and on its node as many of the kind as fit

Small tasks thus fill what the victims of large ones leave. All of that is worked out beside the board. Where
no single victim of the lowest level is enough any more, it is put on the board, and the others look for victims one by
one (see `preempt`). In the end all is settled (see `settling`).

Nothing is done where it is not that simple: room that is kept, a ceiling that would be reached, policy that spares
some, or somebody would have to wait who need not. Then the round is decided unit by unit; so are, after the others,
gangs and tasks that limits hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from priority import place, preempt
from priority.board import Board, Shape
from priority.claim import Claim
from priority.fairness import Unit
from priority.line import Line
from priority.rules import Mask
from priority.settling import settle
from priority.stock import Picks, Plane

LEVEL = 64
"""With fewer tasks of a tier than this, each has its turn."""


def sorted_out(board: Board, units: Sequence[Unit]) -> tuple[list[Unit], list[Unit]]:
    """Those that are simple, and those of their own that would wait even if all that they may take were gone.

    Gangs, and tasks that limits hold, are neither.
    """
    simple: list[Unit] = []
    hopeless: list[Unit] = []
    known: dict[object, bool] = {}
    reach: Plane | None = None
    for unit in units:
        claim = unit.members[0]
        if claim.gang is not None or board.rules.job(claim) is not None:
            continue
        shape = board.shape(claim)
        kind = id(shape), claim.constraints, board.herd.own(claim)
        if kind not in known:
            reach = _reach(board, claim) if reach is None else reach
            known[kind] = kind[2] is not None or bool((board.fits(shape, reach) & board.rules.may_take(claim)).any())
        (simple if known[kind] else hopeless).append(unit)
    return simple, hopeless


def _reach(board: Board, claim: Claim) -> Plane:
    """The room with all gone that its tier may take."""
    herd, room = board.herd, board.total.copy(order="F")
    prey = np.flatnonzero(herd.alive & (herd.soft_ranks < herd.tier_rank(claim)))
    for column in range(room.shape[1]):
        sums = np.bincount(herd.node[prey], herd.request[prey, column], len(room))
        room[:, column] += np.ceil(sums).astype(np.int64)
    return room


def level(board: Board, units: Sequence[Unit]) -> bool:
    """Give all of these, which nobody of a higher tier waits behind, a place; or do nothing."""
    claims = [unit.members[0] for unit in units]
    herd = board.herd
    if board.keeps() or board.mercy is not None or board.rules.over(claims) is not None:
        return False
    if (
        board.levels is None
        or not herd.small()
        or not len(board.names)
        or not all(any(c.request.values()) for c in claims)
    ):
        return False
    siege = _Siege(board, claims)
    left = siege.plan()
    siege.carry_out()
    mine = siege.placed
    for claim in left:
        unit = Unit((claim,))
        if not place.launch(board, unit, {}, None) and not place.reserve(board, unit, {}, None):
            choice = preempt.cheapest(board, unit)
            if choice is None:
                _undo(board, mine)
                return False
            preempt.commit(board, choice)
        mine.append(claim)
    settle(board)
    return True


def _undo(board: Board, claims: Sequence[Claim]) -> None:
    ids = {claim.id for claim in claims}
    for victim in [victim for victim, claim in board.killed.items() if claim.id in ids]:
        board.spare(victim)
    for claim in claims:
        board.lift(claim)


class _Siege:
    def __init__(self, board: Board, claims: Sequence[Claim]) -> None:
        self._board = board
        self.placed: list[Claim] = []
        self._launches: list[tuple[list[Claim], list[int], list[int]]] = []
        """Claims of one shape, the rows of nodes, and how many of them go there."""
        self._reserves: list[tuple[list[Claim], list[int], list[int]]] = []
        """The same of what is reserved."""
        self._victims: list[tuple[int, Claim]] = []
        self._kinds = self._sorted(claims)
        shapes = [board.shape(kind[0]) for kind in self._kinds]
        least = np.min([shape.request for shape in shapes], axis=0)
        some = board.fits(_shape(least), board.total)
        self._free = np.minimum(board.now, board.total)
        self._most = self._free.max(axis=0, initial=0).tolist()
        rows = np.flatnonzero(some)
        self._slot = {row: slot for slot, row in enumerate(rows.tolist())}
        """Of each node that may have room: its place in the next two."""
        self._used = len(rows)
        size = len(rows) + min(len(claims), len(board.names)) + 1
        self._rows: Picks = np.zeros(size, np.intp)
        self._rows[: len(rows)] = rows
        self._room: Plane = np.zeros((size, len(least)), np.int64)
        """What is coming there, less what is given."""
        self._room[: len(rows)] = board.total[rows]
        rank = board.herd.tier_rank(claims[0])
        self._line = Line(board, rank, len(claims))

    def _sorted(self, claims: Sequence[Claim]) -> list[list[Claim]]:
        board = self._board
        size = {id(shape): float((shape.request * board.scale).max()) for shape in map(board.shape, claims)}

        def kind(claim: Claim) -> tuple[object, ...]:
            shape = board.shape(claim)
            return -size[id(shape)], shape.columns, shape.sizes, repr(claim.constraints) if claim.constraints else ""

        ordered = sorted(claims, key=lambda one: (kind(one), -one.priority, one.since_us, one.id))
        return [list(some) for _, some in groupby(ordered, key=kind)]

    def plan(self) -> list[Claim]:
        """A place for one kind after the other; answers those for whom there is none so simple."""
        for index, kind in enumerate(self._kinds):
            shape, rules = self._board.shape(kind[0]), self._board.rules
            open_ = None if rules.up.all() and not kind[0].constraints else rules.may_take(kind[0])
            left = self._launch(kind, shape, open_)
            left = self._fill(left, shape, open_)
            left = self._take(left, shape, open_)
            if left:
                return [*left, *(claim for some in self._kinds[index + 1 :] for claim in some)]
        return []

    def carry_out(self) -> None:
        """Put it on the board."""
        for groups, launch in ((self._launches, True), (self._reserves, False)):
            self._board.put_all(groups, launch=launch)
            self.placed += [claim for claims, _, _ in groups for claim in claims]
        for victim, claim in self._victims:
            self._board.kill(victim, claim)

    def _launch(self, claims: list[Claim], shape: Shape, open_: Mask | None) -> list[Claim]:
        if any(self._most[column] < size for column, size in zip(shape.columns, shape.sizes, strict=True)):
            return claims
        mask = self._board.fits(shape, self._free)
        rows = np.flatnonzero(mask if open_ is None else mask & open_)
        if not len(rows):
            return claims
        chosen, counts = self._best(self._free[rows], rows, shape, len(claims))
        done = int(counts.sum())
        self._launches.append((claims[:done], chosen.tolist(), counts.tolist()))
        for row, count in zip(chosen.tolist(), counts.tolist(), strict=True):
            self._free[row] -= count * shape.request
            self._give(row, count, shape)
        return claims[done:]

    def _fill(self, claims: list[Claim], shape: Shape, open_: Mask | None) -> list[Claim]:
        if not claims:
            return claims
        used, rows = self._room[: self._used], self._rows[: self._used]
        mask = self._board.fits(shape, used)
        slots = np.flatnonzero(mask if open_ is None else mask & open_[rows])
        if not len(slots):
            return claims
        chosen, counts = self._best(used[slots], rows[slots], shape, len(claims))
        done = int(counts.sum())
        self._reserves.append((claims[:done], chosen.tolist(), counts.tolist()))
        for row, count in zip(chosen.tolist(), counts.tolist(), strict=True):
            self._give(row, count, shape)
        return claims[done:]

    def _best(self, room: Plane, rows: Picks, shape: Shape, most: int) -> tuple[Picks, Plane]:
        """Nodes with room, those first that one of them fills best, and how many each takes of `most`."""
        counts = (room[:, shape.asked] // shape.amounts).min(axis=1)
        left = ((room - shape.request) * self._board.scale).sum(axis=1)
        order = np.lexsort((rows, left))
        reach = np.minimum(np.cumsum(counts[order]), most)
        counts = np.diff(reach, prepend=0)
        some = counts > 0
        return rows[order][some], counts[some]

    def _take(self, claims: list[Claim], shape: Shape, open_: Mask | None) -> list[Claim]:
        line, columns = self._line, tuple(zip(shape.columns, shape.sizes, strict=True))
        done, rows, counts = 0, list[int](), list[int]()
        while done < len(claims):
            at = line.first(columns, open_)
            if at is None:
                break
            row = line.rows[at]
            self._victims.append((line.places[at], claims[done]))
            room = self._room[self._touch(row)]
            room += line.take(at)
            there = room.tolist()
            count = min(*(there[column] // size for column, size in columns), len(claims) - done)
            self._give(row, count, shape)
            rows.append(row)
            counts.append(count)
            done += count
        if rows:
            self._reserves.append((claims[:done], rows, counts))
        return claims[done:]

    def _give(self, row: int, count: int, shape: Shape) -> None:
        room = self._room[self._touch(row)]
        room -= shape.request if count == 1 else count * shape.request
        self._free[row] = np.minimum(self._free[row], room)
        self._line.look(row, room)

    def _touch(self, row: int) -> int:
        slot = self._slot.get(row)
        if slot is None:
            slot = self._slot[row] = self._used
            self._used += 1
            self._rows[slot] = row
            self._room[slot] = self._board.total[row]
        return slot


def _shape(request: Plane) -> Shape:
    asked = np.flatnonzero(request)
    amounts = request[asked]
    return Shape(request, asked, amounts, tuple(asked.tolist()), tuple(amounts.tolist()))
