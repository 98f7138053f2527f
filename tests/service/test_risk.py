"""Who is at risk: held against whom the engine then takes."""

from __future__ import annotations

import random

import pytest

from priority.errors import NotFound
from priority.task import State

from .world import ADA, EVE, ROOT, World, node, spec


def test_the_next_victims_in_order_and_what_would_be_lost() -> None:
    world = World([node(f"n{number}", 2) for number in range(3)])
    devel = world.submit(spec("physics/devel/sim", cpus=2, instances=2), actor=ADA)
    world.settle()
    world.move(10.0)
    world.service.jobs.scale(ADA, devel.uid, 4)
    world.settle()
    world.move(5.0)
    found = world.service.risk(ADA, "physics/devel/sim")
    assert [(one.task.instance, one.lost, one.cheaper) for one in found.tasks] == [
        (2, 2_000 * 5_000_000, 0),
        (0, 2_000 * 15_000_000, 1),
        (1, 2_000 * 15_000_000, 2),
    ]
    assert (found.waiting, found.lost, found.comes_back) == (1, 2_000 * 35_000_000, True)
    assert found.takers == ("prod of any role", "physics/devel with a priority over 0")
    for ref in (devel.uid, "physics/devel/sim", "physics/devel/none"):
        with pytest.raises(NotFound, match="or you have no grant for it"):
            world.service.risk(EVE, ref)


def test_what_is_less_important_goes_first() -> None:
    world = World([node("n1", 6)])
    for key, fields in (
        ("web/opportunistic/mc", {"instances": 2}),
        ("web/devel/low", {"priority": -1}),
        ("web/prod/shop", {}),
    ):
        world.submit(spec(key, **fields))
    devel = world.submit(spec("physics/devel/sim", preempt={"action": "end"}))
    prod = world.submit(spec("physics/prod/reco"))
    world.settle()
    found = world.service.risk(ROOT, devel.uid)
    assert [one.cheaper for one in found.tasks] == [3] and not found.comes_back
    # nobody takes prod but its own role, with a higher priority: after all the others
    found = world.service.risk(ROOT, prod.uid)
    assert [one.cheaper for one in found.tasks] == [4]
    assert found.takers == ("physics/prod with a priority over 0",)


@pytest.mark.parametrize("seed", range(20))
def test_the_first_in_the_order_is_the_one_that_is_taken(seed: int) -> None:
    chance = random.Random(seed)
    world = World([node(f"n{number}", 2) for number in range(4)], seed=seed)
    jobs = []
    for number in range(8):
        tier = chance.choice(["devel", "opportunistic"])
        jobs.append(world.submit(spec(f"physics/{tier}/j{number}", priority=chance.choice([0, 1]))))
        world.move(chance.choice([1.0, 3.0]))
    first = [one.task.id for job in jobs for one in world.service.risk(ROOT, job.uid).tasks if one.cheaper == 0]
    world.submit(spec("web/prod/shop"))
    world.settle()
    assert [task.id for job in jobs for task in world.tasks(job) if task.state is State.PREEMPTED] == first
