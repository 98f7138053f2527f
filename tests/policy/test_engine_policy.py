"""Policy beyond the law: each setting alone, on worlds in which the law alone would decide otherwise."""

from __future__ import annotations

import json
from typing import Any

import oracle
import pytest
from engine_worlds import Ruled, shuffled, world

from priority.certify import certify
from priority.errors import Invalid
from priority.plan import Plan, make_plan
from priority.policy import Past
from priority.recording import Script, Watched
from priority.replay import decide_again
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


# --- how many of one job ---------------------------------------------------------------------------------------------

JOBS = """
    node n1 4
    node n2 4
    node n3 4
    task u a devel 4 @n1 age=10 job=x
    task v a devel 4 @n2 age=20 job=x
    task w a devel 4 @n3 age=90 job=y
    task p b prod  4
    task q b prod  4
"""


def test_only_so_many_of_a_job_go_at_a_time() -> None:
    assert victims(JOBS) == ["u", "v"]
    assert victims(JOBS + "policy gone_at_once devel=1") == ["u", "w"]
    assert victims(JOBS + "policy gone_at_once devel=2") == ["u", "v"]
    assert victims(JOBS + "policy gone_at_once devel=0") == []


def test_who_is_gone_already_counts() -> None:
    text = JOBS + "policy gone_at_once devel=1\n"
    assert victims(text + "history gone a:x=1") == ["w"]
    assert victims(text + "history gone b:x=1") == ["u", "w"]
    assert victims(text + "node n4 1\ntask t a devel 1 !n4 job=x for=r") == ["w"]


def test_a_job_sets_its_own_limit_where_its_tier_lets_it() -> None:
    own = JOBS.replace("job=x", "job=x at_once=1")
    assert victims(own) == ["u", "v"]
    assert victims(own + "policy own_gone_at_once devel=1") == ["u", "w"]
    assert victims(own + "policy own_gone_at_once devel=2") == ["u", "v"]
    assert victims(own + "policy own_gone_at_once devel=1\npolicy gone_at_once devel=2") == ["u", "w"]


def test_of_one_node_not_more_than_that_are_taken_for_one_task() -> None:
    text = """
        node n1 4
        node n2 4
        task u a devel   2 @n1 age=10 job=x
        task v a devel   2 @n1 age=20 job=x
        task w a devel:1 4 @n2 age=90 job=y
        task p b prod    4
    """
    assert victims(text) == ["u", "v"]
    assert victims(text + "policy gone_at_once devel=1") == ["w"]
    reason = why(text.replace("job=y", "job=x") + "policy gone_at_once devel=0")
    assert reason["spared"] == {"gone_at_once": {"devel": 3}}
    assert "only so many of one job may be gone at a time" in reason["message"]


# --- how much work ---------------------------------------------------------------------------------------------------

WORK = """
    node n1 4
    node n2 4
    node n3 4
    task u a devel 4 @n1 age=10
    task v a devel 4 @n2 age=20
    task w c devel 4 @n3 age=90
    task p b prod  4
    task q b prod  4
"""


def test_a_role_loses_only_so_much_an_hour() -> None:
    assert victims(WORK) == ["u", "v"]  # 40 and 80 cpu-seconds
    assert victims(WORK + "policy loses_per_hour devel=120") == ["u", "v"]
    assert victims(WORK + "policy loses_per_hour devel=119") == ["u"]
    assert victims(WORK + "policy loses_per_hour devel=400") == ["u", "v"]
    assert victims(WORK + "policy loses_per_hour devel=400\nhistory lost a:devel=330") == ["u", "w"]


def test_who_waits_for_that_is_told_too() -> None:
    reason = why(WORK + "policy loses_per_hour devel=30")
    assert reason["spared"] == {"loses_per_hour": {"devel": 3}}
    assert "role and tier may lose at most 30 cpu-s an hour" in reason["message"]


def test_a_role_destroys_only_so_much_an_hour() -> None:
    assert victims(WORK + "policy destroys_per_hour prod=120") == ["u", "v"]
    assert victims(WORK + "policy destroys_per_hour prod=119") == ["u"]
    assert victims(WORK + "policy destroys_per_hour devel=0") == ["u", "v"]
    assert victims(WORK + "policy destroys_per_hour prod=120\nhistory destroyed b:prod=60") == ["u"]
    reason = why(WORK + "policy destroys_per_hour prod=30")
    assert reason["spared"] == {"destroys_per_hour": {"devel": 3}}
    assert "b/prod may destroy at most 30 cpu-s of work an hour" in reason["message"]


def test_more_victims_with_less_work_where_the_fewest_would_destroy_too_much() -> None:
    text = """
        node n1 4
        node n2 4
        task u a devel 4 @n1 age=100
        task v a devel 2 @n2 age=20
        task w a devel 2 @n2 age=20
        task p b prod  4
    """
    assert victims(text) == ["u"]
    assert victims(text + "policy destroys_per_hour prod=100") == ["v", "w"]
    assert victims(text + "policy loses_per_hour devel=100") == ["v", "w"]


def test_one_task_on_one_small_cluster_is_decided_as_by_brute_force() -> None:
    kinds = [against_the_oracle(seed) for seed in range(400)]
    assert all(kinds.count(kind) >= 20 for kind in ("launch", "reserve", "kill", "wait")), kinds


