"""What a person is told: the sum first, then the facts."""

from __future__ import annotations

import pytest

from priority.backend.memory import Play
from priority.service.explain import TASKS_MAX
from priority.task import ranges

from .world import ADA, ROOT, World, node, spec


def summary(world: World, ref: str) -> str:
    return world.service.explain(ROOT, ref).summary


def test_what_waits_and_why() -> None:
    world = World([node("n1", 4)])
    world.submit(spec("web/prod/big", cpus=4))
    world.settle()
    world.submit(spec("physics/devel/a", instances=3))
    world.submit(spec("web/prod/huge", cpus=16))
    world.settle()
    assert summary(world, "physics/devel/a").startswith(
        "physics/devel/a: of 3 instances 3 waiting; each waits: no room"
    )
    assert summary(world, "web/prod/huge") == (
        "web/prod/huge: of 1 instance 1 waiting; waits: no node could ever hold it: "
        "it asks for cpus 16, and the most that one has is cpus 4"
    )
    (line,) = world.service.explain(ROOT, "physics/devel/a").lines
    assert (line.state, line.alike, line.details["code"]) == ("pending", 3, "no-room")


def test_before_the_scheduler_has_looked() -> None:
    world = World()
    world.submit(spec("physics/devel/a"))
    assert summary(world, "physics/devel/a").endswith("waits for the scheduler's next round")


def test_a_preemption_from_both_sides() -> None:
    world = World([node("n1", 4)], play=lambda _: Play(obeys_s=3.0))
    devel = world.submit(spec("physics/devel/sim", cpus=4))
    world.settle()
    world.move(10.0)
    prod = world.submit(spec("physics/prod/reco"), actor=ADA)
    world.settle()
    assert summary(world, prod.uid) == (
        "physics/prod/reco: of 1 instance 1 waiting; waits: starts on n1 once a task of physics/devel/sim that it "
        "preempted has left it"
    )
    assert summary(world, devel.uid) == (
        "physics/devel/sim: of 1 instance 1 being preempted; waits until its former attempt has ended on n1: its "
        "room on n1 was taken for physics/prod/reco: prod goes before devel; 40.0 cpu-seconds of work were lost; "
        "preempted once, last for physics/prod/reco of ada, 40.0 cpu-seconds of work lost in all"
    )
    victim = world.tasks(devel)[0]
    assert summary(world, victim.id) == (
        "physics/devel/sim[0]: is being stopped on n1: its room on n1 was taken for physics/prod/reco: prod "
        "goes before devel; 40.0 cpu-seconds of work were lost"
    )
    world.move(3.0)
    world.backend.finish(world.tasks(prod)[0].id)
    world.settle()
    assert summary(world, devel.uid) == (
        "physics/devel/sim: of 1 instance 1 running; preempted once, last for physics/prod/reco of ada, "
        "40.0 cpu-seconds of work lost in all; devel runs on room that is guaranteed to web/prod (cpus 100 idle), "
        "physics/prod (cpus 8 idle) but not used: cpus 4 may be taken back"
    )
    told = world.service.explain(ROOT, world.tasks(devel)[1].id)
    assert [(line.attempt, line.state) for line in told.lines] == [(2, "running"), (1, "preempted")]
    assert told.lines[0].message == "runs on n1 (preempted once before)"


@pytest.mark.parametrize(
    ("exit_code", "max_failures", "says"),
    [
        (3, 1, "has ended: 1 failed; ended with exit status 3 (1 task)"),
        (3, 2, "waits 1 s more after 1 failed attempt"),
    ],
)
def test_a_failure(exit_code: int, max_failures: int, says: str) -> None:
    world = World([node("n1")])
    job = world.submit(spec("physics/devel/a", max_failures=max_failures))
    world.settle()
    world.backend.finish(world.tasks(job)[0].id, exit_code)
    world.settle()
    assert says in summary(world, job.uid)


def test_a_kill_says_by_whom_and_why() -> None:
    world = World([node("n1")])
    job = world.submit(spec("physics/devel/a", instances=2))
    world.settle()
    world.service.jobs.kill(ADA, job.uid, why="wrong input")
    world.settle()
    assert summary(world, job.uid) == "physics/devel/a: has ended: 2 killed; killed by ada: wrong input (2 tasks)"


def test_a_lost_node() -> None:
    world = World([node("n1")])
    job = world.submit(spec("physics/devel/a"))
    world.settle()
    world.backend.kill_node("n1")
    world.move(70.0)
    assert "waits" in summary(world, job.uid)
    assert world.service.explain(ROOT, job.uid).lines[-1].message == "lost: node n1 was lost"


def test_victims_of_one_job_are_told_together() -> None:
    world = World([node("n1", 4)], play=lambda _: Play(obeys_s=0.0))
    devel = world.submit(spec("physics/devel/sim", instances=4, cpus=1))
    world.settle()
    world.move(10.0)
    world.submit(spec("physics/prod/reco", instances=3, cpus=1), actor=ADA)
    world.settle()
    lines = world.service.explain(ROOT, devel.uid).lines
    (lost,) = [line for line in lines if line.state == "preempted"]
    assert (lost.alike, lost.message) == (
        3, "preempted: 3 attempts gave way to physics/prod/reco of ada; 30.0 cpu-seconds of work were lost"
    )  # fmt: skip
    (waits,) = [line for line in lines if line.state == "pending"]
    assert (waits.alike, waits.instances) == (3, lost.instances)
    assert (lost.attempts, waits.attempts) == ("1", "2")
    assert waits.message.endswith("(preempted once before)")
    assert "each waits: no room" in summary(world, devel.uid)
    assert "once before" not in summary(world, devel.uid)


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([3], "3"), ([2, 0, 1], "0-2"), ([5, 0, 1, 3, 4, 4, 9], "0-1,3-5,9")]
)
def test_instances_as_people_write_them(numbers: list[int], text: str) -> None:
    assert ranges(numbers) == text


def test_of_a_large_job_all_are_counted_and_the_rest_is_said_not_to_be_listed() -> None:
    world = World([node("n1", 4)])
    job = world.submit(spec("physics/devel/many", instances=TASKS_MAX + 500, cpus=1))
    world.settle()
    waiting = TASKS_MAX + 496
    found = world.service.explain(ROOT, job.uid)
    assert found.summary.startswith(
        f"physics/devel/many: of {TASKS_MAX + 500} instances {waiting} waiting, 4 running; what follows is of its "
        f"first {TASKS_MAX} instances, 500 more are not listed; each waits: no room"
    )
    assert sum(line.alike for line in found.lines) == TASKS_MAX
    world.service.jobs.kill(ROOT, job.uid, range(10, TASKS_MAX + 500))
    world.settle()
    assert f": of {TASKS_MAX + 500} instances 6 waiting, 4 running, {TASKS_MAX + 490} killed" in summary(world, job.uid)


def test_of_a_job_that_is_told_whole_nothing_is_said_to_be_missing() -> None:
    world = World([node("n1", 4)])
    world.submit(spec("physics/devel/some", instances=40))
    world.settle()
    assert "listed" not in summary(world, "physics/devel/some")
