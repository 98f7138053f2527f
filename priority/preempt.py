"""Whom to displace: the least important victims that make room, by the contract's order of cost.

    1. the highest victim tier rank      least first
    2. the highest victim priority       over all of them
    3. how many
    4. the work lost                     milli-cores times microseconds, exact

For one task: the lowest rank, then the lowest priority, up to which all lawful victims together would make room
on some node (sums by node; one pass for each rank, a bisection over priorities); then the best single victim in
one pass; else the least cover (see `cover`) of each node that is left. For a gang the first two steps are
the same with a packing of the whole gang. Then its members are spread over the nodes one by one, each where it is
cheapest beside those before it; and where there are few nodes and members, by branch and bound: the cost of a spread is
the sum over its nodes, and only grows as members are added.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from priority import within
from priority.board import Board
from priority.claim import Claim
from priority.cover import Cover, least_cover
from priority.fairness import Unit
from priority.herd import Picks
from priority.place import pack, same
from priority.prices import few, prices
from priority.rules import Mask
from priority.snapshot import Plane

FEW = 16
"""Of no more nodes than this each is looked at by itself."""

STEPS_MAX = 1_000
"""How many covers the search for the cheapest spread of a gang looks at."""

SPREADS_MAX = 400
"""With more members times nodes than this, that search is not begun."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Where each task goes, and the victims (places in the herd) by node."""

    places: list[tuple[Claim, int]]
    victims: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def all_victims(self) -> list[int]:
        """On whatever node."""
        return [victim for victims in self.victims.values() for victim in victims]


def cheapest(board: Board, unit: Unit, only: Mask | None = None) -> Choice | None:
    """The cheapest victims for a unit that has no room without any, or None; `only` narrows a single task's nodes."""
    choice = _by_law(board, unit, only)
    if choice is None or board.mercy is None or unit.gang is not None or _affords(board, choice):
        return choice
    claim = unit.members[0]
    found = within.cheapest(board, claim, board.allowed(claim) if only is None else board.allowed(claim) & only)
    return None if found is None else Choice([(claim, found[0])], {found[0]: found[1]})


def _affords(board: Board, choice: Choice) -> bool:
    """Whether its victims are within the budgets that policy sets."""
    return board.mercy is None or board.mercy.affords(list(_takers(board, choice)), board.killed)


def _by_law(board: Board, unit: Unit, only: Mask | None) -> Choice | None:
    if unit.gang is not None:
        return _cheapest_gang(board, unit)
    claim = unit.members[0]
    mask = board.allowed(claim) if only is None else board.allowed(claim) & only
    many = int(np.count_nonzero(mask))
    known = None if many <= FEW else prices(board, claim)
    if many <= FEW or known is not None:
        found = few(board, claim, np.flatnonzero(mask).tolist()) if known is None else known.choose(mask)
        return None if found is None else Choice([(claim, found[0])], {found[0]: found[1]})
    return _unpriced(board, claim, mask)


def _unpriced(board: Board, claim: Claim, mask: Mask) -> Choice | None:
    herd = board.herd
    lawful = np.flatnonzero(herd.lawful(claim) & herd.alive & mask[herd.node])
    shape = board.shape(claim)
    need = np.maximum(shape.amounts - board.total[:, shape.asked], 0)

    def enough(picks: Picks) -> Mask:
        sums = np.zeros_like(need)
        for column, resource in enumerate(shape.asked):
            np.add.at(sums[:, column], herd.node[picks], herd.request[picks, resource])
        return np.asarray((sums >= need).all(axis=1)) & mask

    picks = _level(board, lawful, lambda some: bool(enough(some).any()))
    if picks is None:
        return None
    return _one_victim(board, claim, picks, need) or _several(board, claim, picks, need, enough(picks))


def commit(board: Board, choice: Choice) -> None:
    """Reserve the places and kill the victims, each for the first of the unit's tasks there that may take it."""
    for claim, node in choice.places:
        board.put(claim, node, launch=False)
    for claim, victim in list(_takers(board, choice)):
        board.kill(victim, claim)


