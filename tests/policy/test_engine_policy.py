"""Policy beyond the law: each setting alone, on worlds in which the law alone would decide otherwise."""

from __future__ import annotations

import json
from typing import Any

import pytest
from engine_worlds import Ruled, shuffled, world

from priority.certify import certify
from priority.errors import Invalid
from priority.plan import Plan, make_plan
from priority.snapshot import Snapshot


def decided(text: str) -> tuple[Snapshot, Plan]:
    """The plan, certified, and the same from the snapshot's own document."""
    snapshot = Snapshot.parse(world(text))
    plan = make_plan(snapshot)
    assert certify(snapshot, plan) == []
    assert make_plan(Snapshot.parse(json.loads(json.dumps(snapshot.document())))) == plan
    return snapshot, plan


def victims(text: str) -> list[str]:
    return [one.task for one in decided(text)[1].preempt]


def why(text: str, task: str = "p") -> dict[str, Any]:
    return next(one.reason.plain() for one in decided(text)[1].wait if one.task == task)


# --- minimum run time ------------------------------------------------------------------------------------------------

TWO = """
    node n1 4
    node n2 4
    task v a devel 4 @n1 age=10
    task w a devel 4 @n2 age=50
    task p b prod  4
"""


def test_the_least_work_is_lost_by_law_alone() -> None:
    assert victims(TWO) == ["v"]


def test_who_has_run_too_short_is_no_victim() -> None:
    assert victims(TWO + "policy min_run_s devel=30") == ["w"]
    assert victims(TWO + "policy min_run_s devel=50") == ["w"]
    assert victims(TWO + "policy min_run_s opportunistic=500") == ["v"]


def test_who_waits_for_that_is_told() -> None:
    reason = why(TWO + "policy min_run_s devel=60")
    assert reason["code"] == "policy"
    assert reason["message"].endswith("2 tasks of devel could give way, but have run for less than 60 s")
    assert reason["spared"] == {"min_run_s": {"devel": 2}}


def test_of_one_that_would_not_help_nothing_is_said() -> None:
    text = """
        node n1 8
        task u a prod  6 @n1
        task v a devel 2 @n1
        task p b prod  4
        policy min_run_s devel=60
    """
    assert why(text)["code"] == "no-room"


def test_it_holds_inside_a_role_and_tier_too() -> None:
    text = """
        node n1 4
        task v a prod 4 @n1 age=10
        task p a prod:1 4
    """
    assert victims(text) == ["v"]
    assert victims(text + "policy min_run_s prod=60") == []


def test_the_young_are_taken_last() -> None:
    assert victims(TWO + "policy young_s devel=30") == ["w"]
    assert victims(TWO + "policy young_s devel=60") == ["v"]


def test_the_young_come_after_a_higher_tier_and_more_victims() -> None:
    text = """
        node n1 4
        node n2 4
        task u a opportunistic 4 @n1 age=10
        task v a devel:3       2 @n2 age=70
        task w a devel:3       2 @n2 age=70
        task p b prod          4
    """
    assert victims(text) == ["u"]
    assert victims(text + "policy young_s opportunistic=60") == ["v", "w"]
    assert victims(text + "policy young_s opportunistic=60 devel=80") == ["u"]


# --- how often one task ----------------------------------------------------------------------------------------------


def test_who_was_preempted_too_often_in_the_last_hour_is_no_victim() -> None:
    text = """
        node n1 4
        node n2 4
        task v a devel 4 @n1 age=10 taken=20,3599
        task w a devel 4 @n2 age=50 taken=60,3600
        task p b prod  4
    """
    assert victims(text) == ["v"]
    assert victims(text + "policy preempted_per_hour devel=2") == ["w"]
    assert victims(text + "policy preempted_per_hour devel=3") == ["v"]
    reason = why(text + "policy preempted_per_hour devel=1")
    assert reason["spared"] == {"preempted_per_hour": {"devel": 2}}
    assert "may be preempted at most once an hour" in reason["message"]
    assert why(text + "policy preempted_per_hour devel=0")["spared"] == {"preempted_per_hour": {"devel": 2}}


# --- all of it -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", range(4))
def test_plans_under_random_policies_are_certified(block: int) -> None:
    for seed in range(150 * block, 150 * (block + 1)):
        document = Ruled(seed, full=seed % 4 != 0, gangs=seed % 3 == 0).document()
        snapshot = Snapshot.parse(document)
        plan = make_plan(snapshot)
        assert certify(snapshot, plan) == [], seed
        if seed % 3 == 0:
            assert make_plan(Snapshot.parse(shuffled(document, seed))) == plan, seed


BAD: list[tuple[dict[str, Any], str]] = [
    ({"policy": {"min_run": {}}}, "policy.min_run"),
    ({"policy": {"min_run_s": 60}}, "policy.min_run_s"),
    ({"policy": {"min_run_s": {"devl": 60}}}, "policy.min_run_s.devl"),
    ({"policy": {"min_run_s": {"devel": "60"}}}, "policy.min_run_s.devel"),
    ({"policy": {"min_run_s": {"devel": -1}}}, "policy.min_run_s.devel"),
    ({"policy": {"preempted_per_hour": {"devel": 1.5}}}, "policy.preempted_per_hour.devel"),
    ({"policy": {"own_gone_at_once": {"devel": 0}}}, "policy.own_gone_at_once.devel"),
    ({"policy": []}, "policy"),
    ({"history": {"found": {}}}, "history.found"),
    ({"history": {"lost": {"a": {"devl": 1}}}}, "history.lost.a.devl"),
    ({"history": {"lost": {"a": {"devel": -1}}}}, "history.lost.a.devel"),
    ({"history": {"gone": {"a": {"j": 0.5}}}}, "history.gone.a.j"),
]


@pytest.mark.parametrize(("part", "field"), BAD, ids=[field for _, field in BAD])
def test_a_bad_setting_is_named(part: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as error:
        Snapshot.parse({"now": "2026-01-01T00:00:00Z", "nodes": [], "tasks": [], **part})
    assert error.value.field == field
