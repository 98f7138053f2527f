"""Which nodes are kept by tasks that have waited for long, for `certify`: the rule of `hold` in other words.

Its own code, and plain: task by task, node by node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from priority.claim import DYING, Claim
from priority.constraint import HOST
from priority.node import Node, NodeState
from priority.snapshot import Snapshot

Key = tuple[float, int, str]
"""When it will be free enough, how much it lacks now, its name."""


def kept_nodes(snapshot: Snapshot) -> dict[str, Claim]:
    """By name of a node: the task that keeps it, before anything is decided."""
    found: dict[str, Claim] = {}
    tiers = [snapshot.tiers[name] for name in snapshot.terms.holds_after_s]
    for tier in sorted(tiers, key=lambda one: (-one.rank, one.name)):
        count = 0
        waiting = [claim for claim in snapshot.pending() if claim.tier == tier.name and claim.gang is None]
        for claim in sorted(waiting, key=lambda one: (one.since_us, one.id)):
            if count >= snapshot.terms.holds_at_once.get(tier.name, 1):
                break
            if snapshot.now_us - claim.since_us < snapshot.terms.holds_after_s[tier.name] or _capped(snapshot, claim):
                continue
            spread = _spread(snapshot, claim)
            nodes = [node for node in snapshot.nodes() if node.name not in found and _may(node, claim, spread)]
            if nodes and any(claim.request.values()):
                found[min(_key(snapshot, node, claim) for node in nodes)[2]] = claim
                count += 1
    return found


def _capped(snapshot: Snapshot, claim: Claim) -> bool:
    """Whether a ceiling keeps it from starting."""
    if not snapshot.tiers[claim.tier].preemptible:
        return False
    role = snapshot.role(claim.role)
    for owner, quotas in (((), role.quota), ((claim.user,), role.users.get(claim.user, {}))):
        held = snapshot.held(claim.role, claim.tier, *owner)
        quota: Mapping[str, int] = quotas.get(claim.tier, {})
        if any(amount and name in quota and held.get(name, 0) + amount > quota[name]
               for name, amount in claim.request.items()):  # fmt: skip
            return True
    return False


def _value(node: Node, attribute: str) -> str | None:
    return node.name if attribute == HOST else node.attributes.get(attribute)


def _spread(snapshot: Snapshot, claim: Claim) -> Counter[tuple[str, str | None]]:
    """How many of its job there are for each value of the attributes that it limits."""
    nodes = [snapshot.node(one.node) for one in snapshot.tasks_of(claim.role, claim.job) if one.node is not None]
    limited = [one.attribute for one in claim.constraints if one.limit is not None]
    return Counter((name, _value(node, name)) for name in {*limited} for node in nodes if node is not None)


def _may(node: Node, claim: Claim, spread: Counter[tuple[str, str | None]]) -> bool:
    if node.state != NodeState.UP or any(node.capacity.get(name, 0) < amount for name, amount in claim.request.items()):
        return False
    for one in claim.constraints:
        value = _value(node, one.attribute)
        if one.within is not None and value not in one.within:
            return False
        if one.outside is not None and value in one.outside:
            return False
        if one.limit is not None and (value is None or spread[one.attribute, value] >= one.limit):
            return False
    return True


def _key(snapshot: Snapshot, node: Node, claim: Claim) -> Key:
    stay = [one for one in snapshot.tasks_on(node.name) if one.state not in DYING]

    def lacks(at_us: float | None) -> dict[str, int]:
        """Of what is asked for, how much is not free then (None: now, once the dying have gone)."""
        there = [one for one in stay if at_us is None or one.until_us is None or one.until_us > at_us]
        free = {name: node.capacity.get(name, 0) - sum(one.request.get(name, 0) for one in there) for name in asked}
        return {name: amount - free[name] for name, amount in asked.items() if free[name] < amount}

    asked = {name: amount for name, amount in claim.request.items() if amount}
    now = lacks(None)
    missing = max((-(-lack * 10**6 // asked[name]) for name, lack in now.items()), default=0)
    ends = sorted({one.until_us for one in stay if one.until_us is not None})
    when = 0.0 if not now else next((float(end) for end in ends if not lacks(end)), float("inf"))
    return when, missing, node.name