def _takers(board: Board, choice: Choice) -> Iterator[tuple[Claim, int]]:
    """For whom each victim is: the first of the unit's tasks there that may take it."""
    for node, victims in sorted(choice.victims.items()):
        there = sorted((claim for claim, where in choice.places if where == node), key=lambda one: one.id)
        for victim in victims:
            yield next(claim for claim in there if board.herd.may(claim, victim)), victim


def _level(board: Board, lawful: Picks, enough: Callable[[Picks], bool]) -> Picks | None:
    """The lawful victims up to the lowest rank, then the lowest priority, with which there is enough."""
    if not len(lawful) or not enough(lawful):
        return None
    herd = board.herd
    for values in (herd.rank, herd.priority):
        mine = values[lawful]
        if mine.min() == mine.max():
            continue
        levels = np.unique(mine)
        low, high = 0, len(levels) - 1
        while low < high:
            middle = (low + high) // 2
            if enough(lawful[values[lawful] <= levels[middle]]):
                high = middle
            else:
                low = middle + 1
        lawful = lawful[values[lawful] <= levels[low]]
    return lawful


def _one_victim(board: Board, claim: Claim, picks: Picks, need: Plane) -> Choice | None:
    """The victim that suffices alone with the least work lost; then the first node by name, then the first task."""
    herd, asked = board.herd, board.shape(claim).asked
    alone = (herd.request[picks][:, asked] >= need[herd.node[picks]]).all(axis=1)
    flags = np.zeros(len(herd.alive), np.bool_)
    flags[picks[alone]] = True
    best = herd.least(flags)
    if best is None:
        return None
    node = int(herd.node[best])
    return Choice([(claim, node)], {node: (best,)})


