"""What room costs on each node for tasks of one kind, in victims: worked out once, then only where something changed.

Of each node first its level: the lowest tier rank, then the lowest priority, up to which all lawful victims together
would make room. Only nodes of the lowest level count, there the least single victim; and where no single one is
enough, the least cover (see `cover`). Covers are looked for lazily: a node has a bound below its cost until its turn
comes, and the node of the lowest bound is looked at first, so that few covers are ever worked out.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter

import numpy as np

from priority.board import Board
from priority.claim import Claim
from priority.cover import Cover, least_cover
from priority.herd import Beast, law_rank
from priority.rules import Mask
from priority.stock import HARD, Picks, Plane

NONE = np.iinfo(np.int64).max
LATER = NONE - 1
"""Of a node's level: not the lowest, and not worked out yet."""

BELOW = 1 - 1e-12
"""Makes a rounded sum a bound."""

ROWS_MIN = 5
"""Fewer nodes than this are priced one by one."""

ROWS_MAX = 200
"""Where more nodes than this have changed, all are priced anew."""

KINDS_MAX = 24
"""So many kinds are remembered at a time."""

Level = tuple[int, int]


def prices(board: Board, claim: Claim) -> Prices | None:
    """The prices for a task's kind as the board is now; None: they cannot be kept here (see `Stock.levels`)."""
    herd = board.herd
    if board.levels is None or not herd.small():
        return None
    own = herd.own(claim)
    key = herd.tier_rank(claim), own, id(board.shape(claim))
    known: Prices | None = board.prices.pop(key, None)
    if known is None:
        while len(board.prices) >= KINDS_MAX:
            del board.prices[next(iter(board.prices))]
        known = Prices(board, claim)
        known.reset()
    board.prices[key] = known
    known.update()
    return known


def few(board: Board, claim: Claim, rows: Iterable[int]) -> tuple[int, tuple[int, ...]] | None:
    """The cheapest victims that make room on one of few nodes, or None; nothing is worked out for the others."""
    kind = Prices(board, claim)
    best: tuple[Level, tuple[int, int], int, tuple[int, ...]] | None = None
    for row in rows:
        found = kind.on(row, None if best is None else best[:2])
        if found is not None and (best is None or (*found[:2], row) < best[:3]):
            best = found[0], found[1], row, found[2]
    return None if best is None else (best[2], best[3])


