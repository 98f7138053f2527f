"""Cron jobs over a whole service in memory: the verbs and the ticker, moved by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from postgres import Postgres

from priority.backend.memory import Play
from priority.cron import CronSpec, Outcome, parse_spec
from priority.crontab import CronQuery, CronState
from priority.errors import Conflict, Deposed, Invalid, NotFound, PriorityError, QuotaExceeded
from priority.job import JobState
from priority.records import JobQuery, Page, User
from priority.schedule import show_moment
from priority.service.crons import CronLook
from priority.service.ticker import LOOK_S, Ticker
from priority.task import State

from .checkers import Checkers
from .world import ADA, BEN, EVE, ROOT, Crash, World, node, spec

KEY = "physics/prod/nightly"
HOUR = 3600


def cron(key: str = KEY, **fields: Any) -> CronSpec:
    role, tier, name = key.split("/")
    fields = {"command": "true", "schedule": "0 * * * *", "resources": {"cpus": fields.pop("cpus", 1)}} | fields
    made = parse_spec({"role": role, "tier": tier, "name": name, **fields})
    assert isinstance(made, CronSpec)
    return made


class Cronworld(World):
    """It begins ten minutes before an hour."""

    def __init__(self, *args: Any, run_s: float | None = 60.0, obeys_s: float | None = 0.0, **more: Any) -> None:
        play = Play(run_s=run_s, obeys_s=obeys_s)
        more = {"leader_lease_s": 1e6} | more  # many hours pass, and each renewal is a commit
        super().__init__(args or (node("n1", 16),), play=lambda _: play, **more)
        self.hour_us = -(-self.clock.now_us() // (HOUR * 10**6)) * HOUR * 10**6 + HOUR * 10**6
        self.clock.move((self.hour_us - self.clock.now_us()) / 1e6 - 600)
        self.ticker = self.new_ticker()
        self.checkers = Checkers(self)
        self._checked = 0

    def new_ticker(self, fail_at: Callable[[str], None] | None = None, **more: Any) -> Ticker:
        if fail_at is not None:
            more["fail_at"] = fail_at
        self.ticker = Ticker(self.parts, lambda: self.scheduler.epoch, **more)
        return self.ticker

    def tick(self) -> float:
        """All that is due at this moment, and what comes of it."""
        while (pause_s := self.ticker.step()) == 0:
            pass
        if (last := self.service.jobs.last_event()) != self._checked:
            self.settle()
            self.checkers.check()
            self._checked = last
        return pause_s

    def to(self, minutes: float, *, idle: bool = False) -> None:
        """To so many minutes after the first hour; `idle`: the ticker does nothing on the way."""
        target_us = self.hour_us + round(minutes * 60e6)
        while self.clock.now_us() < target_us:
            pause_s = 0.0 if idle else self.tick()
            until_us = target_us
            if pause_s >= LOOK_S:  # it would look again and again until then, and find nothing
                with self.store.read() as reader:
                    until_us = min(reader.next_tick() or target_us, target_us)
            elif pause_s:
                until_us = min(self.clock.now_us() + max(1, round(pause_s * 1e6)), target_us)
            self.move((until_us - self.clock.now_us()) / 1e6)
        if not idle:
            self.tick()

    def ticks(self, key: str = KEY) -> list[str]:
        """`minute outcome code`, oldest first."""
        ticks, _ = self.service.crons.history(ROOT, key, Page(1000))
        return [
            f"{(tick.tick_us - self.hour_us) / 60e6:g} {tick.outcome}{f' {tick.reason.code}' if tick.reason else ''}"
            for tick in reversed(ticks)
        ]

    def look(self, key: str = KEY) -> CronLook:
        return self.service.crons.show(ROOT, key)

    def runs(self, key: str = KEY) -> list[str]:
        """`minute state`, oldest first."""
        role, tier, name = key.split("/")
        jobs, _ = self.service.jobs.list(ROOT, JobQuery(roles=[role], tier=tier, name=name), Page(1000))
        return [f"{((job.tick_us or 0) - self.hour_us) / 60e6:g} {job.state}" for job in reversed(jobs)]


# --- firing ------------------------------------------------------------------------------------------------------


def test_it_fires_at_its_time_and_never_before() -> None:
    world = Cronworld()
    kept = world.service.crons.submit(ADA, cron())
    assert kept.made and kept.changed
    assert kept.look.coming == tuple(world.hour_us + n * HOUR * 10**6 for n in range(5))
    world.clock.move(599.999999)
    assert world.tick() == pytest.approx(0.000001)
    assert world.ticks() == []
    world.clock.move(0.000001)
    world.tick()
    assert world.ticks() == ["0 started"]
    assert world.runs() == ["0 active"]
    world.to(61)
    assert world.ticks() == ["0 started", "60 started"]
    assert world.runs() == ["0 ended", "60 ended"]
    run = world.service.jobs.get(ROOT, KEY)
    assert run.spec.env["PRIORITY_TICK"] == show_moment(world.hour_us + HOUR * 10**6)
    assert (run.user, run.tick_us) == ("ada", world.hour_us + HOUR * 10**6)
    submitted = [event.data for event in world.events("job.submitted")]
    assert [data["tick"] for data in submitted] == [show_moment(world.hour_us), show_moment(run.tick_us or 0)]


def test_submitted_anew_after_the_clock_was_set_back() -> None:
    """It comes by moments that have been: what is written down of them stays, and all others get their row."""
    world = Cronworld()
    world.service.crons.submit(ADA, cron(schedule="*/20 * * * *"))
    world.to(61)
    before = world.ticks()
    assert before == [f"{minute} started" for minute in (0, 20, 40, 60)]
    world.clock.move(-70 * 60)
    world.tick()
    assert world.ticks() == before
    world.service.crons.submit(ADA, cron(schedule="*/10 * * * *"))
    world.to(82)
    assert world.ticks() == [f"{minute} started" for minute in range(0, 90, 10)]
    world.clock.move(-75 * 60)
    world.service.crons.delete(ROOT, KEY)
    world.service.crons.submit(ADA, cron(schedule="*/5 * * * *"))
    world.clock.move(60 * 60)
    world.tick()
    assert [line.split()[0] for line in world.ticks()][:14] == [str(minute) for minute in (0, *range(10, 70, 5), 70)]


def test_ten_thousand_that_are_due_together_are_begun_in_few_transactions() -> None:
    world = Cronworld(roles={"web": {}})
    for number in range(60):
        world.service.crons.submit(ROOT, cron(f"web/devel/n{number}"))
    world.new_ticker(batch=25)
    world.clock.move(600)
    steps = 0
    while world.ticker.step() == 0:
        steps += 1
    assert steps == 2
    assert all(world.ticks(f"web/devel/n{number}") == ["0 started"] for number in range(60))


@pytest.mark.parametrize(
    ("collision", "expected", "runs"),
    [
        ("cancel_new", ["0 started", "60 skipped collision"], ["0 active"]),
        ("allow", ["0 started", "60 started"], ["0 active", "60 active"]),
    ],
)
def test_a_run_that_still_goes_on(collision: str, expected: list[str], runs: list[str]) -> None:
    world = Cronworld(run_s=None)
    world.service.crons.submit(ADA, cron(collision=collision))
    world.to(61)
    assert (world.ticks(), world.runs()) == (expected, runs)


def test_killing_what_goes_on_waits_for_its_death() -> None:
    world = Cronworld(run_s=None, obeys_s=5.0)
    world.service.crons.submit(ADA, cron(collision="kill_existing", kill_grace=60.0))
    world.to(60)
    assert world.ticks() == ["0 started", "60 waiting killing"]
    assert world.runs() == ["0 active"]
    world.to(60.08)
    assert world.runs() == ["0 active"]
    world.to(60.2)
    assert world.ticks() == ["0 started", "60 started"]
    assert world.runs() == ["0 ended", "60 active"]
    (killed,) = [event.data for event in world.events("job.killed")]
    assert killed["by"] == "cron"


def test_a_later_tick_takes_the_place_of_one_that_waits() -> None:
    world = Cronworld(run_s=None, obeys_s=None)
    world.service.crons.submit(ADA, cron(collision="kill_existing", schedule="*/5 * * * *", kill_grace=250.0))
    world.to(6)
    assert world.ticks() == ["-5 started", "0 started", "5 waiting killing"]
    world.service.jobs.kill(ROOT, KEY)
    # the second run is told a second time when the third tick comes: that changes nothing
    world.to(11)
    assert world.ticks()[2:] == ["5 started", "10 waiting killing"]


def test_what_waits_for_a_run_that_never_ran_begins_at_once() -> None:
    world = Cronworld(node("n1", 1))
    world.service.crons.submit(ADA, cron(collision="kill_existing", cpus=4))
    world.to(60)
    assert world.runs() == ["0 ended"]
    world.tick()
    assert world.ticks() == ["0 started", "60 started"]


# --- nobody was there --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missed", "collision", "expected"),
    [
        ("skip", "allow", ["0 missed late", "60 missed late", "120 missed late"]),
        ("run_latest", "allow", ["0 missed superseded", "60 missed superseded", "120 started"]),
        ("run_all", "allow", ["0 started", "60 started", "120 started"]),
        ("run_all", "cancel_new", ["0 started", "60 waiting queued", "120 waiting queued"]),
        ("run_all", "kill_existing", ["0 skipped collision", "60 skipped collision", "120 started"]),
        ({"policy": "run_all", "limit": 2}, "allow", ["0 missed limit", "60 started", "120 started"]),
        ({"policy": "run_all", "deadline": "90m"}, "allow", ["0 missed deadline", "60 started", "120 started"]),
    ],
)
def test_what_was_missed(missed: Any, collision: str, expected: list[str]) -> None:
    world = Cronworld()
    world.service.crons.submit(ADA, cron(missed=missed, collision=collision))
    world.to(150, idle=True)
    world.tick()
    assert world.ticks() == expected
    world.to(181)
    assert world.ticks()[-1] == "180 started"
    assert [one.replace("waiting queued", "started") for one in expected] == world.ticks()[:-1]


def test_those_that_queue_up_run_one_after_another() -> None:
    world = Cronworld(run_s=100.0)
    world.service.crons.submit(ADA, cron(missed="run_all"))
    world.to(150, idle=True)
    world.tick()
    for minutes in range(151, 170):
        world.to(minutes)
        assert sum(run.endswith("active") for run in world.runs()) <= 1
    assert world.runs() == ["0 ended", "60 ended", "120 ended"]


def test_a_short_absence_is_no_miss() -> None:
    world = Cronworld()
    world.service.crons.submit(ADA, cron())
    world.to(0.9, idle=True)
    world.tick()
    assert world.ticks() == ["0 started"]


def test_a_clock_that_is_set_back_runs_nothing_twice() -> None:
    world = Cronworld()
    world.service.crons.submit(ADA, cron(schedule="*/10 * * * *"))
    world.to(15)
    before = world.ticks()
    world.clock.move(-3 * HOUR)
    world.tick()
    assert world.ticks() == before
    world.clock.move(3 * HOUR)
    world.tick()
    assert world.ticks() == before == ["0 started", "10 started"]


def test_a_clock_that_is_set_forward_leaves_one_row_for_each_tick() -> None:
    world = Cronworld()
    world.service.crons.submit(ADA, cron(schedule="* * * * *"))
    world.clock.move(2 * HOUR)
    world.tick()
    ticks = world.ticks()
    assert len(ticks) == len(set(ticks)) == 120
    assert ticks[-2:] == ["109 started", "110 skipped collision"]
    assert all(one.endswith("missed late") for one in ticks[:-2])
    missed = [event.data for event in world.events("cron.missed")]
    assert [data["count"] for data in missed] == [118]


# --- crashes and fail-over ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["tick-written", "tick-committed"])
def test_dead_at_any_line_each_tick_happens_once(point: str) -> None:
    world = Cronworld()
    world.service.crons.submit(ADA, cron())

    def fail(at: str) -> None:
        if at == point:
            raise Crash

    world.new_ticker(fail)
    world.clock.move(600)
    with pytest.raises(Crash):
        world.ticker.step()
    assert world.ticks() == ([] if point == "tick-written" else ["0 started"])
    world.die()
    world.new_scheduler()
    world.new_ticker()
    world.tick()
    assert world.ticks() == ["0 started"]
    world.move(10)  # nobody has told the scheduler of the run: its sweep finds it
    assert world.count(world.service.jobs.get(ROOT, KEY), State.RUNNING) == 1


def test_who_was_deposed_writes_nothing() -> None:
    world = Cronworld()
    world.service.crons.submit(ADA, cron())
    epoch = world.scheduler.epoch
    former = Ticker(world.parts, lambda: epoch)
    world.die()
    world.new_scheduler()
    world.clock.move(600)
    with pytest.raises(Deposed):
        former.step()
    assert world.ticks() == []
    world.tick()
    assert world.ticks() == ["0 started"]


# --- the verbs ---------------------------------------------------------------------------------------------------


def test_suspended_ticks_are_noted_as_skipped() -> None:
    world = Cronworld()
    world.service.crons.submit(ADA, cron())
    world.to(1)
    assert world.service.crons.suspend(ADA, KEY, "holiday").cron.state is CronState.SUSPENDED
    assert world.service.crons.suspend(ADA, KEY).coming == ()
    world.to(125)
    assert world.service.crons.resume(ADA, KEY).cron.state is CronState.ACTIVE
    world.to(181)
    assert world.ticks() == ["0 started", "60 skipped suspended", "120 skipped suspended", "180 started"]
    kinds = [event.kind for event in world.events() if event.kind.startswith("cron.")]
    assert kinds == ["cron.submitted", "cron.suspended", "cron.skipped", "cron.skipped", "cron.resumed"]
    actions = [audit.action for audit in world.service.roles.audits(ROOT, Page(10), action="cron")[0]]
    assert actions == ["cron.resume", "cron.suspend", "cron.submit"]


def test_a_change_holds_for_the_ticks_after_it() -> None:
    world = Cronworld()
    world.service.crons.submit(ADA, cron())
    world.clock.move(601)  # the ticker is late by a second
    kept = world.service.crons.submit(BEN, cron(schedule="30 * * * *", instances=2))
    assert (kept.made, kept.changed, kept.look.cron.user) == (False, True, "ada")
    assert world.ticks() == ["0 started"]
    world.to(31)
    assert world.ticks() == ["0 started", "30 started"]
    assert world.service.jobs.get(ROOT, KEY).spec.instances == 2
    assert not world.service.crons.submit(BEN, cron(schedule="30 * * * *", instances=2)).changed


def test_what_was_suspended_stays_so_unless_the_file_says_otherwise() -> None:
    world = Cronworld()
    submit = world.service.crons.submit
    submit(ADA, cron())
    world.service.crons.suspend(ADA, KEY)
    assert submit(ADA, cron(instances=2)).look.cron.state is CronState.SUSPENDED
    assert submit(ADA, cron(instances=2, suspend=True)).look.cron.state is CronState.SUSPENDED
    assert submit(ADA, cron(instances=2, suspend=False)).look.cron.state is CronState.ACTIVE


def test_deleted_it_has_no_ticks_and_submitted_again_it_goes_on() -> None:
    world = Cronworld(run_s=None)
    first = world.service.crons.submit(ADA, cron()).look.cron
    world.to(1)
    world.service.crons.delete(BEN, KEY, "no longer needed")
    with pytest.raises(NotFound):
        world.service.crons.show(ADA, KEY)
    assert world.service.crons.list(ADA, CronQuery(), Page())[0] == []
    world.to(61)
    assert (world.ticks(), world.runs()) == (["0 started"], ["0 active"])
    again = world.service.crons.submit(BEN, cron())
    assert (again.made, again.look.cron.uid, again.look.cron.user) == (True, first.uid, "ben")
    world.to(121)
    # the run from before goes on still, whoever's it is
    assert world.ticks() == ["0 started", "120 skipped collision"]


def test_by_hand() -> None:
    world = Cronworld(run_s=None)
    world.service.crons.submit(ADA, cron(suspend=True))
    look, tick = world.service.crons.start(BEN, KEY, "now")
    assert (tick.outcome, tick.by, tick.tick_us) == (Outcome.STARTED, "ben", world.clock.now_us())
    assert [run.uid for run in look.runs] == [tick.job]
    world.checkers.check()
    with pytest.raises(Conflict) as refused:
        world.service.crons.start(ADA, KEY)
    assert refused.value.details["job"] == tick.job
    world.service.crons.submit(ADA, cron(suspend=True, collision="allow"))
    _, second = world.service.crons.start(BEN, KEY)
    assert second.tick_us == tick.tick_us + 1
    world.service.crons.submit(ADA, cron(suspend=True, collision="kill_existing"))
    _, third = world.service.crons.start(BEN, KEY)
    assert third.outcome is Outcome.WAITING
    world.to(-9)
    history, _ = world.service.crons.history(ADA, KEY, Page())
    assert [one.outcome for one in history] == [Outcome.STARTED] * 3
    assert [run.split()[1] for run in world.runs()] == ["ended", "ended", "active"]


def test_its_end() -> None:
    world = Cronworld()
    end = show_moment(world.hour_us + HOUR * 10**6)
    world.service.crons.submit(ADA, cron(end=end))
    world.to(200)
    assert world.ticks() == ["0 started", "60 started"]
    assert (world.look().cron.state, world.store_usage()) == (CronState.ENDED, {})
    with pytest.raises(Conflict, match="has ended"):
        world.service.crons.resume(ADA, KEY)
    with pytest.raises(Invalid, match="is over"):
        world.service.crons.submit(ADA, cron(end=end))
    later = show_moment(world.hour_us + 5 * HOUR * 10**6)
    assert world.service.crons.submit(ADA, cron(end=later)).look.cron.state is CronState.ACTIVE


@pytest.mark.parametrize("verb", ["show", "suspend", "resume", "start", "delete"])
@pytest.mark.parametrize("key", [KEY, "physics/prod/other", "nothing", "physics/prod"])
def test_who_has_no_grant_sees_nothing(verb: str, key: str) -> None:
    world = Cronworld()
    world.service.crons.submit(ADA, cron())
    with pytest.raises(NotFound) as hidden:
        getattr(world.service.crons, verb)(EVE, key)
    assert hidden.value.message == f"there is no cron job {key}, or you have no grant for it"
    with pytest.raises(NotFound):
        world.service.crons.submit(EVE, cron())
    with pytest.raises(NotFound):
        world.service.crons.history(EVE, key, Page())
    assert world.service.crons.list(EVE, CronQuery(), Page())[0] == []
    assert world.service.crons.list(EVE, CronQuery(roles=["physics"]), Page())[0] == []


def test_a_name_is_a_jobs_or_a_cron_jobs() -> None:
    world = Cronworld()
    world.submit(spec(KEY))
    with pytest.raises(Conflict, match="is active as a job"):
        world.service.crons.submit(ADA, cron())
    world.service.jobs.kill(ROOT, KEY)
    world.settle()
    world.service.crons.submit(ADA, cron())
    with pytest.raises(Conflict, match=f"is a cron job; `priority cron start {KEY}` runs it now"):
        world.submit(spec(KEY))
    world.service.crons.submit(ADA, cron("physics/prod/fresh"))
    with pytest.raises(NotFound, match="has not run yet"):
        world.service.jobs.get(ADA, "physics/prod/fresh")


def test_a_run_is_killed_and_begun_anew_but_not_scaled() -> None:
    world = Cronworld(run_s=None)
    world.service.crons.submit(ADA, cron())
    world.to(1)
    with pytest.raises(Conflict, match="submit the cron job again"):
        world.service.jobs.scale(ADA, KEY, 3)
    world.service.jobs.restart(ADA, KEY)
    world.settle()
    world.service.jobs.kill(ADA, KEY)
    world.settle()
    assert world.service.jobs.get(ADA, KEY).state is JobState.ENDED
    world.to(61)
    assert world.runs() == ["0 ended", "60 active"]


def test_a_role_with_cron_jobs_goes_only_by_force() -> None:
    world = Cronworld()
    world.service.crons.submit(ADA, cron())
    with pytest.raises(Conflict, match="has cron jobs, such as physics/prod/nightly"):
        world.service.roles.drop(ROOT, "physics")
    world.service.roles.drop(ROOT, "physics", force=True)
    assert world.store_usage() == {}
    with pytest.raises(NotFound):
        world.look()
    world.to(61)
    assert world.ticks() == []


@pytest.mark.parametrize(
    ("key", "fields", "field"),
    [
        ("physics/gold/x", {}, "tier"),
        (KEY, {"schedule": "0 0 30 2 *"}, "schedule"),
        (KEY, {"instances": 10**6}, "instances"),
    ],
)
def test_what_is_refused(key: str, fields: dict[str, Any], field: str) -> None:
    world = Cronworld()
    with pytest.raises(Invalid) as refused:
        world.service.crons.submit(ADA, cron(key, **fields))
    assert refused.value.field == field
    with pytest.raises(NotFound, match="role nowhere"):
        world.service.crons.submit(ROOT, cron("nowhere/prod/x"))


# --- quota -------------------------------------------------------------------------------------------------------

OWNER = ("physics", "prod", "ada")


def used(world: World) -> int:
    """Cores of prod, of everybody."""
    return sum(use["cpus"] for (_, tier, _), use in world.store_usage().items() if tier == "prod") // 1000


def test_prod_is_counted_as_the_largest_of_template_and_running() -> None:
    world = Cronworld(run_s=30 * 60)
    world.service.crons.submit(ADA, cron(cpus=2, instances=2, collision="allow", schedule="*/20 * * * *"))
    assert used(world) == 4
    view = world.service.roles.quota(ROOT, "physics").lines[0]
    assert (view.reserved, view.waiting, view.left) == (
        {"cpus": 4000},
        {"cpus": 0} if view.waiting else {},
        {"cpus": 4000},
    )
    world.to(5)
    assert used(world) == 4
    world.to(21)
    assert used(world) == 8
    world.to(31)
    assert used(world) == 4
    world.service.crons.submit(ADA, cron(cpus=1, instances=1))
    assert used(world) == 4  # what runs still holds that
    world.to(55)
    assert used(world) == 1
    world.service.crons.delete(ADA, KEY)
    world.tick()
    assert used(world) == 0


def test_admission_keeps_room_for_the_template() -> None:
    world = Cronworld()
    with pytest.raises(QuotaExceeded) as refused:
        world.service.crons.submit(ADA, cron(cpus=9))
    assert refused.value.details["short"] == {"cpus": 1}
    with pytest.raises(QuotaExceeded, match="has no quota"):
        world.service.crons.submit(BEN, cron("chem/prod/x"))
    world.service.crons.submit(ADA, cron(cpus=5))
    with pytest.raises(QuotaExceeded):
        world.submit(spec("physics/prod/job", cpus=4))
    with pytest.raises(QuotaExceeded):
        world.service.crons.submit(ADA, cron("physics/prod/b", cpus=4))
    world.service.crons.submit(ADA, cron(cpus=8))
    assert used(world) == 8
    world.service.crons.submit(ADA, cron(cpus=2))
    world.submit(spec("physics/prod/job", cpus=6))
    with pytest.raises(QuotaExceeded):
        world.service.crons.submit(ADA, cron(cpus=3))
    world.service.crons.submit(ADA, cron("physics/devel/any", cpus=100, instances=10))
    world.checkers.check()


def test_the_quota_is_asked_again_at_each_firing() -> None:
    world = Cronworld(run_s=None)
    world.service.crons.submit(ADA, cron(cpus=3, collision="allow"))
    world.to(61)
    assert used(world) == 6
    world.to(121)
    assert world.ticks() == ["0 started", "60 started", "120 skipped quota"]
    (last,) = world.service.crons.history(ROOT, KEY, Page(1))[0]
    assert last.reason is not None and last.reason.details["short"] == {"cpus": 1}
    with pytest.raises(QuotaExceeded):
        world.service.crons.start(ADA, KEY)
    for run in world.look().runs:
        world.service.jobs.kill(ROOT, run.uid)
    world.tick()
    assert used(world) == 3
    world.checkers = Checkers(world, forced=True)
    world.service.roles.set_quota(ROOT, "physics", "prod", {"cpus": 1000}, force=True)
    world.to(181)
    assert world.ticks()[-1] == "180 skipped quota"


def test_a_quota_is_not_lowered_below_what_is_kept_for_cron_jobs() -> None:
    world = Cronworld()
    world.service.crons.submit(ADA, cron(cpus=3))
    with pytest.raises(Conflict, match="below its use by cpus"):
        world.service.roles.set_quota(ROOT, "physics", "prod", {"cpus": 2000})


def test_a_user_s_part_of_the_quota_counts_too() -> None:
    world = Cronworld()
    world.service.roles.set_quota(ROOT, "physics", "prod", {"cpus": 2000}, user="ada")
    with pytest.raises(QuotaExceeded, match="user ada"):
        world.service.crons.submit(ADA, cron(cpus=3))
    world.service.crons.submit(ADA, cron(cpus=2))
    world.to(1)
    assert world.ticks() == ["0 started"]


def test_a_cron_job_that_cannot_be_reckoned_any_more_stops_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Cronworld()
    world.service.crons.submit(ADA, cron())
    world.service.crons.submit(ADA, cron("physics/devel/b", timezone="Asia/Tokyo"))
    world.clock.move(600)
    honest = CronSpec.next

    def broken(self: CronSpec, after_us: int) -> int | None:
        if self.timezone == "Asia/Tokyo":
            raise ValueError("must be a time zone")
        return honest(self, after_us)

    monkeypatch.setattr(CronSpec, "next", broken)
    world.tick()
    assert (world.ticks(), world.ticks("physics/devel/b")) == (["0 started"], [])
    assert world.look("physics/devel/b").cron.state is CronState.ENDED
    assert [event.data["message"] for event in world.events("cron.broken")] == ["must be a time zone"]


@pytest.mark.postgres
def test_the_same_on_postgresql(postgres: Postgres) -> None:
    world = Cronworld(run_s=None, url=postgres.cleaned(), sweep_s=3600.0)
    world.service.crons.submit(ADA, cron(cpus=3, collision="allow", missed="run_latest"))
    world.service.crons.submit(ADA, cron("physics/devel/kills", collision="kill_existing"))
    world.to(61)
    assert (world.ticks(), used(world)) == (["0 started", "60 started"], 6)
    assert world.runs("physics/devel/kills") == ["0 ended", "60 active"]
    world.to(190, idle=True)
    world.tick()
    assert world.ticks()[2:] == ["120 missed superseded", "180 skipped quota"]
    world.service.crons.suspend(ADA, KEY)
    world.to(241)
    assert world.ticks()[4:] == ["240 skipped suspended"]
    world.service.crons.delete(ADA, KEY)
    assert used(world) == 6
    world.store.close()


def outcome(call: Callable[[], object]) -> str:
    try:
        call()
    except PriorityError as error:
        return error.code
    return "ok"


def test_users() -> None:
    world = Cronworld()
    nobody = User("nobody")
    assert outcome(lambda: world.service.crons.submit(nobody, cron())) == "not-found"
    assert outcome(lambda: world.service.crons.submit(BEN, cron("chem/devel/x"))) == "ok"
