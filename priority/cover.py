"""The least set that covers a need: fewest items first, then least work. Exact, with a limit on the effort.

A small integer programme: choose items so that in each resource their amounts reach the need. Items that are
alike once cut off at the need are one kind, of which the cheapest are always taken first; so the search is over
how many of each kind. Iterative deepening on the number of items, from a lower bound; a branch ends where even
the largest amounts left cannot reach the need, or the least work left cannot beat the best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

STEPS_MAX = 20_000
"""After so many steps of the search the greedy answer stands: a cover without a needless item, maybe not the least."""

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


def least_cover(
    amounts: Sequence[Sequence[int]], work: Sequence[int], need: Sequence[int], bound: tuple[int, int] | None = None
) -> Cover | None:
    """The least cover of `need`, or None if there is none, or none that costs less than `bound`.

    Of equal covers the one whose items come first, kind by kind. Amounts, needs and work are not negative.
    """
    columns = [column for column, amount in enumerate(need) if amount > 0]
    goal = tuple(need[column] for column in columns)
    if not goal:
        return Cover((), 0)
    kinds: dict[Amounts, list[int]] = {}
    for item, row in enumerate(amounts):
        useful = tuple(min(row[column], most) for column, most in zip(columns, goal, strict=True))
        if any(useful):
            kinds.setdefault(useful, []).append(item)
    for members in kinds.values():
        members.sort(key=lambda item: (work[item], item))
    search = _Search(sorted(kinds.items(), key=lambda kind: (-sum(kind[0]), kind[1][0])), work, goal)
    return search.run(bound)


class _Search:
    def __init__(self, kinds: Sequence[tuple[Amounts, list[int]]], work: Sequence[int], goal: Amounts) -> None:
        self.kinds, self.work, self.goal = kinds, work, goal
        self.steps = 0
        self.best: tuple[int, tuple[int, ...]] | None = None
        self.limit: int | None = None

    def run(self, bound: tuple[int, int] | None) -> Cover | None:
        count = self._fewest()
        if count is None or (bound is not None and count > bound[0]):
            return None
        most = bound[0] if bound is not None else sum(len(members) for _, members in self.kinds)
        while count <= most:
            self._prepare(count)
            self.limit = bound[1] if bound is not None and count == bound[0] else None
            self._choose(0, count, self.goal, 0, ())
            if self.steps > STEPS_MAX:
                break
            if self.best is not None:
                return Cover(tuple(sorted(self.best[1])), self.best[0])
            count += 1
        else:
            return None
        greedy = self._greedy()
        if self.best is not None and (len(self.best[1]), self.best[0]) < greedy.cost:
            greedy = Cover(tuple(sorted(self.best[1])), self.best[0])
        return greedy if bound is None or greedy.cost < bound else None

    def _fewest(self) -> int | None:
        """A lower bound: for each resource, how many of the largest items it takes."""
        fewest = 0
        for column, amount in enumerate(self.goal):
            left, count = amount, 0
            for size in sorted((useful[column] for useful, members in self.kinds for _ in members), reverse=True):
                if left <= 0:
                    break
                left -= size
                count += 1
            if left > 0:
                return None
            fewest = max(fewest, count)
        return fewest

    def _prepare(self, count: int) -> None:
        """From each kind on: the most that up to `count` items can bring, by resource, and the least work they cost."""
        self.most: list[list[list[int]]] = []
        self.least: list[list[int]] = []
        for start in range(len(self.kinds) + 1):
            rest = self.kinds[start:]
            by_column = []
            for column in range(len(self.goal)):
                sizes = sorted((useful[column] for useful, members in rest for _ in members[:count]), reverse=True)
                by_column.append(_running(sizes, count))
            self.most.append(by_column)
            works = sorted(self.work[item] for _, members in rest for item in members[:count])
            self.least.append(_running(works, count))

    def _choose(self, kind: int, left: int, need: Amounts, work: int, chosen: tuple[int, ...]) -> None:
        """Extend `chosen` by exactly `left` items of this kind and those after it."""
        self.steps += 1
        if self.steps > STEPS_MAX:
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
