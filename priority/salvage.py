"""What is left of a plan that `certify` refused: as much of it as passes by itself.

    1. the plan without the units that the violations name, a victim counting as the task that it is killed for. That
       those wait now is excused, nothing else is. Not if anyone overtakes another: nobody is killed for who does
    2. the launches of that alone, where they are in room and within every rule: nobody is killed, nothing is held
    3. nothing

What is left out waits, with the reason `policy`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from priority.certify import SAFE, Violation, certify
from priority.plan import Plan, Waiting
from priority.reason import Reason
from priority.snapshot import Snapshot

_WAITING = frozenset({"needless-wait", "order", "kept"})
"""What may be wrong with a task that waits."""


def salvage(snapshot: Snapshot, plan: Plan, found: Sequence[Violation]) -> Plan:
    """A plan that may be carried out in place of a refused one, for the same snapshot."""
    why = _reason(found)
    out = _units(snapshot, plan, {violation.task for violation in found})
    rest = _without(snapshot, plan, out, why)
    broken = [one for one in certify(snapshot, rest) if one.property not in _WAITING or one.task not in out]
    if not broken and all(violation.property != "order" for violation in found):
        return rest
    held = {one.task for one in rest.reserve}
    launches = _without(snapshot, rest, _units(snapshot, rest, held), why)
    if not certify(snapshot, launches, only=SAFE):
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
