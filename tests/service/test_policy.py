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


def test_risk_tells_who_is_spared() -> None:
    world, devel = full(nodes=2, min_run_s={"devel": 60}, gone_at_once={"devel": 1})
    world.move(10.0)
    (one, other) = world.service.risk(ROOT, devel.uid).tasks
    assert one.spared == other.spared == "not before it has run for 60 s"
    world.move(50.0)
    assert [one.spared for one in world.service.risk(ROOT, devel.uid).tasks] == [None, None]
    assert prods(world, "one") == ["running"]
    assert [one.spared for one in world.service.risk(ROOT, devel.uid).tasks] == [
        "as many of its job are gone as may be at a time"
    ]


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
    world.move(3500.0)
    assert states(world, prod) == ["pending"]
    world.move(101.0)
    assert states(world, prod) == ["running"]


# --- budgets ---------------------------------------------------------------------------------------------------------


def anew(world: World) -> None:
    """Another process leads."""
    world.die()
    world.new_scheduler()


def prods(world: World, *names: str) -> list[str]:
    """Prod jobs as large as a node; where each stands."""
    jobs = []
    for name in names:
        jobs.append(world.submit(spec(f"web/prod/{name}", cpus=4), actor=EVE))
        world.settle()
    return [states(world, job)[-1] for job in jobs]


@pytest.mark.parametrize("next_leader", [False, True])
def test_only_so_many_of_a_job_are_gone_at_a_time(next_leader: bool) -> None:
    world, devel = full(nodes=3, gone_at_once={"devel": 1})
    assert prods(world, "one", "two") == ["running", "pending"]
    if next_leader:
        anew(world)
    assert prods(world, "three") == ["pending"]
    two = world.service.jobs.get(ROOT, "web/prod/two")
    world.move(1.0)
    assert "only so many of one job may be gone at a time" in why(world, two)
    world.service.jobs.kill(ROOT, "web/prod/one")
    world.settle()
    # its room goes to the next prod job; as long as the devel task has not started again, no other one is taken
    assert [states(world, two)[-1], world.count(devel, State.RUNNING)] == ["running", 2]
    world.service.jobs.kill(ROOT, "web/prod/three")
    world.service.jobs.kill(ROOT, "web/prod/two")
    world.settle()
    assert world.count(devel, State.RUNNING) == 3
    assert prods(world, "four", "five") == ["running", "pending"]


def test_the_budget_is_free_again_when_who_was_gone_has_started() -> None:
    world, devel = full(nodes=2, gone_at_once={"devel": 1})
    assert prods(world, "one") == ["running"]
    world.backend.start_node(node("n3"))
    world.move(10.0)
    assert world.count(devel, State.RUNNING) == 2
    assert prods(world, "two") == ["running"]
    assert world.count(devel, State.RUNNING) == 1


@pytest.mark.parametrize("next_leader", [False, True])
@pytest.mark.parametrize("setting", [{"loses_per_hour": {"devel": 50}}, {"destroys_per_hour": {"prod": 50}}])
def test_only_so_much_work_is_lost_in_an_hour(setting: dict[str, Any], next_leader: bool) -> None:
    world, _ = full(nodes=2, **setting)
    world.move(10.0)
    assert prods(world, "one", "two") == ["running", "pending"]  # 40 cpu-seconds each
    if next_leader:
        anew(world)
    assert prods(world, "three") == ["pending"]
    three = world.service.jobs.get(ROOT, "web/prod/three")
    world.move(1.0)
    assert "cpu-s" in why(world, three)


# --- nodes that are kept ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", [{}, {"devel": 60}])
def test_a_large_task_is_not_starved_by_small_ones(setting: dict[str, float]) -> None:
    world = World([node("n1", 4)], holds_after_s=setting)
    first = world.submit(spec("chem/devel/first", instances=4))
    world.settle()
    large = world.submit(spec("physics/devel/large", cpus=4), actor=ADA)
    world.move(30.0)
    small = world.submit(spec("web/devel/small", instances=8))
    world.settle()
    world.move(31.0)
    if setting:
        assert "as it has waited for long, node n1 is kept for it" in why(world, large)
    for task in world.tasks(first):  # one small task ends after the other, and there is always another that waits
        world.backend.finish(task.id)
        world.settle()
    world.move(1.0)
    if setting:
        assert states(world, large) == ["running"]
        assert "no room" in why(world, small) or "kept for" in why(world, small)
    else:
        assert states(world, large) == ["pending"] and world.count(small, State.RUNNING) == 4


# --- back-off --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backoff", "pauses"),
    [({}, [1, 2, 4]), ({"devel": 20}, [20, 40, 80]), ({"prod": 20}, [1, 2, 4]), ({"devel": 0.5}, [1, 2, 4])],
)
def test_a_tier_has_who_fails_wait_longer(backoff: dict[str, float], pauses: list[float]) -> None:
    world = World([node("n1")], play=lambda _: Play(run_s=0.5, exit_code=1), backoff_s=backoff)
    job = world.submit(spec("physics/devel/bad", max_failures=-1), actor=ADA)
    for pause in pauses:
        world.settle()
        while world.tasks(job)[-1].state is not State.PENDING:
            world.move(0.25)
        last = world.tasks(job)[-1]
        assert last.reason is not None and last.reason.details["pause_s"] == pause
        told = "(devel waits 20 s at least, twice as long each time more)"
        assert (told in why(world, job)) == (backoff == {"devel": 20})
        world.move(pause + 0.1)


# --- quota borrowing -------------------------------------------------------------------------------------------------


def test_devel_runs_on_an_idle_guarantee_is_told_so_and_gives_it_back() -> None:
    roles = {"physics": {"users": {"ada": {}}}, "web": {"quota": {"prod": {"cpus": 6}}, "users": {"eve": {}}}}
    world = World([node("n1", 8)], roles=roles)
    small = world.submit(spec("physics/devel/small", cpus=2), actor=ADA)
    world.settle()
    assert "guaranteed" not in why(world, small)  # as much as nobody is guaranteed
    large = world.submit(spec("physics/devel/large", cpus=6), actor=ADA)
    world.settle()
    told = "devel runs on room that is guaranteed to web/prod (cpus 6 idle) but not used: cpus 6 may be taken back"
    assert told in why(world, large) and told in why(world, small)
    mine = world.service.explain(ADA, large.uid).summary  # who has no grant in that role is not told whose it is
    assert "guaranteed to 1 other role but not used: cpus 6 may be taken back" in mine
    world.submit(spec("web/prod/shop", cpus=6), actor=EVE)
    world.settle()
    assert states(world, large) == ["preempted", "pending"]
    assert "guaranteed" not in why(world, small)


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
