"""Old history is forgotten in small pieces, and what is still needed of it is not."""

from __future__ import annotations

import pytest

from priority.backend.memory import Play
from priority.errors import Conflict, Deposed, NotFound
from priority.job import Job
from priority.records import JobQuery, Page
from priority.service.forgetting import BUSY_S, PAUSE_S, Forgetting

from .checkers import Checkers
from .test_crons import HOUR, KEY, Cronworld, cron
from .world import ADA, ROOT, Crash, World, node, spec


def forget(world: Cronworld, piece: int = 3) -> int:
    """Until there is nothing more; in how many pieces."""
    forgetting, pieces = Forgetting(world.parts, lambda: world.scheduler.epoch, piece), 1
    while (pause_s := forgetting.step()) == BUSY_S:
        world.checkers.check()
        pieces += 1
    assert pause_s == PAUSE_S
    world.checkers.check()
    return pieces


def test_ticks_and_their_runs_are_kept_for_a_while() -> None:
    world = Cronworld(ticks_keep_s=4.5 * HOUR)
    world.service.crons.submit(ADA, cron())
    world.service.crons.submit(ADA, cron("physics/devel/other"))
    mine = world.submit(spec("physics/devel/mine"))  # and is kept for longer
    world.to(30)
    assert forget(world) == 1
    world.to(10 * 60 + 5)
    assert len(world.ticks()) == len(world.runs()) == 11
    assert forget(world) > 3
    assert world.ticks() == [f"{60 * hour} started" for hour in range(6, 11)]
    assert world.runs() == world.runs("physics/devel/other")
    assert world.runs() == [f"{60 * hour} ended" for hour in range(6, 11)]
    assert world.service.jobs.get(ROOT, mine.uid).finished == 1
    assert forget(world) == 1
    world.to(11 * 60 + 5)
    assert world.ticks()[-1] == "660 started"
    # however old: one that is suspended shows what it did last
    world.service.crons.delete(ROOT, KEY)
    world.service.crons.delete(ROOT, "physics/devel/other")
    world.clock.move(100 * HOUR)
    forget(world)
    assert world.runs() == ["660 ended"] and world.runs("physics/devel/other") == ["660 ended"]


def test_runs_of_many_tasks_go_in_pieces() -> None:
    """Never more tasks at once than a transaction may take, however many ticks it may take."""
    world = Cronworld(node("n1", 50), ticks_keep_s=HOUR)
    world.service.crons.submit(ADA, cron(instances=7))
    world.to(5 * 60 + 5)
    assert len(world.runs()) == 6
    forgetting = Forgetting(world.parts, lambda: world.scheduler.epoch, 100, 16)
    seen = [len(world.runs())]
    while forgetting.step() == BUSY_S:
        world.checkers.check()
        seen.append(len(world.runs()))
    assert seen == [6, 4, 2]
    assert world.ticks() == ["300 started"]


def test_a_run_of_more_tasks_than_a_piece_may_have_goes_piece_by_piece() -> None:
    world = Cronworld(node("n1", 50), ticks_keep_s=HOUR)
    world.service.crons.submit(ADA, cron(instances=7))
    world.to(2 * 60 + 5)
    forgetting = Forgetting(world.parts, lambda: world.scheduler.epoch, 100, 3)
    pieces = 1
    while forgetting.step() == BUSY_S:
        pieces += 1
    # two runs of 7 tasks: 3, 3, and the last one with its job
    assert (pieces, world.ticks()) == (6, ["120 started"])


def test_for_ever_is_for_ever() -> None:
    world = Cronworld(ticks_keep_s=0, events_keep_s=0, jobs_keep_s=0, preemptions_keep_s=0)
    world.service.crons.submit(ADA, cron())
    world.to(3 * 60)
    before = world.ticks(), len(world.events("job.submitted"))
    world.clock.move(10_000 * HOUR)
    assert forget(world) == 1
    assert (world.ticks(), len(world.events("job.submitted"))) == before


def test_a_run_goes_on_for_as_long_as_it_likes() -> None:
    world = Cronworld(run_s=None, ticks_keep_s=HOUR, events_keep_s=HOUR)
    world.service.crons.submit(ADA, cron())
    world.to(5 * 60)
    assert world.runs() == ["0 active"]
    forget(world)
    assert world.runs() == ["0 active"]
    assert world.ticks()[0] == "0 started"
    kinds = [event.kind for event in world.events()]
    assert "job.submitted" in kinds and "task.running" in kinds


