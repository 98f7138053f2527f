"""What the scheduler does with what comes, one case a test: real store, simulated cluster, a clock moved by hand."""

from __future__ import annotations

import pytest

from priority.backend.memory import Faults, Play
from priority.errors import Deposed
from priority.job import Job
from priority.orders import Delivery, NodeSeen, Stop, TaskSeen
from priority.reason import Reason
from priority.service.scheduler import Scheduler
from priority.task import State

from .world import ADA, ROOT, World, node, spec


def test_a_job_runs_from_submission_to_its_end() -> None:
    world = World([node("n1")])
    job = world.submit(spec("physics/prod/reco", instances=2))
    world.settle()
    assert world.states(job) == ["0.1 running", "1.1 running"]
    for task in world.tasks(job):
        world.backend.finish(task.id)
    world.settle()
    assert world.states(job) == ["0.1 finished", "1.1 finished"]
    ended = world.job(job)
    assert (ended.state, ended.finished, ended.active) == ("ended", 2, 0)
    kinds = [event.kind for event in world.events() if event.job == job.uid]
    assert kinds[0] == "job.submitted"
    assert kinds[-1] == "job.ended"
    assert sorted(kinds[1:-1]) == sorted(["task.placed", "task.running", "task.finished"] * 2)
    assert world.store_usage() == {}


def test_instances_run_in_the_order_of_their_numbers_at_first_and_when_they_come_back() -> None:
    """Ids are compared by code points, so that by them 10 would be before 2."""
    world = World([node("n1", 11)])
    job = world.submit(spec("physics/devel/sim", instances=12))
    world.settle()
    assert [task.instance for task in world.tasks(job) if task.state is State.RUNNING] == list(range(11))
    world.submit(spec("physics/prod/reco", cpus=8))
    world.settle()
    again = [task for task in world.tasks(job) if task.state is State.PENDING and task.attempt == 2]
    assert len(again) == 8
    by_turn = sorted(again, key=lambda task: (task.since_us, task.id))
    assert [task.instance for task in by_turn] == sorted(task.instance for task in again)


def test_a_reason_that_changes_soon_after_it_was_told_is_told_a_little_later() -> None:
    """Though nothing happens any more: the last thing that is said of a wait must be true."""
    world = World([node("n1", 4)])
    world.submit(spec("physics/prod/a", cpus=3))
    waits = world.submit(spec("physics/devel/waits", cpus=2))
    world.settle()
    assert "short of cpus 1" in str(world.tasks(waits)[0].reason)
    world.move(1.0)
    world.submit(spec("physics/prod/b", cpus=1))
    world.settle()
    world.move(6.0)
    assert "short of cpus 2" in str(world.tasks(waits)[0].reason)


def test_prod_takes_the_room_of_devel_and_the_victims_come_back() -> None:
    world = World([node("n1", 4), node("n2", 4)], play=lambda _: Play(obeys_s=2.0))
    devel = world.submit(spec("physics/devel/sim", instances=8))
    world.settle()
    prod = world.submit(spec("physics/prod/reco", instances=2, cpus=2))
    world.settle()
    # the victims and their successors are written down in one transaction, and prod waits for proof of their death
    assert world.count(devel, State.PREEMPTING) == 4
    assert world.count(devel, State.PENDING) == 4
    assert world.states(prod) == ["0.1 pending", "1.1 pending"]
    assert {task.reason.code for task in world.tasks(prod) if task.reason} == {"reserved"}
    world.move(2.0)
    assert world.states(prod) == ["0.1 running", "1.1 running"]
    assert world.count(devel, State.PREEMPTED) == 4
    for task in world.tasks(prod):
        world.backend.finish(task.id)
    world.settle()
    assert world.count(devel, State.RUNNING) == 8
    again = [task for task in world.tasks(devel) if task.attempt == 2]
    assert [(task.failures, task.preemptions) for task in again] == [(0, 1)] * 4
    assert world.backend.violations == []


