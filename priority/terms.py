"""What policy says of victims, for `certify`: its own code, not the engine's `mercy`.

Whom it spares whatever else the plan does; what it makes dearer; and whether the victims of a plan keep its settings.
"""

from __future__ import annotations

from collections.abc import Iterator

from priority.claim import Claim
from priority.facts import Facts
from priority.policy import HOUR_US
from priority.snapshot import Snapshot

DEARER = 2**52
"""Added to the rank of who is young: more than any two ranks differ by."""

Found = Iterator[tuple[str, str]]
"""(task, message)."""


def ran_us(snapshot: Snapshot, claim: Claim) -> int:
    """For how long a task has run."""
    return snapshot.now_us - claim.since_us


def times_taken(snapshot: Snapshot, claim: Claim) -> int:
    """How often a task was preempted in the last hour."""
    return sum(at_us > snapshot.now_us - HOUR_US for at_us in claim.preempted_us)


def rank_of(snapshot: Snapshot, claim: Claim) -> int:
    """What its importance begins with: the rank of its tier, and more than any if it is young."""
    rank, least_us = snapshot.tiers[claim.tier].rank, snapshot.terms.young_s.get(claim.tier, 0)
    return rank + (DEARER if ran_us(snapshot, claim) < least_us else 0)


def spared(snapshot: Snapshot, claim: Claim) -> bool:
    """Whether it is no victim, whatever the plan."""
    terms, tier = snapshot.terms, claim.tier
    often = terms.preempted_per_hour.get(tier)
    return ran_us(snapshot, claim) < terms.min_run_s.get(tier, 0) or (
        often is not None and times_taken(snapshot, claim) >= often
    )


# --- the checks ------------------------------------------------------------------------------------------------------


def min_run(facts: Facts) -> Found:
    """No victim has run for less than its tier's tasks run at least."""
    snapshot, least = facts.snapshot, facts.snapshot.terms.min_run_s
    for victim in facts.victims if least else ():
        short_us = least.get(victim.tier, 0) - ran_us(snapshot, victim)
        if short_us > 0:
            yield victim.id, f"is killed {short_us / 1e6:g} s before its tier's tasks may be"


def too_often(facts: Facts) -> Found:
    """No victim was preempted as often in the last hour as its tier's tasks may be."""
    snapshot, most = facts.snapshot, facts.snapshot.terms.preempted_per_hour
    for victim in facts.victims if most else ():
        times = times_taken(snapshot, victim)
        if victim.tier in most and times >= most[victim.tier]:
            yield victim.id, f"is killed though it was {times} times in the last hour, and may be {most[victim.tier]}"
