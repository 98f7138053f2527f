"""What is left of a plan that `certify` refused: as much of it as does no harm.

    1. the plan without the units that break what must hold whatever else does (`HARM`): who would kill without right or
       need, or break a rule or a node's room. A victim counts as the unit that it is killed for. What is left is
       checked again, and so on until nothing in it does harm
    2. if that does not come to an end, the launches alone, where they do no harm
    3. nothing

What is left out waits, with the reason `policy`. Whether anybody could have been served better (`order`, `cheapest`,
`needless-wait`, `kept`) is let be: the engine would answer the same again, and who needs room would wait for ever.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from priority.certify import HARM, Violation, certify
from priority.plan import Plan, Waiting
from priority.reason import Reason
from priority.snapshot import Snapshot

ROUNDS_MAX = 20


def salvage(snapshot: Snapshot, plan: Plan, found: Sequence[Violation]) -> Plan:
    """A plan that may be carried out in place of a refused one, for the same snapshot."""
    out: set[str] = set()
    rest, harm = plan, [one for one in found if one.property in HARM]
    for _ in range(ROUNDS_MAX):
        if not harm:
            return rest
        why = _reason(harm)
        out |= _units(snapshot, plan, {one.task for one in harm})
        rest = _without(snapshot, plan, out, why)
        harm = certify(snapshot, rest, only=HARM)
    why = _reason(found)
    launches = _without(snapshot, rest, _units(snapshot, rest, {one.task for one in rest.reserve}), why)
    if not certify(snapshot, launches, only=HARM):
        return launches
    return _without(snapshot, plan, {claim.id for claim in snapshot.pending()}, why)


def _units(snapshot: Snapshot, plan: Plan, named: Collection[str]) -> set[str]:
    """Those tasks, those that the named are killed for, and all members of their gangs."""
    out = {*named} | {one.preemptor for one in plan.preempt if one.task in named}
    claims = [claim for id in out if (claim := snapshot.task(id)) is not None]
    gangs = {claim.gang for claim in claims if claim.gang is not None}
    return out | {claim.id for claim in snapshot.pending() if gangs and claim.gang in gangs}


def _without(snapshot: Snapshot, plan: Plan, out: Collection[str], why: Reason) -> Plan:
    """The plan with some tasks waiting: one with every pending task, whatever the refused one had forgotten."""
    pending = {claim.id for claim in snapshot.pending()}
    launch = {one.task: one for one in plan.launch if one.task in pending and one.task not in out}
    reserve = {one.task: one for one in plan.reserve if one.task in pending and one.task not in out}
    for id in launch.keys() & reserve.keys():
        del reserve[id]
    left = pending - launch.keys() - reserve.keys()
    told = {one.task: one for one in plan.wait if one.task in left}
    return Plan(
        launch=tuple(launch[id] for id in sorted(launch)),
        reserve=tuple(reserve[id] for id in sorted(reserve)),
        preempt=tuple(one for one in plan.preempt if one.preemptor in reserve),
        wait=tuple(told.get(id) or Waiting(id, why) for id in sorted(left)),
    )


def _reason(found: Sequence[Violation]) -> Reason:
    names = sorted({violation.property for violation in found})
    text = f"the plan for it was refused by the scheduler's own check ({', '.join(names)}); it is tried again"
    return Reason("policy", text, {"refused": names})