def test_what_the_ledger_is_about_stays() -> None:
    world = Cronworld(node("n1", 4), run_s=None, ticks_keep_s=HOUR)
    world.service.crons.submit(ADA, cron("physics/devel/victim", cpus=4, collision="kill_existing"))
    world.to(5)
    world.submit(spec("physics/prod/urgent", cpus=4))
    world.settle()
    world.to(6 * 60 + 5)
    victims = {view.record.victim.job for view in world.service.preemptions.list(ROOT, Page())[0]}
    assert victims
    forget(world)
    assert all(world.service.jobs.get(ROOT, uid).spec.name == "victim" for uid in victims)


def test_who_leads_no_more_forgets_nothing() -> None:
    world = Cronworld(ticks_keep_s=HOUR)
    world.service.crons.submit(ADA, cron())
    world.to(5 * 60)
    before = world.ticks()
    with pytest.raises(Deposed):
        Forgetting(world.parts, lambda: (world.scheduler.epoch or 0) - 1).step()
    assert world.ticks() == before


def test_events_go_and_new_ones_are_numbered_from_the_last() -> None:
    world = Cronworld(events_keep_s=2 * HOUR)
    world.service.crons.submit(ADA, cron())
    world.to(6 * 60 + 5)
    last = world.service.jobs.last_event()
    assert forget(world) > 2
    left = world.service.jobs.events(ROOT, 0, 10_000)
    assert left[-1].id == last and left[0].at_us >= world.clock.now_us() - 2 * HOUR * 10**6
    world.clock.move(100 * HOUR)
    assert forget(world) > 2
    assert [event.id for event in world.service.jobs.events(ROOT, 0, 10_000)] == [last]
    world.submit(spec("physics/devel/next"))
    assert world.service.jobs.last_event() == last + 1


def aged(world: World, tasks: int = 5000) -> Forgetting:
    return Forgetting(world.parts, lambda: world.scheduler.epoch, 3, tasks)


def later(world: World, seconds: float) -> None:
    """In few steps: nothing is to happen at its exact time."""
    for _ in range(round(seconds / (HOUR / 2))):
        world.move(2.0)
        world.clock.move(HOUR / 2 - 2.0)
        world.settle()


def names(world: World) -> list[str]:
    return [job.spec.name for job in world.service.jobs.list(ROOT, JobQuery(), Page(1000))[0]][::-1]


def sweep(forgetting: Forgetting, checkers: Checkers) -> int:
    """Until there is nothing more; in how many pieces."""
    pieces = 1
    while forgetting.step() == BUSY_S:
        checkers.check()
        pieces += 1
    checkers.check()
    return pieces


def test_jobs_are_kept_for_a_while_after_their_end() -> None:
    world = World(
        [node("n1")], jobs_keep_s=2 * HOUR, play=lambda launch: Play(3 * HOUR if launch.job.endswith("l") else 1)
    )
    checkers = Checkers(world)
    long = world.submit(spec("physics/devel/l"))
    short = [world.submit(spec(f"physics/devel/s{number}", labels={"a": "b"})) for number in range(7)]
    later(world, HOUR)
    assert sweep(aged(world), checkers) == 1
    assert names(world) == ["l", *(f"s{number}" for number in range(7))]
    later(world, 1.5 * HOUR)
    late = world.submit(spec("physics/devel/late"))
    world.move(10.0)
    assert sweep(aged(world), checkers) > 2
    assert names(world) == ["l", "late"]
    for act in (world.service.jobs.get, world.service.jobs.kill):
        with pytest.raises(NotFound):
            act(ROOT, short[0].uid)
    with pytest.raises(NotFound):
        world.tasks(short[3])
    assert world.service.jobs.list(ROOT, JobQuery(label=("a", "b")), Page(10))[0] == []
    assert world.states(long) == ["0.1 running"]
    later(world, 2 * HOUR)  # ended an hour and a half ago
    assert world.states(long) == ["0.1 finished"]
    sweep(aged(world), checkers)
    assert names(world) == ["l"]
    assert late.uid != long.uid
    later(world, 2 * HOUR)
    sweep(aged(world), checkers)
    assert names(world) == []
    # what comes is numbered on, and found
    assert world.job(world.submit(spec("physics/devel/s1"))).spec.name == "s1"