def test_a_preemption_names_whom_why_and_at_what_cost() -> None:
    world = World([node("n1", 4)])
    devel = world.submit(spec("physics/devel/sim", cpus=4))
    world.settle()
    world.move(10.0)
    prod = world.submit(spec("physics/prod/reco"), actor=ADA)
    world.settle()
    victim, successor = world.tasks(devel)
    assert victim.reason is not None
    assert victim.reason.details == {
        "preemptor": world.tasks(prod)[0].id,
        "preemptor_job": "physics/prod/reco",
        "preemptor_user": "ada",
        "rule": "tier",
        "node": "n1",
        "at_us": victim.ended_us,
        "cpu_s_lost": 40.0,
    }
    assert victim.kept_for == world.tasks(prod)[0].id
    assert (successor.attempt, successor.after, successor.state) == (2, None, State.PENDING)


def test_a_job_may_end_rather_than_come_back() -> None:
    world = World([node("n1", 1)])
    devel = world.submit(spec("physics/devel/sim", preempt={"action": "end"}))
    world.settle()
    world.submit(spec("physics/prod/reco"))
    world.settle()
    assert world.states(devel) == ["0.1 preempted"]
    assert (world.job(devel).state, world.job(devel).killed) == ("ended", 1)


def test_a_victim_that_finished_first_has_finished() -> None:
    world = World([node("n1", 1)], play=lambda launch: Play(run_s=1.0, obeys_s=5.0))
    devel = world.submit(spec("physics/devel/sim"))
    world.settle()
    world.backend.cut("n1")
    prod = world.submit(spec("physics/prod/reco"))
    world.settle()
    assert world.count(devel, State.PREEMPTING) == 1
    world.clock.move(1.0)
    world.backend.advance()  # it ends by itself, before the stop was sent again
    world.backend.heal("n1")
    world.settle()
    assert world.states(devel) == ["0.1 finished", "0.2 killed"]
    ended = world.job(devel)
    assert (ended.state, ended.finished, ended.killed) == ("ended", 1, 0)
    assert world.states(prod) == ["0.1 running"]


def test_a_kill_amid_a_preemption_is_final() -> None:
    world = World([node("n1", 1)], play=lambda _: Play(obeys_s=2.0))
    devel = world.submit(spec("physics/devel/sim"))
    world.settle()
    prod = world.submit(spec("physics/prod/reco"))
    world.settle()
    world.service.jobs.kill(ROOT, devel.uid, why="enough")
    assert world.states(devel) == ["0.1 killing", "0.2 killed"]
    assert world.job(devel).active == 1
    world.move(2.0)
    assert world.states(devel) == ["0.1 killed", "0.2 killed"]
    ended = world.job(devel)
    assert (ended.state, ended.killed, ended.active) == ("ended", 1, 0)
    assert world.states(prod) == ["0.1 running"]


def test_when_the_preemptor_is_killed_its_victims_still_come_back() -> None:
    world = World([node("n1", 1)], play=lambda _: Play(obeys_s=2.0))
    devel = world.submit(spec("physics/devel/sim"))
    world.settle()
    prod = world.submit(spec("physics/prod/reco"))
    world.settle()
    world.service.jobs.kill(ROOT, prod.uid)
    world.move(2.0)
    assert world.states(devel) == ["0.1 preempted", "0.2 running"]
    assert world.states(prod) == ["0.1 killed"]


def test_nothing_is_preempted_for_a_task_that_was_killed_meanwhile() -> None:
    world = World([node("n1", 1)])
    devel = world.submit(spec("physics/devel/sim"))
    world.settle()
    prod = world.submit(spec("physics/prod/reco"))

    def kill_it(point: str) -> None:
        if point == "decided" and world.states(prod) == ["0.1 pending"]:
            world.service.jobs.kill(ROOT, prod.uid)

    world.scheduler._fail_at = kill_it
    world.settle()
    assert world.states(devel) == ["0.1 running"]
    assert world.states(prod) == ["0.1 killed"]


def in_between(**preemptor: object) -> tuple[World, Job, Job]:
    """A victim of physics is dying; web, which has the smaller share and so the first turn, comes meanwhile."""
    world = World([node("n1", 2), node("n2", 1)], play=lambda _: Play(obeys_s=2.0))
    world.submit(spec("physics/prod/big", constraints=[{"attribute": "host", "in": ["n2"]}]))
    world.submit(spec("chem/devel/sim", cpus=2))
    world.settle()
    fields = {"constraints": [{"attribute": "host", "in": ["n1"]}], "cpus": 2} | preemptor
    taker = world.submit(spec("physics/prod/reco", **fields))
    world.settle()
    late = world.submit(spec("web/prod/site", constraints=[{"attribute": "host", "in": ["n1"]}]))
    world.settle()
    assert (world.states(taker)[0], world.states(late)) == ("0.1 pending", ["0.1 pending"])
    return world, taker, late