def _several(board: Board, claim: Claim, picks: Picks, need: Plane, nodes: Mask) -> Choice | None:
    """The least cover over all nodes where the victims suffice, at least two of them."""
    herd, asked = board.herd, board.shape(claim).asked
    best: tuple[Cover, int] | None = None
    largest = np.ones_like(need)
    for column, resource in enumerate(asked):
        np.maximum.at(largest[:, column], herd.node[picks], herd.request[picks, resource])
    fewest = (-(-need // largest)).max(axis=1)
    rows = np.flatnonzero(nodes)
    by_node = picks[np.argsort(herd.node[picks], kind="stable")]
    starts = np.searchsorted(herd.node[by_node], np.arange(len(need) + 1))
    for node in rows[np.lexsort((rows, fewest[rows]))]:
        if best is not None and fewest[node] > best[0].cost[0]:
            break
        there = _sorted(board, by_node[starts[node] : starts[node + 1]])
        bound = None if best is None else best[0].cost
        if bound is not None and fewest[node] == bound[0]:
            work = sorted(herd.work(victim) for victim in there)
            if sum(work[: bound[0]]) >= bound[1]:
                continue
        cover = _cover(board, there, asked, need[node], bound)
        if cover is not None:
            best = cover, int(node)
    return None if best is None else Choice([(claim, best[1])], {best[1]: best[0].items})


def _sorted(board: Board, picks: Picks) -> Picks:
    """The least important first."""
    return np.array(sorted(picks.tolist(), key=board.herd.key), np.intp)


def _cover(board: Board, there: Picks, asked: Picks, need: Plane, bound: tuple[int, int] | None) -> Cover | None:
    """The least of these victims that cover a need, if it costs less than `bound`.

    Remembered for the round: of many tasks that are alike each looks again only at the nodes that have changed.
    """
    key = there.tobytes(), asked.tobytes(), need.tobytes()
    known = board.covers.get(key)
    if known is not None:
        cover, tried = known
        if cover is not None:
            return cover if bound is None or cover.cost < bound else None
        if tried is None or (bound is not None and bound <= tried):
            return None
    herd = board.herd
    amounts = herd.request[np.ix_(there, asked)].tolist()
    found = least_cover(amounts, [herd.work(victim) for victim in there], need.tolist(), bound, board.effort)
    cover = None if found is None else Cover(tuple(int(there[item]) for item in found.items), found.work)
    board.covers[key] = cover, bound
    return cover


def _cheapest_gang(board: Board, unit: Unit) -> Choice | None:
    herd = board.herd
    powers = {_power(claim): herd.lawful(claim) for claim in unit.members}
    anyone = np.logical_or.reduce(list(powers.values()))
    lawful = np.flatnonzero(anyone & herd.alive)
    packed: list[list[tuple[Claim, int]]] = []

    def enough(picks: Picks) -> bool:
        rooms: dict[frozenset[tuple[str, str, int]], Plane] = {}

        def extra(claims: Iterable[Claim]) -> Plane:
            mighty = frozenset(_power(claim) for claim in claims)
            if mighty not in rooms:
                mine = picks[np.logical_or.reduce([powers[power] for power in mighty])[picks]]
                rooms[mighty] = np.zeros_like(board.total)
                for column in range(len(board.axis)):
                    np.add.at(rooms[mighty][:, column], herd.node[mine], herd.request[mine, column])
            return rooms[mighty]

        found = pack(board, unit.members, False, extra)
        if found is not None:
            packed.append(found)
        return found is not None

    picks = _level(board, lawful, enough)
    if picks is None:
        return None
    enough(picks)
    return _Spreading(board, picks, packed[-1]).run()


def _total(covers: Iterable[Cover]) -> tuple[int, int]:
    costs = [cover.cost for cover in covers]
    return sum(count for count, _ in costs), sum(work for _, work in costs)


def _power(claim: Claim) -> tuple[str, str, int]:
    return claim.tier, claim.role, claim.priority


class _Spreading:
    """Where the members of a gang go, and by branch and bound if they are few; a packing is known to do.

    While members are added, every node counts as having the rights of all of them: too low a cost, never too high.
    """

    def __init__(self, board: Board, picks: Picks, start: list[tuple[Claim, int]]) -> None:
        self.board, self.start = board, start
        self.members = [claim for claim, _ in start]
        self.picks = picks[np.argsort(board.herd.node[picks], kind="stable")]
        self.nodes = board.herd.node[self.picks]
        self.there: dict[int, Picks] = {}
        self.steps = 0
        self.memo: dict[Hashable, Cover | None] = {}
        self.on: dict[int, list[Claim]] = {}
        self.costs: dict[int, Cover] = {}
        self.best: tuple[tuple[int, int], list[tuple[Claim, int]], dict[int, tuple[int, ...]]] | None = None

    def run(self) -> Choice | None:
        self._take(self.start)
        some = self._one_by_one()
        if len(self.members) * int(self.board.allowed(self.members[0]).sum()) <= SPREADS_MAX:
            self._greedy()
            self._extend(0, [])
        found = [] if self.best is None else [Choice(*self.best[1:])]
        if some is not None and _affords(self.board, some):
            found.append(some)
        return min(found, key=lambda one: self.board.herd.cost(one.all_victims()), default=None)

    def _one_by_one(self) -> Choice | None:
        """Each member where it is cheapest when those before it have their places. The board is as before."""
        board = self.board
        places: list[tuple[Claim, int]] = []
        victims: list[int] = []
        for claim in self.members:
            room = board.room(claim, now=False)
            if room is not None:
                choice = Choice([(claim, board.best(room, board.shape(claim), board.total))])
            else:
                single = cheapest(board, Unit((replace(claim, gang=None),)))
                if single is None:
                    break
                choice = Choice([(claim, single.places[0][1])], single.victims)
            commit(board, choice)
            places += choice.places
            victims += choice.all_victims()
        ids = {claim.id for claim, _ in places}
        for node in sorted({node for _, node in places}):
            board.needless(node, ids)
        mine = [victim for victim in victims if victim in board.killed]
        for victim in mine:
            board.spare(victim)
        for claim, _ in places:
            board.lift(claim)
        if len(places) < len(self.members) or not mine:
            return None
        on: dict[int, tuple[int, ...]] = {}
        for victim in sorted(mine, key=board.herd.key):
            node = int(board.herd.node[victim])
            on[node] = (*on.get(node, ()), victim)
        return Choice(places, on)

    def _prey(self, node: int) -> Picks:
        if node not in self.there:
            first, last = np.searchsorted(self.nodes, [node, node + 1])
            self.there[node] = _sorted(self.board, self.picks[first:last])
        return self.there[node]

    def _cover(self, node: int, claims: Sequence[Claim], takers: Sequence[Claim]) -> Cover | None:
        """The least victims on a node with which these members, and all that is there, have room; taken by `takers`."""
        board, herd = self.board, self.board.herd
        requests = tuple(sorted(tuple(sorted(claim.request.items())) for claim in claims))
        key = node, requests, frozenset(map(_power, takers))
        self.steps += 1
        if key not in self.memo:
            demand = np.sum([board.shape(claim).request for claim in claims], axis=0)
            asked = np.flatnonzero(demand)
            there = self._prey(node)
            if len(there):
                there = there[np.logical_or.reduce([herd.lawful(claim)[there] for claim in takers])]
            need = np.maximum(demand - board.total[node], 0)[asked].tolist()
            work = [herd.work(victim) for victim in there]
            found = least_cover(herd.request[there][:, asked].tolist(), work, need, effort=board.effort)
            items = None if found is None else tuple(int(there[item]) for item in found.items)
            self.memo[key] = None if found is None or items is None else Cover(items, found.work)
        return self.memo[key]

    def _cost(self) -> tuple[int, int]:
        return _total(self.costs.values())

    def _add(self, claim: Claim, node: int) -> Cover | None:
        """Put a member on a node if there is a cover for it; answers the node's former cover, see `_undo`."""
        cover = self._cover(node, [*self.on.get(node, []), claim], self.members)
        if cover is None:
            return None
        former = self.costs.get(node, Cover((), 0))
        self.on.setdefault(node, []).append(claim)
        self.costs[node] = cover
        self.board.rules.give(claim, node)
        return former

    def _undo(self, claim: Claim, node: int, former: Cover) -> None:
        self.board.rules.take_back(claim, node)
        self.on[node].pop()
        self.costs[node] = former

    def _take(self, places: list[tuple[Claim, int]]) -> None:
        """Look at one whole spread; now only the members that are on a node have rights there."""
        covers = {}
        for node in sorted({node for _, node in places}):
            there = [claim for claim, where in places if where == node]
            cover = self._cover(node, there, there)
            if cover is None:
                return
            covers[node] = cover
        cost = _total(covers.values())
        if self.best is None or cost < self.best[0]:
            victims = {node: cover.items for node, cover in covers.items() if cover.items}
            if not _affords(self.board, Choice(list(places), victims)):
                return
            self.best = cost, list(places), victims

    def _greedy(self) -> None:
        """Each member where it adds the least."""
        done: list[tuple[Claim, int, Cover]] = []
        for claim in self.members:
            choices = []
            for node in np.flatnonzero(self.board.allowed(claim)).tolist():
                former = self._add(claim, node)
                if former is not None:
                    choices.append((self._cost(), node))
                    self._undo(claim, node, former)
            if not choices:
                break
            node = min(choices)[1]
            former = self._add(claim, node)
            assert former is not None
            done.append((claim, node, former))
        if len(done) == len(self.members):
            self._take([(claim, node) for claim, node, _ in done])
        for step in reversed(done):
            self._undo(*step)

    def _extend(self, depth: int, places: list[tuple[Claim, int]]) -> None:
        if self.best is not None and self._cost() >= self.best[0]:
            return
        if depth == len(self.members):
            self._take(places)
            return
        claim = self.members[depth]
        first = places[-1][1] if depth and same(claim, self.members[depth - 1]) else 0
        for node in np.flatnonzero(self.board.allowed(claim)).tolist():
            if node < first:
                continue
            if self.steps > STEPS_MAX:
                return
            former = self._add(claim, node)
            if former is not None:
                self._extend(depth + 1, [*places, (claim, node)])
                self._undo(claim, node, former)
