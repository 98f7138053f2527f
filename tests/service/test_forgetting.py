"""Old history is forgotten in small pieces, and what is still needed of it is not."""

from __future__ import annotations

import pytest

from priority.errors import Deposed
from priority.ports import Page
from priority.service.forgetting import BUSY_S, PAUSE_S, Forgetting

from .test_crons import HOUR, KEY, Cronworld, cron
from .world import ADA, ROOT, node, spec


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
    mine = world.submit(spec("physics/devel/mine"))
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


def test_for_ever_is_for_ever() -> None:
    world = Cronworld(ticks_keep_s=0, events_keep_s=0)
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
