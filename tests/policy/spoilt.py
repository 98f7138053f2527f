"""Plans spoilt at random: one thing taken away, added, or moved."""

from __future__ import annotations

import random
from dataclasses import replace

from priority.claim import RUNS
from priority.plan import Placement, Plan, Preemption, Waiting
from priority.reason import Reason
from priority.snapshot import Snapshot

NO_ROOM = Reason("no-room", "no room")


def spoil(rng: random.Random, snapshot: Snapshot, plan: Plan) -> Plan:
    """The plan with one change; the same plan where the change makes no sense."""
    return rng.choice([wait, spare, move, kill, take, swap, carry])(rng, snapshot, plan)


def wait(rng: random.Random, snapshot: Snapshot, plan: Plan) -> Plan:
    """What has room waits; its victims, if any, are spared."""
    if not plan.launch + plan.reserve:
        return plan
    id = rng.choice(plan.launch + plan.reserve).task
    return replace(_without(plan, id), wait=(*plan.wait, Waiting(id, NO_ROOM)))


def spare(rng: random.Random, snapshot: Snapshot, plan: Plan) -> Plan:
    """A victim is given back."""
    if not plan.preempt:
        return plan
    gone = rng.choice(plan.preempt)
    return replace(plan, preempt=tuple(one for one in plan.preempt if one != gone))


def move(rng: random.Random, snapshot: Snapshot, plan: Plan) -> Plan:
    """Something goes to another node, its victims stay."""
    name = rng.choice(["launch", "reserve"])
    places = list(getattr(plan, name))
    if places:
        index = rng.randrange(len(places))
        places[index] = Placement(places[index].task, rng.choice(_nodes(snapshot)))
    return replace(plan, launch=tuple(places)) if name == "launch" else replace(plan, reserve=tuple(places))


def kill(rng: random.Random, snapshot: Snapshot, plan: Plan) -> Plan:
    """One victim more."""
    if not plan.reserve:
        return plan
    at = rng.choice(plan.reserve)
    return replace(plan, preempt=(*plan.preempt, *_victims(rng, snapshot, plan, at.node, at.task, 1)))


def take(rng: random.Random, snapshot: Snapshot, plan: Plan) -> Plan:
    """What waits is reserved somewhere, with victims."""
    if not plan.wait:
        return plan
    id, node = rng.choice(plan.wait).task, rng.choice(_nodes(snapshot))
    victims = _victims(rng, snapshot, plan, node, id, rng.randint(0, 3))
    rest = _without(plan, id)
    return replace(rest, reserve=(*rest.reserve, Placement(id, node)), preempt=(*rest.preempt, *victims))


def swap(rng: random.Random, snapshot: Snapshot, plan: Plan) -> Plan:
    """Another victim on the same node."""
    if not plan.preempt:
        return plan
    one = rng.choice(plan.preempt)
    others = _victims(rng, snapshot, plan, one.node, one.preemptor, 1)
    if not others:
        return plan
    return replace(plan, preempt=(*(other for other in plan.preempt if other != one), *others))


def carry(rng: random.Random, snapshot: Snapshot, plan: Plan) -> Plan:
    """What is reserved goes to another node, with other victims."""
    if not plan.reserve:
        return plan
    id, node = rng.choice(plan.reserve).task, rng.choice(_nodes(snapshot))
    victims = _victims(rng, snapshot, plan, node, id, rng.randint(0, 2))
    rest = _without(plan, id)
    return replace(rest, reserve=(*rest.reserve, Placement(id, node)), preempt=(*rest.preempt, *victims))


def _nodes(snapshot: Snapshot) -> list[str]:
    return sorted(node.name for node in snapshot.nodes())


def _without(plan: Plan, id: str) -> Plan:
    return Plan(
        tuple(one for one in plan.launch if one.task != id),
        tuple(one for one in plan.reserve if one.task != id),
        tuple(one for one in plan.preempt if one.preemptor != id),
        tuple(one for one in plan.wait if one.task != id),
    )


def _victims(rng: random.Random, snapshot: Snapshot, plan: Plan, node: str, taker: str, count: int) -> list[Preemption]:
    taken = {one.task for one in plan.preempt}
    there = sorted(claim.id for claim in snapshot.tasks_on(node) if claim.state in RUNS and claim.id not in taken)
    return [Preemption(id, node, taker) for id in rng.sample(there, min(count, len(there)))]