def test_nobody_overtakes_whom_a_victim_died_for() -> None:
    world, taker, late = in_between()
    world.move(2.0)
    assert (world.states(taker), world.states(late)) == (["0.1 running"], ["0.1 pending"])
    assert len(world.events("task.preempting")) == 1


def test_what_a_victim_leaves_beyond_that_is_decided_about_at_once() -> None:
    world, taker, late = in_between(cpus=1)
    world.move(2.0)
    assert (world.states(taker), world.states(late)) == (["0.1 running"], ["0.1 running"])


def test_a_preemptor_that_was_killed_is_handed_nothing() -> None:
    world, taker, late = in_between()
    world.service.jobs.kill(ROOT, taker.uid)
    world.move(2.0)
    assert (world.states(taker), world.states(late)) == (["0.1 killed"], ["0.1 running"])


def test_a_victim_that_was_restarted_meanwhile_is_stopped_all_the_same() -> None:
    world = World([node("n1", 1)])
    devel = world.submit(spec("physics/devel/sim"))
    world.settle()
    world.submit(spec("physics/prod/reco"))

    def restart_it(point: str) -> None:
        if point == "decided" and world.states(devel) == ["0.1 running"]:
            world.service.jobs.restart(ROOT, devel.uid)

    world.scheduler._fail_at = restart_it
    world.round()
    assert world.states(devel) == ["0.1 killing", "0.2 pending"]
    assert [stop.task for stop in world.backend.stops] == [f"{devel.uid}-0-1"]
    world.move(12.0)
    assert world.states(devel) == ["0.1 killed", "0.2 pending"]


def test_a_task_that_is_neither_confirmed_nor_awaited_is_found_by_the_sweep() -> None:
    world = World([node("n1", 1)])
    devel = world.submit(spec("physics/devel/sim"))
    world.move(10.0)  # the start is confirmed and awaited no more
    world.service.jobs.kill(ROOT, devel.uid)
    world.queue.lose()
    # memory knows it, and yet nobody has sent the stop: no way in is trusted to have done so
    world.scheduler.mirror.take(world.tasks(devel), world.scheduler.mirror.jobs)
    world.settle()
    assert world.backend.stops == []
    world.move(30.0)
    assert world.states(devel) == ["0.1 killed"]


def test_a_gang_of_which_one_was_killed_meanwhile_does_not_start_in_part() -> None:
    world = World([node("n1", 4)])
    gang = world.submit(spec("physics/devel/mpi", instances=3, gang=True))

    def kill_one(point: str) -> None:
        if point == "decided" and len(world.events("job.killed")) == 0:
            world.service.jobs.kill(ROOT, gang.uid, [1])

    world.scheduler._fail_at = kill_one
    world.round()
    assert world.states(gang) == ["0.1 pending", "1.1 killed", "2.1 pending"]


@pytest.mark.parametrize(
    ("fails", "max_failures", "ends"),
    [
        (1, 1, ["0.1 failed"]),
        (1, 2, ["0.1 failed", "0.2 running"]),
        (2, 2, ["0.1 failed", "0.2 failed"]),
        (3, -1, ["0.1 failed", "0.2 failed", "0.3 failed", "0.4 running"]),
    ],
)
def test_failures_are_retried_within_their_budget(fails: int, max_failures: int, ends: list[str]) -> None:
    world = World([node("n1")])
    job = world.submit(spec("physics/devel/sim", max_failures=max_failures))
    world.settle()
    for _ in range(fails):
        world.backend.finish(world.tasks(job)[-1].id, exit_code=3)
        world.move(10.0)
    assert world.states(job) == ends
    assert world.job(job).failed == (1 if ends[-1].endswith("failed") else 0)


def test_a_retry_waits_twice_as_long_each_time() -> None:
    world = World([node("n1")])
    job = world.submit(spec("physics/devel/sim", max_failures=9, backoff={"initial": 2, "limit": 7}))
    world.settle()
    for pause_s in (2, 4, 7, 7):
        world.backend.finish(world.tasks(job)[-1].id, exit_code=1)
        world.settle()
        world.move(pause_s - 0.001)
        assert world.tasks(job)[-1].state is State.PENDING
        world.move(0.001)
        assert world.tasks(job)[-1].state is State.RUNNING


