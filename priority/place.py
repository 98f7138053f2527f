"""Which node: launch where room is free now, else reserve where room is coming, without any victim.

One task goes where it leaves the least behind (best fit, over all resources, so that a task without GPUs leaves
nodes with GPUs alone). A gang is packed greedily, the largest member first; where that fails, by a search with
a fixed number of steps: exact for gangs and clusters of a few, and an honest "no" for larger ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from priority.board import Board, Extra
from priority.claim import Claim
from priority.fairness import Unit
from priority.rules import Mask
from priority.snapshot import Plane

STEPS_MAX, NODES_MAX = 1_500, 300_000
"""How many placements of members the search for a gang tries; fewer where there are so many nodes to look through."""


def launch(board: Board, unit: Unit, kept: Mapping[str, list[int]], only: Mask | None) -> bool:
    """Put the unit in room that is free now, on its kept node if it can; `only` narrows the nodes of a single task."""
    if unit.gang is not None:
        return _put_gang(board, unit, True, kept)
    return _put_one(board, unit.members[0], only, True, kept)


def reserve(board: Board, unit: Unit, kept: Mapping[str, list[int]], only: Mask | None) -> bool:
    """Put the unit where room is free or coming."""
    if unit.gang is not None:
        return _put_gang(board, unit, False, kept)
    return _put_one(board, unit.members[0], only, False, kept)


def could(board: Board, unit: Unit, *, now: bool) -> bool:
    """Whether a unit could be launched (`now`) or reserved; nothing is placed."""
    if board.rules.over(unit.members) is not None:
        return False
    if unit.gang is not None:
        return pack(board, unit.members, now) is not None
    return board.room(unit.members[0], now=now) is not None


def _put_one(board: Board, claim: Claim, only: Mask | None, now: bool, kept: Mapping[str, list[int]]) -> bool:
    mask = board.room(claim, now=now)
    if mask is None:
        return False
    if only is not None:
        mask &= only
    mine = [node for node in kept.get(claim.id, ()) if mask[node]]
    if not mine and not mask.any():
        return False
    node = min(mine) if mine else board.best(mask, board.shape(claim), board.now if now else board.total)
    board.put(claim, node, now)
    return True


def _put_gang(board: Board, unit: Unit, now: bool, kept: Mapping[str, list[int]]) -> bool:
    nodes = pack(board, unit.members, now, kept=kept)
    if nodes is None:
        return False
    for claim, node in nodes:
        board.put(claim, node, now)
    return True


def pack(
    board: Board,
    members: Sequence[Claim],
    now: bool,
    extra: Extra | None = None,
    kept: Mapping[str, list[int]] | None = None,
) -> list[tuple[Claim, int]] | None:
    """A node for each member, all together, or None. The board is as before."""
    largest_first = sorted(members, key=lambda claim: _size(board, claim))
    packing = _Packing(board, largest_first, now, extra, kept or {})
    if not packing.can_count():
        return None
    return packing.greedy() or packing.search()


def same(one: Claim, other: Claim) -> bool:
    """Whether two tasks are alike for every rule of placing."""
    return (one.request, one.constraints, one.role, one.job, one.tier, one.priority) == (
        other.request,
        other.constraints,
        other.role,
        other.job,
        other.tier,
        other.priority,
    )


def _size(board: Board, claim: Claim) -> tuple[float, str, str, str]:
    shape = board.shape(claim)
    largest = float((shape.request * board.scale).max(initial=0.0))
    return -largest, repr(sorted(claim.request.items())), repr([one.plain() for one in claim.constraints]), claim.id


class _Packing:
    """One attempt to pack the members of a gang."""

    def __init__(
        self,
        board: Board,
        members: Sequence[Claim],
        now: bool,
        extra: Extra | None,
        kept: Mapping[str, list[int]],
    ) -> None:
        self.board, self.members, self.now, self.extra, self.kept = board, members, now, extra, kept
        self.most = None if extra is None else extra(members)
        self.steps = min(STEPS_MAX, NODES_MAX // max(1, len(board.names)))
        self.nodes: list[tuple[Claim, int]] = []

    def mask(self, claim: Claim) -> Mask:
        board, shape = self.board, self.board.shape(claim)
        mask = board.allowed(claim) & board.fits(shape, self.room())
        return mask & board.fits(shape, board.now) if self.now else mask

    def room(self) -> Plane:
        """What there would be if every node had the strongest of the members; `holds` looks closer."""
        return self.board.total if self.most is None else self.board.total + self.most

    def holds(self, places: Sequence[tuple[Claim, int]]) -> bool:
        """Whether the members that really are on each node give it that room."""
        if self.extra is None:
            return True
        for node in {node for _, node in places}:
            there = [claim for claim, where in places if where == node]
            demand = np.sum([self.board.shape(claim).request for claim in there], axis=0)
            room = self.board.total[node] + self.extra(there)[node]
            if (room < demand)[demand > 0].any():
                return False
        return True

    def can_count(self) -> bool:
        """A quick no: the nodes have fewer places of this size than the gang has members of it."""
        for index, claim in enumerate(self.members):
            if index and same(claim, self.members[index - 1]):
                continue
            shape = self.board.shape(claim)
            mask = self.mask(claim)
            if not mask.any():
                return False
            if len(shape.asked):
                places = (self.room()[mask][:, shape.asked] // shape.amounts).min(axis=1)
                if places.sum() < sum(same(claim, other) for other in self.members):
                    return False
        return True

    def greedy(self) -> list[tuple[Claim, int]] | None:
        found: list[tuple[Claim, int]] = []
        for claim in self.members:
            mask = self.mask(claim)
            if not mask.any():
                break
            mine = [node for node in self.kept.get(claim.id, ()) if mask[node]]
            room = self.board.now if self.now else self.board.total
            node = min(mine) if mine else self.board.best(mask, self.board.shape(claim), room)
            self.board.put(claim, node, self.now)
            found.append((claim, node))
        for claim, _ in found:
            self.board.lift(claim)
        return found if len(found) == len(self.members) and self.holds(found) else None

    def search(self) -> list[tuple[Claim, int]] | None:
        return list(self.nodes) if len(self.members) > 1 and self._rest(0) else None

    def _rest(self, depth: int) -> bool:
        if depth == len(self.members):
            for claim, _ in self.nodes:
                self.board.lift(claim)
            done = self.holds(self.nodes)
            for claim, node in self.nodes:
                self.board.put(claim, node, self.now)
            return done
        claim = self.members[depth]
        first = self.nodes[-1][1] if depth and same(claim, self.members[depth - 1]) else 0  # alike: order is no matter
        for node in np.flatnonzero(self.mask(claim)).tolist():
            if node < first:
                continue
            self.steps -= 1
            if self.steps < 0:
                return False
            self.board.put(claim, node, self.now)
            self.nodes.append((claim, node))
            done = self._rest(depth + 1)
            self.board.lift(claim)
            if done:
                return True
            self.nodes.pop()
        return False
