"""The scheduler dies at every point of a story, every time that it comes there; the next one ends the story alike."""

from __future__ import annotations

import pytest

from priority.backend.memory import Play
from priority.orders import Launch
from priority.task import State

from .checkers import Checkers
from .world import ROOT, Crash, World, node, spec

POINTS = (
    "reported",
    "reports-committed",
    "decided",
    "plan-written",
    "plan-committed",
    "stopped",
    "mid-launch",
    "acted",
)


def tell_story(world: World, crash_at: str | None, nth: int) -> tuple[list[str], bool]:
    """Devel fills the cluster, prod takes room, one victim's node is restarted, prod ends, a kill, and all end.

    The end of each job, and whether the crash came to pass.
    """
    crashed = False
    seen = 0

    def fail_at(point: str) -> None:
        nonlocal crashed, seen
        if point == crash_at and not crashed:
            seen += 1
            if seen == nth:
                crashed = True
                raise Crash(point)

    world.scheduler._fail_at = fail_at
    checkers = Checkers(world)

    def go(seconds: float = 0.0) -> None:
        end_us = world.clock.now_us() + round(seconds * 1e6)
        while True:
            try:
                world.move(max(0.0, (end_us - world.clock.now_us()) / 1e6))
                break
            except Crash:
                world.die()
                world.new_scheduler(fail_at)
        checkers.check()

    devel = world.submit(spec("physics/devel/sim", instances=8))
    go()
    prod = world.submit(spec("physics/prod/reco", instances=2, cpus=2))
    go()
    go(3.0)
    world.backend.restart_agent("n1")
    other = world.submit(spec("web/prod/x", cpus=4, instances=2), key="k")
    go(4.0)
    for task in world.tasks(prod):
        if task.id in world.backend.running():
            world.backend.finish(task.id)
    go(20.0)
    world.service.jobs.kill(ROOT, other.uid)
    go(20.0)
    while running := sorted(world.backend.running()):
        for task in running:
            world.backend.finish(task)
        go(10.0)
    jobs = [world.job(job) for job in (devel, prod, other)]
    ends = [f"{job.spec.key} {job.state} {job.finished} {job.failed} {job.killed}" for job in jobs]
    assert world.backend.violations == []
    assert world.store_usage() == {}
    return ends, crashed


def world() -> World:
    def play(launch: Launch) -> Play:
        return Play(obeys_s=2.0 if launch.job == "physics/devel/sim" else 0.0)

    return World([node("n1"), node("n2")], play=play)


EXPECTED = ["physics/devel/sim ended 8 0 0", "physics/prod/reco ended 2 0 0", "web/prod/x ended 0 0 2"]


def test_the_story_without_a_crash() -> None:
    assert tell_story(world(), None, 0) == (EXPECTED, False)


@pytest.mark.parametrize("point", POINTS)
def test_the_story_ends_alike_wherever_it_is_broken(point: str) -> None:
    for nth in range(1, 100):
        ends, crashed = tell_story(world(), point, nth)
        assert ends == EXPECTED, f"{point}, time {nth}"
        if not crashed:
            assert nth > 2, f"the story never comes to {point}"
            return
    pytest.fail("the story has no end")


def test_a_launch_that_was_sent_in_part_is_sent_whole_by_the_next() -> None:
    one = world()
    one.die()
    one.new_scheduler(batch=1)
    one.settle()
    job = one.submit(spec("physics/devel/sim", instances=4))
    seen = 0

    def fail_at(point: str) -> None:
        nonlocal seen
        seen += point == "mid-launch"
        if seen == 2:
            raise Crash(point)

    one.scheduler._fail_at = fail_at
    with pytest.raises(Crash):
        one.settle()
    assert len(one.backend.running()) == 2
    assert one.count(job, State.STARTING) == 4
    one.die()
    one.new_scheduler()
    one.settle()
    assert one.count(job, State.RUNNING) == 4
    assert one.backend.violations == []