@pytest.mark.parametrize(
    ("cause", "ends"),
    [
        (Reason("mem", "too much"), ["0.1 failed", "0.2 running"]),
        (Reason("vanished", "nobody saw"), ["0.1 lost", "0.2 running"]),
        (Reason("lease", "no leader"), ["0.1 lost", "0.2 running"]),
    ],
)
def test_what_the_house_did_is_no_failure_of_the_task(cause: Reason, ends: list[str]) -> None:
    world = World([node("n1")])
    job = world.submit(spec("physics/devel/sim", max_failures=2, backoff={"initial": 0}))
    world.settle()
    world.backend.finish(world.tasks(job)[0].id, 1, cause=cause)
    world.settle()
    assert world.states(job) == ends
    first, second = world.tasks(job)
    assert first.reason is not None
    assert first.reason.code == cause.code
    assert second.failures == (1 if ends[0] == "0.1 failed" else 0)


def test_a_dead_node_s_tasks_begin_elsewhere_when_its_lease_is_over() -> None:
    world = World([node("n1", 1)])
    job = world.submit(spec("physics/prod/reco"))
    world.settle()
    world.backend.start_node(node("n2", 1))
    world.settle()
    world.backend.kill_node("n1")
    world.move(69.0)
    assert world.states(job) == ["0.1 running"]
    world.move(1.0)
    assert world.states(job) == ["0.1 lost", "0.2 running"]
    assert world.tasks(job)[1].node == "n2"
    assert world.node_states() == {"n1": "down", "n2": "up"}


def test_a_silent_node_gets_nothing_new_and_loses_nothing() -> None:
    world = World([node("n1", 2)])
    first = world.submit(spec("physics/prod/a"))
    world.settle()
    world.backend.cut("n1")
    world.move(6.0)
    second = world.submit(spec("physics/prod/b"))
    world.settle()
    assert (world.states(first), world.states(second)) == (["0.1 running"], ["0.1 pending"])
    world.backend.heal("n1")
    world.settle()
    assert (world.states(first), world.states(second)) == (["0.1 running"], ["0.1 running"])


def test_a_node_that_comes_back_after_its_lease_runs_nothing_twice() -> None:
    world = World([node("n1", 1), node("n2", 1)])
    job = world.submit(spec("physics/prod/reco"))
    world.settle()
    home = world.tasks(job)[0].node or ""
    world.backend.cut(home)
    world.move(75.0)
    assert world.states(job) == ["0.1 lost", "0.2 running"]
    world.backend.heal(home)
    world.settle()
    assert world.states(job) == ["0.1 lost", "0.2 running"]
    assert world.backend.violations == []


def test_a_restarted_agent_keeps_its_tasks_and_the_next_ones_are_sent_to_it() -> None:
    world = World([node("n1", 2)])
    first = world.submit(spec("physics/prod/a"))
    world.settle()
    world.backend.restart_agent("n1")
    second = world.submit(spec("physics/prod/b"))
    world.settle()
    assert (world.states(first), world.states(second)) == (["0.1 running"], ["0.1 running"])


def test_a_machine_that_begins_anew_has_lost_its_tasks_at_once() -> None:
    world = World([node("n1", 1)])
    job = world.submit(spec("physics/prod/a"))
    world.settle()
    world.backend.start_node(node("n1", 1))
    world.settle()
    assert world.states(job) == ["0.1 lost", "0.2 running"]


def test_a_lost_launch_is_sent_again() -> None:
    world = World([node("n1", 1)])
    world.settle()
    world.backend.faults = Faults(lose=1.0)
    job = world.submit(spec("physics/prod/a"))
    world.settle()
    assert world.states(job) == ["0.1 starting"]
    world.backend.faults = Faults()
    world.move(5.0)
    assert world.states(job) == ["0.1 running"]


def test_a_lost_stop_is_sent_again_after_its_notice() -> None:
    world = World([node("n1", 1)])
    job = world.submit(spec("physics/devel/a", kill_grace=7))
    world.settle()
    world.backend.faults = Faults(lose=1.0)
    world.service.jobs.kill(ROOT, job.uid)
    world.move(11.9)
    assert world.states(job) == ["0.1 killing"]
    world.backend.faults = Faults()
    world.move(0.2)
    assert world.states(job) == ["0.1 killed"]


