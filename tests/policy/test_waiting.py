"""What a waiting task is told: which constraint nobody meets, what there is instead, which limit is full."""

from __future__ import annotations

from typing import Any

import pytest

from priority.plan import make_plan
from priority.reason import Reason
from priority.snapshot import Snapshot

NODES: list[dict[str, Any]] = [
    {"name": "n1", "capacity": {"cpus": 4}, "attributes": {"rack": "r1", "os": "a"}},
    {"name": "n2", "capacity": {"cpus": 4}, "attributes": {"rack": "r1", "os": "b"}},
    {"name": "n3", "capacity": {"cpus": 4}, "attributes": {"rack": "r2", "os": "b"}},
    {"name": "small", "capacity": {"cpus": 1}, "attributes": {"rack": "r9"}},
]
TASK: dict[str, Any] = {
    "id": "t", "job": "j", "role": "r", "tier": "devel", "request": {"cpus": 2}, "state": "pending",
    "since": "2026-01-01T00:00:00Z",
}  # fmt: skip
RACKS = "there is r1 (2), r2 (1)"
LARGE = "none of the 3 nodes that are large enough"


def reason(*constraints: dict[str, Any], nodes: list[dict[str, Any]] = NODES, more: Any = ()) -> Reason:
    tasks = [{**TASK, "constraints": list(constraints)}, *more]
    plan = make_plan(Snapshot.parse({"now": "2026-01-01T00:00:01Z", "nodes": nodes, "tasks": tasks}))
    (waiting,) = plan.wait
    return waiting.reason


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        ([{"attribute": "rack", "in": ["r9"]}], f"{LARGE} has rack r9; {RACKS}"),
        ([{"attribute": "rack", "in": ["x", "r9"]}], f"{LARGE} has rack r9 or x; {RACKS}"),
        ([{"attribute": "rack", "in": []}], f"{LARGE} has rack in an empty list, which nothing is; {RACKS}"),
        ([{"attribute": "gpu", "in": ["a100"]}], f"{LARGE} has gpu a100; no node says what its gpu is"),
        ([{"attribute": "rack", "not_in": ["r1", "r2"]}], f"{LARGE} has rack other than r1, r2; {RACKS}"),
        ([{"attribute": "host", "in": ["n8"]}], f"{LARGE} has host n8; there is n1 (1), n2 (1), n3 (1)"),
        (
            [{"attribute": "gpu", "limit": 1}],
            f"{LARGE} has an attribute gpu (of which it wants at most 1 tasks for each value); "
            "no node says what its gpu is",
        ),
        (
            [{"attribute": "rack", "in": ["r2"]}, {"attribute": "os", "in": ["a"]}],
            f"{LARGE} meets all of its constraints at once: 1 has os a; 1 has rack r2",
        ),
    ],
)  # fmt: skip
def test_a_constraint_that_nobody_meets_is_named(constraints: list[dict[str, Any]], message: str) -> None:
    found = reason(*constraints)
    assert (found.code, found.message) == ("constraint", message)


def test_many_values_are_not_all_named() -> None:
    nodes = [
        {"name": f"n{k:02}", "capacity": {"cpus": 2}, "attributes": {"rack": "x" * 200 + str(k)}} for k in range(50)
    ]
    found = reason({"attribute": "rack", "in": [f"w{k}" for k in range(50)]}, nodes=nodes)
    assert "and 42 more" in found.message and len(found.message) < 1000


def test_one_node_is_enough_to_say_so() -> None:
    assert (
        "the only node that is large enough has rack r9"
        in reason({"attribute": "rack", "in": ["r9"]}, nodes=NODES[:1]).message
    )


def test_a_full_limit_is_named() -> None:
    running = {**TASK, "id": "u", "state": "running", "node": "n1"}
    found = reason({"attribute": "host", "limit": 1}, nodes=NODES[:1], more=[running])
    assert found.code == "limit" and "(1 for each host)" in found.message


@pytest.mark.parametrize(
    ("gang", "held", "ceiling", "never"), [(8, 0, 6, True), (8, 6, 6, True), (4, 2, 4, False), (1, 4, 4, False)]
)
def test_more_than_the_ceiling_is_told_from_a_full_one(gang: int, held: int, ceiling: int, never: bool) -> None:
    """Also where one member alone is over it already."""
    one = {**TASK, "request": {"cpus": 1}}
    tasks = [{**one, "id": f"t{k}", "gang": "g"} for k in range(gang)]
    tasks += [{**one, "id": f"u{k}", "job": "k", "state": "running", "node": f"n{k % 3 + 1}"} for k in range(held)]
    roles = {"r": {"quota": {"devel": {"cpus": ceiling}}}}
    plan = make_plan(Snapshot.parse({"now": "2026-01-01T00:00:01Z", "nodes": NODES, "tasks": tasks, "roles": roles}))
    assert len(plan.wait) == gang
    for waiting in plan.wait:
        assert waiting.reason.code == "ceiling"
        assert ("it will never start unless the quota is raised" in waiting.reason.message) == never
