"""A whole round: decided unit by unit, and mended only where the whole breaks what each turn kept.

The plain way first (see `round`); if `audit` finds no fault in the whole, that is the plan. Else other ways are tried,
each mended, and the one with the fewest faults stands, the earlier of equals:

    - giving victims back as soon as others make them needless
    - the plain round, mended in the end
    - the same without holding room that was held in vain, if nobody loses a place by that
    - the same with tasks staying in room that is held for them, where a launch elsewhere would free it too late for one
      that came before
    - mended after each turn, so that who comes later finds what by then nobody needs; nobody moves if what it leaves
      would serve a waiting task but goes to one behind that
    - the same, whoever moves, without holding room that was held in vain
    - where one that waits would fit without those behind it, these give way, and have their turn again

Where victims and units are so many that this would take long, a round with a fault is mended where it stands,
the last way.

To mend: victims that nothing needs are given back, the most important first; units that have victims move to where
they need none, or cheaper ones; what is reserved and fits in free room is launched; waiting units are looked at
again whenever that leaves room. Last, victims that changed hands are named anew: see `label`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter

import numpy as np

from priority import faults, hindsight, label, place, preempt
from priority.board import Spot
from priority.claim import Claim
from priority.fairness import Shares, Turns, Unit
from priority.round import Round, Way
from priority.settling import settle
from priority.snapshot import Snapshot

COMPARED_MAX = 64
"""With more units that have victims than this, mending only looks for places without any."""

SMALL_MAX = 5_000
"""With more than this, victims times units, a plain round with a fault is mended where it stands."""

AGAIN_MAX = 4
"""How often a round is done again for the order that follows from it."""

PASSES_MAX = 8
"""How often mending goes over all units that have victims."""


def decide(snapshot: Snapshot) -> Round:
    """The round of the fewest faults, of the whole and then at the turns; of equals, the plainest."""
    plain = _in_order(snapshot, Way())
    if not _small(plain) and _settled(snapshot, plain):
        return plain
    if not _in_own_order(plain):
        eager = _in_order(snapshot, Way(spare=True))
        if _in_own_order(eager) and not any(_faults(snapshot, eager, False)):
            return eager
    if not any(_faults(snapshot, plain, False)):
        return plain
    if not _small(plain):
        return _large(snapshot, plain)
    least = _mended_faults(snapshot, plain)
    best = plain
    for done in _ways(snapshot, plain):
        faults = _mended_faults(snapshot, done)
        if faults < least:
            best, least = done, faults
        if not any(faults):
            return best
    return best


def _settled(snapshot: Snapshot, plain: Round) -> bool:
    """Where nobody waits who might be served, nothing more than settling is to be done, but for gangs with victims."""
    if plain.held or any(id(unit) not in plain.hopeless for unit in plain.waiting):
        return False
    settle(plain.board, plain.look_again)
    _Mending(snapshot, plain).promote()
    gangs = [unit for unit in plain.units if unit.gang is not None]
    return not gangs or not faults.unsettled(plain.board, gangs, {})


def _large(snapshot: Snapshot, plain: Round) -> Round:
    """One way of mending, of two where somebody waits, whom it could let others overtake."""
    tried: list[tuple[tuple[int, int], Round]] = []
    for done in [_in_order(snapshot, Way(spare=True)), plain] if plain.waiting else [plain]:
        found = _faults(snapshot, done, False)
        if any(found):
            done.way = replace(done.way, give_way=True)
            _Mending(snapshot, done).run()
            settle(done.board, done.look_again, gained=set(done.board.gains))
            found = _faults(snapshot, done, True) if plain.waiting else (0, 0)
        if not any(found):
            return done
        tried.append((found, done))
    return min(tried, key=itemgetter(0))[1]


def _in_order(snapshot: Snapshot, way: Way) -> Round:
    """A plain round in the order that follows from its own plan.

    A share grows from the turn of a task that is given room, also where it finds it only later, when more room is
    coming than was known. Who these are shows when the round is done; so it is done again with them counted. It may
    be that by that they are given none; then their shares grow when they find it.
    """
    first = done = _run(snapshot, way)
    tried = [way.counted]
    while not _in_own_order(done):
        counted = _placed_late(done)
        if counted in tried or len(tried) > AGAIN_MAX:
            return first
        tried.append(counted)
        done = _run(snapshot, replace(done.way, counted=counted))
    return done


def _run(snapshot: Snapshot, way: Way) -> Round:
    done = _Settling(snapshot, way) if way.settle else Round(snapshot, way)
    done.run()
    return _run(snapshot, replace(way, at_once=False)) if done.in_vain else done


def _placed_late(done: Round) -> frozenset[str]:
    return frozenset(id for id in done.late | done.way.counted if id in done.board.spots)


def _in_own_order(done: Round) -> bool:
    """Whether it went in the order that follows from its own plan."""
    return not done.waiting or _placed_late(done) == done.way.counted


def _small(done: Round) -> bool:
    return len(done.board.killed) * len(done.units) <= SMALL_MAX


def _faults(snapshot: Snapshot, done: Round, moved: bool) -> tuple[int, int]:
    """Victims to give back (irreducible goes first), and what else the whole breaks."""
    board = done.board
    found = faults.unsettled(board, done.units, {} if moved else done.decided_at) + done.unkept()
    if moved or (done.lost and done.waiting):
        found += faults.launchable(board, [unit for unit in done.units if not done.stays(unit)])
    if moved or (done.lost and done.waiting) or not _in_own_order(done):
        turns = _turns(snapshot, done)
        found += faults.overtaken(board, _first_of_each_kind(done, turns), turns, done.held)
    return faults.reducible(board), found


def _mended_faults(snapshot: Snapshot, done: Round) -> tuple[int, int, int]:
    """The same, and what is broken at the turns."""
    return *_faults(snapshot, done, True), hindsight.broken(snapshot, done)


def _turns(snapshot: Snapshot, done: Round) -> dict[str, int]:
    """By pending task: its turn in the order that follows from the plan as it is now."""
    shares, found = Shares(snapshot), dict[str, int]()
    ranks = {name: tier.rank for name, tier in snapshot.tiers.items()}
    for turn, unit in enumerate(Turns(done.units, shares, ranks)):
        found.update((claim.id, turn) for claim in unit.members)
        shares.give(claim for claim in unit.members if claim.id in done.board.spots)
    return found


def _first_of_each_kind(done: Round, turns: Mapping[str, int]) -> list[Unit]:
    """Of the waiting units that are alike the first: if that one is not overtaken, none is."""
    first: dict[Hashable, Unit] = {}
    for unit in sorted(done.waiting, key=lambda one: turns[one.members[0].id]):
        first.setdefault(done.kind(unit), unit)
    return list(first.values())


def _ways(snapshot: Snapshot, plain: Round) -> Iterator[Round]:
    def mended(way: Way) -> Round:
        done = _in_order(snapshot, way)
        _Mending(snapshot, done).run()
        return done

    eager = mended(Way(spare=True))
    yield eager
    yield mended(Way())
    spots = eager.board.spots
    started = {(id, row) for id, row in eager.lost if id in spots and spots[id].launch}
    tried: set[frozenset[tuple[str, int]]] = set()
    for first in (plain.lost, plain.lost | eager.lost, started):
        lost = frozenset(first)
        while lost and lost not in tried:
            tried.add(lost)
            more = set(lost)
            for spare in (False, True):
                free = mended(Way(spare=spare, let_go=lost))
                more |= free.lost  # held by then for those who came after, and in vain as well
                if all(id in free.board.spots for id, _ in lost if id in eager.board.spots):
                    yield free
            lost = frozenset(more)
    if plain.lost or eager.lost:
        for spare in (False, True):
            yield mended(Way(spare=spare, stay=frozenset(id for id, _ in plain.lost | eager.lost)))
    yield mended(Way(spare=True, settle=True, polite=True))
    if plain.lost or eager.lost:
        yield mended(Way(spare=True, settle=True, let_go=frozenset(plain.lost | eager.lost)))
    yield mended(Way(spare=True, give_way=True))
    yield mended(Way(give_way=True))


class _Mending:
    """Mends a round that has run."""

    def __init__(self, snapshot: Snapshot, done: Round) -> None:
        self._snapshot = snapshot
        self.round, self.board = done, done.board
        self._unit_of = {claim.id: unit for unit in done.units for claim in unit.members}
        self._cheaper: set[int] = set()
        """Units that moved to cheaper victims once: two could each make the other's cheaper without end."""
        self._stuck: dict[int, dict[int, int]] = {}
        """Units whose victims others need, by id: when the nodes had last changed on which that was so."""
        self._orphans: set[int] = set()
        """Victims whose taker went elsewhere."""

    def run(self) -> None:
        board, done = self.board, self.round
        done.way = replace(done.way, spare=True)
        for node in sorted(board.killed_on):
            if board.needless(node):
                board.gained.add(node)
        done.look_again()
        for _ in range(PASSES_MAX):
            moved = self._settle()
            if not (self.promote() or moved or (done.way.give_way and self._give_way())):
                break
        self._name()
        done.decided_at.clear()  # some victims have changed hands

    def settle(self) -> None:
        """Move whoever can do without its victims, or with cheaper ones."""
        for _ in range(PASSES_MAX):
            if not self._settle():
                break

    def _name(self) -> None:
        """Name anew the victims that changed hands, unless by that more is broken at the turns."""
        former, done = dict(self.board.killed), self.round
        small = bool(self._orphans) and _small(done)
        broken = hindsight.broken(self._snapshot, done) if small else 0
        if self.board.mercy is not None and self.board.mercy.policy.destroys_per_hour:
            return  # whose budget it is would change
        label.name(self.board, self._orphans, done.turn, self._unit_of)
        if small and broken < hindsight.broken(self._snapshot, done):
            self.board.killed.update(former)

    def _settle(self) -> bool:
        """Move units with victims to where they need none, or cheaper ones; True if anything moved."""
        moved = False
        takers = self._takers()
        few = len(takers) <= COMPARED_MAX
        for unit in takers:
            if self.round.stays(unit):
                continue
            search = few and id(unit) not in self._cheaper
            if (
                faults.victims_of(self.board, unit)
                and (search or self._could_move(unit))
                and self._move(unit, search, few)
            ):
                moved = True
                self.round.look_again()
        return moved

    def _takers(self) -> list[Unit]:
        """Units that have victims, those with the least important one first."""
        board = self.board
        victims = sorted(board.killed, key=board.herd.key) if board.killed else []
        found = {id(unit): unit for victim in victims if (unit := self._unit_of[board.killed[victim].id])}
        return list(found.values())

    def _could_move(self, unit: Unit) -> bool:
        """A quick no for a single task: no other node has room for it as it is."""
        if unit.gang is not None:
            return True
        claim, board = unit.members[0], self.board
        mask = board.fitting(claim, now=False)
        return mask is not None and faults.elsewhere(mask & board.rules.may_take(claim), board.spots[claim.id].node)

    def _nodes_of(self, unit: Unit) -> set[int]:
        return {self.board.spots[claim.id].node for claim in unit.members}

    def _move(self, unit: Unit, search: bool, few: bool) -> bool:
        """Lift a unit with its victims and place it without any, or with cheaper ones; else all is as before."""
        board = self.board
        before = {node: board.changed.get(node, 0) for node in self._nodes_of(unit)}
        if self._stuck.get(id(unit)) == before:
            return False
        spots = [board.lift(claim) for claim in unit.members]
        nodes = sorted({spot.node for spot in spots})
        former, orphans = dict(board.killed), set(self._orphans)
        mine = {claim.id for claim in unit.members}
        for node in nodes:
            board.needless(node, mine)
        # Among many, one that would only hand its victims to neighbours stays: to move them about frees nobody.
        free = (few or len(board.killed) < len(former)) and self._hand_over(unit)
        if free:
            elsewhere = np.ones(len(board.names), np.bool_)
            elsewhere[nodes] = False  # there it would only hand its victims to a neighbour
            polite = self.round.way.polite and self._jumps_queue(nodes)
            if not polite and (place.launch(board, unit, {}, elsewhere) or place.reserve(board, unit, {}, elsewhere)):
                board.gained.update(nodes)
                return True
            spared = [victim for victim in former if victim not in board.killed]
            if search and spared and not polite and not self._jumps_queue(nodes):
                choice = preempt.cheapest(board, unit)
                if choice is not None and board.herd.cost(choice.all_victims()) < board.herd.cost(spared):
                    self._cheaper.add(id(unit))
                    self.round.commit(choice)
                    board.gained.update(nodes)
                    return True
        self._restore(spots, former, orphans)
        board.changed.update(before)  # all is as it was
        if not free:
            self._stuck[id(unit)] = before
        return False

    def _jumps_queue(self, nodes: Sequence[int]) -> bool:
        """Whether what a unit leaves on these nodes would serve a waiting task, were it not for units behind that."""
        turn, first = self.round.turn, dict[Hashable, Unit]()
        for unit in self.round.waiting:
            if unit.gang is None:
                first.setdefault(self.round.kind(unit), unit)
        for node in nodes:
            there = [(turn[id(self._unit_of[claim.id])], claim) for claim in self.board.arrivals(node)]
            for unit in first.values():
                behind = [claim for at, claim in there if at > turn[id(unit)]]
                if behind and self._would_serve(unit.members[0], node, behind):
                    return True
        return False

    def _would_serve(self, claim: Claim, node: int, behind: Sequence[Claim]) -> bool:
        """Whether a task would fit on a node without some that are there, all that it may take gone."""
        board = self.board
        prey = board.herd.lawful(claim) & board.herd.alive & (board.herd.node == node)
        room = board.total[node] + board.herd.request[prey].sum(axis=0)
        room += sum((board.shape(one).request for one in behind), np.zeros_like(room))
        return bool(board.rules.matches(claim)[node] and board.fits(board.shape(claim), room[np.newaxis])[0])

    def _hand_over(self, unit: Unit) -> bool:
        """Victims that others on the node need are theirs from now on, if one of them may take them."""
        board = self.board
        ids = {claim.id for claim in unit.members}
        victims = [victim for victim, claim in board.killed.items() if claim.id in ids]
        for victim in sorted(victims, key=board.herd.key):
            there = board.reserved[int(board.herd.node[victim])]
            heir = next((there[id] for id in sorted(there) if board.herd.may(there[id], victim)), None)
            if heir is None or not board.may_hand(victim, heir):
                return False
            board.killed[victim] = heir
            self._orphans.add(victim)
        return True

    def _restore(self, spots: Sequence[Spot], former: dict[int, Claim], orphans: set[int]) -> None:
        board = self.board
        self._orphans = orphans
        for victim, claim in former.items():
            if victim not in board.killed:
                board.kill(victim, claim)
            board.killed[victim] = claim
        for spot in spots:
            board.put(spot.claim, spot.node, spot.launch)

    def _give_way(self) -> bool:
        """Serve who waits in the place of those behind it, which then have their turn again; True if anybody was."""
        turns, served = _turns(self._snapshot, self.round), False
        waiting = _first_of_each_kind(self.round, turns)
        if len(waiting) * len(self.board.spots) > faults.WAITING_MAX:
            return False
        for unit in waiting:
            if unit.gang is None and unit in self.round.waiting:
                rows = faults.overtaken_at(self.board, unit, self._free(), turns)
                served = any(self._displace(unit, row, turns) for row in rows) or served
        return served

    def _free(self) -> list[Spot]:
        """Who does not stand where room was held for it."""
        return [spot for spot in self.board.spots.values() if (spot.claim.id, spot.node) not in self.round.held]

    def _displace(self, unit: Unit, row: int, turns: Mapping[str, int]) -> bool:
        """Serve a unit on a node without those behind it; these find another place, or wait. Else all is as before."""
        board, done = self.board, self.round
        there = [spot.claim for spot in self._free() if spot.node == row and spot.claim.gang is None]
        behind = [claim for claim in there if turns[claim.id] > turns[unit.members[0].id]]
        former, orphans = dict(board.killed), set(self._orphans)
        spots = [board.lift(claim) for claim in behind]
        gone = [self._unit_of[claim.id] for claim in behind]
        for one in gone:
            board.needless(row, {one.members[0].id})
        if not (all(map(self._hand_over, gone)) and done.serve(unit, row)):
            self._restore(spots, former, orphans)
            return False
        done.again(sorted(gone, key=lambda one: turns[one.members[0].id]))
        return True

    def promote(self) -> bool:
        """Launch what is reserved and fits in free room; True if anything was."""
        done = False
        maybe = faults.maybe_launchable(self.board, self.round.units)
        for unit in sorted(maybe, key=lambda unit: self.round.turn[id(unit)]):
            if not self.round.stays(unit) and faults.could_launch(self.board, unit) and self._launch(unit):
                done = True
                self.round.look_again()
        return done

    def _launch(self, unit: Unit) -> bool:
        board = self.board
        spots = [board.lift(claim) for claim in unit.members]
        former, orphans = dict(board.killed), set(self._orphans)
        nodes = sorted({spot.node for spot in spots})
        if place.launch(board, unit, {}, None):
            for node in nodes:
                board.needless(node)
            if self._hand_over(unit):
                board.gained.update(nodes)
                return True
            for claim in unit.members:
                board.lift(claim)
        self._restore(spots, former, orphans)
        return False


class _Settling(Round):
    """A round that is mended after each turn."""

    def __init__(self, snapshot: Snapshot, way: Way) -> None:
        super().__init__(snapshot, way)
        self._mending: _Mending | None = _Mending(snapshot, self)

    def look_again(self) -> None:
        """Whenever the waiting units have looked, those with victims look, too."""
        super().look_again()
        mending, self._mending = self._mending, None  # which looks again itself
        if mending is not None:
            mending.settle()
            self._mending = mending
