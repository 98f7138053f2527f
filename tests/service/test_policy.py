"""Policy beyond the law, through the whole service: from the settings to whoever waits, over time and over leaders."""

from __future__ import annotations

from typing import Any

import pytest

from priority.backend.memory import Play
from priority.errors import Invalid
from priority.job import Job
from priority.service.settings import Settings
from priority.task import State

from .world import ADA, EVE, ROOT, World, node, spec


def full(cpus: float = 4, nodes: int = 1, **settings: Any) -> tuple[World, Job]:
    """Nodes that a devel job has just filled, whose tasks run for an hour and end at once when they are told."""
    made = [node(f"n{index}", cpus) for index in range(1, nodes + 1)]
    world = World(made, play=lambda _: Play(), **settings)
    job = world.submit(spec("physics/devel/sim", cpus=cpus, instances=nodes), actor=ADA)
    world.settle()
    assert world.count(job, State.RUNNING) == nodes
    return world, job


def states(world: World, job: Job) -> list[str]:
    return [str(task.state) for task in world.tasks(job)]


def why(world: World, job: Job) -> str:
    return world.service.explain(ROOT, job.uid).summary


# --- minimum run time ------------------------------------------------------------------------------------------------


def test_a_task_is_taken_when_it_has_run_long_enough_and_not_before() -> None:
    world, devel = full(min_run_s={"devel": 60})
    world.move(20.0)
    prod = world.submit(spec("web/prod/shop", cpus=4), actor=EVE)
    world.settle()
    assert states(world, prod) == ["pending"]
    assert "1 task of devel could give way, but has run for less than 60 s" in why(world, prod)
    world.move(39.0)
    assert states(world, prod) == ["pending"]
    world.move(1.5)  # nothing else happens: only the time has come
    assert states(world, prod) == ["running"]
    assert "preempted" in states(world, devel)


def test_without_the_setting_it_is_taken_at_once() -> None:
    world, _ = full()
    prod = world.submit(spec("web/prod/shop", cpus=4), actor=EVE)
    world.settle()
    assert states(world, prod) == ["running"]


def test_what_if_knows_the_policy() -> None:
    world, _ = full(min_run_s={"devel": 60})
    found = world.service.whatif.ask(EVE, (spec("web/prod/shop", cpus=4),))
    assert found.verdict == "waits" and "has run for less than 60 s" in found.summary
    world.move(60.0)
    assert world.service.whatif.ask(EVE, (spec("web/prod/shop", cpus=4),)).verdict == "starts-later"


# --- how often -------------------------------------------------------------------------------------------------------


def taken_once(world: World) -> Job:
    """A short prod job has taken the node; the devel task is back on it."""
    prod = world.submit(spec("web/prod/shop", cpus=4), actor=EVE)
    world.settle()
    assert states(world, prod) == ["running"]
    world.service.jobs.kill(ROOT, prod.uid)
    world.settle()
    return prod


@pytest.mark.parametrize("anew", [False, True], ids=["same leader", "next leader"])
def test_one_task_is_preempted_only_so_often_an_hour(anew: bool) -> None:
    world, devel = full(preempted_per_hour={"devel": 1})
    taken_once(world)
    assert states(world, devel) == ["preempted", "running"]
    if anew:
        world.die()
        world.new_scheduler()
    prod = world.submit(spec("web/prod/next", cpus=4), actor=EVE)
    world.settle()
    assert states(world, prod) == ["pending"]
    assert "may be preempted at most once an hour" in why(world, prod)
    found = world.service.whatif.ask(EVE, (spec("web/prod/other", cpus=4),))
    assert found.verdict == "waits"
    world.move(3500.0, step_s=500.0)
    assert states(world, prod) == ["pending"]
    world.move(101.0)
    assert states(world, prod) == ["running"]


# --- settings --------------------------------------------------------------------------------------------------------


def test_settings_are_read_from_text_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIORITY_MIN_RUN_S", "devel=60, opportunistic=0.5")
    monkeypatch.setenv("PRIORITY_GONE_AT_ONCE", '{"devel": 2}')
    found = Settings()
    assert found.policy == {"min_run_s": {"devel": 60, "opportunistic": 0.5}, "gone_at_once": {"devel": 2}}


@pytest.mark.parametrize("value", ["devl=60", "devel", "devel=a", '{"devel"', "devel=-1"])
def test_a_bad_setting_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIORITY_MIN_RUN_S", value)
    with pytest.raises(ValueError, match="min_run_s"):
        Settings()


def test_a_job_may_set_its_own_limit_only_where_its_tier_lets_it() -> None:
    world = World([node("n1")])
    with pytest.raises(Invalid) as error:
        world.submit(spec("physics/devel/sim", preempt={"at_once": 1}))
    assert error.value.field.endswith("preempt.at_once")
    world = World([node("n1")], own_gone_at_once={"devel": 1})
    world.submit(spec("physics/devel/sim", preempt={"at_once": 1}))
