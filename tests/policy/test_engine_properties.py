"""Every plan of every random snapshot satisfies the contract, by `certify` and by brute force.

The snapshots come from a seed (`engine_worlds.Dice`), so a failure is a number: run it again with `Dice(seed)`.
"""

from __future__ import annotations

from typing import Any

import oracle
import pytest
from engine_worlds import Dice, shuffled
from hypothesis import given, settings
from hypothesis import strategies as st

from priority.certify import certify
from priority.plan import make_plan
from priority.snapshot import Snapshot

SEEDS = st.integers(0, 10**9)
EXAMPLES = settings(derandomize=True, deadline=None, max_examples=500, database=None)


def check(document: dict[str, Any], seed: int) -> None:
    snapshot = Snapshot.parse(document)
    plan = make_plan(snapshot)
    assert certify(snapshot, plan) == [], f"seed {seed}"
    again = make_plan(Snapshot.parse(shuffled(document, seed)))
    assert again == plan, f"seed {seed}: another order, another plan"


@EXAMPLES
@given(SEEDS)
def test_a_plan_is_certified(seed: int) -> None:
    check(Dice(seed).document(), seed)


@EXAMPLES
@given(SEEDS)
def test_a_plan_of_a_full_cluster_is_certified(seed: int) -> None:
    check(Dice(seed, full=True).document(), seed)


@EXAMPLES
@given(SEEDS)
def test_a_plan_without_gangs_is_certified(seed: int) -> None:
    check(Dice(seed, full=True, gangs=False).document(), seed)


def one_unit(seed: int, gang: int) -> dict[str, Any]:
    """A full and small cluster on which only one task, or one gang of that many, waits."""
    dice = Dice(seed, full=True, gangs=False)
    document = dice.document()
    document["nodes"] = document["nodes"][:3]
    names = {node["name"] for node in document["nodes"]}
    holding = [task for task in document["tasks"] if task.get("node") in names][:11]
    waiting = [task for task in document["tasks"] if task["state"] == "pending"][: max(1, gang)]
    if gang and seed % 2:  # alike, which is what gangs are in life
        waiting = [{**waiting[0], "id": task["id"]} for task in waiting]
    if gang:
        waiting = [{**task, "gang": "g"} for task in waiting]
    return {**document, "tasks": [*({**task, "for": None} for task in holding), *waiting]}


def against_the_oracle(seed: int, gang: int) -> str:
    snapshot = Snapshot.parse(one_unit(seed, gang))
    plan = make_plan(snapshot)
    kind, cost = oracle.best(snapshot)
    victims = tuple(claim for one in plan.preempt if (claim := snapshot.task(one.task)) is not None)
    told = "wait" if plan.wait else "launch" if plan.launch else "kill" if victims else "reserve"
    assert told == kind, f"seed {seed}"
    if victims:
        assert oracle.cost(snapshot, victims) == cost, f"seed {seed}"
    return kind


@EXAMPLES
@given(SEEDS)
def test_one_task_is_decided_as_by_brute_force(seed: int) -> None:
    against_the_oracle(seed, 0)


@settings(EXAMPLES, max_examples=250)
@given(SEEDS)
def test_one_gang_is_decided_as_by_brute_force(seed: int) -> None:
    against_the_oracle(seed, 2 + seed % 2)


@pytest.mark.parametrize("gang", [0, 2])
def test_the_random_cases_are_not_all_alike(gang: int) -> None:
    kinds = [against_the_oracle(seed, gang) for seed in range(120)]
    assert all(kinds.count(kind) >= 3 for kind in ("launch", "reserve", "kill", "wait")), kinds
