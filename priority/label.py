"""For whom each victim is that changed hands: the first in the pending order whose place fails without it.

On a node, what is launched stands without any victim. Then each reservation in its turn: if what has come so far is
not enough for it, it takes of the victims that are nobody's any more the least important that will do.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from priority.board import Board
from priority.claim import Claim
from priority.cover import least_cover
from priority.fairness import Unit


def name(board: Board, orphans: set[int], turn: Mapping[int, int], unit_of: Mapping[str, Unit]) -> None:
    """Set the `for` of victims whose taker went elsewhere. Where no better name is found, it stays as it is."""
    orphans &= board.killed.keys()
    for node in sorted({int(board.herd.node[victim]) for victim in orphans}):
        there = board.reserved[node].values()
        in_turn = sorted(there, key=lambda claim: (turn[id(unit_of[claim.id])], claim.id))
        _name(board, node, in_turn, orphans)


def _name(board: Board, node: int, in_turn: list[Claim], orphans: set[int]) -> None:
    herd = board.herd
    free = sorted(board.killed_on[node] & orphans, key=herd.key)
    named = sorted(board.killed_on[node] - orphans, key=herd.key)
    room = board.total[node] - herd.request[free + named].sum(axis=0)
    for claim in in_turn:
        room += board.shape(claim).request
    for claim in in_turn:
        shape = board.shape(claim)
        room -= shape.request
        room += sum(herd.request[victim] for victim in named if board.killed[victim].id == claim.id)
        need = np.maximum(-room[shape.asked], 0)
        lawful = [victim for victim in free if herd.may(claim, victim)]
        for victim in _enough(board, lawful, shape.asked.tolist(), need.tolist()):
            board.killed[victim] = claim
            free.remove(victim)
            room += herd.request[victim]


def _enough(board: Board, lawful: list[int], asked: list[int], need: list[int]) -> list[int]:
    """The least of them that cover the need; all of them if they do not."""
    herd = board.herd
    if not any(need):
        return []
    levels = sorted({(int(herd.rank[victim]), int(herd.priority[victim])) for victim in lawful})
    for level in levels:
        some = [victim for victim in lawful if (herd.rank[victim], herd.priority[victim]) <= level]
        amounts = herd.request[np.ix_(some, asked)].tolist()
        cover = least_cover(amounts, [herd.work(victim) for victim in some], need)
        if cover is not None:
            return [some[item] for item in cover.items]
    return lawful
