"""All that waits, launched at once where there is free room for all: then nobody's turn matters, and none is taken.

Tasks that ask for the same under the same constraints are one kind. Kinds are placed one after the other, the largest
first; each fills node after node, from the smallest nodes on (so that a task without devices leaves nodes with
devices alone), going on where the kind before it stopped, and from the start where that is not enough. Which task of
a kind goes where is settled only when somebody asks: see `Sweep`.

None where it is not that simple: gangs, limits, room that is kept, a ceiling that would be reached, or not enough
room for all. Then the round is decided unit by unit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from priority.board import Board
from priority.claim import Claim
from priority.constraint import Constraint
from priority.fairness import Unit
from priority.resources import Resources
from priority.snapshot import Snapshot
from priority.stock import Flags, Picks, Plane

LEVEL = 64
"""With fewer tasks of a tier than this, each in its turn goes where it fits best."""

FEWEST = 256
"""With fewer tasks than this, each in its turn goes where it fits best."""

WINDOW = 32
"""So many nodes are looked at first beyond a guess, and twice as many each time that they are not enough."""

STEPS = 4
"""So many nodes are looked at one by one before that."""


@dataclass(frozen=True, slots=True)
class Filled:
    """Tasks of one kind, and the rows of nodes, each with how many of them it takes."""

    ids: Sequence[str]
    rows: Sequence[int]
    counts: Sequence[int]


@dataclass(frozen=True, slots=True)
class Sweep:
    """Every pending task has a place."""

    names: Sequence[str]
    kinds: Sequence[Filled]

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Task and node, by task: of each kind the tasks by id, on its nodes in their order."""
        found: dict[str, int] = {}
        for kind in self.kinds:
            found.update(zip(sorted(kind.ids), np.repeat(kind.rows, kind.counts).tolist(), strict=True))
        names = self.names
        return ((id, names[found[id]]) for id in sorted(found))

    def __len__(self) -> int:
        return sum(len(kind.ids) for kind in self.kinds)


def sweep(board: Board, snapshot: Snapshot) -> Sweep | None:
    """A place for all that waits, in room that is free now, or None."""
    kinds = snapshot.kinds()
    if snapshot.gangs() or snapshot.limited() or not len(board.names):
        return None
    for dying in snapshot.dying():
        kept = None if dying.kept_for is None else snapshot.task(dying.kept_for)
        if kept is not None and kept.node is None:
            return None
    capped = any(role.quota or role.users for role in snapshot.roles().values())
    if capped and board.rules.over(snapshot.pending()) is not None:
        return None
    filling = _Filling(board, [dict(request) for request, _ in kinds])
    scale = dict(zip(board.axis, board.scale.tolist(), strict=True))
    largest = {key: max((amount * scale[name] for name, amount in key[0]), default=0.0) for key in kinds}
    found = []
    for key in sorted(kinds, key=lambda one: (-largest[one], one[0], repr(one[1]) if one[1] else "")):
        claims = kinds[key]
        places = filling.fill(next(iter(claims.values())), len(claims))
        if places is None:
            return None
        found.append(Filled(list(claims), *places))
    return Sweep(board.names, found)


def level(board: Board, units: Sequence[Unit]) -> bool:
    """Launch all of these, which nobody of a higher tier waits behind, if there is free room for all; else nothing.

    Only single tasks, none of which a limit or kept room holds.
    """
    claims = [unit.members[0] for unit in units]
    rules = board.rules
    if any(claim.gang is not None for claim in claims) or (rules.limited and any(map(rules.job, claims))):
        return False
    if board.keeps() or not len(board.names) or rules.over(claims) is not None:
        return False
    kinds = _kinds(board, claims)
    filling = _Filling(board, [kind[0].request for kind in kinds])
    scale = board.scale.tolist()

    def order(kind: Sequence[Claim]) -> tuple[float, str]:
        shape = board.shape(kind[0])
        largest = (size * scale[column] for column, size in zip(shape.columns, shape.sizes, strict=True))
        return -max(largest, default=0.0), kind[0].id

    found = []
    for kind in sorted(kinds, key=order):
        places = filling.fill(kind[0], len(kind))
        if places is None:
            return False
        found.append((kind, *places))
    board.put_all(found, launch=True)
    return True


