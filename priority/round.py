"""One scheduling round over a board: the order of decisions, and how earlier ones are mended by later ones.

    1. Room kept by `for` is held for its pending task until its turn.
    2. Each unit in its turn: launch in free room; else reserve where room is kept for it; else reserve in room that
       is free or coming; else take the cheapest lawful victims; else it waits.
    3. Whenever more room is coming than was known (a victim larger than the need, kept room let go), victims that
       it makes needless are spared and the waiting units are looked at again, in their order.
    4. In the end units that have victims move to where they need none any more, or cheaper ones, until nothing moves.

Step 3 and 4 are why a Plan holds as a whole and not only step by step: nothing waits beside room, nothing is killed
for nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from priority import fairness, place, preempt
from priority.board import Board, Spot
from priority.claim import PENDING, Claim
from priority.fairness import Shares, Turns, Unit
from priority.rules import Mask
from priority.snapshot import Snapshot

ROUNDS_MAX = 3

COMPARED_MAX = 64
"""With more units that have victims than this, step 4 only looks for places without any."""

PASSES_MAX = 8
"""How often step 4 goes over all units that have victims."""


def decide(snapshot: Snapshot) -> Round:
    """A whole round. Where room was held in vain, once more without holding it, if nobody loses a place by that."""
    done = Round(snapshot)
    done.run()
    let_go: frozenset[tuple[str, int]] = frozenset()
    for _ in range(ROUNDS_MAX):
        if done.lost <= let_go:
            break
        let_go |= done.lost
        again = Round(snapshot, let_go)
        again.run()
        if any(id in done.board.spots and id not in again.board.spots for id, _ in let_go):
            break
        done = again
    return done


class Round:
    """`run` once, then read `board.spots`, `board.killed` and `waiting`."""

    def __init__(self, snapshot: Snapshot, let_go: frozenset[tuple[str, int]] = frozenset()) -> None:
        self.board = Board(snapshot)
        self.waiting: list[Unit] = []
        """In pending order."""
        self.lost: set[tuple[str, int]] = set()
        """Tasks and rows of nodes where room was held in vain."""
        self._snapshot = snapshot
        self._let_go = let_go
        self._shares = Shares(snapshot)
        ranks = {name: tier.rank for name, tier in snapshot.tiers.items()}
        self._units = fairness.units(snapshot.pending())
        self._turns = Turns(self._units, self._shares, ranks)
        self._ranks = ranks
        self._failed: set[Hashable] = set()
        self._turn: dict[int, int] = {}
        self._unit_of = {claim.id: unit for unit in self._units for claim in unit.members}
        self._cheaper: set[int] = set()
        """Units that moved to cheaper victims once: two could each make the other's cheaper without end."""

    def run(self) -> None:
        """Decide everything."""
        self._keep()
        for unit in self._turns:
            self._turn[id(unit)] = len(self._turn)
            kept = self.board.kept(unit.members)
            if self._try(unit):
                self._shares.give(unit.members)
            else:
                self.waiting.append(unit)
            self.lost.update(pair for pair in kept if self._in_vain(*pair))
            self._look_again()
        for _ in range(PASSES_MAX):
            if not self._settle():
                break

    def _keep(self) -> None:
        """Hold what `for` keeps, where it fits, for the first in the pending order (as the shares are now) first."""
        board, snapshot = self.board, self._snapshot
        rows = {name: row for row, name in enumerate(board.names)}
        kept: set[tuple[str, int]] = set()
        for dying in snapshot.dying():
            claim = None if dying.kept_for is None else snapshot.task(dying.kept_for)
            if claim is not None and claim.state == PENDING and dying.node is not None:
                kept.add((claim.id, rows[dying.node]))
        kept -= self._let_go
        claims = {id: claim for id, _ in kept if (claim := snapshot.task(id)) is not None}

        def order(one: tuple[str, int]) -> tuple[object, ...]:
            claim = claims[one[0]]
            share = self._shares.of(claim.role)
            return -self._ranks[claim.tier], share, -claim.priority, claim.since_us, *one

        for id, row in sorted(kept, key=order):
            claim = claims[id]
            if board.allowed(claim)[row] and board.rules.over([claim]) is None:
                board.keep(claim, row)

    def _in_vain(self, id: str, row: int) -> bool:
        """Whether a task did not start where room was held for it, while others that it kept out may wait."""
        spot = self.board.spots.get(id)
        return spot is None or (spot.node != row and (not spot.launch or bool(self.waiting)))

    def _try(self, unit: Unit, only: Mask | None = None) -> bool:
        board = self.board
        kept = board.unkeep(unit.members)
        key = None if kept else self.kind(unit)
        if key is not None and key in self._failed:
            return False
        if board.rules.over(unit.members) is None:
            if place.launch(board, unit, kept, only) or place.reserve(board, unit, kept, only):
                return True
            choice = preempt.cheapest(board, unit, only)
            if choice is not None:
                self._commit(choice)
                return True
        if key is not None:
            self._failed.add(key)
        return False

    def kind(self, unit: Unit) -> Hashable:
        """Units that fail alike; a gang only as itself."""
        if unit.gang is not None:
            return unit.gang
        claim = unit.members[0]
        request = tuple(sorted(claim.request.items()))
        job = self.board.rules.job(claim)
        return claim.tier, claim.role, claim.user, claim.priority, request, claim.constraints, job

    def _commit(self, choice: preempt.Choice) -> None:
        board = self.board
        nodes = sorted({node for _, node in choice.places})
        before = board.total[nodes]
        preempt.commit(board, choice)
        for node, old in zip(nodes, before, strict=True):
            # A spared victim is prey again, for a waiting task too that may not take the one that replaced it.
            if board.needless(node) or (board.total[node] > old).any():
                board.gained.add(node)

    def _look_again(self) -> None:
        """Waiting units, in their order, at the nodes that have gained room."""
        board = self.board
        while board.gained:
            only = np.zeros(len(board.names), np.bool_)
            only[sorted(board.gained)] = True
            for node in sorted(board.gained):
                board.needless(node)
            board.gained.clear()
            self._failed.clear()
            still = []
            for unit in self.waiting:
                if self._try(unit, only):
                    self._shares.give(unit.members)
                else:
                    still.append(unit)
            self.waiting = still
        # What failed at the nodes that gained had failed at the others before.

    def _settle(self) -> bool:
        """Move units with victims to where they need none, or cheaper ones; True if anything moved."""
        moved = False
        takers = self._takers()
        few = len(takers) <= COMPARED_MAX
        for unit in takers:
            search = few and id(unit) not in self._cheaper
            if self._victims_of(unit) and (search or self._could_move(unit)) and self._move(unit, search):
                moved = True
                self._look_again()
        return moved

    def _takers(self) -> list[Unit]:
        """Units that have victims, those with the least important one first."""
        board = self.board
        found = {id(unit): unit for victim in sorted(board.killed) if (unit := self._unit_of[board.killed[victim].id])}
        return list(found.values())

    def _victims_of(self, unit: Unit) -> list[int]:
        board = self.board
        ids = {claim.id for claim in unit.members}
        nodes = {board.spots[claim.id].node for claim in unit.members if claim.id in board.spots}
        victims = {victim for node in nodes for victim in board.killed_on.get(node, ())}
        return sorted(victim for victim in victims if board.killed[victim].id in ids)

    def _could_move(self, unit: Unit) -> bool:
        """A quick no for a single task: no other node has room for it as it is."""
        if unit.gang is not None:
            return True
        claim, board = unit.members[0], self.board
        mask = board.fits(board.shape(claim), board.total) & board.rules.up & board.rules.matches(claim)
        mask[board.spots[claim.id].node] = False
        return bool(mask.any())

    def _move(self, unit: Unit, search: bool) -> bool:
        """Lift a unit with its victims and place it without any, or with cheaper ones; else all is as before."""
        board = self.board
        spots = [board.lift(claim) for claim in unit.members]
        nodes = sorted({spot.node for spot in spots})
        former = dict(board.killed)
        mine = {claim.id for claim in unit.members}
        for node in nodes:
            board.needless(node, mine)
        if self._hand_over(unit):
            elsewhere = np.ones(len(board.names), np.bool_)
            elsewhere[nodes] = False  # there it would only hand its victims to a neighbour
            if place.launch(board, unit, {}, elsewhere) or place.reserve(board, unit, {}, elsewhere):
                board.gained.update(nodes)
                return True
            spared = [victim for victim in former if victim not in board.killed]
            if search and spared and not self._jumps_queue(nodes):
                choice = preempt.cheapest(board, unit)
                if choice is not None and board.herd.cost(choice.all_victims()) < board.herd.cost(spared):
                    self._cheaper.add(id(unit))
                    self._commit(choice)
                    board.gained.update(nodes)
                    return True
        self._restore(spots, former)
        return False

    def _jumps_queue(self, nodes: Sequence[int]) -> bool:
        """Whether what a unit leaves on these nodes would serve a waiting task, were it not for units behind that."""
        board = self.board
        for unit in self.waiting:
            claim, place = unit.members[0], self._turn[id(unit)]
            shape, matches = board.shape(claim), board.rules.matches(claim)
            for node in nodes if unit.gang is None else ():
                behind = [one for one in board.spots.values() if one.node == node]
                behind = [one for one in behind if self._turn[id(self._unit_of[one.claim.id])] > place]
                prey = board.herd.lawful(claim) & board.herd.alive & (board.herd.node == node)
                room = board.total[node] + board.herd.request[prey].sum(axis=0)
                room += sum((board.shape(one.claim).request for one in behind), np.zeros_like(room))
                if behind and matches[node] and board.fits(shape, room[np.newaxis])[0]:
                    return True
        return False

    def _hand_over(self, unit: Unit) -> bool:
        """Victims that others on the node need are theirs from now on, if one of them may take them."""
        board = self.board
        ids = {claim.id for claim in unit.members}
        for victim in sorted(victim for victim, claim in board.killed.items() if claim.id in ids):
            there = board.reserved[int(board.herd.node[victim])]
            heir = next((there[id] for id in sorted(there) if board.herd.lawful(there[id])[victim]), None)
            if heir is None:
                return False
            board.killed[victim] = heir
        return True

    def _restore(self, spots: Sequence[Spot], former: dict[int, Claim]) -> None:
        board = self.board
        for victim, claim in former.items():
            if victim not in board.killed:
                board.kill(victim, claim)
            board.killed[victim] = claim
        for spot in spots:
            board.put(spot.claim, spot.node, spot.launch)