def test_a_call_that_was_lost_costs_a_sweep() -> None:
    world = World([node("n1", 1)])
    world.settle()
    world.queue.down = True
    job = world.submit(spec("physics/prod/a"))
    world.settle()
    assert world.states(job) == ["0.1 pending"]
    world.move(5.0)
    assert world.states(job) == ["0.1 running"]


def test_a_drained_node_gets_nothing_new() -> None:
    world = World([node("n1", 2)])
    first = world.submit(spec("physics/prod/a"))
    world.settle()
    world.service.nodes.drain(ROOT, "n1")
    second = world.submit(spec("physics/prod/b"))
    world.settle()
    assert (world.states(first), world.states(second)) == (["0.1 running"], ["0.1 pending"])
    world.service.nodes.undrain(ROOT, "n1")
    world.settle()
    assert world.states(second) == ["0.1 running"]


def test_the_notice_is_the_job_s_and_no_longer_than_the_limit() -> None:
    world = World([node("n1", 2)], notice_limit_s=20.0)
    slow = world.submit(spec("physics/devel/slow", preempt={"signal": "USR1", "notice": 90}, kill_grace=3))
    world.submit(spec("physics/devel/other"))
    world.settle()
    world.submit(spec("physics/prod/a", cpus=2))
    world.settle()
    stops = {stop.task: stop for stop in world.backend.stops}
    stop = stops[world.tasks(slow)[0].id]
    assert (stop.signal, stop.notice_s) == ("USR1", 20.0)


def test_a_task_that_runs_against_the_truth_is_stopped_at_once() -> None:
    world = World([node("n1", 2)])
    world.settle()
    stray = "0wdnobodyknows-0-1"
    seen = TaskSeen(task=stray, node="n1", kind="started", at_us=world.clock.now_us())
    world.scheduler.report(Delivery((seen,)))
    world.scheduler.step()
    record = world.service.nodes.list(ROOT)[0].record
    named = NodeSeen(
        node=record.node, agent=record.agent, tasks=frozenset({"0wdother-0-1"}), at_us=world.clock.now_us()
    )
    world.scheduler.report(Delivery((named,)))
    world.scheduler.step()
    assert [(stop.task, stop.notice_s) for stop in world.backend.stops] == [(stray, 0.0), ("0wdother-0-1", 0.0)]
    assert isinstance(world.backend.stops[0], Stop)


def test_a_deposed_leader_writes_and_sends_nothing() -> None:
    world = World([node("n1", 1)])
    world.settle()
    old = world.scheduler
    job = world.submit(spec("physics/prod/a"))
    world.feed()

    def usurp(point: str) -> None:
        if point == "decided":
            old._fail_at = lambda _: None
            world.die()
            world.new_scheduler()

    old._fail_at = usurp
    with pytest.raises(Deposed):
        old.step()
    assert world.states(job) == ["0.1 pending"]
    assert world.backend.launched == []
    world.settle()
    assert world.states(job) == ["0.1 running"]
    assert {launch.epoch for launch in world.backend.launched} == {world.scheduler.epoch}


def test_only_one_leads_and_the_next_one_when_the_lease_is_over() -> None:
    world = World(leader_lease_s=10.0)
    from priority.service.scheduler import Scheduler

    other = Scheduler(world.parts, holder="other")
    assert not other.lead()
    world.clock.move(10.1)
    assert other.lead()
    with pytest.raises(Deposed):
        world.scheduler.step()


def test_thousands_that_wait_cost_few_writes() -> None:
    world = World([node("n1", 1)])
    job = world.submit(spec("physics/devel/many", instances=2000))
    world.settle()
    written = sum(task.reason is not None for task in world.tasks(job))
    assert written == 200
    world.move(3.0)
    assert sum(task.reason is not None for task in world.tasks(job)) == 1999


