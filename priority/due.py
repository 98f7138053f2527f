"""When policy alone will change what a plan would be, though nothing happens: time passes, and settings look at it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from priority.policy import HOUR_US
from priority.snapshot import Snapshot


def next_us(snapshot: Snapshot) -> int | None:
    """The next moment at which somebody may be taken, or keep a node, who may not now; None: there is none."""
    return min((at_us for at_us in _moments(snapshot) if at_us > snapshot.now_us), default=None)


def _moments(snapshot: Snapshot) -> Iterator[int]:
    terms, now_us = snapshot.terms, snapshot.now_us
    stock = snapshot.settled().stock if terms.min_run_s else None
    for (tier, _), code in stock.owners.items() if stock is not None else ():
        least_us = terms.min_run_s.get(tier)
        if stock is not None and least_us:
            since = stock.since[: stock.size]
            mine = stock.live[: stock.size] & (stock.owner[: stock.size] == code) & (since + least_us > now_us)
            if mine.any():
                yield int(np.min(since[mine])) + least_us
    for claim in snapshot.preempted() if terms.preempted_per_hour else ():
        most = terms.preempted_per_hour.get(claim.tier, 0)
        if 0 < most <= len(claim.preempted_us):
            yield claim.preempted_us[-most] + HOUR_US
    for claim in snapshot.pending() if terms.holds_after_s else ():
        if claim.tier in terms.holds_after_s:
            yield claim.since_us + terms.holds_after_s[claim.tier]
