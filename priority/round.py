"""One scheduling round over a board: each unit in its turn.

    1. Room kept by `for` is held for its pending task until its turn, and for longer while it waits.
    2. Each unit in its turn: launch in free room; else reserve where room is kept for it; else reserve in room that
       is free or coming; else take the cheapest lawful victims; else it waits.
    3. A tier of which very many tasks wait is launched in one sweep if there is free room for all of them, and has
       its victims at once if there are enough for all of them (see `siege`).
    4. Whenever more room is coming than was known (a victim larger than the need, kept room let go), the waiting
       units are looked at again, in their order, before the next one has its turn.

That is right at each turn. Where the whole is not (a victim that a later one made needless, victims beside room
that came later), `mend` tries other ways.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from priority import fairness, place, preempt, siege, sweep
from priority.board import Board
from priority.claim import PENDING, Claim
from priority.fairness import Shares, Turns, Unit
from priority.hold import holds
from priority.rules import Mask
from priority.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Way:
    """How a round goes about what the contract leaves open."""

    spare: bool = False
    """Give victims back as soon as nothing needs them, not only in the end."""
    let_go: frozenset[tuple[str, int]] = frozenset()
    """Tasks and rows of nodes where room is not held although `for` keeps it."""
    stay: frozenset[str] = frozenset()
    """Tasks that are reserved where room is held for them, though they could be launched elsewhere."""
    counted: frozenset[str] = frozenset()
    """Tasks whose room counts in their roles' shares from their turn on, though they only find it later."""
    at_once: bool = True
    """Where very many wait, give those places first who are simple."""
    polite: bool = False
    """In mending nobody moves, if what it leaves would serve a waiting task but goes to one behind that."""
    give_way: bool = False
    """In mending those give way in whose place somebody would fit who waits before them, see `Round.serve`."""
    settle: bool = False
    """Whoever has victims and can do without them since others left room does so before the next one has its turn."""