def test_a_job_of_very_many_tasks_goes_in_pieces_and_who_dies_leaves_the_rest_to_the_next() -> None:
    world = World([node("n1", 50)], jobs_keep_s=HOUR, play=lambda _: Play(1.0))
    checkers = Checkers(world)
    world.submit(spec("physics/devel/small", instances=2))
    large = world.submit(spec("physics/devel/large", instances=25))
    world.submit(spec("physics/devel/last", instances=2))
    later(world, 1.5 * HOUR)
    first = aged(world, tasks=10)
    assert first.step() == BUSY_S
    assert names(world) == ["large", "last"]
    assert first.step() == BUSY_S
    assert [task.instance for task in world.tasks(large)] == list(range(15))
    # dead in the middle of a transaction it has done nothing
    with pytest.raises(Crash), world.store.write(world.scheduler.epoch) as writer:
        writer.drop_tasks(large.uid, 10)
        raise Crash
    assert len(world.tasks(large)) == 15
    world.die()
    world.new_scheduler()
    with pytest.raises(Deposed):
        Forgetting(world.parts, lambda: (world.scheduler.epoch or 0) - 1).step()
    assert sweep(aged(world, tasks=10), Checkers(world)) == 2
    assert names(world) == []
    checkers.check()


def test_an_idempotency_key_is_there_as_long_as_one_of_its_jobs() -> None:
    world = World([node("n1", 8)], jobs_keep_s=HOUR, play=lambda launch: Play(None if "stay" in launch.job else 1.0))
    one, both = spec("physics/devel/one"), (spec("physics/devel/goes"), spec("physics/devel/stays"))

    def send() -> list[Job]:
        return [world.submit(one, actor=ADA, key="k1"), world.submit(*both, actor=ADA, key="k2")]

    first = send()
    later(world, 0.5 * HOUR)
    sweep(aged(world), Checkers(world))
    assert [job.uid for job in send()] == [job.uid for job in first]
    later(world, HOUR)
    assert world.submit(one, actor=ADA, key="k1").uid == first[0].uid  # old, but still there
    sweep(aged(world), Checkers(world))
    assert names(world) == ["stays"]
    with pytest.raises(Conflict, match="1 of the 2 jobs of the idempotency key 'k2'"):
        world.submit(*both, actor=ADA, key="k2")
    again = world.submit(one, actor=ADA, key="k1")
    assert again.uid != first[0].uid
    assert world.submit(one, actor=ADA, key="k1").uid == again.uid
    with world.store.read() as reader:
        assert reader.answered([("physics", "k1"), ("physics", "k2")]).keys() == {("physics", "k1"), ("physics", "k2")}
    for job in world.service.jobs.list(ROOT, JobQuery(), Page(10))[0]:
        world.service.jobs.kill(ROOT, job.uid)
    later(world, 25 * HOUR)
    sweep(aged(world), Checkers(world))
    with world.store.read() as reader:
        assert reader.answered([("physics", "k1"), ("physics", "k2")]) == {}


def test_a_job_that_the_ledger_is_about_stays() -> None:
    world = World([node("n1", 4)], jobs_keep_s=HOUR, play=lambda _: Play(60.0))
    world.submit(spec("physics/devel/victim", cpus=4))
    world.settle()
    world.submit(spec("physics/prod/urgent", cpus=4))
    later(world, HOUR)
    world.submit(spec("physics/prod/other"))
    later(world, 30 * HOUR)
    sweep(aged(world), Checkers(world))
    assert names(world) == ["victim", "urgent"]


def test_the_ledger_goes_in_its_time_and_then_the_jobs_that_it_named() -> None:
    world = World([node("n1", 4)], jobs_keep_s=HOUR, preemptions_keep_s=50 * HOUR, play=lambda _: Play(60.0))

    def preempt(number: int) -> None:
        world.submit(spec(f"physics/devel/victim{number}", cpus=4))
        world.settle()
        world.submit(spec(f"physics/prod/urgent{number}", cpus=4))
        later(world, HOUR)

    for number in (1, 2):
        preempt(number)
    later(world, 30 * HOUR)
    forgetting = aged(world)
    sweep(forgetting, Checkers(world))
    assert names(world) == ["victim1", "urgent1", "victim2", "urgent2"]
    later(world, 30 * HOUR)
    preempt(3)
    sweep(forgetting, Checkers(world))
    sweep(aged(world), Checkers(world))
    assert [view.record.seq for view in world.service.preemptions.list(ROOT, Page())[0]] == [3]
    assert names(world) == ["victim3", "urgent3"]
