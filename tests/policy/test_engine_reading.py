"""Snapshots as JSON: every malformed one is refused by the path of what is wrong, and nothing ever crashes."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from engine_worlds import Dice, world
from hypothesis import given, settings
from hypothesis import strategies as st

from priority.claim import Claim
from priority.errors import Invalid, Malformed, PriorityError
from priority.node import Node, NodeState
from priority.plan import answer, make_plan
from priority.reading import read_time, show_time
from priority.snapshot import Snapshot

GOOD = """
    tier prod  2 hard
    tier devel 1
    role a weight=2 devel=4 ada:devel=1
    node n1 4/8 rack=r1
    task v  a devel:0 1/1 @n1
    task d  a devel:0 1/1 !n1 for=p
    task p  a prod:0  1/1 rack=r1
"""

HUGE = 10**400

WRONG: list[tuple[str, Any, str]] = [
    # path to set           value                            the field that is named
    ("now", None, "now"),
    ("now", 5, "now"),
    ("now", "2026-01-01", "now"),
    ("now", "2026-13-01T00:00:00Z", "now"),
    ("now", "2026-02-30T00:00:00Z", "now"),
    ("now", "2026-01-01T00:00:00", "now"),
    ("now", "2026-01-01T00:00:00+99:00", "now"),
    ("now", "0001-01-01T00:00:00+23:59", "now"),
    ("now", "2026-01-01T25:00:00Z", "now"),
    ("nodes", {}, "nodes"),
    ("nodes", None, "nodes"),
    ("nodes.0", "n1", "nodes[0]"),
    ("nodes.0.name", "", "nodes[0].name"),
    ("nodes.0.name", 7, "nodes[0].name"),
    ("nodes.0.name", "\ud800", "nodes[0].name"),
    ("nodes.0.capacity", [], "nodes[0].capacity"),
    ("nodes.0.capacity.cpus", -1, "nodes[0].capacity.cpus"),
    ("nodes.0.capacity.cpus", True, "nodes[0].capacity.cpus"),
    ("nodes.0.capacity.cpus", "4", "nodes[0].capacity.cpus"),
    ("nodes.0.capacity.cpus", 0.0001, "nodes[0].capacity.cpus"),
    ("nodes.0.capacity.cpus", float("nan"), "nodes[0].capacity.cpus"),
    ("nodes.0.capacity.mem", HUGE, "nodes[0].capacity.mem"),
    ("nodes.0.capacity.mem", 1.5, "nodes[0].capacity.mem"),
    ("nodes.0.capacity.mem", "16 parsecs", "nodes[0].capacity.mem"),
    ("nodes.0.capacity.CPU", 1, "nodes[0].capacity"),
    ("nodes.0.attributes", [], "nodes[0].attributes"),
    ("nodes.0.attributes.rack", 1, "nodes[0].attributes.rack"),
    ("nodes.0.attributes.host", "n2", "nodes[0].attributes.host"),
    ("nodes.0.state", "UP", "nodes[0].state"),
    ("nodes.0.state", ["up"], "nodes[0].state"),
    ("nodes.0.colour", "red", "nodes[0].colour"),
    ("tiers", [], "tiers"),
    ("tiers.prod", 2, "tiers.prod"),
    ("tiers.prod.rank", 1.5, "tiers.prod.rank"),
    ("tiers.prod.rank", True, "tiers.prod.rank"),
    ("tiers.prod.rank", HUGE, "tiers.prod.rank"),
    ("tiers.prod.preemptible", 1, "tiers.prod.preemptible"),
    ("tiers.prod.extra", 1, "tiers.prod.extra"),
    ("roles", [], "roles"),
    ("roles.a", None, "roles.a"),
    ("roles.a.weight", 0, "roles.a.weight"),
    ("roles.a.weight", -1, "roles.a.weight"),
    ("roles.a.weight", True, "roles.a.weight"),
    ("roles.a.weight", HUGE, "roles.a.weight"),
    ("roles.a.weight", float("inf"), "roles.a.weight"),
    ("roles.a.weight", "1", "roles.a.weight"),
    ("roles.a.quota", [], "roles.a.quota"),
    ("roles.a.quota.gold", {}, "roles.a.quota.gold"),
    ("roles.a.quota.devel.cpus", -1, "roles.a.quota.devel.cpus"),
    ("roles.a.users.ada.quota.gold", {}, "roles.a.users.ada.quota.gold"),
    ("roles.a.users.ada.limit", 1, "roles.a.users.ada.limit"),
    ("roles.a.quotas", {}, "roles.a.quotas"),
    ("policy", [], "policy"),
    ("policy.speed", 11, "policy.speed"),
    ("tasks", {}, "tasks"),
    ("tasks.0", None, "tasks[0]"),
    ("tasks.0.id", None, "tasks[0].id"),
    ("tasks.0.job", "", "tasks[0].job"),
    ("tasks.0.role", 1, "tasks[0].role"),
    ("tasks.0.user", None, "tasks[0].user"),
    ("tasks.0.tier", "gold", "tasks[0].tier"),
    ("tasks.0.priority", 1.0, "tasks[0].priority"),
    ("tasks.0.priority", HUGE, "tasks[0].priority"),
    ("tasks.0.request.cpus", -0.5, "tasks[0].request.cpus"),
    ("tasks.0.request", None, "tasks[0].request"),
    ("tasks.0.state", "finished", "tasks[0].state"),
    ("tasks.0.state", {}, "tasks[0].state"),
    ("tasks.0.state", "pending", "tasks[0].node"),
    ("tasks.0.node", None, "tasks[0].node"),
    ("tasks.0.node", "n9", "tasks[0].node"),
    ("tasks.0.since", "yesterday", "tasks[0].since"),
    ("tasks.0.since", 0, "tasks[0].since"),
    ("tasks.0.gang", "", "tasks[0].gang"),
    ("tasks.0.for", "p", "tasks[0].for"),
    ("tasks.0.constraints", None, "tasks[0].constraints"),
    ("tasks.0.colour", "red", "tasks[0].colour"),
    ("tasks.1.for", 3, "tasks[1].for"),
    ("tasks.2.constraints", [{"attribute": "rack"}], "tasks[2].constraints[0]"),
    ("tasks.2.constraints", [{"attribute": "rack", "limit": True}], "tasks[2].constraints[0].limit"),
    ("tasks.2.constraints", [{"attribute": "rack", "in": ["\udfff"]}], "tasks[2].constraints[0]"),
    ("more", 1, "more"),
]


def good() -> dict[str, Any]:
    return {**world(GOOD), "policy": {}}


def changed(path: str, value: Any) -> dict[str, Any]:
    document = copy.deepcopy(good())
    *steps, last = path.split(".")
    place: Any = document
    for step in steps:
        place = place[int(step)] if step.isdigit() else place[step]
    place[int(last) if last.isdigit() else last] = value
    return document


@pytest.mark.parametrize(("path", "value", "field"), WRONG, ids=[f"{row[0]}={str(row[1])[:20]!a}" for row in WRONG])
def test_what_is_wrong_is_named(path: str, value: Any, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        Snapshot.parse(changed(path, value))
    assert caught.value.field == field
    assert "\n" not in caught.value.message


NEEDED = ["now", "nodes", "tasks", "nodes.0.name", "nodes.0.capacity", "tiers.prod.rank", "tiers.prod.preemptible"]
NEEDED += [f"tasks.0.{name}" for name in ("id", "job", "role", "tier", "request", "state", "since", "node")]


@pytest.mark.parametrize("path", NEEDED)
def test_what_is_missing_is_named(path: str) -> None:
    document = good()
    *steps, last = path.split(".")
    place: Any = document
    for step in steps:
        place = place[int(step)] if step.isdigit() else place[step]
    del place[last]
    with pytest.raises(Invalid) as caught:
        Snapshot.parse(document)
    assert caught.value.field == path.replace(".0", "[0]")


@pytest.mark.parametrize(("what", "field"), [("nodes", "nodes[1].name"), ("tasks", "tasks[3].id")])
def test_twice_the_same_name(what: str, field: str) -> None:
    document = good()
    document[what].append(document[what][0])
    with pytest.raises(Invalid) as caught:
        Snapshot.parse(document)
    assert caught.value.field == field


@pytest.mark.parametrize("document", [None, 1, "text", [], [{}], True])
def test_a_snapshot_is_an_object(document: Any) -> None:
    with pytest.raises(Invalid):
        Snapshot.parse(document)


def test_what_may_be_left_out() -> None:
    task = {"id": "t", "job": "j", "role": "a", "tier": "prod", "request": {}, "state": "pending"}
    task["since"] = "2026-01-01t00:00:00.123456000+01:00"
    document = {"now": "2026-01-01T00:00:00Z", "nodes": [{"name": "n", "capacity": {}}], "tasks": [task]}
    plan = make_plan(Snapshot.parse(document)).document()
    assert plan == {"launch": [{"task": "t", "node": "n"}], "preempt": [], "reserve": [], "wait": []}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "nonsense",
        "\ufeff{}",
        '{"now": NaN}',
        '{"now": -Infinity}',
        '{"a": 1, "a": 2}',
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"now": ' + "9" * 5_000 + "}",
        '{"now": "2026-01-01T00:00:00Z", "nodes": [], "tasks": [], "x": "\ud800"}',
        json.dumps({"now": "2026-01-01T00:00:00Z", "nodes": [], "tasks": [], "policy": [[[]]]}),
        "[]",
        "null",
    ],
    ids=range(14),
)
def test_what_cannot_be_read_is_refused_in_one_line(text: str) -> None:
    with pytest.raises((Invalid, Malformed)) as caught:
        answer(text)
    assert "\n" not in caught.value.message


def test_an_answer_is_one_line_of_plain_json() -> None:
    line = answer(json.dumps(good()))
    assert "\n" not in line
    assert set(json.loads(line)) == {"launch", "preempt", "reserve", "wait"}
    assert line.isascii()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        found += paths(inner, (*path, step))
    return found


@settings(derandomize=True, deadline=None, max_examples=600, database=None)
@given(st.data())
def test_any_value_anywhere_is_read_or_refused(data: st.DataObject) -> None:
    document = good()
    *steps, last = data.draw(st.sampled_from(paths(document)))
    place: Any = document
    for step in steps:
        place = place[step]
    place[last] = data.draw(JSON)
    try:
        json.loads(answer(json.dumps(document)))
    except PriorityError as error:
        assert error.exit_status == 2
        assert "\n" not in error.message


@settings(derandomize=True, deadline=None, max_examples=200, database=None)
@given(st.integers(0, 10**9))
def test_a_snapshot_survives_writing_and_reading(seed: int) -> None:
    snapshot = Snapshot.parse(Dice(seed).document())
    written = json.loads(json.dumps(snapshot.document()))
    again = Snapshot.parse(written)
    assert again.document() == written, f"seed {seed}"
    assert make_plan(again) == make_plan(snapshot), f"seed {seed}"


@pytest.mark.parametrize(
    ("text", "time_us"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:00.5Z", 500_000),
        ("1970-01-01T00:00:00.0000010Z", 1),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("1970-01-01T23:59:60Z", 86_400_000_000),
    ],
)
def test_times_are_exact(text: str, time_us: int) -> None:
    assert read_time(text, "now") == time_us
    assert read_time(show_time(time_us), "now") == time_us


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"priority": 0', '"priority": NaN', "tasks[0].priority: NaN is not a number that JSON knows"),
        ('"priority": 0', '"priority": -Infinity', "tasks[0].priority: -Infinity is not a number that JSON knows"),
        ('"priority": 0', '"priority": ' + "9" * 5_000, "tasks[0].priority: is a number of far too many digits"),
        ('"priority": 0', '"priority": 0, "priority": 0', "tasks[0].priority: is there twice in one object"),
        ('"cpus": 1', '"cpus": 1, "cpus": 1', "tasks[0].request.cpus: is there twice in one object"),
        ('"roles": {}', '"roles": {}, "roles": {}', "roles: is there twice in one object"),
        ('"priority": 0', '"a\\nb": 0', "tasks[0].a\\nb: is not known; there are"),
        ('"id": "t"', '"id": "t\\u0007"', "tasks[0].id: must be a name without control characters"),
        ('00:00:00Z"}', '00:00:00.0000001Z"}', "tasks[0].since: must be no finer than microseconds"),
    ],
)
def test_what_json_readers_let_pass_is_refused_where_it_stands(old: str, new: str, message: str) -> None:
    task = {"id": "t", "job": "j", "role": "a", "tier": "prod", "priority": 0, "request": {"cpus": 1}}
    task |= {"state": "pending", "since": "2026-01-01T00:00:00Z"}
    text = json.dumps({"now": "2026-01-01T00:00:00Z", "nodes": [], "roles": {}, "tasks": [task]})
    assert old in text
    with pytest.raises(PriorityError) as caught:
        answer(text.replace(old, new))
    assert caught.value.message.startswith(message)
    assert "\n" not in caught.value.message


def test_an_error_of_the_engine_is_not_blamed_on_the_document(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(snapshot: Snapshot) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("priority.plan.make_plan", broken)
    with pytest.raises(ValueError, match="a bug"):
        answer(json.dumps({"now": "2026-01-01T00:00:00Z", "nodes": [], "tasks": []}))


def test_constraints_are_the_same_in_whatever_order() -> None:
    limit, inside = {"attribute": "host", "limit": 1}, {"attribute": "host", "in": ["a", "b"]}
    outside = {"attribute": "host", "in": ["b", "a"]}
    nodes = [{"name": name, "capacity": {}} for name in "ab"]

    def told(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> str:
        task: dict[str, Any] = {"job": "j", "role": "a", "tier": "prod", "state": "pending", "gang": "g"}
        task |= {"since": "2026-01-01T00:00:00Z", "request": {}}
        tasks = [{**task, "id": "p1", "constraints": first}, {**task, "id": "p2", "constraints": second}]
        return answer(json.dumps({"now": "2026-01-01T00:00:00Z", "nodes": nodes, "tasks": tasks}))

    expected = told([inside, limit], [inside, limit])
    assert told([limit, outside], [inside, limit]) == expected
    assert told([limit, outside, limit], [limit, inside]) == expected


# --- kept up event by event ---


@settings(derandomize=True, deadline=None, max_examples=200, database=None)
@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_snapshot_kept_up_by_events_is_the_one_read_whole(seed: int, other: int) -> None:
    """Through any other state of the cluster: tasks and nodes come, go and change, and nothing is left over."""
    start, goal = Snapshot.parse(Dice(other).document()), Snapshot.parse(Dice(seed).document())
    kept = Snapshot(goal.tiers, now_us=goal.now_us)
    for source in (start, goal):
        for claim in list(kept.tasks()):
            kept.drop_task(claim.id)
        for node in list(kept.nodes()):
            if source.node(node.name) is None:
                kept.drop_node(node.name)
        for node in source.nodes():
            kept.put_node(node)
        for name in list(kept.roles()):
            kept.drop_role(name)
        for name, rules in source.roles().items():
            kept.put_role(name, rules.weight, rules.quota, rules.users)
        for claim in source.tasks():
            kept.put_task(Claim(claim.id, "other", "other", "", "devel", request={"cpus": 1}))
            kept.put_task(claim)
    assert kept.document() == goal.document(), f"seeds {seed} {other}"
    assert make_plan(kept) == make_plan(goal), f"seeds {seed} {other}"


def test_moving_a_task_through_its_life() -> None:
    snapshot = Snapshot()
    snapshot.put_node(Node("n", {"cpus": 4000}))
    snapshot.put_task(Claim("t", "j", "a", "u", "devel", request={"cpus": 3000}))
    assert snapshot.held("a") == {}
    snapshot.move_task("t", state="starting", node="n", since_us=5)
    assert snapshot.held("a", "devel", "u") == {"cpus": 3000}
    snapshot.move_task("t", state="running")
    snapshot.move_task("t", state="preempting", kept_for="p")
    claim = snapshot.task("t")
    assert claim is not None
    assert (claim.node, claim.since_us, claim.kept_for) == ("n", 5, "p")
    snapshot.move_task("t", state="pending")
    assert snapshot.held("a") == {"cpus": 0}
    snapshot.drop_task("t")
    assert list(snapshot.tasks()) == []


def test_a_node_that_goes_down_takes_its_tasks_along() -> None:
    snapshot = Snapshot()
    snapshot.put_node(Node("n", {"cpus": 4000}))
    snapshot.put_task(Claim("t", "j", "a", "u", "devel", request={"cpus": 3000}, state="running", node="n"))
    snapshot.put_node(Node("n", {"cpus": 4000}, state=NodeState.DOWN))
    assert snapshot.held("a") == {"cpus": 0}
    snapshot.put_node(Node("n", {"cpus": 4000}))
    assert snapshot.held("a") == {"cpus": 3000}
    snapshot.drop_node("n")
    node = snapshot.node("n")
    assert node is not None
    assert node.state == NodeState.DOWN
    snapshot.drop_task("t")
    assert snapshot.node("n") is None


@pytest.mark.parametrize(
    "claim",
    [
        Claim("t", "j", "a", "u", "gold"),
        Claim("t", "j", "a", "u", "prod", node="n"),
        Claim("t", "j", "a", "u", "prod", state="running"),
        Claim("t", "j", "a", "u", "prod", state="running", node="elsewhere"),
    ],
)
def test_a_claim_that_cannot_be_is_refused(claim: Claim) -> None:
    snapshot = Snapshot()
    snapshot.put_node(Node("n", {}))
    with pytest.raises(Invalid):
        snapshot.put_task(claim)
    assert list(snapshot.tasks()) == []
