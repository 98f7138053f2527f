"""What must not change a plan, and what must not make it worse: no oracle, two plans of worlds that are related.

Names of roles, users, jobs, gangs, tiers and racks mean nothing; those of tasks and nodes only by their order. So do
units and the moment: all amounts twice as large, or all of it an hour later, is the same. More room never hurts who
stands first, here whoever stands alone.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import oracle
import pytest
from engine_worlds import Dice
from hypothesis import given, settings
from hypothesis import strategies as st
from test_engine_properties import one_unit

from priority.certify import certify
from priority.plan import Plan, make_plan
from priority.snapshot import Snapshot

Document = dict[str, Any]

SEEDS = st.integers(0, 10**9)
EXAMPLES = settings(derandomize=True, deadline=None, max_examples=150, database=None)


def bare(plan: Plan, task: Callable[[str], str] = str, node: Callable[[str], str] = str) -> dict[str, Any]:
    """The plan without words and numbers, by other names."""
    return {
        "launch": [(task(one.task), node(one.node)) for one in plan.launch],
        "reserve": [(task(one.task), node(one.node)) for one in plan.reserve],
        "preempt": [(task(one.task), node(one.node), task(one.preemptor)) for one in plan.preempt],
        "wait": [(task(one.task), one.reason.code) for one in plan.wait],
    }


def decided(document: Document) -> Plan:
    return make_plan(Snapshot.parse(document))


# --- names -----------------------------------------------------------------------------------------------------------

SHUFFLED = {"a": "zz", "b": "aa", "x": "q", "y": "p", "u": "v", "v": "u", "g": "k", "h": "b"}
RACKS = {"r0": "s9", "r1": "s1"}


def renamed(document: Document) -> Document:
    """Roles, jobs, users, gangs and racks by names in another order; tasks and nodes by names in the same order."""
    other = copy.deepcopy(document)
    other["roles"] = {SHUFFLED[name]: role for name, role in other["roles"].items()}
    for role in other["roles"].values():
        if "users" in role:
            role["users"] = {SHUFFLED[name]: user for name, user in role["users"].items()}
    for node in other["nodes"]:
        node["name"] = f"node-{node['name']}"
        node["attributes"] = {name: RACKS[value] for name, value in node["attributes"].items()}
    for task in other["tasks"]:
        task["id"] = f"task-{task['id']}"
        for field in ("role", "job", "user", "gang"):
            if task.get(field):
                task[field] = SHUFFLED[task[field]]
        if task.get("for"):
            task["for"] = f"task-{task['for']}"
        if task.get("node"):
            task["node"] = f"node-{task['node']}"
        task["constraints"] = [_renamed(one) for one in task["constraints"]]
    return other


def _renamed(one: Document) -> Document:
    return {name: [RACKS[rack] for rack in value] if name in ("in", "not_in") else value for name, value in one.items()}


@EXAMPLES
@given(SEEDS)
def test_names_mean_nothing(seed: int) -> None:
    document = Dice(seed, full=seed % 2 == 0).document()
    plan = bare(decided(document), "task-{}".format, "node-{}".format)
    assert bare(decided(renamed(document))) == plan, f"seed {seed}"


# --- units and time --------------------------------------------------------------------------------------------------


def twice(document: Document) -> Document:
    """Every amount twice as large."""
    other = copy.deepcopy(document)
    amounts = [node["capacity"] for node in other["nodes"]] + [task["request"] for task in other["tasks"]]
    for role in other["roles"].values():
        amounts += role.get("quota", {}).values()
        for user in role.get("users", {}).values():
            amounts += user["quota"].values()
    for vector in amounts:
        for name in vector:
            vector[name] *= 2
    return other


def later(document: Document) -> Document:
    """All of it an hour later."""
    other = copy.deepcopy(document)
    other["now"] = _later(other["now"])
    for task in other["tasks"]:
        task["since"] = _later(task["since"])
    return other


def _later(time: str) -> str:
    return (datetime.fromisoformat(time) + timedelta(hours=1)).isoformat()


@pytest.mark.parametrize("change", [twice, later])
@EXAMPLES
@given(seed=SEEDS)
def test_units_and_the_moment_mean_nothing(seed: int, change: Callable[[Document], Document]) -> None:
    document = Dice(seed, full=seed % 2 == 0).document()
    assert bare(decided(change(document))) == bare(decided(document)), f"seed {seed}"


# --- what has nothing to do with it ----------------------------------------------------------------------------------


def with_others(document: Document) -> Document:
    """Besides, nodes that are down with tasks of others, a tier, and a role that has nothing."""
    other = copy.deepcopy(document)
    other["nodes"].append({"name": "zz", "capacity": {"cpus": 9, "tpus": 3}, "state": "down"})
    other["roles"]["nobody"] = {"weight": 3, "quota": {"devel": {"cpus": 0}}}
    task = {"id": "zz", "job": "zz", "role": "nobody", "tier": "devel", "request": {"cpus": 9}, "node": "zz"}
    other["tasks"].append(task | {"state": "running", "since": other["now"]})
    return other


@EXAMPLES
@given(SEEDS)
def test_what_is_down_means_nothing(seed: int) -> None:
    document = Dice(seed, full=seed % 2 == 0).document()
    mine, others = bare(decided(document)), bare(decided(with_others(document)))
    for plan in (mine, others):  # a node that is down may hold it one day, and changes the reason
        plan["wait"] = [task for task, _ in plan["wait"]]
    assert others == mine, f"seed {seed}"


# --- more room -------------------------------------------------------------------------------------------------------

RANK = {"launch": 0, "reserve": 1, "kill": 2, "wait": 3}


def outcome(document: Document) -> tuple[int, tuple[int, int, int, int]]:
    """How well the only unit that waits has it, less is better."""
    snapshot = Snapshot.parse(document)
    plan = make_plan(snapshot)
    assert certify(snapshot, plan) == []
    victims = tuple(claim for one in plan.preempt if (claim := snapshot.task(one.task)) is not None)
    kind = "wait" if plan.wait else "kill" if victims else "reserve" if plan.reserve else "launch"
    return RANK[kind], oracle.cost(snapshot, victims) if victims else (0, 0, 0, 0)


def with_more_room(document: Document, rng: random.Random) -> Document:
    """A larger node, one more node, or a task less that runs."""
    other = copy.deepcopy(document)
    kind = rng.randrange(3)
    running = [task for task in other["tasks"] if task["state"] in ("running", "starting")]
    if kind == 0:
        node = rng.choice(other["nodes"])
        node["capacity"] = {name: amount + rng.randint(0, 2) for name, amount in node["capacity"].items()}
    elif kind == 1:
        other["nodes"].append(
            {"name": f"n{len(other['nodes'])}", "capacity": {"cpus": rng.randint(1, 4), "mem": 4}, "attributes": {}}
        )
    elif running:
        other["tasks"].remove(rng.choice(running))
    return other


@settings(EXAMPLES, max_examples=400)
@given(SEEDS, st.sampled_from([0, 0, 2]))
def test_more_room_never_hurts(seed: int, gang: int) -> None:
    document, rng = one_unit(seed, gang), random.Random(seed)
    before = outcome(document)
    for _ in range(3):
        document = with_more_room(document, rng)
        after = outcome(document)
        assert after <= before, f"seed {seed}"
        before = after