def against_the_oracle(seed: int) -> str:
    dice = Ruled(seed, full=True, gangs=False)
    document = dice.document()
    for name in ("min_run_s", "young_s", "preempted_per_hour"):
        if dice.rng.random() < 0.6:
            document["policy"].pop(name, None)
    document["nodes"] = document["nodes"][:3]
    names = {node["name"] for node in document["nodes"]}
    for task in document["tasks"]:
        task["job"] += task["tier"][0]  # a job is of one tier
    holding = [task for task in document["tasks"] if task.get("node") in names][:11]
    waiting = next(task for task in document["tasks"] if task["state"] == "pending")
    snapshot = Snapshot.parse({**document, "tasks": [*({**task, "for": None} for task in holding), waiting]})
    plan = make_plan(snapshot)
    kind, cost = oracle.best(snapshot)
    taken = tuple(claim for one in plan.preempt if (claim := snapshot.task(one.task)) is not None)
    told = "wait" if plan.wait else "launch" if plan.launch else "kill" if taken else "reserve"
    assert told == kind, f"seed {seed}"
    if taken:
        assert oracle.cost(snapshot, taken) == cost, f"seed {seed}"
    return kind


# --- nodes that are kept for who has waited for long ---------------------------------------------------------------

STARVED = """
    node n1 8
    node n2 8
    task u a devel 2 @n1 age=10
    task v a devel 2 @n1 age=10
    task w a devel 4.5 @n2 age=10
    task s b devel 1 age=20
    task t b devel 3 age=10
    task p a devel 7 age=700
"""


def launched(text: str) -> list[str]:
    return [f"{one.task} {one.node}" for one in decided(text)[1].launch]


def test_a_large_task_that_waits_for_long_keeps_a_node_from_others() -> None:
    assert launched(STARVED) == ["s n2", "t n1"]
    assert launched(STARVED + "policy holds_after_s devel=701") == ["s n2", "t n1"]
    # n1 lacks 3 of 7, n2 lacks 3.5
    assert launched(STARVED + "policy holds_after_s devel=700") == ["s n2"]
    assert launched(STARVED + "policy holds_after_s devel=700\npolicy holds_at_once devel=0") == ["s n2", "t n1"]
    assert launched(STARVED + "policy holds_after_s prod=1") == ["s n2", "t n1"]


def test_the_node_that_will_be_free_first() -> None:
    text = STARVED.replace("task w a devel 4.5 @n2 age=10", "task w a devel 4.5 @n2 age=10 until=60")
    assert launched(text + "policy holds_after_s devel=700") == ["s n1", "t n1"]
    both = text.replace("@n1 age=10", "@n1 age=10 until=50")
    assert launched(both + "policy holds_after_s devel=700") == ["s n2"]


def test_who_keeps_and_who_stays_away_are_told() -> None:
    text = STARVED + "policy holds_after_s devel=700\ntask x b devel 3 age=5\n"
    reason = why(text)
    assert reason["code"] == "no-room" and reason["keeps"] == "n1"
    assert "as it has waited for long, node n1 is kept for it until there is room" in reason["message"]
    reason = why(text, "x")
    assert reason["code"] == "policy" and (reason["node"], reason["kept_for"]) == ("n1", "p")
    assert reason["message"] == "node n1, which has room for it, is kept for a larger task that has waited for long"


def test_a_higher_tier_is_not_held_up() -> None:
    text = STARVED + "policy holds_after_s devel=700\n"
    assert launched(text + "task q b prod 4") == ["q n1", "s n2"]
    assert launched(text + "task q b opportunistic 4") == ["s n2"]


def test_only_so_many_keep_a_node_the_oldest_first() -> None:
    text = STARVED + "task r a devel 8 age=800\npolicy holds_after_s devel=700\n"
    assert why(text, "r")["keeps"] == "n1"
    assert "keeps" not in why(text, "p")
    assert launched(text) == ["s n2"]
    assert launched(text + "policy holds_at_once devel=2") == []


def test_once_it_has_room_the_node_is_open_to_others() -> None:
    text = """
        node n1 8
        task p a devel 5 age=700
        task s b devel 3 age=10
        policy holds_after_s devel=700
    """
    assert launched(text) == ["p n1", "s n1"]


def test_who_waits_for_a_ceiling_keeps_nothing() -> None:
    text = STARVED + "role a devel=10\npolicy holds_after_s devel=700\n"
    assert launched(text) == ["s n2", "t n1"]


# --- all of it -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", range(4))
def test_plans_under_random_policies_are_certified(block: int) -> None:
    for seed in range(90 * block, 90 * (block + 1)):
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


def test_a_recording_has_the_policy_and_its_history() -> None:
    parsed = Snapshot.parse(world(JOBS.replace("job=x", "job=x taken=50 at_once=1 until=9") + "history gone a:y=1"))
    policy = {"gone_at_once": {"devel": 1}, "preempted_per_hour": {"devel": 2}, "own_gone_at_once": {"devel": 1}}
    watched = Watched(parsed.tiers, policy, parsed.now_us)
    for node in parsed.nodes():
        watched.put_node(node)
    for claim in parsed.tasks():
        watched.put_task(claim)
    watched.put_past(parsed.past)
    script = Script()
    lines = [script.line(1, watched.changes(), make_plan(watched), first=True)]
    watched.put_past(Past(lost={("a", "devel"): 12_500}))
    watched.now_us += 5_000_000
    lines.append(script.line(2, watched.changes(), make_plan(watched), first=False))
    watched.put_past(Past())
    lines.append(script.line(3, watched.changes(), make_plan(watched), first=False))
    lines = json.loads(json.dumps(lines))
    assert [len(line["plan"]["preempt"]) for line in lines] == [1, 2, 2]
    assert [line["changes"].get("history") for line in lines[1:]] == [{"lost": {"a": {"devel": 12.5}}}, {}]
    assert all(again.same for again in decide_again(lines))
