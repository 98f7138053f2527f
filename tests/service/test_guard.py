"""A plan that is wrong is not carried out, and the rest goes on: engines with a planted bug, in a whole service."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from priority.plan import Placement, Plan, Preemption, Waiting, make_plan
from priority.reason import Reason
from priority.records import Page
from priority.service import guard
from priority.service.access import SYSTEM
from priority.snapshot import Snapshot
from priority.task import State

from .world import ROOT, World, node, spec

Engine = Callable[[Snapshot], Plan]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World([node("n1", 4), node("n2", 4)], state=tmp_path)


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[[Engine], None]:
    return lambda engine: monkeypatch.setattr("priority.service.scheduler.make_plan", engine)


def overfull(snapshot: Snapshot) -> Plan:
    """Everything is launched on the first node."""
    plan = make_plan(snapshot)
    return replace(plan, launch=tuple(Placement(one.task, "n1") for one in plan.launch))


def kills_all(snapshot: Snapshot) -> Plan:
    """Whoever takes one victim takes all that are on its node."""
    plan = make_plan(snapshot)
    preempt = {
        claim.id: Preemption(claim.id, one.node, one.preemptor)
        for one in plan.preempt
        for claim in snapshot.tasks_on(one.node)
        if claim.tier == "devel"
    }
    return replace(plan, preempt=tuple(preempt[id] for id in sorted(preempt)))


def lazy(snapshot: Snapshot) -> Plan:
    """What could run waits."""
    reason = Reason("no-room", "no room")
    return Plan(wait=tuple(Waiting(claim.id, reason) for claim in sorted(snapshot.pending(), key=lambda one: one.id)))


def kept(state: Path) -> list[Path]:
    return sorted(path for path in (state / guard.FOLDER).glob("*.json") if path.name != guard.COUNT)


def test_a_refused_round_is_dropped_kept_told_and_tried_again(
    world: World, plant: Callable[[Engine], None], tmp_path: Path
) -> None:
    job = world.submit(spec("physics/prod/reco", instances=3, cpus=2))
    plant(overfull)
    world.round()
    assert world.count(job, State.PENDING) == 3
    assert world.scheduler.guard.refused == 1
    assert [event.data["count"] for event in world.events("plan.refuse")] == [1]
    audits, _ = world.service.roles.audits(ROOT, Page(10), action="plan.refuse")
    assert [(row.who, row.after["violations"][0]["property"]) for row in audits] == [(SYSTEM.name, "fits")]
    [file] = kept(tmp_path)
    again = Snapshot.parse(json.loads(file.read_text()))
    assert sorted(claim.id for claim in again.pending()) == sorted(task.id for task in world.tasks(job))
    why = json.loads(file.with_suffix(".why").read_text())
    assert why["violations"][0][0] == "fits"
    assert len(why["plan"]["launch"]) == 3
    assert world.service.nodes.refused() == 1
    plant(make_plan)
    world.move(1.0)
    assert world.count(job, State.RUNNING) == 3
    assert world.scheduler.guard.row == 0
    world.clock.move(86_400.0)
    assert world.service.nodes.refused() == 0


def test_a_refused_round_is_not_tried_again_at_once(world: World, plant: Callable[[Engine], None]) -> None:
    world.submit(spec("physics/prod/reco", instances=3, cpus=2))
    plant(overfull)
    pause_s = world.round()
    assert 0 < pause_s <= guard.RETRY_US / 1e6
    plans = world.scheduler.plans
    for _ in range(5):
        world.round()
    assert world.scheduler.plans == plans
    world.clock.move(guard.RETRY_US / 1e6)
    pause_s = world.round()
    assert world.scheduler.plans == plans + 1
    assert pause_s > 0


def test_a_bad_kill_is_never_carried_out_and_the_others_go_on(world: World, plant: Callable[[Engine], None]) -> None:
    devel = world.submit(spec("physics/devel/sim", instances=7))
    world.settle()
    plant(kills_all)
    prod = world.submit(spec("physics/prod/reco", cpus=3))
    other = world.submit(spec("web/prod/front", cpus=1))
    world.move(5.0)
    assert world.count(devel, State.RUNNING) == 7
    assert world.count(prod, State.PENDING) == 1
    assert world.count(other, State.RUNNING) == 1
    reason = world.tasks(prod)[0].reason
    assert reason is not None
    assert reason.code == "policy"
    assert "irreducible" in reason.details["refused"]
    plant(make_plan)
    world.move(5.0)
    assert world.count(prod, State.RUNNING) == 1


def test_who_is_forgotten_holds_up_nobody_else(world: World, plant: Callable[[Engine], None]) -> None:
    def one_forgotten(snapshot: Snapshot) -> Plan:
        plan = make_plan(snapshot)
        late = [claim.id for claim in snapshot.pending() if claim.role == "physics" and claim.tier == "prod"]
        if not late:
            return plan
        rest = replace(
            plan,
            launch=tuple(one for one in plan.launch if one.task not in late),
            reserve=tuple(one for one in plan.reserve if one.task not in late),
            preempt=tuple(one for one in plan.preempt if one.preemptor not in late),
        )
        waits = {one.task for one in rest.wait} | set(late)
        return replace(rest, wait=tuple(Waiting(id, Reason("no-room", "no room")) for id in sorted(waits)))

    devel = world.submit(spec("physics/devel/sim", instances=8))
    world.settle()
    plant(one_forgotten)
    prod = world.submit(spec("physics/prod/reco", cpus=2))
    front = world.submit(spec("web/prod/front", cpus=2))
    world.move(3.0)
    assert world.count(prod, State.PENDING) == 1
    assert world.count(front, State.RUNNING) == 1
    assert world.count(devel, State.PREEMPTED) == 2
    assert world.scheduler.guard.row > 1


def test_one_that_is_only_less_than_the_best_does_not_stop_production(
    world: World, plant: Callable[[Engine], None]
) -> None:
    def dearest(snapshot: Snapshot) -> Plan:
        plan = make_plan(snapshot)
        others = sorted(claim.id for claim in snapshot.tasks() if claim.node == "n1" and claim.tier == "devel")
        if len(plan.preempt) != 1:
            return plan
        id = plan.preempt[0].preemptor
        return replace(plan, reserve=(Placement(id, "n1"),), preempt=(Preemption(others[0], "n1", id),))

    old = world.submit(spec("physics/devel/old", instances=4))
    world.move(100.0)
    new = world.submit(spec("physics/devel/new", instances=4))
    world.settle()
    assert {task.node for task in world.tasks(old)} == {"n1"}
    plant(dearest)
    prod = world.submit(spec("web/prod/front"))
    world.round()
    assert world.count(old, State.RUNNING) == 4
    assert [event.data["violations"][0]["property"] for event in world.events("plan.refuse")] == ["cheapest"]
    world.move(2.0)
    assert world.count(prod, State.RUNNING) == 1
    assert (world.count(old, State.PREEMPTED), world.count(new, State.PREEMPTED)) == (1, 0)


def test_an_engine_that_lets_everything_wait_is_refused(world: World, plant: Callable[[Engine], None]) -> None:
    plant(lazy)
    job = world.submit(spec("physics/prod/reco"))
    world.move(3.0)
    assert world.count(job, State.PENDING) == 1
    assert world.scheduler.guard.refused > 1


def test_a_certify_that_fails_stops_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, plant: Callable[[Engine], None]
) -> None:
    def broken(snapshot: Snapshot, plan: Plan) -> list[object]:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(world.scheduler.guard, "_check", broken)
    job = world.submit(spec("physics/prod/reco"))
    world.settle()
    assert world.count(job, State.RUNNING) == 1
    assert world.scheduler.guard.refused == 1
    [event] = world.events("plan.refuse")
    assert "ZeroDivisionError: oh" in event.data["violations"][0]["what"]


@pytest.mark.parametrize(("how", "checked"), [("always", 40), ("sampled", 4), ("off", 0)])
def test_which_plans_are_checked(how: str, checked: int, tmp_path: Path) -> None:
    looked: list[Plan] = []
    snapshot = Snapshot()
    its = guard.Guard(tmp_path, how, lambda _, plan: looked.append(plan) or [])  # type: ignore[func-returns-value]
    for _ in range(40):
        assert its.judge(snapshot, Plan(), 0) == Plan()
    assert len(looked) == checked


def test_after_a_refused_one_a_sampler_looks_closer(tmp_path: Path) -> None:
    looked: list[bool] = []

    def check(_: Snapshot, plan: Plan) -> list[guard.Violation]:
        looked.append(bool(plan.wait))
        return [guard.Violation("once", "p", "is bad")] if plan.wait else []

    its = guard.Guard(tmp_path, "sampled", check)
    bad = Plan(wait=(Waiting("p", Reason("no-room", "")),))
    assert its.judge(Snapshot(), bad, 0) is None
    for _ in range(guard.SAMPLE - 1):
        its.judge(Snapshot(), Plan(), 0)
    assert len(looked) == guard.SAMPLE


def test_only_so_many_refused_rounds_are_kept_and_one_a_minute(tmp_path: Path) -> None:
    its = guard.Guard(tmp_path, "always", lambda *_: [guard.Violation("once", "p", "is bad")])
    for step in range(4 * guard.KEPT):
        its.judge(Snapshot(), Plan(), step * guard.REPORT_US // 2)
    assert len(kept(tmp_path)) == guard.KEPT
    assert len(list((tmp_path / guard.FOLDER).glob("*.why"))) == guard.KEPT
    assert guard.refusals(tmp_path)[0] == 4 * guard.KEPT


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / guard.FOLDER).write_text("in the way")
    its = guard.Guard(tmp_path, "always", lambda *_: [guard.Violation("once", "p", "is bad")])
    assert its.judge(Snapshot(), Plan(), 0) is None
    assert its.refused == 1
    assert guard.refusals(tmp_path) == (0, 0)