class Prices:
    """For one kind: a rank, which others of its own role it may take, and a request."""

    def __init__(self, board: Board, claim: Claim) -> None:
        self.board, self.claim = board, claim
        self.shape = board.shape(claim)
        self._rank, self._own = board.herd.tier_rank(claim), board.herd.own(claim)
        self._within_level: tuple[object, Picks, Plane] = None, np.zeros(0, np.intp), np.zeros(0, np.int64)
        """Whose level, as of how long a log; see `_up_to_level`."""

    def reset(self, *, lowest: bool = True) -> None:
        """Price all nodes, from the board as it is now; with `lowest` as far as the cheapest of all needs it."""
        self._seen = len(self.board.log)
        self._levels = self._planes()
        self._know_levels()
        self._codes = self._codes_of(slice(0, len(self.board.names)), lowest=lowest)
        """By node: its level as a place in `_sorted`; NONE: no victims make room."""
        self._lowest = int(self._codes.min(initial=NONE)) if lowest else NONE
        """What is beyond this is LATER, or was worked out since."""
        self._single: Plane | None = None
        """By node: the least work of a single victim that is enough, within the level; NONE: none is."""
        self._bounds: dict[int, list[tuple[int, float, int]]] = {}
        """By level: a heap of nodes, each with a bound below the cost of its cover."""

    # --- questions ---

    def choose(self, mask: Mask) -> tuple[int, tuple[int, ...]] | None:
        """The cheapest victims that make room on one of the nodes, or None."""
        codes = np.where(mask, self._codes, NONE)
        code = int(codes.min(initial=NONE))
        if code > self._lowest:  # of those that are LATER some may be lower
            self.reset(lowest=False)
            codes = np.where(mask, self._codes, NONE)
            code = int(codes.min(initial=NONE))
        if code == NONE:
            return None
        nodes = codes == code
        return self._one(nodes, self._sorted[code]) or self._several(nodes, code)

    def on(
        self, row: int, bound: tuple[Level, tuple[int, int]] | None
    ) -> tuple[Level, tuple[int, int], tuple[int, ...]] | None:
        """The cheapest victims on one node: their level, how many and the work lost, and who; if at most `bound`."""
        prey, need = self._prey(row), self._need(row)
        level = self._level(prey, need)
        if level is None or (bound is not None and level > bound[0]):
            return None
        within = [one for one in prey if one.rank <= level[0] and one.priority <= level[1]]
        alone = [one for one in within if self._covers(one, need)]
        if alone:
            best = min(alone, key=BY_WORK)
            return level, (1, best.work), (best.place,)
        cover = self._cover(row, level, bound[1] if bound is not None and bound[0] == level else None)
        return None if cover is None else (level, cover.cost, cover.items)

    # --- levels ---

    def _planes(self) -> dict[Level, Plane]:
        board, claim = self.board, self.claim
        herd = board.herd
        rank = herd.tier_rank(claim)
        planes = {level: plane for level, plane in (board.levels or {}).items() if law_rank(level[0]) < rank}
        if herd.own(claim) is not None:
            mine = np.flatnonzero(herd.alive & herd.lawful(claim) & (herd.tier_ranks == rank))
            for level in _levels(herd.rank[mine], herd.priority[mine]):
                some = mine[(herd.rank[mine] == level[0]) & (herd.priority[mine] == level[1])]
                plane = np.zeros_like(board.total)
                np.add.at(plane, herd.node[some], herd.request[some])
                planes[level] = plane
        return planes

    def _know_levels(self) -> None:
        self._ranks = sorted({rank for rank, _ in self._levels})
        self._priorities = sorted({priority for _, priority in self._levels})
        self._sorted = [(rank, priority) for rank in self._ranks for priority in self._priorities]
        self._code = {level: code for code, level in enumerate(self._sorted)}
        self._up_to = (
            np.array([rank for rank, _ in self._sorted] + [-HARD]),
            np.array([priority for _, priority in self._sorted] + [-HARD]),
        )

    def _codes_of(self, rows: Picks | slice, *, lowest: bool = False) -> Plane:
        """The codes of some nodes; with `lowest` LATER of those that are not of the lowest."""
        left = np.ones(len(self.board.total[rows, 0]), np.bool_)
        codes = np.full(len(left), NONE)
        if len(self._ranks) == 1:
            self._code_rank(self._ranks[0], codes, None, rows, lowest=lowest)
            return codes
        sums = [np.zeros(len(codes), np.int64) for _ in self.shape.columns]
        for rank in self._ranks:
            mine = [level for level in self._levels if level[0] == rank]
            enough = self._enough(sums, mine, rows) & left
            if enough.any():
                self._code_rank(rank, codes, enough, rows, lowest=lowest)
                left &= ~enough
                if lowest or not left.any():
                    codes[left] = LATER
                    break
        return codes

    def _code_rank(
        self, rank: int, codes: Plane, nodes: Mask | None, rows: Picks | slice, *, lowest: bool = False
    ) -> None:
        """Set the codes of nodes of which the lowest rank that suffices is known; None: it may not suffice."""
        left = np.ones(len(codes), np.bool_) if nodes is None else nodes.copy()
        sums = [np.zeros(len(codes), np.int64) for _ in self.shape.columns]
        priorities = self._priorities
        for priority in priorities if nodes is None else priorities[:-1]:
            mine = [level for level in self._levels if level[0] <= rank and level[1] == priority]
            if mine:
                enough = self._enough(sums, mine, rows) & left
                codes[enough] = self._code[rank, priority]
                left &= ~enough
                if lowest and enough.any():
                    codes[left] = LATER
                    return
        if nodes is not None:
            codes[left] = self._code[rank, priorities[-1]]

    def _enough(self, sums: list[Plane], levels: Iterable[Level], rows: Picks | slice) -> Mask:
        """Add these levels to the sums; where they make room."""
        mask: Mask | None = None
        for level in levels:
            for total, column in zip(sums, self.shape.columns, strict=True):
                np.add(total, self._levels[level][rows, column], out=total)
        for total, column, size in zip(sums, self.shape.columns, self.shape.sizes, strict=True):
            room = self.board.total[rows, column]
            enough = (total + room >= size) | (room >= size)
            mask = enough if mask is None else mask & enough
        return np.ones(len(self.board.total[rows, 0]), np.bool_) if mask is None else mask

    # --- one victim ---

    def _one(self, nodes: Mask, level: Level) -> tuple[int, tuple[int, ...]] | None:
        if self._single is None:
            found = self._first_single(nodes, level)
            self._single = np.zeros(0, np.int64)
            return found
        if not len(self._single):
            self._single = self._all_singles()
        works = np.where(nodes, self._single, NONE)
        least = int(np.argmin(works))
        if works[least] == NONE:
            return None
        need = self._need(least)
        alone = [one for one in self._prey(least, level) if self._covers(one, need)]
        best = min(alone, key=BY_WORK)
        return least, (best.place,)

    def _alone(self, nodes: Mask | None) -> Mask:
        """`[K]`: lawful victims that are enough alone, on these nodes."""
        herd, board = self.board.herd, self.board
        flags = herd.lawful(self.claim) & herd.alive
        out = None if nodes is None or nodes.all() else ~nodes
        for column, size in zip(self.shape.columns, self.shape.sizes, strict=True):
            need = np.maximum(size - board.total[:, column], 0)
            if out is not None:
                need[out], out = HARD, None
            if need.min(initial=HARD) > herd.largest(column):
                return np.zeros(len(flags), np.bool_)
            flags &= herd.request[:, column] >= herd.needs(need)
        if out is not None:
            flags &= ~out.take(herd.node)
        return flags

    def _first_single(self, nodes: Mask, level: Level) -> tuple[int, tuple[int, ...]] | None:
        herd, total = self.board.herd, self.board.total
        picks, works = self._up_to_level(level)
        if not len(picks):
            return None
        least = picks[works == works.min()]
        if len(least) == 1:  # mostly that one will do
            place = int(least[0])
            row = int(herd.node[place])
            asks = zip(self.shape.columns, self.shape.sizes, strict=True)
            if nodes[row] and all(
                herd.request.item(place, column) >= size - total.item(row, column) for column, size in asks
            ):
                return row, (place,)
        where = herd.node[picks]
        flags = nodes[where]
        for column, size in zip(self.shape.columns, self.shape.sizes, strict=True):
            need = np.maximum(size - total[:, column], 0)
            if need.min(initial=HARD) > herd.largest(column):
                return None
            flags &= herd.request[picks, column] >= need[where]
        some = np.flatnonzero(flags)
        if not len(some):
            return None
        works = works[some]
        best = min(picks[some[works == works.min()]].tolist(), key=lambda one: (herd.node[one], herd.key(one)))
        return int(herd.node[best]), (best,)

    def _up_to_level(self, level: Level) -> tuple[Picks, Plane]:
        """Who may be taken, up to a level, and the work lost with each."""
        board, herd = self.board, self.board.herd
        known = level, len(board.log)
        if self._within_level[0] != known:
            if board.mercy is None and self._own is None:
                levels = [one for one in self._levels if one[0] <= level[0] and one[1] <= level[1]]
                picks = herd.of_levels(levels)
                picks = picks[herd.alive[picks]] if board.killed else picks
            else:
                flags = herd.lawful(self.claim) & herd.alive
                picks = np.flatnonzero(flags & (herd.rank <= level[0]) & (herd.priority <= level[1]))
            self._within_level = known, picks, herd.works_of(picks)
        return self._within_level[1:]

    def _all_singles(self) -> Plane:
        herd = self.board.herd
        works = herd.works()
        assert works is not None
        picks = np.flatnonzero(self._alone(None))
        single = np.full(len(self._codes), NONE)
        picks = self._within(picks)
        np.minimum.at(single, herd.node[picks], works[picks])
        return single

    def _within(self, picks: Picks) -> Picks:
        """Those that are within the level of their node."""
        if len(self._sorted) < 2:
            return picks
        herd, (ranks, priorities) = self.board.herd, self._up_to
        code = np.minimum(self._codes[herd.node[picks]], len(self._sorted))
        return picks[(herd.rank[picks] <= ranks[code]) & (herd.priority[picks] <= priorities[code])]

    # --- several victims ---

    def _several(self, nodes: Mask, code: int) -> tuple[int, tuple[int, ...]] | None:
        """The least cover; its node is the first of equals."""
        heap = self._bounds.get(code)
        if heap is None:
            heap = self._bounds[code] = self._bound_all(np.flatnonzero(self._codes == code), self._sorted[code])
        aside: list[tuple[int, float, int]] = []
        best: tuple[tuple[int, int], int, Cover] | None = None
        seen: set[int] = set()
        while heap:
            count, work, row = heap[0]
            if best is not None and (count, work) > best[0]:
                break
            heapq.heappop(heap)
            if row in seen or self._codes[row] != code:
                continue
            seen.add(row)
            if not nodes[row]:
                aside.append((count, work, row))
                continue
            cover = self._cover(row, self._sorted[code], None if best is None else best[0])
            if cover is not None:
                count, work = len(cover.items), cover.work * BELOW
                if best is None or (cover.cost, row) < best[:2]:
                    best = cover.cost, row, cover
            aside.append((count, work, row))
        for entry in aside:
            heapq.heappush(heap, entry)
        return None if best is None else (best[1], best[2].items)

    def _bound_all(self, rows: Picks, level: Level) -> list[tuple[int, float, int]]:
        """Below what its cover costs, of each node: at least so many victims, and at least so much work."""
        herd = self.board.herd
        wanted = np.zeros(len(self._codes), np.bool_)
        wanted[rows] = True
        picks, works = self._up_to_level(level)
        some = wanted[herd.node[picks]]
        picks, works = picks[some], works[some]
        where = herd.node[picks]
        if (where[1:] < where[:-1]).any():
            order = np.argsort(where, kind="stable")
            picks, works, where = picks[order], works[order], where[order]
        starts = np.searchsorted(where, rows)
        counts = np.searchsorted(where, rows, side="right") - starts
        width = int(counts.max(initial=1))
        slots = np.minimum(starts[:, np.newaxis] + np.arange(width), max(len(picks) - 1, 0))
        absent = np.arange(width) >= counts[:, np.newaxis]
        there = picks[slots]
        fewest = np.ones(len(rows), np.int64)
        for column, size in zip(self.shape.columns, self.shape.sizes, strict=True):
            amounts = np.where(absent, 0, herd.request[there, column])
            amounts.sort(axis=1)
            reach = np.cumsum(amounts[:, ::-1], axis=1)
            need = size - self.board.total[rows, column]
            fewest = np.maximum(fewest, 1 + (reach < need[:, np.newaxis]).sum(axis=1))
        least = np.where(absent, np.inf, works.astype(np.float64)[slots])
        least.sort(axis=1)
        sums = np.cumsum(least, axis=1)[np.arange(len(rows)), np.minimum(fewest, width) - 1] * BELOW
        heap = list(zip(fewest.tolist(), sums.tolist(), rows.tolist(), strict=True))
        heapq.heapify(heap)
        return heap

    def _cover(self, row: int, level: Level, bound: tuple[int, int] | None) -> Cover | None:
        """The least cover on a node, if it may cost at most `bound`."""
        prey = self._prey(row, level)
        prey.sort(key=lambda one: (one.rank, one.priority, one.work, one.id))
        need = self._need(row)
        key = row, tuple(one.place for one in prey), self.shape.columns, need
        limit = None if bound is None else (bound[0], bound[1] + 1)
        known = self.board.covers.get(key)
        if known is not None:
            cover, tried = known
            if cover is not None or tried is None or (limit is not None and limit <= tried):
                return cover
        amounts = [[one.request[column] for column in self.shape.columns] for one in prey]
        found = least_cover(amounts, [one.work for one in prey], need, limit, self.board.effort)
        cover = None if found is None else Cover(tuple(prey[item].place for item in found.items), found.work)
        self.board.covers[key] = cover, limit
        return cover

    # --- one node ---

    def _need(self, row: int) -> tuple[int, ...]:
        room = self.board.total[row].tolist()
        pairs = zip(self.shape.columns, self.shape.sizes, strict=True)
        return tuple(max(size - room[column], 0) for column, size in pairs)

    def _prey(self, row: int, level: Level | None = None) -> list[Beast]:
        """Who may be taken on a node, up to a level."""
        board, rank, own = self.board, self._rank, self._own
        alive = board.herd.alive
        found = []
        for one in board.beasts_on(row):
            if (
                alive[one.place]
                and (one.soft < rank or (own is not None and one.owner == own[:2] and one.priority < own[2]))
                and (level is None or (one.rank <= level[0] and one.priority <= level[1]))
            ):
                found.append(one)
        return found

    def update(self) -> None:
        """Bring what has changed on the board since the last time into the prices."""
        log = self.board.log
        if self._seen == len(log):
            return
        rows = set(log[self._seen :])
        self._seen = len(log)
        if len(rows) > ROWS_MAX:
            self.reset()
        elif len(rows) >= ROWS_MIN and self._own is None:
            self._price_rows(np.fromiter(rows, np.intp, len(rows)))
        elif not all(self._price(row) for row in rows):
            self.reset()

    def _price_rows(self, rows: Picks) -> None:
        board, herd = self.board, self.board.herd
        self._levels = {level: plane for level, plane in (board.levels or {}).items() if level in self._levels}
        codes = self._codes[rows] = self._codes_of(rows)
        if self._single is not None and len(self._single):
            works = herd.works()
            assert works is not None
            picks = np.concatenate([board.places_on(row) for row in rows.tolist()])
            flags = herd.lawful(self.claim)[picks] & herd.alive[picks]
            nodes = herd.node[picks]
            for column, size in zip(self.shape.columns, self.shape.sizes, strict=True):
                flags &= herd.request[picks, column] >= np.maximum(size - board.total[nodes, column], 0)
            picks = self._within(picks[flags])
            self._single[rows] = NONE
            np.minimum.at(self._single, herd.node[picks], works[picks])
        if self._bounds:
            for row, code in zip(rows.tolist(), codes.tolist(), strict=True):
                if code in self._bounds:
                    heapq.heappush(self._bounds[code], (1, 0.0, row))

    def _price(self, row: int) -> bool:
        """False: of a level that was not there."""
        prey, need = self._prey(row), self._need(row)
        level = self._level(prey, need)
        if level is not None and level not in self._code:
            return False
        code = NONE if level is None else self._code[level]
        self._codes[row] = code
        if self._single is not None and len(self._single):
            single = NONE
            if level is not None:
                within = [one for one in prey if one.rank <= level[0] and one.priority <= level[1]]
                single = min((one.work for one in within if self._covers(one, need)), default=NONE)
            self._single[row] = single
        if code in self._bounds:
            heapq.heappush(self._bounds[code], (1, 0.0, row))
        return True

    def _covers(self, one: Beast, need: Sequence[int]) -> bool:
        return all(one.request[column] >= lack for column, lack in zip(self.shape.columns, need, strict=True))

    def _level(self, prey: list[Beast], need: Sequence[int]) -> Level | None:
        """The lowest rank, then the lowest priority, up to which they suffice together."""
        prey.sort(key=BY_RANK)
        rank = self._first(prey, need, BY_RANK)
        if rank is None:
            return None
        some = sorted((one for one in prey if one.rank <= rank), key=BY_PRIORITY)
        priority = self._first(some, need, BY_PRIORITY)
        assert priority is not None
        return rank, priority

    def _first(self, prey: Sequence[Beast], need: Sequence[int], value: Callable[[Beast], int]) -> int | None:
        """The value of the last one that is needed, if all of them are enough."""
        left, columns = list(need), self.shape.columns
        if not any(left):
            return None
        for one in prey:
            left = [lack - one.request[column] for lack, column in zip(left, columns, strict=True)]
            if max(left) <= 0:
                return value(one)
        return None


def _levels(ranks: Plane, priorities: Plane) -> list[Level]:
    return [
        (rank, priority)
        for rank in np.unique(ranks).tolist()
        for priority in np.unique(priorities[ranks == rank]).tolist()
    ]


BY_RANK, BY_PRIORITY = attrgetter("rank"), attrgetter("priority")
BY_WORK = attrgetter("work", "rank", "priority", "id")
