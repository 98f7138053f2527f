"""Cron jobs and their ticks, over every store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from priority.cron import CronSpec, Outcome, parse_spec, run_spec
from priority.crontab import Cron, CronQuery, CronState, Run, Tick
from priority.errors import Conflict, Invalid
from priority.job import Job, JobState
from priority.ports import Store
from priority.reason import Reason
from priority.records import JobQuery, Page
from priority.task import State

MINUTE = 60_000_000
ALL = CronQuery()


def cron(uid: str = "c1", key: str = "physics/prod/nightly", **changes: Any) -> Cron:
    role, tier, name = key.split("/")
    fields = {"command": ["a", "ä' %"], "schedule": "0 0 * * *", "constraints": [{"attribute": "rack", "in": ["r1"]}]}
    more = changes.pop("spec", {})
    spec = parse_spec({"role": role, "tier": tier, "name": name, **fields, **more})
    assert isinstance(spec, CronSpec)
    made = Cron(uid=uid, spec=spec, user="ada", created_us=1, changed_us=2, next_us=5 * MINUTE, reserve={"cpus": 1000})
    return replace(made, **changes)


def tick(uid: str = "c1", at: int = 1, outcome: Outcome = Outcome.STARTED, **more: Any) -> Tick:
    return Tick(cron=uid, tick_us=at * MINUTE, outcome=outcome, at_us=at * MINUTE + 7, **more)


def put(store: Store, *crons: Cron, ticks: tuple[Tick, ...] = ()) -> None:
    with store.write() as writer:
        writer.put_crons(crons)
        writer.add_ticks(ticks)


def test_a_cron_job_comes_back_as_it_was(store: Store) -> None:
    first = cron(spec={"missed": {"policy": "run_all", "deadline": "2h"}, "start": "2026-12-01", "env": {"A": "b"}})
    second = cron("c2", "physics/devel/x", state=CronState.SUSPENDED, next_us=None, reserve={})
    put(store, first, second)
    with store.read() as reader:
        assert reader.cron("physics", "prod", "nightly") == first
        assert reader.cron("physics", "prod", "x") is None
        assert reader.crons_of([first.key, second.key, ("physics", "prod", "x")]) == {
            first.key: first,
            second.key: second,
        }
        assert reader.crons_of([]) == {}
        assert reader.crons(ALL, 10) == ([second, first], None)


def test_putting_it_again_replaces_it_and_keeps_its_place(store: Store) -> None:
    put(store, cron(), cron("c2", "physics/prod/b"))
    changed = cron(spec={"schedule": "@hourly"}, state=CronState.SUSPENDED, changed_us=9, next_us=None, reserve={})
    put(store, changed)
    with store.read() as reader:
        assert [one.uid for one in reader.crons(ALL, 10)[0]] == ["c2", "c1"]
        assert reader.cron(*changed.key) == changed
    with pytest.raises(Conflict):
        put(store, cron("c3"))


def test_which_cron_jobs(store: Store) -> None:
    put(
        store,
        cron("a", "physics/prod/a"),
        cron("b", "physics/devel/b", user="ben"),
        cron("c", "chem/prod/c", state=CronState.SUSPENDED),
        cron("d", "chem/prod/d", state=CronState.DELETED, next_us=None),
    )

    def uids(**query: Any) -> list[str]:
        with store.read() as reader:
            return [one.uid for one in reader.crons(CronQuery(**query), 10)[0]]

    assert uids() == ["c", "b", "a"]
    assert uids(roles=["physics"]) == ["b", "a"]
    assert uids(roles=[]) == []
    assert uids(tier="prod", roles=["chem", "physics"]) == ["c", "a"]
    assert uids(user="ben") == ["b"]
    assert uids(state=CronState.SUSPENDED) == ["c"]
    assert uids(state=CronState.DELETED) == ["d"]
    with store.read() as reader:
        page, after = reader.crons(ALL, 2)
        assert [one.uid for one in page] == ["c", "b"]
        assert [one.uid for one in reader.crons(ALL, 2, after)[0]] == ["a"]
        with pytest.raises(Invalid):
            reader.crons(ALL, 2, "x")
        deleted = reader.cron("chem", "prod", "d")
        assert deleted is not None and reader.crons_of([deleted.key]) == {}


def test_who_is_due(store: Store) -> None:
    put(store, *(cron(f"c{n}", f"physics/prod/n{n}", next_us=n * MINUTE if n else None) for n in (4, 0, 2, 3)))
    with store.read() as reader:
        assert reader.next_tick() == 2 * MINUTE
        assert [one.uid for one in reader.due_crons(2 * MINUTE - 1, 10)] == []
        assert [one.uid for one in reader.due_crons(3 * MINUTE, 10)] == ["c2", "c3"]
        assert [one.uid for one in reader.due_crons(9 * MINUTE, 2)] == ["c2", "c3"]
    with store.write() as writer:
        writer.move_crons(
            {
                "c2": (CronState.ENDED, None, {}),
                "c3": (CronState.ACTIVE, 7 * MINUTE, {"cpus": 5}),
                "c4": (CronState.SUSPENDED, None, {}),
            }
        )
    with store.read() as reader:
        assert [(one.uid, one.reserve) for one in reader.due_crons(99 * MINUTE, 9)] == [("c3", {"cpus": 5})]
        ended = reader.cron("physics", "prod", "n2")
        assert ended is not None and (ended.state, ended.next_us, ended.reserve) == (CronState.ENDED, None, {})


def test_nothing_is_due_where_there_is_nothing(store: Store) -> None:
    put(store)
    with store.read() as reader:
        assert reader.next_tick() is None
        assert reader.due_crons(10**15, 10) == []
        assert reader.crons(ALL, 10) == ([], None)
        assert reader.ticks("c1", 10) == ([], None)
        assert reader.waiting_ticks() == []
        assert reader.waiting_crons() == []
        assert reader.cron_runs([]) == {}
        assert reader.reserved() == {}


def test_a_tick_is_there_once_or_nothing_of_the_transaction_is(store: Store) -> None:
    put(store, cron(), ticks=(tick(at=1), tick(at=2)))
    with pytest.raises(Conflict), store.write() as writer:
        writer.move_crons({"c1": (CronState.ACTIVE, 99, {})})
        writer.add_ticks([tick(at=3), tick(at=2, outcome=Outcome.MISSED)])
    with store.read() as reader:
        assert [one.tick_us // MINUTE for one in reader.ticks("c1", 10)[0]] == [2, 1]
        assert reader.next_tick() == 5 * MINUTE


def test_the_history_of_a_cron_job(store: Store) -> None:
    skipped = tick(at=2, outcome=Outcome.SKIPPED, reason=Reason("collision", "the run before goes on", {"job": "j1"}))
    made = (tick(at=1, job="j1"), skipped, tick(at=3, job="j3", by="ben"))
    put(store, cron(), ticks=(*made, tick("c2", at=2)))
    with store.read() as reader:
        assert reader.ticks("c1", 10) == (list(reversed(made)), None)
        assert reader.ticks("c1", 10, outcome=Outcome.STARTED) == ([made[2], made[0]], None)
        page, after = reader.ticks("c1", 2)
        assert (page, reader.ticks("c1", 2, after)) == ([made[2], made[1]], ([made[0]], None))
        assert reader.tick("c1", 2 * MINUTE) == skipped
        assert reader.tick("c1", 4 * MINUTE) is None


def test_ticks_that_wait(store: Store) -> None:
    waits = [tick(at=at, outcome=Outcome.WAITING) for at in (3, 2)] + [tick("c2", 1, Outcome.WAITING)]
    put(store, cron(), cron("c2", "physics/prod/b"), cron("c3", "physics/prod/c"), ticks=(*waits, tick(at=9)))
    with store.read() as reader:
        assert reader.waiting_ticks() == [waits[2], waits[1], waits[0]]
        assert reader.waiting_ticks(["c1"]) == [waits[1], waits[0]]
        assert [one.uid for one in reader.waiting_crons()] == ["c1", "c2"]
    started = replace(waits[1], outcome=Outcome.STARTED, job="j", at_us=77)
    with store.write() as writer:
        writer.settle_ticks([started, replace(waits[2], outcome=Outcome.SKIPPED, reason=Reason("quota", "no"))])
    with store.read() as reader:
        assert reader.waiting_ticks() == [waits[0]]
        assert reader.tick("c1", 2 * MINUTE) == started


def job(uid: str, key: str, tick_us: int | None, user: str = "ada", instances: int = 2) -> Job:
    spec = run_spec(cron(key=key, spec={"instances": instances}).spec, tick_us or 0)
    return Job(uid=uid, spec=spec, user=user, submitted_us=1, active=instances, tick_us=tick_us)


def test_the_runs_that_have_not_ended(store: Store) -> None:
    key = "physics/prod/nightly"
    with store.write() as writer:
        writer.add_jobs(
            [
                job("j1", key, MINUTE),
                job("j2", key, None),
                job("j3", key, 2 * MINUTE, "ben", 3),
                job("j4", "physics/prod/b", MINUTE),
            ]
        )
        writer.tally({"j4": {State.FINISHED: 2}, "j3": {State.FAILED: 1}}, 5)
        writer.put_crons([cron(reserve={"cpus": 5000, "mem": 1})])
    with store.read() as reader:
        assert reader.cron_runs([("physics", "prod", "nightly"), ("physics", "prod", "b")]) == {
            ("physics", "prod", "nightly"): [Run("j1", "ada", {"cpus": 2000}), Run("j3", "ben", {"cpus": 2000})]
        }
        assert [one.tick_us for one in reader.jobs(JobQuery(state=JobState.ACTIVE), Page())[0]] == [
            2 * MINUTE,
            None,
            MINUTE,
        ]
        # what ada's own run holds is not held twice; ben's is none of it
        assert reader.reserved() == {("physics", "prod", "ada"): {"cpus": 3000, "mem": 1}}
        assert reader.reserved("chem") == {}


def test_old_ticks_go_with_their_runs(store: Store) -> None:
    """Not the newest, not one that waits, not one whose run goes on or has ended only now."""
    runs = {number: job(f"r{number}", "physics/prod/nightly", number * MINUTE) for number in (1, 2, 3, 4, 6)}
    ends = {1: 50, 3: 90 * MINUTE, 4: 50, 6: 50}
    over = {
        number: replace(runs[number], state=JobState.ENDED, active=0, ended_us=at_us) for number, at_us in ends.items()
    }
    with store.write() as writer:
        writer.add_jobs(list((runs | over).values()))
        writer.add_first_tasks(runs.values(), 1)
    waits = tick(at=5, outcome=Outcome.WAITING, reason=Reason("queued", "it waits"))
    others = [tick(at=number, job=f"r{number}") for number in runs]
    skipped = tick(at=7, outcome=Outcome.SKIPPED, reason=Reason("collision", "one runs"))
    other = tick("c2", at=1, outcome=Outcome.MISSED, reason=Reason("late", "late"))
    put(store, cron(), cron("c2", "physics/prod/other"), ticks=(*others, waits, skipped, other))

    def old(after_us: int = -1, before_us: int = 80 * MINUTE, limit: int = 10) -> list[int]:
        with store.read() as reader:
            return [one.tick_us // MINUTE for one in reader.old_ticks("c1", after_us, before_us, limit)]

    with store.read() as reader:
        assert reader.cron_uids("", 10) == ["c1", "c2"]
        assert reader.cron_uids("c1", 10) == ["c2"]
        assert reader.old_ticks("c2", -1, 80 * MINUTE, 10) == []
    assert old() == [1, 4, 6]
    assert old(limit=2) == [1, 4]
    assert old(MINUTE) == [4, 6]
    assert old(before_us=4 * MINUTE) == [1]
    with store.write() as writer:
        writer.drop_ticks([tick(at=1, job="r1"), tick(at=4, job="r4")])
    assert old() == [6]
    with store.read() as reader:
        assert [one.tick_us // MINUTE for one in reader.ticks("c1", 10)[0]] == [7, 6, 5, 3, 2]
        assert set(reader.jobs_of(["r1", "r2", "r3", "r4", "r6"])) == {"r2", "r3", "r6"}
        assert {task.job for task in reader.active_tasks()} == {"r2", "r3", "r6"}


def test_old_events_go_and_the_newest_stays(store: Store) -> None:
    with store.write() as writer:
        writer.add_jobs([job("going", "physics/prod/a", None), job("over", "physics/prod/b", None)])
        writer.change_job("over", {"state": JobState.ENDED, "active": 0, "ended_us": 3})
        for at_us, uid in ((1, "going"), (2, "over"), (3, None), (9, "over"), (4, None)):
            writer.emit([(at_us, "task.running", "physics", uid, None, {})])
    with store.read() as reader:
        assert reader.old_events(0, 5, 10) == ([2, 3], None)
        assert reader.old_events(0, 5, 2) == ([2], 2)
        assert reader.old_events(2, 5, 1) == ([3], 3)
        assert reader.old_events(3, 5, 10) == ([], None)
        assert reader.old_events(0, 100, 10) == ([2, 3, 4, 5], None)
    with store.write() as writer:
        writer.drop_events([2, 3, 4, 5])
        assert [event.id for event in writer.events(0, 10)] == [1, 5]
        assert writer.emit([(9, "node.up", None, None, None, {})]) == 6
        writer.drop_events([6])
        assert writer.last_event() == 6
