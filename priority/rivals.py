"""Whether less important victims would do on nodes without any: for `bargain`.

Three questions of very many nodes, for tasks whose victims are of one rank and priority at most: would all of a lower
rank or priority do, would one with less work lost, would a smaller or cheaper set. Where all that counts of a victim
is its tier's rank and its priority, sums by node are added up from those that the snapshot keeps of each such level,
and only nodes where these are enough are looked at victim by victim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import numpy as np

from priority.claim import Claim
from priority.facts import Facts
from priority.market import Cost, Market, Search
from priority.prey import Prey
from priority.shape import Flags, Picks, Shape, anywhere, scatter
from priority.snapshot import Plane
from priority.stock import Level

BITS = 40
"""So exact is the work lost where only nodes are ruled out."""

Kind = tuple[Claim, Cost]
"""One task of a kind, and the dearest victims that any of the kind has."""


class Rivals:
    """All that a task may take on some nodes, up to the rank and the priority of a bound."""

    def __init__(self, facts: Facts, prey: Prey, claim: Claim, nodes: Flags, bound: Cost) -> None:
        self._facts, self._prey, self._nodes = facts, prey, nodes
        self._rank, self._priority = bound[:2]
        self._power = facts.power(claim)
        self._by_tier = self._rank < facts.snapshot.tiers[claim.tier].rank
        self._levels = prey.levels if self._by_tier else None
        """None: they are looked at one by one."""

    # --- who there is ---

    def _up_to(self, within: Callable[[Level], bool]) -> list[Level]:
        return [level for level in self._levels or () if within(level)]

    def _within(self, level: Level) -> bool:
        return level[0] <= self._rank and level[1] <= self._priority

    def _sums(self, levels: Sequence[Level]) -> Plane:
        """`[R, N]`: what is open, and what all of these hold."""
        room = self._facts.open.copy()
        for level in levels:
            room += self._prey.held_by(level)
        return room

    def _reach(self, within: Callable[[Level], bool], flags: Callable[[], Flags]) -> Plane | None:
        """What there would be on these nodes without some; None: there are none of them."""
        if self._levels is not None:
            levels = self._up_to(within)
            room = self._sums(levels) if levels else None
        else:
            picks = np.flatnonzero(self._lawful & flags())
            prey, size = self._prey, len(self._facts.names)
            room = self._facts.open + scatter(prey.node[picks], prey.request[:, picks], size) if len(picks) else None
        return None if room is None else np.where(self._nodes, room, -1)

    @cached_property
    def _lawful(self) -> Flags:
        """`[K]`: those on these nodes, of whatever priority, one by one."""
        prey = self._prey
        lawful = prey.lower(self._power[0]) if self._by_tier else prey.lawful(self._power)
        return lawful & prey.alive & self._nodes.take(prey.node, mode="clip") & (prey.rank <= self._rank)

    def _picks(self, nodes: Flags, since_us: int | None = None) -> Picks:
        """Places of those on some of these nodes; with `since_us` only who has begun then or later."""
        prey = self._prey
        if self._levels is None:
            flags = self._lawful & (prey.priority <= self._priority)
        else:
            flags = prey.of_levels(self._up_to(self._within))
        if since_us is not None:
            flags &= prey.since >= since_us
        picks = np.flatnonzero(flags)
        return picks[nodes.take(prey.node.take(picks))]

    # --- less important ---

    def cheaper(self, kinds: Sequence[Kind], search: Search) -> Iterator[tuple[Claim, int]]:
        """Kinds, and a node where less than their bound would do."""
        rank, priority = self._rank, self._priority
        shapes = [self._facts.shape(claim) for claim, _ in kinds]
        for room in (
            self._reach(lambda level: level[0] < rank, lambda: self._prey.rank < rank),
            self._reach(lambda level: level[0] <= rank and level[1] < priority, lambda: self._prey.priority < priority),
        ):
            if room is None:
                continue
            for found in np.flatnonzero(anywhere(shapes, room)).tolist():
                yield from self._on(kinds[found][0], np.flatnonzero(shapes[found].fits(room)))
        yield from self._by_one([kind for kind in kinds if kind[1][2] == 1])
        yield from self._by_several([kind for kind in kinds if kind[1][2] > 1], search)

    def _on(self, claim: Claim, rows: Picks) -> Iterator[tuple[Claim, int]]:
        within = self._facts.within_limits(claim)
        rows = rows if within is None else rows[within[rows]]
        if len(rows):
            yield claim, int(rows[0])

    # --- one with less work lost ---

    def _by_one(self, kinds: Sequence[Kind]) -> Iterator[tuple[Claim, int]]:
        """A single victim that makes room and loses less: the largest of the first ones rule most kinds out."""
        if not kinds:
            return
        picks = self._picks(self._nodes, self._began(kinds))
        work = self._prey.work_of(picks)
        some = np.flatnonzero(work < max(bound[3] for _, bound in kinds))
        some = some[np.argsort(work[some], kind="stable")]
        if not len(some):
            return
        picks, work = picks[some], work[some]
        nodes = self._prey.node[picks]
        alone = self._facts.open[:, nodes] + self._prey.request[:, picks]
        peaks = np.maximum.accumulate(alone, axis=1)
        less = np.searchsorted(work, np.array([bound[3] for _, bound in kinds], work.dtype))
        asks = self._facts.vectors([claim for claim, _ in kinds])
        could = (less > 0) & ((peaks[:, np.maximum(less - 1, 0)] >= asks) | (asks == 0)).all(axis=0)
        for index in np.flatnonzero(could).tolist():
            claim = kinds[index][0]
            fits = self._facts.shape(claim).fits(alone[:, : less[index]])
            yield from self._on(claim, nodes[: less[index]][fits])

    def _began(self, kinds: Sequence[Kind]) -> int | None:
        """Who began earlier loses too much work: each needs so many cpus that it would. None: it may need none."""
        cpus = self._prey.cpus
        if cpus is None:
            return None
        most = int(self._facts.open[cpus].max(initial=0, where=self._nodes))
        least = min(int(self._facts.shape(claim).vector[cpus]) for claim, _ in kinds) - most
        work = max(bound[3] for _, bound in kinds)
        return None if least <= 0 else self._facts.snapshot.now_us - max(work - 1, 0) // least

    # --- several: fewer, or with less work lost ---

    def _by_several(self, kinds: Sequence[Kind], search: Search) -> Iterator[tuple[Claim, int]]:
        """As many victims with less work, each of them less than all; and fewer, where the largest would do."""
        if not kinds:
            return
        some = _Some(self._prey, self._facts.open, self._picks(self._enough(kinds)))
        for claim, bound in kinds:
            shape = self._facts.shape(claim)
            for less in (0, 1):
                rows, market = self._market(some.could(shape, bound, less))
                if len(rows):
                    need = self._need(claim, rows)
                    within = self._facts.within_limits(claim)
                    open_ = np.ones(len(rows), np.bool_) if within is None else within[rows]
                    found = next(search.several(market.wanting(need, bound, open_), less), None)
                    if found is not None:
                        yield claim, int(rows[found])
                        break

    def _enough(self, kinds: Sequence[Kind]) -> Flags:
        """Nodes where all of them together make room for some kind: for what each asks for at least."""
        if self._levels is None:
            return self._nodes
        room, least, nodes = self._sums(self._up_to(self._within)), self._least(kinds), self._nodes
        for resource in np.flatnonzero(least).tolist():
            nodes = nodes & (room[resource] >= least[resource])
        return nodes

    def _least(self, kinds: Sequence[Kind]) -> Plane:
        """`[R]`: what each of these asks for at least."""
        least: Plane = self._facts.vectors([claim for claim, _ in kinds]).min(axis=1)
        return least

    def _need(self, claim: Claim, rows: Picks) -> Plane:
        need = np.zeros((len(self._facts.open), len(rows)), np.int64)
        for resource, amount in self._facts.shape(claim).asks:
            np.maximum(amount - self._facts.open[resource].take(rows), 0, out=need[resource])
        return need

    def _market(self, picks: Picks) -> tuple[Picks, Market]:
        """Some of the victims, and the rows of the nodes that they are on."""
        nodes = self._prey.node.take(picks)
        rows = np.flatnonzero(np.bincount(nodes, minlength=len(self._facts.names)))
        slot = np.full(len(self._facts.names), -1, np.intp)
        slot[rows] = np.arange(len(rows))
        return rows, Market(self._prey, picks, slot[nodes], None, None)


class _Some:
    """Some victims by node, and below what sets of them cost, above what they bring."""

    def __init__(self, prey: Prey, open_: Plane, picks: Picks) -> None:
        self._prey, self._open, self._picks = prey, open_, picks
        self._work = prey.work_of(picks)
        self._rows, self._slots = _compact(prey.node.take(picks), open_.shape[1])
        self._count = np.bincount(self._slots, minlength=len(self._rows))
        self._ends = np.cumsum(self._count)
        self._brings: dict[int, Plane] = {}
        self._shift = max(0, int(self._work.max(initial=0)).bit_length() - BITS)

    def could(self, shape: Shape, bound: Cost, less: int) -> Picks:
        """Those on nodes where not even the sums rule out that as many as the bound counts would do and lose less
        (`less` 0), or one fewer (1); if as many, each of them loses less than the bound.
        """
        many = bound[2] - less
        ends, starts = self._ends, self._ends - self._count
        first = np.maximum(ends - many, starts)
        fine = self._count > 0 if less else self._count >= many
        for resource, amount in shape.asks:
            if resource not in self._brings:
                self._brings[resource] = _rising(self._prey.request[resource].take(self._picks), self._slots)
            sums = self._brings[resource]
            fine &= sums.take(ends) - sums.take(first) + self._open[resource].take(self._rows) >= amount
        if not less:
            last = np.minimum(starts + many, ends)
            fine &= self._losses.take(last) - self._losses.take(starts) <= (bound[3] - 1) >> self._shift
        there = fine.take(self._slots)
        if not less:
            there &= self._work < bound[3]
        return self._picks[there]

    @cached_property
    def _losses(self) -> Plane:
        """Sums of the work lost, the least first, rounded down: see `_rising`."""
        return _rising((self._work >> self._shift).astype(np.int64), self._slots)


def _compact(nodes: Picks, size: int) -> tuple[Picks, Picks]:
    """The rows that there are among these, and of each its place among them."""
    there = np.zeros(size, np.bool_)
    there[nodes] = True
    return np.flatnonzero(there), (np.cumsum(there) - 1).take(nodes)


def _rising(amounts: Plane, slots: Picks) -> Plane:
    """Sums of amounts so far (0 before the first), slot by slot, in each the smallest first."""
    width = int(amounts.max(initial=0)) + 1
    if len(amounts) and width * (int(slots.max()) + 1) < 2**62:
        keys = slots * width + amounts
        keys.sort()
        amounts = keys - np.sort(slots) * width
    else:
        amounts = amounts[np.lexsort((amounts, slots))]
    return np.concatenate([[0], np.cumsum(amounts)])
