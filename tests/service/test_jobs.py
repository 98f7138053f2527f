"""Kill, restart, scale, and what one may ask about jobs."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from priority.backend.memory import Play
from priority.errors import Conflict, Invalid, NotFound, QuotaExceeded, TooLarge
from priority.job import JobState
from priority.lifecycle import Event
from priority.records import JobQuery, Page
from priority.service.ending import Order
from priority.task import State

from .world import ADA, BEN, EVE, ROOT, World, node, spec


def test_a_kill_ends_what_waits_at_once_and_stops_what_runs() -> None:
    world = World([node("n1", 2)])
    job = world.submit(spec("physics/devel/a", instances=3, kill_grace=7))
    world.settle()
    killed = world.service.jobs.kill(ADA, "physics/devel/a", why="wrong input")
    assert world.states(job) == ["0.1 killing", "1.1 killing", "2.1 killed"]
    assert (killed.active, killed.killed) == (2, 1)
    world.settle()
    assert world.states(job) == ["0.1 killed", "1.1 killed", "2.1 killed"]
    assert [(stop.signal, stop.notice_s) for stop in world.backend.stops] == [("TERM", 7.0)] * 2
    reason = world.tasks(job)[0].reason
    assert reason is not None
    assert reason.message == "killed by ada: wrong input"
    assert world.store_usage() == {}


def test_a_kill_of_some_instances_and_a_second_kill() -> None:
    world = World([node("n1")])
    job = world.submit(spec("physics/devel/a", instances=3))
    world.settle()
    world.service.jobs.kill(ROOT, job.uid, [1])
    world.settle()
    assert world.states(job) == ["0.1 running", "1.1 killed", "2.1 running"]
    before = world.service.jobs.last_event()
    assert world.service.jobs.kill(ROOT, job.uid, [1]).active == 2
    assert world.service.jobs.last_event() == before
    with pytest.raises(Invalid, match="instances: physics/devel/a has instances 0 to 2, but not 3"):
        world.service.jobs.kill(ROOT, job.uid, [3])


def test_many_are_killed_in_one_transaction_or_none() -> None:
    world = World([node("n1", 2)])
    mine = [world.submit(spec(f"physics/devel/m{number}", instances=2)) for number in range(3)]
    theirs = world.submit(spec("chem/devel/secret"))
    world.settle()
    order = Order(Event.KILL, why="wrong input")
    before = world.service.jobs.last_event()
    for refs, error in (
        ([mine[0].uid, "physics/devel/none"], "there is no job physics/devel/none"),
        (["physics/devel/m0", theirs.uid], f"there is no job {theirs.uid}, or you have no grant for it"),
        (["physics/devel/m0", "chem/devel/secret"], "there is no job chem/devel/secret, or you"),
    ):
        with pytest.raises(NotFound, match=error):
            world.service.jobs.end_named(ADA, refs, order)
    assert world.service.jobs.last_event() == before
    refs = ["physics/devel/m0", mine[1].uid, mine[0].uid]
    dry = world.service.jobs.end_named(ADA, refs, replace(order, dry=True))
    assert [look.job.uid for look in dry] == [mine[0].uid, mine[1].uid]
    assert world.service.jobs.last_event() == before
    found = world.service.jobs.end_named(ADA, refs, order)
    assert [look.job.spec.name for look in found] == ["m0", "m1"]
    world.settle()
    assert [world.service.jobs.get(ADA, job.uid).killed for job in mine] == [2, 2, 0]
    with world.service.parts.store.read() as reader:
        audits = [audit.subject for audit in reader.audits(Page(), action="job.kill")[0]]
    assert sorted(audits) == ["job:physics/devel/m0", "job:physics/devel/m1"]
    again = world.service.jobs.last_event()
    assert world.service.jobs.end_named(ADA, refs, order)[0].job.killed == 2
    assert world.service.jobs.last_event() == again
    with pytest.raises(Conflict, match="physics/devel/m0 has ended"):
        world.service.jobs.end_named(ADA, ["physics/devel/m2", "physics/devel/m0"], Order(Event.RESTART))
    assert world.service.jobs.last_event() == again


def test_all_that_fit_are_killed_page_by_page() -> None:
    world = World([node("n1", 2)], instances_limit=6)
    for number in range(5):
        world.submit(spec(f"physics/devel/run7-{number}", instances=2))
    world.submit(spec("physics/devel/run8", instances=6))
    world.submit(spec("chem/devel/run7-0", instances=1))
    order, query = Order(Event.KILL), JobQuery(name="run*")
    seen, pages, after = [], 0, None
    while after is not None or not pages:
        looks, after = world.service.jobs.end_selected(ADA, query, Page(4, after), order)
        seen += [look.job.spec.name for look in looks]
        assert looks and sum(look.job.spec.instances for look in looks) <= 6
        pages += 1
    assert seen == ["run8", "run7-4", "run7-3", "run7-2", "run7-1", "run7-0"]
    with pytest.raises(Invalid, match="tier: 'gold' is not a tier"):
        world.service.jobs.end_selected(ADA, JobQuery(tier="gold"), Page(), order)
    with pytest.raises(TooLarge, match="7 active instances, and at most 6"):
        big = [world.submit(spec("physics/devel/b1", instances=6)).uid, world.submit(spec("physics/devel/b2")).uid]
        world.service.jobs.end_named(ADA, big, order)
    assert world.service.jobs.end_selected(EVE, query, Page(), order) == ([], None)
    assert [
        job.spec.role for job in world.service.jobs.list(ROOT, JobQuery(name="run*", state=JobState.ACTIVE), Page())[0]
    ] == ["chem"]


def test_a_job_that_ended_by_itself_is_not_killed() -> None:
    world = World([node("n1")])
    job = world.submit(spec("physics/devel/a"))
    world.settle()
    world.backend.finish(world.tasks(job)[0].id)
    world.settle()
    assert world.service.jobs.kill(ROOT, job.uid).finished == 1


def test_a_restart_begins_anew_when_the_old_one_is_dead() -> None:
    world = World([node("n1")])
    job = world.submit(spec("physics/prod/a", instances=2))
    world.settle()
    world.service.jobs.restart(ROOT, job.uid, [0])
    assert world.states(job) == ["0.1 killing", "0.2 pending", "1.1 running"]
    assert world.store_usage() == {("physics", "prod", "root"): {"cpus": 2000}}
    world.settle()
    assert world.states(job) == ["0.1 killed", "0.2 running", "1.1 running"]
    restarted = world.job(job)
    assert (restarted.active, restarted.killed) == (2, 0)
    assert world.backend.violations == []


def test_a_job_that_has_ended_is_not_restarted() -> None:
    world = World([node("n1")])
    job = world.submit(spec("physics/prod/a"))
    world.settle()
    world.service.jobs.kill(ROOT, job.uid)
    world.settle()
    with pytest.raises(Conflict, match="physics/prod/a has ended; submit it again"):
        world.service.jobs.restart(ROOT, job.uid)


def test_no_stop_gives_longer_notice_than_the_service_allows() -> None:
    world = World([node("n1", 1)], notice_limit_s=20.0)
    low = world.submit(spec("physics/devel/a", kill_grace=99, preempt={"notice": 77}))
    world.settle()
    world.submit(spec("physics/prod/b"))
    world.settle()
    assert [(stop.task, stop.notice_s) for stop in world.backend.stops] == [(world.tasks(low)[0].id, 20.0)]
    world.service.jobs.kill(ROOT, "physics/prod/b")
    world.settle()
    last = world.submit(spec("physics/prod/c", kill_grace=99))
    world.settle()
    world.service.jobs.kill(ROOT, last.uid)
    world.settle()
    assert {stop.notice_s for stop in world.backend.stops if stop.task == world.tasks(last)[0].id} == {20.0}


def test_a_kill_amid_a_restart_is_final() -> None:
    world = World([node("n1")])
    job = world.submit(spec("physics/prod/a"))
    world.settle()
    world.service.jobs.restart(ROOT, job.uid)
    world.service.jobs.kill(ROOT, job.uid)
    world.settle()
    assert world.states(job) == ["0.1 killed", "0.2 killed"]
    ended = world.job(job)
    assert (ended.state, ended.killed, ended.active) == ("ended", 1, 0)


def test_a_restarted_gang_begins_together() -> None:
    world = World([node("n1")], play=lambda launch: Play(obeys_s=float(launch.instance)))
    job = world.submit(spec("physics/devel/mpi", instances=3, gang=True))
    world.settle()
    world.service.jobs.restart(ROOT, job.uid)
    world.move(1.5)
    assert world.states(job) == [
        "0.1 killed", "0.2 pending", "1.1 killed", "1.2 pending", "2.1 killing", "2.2 pending",
    ]  # fmt: skip
    world.move(1.0)
    assert world.count(job, State.RUNNING) == 3


def test_scaling_up_is_admitted_like_a_submission() -> None:
    world = World([node("n1", 16)])
    job = world.submit(spec("physics/prod/a", instances=2), actor=ADA)
    world.settle()
    assert world.service.jobs.scale(ADA, job.uid, 8).active == 8
    world.settle()
    assert world.count(job, State.RUNNING) == 8
    with pytest.raises(QuotaExceeded, match="short by 1"):
        world.service.jobs.scale(ADA, job.uid, 9)
    assert world.job(job).spec.instances == 8


def test_scaling_down_kills_the_highest_and_up_again_goes_on_after_them() -> None:
    world = World([node("n1", 16)], play=lambda launch: Play(obeys_s=5.0))
    job = world.submit(spec("physics/prod/a", instances=4), actor=ADA)
    world.settle()
    scaled = world.service.jobs.scale(ADA, job.uid, 2)
    assert (scaled.spec.instances, scaled.active) == (2, 4)
    assert world.states(job) == ["0.1 running", "1.1 running", "2.1 killing", "3.1 killing"]
    world.settle()
    # instance 2 is still dying: it was never out of the tally, and its next attempt waits for that
    scaled = world.service.jobs.scale(ADA, job.uid, 3)
    assert (scaled.active, world.states(job)[2:4]) == (4, ["2.1 killing", "2.2 pending"])
    world.move(5.0)
    assert world.states(job) == ["0.1 running", "1.1 running", "2.1 killed", "2.2 running", "3.1 killed"]
    assert world.service.jobs.scale(ADA, job.uid, 4).active == 4
    world.settle()
    assert world.states(job)[-2:] == ["3.1 killed", "3.2 running"]
    assert world.store_usage() == {("physics", "prod", "ada"): {"cpus": 4000}}
    assert world.backend.violations == []


def test_scaled_up_again_amid_a_restart_it_begins_once_the_old_one_is_dead() -> None:
    world = World([node("n1", 4)], play=lambda _: Play(obeys_s=1.0))
    job = world.submit(spec("physics/prod/web", instances=2))
    world.settle()
    world.service.jobs.restart(ADA, job.uid)
    for instances in (1, 2, 1, 2):
        world.service.jobs.scale(ADA, job.uid, instances)
        world.settle()
        assert world.job(job).active == 2, "the old one is dying still, and holds its part of the quota"
    now = [states for states in world.states(job) if states.startswith("1.")]
    assert now == ["1.1 killing", "1.2 killed", "1.3 killed", "1.4 pending"]
    world.move(2.0)
    assert world.states(job)[-1] == "1.4 running"
    assert world.backend.violations == []
    assert world.store_usage() == {("physics", "prod", "root"): {"cpus": 2000}}
    world.service.jobs.kill(ADA, job.uid)
    world.move(2.0)
    assert world.store_usage() == {}


def test_what_has_ended_is_not_scaled() -> None:
    world = World()
    job = world.submit(spec("physics/devel/a"))
    world.service.jobs.kill(ROOT, job.uid)
    with pytest.raises(Conflict, match="has ended; submit it again"):
        world.service.jobs.scale(ROOT, job.uid, 2)
    for instances in (0, -1, 100_001):
        with pytest.raises(Invalid):
            world.service.jobs.scale(ROOT, job.uid, instances)


def test_every_verb_is_blind_to_what_one_has_no_grant_for() -> None:
    world = World([node("n1")])
    job = world.submit(spec("physics/devel/a"))
    world.settle()
    task = world.tasks(job)[0].id
    before = world.service.jobs.last_event()
    jobs = world.service.jobs
    for ref in (job.uid, "physics/devel/a"):
        for act in (
            lambda ref=ref: jobs.get(EVE, ref),
            lambda ref=ref: jobs.tasks(EVE, ref, Page()),
            lambda ref=ref: jobs.events(EVE, 0, 10, ref),
            lambda ref=ref: jobs.kill(EVE, ref),
            lambda ref=ref: jobs.restart(EVE, ref),
            lambda ref=ref: jobs.scale(EVE, ref, 2),
            lambda ref=ref: jobs.logs(EVE, ref, instance=0),
            lambda ref=ref: world.service.explain(EVE, ref),
        ):
            with pytest.raises(NotFound, match=f"there is no job {ref}, or you have no grant for it"):
                act()
    for act in (
        lambda: jobs.task(EVE, task),
        lambda: jobs.logs(EVE, task),
        lambda: world.service.explain(EVE, task),
    ):
        with pytest.raises(NotFound, match=f"there is no task {task}, or you have no grant for it"):
            act()
    assert jobs.list(EVE, JobQuery(), Page())[0] == []
    assert jobs.list(EVE, JobQuery(roles=["physics"]), Page())[0] == []
    assert [event for event in jobs.events(EVE, 0, 1000) if event.role == "physics"] == []
    assert jobs.last_event() == before


def test_a_list_is_of_one_s_own_roles() -> None:
    world = World()
    for name in ("physics/devel/a", "chem/devel/b", "web/devel/c"):
        world.submit(spec(name))
    found, _ = world.service.jobs.list(BEN, JobQuery(), Page())
    assert [job.spec.key for job in found] == ["chem/devel/b", "physics/devel/a"]
    found, _ = world.service.jobs.list(BEN, JobQuery(roles=["web", "chem"]), Page())
    assert [job.spec.key for job in found] == ["chem/devel/b"]


def test_logs_are_of_the_latest_attempt_that_was_placed() -> None:
    world = World([node("n1", 1)], play=lambda _: Play(obeys_s=1.0))
    job = world.submit(spec("physics/devel/a", instances=2))
    empty = world.service.jobs.logs(ADA, job.uid, instance=0)
    assert (empty.data, empty.ended, empty.started) == (b"", False, False)
    world.settle()
    first = world.tasks(job)[0]
    world.backend.write(first.id, b"one\n")
    assert world.service.jobs.logs(ADA, job.uid, instance=0).data == b"one\n"
    world.submit(spec("physics/prod/b"))
    world.settle()
    # the next attempt waits: there is nothing of it yet
    assert world.states(job)[:2] == ["0.1 preempting", "0.2 pending"]
    assert world.service.jobs.logs(ADA, job.uid, instance=0).data == b"one\n"
    assert world.service.jobs.logs(ADA, first.id).data == b"one\n"
    with pytest.raises(NotFound, match="there is no instance 7"):
        world.service.jobs.logs(ADA, job.uid, instance=7)
    world.service.jobs.kill(ADA, job.uid, [1])
    never = world.service.jobs.logs(ADA, job.uid, instance=1)
    assert (never.data, never.ended, never.started) == (b"", True, False)


def test_who_follows_what_waits_waits_with_it() -> None:
    """Not asking again and again: an answer comes when the task has been placed, or when the time is over."""
    world = World([node("n1")])
    job = world.submit(spec("physics/devel/a"))
    world.settle()
    late = world.submit(spec("physics/devel/late", cpus=99))
    began_s = time.monotonic()
    assert not world.service.jobs.logs(ADA, late.uid, wait_s=0.3).started
    assert time.monotonic() - began_s >= 0.3
    assert world.service.jobs.logs(ADA, job.uid, wait_s=250.0).started
    world.service.jobs.kill(ADA, late.uid)
    assert world.service.jobs.logs(ADA, late.uid, wait_s=250.0).ended
    assert time.monotonic() - began_s < 200.0, "what is known is said at once"


def test_events_can_be_followed_from_any_point() -> None:
    world = World([node("n1")])
    job = world.submit(spec("physics/devel/a"))
    start = world.service.jobs.last_event()
    world.settle()
    kinds = [event.kind for event in world.service.jobs.events(ADA, start, 100, job.uid)]
    assert kinds == ["task.placed", "task.running"]
    first, second = world.service.jobs.events(ADA, start, 100, job.uid)
    assert world.service.jobs.events(ADA, first.id, 100, job.uid) == [second]
    assert world.service.jobs.events(ADA, start, 1, job.uid) == [first]
