"""Sets of victims that would do and cost less, on many nodes at once: for `bargain`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, cached_property
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
            self.work: Plane = _works([bound[3] for bound in bounds])
            self.open: Flags = np.ones(len(bounds), np.bool_)
        self._table: Table | None = None

    def wanting(self, need: Plane, bound: Cost, nodes: Flags) -> Market:
        """The same items for another task, with one bound for all slots."""
        other = Market.__new__(Market)
        other.__dict__.update(self.__dict__)
        slots = need.shape[1]
        other.need = need
        other.count = np.full(slots, bound[2], np.int64)
        other.work = np.broadcast_to(_works([bound[3]]), (slots,))
        other.open = nodes
        self._table = other._table = self.table(slots)
        return other

    def table(self, slots: int) -> Table:
        """The items by slot."""
        if self._table is None:
            self._table = Table(self.prey, self.items, self.slots, slots)
        return self._table


class Table:
    """Items by slot, `M` of these, in rows as long as the fullest, `L`. What is not asked for is not made."""

    def __init__(self, prey: Prey, items: Picks, slots: Picks, size: int) -> None:
        self.count: Picks = np.bincount(slots, minlength=size)
        """How many there are."""
        self._prey, self._items, self._slots = prey, items, slots
        self._place = np.arange(len(slots)) - (np.cumsum(self.count) - self.count)[slots]
        self._shape = size, max(1, int(self.count.max(initial=0)))
        self._requests: dict[int, Plane] = {}
        self._largest: dict[int, Plane] = {}

    def request(self, resource: int) -> Plane:
        """What each asks for of a resource, `[M, L]`."""
        if resource not in self._requests:
            plane = self._requests[resource] = np.zeros(self._shape, np.int64)
            plane[self._slots, self._place] = self._prey.request[resource].take(self._items)
        return self._requests[resource]

    def largest(self, resource: int) -> Plane:
        """Sums of the largest requests of a resource, `[M, L]`."""
        if resource not in self._largest:
            sums = np.negative(self.request(resource))
            sums.sort(axis=1)
            self._largest[resource] = np.cumsum(np.negative(sums, out=sums), axis=1)
        return self._largest[resource]

    @cached_property
    def work(self) -> Plane:
        """The work lost with each, `[M, L]`; endless where there is nobody."""
        works = self._prey.work_of(self._items)
        work = np.full(self._shape, _endless(works), works.dtype)
        work[self._slots, self._place] = works
        return work

    @cached_property
    def least(self) -> Plane:
        """Sums of the least work, `[M, L]`."""
        return np.cumsum(np.sort(self.work, axis=1), axis=1)


def _works(works: Sequence[int]) -> Plane:
    """Exact: objects where 64 bits would not do."""
    return np.array(works, object if max(works) >= 2**62 else np.int64)


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
        table = market.table(size)
        held, length = table.count, max(1, int(table.count.max(initial=0)))
        rows, last = np.arange(size), np.clip(market.count - 1 - less, 0, length - 1)
        mask = market.open & (held > 0) & (market.count > less)
        for resource, need in enumerate(market.need):
            if need.any():
                mask &= table.largest(resource)[rows, last] >= need
        if not less:
            mask &= (held >= market.count) & (table.least[rows, last] < market.work)
        some = np.flatnonzero(mask)
        if len(some) > 1:
            some = some[np.argsort(table.least[some, last[some]], kind="stable")]
        sizes = np.minimum(market.count[some] - less, held[some])
        for many in np.unique(sizes).tolist():
            yield from self._sets(market, some[sizes == many], many, work_too=not less)

    def _sets(self, market: Market, slots: Picks, many: int, *, work_too: bool) -> Iterator[int]:
        table = market.table(market.need.shape[1])
        held = table.count
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
            for resource, need in enumerate(market.need[:, some]):
                if (need > 0).any():
                    good &= table.request(resource)[some][:, sets].sum(axis=2) >= need[:, np.newaxis]
            if work_too:
                good &= table.work[some][:, sets].sum(axis=2) < market.work[some][:, np.newaxis]
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