class Round:
    """`run` once, then read `board.spots`, `board.killed` and `waiting`."""

    def __init__(self, snapshot: Snapshot, way: Way = Way()) -> None:
        self.board = Board(snapshot)
        self.waiting: list[Unit] = []
        """In pending order."""
        self.lost: set[tuple[str, int]] = set()
        """Tasks and rows of nodes where room was held in vain."""
        self.held: set[tuple[str, int]] = set()
        """Tasks and rows of nodes where room was held for them until their turn."""
        self.late: set[str] = set()
        """First members of the units that found room after their turn."""
        self.units = fairness.units(snapshot.pending())
        self.turn: dict[int, int] = {}
        """By `id(unit)`."""
        self.hopeless: set[int] = set()
        """By `id(unit)`: would wait whatever the others did."""
        self.in_vain = False
        """Some had places at once, and then others found none: to be done again without that, see `Way.at_once`."""
        self.decided_at: dict[int, int] = {}
        """By `id(unit)`: how long the board's `gains` was when the unit took its victims, of all that there were."""
        self.way = way
        self._snapshot = snapshot
        self._shares = Shares(snapshot)
        ranks = {name: tier.rank for name, tier in snapshot.tiers.items()}
        self._turns = Turns(self.units, self._shares, ranks)
        self._failed: set[Hashable] = set()
        self._wanted = kept_by_for(snapshot)
        if snapshot.terms.holds_after_s:
            self.board.closed = holds(self.board, snapshot, self._wanted)
        self._holders = {one.holder for one in self.board.closed.values()}
        self._coming = self.board.total.copy() if self._wanted else self.board.total

    def run(self) -> None:
        """Decide everything."""
        self.held = keep(self.board, self._snapshot, self._shares, self.way.let_go)
        self.held |= {(one.holder, row) for row, one in self.board.closed.items()}
        for level in self._turns.levels():
            fresh = self._turns.fresh(level)
            waited = {*map(id, self.waiting)}
            at_once = self._at_once(fresh) if len(fresh) >= sweep.LEVEL and self.way.at_once else []
            for unit in at_once:
                self.turn[id(unit)] = len(self.turn)
            self._shares.give(unit.members[0] for unit in at_once)
            self._turns.skip(at_once)
            for unit in self._turns.of(level):
                self._take_turn(unit)
            if at_once and any(id(unit) not in self.hopeless | waited for unit in self.waiting):
                self.in_vain = True  # who took whose place was not looked at
                return

    def _at_once(self, units: list[Unit]) -> list[Unit]:
        """A place for as many of these as are so simple that nobody's turn matters, if nobody waits in the end."""
        board = self.board
        if sweep.level(board, units):
            return units
        if board.killed or any(id(unit) not in self.hopeless for unit in self.waiting):
            return []
        simple, hopeless = siege.sorted_out(board, units)
        if len(simple) < siege.LEVEL or not siege.level(board, simple):
            return []
        self.hopeless.update(map(id, hopeless))
        return simple

    def _take_turn(self, unit: Unit) -> None:
        self.turn[id(unit)] = len(self.turn)
        kept = self.board.kept(unit.members)
        if self._try(unit):
            self._shares.give(unit.members)
        else:
            self.waiting.append(unit)
            if unit.members[0].id in self.way.counted:
                self._shares.give(unit.members)
        spots = self.board.spots
        self.lost.update((id, row) for id, row in kept if id not in spots or spots[id].node != row)
        self.look_again()

    def unkept(self) -> int:
        """How many tasks of their own neither start at once nor stand where room is kept for them, though they fit.

        Beside others for whom room is kept there, too, and who stand there.
        """
        board, found = self.board, 0
        for id, rows in self._wanted.items():
            claim, spot = self._snapshot.task(id), board.spots.get(id)
            if claim is None or claim.gang is not None or (spot is not None and (spot.launch or spot.node in rows)):
                continue
            allowed, over = board.allowed(claim), board.rules.over([claim])
            found += over is None and any(allowed[row] and self._would_fit(claim, row) for row in rows)
        return found

    def _would_fit(self, claim: Claim, row: int) -> bool:
        room = self._coming[row].copy()
        for one in self.board.arrivals(row):
            if row in self._wanted.get(one.id, ()):
                room -= self.board.shape(one).request
        return bool(self.board.fits(self.board.shape(claim), room[np.newaxis])[0])

    def serve(self, unit: Unit, row: int) -> bool:
        """Give a waiting unit a place on that node, if there is one for it by now."""
        only = np.zeros(len(self.board.names), np.bool_)
        only[row] = True
        self._failed.clear()
        if not self._try(unit, only):
            return False
        self.waiting.remove(unit)
        self.late.add(unit.members[0].id)
        return True

    def again(self, units: Sequence[Unit]) -> None:
        """These had to go: each has its turn again, and waits in its old turn if there is no place for it."""
        self._failed.clear()
        self.waiting += [unit for unit in units if not self._try(unit)]
        self.waiting.sort(key=lambda unit: self.turn[id(unit)])
        self.look_again()

    def _try(self, unit: Unit, only: Mask | None = None) -> bool:
        board = self.board
        kept = board.unkeep(unit.members)
        key = None if kept or unit.members[0].id in self._holders else self.kind(unit)
        if key is not None and key in self._failed:
            return False
        if board.rules.over(unit.members) is None and (self._stay(unit) or self._place(unit, only)):
            if board.closed and unit.members[0].id in self._holders:
                board.reopen(unit.members[0])
            released = {node for nodes in kept.values() for node in nodes}
            if released:
                self._hold_for_others(released)
                board.gained.update(released)
            return True
        for claim in unit.members:
            for node in kept.get(claim.id, ()):
                board.keep(claim, node)
        if key is not None:
            self._failed.add(key)
        return False

    def _hold_for_others(self, rows: set[int]) -> None:
        """Room that one has let go is held for others for whom `for` keeps it there, too, where they fit now."""
        board = self.board
        for id in sorted(id for id, nodes in self._wanted.items() if id not in board.spots and rows & set(nodes)):
            claim = self._snapshot.task(id)
            for row in sorted(rows & set(self._wanted[id])):
                pair = id, row
                if claim is None or pair in self.way.let_go or pair in board.kept([claim]):
                    continue
                if board.allowed(claim)[row] and board.rules.over([claim]) is None:
                    board.keep(claim, row)
                    self.held.update(one for one in board.kept([claim]) if one == pair)

    def stays(self, unit: Unit) -> bool:
        """Whether it is to be where room is kept for it, and is not to be moved."""
        return any(claim.id in self.way.stay for claim in unit.members)

    def _stay(self, unit: Unit) -> bool:
        """Place a unit with its members on the nodes where room is kept for them, if it is one that is to stay."""
        staying = {claim.id: self._wanted[claim.id] for claim in unit.members if claim.id in self.way.stay}
        if not staying:
            return False
        self.board.staying = staying
        done = self._place(unit, None)
        self.board.staying = {}
        return done

    def _place(self, unit: Unit, only: Mask | None) -> bool:
        board, kept = self.board, self._wanted
        if place.launch(board, unit, kept, only) or place.reserve(board, unit, kept, only):
            return True
        choice = preempt.cheapest(board, unit, only)
        if choice is not None:
            self.commit(choice)
            if only is None:
                self.decided_at[id(unit)] = len(board.gains)
        return choice is not None

    def special(self, unit: Unit) -> bool:
        """Whether it may go where others of its kind may not."""
        board, id = self.board, unit.members[0].id
        return id in self._holders or any(id in one.welcome for one in board.closed.values())

    def kind(self, unit: Unit) -> Hashable:
        """Units that fail alike; a gang only as itself."""
        if unit.gang is not None:
            return unit.gang
        claim = unit.members[0]
        request = tuple(sorted(claim.request.items()))
        job = self.board.rules.job(claim)
        return claim.tier, claim.role, claim.user, claim.priority, request, claim.constraints, job

    def commit(self, choice: preempt.Choice) -> None:
        """Reserve and kill; nodes where that leaves room count as gained."""
        board = self.board
        nodes = sorted({node for _, node in choice.places})
        before = board.total[nodes]
        preempt.commit(board, choice)
        for node, old in zip(nodes, before, strict=True):
            # A spared victim is prey again, for a waiting task too that may not take the one that replaced it.
            if (self.way.spare and board.needless(node)) or (board.total[node] > old).any():
                board.gained.add(node)

    def look_again(self) -> None:
        """Waiting units, in their order, at the nodes that have gained room."""
        board = self.board
        while board.gained:
            only = np.zeros(len(board.names), np.bool_)
            only[sorted(board.gained)] = True
            if self.way.spare:
                for node in sorted(board.gained):
                    board.needless(node)
            board.gained.clear()
            self._failed.clear()
            still = []
            for unit in self.waiting:
                if self._try(unit, only):
                    self.late.add(unit.members[0].id)
                    if unit.members[0].id not in self.way.counted:
                        self._shares.give(unit.members)
                else:
                    still.append(unit)
            self.waiting = still
        # What failed at the nodes that gained had failed at the others before.


