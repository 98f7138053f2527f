"""What a finished round breaks of the contract, as the engine itself can see it: how it chooses between its ways.

A round that decides unit by unit is right at each unit's turn by construction. This looks at what only the whole
can show: a victim that another made needless, a unit with victims for which room has come, or cheaper victims,
since its turn, a reservation that could be a launch, and a unit that waits while one behind it stands in its place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from priority import place, preempt
from priority.board import Board, Spot
from priority.claim import Claim
from priority.fairness import Unit
from priority.rules import Mask
from priority.snapshot import Plane

COMPARED_MAX = 64
"""With more units that have victims than this, cheaper victims are not looked for."""

WAITING_MAX = 10_000
"""Of more pairs of a waiting and a placed unit than this, who overtook whom is not looked at."""


@contextmanager
def lifted(board: Board, unit: Unit) -> Iterator[list[int]]:
    """The board without a unit and its own victims (answers these); afterwards all is as before."""
    victims = victims_of(board, unit)
    former = {victim: board.killed[victim] for victim in victims}
    spots = [board.lift(claim) for claim in unit.members]
    for victim in victims:
        board.spare(victim)
    try:
        yield victims
    finally:
        for victim, claim in former.items():
            board.kill(victim, claim)
        for spot in spots:
            board.put(spot.claim, spot.node, spot.launch)


def victims_of(board: Board, unit: Unit) -> list[int]:
    """Places in the herd of those that are killed for a unit."""
    ids = {claim.id for claim in unit.members}
    nodes = {board.spots[claim.id].node for claim in unit.members if claim.id in board.spots}
    victims = {victim for node in nodes for victim in board.killed_on.get(node, ())}
    mine = [victim for victim in victims if board.killed[victim].id in ids]
    return sorted(mine, key=board.herd.key) if mine else mine


def reducible(board: Board) -> int:
    """On how many nodes some victim could be given back."""
    return sum(board.spareable(node) for node, victims in board.killed_on.items() if victims)


def unsettled(board: Board, units: Sequence[Unit], decided_at: Mapping[int, int]) -> int:
    """How many units have victims that they could do without, or that are not the least important.

    `decided_at`: of a unit, by id, how many `board.gains` there were when it took its victims, which are still the
    same. Since then prices have only risen, save where there was a gain, so only those nodes are looked at.
    """
    takers = {claim.id for claim in board.killed.values()}
    with_victims = [unit for unit in units if any(claim.id in takers for claim in unit.members)]
    search = len(with_victims) <= COMPARED_MAX
    gains = list(board.gains)
    return sum(not _settled(board, unit, search, gains, decided_at.get(id(unit))) for unit in with_victims)


def launchable(board: Board, units: Sequence[Unit]) -> int:
    """How many units are reserved and could be launched."""
    return sum(could_launch(board, unit) for unit in maybe_launchable(board, units))


def maybe_launchable(board: Board, units: Iterable[Unit]) -> list[Unit]:
    """Those that are reserved, less those that ask for more of something than any node has free now."""
    most = board.most_free()

    def small(unit: Unit) -> bool:
        spot = board.spots.get(unit.members[0].id)
        if spot is None or spot.launch:
            return False
        shape = board.shape(spot.claim)
        sizes = zip(shape.columns, shape.sizes, strict=True)
        return unit.gang is not None or all(size <= most[column] for column, size in sizes)

    return [unit for unit in units if small(unit)]


def overtaken(
    board: Board, waiting: Sequence[Unit], turns: Mapping[str, int], held: Collection[tuple[str, int]]
) -> int:
    """How many units wait while one behind them stands in their place; not where room was held for that one."""
    if len(waiting) * len(board.spots) > WAITING_MAX:
        return 0
    free = [spot for spot in board.spots.values() if (spot.claim.id, spot.node) not in held]
    return sum(_overtaken(board, unit, free, turns) for unit in waiting)


def could_launch(board: Board, unit: Unit) -> bool:
    """Whether a unit that is reserved would fit in room that is free now, its victims left alone."""
    spot = board.spots[unit.members[0].id]
    if spot.launch:
        return False
    if unit.gang is None:
        mask = board.free(spot.claim)  # of which a reservation takes nothing
        if mask is None or not (mask & board.rules.may_take(spot.claim)).any():
            return False
    with lifted(board, unit):
        return place.could(board, unit, now=True)


def whole(board: Board, node: int) -> bool:
    """Whether all that arrives on a node fits there once the dying and the victims are gone."""
    return all((board.total[node, board.shape(claim).asked] >= 0).all() for claim in board.arrivals(node))


def _settled(board: Board, unit: Unit, search: bool, gains: Sequence[int], since: int | None) -> bool:
    """Whether a unit with victims could not do without them, nor with less important ones."""
    if since == len(gains):
        return True
    if not search and unit.gang is None and not _room_anywhere(board, unit):
        return True
    with lifted(board, unit) as victims:
        if not all(whole(board, int(board.herd.node[victim])) for victim in victims):
            return True  # others hang on them
        if place.could(board, unit, now=False):
            return False
        if not search:
            return True
        only: Mask | None = None
        if since is not None:
            only = np.zeros(len(board.names), np.bool_)
            only[gains[since:]] = True
            only[[board.herd.node[victim] for victim in victims]] = True
        choice = preempt.cheapest(board, unit, only)
        return choice is None or board.herd.cost(choice.all_victims()) >= board.herd.cost(victims)


def _room_anywhere(board: Board, unit: Unit) -> bool:
    """A quick no: neither has another node room for a task, nor its own without the victims that are its own."""
    claim = unit.members[0]
    shape, node = board.shape(claim), board.spots[claim.id].node
    own = board.total[node] - board.herd.request[victims_of(board, unit)].sum(axis=0)
    if (own[shape.asked] >= 0).all():
        return True
    mask = board.fitting(claim, now=False)
    return mask is not None and elsewhere(mask, node)


def elsewhere(mask: Mask, node: int) -> bool:
    """Whether there is another node in the mask than this one."""
    first = int(np.argmax(mask))
    return bool(mask[first]) and (first != node or bool(mask[first + 1 :].any()))


def _overtaken(board: Board, unit: Unit, free: Sequence[Spot], turns: Mapping[str, int]) -> bool:
    """Whether a waiting unit would fit where tasks behind it are, with the victims that it may take itself.

    A gang is looked at if its members may take the same victims.
    """
    claim = unit.members[0]
    behind = [spot for spot in free if turns[spot.claim.id] > turns[claim.id]]
    if not behind or board.rules.over(unit.members) is not None:
        return False
    if len({(one.tier, one.role, one.priority) for one in unit.members}) > 1:
        return False
    if unit.gang is None:
        return bool(overtaken_at(board, unit, free, turns))
    room = _undone(board, claim, behind)
    with _as_if(board, room):
        return place.pack(board, unit.members, False) is not None


def overtaken_at(board: Board, unit: Unit, free: Sequence[Spot], turns: Mapping[str, int]) -> list[int]:
    """Rows of nodes where a task of its own would fit without the `free` ones behind it."""
    claim = unit.members[0]
    behind = [spot for spot in free if turns[spot.claim.id] > turns[claim.id]]
    if not behind or board.rules.over(unit.members) is not None:
        return []
    mask = board.allowed(claim) & board.fits(board.shape(claim), _undone(board, claim, behind))
    return sorted({spot.node for spot in behind if mask[spot.node]})


def _undone(board: Board, claim: Claim, behind: Sequence[Spot]) -> Plane:
    """The room there would be for a task without those behind it and their victims, its own lawful victims gone."""
    herd, room = board.herd, board.total.copy()
    later = {spot.claim.id for spot in behind}
    lawful = herd.lawful(claim)
    prey = np.flatnonzero(lawful & herd.alive)
    np.add.at(room, herd.node[prey], herd.request[prey])
    for spot in behind:
        room[spot.node] += board.shape(spot.claim).request
    for victim, taker in board.killed.items():
        if taker.id in later and not lawful[victim]:
            room[herd.node[victim]] -= herd.request[victim]
    return room


@contextmanager
def _as_if(board: Board, room: Plane) -> Iterator[None]:
    former, board.total = board.total, room
    try:
        yield
    finally:
        board.total = former
