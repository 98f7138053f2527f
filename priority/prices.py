"""What room costs on each node for tasks of one kind, in victims: worked out once, then only where something changed.

Of each node first its level: the lowest tier rank, then the lowest priority, up to which all lawful victims together
would make room. Only nodes of the lowest level count, there the least single victim; and where no single one is
enough, the least cover (see `cover`). Covers are looked for lazily: a node has a bound below its cost (`reach`) until
its turn comes, and the node of the lowest bound is looked at first, so that few covers are ever worked out.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from operator import attrgetter

import numpy as np

from priority.board import Board
from priority.claim import Claim
from priority.cover import Cover, least_cover
from priority.herd import Beast, law_rank
from priority.reach import BELOW, Bound, Bounds, Reach
from priority.rules import Mask
from priority.stock import HARD, Flags, Picks, Plane

NONE = np.iinfo(np.int64).max
LATER = NONE - 1
"""Of a node's level: not the lowest, and not worked out yet."""

ROWS_MIN = 5
"""Fewer nodes than this are priced one by one."""

ROWS_MAX = 200
"""Where more nodes than this have changed, all are priced anew."""

NEAR = 64
"""A single victim on no more nodes than this is looked for there, else among all of its level."""

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
        self._bounds: dict[int, Bounds] = {}
        """By level: its nodes."""

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

    def _codes_of(self, rows: Picks | slice, *, lowest: bool = False) -> Plane:
        """The codes of some nodes; with `lowest` LATER of those that are not of the lowest."""
        room = [self.board.total[rows, column] for column in self.shape.columns]
        if len(self._ranks) == 1:
            return self._code_rank(self._ranks[0], None, rows, room, lowest=lowest)
        sums, size = list(room), len(self.board.total[rows, 0])
        left, codes = np.ones(size, np.bool_), np.full(size, NONE)
        for rank in self._ranks:
            enough = left & self._enough(sums, [level for level in self._levels if level[0] == rank], rows)
            if enough.any():
                found = self._code_rank(rank, enough, rows, room, lowest=lowest)
                codes[enough] = found[enough]
                left &= ~enough
                if lowest or not left.any():
                    codes[left] = LATER
                    break
        return codes

    def _code_rank(
        self, rank: int, nodes: Mask | None, rows: Picks | slice, room: Sequence[Plane], *, lowest: bool = False
    ) -> Plane:
        """The codes of nodes of which the lowest rank that suffices is known; None: it may not suffice."""
        sums, priorities, codes, left = list(room), self._priorities, None, nodes
        for priority in priorities if nodes is None else priorities[:-1]:
            mine = [level for level in self._levels if level[0] <= rank and level[1] == priority]
            if not mine:
                continue
            enough = self._enough(sums, mine, rows)
            if left is not None:
                enough &= left
            if lowest and enough.any():
                return np.where(enough, self._code[rank, priority], LATER)
            codes = np.full(len(enough), NONE) if codes is None else codes
            codes[enough] = self._code[rank, priority]
            left = ~enough if left is None else left & ~enough
        if codes is None:
            codes = np.full(len(self.board.total[rows, 0]), NONE)
        if nodes is not None:
            codes[left] = self._code[rank, priorities[-1]]
        return codes

    def _enough(self, sums: list[Plane], levels: Iterable[Level], rows: Picks | slice) -> Mask:
        """Add these levels to the sums, which begin as the room; where there is enough."""
        mask: Mask | None = None
        for place, (column, size) in enumerate(zip(self.shape.columns, self.shape.sizes, strict=True)):
            for level in levels:
                sums[place] = sums[place] + self._levels[level][rows, column]
            enough = sums[place] >= size
            mask = enough if mask is None else np.logical_and(mask, enough, out=mask)
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
        needs, could = [], nodes
        for column, size in zip(self.shape.columns, self.shape.sizes, strict=True):
            needs.append(size - total[:, column])
            could = could & (needs[-1] <= herd.largest(column))
        rows = np.flatnonzero(could)
        if not len(rows):
            return None
        if len(rows) <= NEAR:
            return self._least(
                np.concatenate([self.board.places_on(row) for row in rows.tolist()]), level, could, needs
            )
        if self.board.mercy is None and self._own is None:
            places, beyond = herd.front(self._levels_up_to(level))
            found = self._least(places, level, could, needs)
            if found is not None and herd.work(found[1][0]) < beyond:
                return found
            if found is not None:
                herd.front(self._levels_up_to(level), anew=True)  # for the next one
        return self._least(self._picks(level), None, could, needs)

    def _least(
        self, picks: Picks, level: Level | None, nodes: Mask, needs: Sequence[Plane]
    ) -> tuple[int, tuple[int, ...]] | None:
        """Of some that are enough alone the one with the least work lost; None as a level: they are all within it."""
        herd = self.board.herd
        where = herd.node.take(picks)
        mine = nodes.take(where)
        for column, need in zip(self.shape.columns, needs, strict=True):
            mine &= herd.request[:, column].take(picks) >= need.take(where)
        picks = picks[mine]
        picks = picks[herd.alive.take(picks)]
        if level is not None:
            lawful = herd.lawful(self.claim).take(picks)
            picks = picks[lawful & (herd.rank.take(picks) <= level[0]) & (herd.priority.take(picks) <= level[1])]
        if not len(picks):
            return None
        works = herd.works_of(picks)
        equal = picks[works == works.min()].tolist()
        best = equal[0] if len(equal) == 1 else min(equal, key=lambda one: (herd.node[one], herd.key(one)))
        return herd.node.item(best), (best,)

    def _picks(self, level: Level) -> Picks:
        """The same as `_up_to_level`, as places."""
        key = "picks", self._key(level)
        picks: Picks | None = self.board.within.get(key)
        if picks is None:
            picks = self.board.within[key] = np.flatnonzero(self._up_to_level(level))
        return picks

    def _up_to_level(self, level: Level) -> Flags:
        """`[K]`: who could ever be taken in this round, up to a level."""
        board, herd = self.board, self.board.herd
        key = "flags", self._key(level)
        flags: Flags | None = board.within.get(key)
        if flags is None:
            if board.mercy is None and self._own is None:
                flags = herd.of_levels(self._levels_up_to(level))
            else:
                flags = herd.lawful(self.claim) & (herd.rank <= level[0]) & (herd.priority <= level[1])
            board.within[key] = flags
        return flags

    def _levels_up_to(self, level: Level) -> tuple[Level, ...]:
        return tuple(one for one in self._levels if one[0] <= level[0] and one[1] <= level[1])

    def _key(self, level: Level) -> Hashable:
        if self.board.mercy is None and self._own is None:
            return self._levels_up_to(level)
        return level, self._rank, self._own

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
        herd = self.board.herd
        ranks, priorities = (np.array([*values, -HARD]) for values in zip(*self._sorted, strict=True))
        code = np.minimum(self._codes[herd.node[picks]], len(self._sorted))
        return picks[(herd.rank[picks] <= ranks[code]) & (herd.priority[picks] <= priorities[code])]

    # --- several victims ---

    def _several(self, nodes: Mask, code: int) -> tuple[int, tuple[int, ...]] | None:
        """The least cover; its node is the first of equals."""
        bounds = self._bounds.get(code)
        if bounds is None:
            bounds = self._bounds[code] = self._bound_all(np.flatnonzero(self._codes == code), self._sorted[code])
        aside: list[Bound] = []
        best: tuple[tuple[int, int], int, Cover] | None = None
        seen: set[int] = set()
        while (lowest := bounds.lowest()) is not None:
            count, work, row = lowest
            if best is not None and (count, work) > best[0]:
                break
            bounds.pop()
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
            bounds.push(entry)
        return None if best is None else (best[1], best[2].items)

    def _bound_all(self, rows: Picks, level: Level) -> Bounds:
        """Below what its cover costs, of each node."""
        key = "reach", self._key(level)
        reach: Reach | None = self.board.within.get(key)
        if reach is None:
            board, herd = self.board, self.board.herd
            flags = self._up_to_level(level)
            reach = board.within[key] = Reach(herd.node, len(board.names), herd.request, flags, herd.works_of)
        room = self.board.total
        pairs = zip(self.shape.columns, self.shape.sizes, strict=True)
        return reach.bounds(rows, self.shape.columns, [size - room[:, column].take(rows) for column, size in pairs])

    def _cover(self, row: int, level: Level, bound: tuple[int, int] | None) -> Cover | None:
        """The least cover on a node, if it may cost at most `bound`."""
        herd, columns = self.board.herd, self.shape.columns
        there = self.board.places_on(row)
        some = herd.alive[there] & herd.lawful(self.claim)[there]
        some &= (herd.rank[there] <= level[0]) & (herd.priority[there] <= level[1])
        there = there[some]
        works = herd.works_of(there)
        order = np.lexsort((works, herd.priority[there], herd.rank[there]))
        there = there[order]
        need = self._need(row)
        key = row, there.tobytes(), columns, need
        limit = None if bound is None else (bound[0], bound[1] + 1)
        known = self.board.covers.get(key)
        if known is not None:
            cover, tried = known
            if cover is not None or tried is None or (limit is not None and limit <= tried):
                return cover
        amounts = herd.request[there][:, columns].tolist()
        found = least_cover(amounts, works[order].tolist(), need, limit, self.board.effort)
        cover = None if found is None else Cover(tuple(there[list(found.items)].tolist()), found.work)
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
                    self._bounds[code].push((1, 0.0, row))

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
            self._bounds[code].push((1, 0.0, row))
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
