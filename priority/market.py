"""Sets of victims that would do and cost less, on many nodes at once: for `bargain`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations

import numpy as np

from priority.prey import Prey
from priority.shape import Flags, Picks, grouped, scatter
from priority.snapshot import Plane

SETS_MAX = 4_000_000
"""So many sets of victims, counted over all nodes and tasks, are tried for several victims; by nodes, the most likely
first; the rest is passed over."""

BATCH = 200_000
"""So many sets are looked at in one pass: what is in memory at once."""

Cost = tuple[int, int, int, int]
"""(highest tier rank, highest priority, how many, work lost) of a set of victims."""


class Market:
    """Items (places in the prey) on `M` slots, what each slot needs, and the cost that is to be undercut there."""

    def __init__(
        self, prey: Prey, items: Picks, slots: Picks, need: Plane | None, bounds: Sequence[Cost] | None
    ) -> None:
        self.prey = prey
        order = grouped(slots)
        self.items, self.slots = items[order], slots[order]
        self.bounds = bounds
        self.need = np.zeros((0, 0), np.int64) if need is None else need
        if need is not None and bounds is not None:
            self.count: Plane = np.array([bound[2] for bound in bounds], np.int64)
            self.work: Plane = np.array([bound[3] for bound in bounds], prey.work.dtype)
            self.open: Flags = np.ones(len(bounds), np.bool_)
        self._padded: tuple[Plane, Plane, Picks, Plane, Plane] | None = None

    def wanting(self, need: Plane, bound: Cost, nodes: Flags) -> Market:
        """The same items for another task, with one bound for all slots."""
        other = Market.__new__(Market)
        other.__dict__.update(self.__dict__)
        slots = need.shape[1]
        other.need = need
        other.count = np.full(slots, bound[2], np.int64)
        other.work = np.full(slots, bound[3], self.prey.work.dtype)
        other.open = nodes
        self._padded = other._padded = self.padded(slots)
        return other

    def padded(self, slots: int) -> tuple[Plane, Plane, Picks, Plane, Plane]:
        """Items by slot in rows as long as the fullest: requests `[R, M, L]`, work `[M, L]`, how many; and sums of the
        largest requests `[R, M, L]` and of the least work `[M, L]`.
        """
        if self._padded is None:
            count = np.bincount(self.slots, minlength=slots)
            place = np.arange(len(self.slots)) - (np.cumsum(count) - count)[self.slots]
            length = max(1, int(count.max(initial=0)))
            prey = self.prey
            requests = np.zeros((prey.request.shape[0], slots, length), np.int64)
            requests[:, self.slots, place] = prey.request[:, self.items]
            work = np.full((slots, length), _endless(prey.work), prey.work.dtype)
            work[self.slots, place] = prey.work[self.items]
            largest = np.cumsum(-np.sort(-requests, axis=2), axis=2)
            least = np.cumsum(np.sort(work, axis=1), axis=1)
            self._padded = requests, work, count, largest, least
        return self._padded


def _endless(work: Plane) -> int:
    """More than any real work: pads rows that are not full, and so is sorted last."""
    return 2**58 if work.dtype != object else 2**200


class Search:
    """Over all of one plan: what it costs is counted."""

    def __init__(self) -> None:
        self.left = SETS_MAX

    def cheaper(self, market: Market) -> Iterator[int]:
        """Slots where less than their bounds would do, by rank, by priority, by number and by work."""
        prey, items, slots = market.prey, market.items, market.slots
        assert market.bounds is not None
        size = len(market.bounds)
        rank = np.array([bound[0] for bound in market.bounds], np.int64)[slots]
        priority = np.array([bound[1] for bound in market.bounds], np.int64)[slots]
        within = prey.rank[items] <= rank
        done = np.zeros(size, np.bool_)
        for flags in (prey.rank[items] < rank, within & (prey.priority[items] < priority)):
            some = np.zeros(size, np.bool_)
            some[slots[flags]] = True
            done |= some & (scatter(slots[flags], prey.request[:, items[flags]], size) >= market.need).all(axis=0)
        yield from np.flatnonzero(done).tolist()
        keep = within & (prey.priority[items] <= priority)
        rest = Market(prey, items[keep], slots[keep], market.need, market.bounds)
        rest.open = ~done
        for less in (1, 0):
            yield from self.several(rest, less)

    def several(self, market: Market, less: int) -> Iterator[int]:
        """Slots where fewer items (`less` 1), or as many with less work (0), would do."""
        size = market.need.shape[1]
        _, work, held, largest, least = market.padded(size)
        rows, last = np.arange(size), np.clip(market.count - 1 - less, 0, work.shape[1] - 1)
        mask = market.open & (held > 0) & (market.count > less) & (largest[:, rows, last] >= market.need).all(axis=0)
        if not less:
            mask &= (held >= market.count) & (least[rows, last] < market.work)
        some = np.flatnonzero(mask)
        some = some[np.argsort(least[some, last[some]], kind="stable")]
        sizes = np.minimum(market.count[some] - less, held[some])
        for many in np.unique(sizes).tolist():
            yield from self._sets(market, some[sizes == many], many, work_too=not less)

    def _sets(self, market: Market, slots: Picks, many: int, *, work_too: bool) -> Iterator[int]:
        requests, work, held, _, _ = market.padded(market.need.shape[1])
        length = int(held[slots].max(initial=0))
        if not _few(length, many, self.left):
            return
        sets = _sets_of(length, many)
        step = max(1, BATCH // max(1, len(sets)))
        for start in range(0, len(slots), step):
            some = slots[start : start + step]
            self.left -= len(some) * len(sets)
            if self.left < 0:
                return
            good = sets[:, -1] < held[some][:, np.newaxis]
            for resource in range(len(requests)):
                need = market.need[resource, some]
                if (need > 0).any():
                    good &= requests[resource][some][:, sets].sum(axis=2) >= need[:, np.newaxis]
            if work_too:
                good &= work[some][:, sets].sum(axis=2) < market.work[some][:, np.newaxis]
            yield from some[good.any(axis=1)].tolist()


@cache
def _sets_of(length: int, many: int) -> Picks:
    return np.array(list(combinations(range(length), many)), np.intp).reshape(-1, many)


def _few(length: int, many: int, left: int) -> bool:
    """Whether there are not too many sets of one slot alone."""
    count = 1
    for step in range(many):
        count = count * (length - step) // (step + 1)
        if count > min(left, BATCH):
            return False
    return True