def _kinds(board: Board, claims: Sequence[Claim]) -> list[list[Claim]]:
    """Those that ask for the same under the same constraints, by id."""
    alike: dict[tuple[int, tuple[Constraint, ...]], list[Claim]] = {}
    for claim in claims:
        key = id(claim.request), claim.constraints
        some = alike.get(key)
        if some is None:
            alike[key] = [claim]
        else:
            some.append(claim)
    kinds: dict[tuple[int, tuple[Constraint, ...]], list[Claim]] = {}
    for (_, constraints), some in alike.items():
        kinds.setdefault((id(board.shape(some[0])), constraints), []).extend(some)
    for kind in kinds.values():
        kind.sort(key=_ID)
    return [*kinds.values()]


_ID = attrgetter("id")

_Places = tuple[list[int], list[int]]
"""Rows of nodes, and how many each takes."""


class _Filling:
    """Free room by column, nodes in the order in which they are filled."""

    def __init__(self, board: Board, requests: Sequence[Resources]) -> None:
        self._board = board
        free = np.minimum(board.now, board.total)
        self._order: Picks = board.rules.remember("smallest first", board.smallest_first)
        self._column = {name: column for column, name in enumerate(board.axis)}
        some = np.ones(len(free), np.bool_)
        for name, column in self._column.items():
            least = min(request.get(name, 0) for request in requests) if requests else 0
            if least:
                some &= free[:, column] >= least
        if not some.all():  # the others have room for nobody
            self._order = self._order[some[self._order]]
        self._free = [np.ascontiguousarray(column) for column in free[self._order].T]
        self._all = bool(board.rules.up.all())
        self._at = 0

    def fill(self, claim: Claim, size: int) -> _Places | None:
        """Room for so many of a kind, or None."""
        open = None if self._all and not claim.constraints else self._board.rules.may_take(claim)[self._order]
        asked = [(self._column[name], amount) for name, amount in claim.request.items() if amount]
        rows: list[int] = []
        counts: list[int] = []
        left = self._fill_few(asked, size, rows, counts) if open is None and asked else size
        if left and not self._fill_many(asked, open, left, rows, counts):
            return None
        return rows, counts

    def _fill_few(self, asked: Sequence[tuple[int, int]], left: int, rows: list[int], counts: list[int]) -> int:
        """On the next few nodes, one by one; answers how many are left."""
        free = self._free
        for at in range(self._at, min(self._at + STEPS, len(self._order))):
            room = min(left, *(free[column].item(at) // size for column, size in asked))
            if room > 0:
                for column, size in asked:
                    free[column][at] -= room * size
                rows.append(self._order.item(at))
                counts.append(room)
                left -= room
                self._at = at
                if not left:
                    break
        return left

    def _fill_many(
        self,
        asked: Sequence[tuple[int, int]],
        open: Flags | None,
        left: int,
        rows: list[int],
        counts: list[int],
    ) -> bool:
        """Window by window; whether there was room for all."""
        if not len(self._order):
            return False
        fits = min((self._free[column].item(self._at) // size for column, size in asked), default=1)
        width, start, wrapped = WINDOW + left // max(fits, 1), self._at, False
        while left:
            if start >= len(self._order):
                if wrapped:
                    return False
                wrapped, start, width = True, 0, len(self._order)
            taken = self._take(slice(start, start + width), asked, open, left)
            (used,) = taken.nonzero()
            if len(used):
                rows += self._order[used + start].tolist()
                counts += taken[used].tolist()
                left -= int(taken.sum())
            if left or wrapped:
                start += width
                width *= 2
            else:
                self._at = start + int(used[-1]) if len(used) else start
        return True

    def _take(self, window: slice, asked: Sequence[tuple[int, int]], open: Flags | None, most: int) -> Plane:
        """Fill these nodes with at most so many; how many each has taken."""
        free = self._free
        room: Plane | None = None
        for column, size in asked:
            places = free[column][window] // size
            room = places if room is None else np.minimum(room, places, out=room)
        if room is None:
            room = np.full(len(free[0][window]), most, np.int64)
        np.minimum(room, most, out=room)
        np.maximum(room, 0, out=room)
        if open is not None:
            room *= open[window]
        reach = room.cumsum()
        last = int(reach.searchsorted(most))
        if last < len(room):
            room[last] -= reach[last] - most
            room[last + 1 :] = 0
        for column, size in asked:
            free[column][window] -= room * size
        return room
