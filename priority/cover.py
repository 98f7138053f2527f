"""The least set that covers a need: fewest items first, then least work. Exact, with a limit on the effort.

A small integer programme: choose items so that in each resource their amounts reach the need. Items that are
alike once cut off at the need are one kind, of which the cheapest are always taken first; so the search is over
how many of each kind. Iterative deepening on the number of items, from a lower bound; a branch ends where even
the largest amounts left cannot reach the need, or the least work left cannot beat the best. Two things keep it small:

- an item is left out if as many others as there may be in the cover bring at least as much for at most its work:
  whatever cover it is in, one of them could stand in for it;
- one more column, which follows from the others: the sum of all, each over its need, must reach their number.

Where there are few items all sets of them are looked at instead, number by number: that is quicker.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import combinations

import numpy as np
import numpy.typing as npt

STEPS_MAX, STEPS_MIN = 3_000, 200
"""After so many steps of the search the greedy answer stands: a cover without a needless item, maybe not the least."""

COMPARED_MAX = 1_500
"""Of more items than this it is not looked who may stand in for whom."""

SETS_MAX = 1_000
"""Of no more sets than this all are looked at."""

SAFE = 2**62
"""A sum below this fits 64 bits."""

Amounts = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cover:
    """The chosen items by their index, ascending."""

    items: tuple[int, ...]
    work: int

    @property
    def cost(self) -> tuple[int, int]:
        """How many, and the work lost."""
        return len(self.items), self.work


@dataclass(slots=True)
class Effort:
    """Steps that many searches share. When they are used up each still gets `STEPS_MIN`."""

    left: int = 30_000

    def allowance(self) -> int:
        """How many steps the next search may take."""
        return max(STEPS_MIN, min(STEPS_MAX, self.left))


def least_cover(
    amounts: Sequence[Sequence[int]],
    work: Sequence[int],
    need: Sequence[int],
    bound: tuple[int, int] | None = None,
    effort: Effort | None = None,
) -> Cover | None:
    """The least cover of `need`, or None if there is none, or none that costs less than `bound`.

    Of equal covers always the same one. Amounts, needs and work are not negative.
    """
    columns = [column for column, amount in enumerate(need) if amount > 0]
    goal = tuple(need[column] for column in columns)
    if not goal:
        return Cover((), 0) if bound is None or bound > (0, 0) else None
    if not amounts:
        return None
    if math.comb(len(amounts), len(amounts) // 2) <= SETS_MAX and sum(work) < SAFE:
        return _of_few([[row[column] for column in columns] for row in amounts], work, goal, bound)
    # Each column over its need, without fractions: times the product of the other needs.
    scales = [math.prod(goal) // amount for amount in goal]
    kinds: dict[Amounts, list[int]] = {}
    for item, row in enumerate(amounts):
        useful = tuple(min(row[column], most) for column, most in zip(columns, goal, strict=True))
        if any(useful):
            kinds.setdefault(useful, []).append(item)
    for members in kinds.values():
        members.sort(key=lambda item: (work[item], item))
    if len(kinds) == 1:
        return _alike(next(iter(kinds.items())), work, goal, bound)
    order = sorted(kinds.items(), key=lambda kind: (work[kind[1][0]], -sum(kind[0]), kind[1][0]))
    wide = [(useful + _joint(useful, scales), members) for useful, members in order]
    effort = effort or Effort()
    search = _Search(wide, work, goal + _joint(goal, scales), effort.allowance())
    cover = search.run(bound)
    effort.left -= search.steps
    return cover


def _of_few(
    amounts: Sequence[Sequence[int]], work: Sequence[int], goal: Amounts, bound: tuple[int, int] | None
) -> Cover | None:
    """Of all sets of items; of equal ones that whose items come first."""
    most = len(amounts) if bound is None else min(len(amounts), bound[0])
    fewest = 1
    for sizes, need in zip(zip(*amounts, strict=True), goal, strict=True):
        count, reached = 0, 0
        for size in sorted(sizes, reverse=True):
            if reached >= need:
                break
            reached += size
            count += 1
        if reached < need:
            return None
        fewest = max(fewest, count)
    table, needs = np.array(amounts, np.float64), np.array(goal, np.float64)  # sums of so few are exact
    for count in range(fewest, most + 1):
        sets, chosen = _sets(len(amounts), count)
        some = np.flatnonzero((chosen @ table >= needs).all(axis=1))
        if len(some):
            costs = np.array(work, np.int64)[sets[some]].sum(axis=1)
            best = int(costs.argmin())
            cover = Cover(tuple(sets[some[best]].tolist()), int(costs[best]))
            return cover if bound is None or cover.cost < bound else None
    return None


@lru_cache(maxsize=256)
def _sets(items: int, count: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """All sets of so many of these items, in order: which they are, and the same as ones and zeros."""
    sets = np.array(list(combinations(range(items), count)), np.intp)
    chosen = np.zeros((len(sets), items))
    np.put_along_axis(chosen, sets, 1.0, axis=1)
    return sets, chosen


def _alike(
    kind: tuple[Amounts, list[int]], work: Sequence[int], goal: Amounts, bound: tuple[int, int] | None
) -> Cover | None:
    """Where all items bring the same: as many as it takes of those with the least work."""
    useful, members = kind
    count = max(-(-amount // size) if size else len(members) + 1 for amount, size in zip(goal, useful, strict=True))
    if count > len(members):
        return None
    cover = Cover(tuple(sorted(members[:count])), sum(work[item] for item in members[:count]))
    return cover if bound is None or cover.cost < bound else None


def _joint(amounts: Amounts, scales: Sequence[int]) -> Amounts:
    return (sum(amount * scale for amount, scale in zip(amounts, scales, strict=True)),) if len(scales) > 1 else ()


class _Search:
    def __init__(
        self, kinds: Sequence[tuple[Amounts, list[int]]], work: Sequence[int], goal: Amounts, steps_max: int
    ) -> None:
        self.all_kinds, self.work, self.goal, self.steps_max = kinds, work, goal, steps_max
        self.kinds = kinds
        self.betters: dict[int, int] | None = None
        self.steps = 0
        self.best: tuple[int, tuple[int, ...]] | None = None
        self.limit: int | None = None

    def run(self, bound: tuple[int, int] | None) -> Cover | None:
        count = self._fewest()
        if count is None or (bound is not None and count > bound[0]):
            return None
        most = bound[0] if bound is not None else sum(len(members) for _, members in self.all_kinds)
        while count <= most:
            self._prepare(count)
            self.limit = bound[1] if bound is not None and count == bound[0] else None
            self._choose(0, count, self.goal, 0, ())
            if self.steps > self.steps_max:
                break
            if self.best is not None:
                return Cover(tuple(sorted(self.best[1])), self.best[0])
            count += 1
        else:
            return None
        self.kinds = self.all_kinds
        greedy = self._greedy()
        if self.best is not None and (len(self.best[1]), self.best[0]) < greedy.cost:
            greedy = Cover(tuple(sorted(self.best[1])), self.best[0])
        return greedy if bound is None or greedy.cost < bound else None

    def _fewest(self) -> int | None:
        """A lower bound: for each resource, how many of the largest items it takes."""
        fewest = 0
        for column, amount in enumerate(self.goal):
            left, count = amount, 0
            for size in sorted((useful[column] for useful, members in self.all_kinds for _ in members), reverse=True):
                if left <= 0:
                    break
                left -= size
                count += 1
            if left > 0:
                return None
            fewest = max(fewest, count)
        return fewest

    def _betters(self) -> dict[int, int]:
        """Of each item: how many others bring at least as much for at most its work (of equals, the earlier ones)."""
        items = [item for _, members in self.all_kinds for item in members]
        if len(items) > COMPARED_MAX:
            return dict.fromkeys(items, 0)
        places = {work: place for place, work in enumerate(sorted({self.work[item] for item in items}))}
        rows = [useful[: len(useful) - 1 or 1] for useful, members in self.all_kinds for _ in members]
        amounts = np.array(rows, np.int64)
        work = np.array([places[self.work[item]] for item in items])
        better = (work[:, np.newaxis] <= work) & (amounts[:, np.newaxis] >= amounts).all(axis=2)
        equal = better & better.T
        better &= ~equal | np.tri(len(items), k=-1, dtype=np.bool_).T
        return dict(zip(items, better.sum(axis=0).tolist(), strict=True))

    def _useful(self, members: Sequence[int], count: int) -> list[int]:
        if self.betters is None:
            self.betters = self._betters()
        return [item for item in members if self.betters[item] < count]

    def _prepare(self, count: int) -> None:
        """From each kind on: the most that up to `count` items can bring, by resource, and the least work they cost."""
        self.kinds = [(useful, few) for useful, all in self.all_kinds if (few := self._useful(all, count))]
        largest: list[list[int]] = [[] for _ in self.goal]
        cheapest: list[int] = []
        self.most = [[[0] * (count + 1) for _ in self.goal]]
        self.least = [[0] * (count + 1)]
        for useful, members in reversed(self.kinds):
            few = members[:count]
            for size, sizes in zip(useful, largest, strict=True):
                sizes.extend([size] * len(few))
                sizes.sort(reverse=True)
                del sizes[count:]
            cheapest.extend(self.work[item] for item in few)
            cheapest.sort()
            del cheapest[count:]
            self.most.append([_running(sizes, count) for sizes in largest])
            self.least.append(_running(cheapest, count))
        self.most.reverse()
        self.least.reverse()

    def _choose(self, kind: int, left: int, need: Amounts, work: int, chosen: tuple[int, ...]) -> None:
        """Extend `chosen` by exactly `left` items of this kind and those after it."""
        self.steps += 1
        if self.steps > self.steps_max:
            return
        if left == 0:
            beats = self.best is None or work < self.best[0]
            if max(need) <= 0 and beats and (self.limit is None or work < self.limit):
                self.best = work, chosen
            return
        if kind == len(self.kinds):
            return
        most = self.most[kind]
        if any(most[column][left] < amount for column, amount in enumerate(need)):
            return
        floor = work + self.least[kind][left]
        if (self.best is not None and floor >= self.best[0]) or (self.limit is not None and floor >= self.limit):
            return
        useful, members = self.kinds[kind]
        for take in range(min(left, len(members)), -1, -1):
            cost = sum(self.work[item] for item in members[:take])
            rest = tuple(amount - take * size for amount, size in zip(need, useful, strict=True))
            self._choose(kind + 1, left - take, rest, work + cost, chosen + tuple(members[:take]))

    def _greedy(self) -> Cover:
        """Whatever covers the largest part of what is still needed; then give back what is not, the costliest first."""
        need = list(self.goal)
        left = {index: list(members) for index, (_, members) in enumerate(self.kinds)}
        chosen: list[tuple[int, Amounts]] = []
        while max(need) > 0:
            index = max((index for index in left if left[index]), key=partial(self._worth, tuple(need)))
            useful = self.kinds[index][0]
            chosen.append((left[index].pop(0), useful))
            need = [lack - size for lack, size in zip(need, useful, strict=True)]
        for item, useful in sorted(chosen, key=lambda one: (-self.work[one[0]], one[0])):
            if all(lack + size <= 0 for lack, size in zip(need, useful, strict=True)):
                chosen.remove((item, useful))
                need = [lack + size for lack, size in zip(need, useful, strict=True)]
        items = tuple(sorted(item for item, _ in chosen))
        return Cover(items, sum(self.work[item] for item in items))

    def _worth(self, need: Amounts, kind: int) -> tuple[float, int]:
        sizes = zip(self.kinds[kind][0], need, strict=True)
        return sum(min(size, lack) / lack for size, lack in sizes if lack > 0), -kind


def _running(values: Sequence[int], count: int) -> list[int]:
    """Sums of the first 0, 1, ..., `count` values; with fewer values the last sum goes on."""
    sums = [0]
    for place in range(count):
        sums.append(sums[-1] + (values[place] if place < len(values) else 0))
    return sums
