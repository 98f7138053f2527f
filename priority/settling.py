"""What follows when victims are given back or leave room: others do without their own, or with less important ones.

Looked at are tasks of their own that have victims on which nobody else hangs:

    1. where another node has room for one, it goes there, and its victims are spared
    2. where victims were spared, they are prey again: of those who have dearer ones the dearest one's taker moves there
    3. a victim that by then nothing needs is spared

Each step makes somebody's victims fewer or less important and nobody's more so; hence it comes to an end.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import numpy as np

from priority import prices
from priority.board import Board
from priority.claim import Claim

Cost = tuple[int, int, int, int]


def settle(
    board: Board,
    look_again: Callable[[], None] | None = None,
    stay: Collection[str] = (),
    gained: Collection[int] = (),
) -> bool:
    """Settle the whole board; True if anything moved. `look_again` serves those who wait wherever a node has gained.

    `gained`: rows of nodes where victims may have become cheaper since somebody took dearer ones.
    """
    if board.mercy is not None and board.mercy.policy.shares:
        return False  # what one could take instead hangs on budgets that it shares with others
    return _Settling(board, look_again, stay, gained).run()


class _Settling:
    def __init__(
        self, board: Board, look_again: Callable[[], None] | None, stay: Collection[str], gained: Collection[int]
    ) -> None:
        self._board, self._look_again, self._stay = board, look_again, stay
        self._spared = sorted(gained)
        """Nodes where victims were spared, to be looked at."""
        self._victims: dict[str, tuple[int, ...]] = {}
        """Of each task of its own that has any."""
        self._dear: list[tuple[Cost, str]] = []
        """What they cost; the dearest last."""

    def run(self) -> bool:
        """Until nothing moves."""
        moved = False
        for node in [node for node, victims in self._board.killed_on.items() if len(victims) > 1]:
            if self._board.needless(node):
                self._has_gained(node)
        self._know()
        while self._move_to_room() or self._move_to_spared():
            moved = True
        return moved

    # --- who has which victims ---

    def _know(self) -> None:
        self._victims, self._dear = {}, []
        for node in self._board.killed_on:
            self._look(node)
        self._dear.sort()

    def _look(self, node: int) -> None:
        """Whose victims those on a node are, and who of them could move."""
        board, found = self._board, dict[str, list[int]]()
        for victim in board.killed_on.get(node, ()):
            claim = board.killed[victim]
            if claim.gang is None and claim.id not in self._stay:
                found.setdefault(claim.id, []).append(victim)
        for id, victims in found.items():
            self._victims[id] = tuple(victims)
            if not board.hangs(node, board.spots[id].claim, victims):
                self._dear.append((board.herd.cost(victims), id))

    def _look_again_at(self, nodes: Collection[int]) -> None:
        board = self._board
        gone = {id for id in self._victims if id not in board.spots or board.spots[id].node in nodes}
        for id in gone:
            del self._victims[id]
        self._dear = [one for one in self._dear if one[1] not in gone]
        for node in nodes:
            self._look(node)
        self._dear.sort()

    def _has_gained(self, node: int) -> None:
        board = self._board
        self._spared.append(node)
        board.gained.add(node)

    def _tell(self, *nodes: int) -> None:
        """Something has changed on these nodes: give back what nothing needs, and let those who wait look."""
        board = self._board
        known = True
        for node in nodes:
            known = not board.needless(node) and known
            self._has_gained(node)
        if self._look_again is None:
            board.gained.clear()
        else:
            before = len(board.log)
            self._look_again()
            known = known and len(board.log) == before
        if known:
            self._look_again_at(nodes)
        else:
            self._know()

    # --- 1 ---

    def _move_to_room(self) -> bool:
        moved = False
        for id in self._hopeful():
            claim = self._board.spots[id].claim
            if any(one[1] == id for one in self._dear) and self._go(claim):
                moved = True
        return moved

    def _hopeful(self) -> Iterator[str]:
        """Those of a shape for which some node has room that is not their own; the dearest first."""
        board = self._board
        claims = [board.spots[id].claim for _, id in reversed(self._dear)]
        shapes = {id(shape): shape for shape in map(board.shape, claims)}
        least = np.min([shape.request for shape in shapes.values()], axis=0) if shapes else np.zeros(0, np.int64)
        some = np.ones(len(board.names), np.bool_)
        for column in np.flatnonzero(least).tolist():
            some &= board.total[:, column] >= least[column]
        rows = np.flatnonzero(some)
        room = board.total[rows]
        there = {key: rows[board.fits(shape, room)].tolist() for key, shape in shapes.items()}
        for claim in claims:
            nodes = there[id(board.shape(claim))]
            if len(nodes) > 1 or (nodes and nodes[0] != board.spots[claim.id].node):
                yield claim.id

    def _go(self, claim: Claim) -> bool:
        """To a node with room, without its victims."""
        board = self._board
        spot = board.lift(claim)
        mask = board.room(claim, now=True)
        launch = mask is not None and bool(np.delete(mask, spot.node).any())
        if not launch:
            mask = board.room(claim, now=False)
        if mask is not None:
            mask[spot.node] = False
        if mask is None or not mask.any():
            board.put(claim, spot.node, spot.launch)
            return False
        board.put(claim, board.best(mask, board.shape(claim), board.now if launch else board.total), launch)
        for victim in self._victims[claim.id]:
            board.spare(victim)
        self._tell(spot.node, board.spots[claim.id].node)
        return True

    # --- 2 ---

    def _move_to_spared(self) -> bool:
        moved = False
        while self._spared:
            node = self._spared.pop()
            if self._move_to(node):
                self._spared.append(node)
                moved = True
        return moved

    def _move_to(self, node: int) -> bool:
        """Somebody with dearer victims, to a node that has no victims, or only its own."""
        board = self._board
        owners = {board.killed[victim].id for victim in board.killed_on.get(node, ())}
        if len(owners) > 1 or not owners <= self._victims.keys():
            return False
        prey = [one for one in board.beasts_on(node) if board.herd.alive[one.place]]
        least = min(((one.rank, one.priority, 1, one.work) for one in prey), default=None)
        tried: set[tuple[object, ...]] = set()
        for cost, id_ in reversed(self._dear):
            if least is None or cost <= least:
                break
            if owners and id_ not in owners:
                continue
            claim = board.spots[id_].claim
            job = board.rules.job(claim)
            kind = id(board.shape(claim)), claim.tier, claim.role, claim.priority, claim.constraints, job
            if kind in tried or not self._alone(claim, node):
                continue
            if self._swap(claim, node, cost):
                return True
            tried.add(kind)
        return False

    def _alone(self, claim: Claim, node: int) -> bool:
        """Nobody else has victims beside it (either might be the reason of the other's choice), and it may go there."""
        board, home = self._board, self._board.spots[claim.id].node
        if home == node:
            return True
        return len(board.killed_on[home]) == len(self._victims[claim.id]) and bool(board.allowed(claim)[node])

    def _swap(self, claim: Claim, node: int, cost: Cost) -> bool:
        """To less important victims on that node, if they would do."""
        board, former = self._board, self._victims[claim.id]
        spot = board.lift(claim)
        home = spot.node
        for victim in former:
            board.spare(victim)
        found = prices.few(board, claim, [node])
        better = found is not None and board.herd.cost(found[1]) < cost
        board.put(claim, node if better else home, launch=False if better else spot.launch)
        victims = found[1] if found is not None and better else former
        for victim in victims:
            board.kill(victim, claim)
        if better:
            self._tell(*sorted({home, node}))
        return better