def test_a_clock_that_is_set_back_stops_nothing() -> None:
    world = World([node("n1", 2)])
    world.settle()
    world.backend.faults = Faults(lose=1.0)
    first = world.submit(spec("physics/prod/a"))
    world.settle()
    assert world.states(first) == ["0.1 starting"]
    world.clock.move(-3600.0)
    world.settle()
    world.backend.faults = Faults()
    world.queue.down = True
    second = world.submit(spec("physics/prod/b"))
    world.move(5.0)
    world.move(0.001)
    assert (world.states(first), world.states(second)) == (["0.1 running"], ["0.1 running"])


def test_a_clock_that_is_set_back_makes_no_back_off_longer() -> None:
    for takes_over in (False, True):
        world = World([node("n1")], play=lambda _: Play(run_s=1.0, exit_code=1))
        job = world.submit(spec("physics/prod/a", backoff={"initial": 20, "limit": 20}))
        world.move(1.0)
        assert world.states(job) == ["0.1 failed", "0.2 pending"]
        world.move(5.0)
        world.set_clock(-3600.0)
        if takes_over:
            world.die()
            world.new_scheduler()
        world.move(14.0)
        assert world.states(job) == ["0.1 failed", "0.2 pending"]
        world.move(6.1)
        assert world.states(job)[:2] != ["0.1 failed", "0.2 pending"]


def test_an_agent_that_begins_anew_after_the_clock_was_set_back_is_listened_to() -> None:
    world = World([node("n1")])
    world.settle()
    world.set_clock(-3600.0)
    world.backend.restart_agent("n1")
    world.settle()
    job = world.submit(spec("physics/prod/a"))
    world.settle()
    assert world.states(job) == ["0.1 running"]


def test_who_led_by_a_clock_that_was_set_back_leads_for_one_lease_more_at_most() -> None:
    world = World([node("n1")], leader_lease_s=10.0)
    other = Scheduler(world.parts, holder="other")
    world.set_clock(-3600.0)
    assert not other.lead()
    world.clock.move(10.1)
    assert other.lead()


def test_while_nothing_changes_nothing_is_planned_and_nothing_written() -> None:
    world = World([node("n1", 2), node("n2", 2)], play=lambda _: Play(obeys_s=1.0))
    world.submit(spec("web/devel/a", instances=20))
    world.submit(spec("web/devel/gang", instances=3, gang=True, cpus=2))
    world.settle()
    world.submit(spec("web/prod/b", cpus=2))
    world.submit(spec("web/prod/never", cpus=16))
    world.move(5.0)
    plans, last_event = world.scheduler.plans, world.service.jobs.last_event()
    world.move(60.0)
    assert (world.scheduler.plans, world.service.jobs.last_event()) == (plans, last_event)
    assert world.scheduler._pause_s() > 0.0


def test_of_many_that_wait_alike_the_oldest_are_looked_at_and_all_get_their_turn() -> None:
    world = World([node("n1", 4)])
    world.die()
    world.new_scheduler(window=3)
    jobs = []
    for number in range(10):
        jobs.append(world.submit(spec(f"web/devel/j{number}")))
        world.clock.move(0.001)
    other = world.submit(spec("physics/devel/other"))
    world.settle()
    assert len(list(world.scheduler.mirror.snapshot.pending())) <= 3 + 1
    begun = []
    while running := sorted(world.backend.running()):
        begun += [number for number, job in enumerate(jobs) if world.tasks(job)[0].id in running]
        for task in running:
            world.backend.finish(task)
        world.settle()
    assert begun == list(range(10))
    assert world.job(other).finished == 1


def test_who_comes_to_wait_like_others_that_were_refused_asks_for_no_plan_and_is_told_why_all_the_same() -> None:
    world = World([node("n1", 2)])
    held = world.submit(spec("web/devel/held", cpus=2))
    world.settle()
    world.submit(spec("web/devel/first"))
    world.move(5.0)
    plans = world.scheduler.plans
    second = world.submit(spec("web/devel/second"))
    world.move(1.0)
    assert world.scheduler.plans == plans
    (task,) = world.tasks(second)
    assert task.reason is not None and task.reason.code == "no-room"
    # Another kind has to be looked at, and room that becomes free goes to all.
    other = world.submit(spec("web/devel/other", priority=1, cpus=2))
    world.move(1.0)
    assert world.scheduler.plans > plans and world.states(other) == ["0.1 running"]
    world.service.jobs.kill(ROOT, other.uid)
    world.service.jobs.kill(ROOT, held.uid)
    world.move(1.0)
    assert world.states(second) == ["0.1 running"]
