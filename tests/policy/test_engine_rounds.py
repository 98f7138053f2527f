"""Round after round: plans are carried out, victims die late, and everything settles without waste.

The world is played by hand: launches start, victims die after some rounds, in an order from a seed. After every
round the plan is certified, and in the end nothing moves any more.
"""

from __future__ import annotations

import random

import pytest
from engine_worlds import Dice, world

from priority.certify import certify
from priority.claim import DYING
from priority.plan import Plan, make_plan
from priority.snapshot import Snapshot

ROUNDS_MAX = 60


def carry_out(snapshot: Snapshot, plan: Plan) -> None:
    for one in plan.preempt:
        snapshot.move_task(one.task, state="preempting", kept_for=one.preemptor)
    for one in plan.launch:
        snapshot.move_task(one.task, state="running", node=one.node, since_us=snapshot.now_us)


def die(snapshot: Snapshot, rng: random.Random) -> None:
    """Some of the dying are gone."""
    for claim in sorted((one for one in snapshot.tasks() if one.state in DYING), key=lambda one: one.id):
        if rng.random() < 0.5:
            snapshot.drop_task(claim.id)


@pytest.mark.parametrize("seed", range(120))
def test_every_round_is_certified_and_all_settles(seed: int) -> None:
    snapshot = Snapshot.parse(Dice(seed, full=seed % 2 == 0).document())
    rng = random.Random(seed)
    for _ in range(ROUNDS_MAX):
        plan = make_plan(snapshot)
        assert certify(snapshot, plan) == []
        carry_out(snapshot, plan)
        quiet = not (plan.launch or plan.preempt or plan.reserve)
        if quiet and not any(claim.state in DYING for claim in snapshot.tasks()):
            return
        die(snapshot, rng)
        snapshot.now_us += 1_000_000
    pytest.fail("it never settles")


def test_a_reserved_task_starts_in_the_room_that_its_victims_freed() -> None:
    text = """
        node n1 4
        node n2 4
        task v  a devel 2 @n1 age=1
        task w  a devel 2 @n1 age=1
        task x  a devel 2 @n2
        task y  a devel 2 @n2
        task p  b prod  4
    """
    snapshot = Snapshot.parse(world(text))
    plan = make_plan(snapshot)
    assert {one.task for one in plan.preempt} == {"v", "w"}
    carry_out(snapshot, plan)
    for victim in ("v", "w"):
        plan = make_plan(snapshot)
        assert not plan.preempt
        assert [(one.task, one.node) for one in plan.reserve] == [("p", "n1")]
        snapshot.drop_task(victim)
    assert [(one.task, one.node) for one in make_plan(snapshot).launch] == [("p", "n1")]


def test_what_comes_later_does_not_get_the_room_of_one_of_two_victims() -> None:
    text = """
        node n1 4
        task v  a devel 2 @n1
        task w  a devel 2 @n1
        task p  b devel 1 age=99
        task q  b prod  4
    """
    snapshot = Snapshot.parse(world(text))
    carry_out(snapshot, make_plan(snapshot))
    snapshot.drop_task("v")
    plan = make_plan(snapshot)
    assert not plan.launch
    assert [one.task for one in plan.reserve] == ["q"]


def test_every_kill_serves_the_task_that_it_was_for_when_nothing_else_happens() -> None:
    """No victim dies in vain: each preemptor ends up running."""
    for seed in range(40):
        snapshot = Snapshot.parse(Dice(seed, full=True, gangs=False).document())
        for claim in [one for one in snapshot.tasks() if one.state in DYING]:
            snapshot.drop_task(claim.id)
        rng, served = random.Random(seed), set[str]()
        for _ in range(ROUNDS_MAX):
            plan = make_plan(snapshot)
            served |= {one.preemptor for one in plan.preempt}
            carry_out(snapshot, plan)
            if not plan.reserve and not plan.launch:
                break
            die(snapshot, rng)
        for preemptor in served:
            claim = snapshot.task(preemptor)
            # Gone: it ran, and was a victim of a higher one itself; what waits now would be a kill in vain.
            assert claim is None or claim.state != "pending", f"seed {seed}: {preemptor}"
