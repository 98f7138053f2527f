"""Nodes that tasks keep which have waited for very long: room on them is let come together.

Where many small tasks come, a large one may find no node free enough for ever: whatever ends, something small takes
its room. With `holds_after_s` set for a tier, the task of it that has waited longest, if longer than that (and
`holds_at_once` of them, the oldest first; tiers of a higher rank before), keeps one node: as long as it waits, no task
of its own tier or a lower one is placed there, unless room there is kept for that one by `for`. Higher tiers, and what
runs there, are not held up. The node that is kept is the one that will be free enough first, as far as is known from
the `until` of what runs there; of equals the one that lacks the least part of what is asked for; then by name. All of
that is decided from how things are before the round, so it stays the same node as long as nothing changes. A gang
keeps none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from priority.board import Board, Closed
from priority.claim import DYING, Claim
from priority.snapshot import Plane, Snapshot

PARTS = 10**6
"""What is lacking is compared in millionths of what is asked for."""

NEVER = 2**62


def holds(board: Board, snapshot: Snapshot, wanted: Mapping[str, Sequence[int]]) -> dict[int, Closed]:
    """By row of a node who keeps it; `wanted`: where room is kept by `for`, by task."""
    terms, found = snapshot.terms, dict[int, Closed]()
    for tier in sorted(terms.holds_after_s, key=lambda name: (-snapshot.tiers[name].rank, name)):
        left = terms.holds_at_once.get(tier, 1)
        for claim in _old(snapshot, tier, terms.holds_after_s[tier]) if left else ():
            row = _soonest(board, snapshot, claim, found)
            if row is not None:
                welcome = {claim.id, *(id for id, rows in wanted.items() if row in rows)}
                found[row] = Closed(claim.id, snapshot.tiers[tier].rank, frozenset(welcome))
                left -= 1
            if not left:
                break
    return found


def _old(snapshot: Snapshot, tier: str, least_us: int) -> Iterator[Claim]:
    """Single tasks that have waited so long, the longest first."""
    since_us = snapshot.now_us - least_us
    some = (one for one in snapshot.pending() if one.tier == tier and one.gang is None and one.since_us <= since_us)
    return iter(sorted(some, key=lambda one: (one.since_us, one.id)))


def _soonest(board: Board, snapshot: Snapshot, claim: Claim, taken: Collection[int]) -> int | None:
    shape, rules = board.shape(claim), board.rules
    if rules.over([claim]) is not None or not len(shape.asked):
        return None
    mask = rules.may_take(claim) & board.fits(shape, board.capacity)
    open_ = rules.open(claim)
    if open_ is not None:
        mask = mask & open_
    rows = np.flatnonzero(mask)
    rows = rows[~np.isin(rows, list(taken))]
    lacks: Plane = np.maximum(shape.amounts - board.total[np.ix_(rows, shape.asked)], 0)
    missing = (-(-lacks * PARTS // shape.amounts)).max(axis=1, initial=0)
    best: tuple[int, int, int] | None = None
    for place, row in enumerate(rows.tolist()):
        when = _free_at(snapshot, board, row, dict(zip(shape.columns, lacks[place].tolist(), strict=True)))
        key = when, int(missing[place]), row
        best = key if best is None else min(best, key)
    return None if best is None else best[2]


def _free_at(snapshot: Snapshot, board: Board, row: int, lacks: dict[int, int]) -> int:
    """When so much more will be free on a node, at the latest."""
    left = {board.axis[column]: lack for column, lack in lacks.items() if lack > 0}
    if not left:
        return 0
    ends = [(one.until_us, one) for one in snapshot.tasks_on(board.names[row]) if one.state not in DYING]
    for until_us, one in sorted(((at, one) for at, one in ends if at is not None), key=lambda pair: pair[0]):
        for name in left:
            left[name] -= one.request.get(name, 0)
        if max(left.values()) <= 0:
            return until_us
    return NEVER
