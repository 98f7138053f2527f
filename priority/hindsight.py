"""What a finished round breaks turn by turn: its decisions once more in their order, each beside what was open then."""

from __future__ import annotations

from priority import faults, place, preempt
from priority.board import Board
from priority.fairness import Shares, Turns, Unit
from priority.round import Round, keep
from priority.snapshot import Snapshot

TAKEN_MAX = 200
"""With more units than this nothing is replayed."""


def broken(snapshot: Snapshot, done: Round) -> int:
    """How many units wait beside room, or have victims that are needless or not the least important, at their turn."""
    if len(done.units) > TAKEN_MAX:
        return 0
    board, shares = Board(snapshot), Shares(snapshot)
    ranks = {name: tier.rank for name, tier in snapshot.tiers.items()}
    keep(board, snapshot, shares, done.way.let_go)
    found = 0
    for unit in Turns(done.units, shares, ranks):
        kept = board.unkeep(unit.members)
        found += _better(board, done.board, unit)
        if unit.members[0].id not in done.board.spots:
            for claim in unit.members:
                for node in kept.get(claim.id, ()):
                    board.keep(claim, node)
            continue
        for victim in faults.victims_of(done.board, unit):
            board.kill(victim, done.board.killed[victim])
        for claim in unit.members:
            spot = done.board.spots[claim.id]
            board.put(claim, spot.node, spot.launch)
        shares.give(unit.members)
    return found


def _better(board: Board, decided: Board, unit: Unit) -> bool:
    """Whether something better was open to a unit at its turn."""
    victims = faults.victims_of(decided, unit)
    spot = decided.spots.get(unit.members[0].id)
    if spot is not None and not victims:
        return not spot.launch and place.could(board, unit, now=True)
    if place.could(board, unit, now=False):
        return True
    if board.rules.over(unit.members) is not None:
        return False
    choice = preempt.cheapest(board, unit)
    if choice is None or spot is None:
        return choice is not None
    return board.herd.cost(choice.all_victims()) < board.herd.cost(victims)
