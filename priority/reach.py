"""Below what the least cover of a node costs: what the largest of its tasks bring, what the cheapest of them cost.

Worked out from all running tasks of some levels, once in a round, of each node when it is first asked for. Who of them
is a victim by now is not looked at: with fewer to choose from a cover only costs more.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from priority.stock import Flags, Picks, Plane

DEPTH = 16
"""So many victims are counted; where more are needed, the bound is that of one more."""

CELLS_MAX = 2_000_000
"""Tasks of so many nodes, times those of the fullest, are sorted at a time."""

LOADED = 32
"""So many nodes are brought into order at a time."""

BELOW = 1 - 1e-12
"""Makes a rounded sum a bound."""

Floats = npt.NDArray[np.float64]
Works = Callable[[Picks], Plane]
"""The work that is lost with each of some places; of -1 whatever it be."""
Bound = tuple[int, float, int]
"""At least so many victims, and at least so much work lost, on the node of this row."""


class Reach:
    """Of some of `K` tasks, `flags`: their nodes, of which there are so many, what they ask for, `[K, R]`, and the work
    that is lost with those that one names.
    """

    def __init__(self, node: Picks, nodes: int, request: Plane, flags: Flags, works: Works) -> None:
        self._node, self._request, self._flags, self._works = node, request, flags, works
        self._blocks: list[_Block] = []
        self._block: Picks = np.full(nodes, -1, np.intp)
        """Of each node the block that it is in; -1: it was not asked for."""
        self._slot: Picks = np.zeros(nodes, np.intp)
        """And its place there."""

    def bounds(self, rows: Picks, columns: Sequence[int], needs: Sequence[Plane]) -> Bounds:
        """Of some nodes, ascending: so much is needed there of these columns."""
        unknown = rows[self._block[rows] < 0]
        if len(unknown):
            self._know(unknown)
        fewest = np.ones(len(rows), np.int64)
        for block, mine in self._by_block(rows):
            for column, need in zip(columns, needs, strict=True):
                many = block.fewest(column, self._slot.take(rows[mine]), need[mine])
                fewest[mine] = np.maximum(fewest[mine], many)
        return Bounds(self, rows, fewest)

    def costs(self, rows: Picks, many: int) -> Floats:
        """Of some nodes less than the work that is lost with so many."""
        costs = np.zeros(len(rows))
        for block, mine in self._by_block(rows):
            costs[mine] = block.cost(self._slot[rows[mine]], many, self._works)
        return costs * BELOW

    def _by_block(self, rows: Picks) -> Iterator[tuple[_Block, Flags | slice]]:
        if len(self._blocks) == 1:
            yield self._blocks[0], slice(None)
            return
        blocks = self._block[rows]
        for block in np.unique(blocks).tolist():
            yield self._blocks[block], blocks == block

    def _know(self, rows: Picks) -> None:
        wanted = np.zeros(len(self._block), np.bool_)
        wanted[rows] = True
        flags = wanted.take(self._node, mode="clip")
        flags &= self._flags
        picks = np.flatnonzero(flags)
        nodes = self._node.take(picks)
        if (nodes[1:] < nodes[:-1]).any():
            order = np.argsort(nodes, kind="stable")
            picks, nodes = picks[order], nodes[order]
        counts = np.bincount(nodes, minlength=len(wanted))[rows]
        if int(counts.max(initial=0)) * len(rows) <= CELLS_MAX:
            self._add(rows, counts, picks)
            return
        order = np.argsort(counts, kind="stable")  # so that a few that are very full make none of the others wide
        ends = np.cumsum(counts)
        while len(order):
            step = max(1, min(len(order), CELLS_MAX // max(1, int(counts[order[-1]]))))
            some, order = np.sort(order[-step:]), order[:-step]
            there = [picks[ends[one] - counts[one] : ends[one]] for one in some.tolist()]
            self._add(rows[some], counts[some], np.concatenate(there))

    def _add(self, rows: Picks, counts: Picks, picks: Picks) -> None:
        self._block[rows] = len(self._blocks)
        self._slot[rows] = np.arange(len(rows))
        self._blocks.append(_Block(self._request, counts, picks))


class _Block:
    """Some nodes: how many of the herd are on each, and who, node by node."""

    def __init__(self, request: Plane, counts: Picks, picks: Picks) -> None:
        self._request = request
        self._shape = len(counts), max(1, int(counts.max(initial=0)))
        starts = np.arange(len(counts)) * self._shape[1] - (np.cumsum(counts) - counts)
        self._cells = np.repeat(starts, counts) + np.arange(len(picks))
        """Of each of them its cell in a table with a line for each node."""
        self._picks = picks
        self._there: Picks | None = None
        self._brings: dict[int, list[Plane]] = {}
        """Of a resource what the largest one, two, ... bring together, of all nodes."""

    def fewest(self, column: int, slots: Picks, need: Plane) -> Plane:
        """At least so many are needed of one resource."""
        lines = self._brings.get(column)
        if lines is None:
            lines = self._brings[column] = self._sorted(column)
        many = np.ones(len(slots), np.int64)
        for brings in lines:
            short = brings.take(slots) < need
            if not short.any():
                break
            many += short
        return many

    def _sorted(self, column: int) -> list[Plane]:
        amounts = np.zeros(self._shape[0] * self._shape[1], np.int64)
        amounts[self._cells] = self._request[:, column].take(self._picks)
        amounts = amounts.reshape(self._shape)
        amounts.sort(axis=1)
        lines = [amounts[:, -1].copy()]
        for rank in range(2, min(DEPTH, self._shape[1]) + 1):
            lines.append(lines[-1] + amounts[:, -rank])
        return lines

    def cost(self, slots: Picks, many: int, works: Works) -> Floats:
        """The least work that is lost with so many of those on each of some nodes."""
        if self._there is None:
            self._there = np.full(self._shape[0] * self._shape[1], -1, np.intp)
            self._there[self._cells] = self._picks
            self._there = self._there.reshape(self._shape)
        there = self._there.take(slots, axis=0)
        costs = works(there).astype(np.float64)
        costs[there < 0] = np.inf
        costs.sort(axis=1)
        return np.asarray(costs[:, : min(many, DEPTH)].sum(axis=1))


def lowest_first(
    picks: Picks, node: Picks, rows: Picks, needs: Sequence[tuple[Plane, Plane]], works: Works
) -> Iterator[Bound] | None:
    """The same bounds as those of `Reach`, of some nodes once: the lowest first. None: there are too many tasks.

    Of all places their `node`, and the `picks` of them that count. For each of some resources what all places ask for,
    and what is needed on each of the `rows`.
    """
    slot = np.full(int(node.max(initial=0)) + 1, -1, np.intp)
    slot[rows[rows < len(slot)]] = np.arange(len(rows))
    line = slot.take(node.take(picks))
    picks, line = picks[line >= 0], line[line >= 0]
    if (line[1:] < line[:-1]).any():
        order = np.argsort(line, kind="stable")
        picks, line = picks[order], line[order]
    counts = np.bincount(line, minlength=len(rows))
    width = int(counts.max(initial=1))
    if width * len(rows) > CELLS_MAX:
        return None
    cells = np.arange(len(picks)) + np.repeat(np.arange(len(rows)) * width - (np.cumsum(counts) - counts), counts)
    fewest = np.ones(len(rows), np.int64)
    for request, need in needs:
        flat = np.zeros(len(rows) * width, np.int64)
        flat[cells] = request.take(picks)
        amounts = flat.reshape(-1, width)
        amounts.sort(axis=1)
        brings = np.cumsum(amounts[:, : -DEPTH - 1 : -1], axis=1)
        np.maximum(fewest, (brings < need[:, np.newaxis]).sum(axis=1) + 1, out=fewest)
    costs = np.full(len(rows) * width, np.inf)
    costs[cells] = works(picks)
    return _in_order(rows, fewest, costs.reshape(-1, width))


def _in_order(rows: Picks, fewest: Plane, costs: Floats) -> Iterator[Bound]:
    for count in np.unique(fewest).tolist():
        mine = np.flatnonzero(fewest == count)
        some = costs[mine]
        some.sort(axis=1)
        work = some[:, : min(count, DEPTH)].sum(axis=1) * BELOW
        first = np.argpartition(work, LOADED)[:LOADED] if len(work) > LOADED else np.arange(len(work))
        rest = np.ones(len(work), np.bool_)
        rest[first] = False
        for part in (first, rest):
            order = np.argsort(work[part], kind="stable")
            for cost, row in zip(work[part][order].tolist(), rows[mine[part]][order].tolist(), strict=True):
                yield count, cost, row


class Bounds:
    """Nodes, the one of the lowest bound first. Those that nobody has come to are not in order."""

    def __init__(self, reach: Reach, rows: Picks, fewest: Plane) -> None:
        self._reach, self._rows, self._fewest = reach, rows, fewest
        self._heap: list[Bound] = []
        self._open: tuple[int, Picks, Floats] = 0, rows[:0], np.zeros(0)
        """Nodes of the least number that are not in the heap, and the least work."""
        self._next: tuple[int, float] | None = 0, 0.0
        """The lowest bound of what is not in the heap; None: there is nothing."""
        self._advance()

    def lowest(self) -> Bound | None:
        """The lowest bound; None: there is no node."""
        heap = self._heap
        while self._next is not None and (not heap or heap[0][:2] >= self._next):
            self._load()
        return heap[0] if heap else None

    def pop(self) -> Bound:
        """Take out the lowest, which `lowest` has answered."""
        return heapq.heappop(self._heap)

    def push(self, bound: Bound) -> None:
        """One more, which may be of a node that is there already."""
        heapq.heappush(self._heap, bound)

    def _advance(self) -> None:
        count, rows, work = self._open
        if not len(rows) and len(self._rows):
            count = int(self._fewest.min())
            mine = self._fewest == count
            rows = self._rows[mine]
            work = self._reach.costs(rows, count)
            self._rows, self._fewest = self._rows[~mine], self._fewest[~mine]
        self._open = count, rows, work
        self._next = (count, float(work.min())) if len(rows) else None

    def _load(self) -> None:
        count, rows, work = self._open
        rest = np.ones(len(rows), np.bool_)
        mine = np.argpartition(work, LOADED)[:LOADED] if len(rows) > LOADED else np.arange(len(rows))
        for cost, row in zip(work[mine].tolist(), rows[mine].tolist(), strict=True):
            heapq.heappush(self._heap, (count, cost, row))
        rest[mine] = False
        self._open = count, rows[rest], work[rest]
        self._advance()
