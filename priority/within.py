"""The least important victims within budgets that policy sets: asked where the least by law alone would break one.

Of each node, from the lowest level on (see `prices`): of all sets of prey up to a level, the fewest, then the least
work, that make room and are affordable. All sets are tried, branch by branch, up to `STEPS_MAX`; with more than that a
node is passed over, so that in a crowd of prey that budgets keep a task may wait although some set would do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, product

import numpy as np

from priority.board import Board
from priority.claim import Claim
from priority.rules import Mask

STEPS_MAX, ALL_STEPS_MAX = 5_000, 60_000
"""On one node, and for one task."""

Cost = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Item:
    place: int
    rank: int
    priority: int
    work: int
    """Exact, as it is compared."""
    id: str
    amounts: tuple[int, ...]
    spent: int
    """The work as budgets count it."""
    budgets: tuple[tuple[object, int], ...]
    """Of what it takes how much."""


@dataclass(slots=True)
class _Steps:
    left: int = ALL_STEPS_MAX


def cheapest(board: Board, claim: Claim, mask: Mask) -> tuple[int, tuple[int, ...]] | None:
    """The least victims on one of the nodes, and its row; None: no affordable set makes room (or none was found)."""
    herd, mercy = board.herd, board.mercy
    assert mercy is not None
    shape = board.shape(claim)
    picks = np.flatnonzero(herd.lawful(claim) & herd.alive & mask[herd.node])
    owner = claim.role, claim.tier
    most = mercy.left_to_destroy(owner, board.killed)
    budgets: dict[object, int] = {("destroy", owner): most}
    sums = np.zeros((len(board.names), len(shape.columns)), np.int64)
    for column, resource in enumerate(shape.columns):
        np.add.at(sums[:, column], herd.node[picks], herd.request[picks, resource])
    need = np.maximum(shape.amounts - board.total[:, shape.asked], 0)
    rows = np.flatnonzero((sums >= need).all(axis=1) & mask)
    wanted = np.isin(herd.node[picks], rows)
    there: dict[int, list[_Item]] = {row: [] for row in rows.tolist()}
    for place in picks[wanted].tolist():
        spent = mercy.work(place)
        if spent > most:
            continue
        taken: list[tuple[object, int]] = [(("destroy", owner), spent)]
        for kind, left, amount in (("job", mercy.left_of(place), 1), ("lose", mercy.left_to(place), spent)):
            if left is not None:
                budgets[kind, left[0]] = left[1]
                taken.append(((kind, left[0]), amount))
        rank, priority, work, id = herd.key(place)
        amounts = tuple(int(herd.request[place, column]) for column in shape.columns)
        there[int(herd.node[place])].append(_Item(place, rank, priority, work, id, amounts, spent, tuple(taken)))
    found = _over(there, {row: tuple(need[row].tolist()) for row in there}, budgets)
    return None if found is None else (found[0], tuple(sorted(item.place for item in found[1])))


def _over(
    there: dict[int, list[_Item]], needs: dict[int, tuple[int, ...]], budgets: dict[object, int]
) -> tuple[int, tuple[_Item, ...]] | None:
    """The least over all nodes, those first whose level is the lowest."""
    floors = {row: floor for row, items in there.items() if (floor := _floor(items, needs[row])) is not None}
    best: tuple[Cost, int, tuple[_Item, ...]] | None = None
    steps = _Steps()
    for row in sorted(floors, key=lambda row: (floors[row], row)):
        if best is not None and floors[row] > best[0][:2]:
            break
        items = sorted(there[row], key=lambda one: (one.rank, one.priority, one.work, one.id))
        chosen = _least(items, needs[row], budgets, steps, None if best is None else best[0])
        if chosen is not None and (best is None or (_cost(chosen), row) < best[:2]):
            best = _cost(chosen), row, chosen
        if steps.left <= 0:
            break
    return None if best is None else best[1:]


def _cost(items: Iterable[_Item]) -> Cost:
    some = list(items)
    return max(i.rank for i in some), max(i.priority for i in some), len(some), sum(i.work for i in some)


def _floor(items: Sequence[_Item], need: Sequence[int]) -> tuple[int, int] | None:
    """The level up to which all are enough, whatever the budgets."""
    for level in product(sorted({one.rank for one in items}), sorted({one.priority for one in items})):
        if _enough((one for one in items if one.rank <= level[0] and one.priority <= level[1]), need):
            return level
    return None


def _enough(items: Iterable[_Item], need: Sequence[int]) -> bool:
    left = list(need)
    for one in items:
        left = [lack - amount for lack, amount in zip(left, one.amounts, strict=True)]
    return max(left, default=0) <= 0


def _least(
    items: Sequence[_Item], need: tuple[int, ...], budgets: dict[object, int], steps: _Steps, bound: Cost | None
) -> tuple[_Item, ...] | None:
    levels = product(sorted({one.rank for one in items}), sorted({one.priority for one in items}))
    allowed = min(STEPS_MAX, steps.left)
    for level in levels:
        some = [one for one in items if one.rank <= level[0] and one.priority <= level[1]]
        if not _enough(some, need) or (bound is not None and level > bound[:2]):
            continue
        search = _Search(some, need, dict(budgets), allowed)
        for count in range(1, len(some) + 1):
            search.choose(0, count, need, 0, ())
            if search.best is not None or search.left < 0:
                break
        steps.left -= allowed - search.left
        allowed = search.left
        if search.best is not None:
            return search.best[1]
        if allowed <= 0:
            return None
    return None


class _Search:
    def __init__(self, items: Sequence[_Item], need: tuple[int, ...], budgets: dict[object, int], steps: int) -> None:
        self.items, self.budgets, self.left = items, budgets, steps
        self.best: tuple[int, tuple[_Item, ...]] | None = None
        self._reach = []
        """From each item on, of each resource: the most that so many bring."""
        for start in range(len(items) + 1):
            rest = items[start:]
            self._reach.append(
                [
                    [0, *accumulate(sorted((one.amounts[column] for one in rest), reverse=True))]
                    for column in range(len(need))
                ]
            )

    def choose(self, start: int, count: int, need: tuple[int, ...], work: int, chosen: tuple[_Item, ...]) -> None:
        """Exactly so many more from an item on: the set of the least work stays in `best`."""
        self.left -= 1
        if self.left < 0 or (self.best is not None and work >= self.best[0]):
            return
        if count == 0:
            if max(need, default=0) <= 0:
                self.best = work, chosen
            return
        if len(self.items) - start < count:
            return
        if any(lack > reach[count] for lack, reach in zip(need, self._reach[start], strict=True)):
            return
        one = self.items[start]
        if all(self.budgets[key] >= amount for key, amount in one.budgets):
            for key, amount in one.budgets:
                self.budgets[key] -= amount
            less = tuple(lack - amount for lack, amount in zip(need, one.amounts, strict=True))
            self.choose(start + 1, count - 1, less, work + one.work, (*chosen, one))
            for key, amount in one.budgets:
                self.budgets[key] += amount
        self.choose(start + 1, count, need, work, chosen)
