"""From the dead to those for whom they died.

While a victim is dying, its room is kept for its preemptor (`for` in the contract). In the round in which it is gone
nothing says so any more, and the room would go to whoever is first in the pending order then: the victim died in vain,
and its preemptor kills again. So whoever keeps a snapshot lets the gone stay in it, as dying, for one plan more. That
plan leaves the room to the preemptor, in `reserve`; and as the room is there in truth, the preemptor starts at once.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from priority.claim import Claim
from priority.node import NodeState
from priority.plan import Placement, Plan
from priority.resources import Resources, shortfall, total
from priority.snapshot import Snapshot


def hand_over(snapshot: Snapshot, gone: Collection[Claim], plan: Plan) -> tuple[Plan, bool]:
    """The plan with what the `gone` have made room for launched instead of reserved, and whether something is left of
    their room for which it is worth deciding again.

    `plan` was made with them in the snapshot as dying, which is without them now. What hangs on more than the room of
    a node (gangs, limits, ceilings: of these the dying are a part) waits for the next plan, as if nothing were kept.
    """
    kept = {(claim.kept_for, claim.node) for claim in gone}
    free: dict[str, Resources] = {}
    handed: list[Placement] = []
    for one in plan.reserve:
        claim = snapshot.task(one.task)
        if claim is None or (one.task, one.node) not in kept or not _alone(snapshot, claim):
            continue
        room = free.setdefault(one.node, _free(snapshot, plan, one.node))
        if not shortfall(claim.request, room):
            free[one.node] = _less(room, claim.request)
            handed.append(one)
    left = any(amount > 0 for amount in _left(snapshot, gone, handed).values())
    if handed:
        rest = tuple(one for one in plan.reserve if one not in handed)
        plan = replace(plan, launch=(*plan.launch, *handed), reserve=rest)
    return plan, left and bool(plan.wait or plan.reserve)


def _alone(snapshot: Snapshot, claim: Claim) -> bool:
    if claim.gang is not None or any(one.limit is not None for one in claim.constraints):
        return False
    if not snapshot.tiers[claim.tier].preemptible:
        return True
    rules = snapshot.role(claim.role)
    return claim.tier not in rules.quota and claim.tier not in rules.users.get(claim.user, {})


def _free(snapshot: Snapshot, plan: Plan, name: str) -> Resources:
    node = snapshot.node(name)
    if node is None or node.state is not NodeState.UP:
        return {}
    launched = [snapshot.task(one.task) for one in plan.launch if one.node == name]
    held = total(claim.request for claim in (*snapshot.tasks_on(name), *launched) if claim is not None)
    return _less(node.capacity, held)


def _left(snapshot: Snapshot, gone: Collection[Claim], handed: Collection[Placement]) -> Resources:
    taken = total(claim.request for one in handed if (claim := snapshot.task(one.task)) is not None)
    return _less(total(claim.request for claim in gone), taken)


def _less(amounts: Resources, other: Resources) -> Resources:
    return {name: amounts.get(name, 0) - other.get(name, 0) for name in amounts.keys() | other.keys()}