def kept_by_for(snapshot: Snapshot) -> dict[str, list[int]]:
    """Of each pending task the rows of nodes where room is dying for it."""
    rows = snapshot.settled().rows()
    wanted: dict[str, set[int]] = {}
    for dying in snapshot.dying():
        claim = None if dying.kept_for is None else snapshot.task(dying.kept_for)
        if claim is not None and claim.state == PENDING and dying.node is not None:
            wanted.setdefault(claim.id, set()).add(rows[dying.node])
    return {id: sorted(nodes) for id, nodes in wanted.items()}


def keep(board: Board, snapshot: Snapshot, shares: Shares, let_go: frozenset[tuple[str, int]]) -> set[tuple[str, int]]:
    """Hold what `for` keeps, where it fits, for the first in the pending order (as the shares are now) first.

    For members of gangs last: they may have to wait for the others, and a single task does not.
    """
    kept = {(id, row) for id, nodes in kept_by_for(snapshot).items() for row in nodes}
    kept -= let_go
    claims = {id: claim for id, _ in kept if (claim := snapshot.task(id)) is not None}

    def order(one: tuple[str, int]) -> tuple[object, ...]:
        claim = claims[one[0]]
        share = shares.of(claim.role)
        gang = claim.gang is not None
        return gang, -snapshot.tiers[claim.tier].rank, share, -claim.priority, claim.since_us, *one

    for id, row in sorted(kept, key=order):
        claim = claims[id]
        if board.allowed(claim)[row] and board.rules.over([claim]) is None:
            board.keep(claim, row)
    return set(board.kept(claims.values()))
