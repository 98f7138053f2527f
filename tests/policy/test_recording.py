"""Rounds on record: whatever happens to a snapshot, its recording plays back to the same one, and the same plan."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from engine_worlds import world
from hypothesis import given, settings
from hypothesis import strategies as st

from priority.claim import Claim
from priority.errors import Invalid
from priority.node import Node, NodeState
from priority.plan import make_plan
from priority.recording import Script, Stage, Watched
from priority.replay import Compared, decide_again
from priority.snapshot import Snapshot

S = 1_000_000


class Meddler:
    """Does anything that may be done to a snapshot, at random."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.snapshot = Watched()
        self.names = 0

    def act(self) -> None:
        snapshot, rng = self.snapshot, self.rng
        tasks = sorted(claim.id for claim in snapshot.tasks())
        nodes = sorted(node.name for node in snapshot.nodes())
        what = rng.choice(("node", "role", "task", "task", "task", "move", "move", "drop", "drop_node", "drop_role"))
        if what == "node" or not nodes:
            state = rng.choice((NodeState.UP, NodeState.UP, NodeState.DRAINING, NodeState.DOWN))
            name = rng.choice("abcd")
            snapshot.put_node(Node(name, {"cpus": rng.randint(1, 4) * 1000}, {"rack": rng.choice("xy")}, state))
        elif what == "role":
            quota = {"devel": {"cpus": 1000 * rng.randint(0, 3)}} if rng.random() < 0.5 else {}
            snapshot.put_role(rng.choice("rs"), rng.choice((1.0, 2.5)), quota, {"u": quota})
        elif what == "drop_role":
            snapshot.drop_role(rng.choice("rs"))
        elif what == "task":
            self.names += 1
            claim = Claim(
                id=f"t{self.names}",
                job="j",
                role=rng.choice("rs"),
                user="u",
                tier=rng.choice(("prod", "devel", "opportunistic")),
                request={"cpus": 1000 * rng.randint(1, 3)},
                since_us=rng.randint(0, 10**9),
            )
            snapshot.put_task(claim)
        elif what == "drop_node":
            snapshot.drop_node(rng.choice(nodes))
        elif tasks:
            self.change(rng.choice(tasks), what, nodes)

    def change(self, id: str, what: str, nodes: list[str]) -> None:
        snapshot, rng = self.snapshot, self.rng
        claim = snapshot.task(id)
        assert claim is not None
        if what == "drop":
            snapshot.drop_task(id)
        elif claim.node is None:
            snapshot.move_task(id, state="running", node=rng.choice(nodes), since_us=rng.randint(0, 10**9))
        else:
            snapshot.move_task(id, state=rng.choice(("running", "preempting", "pending", "killing")), kept_for=None)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6))
def test_what_is_played_back_is_what_was(seed: int) -> None:
    meddler, script, stage = Meddler(seed), Script(), Stage()
    for number in range(12):
        for _ in range(meddler.rng.randint(0, 6)):
            meddler.act()
        if meddler.rng.random() < 0.1:
            meddler.snapshot.all_anew()
        meddler.snapshot.now_us += S
        plan = make_plan(meddler.snapshot)
        first = number == 0 or meddler.rng.random() < 0.1  # a new file begins at any round
        line = script.line(number, meddler.snapshot.changes(), plan, first=first)
        played = stage.play(json.loads(json.dumps(line)))
        assert played.document() == meddler.snapshot.document()
        assert make_plan(played).document() == plan.document()


def test_a_task_alone_on_a_dropped_node_may_still_change() -> None:
    snapshot = Watched()
    snapshot.put_node(Node("n", {"cpus": 1000}))
    snapshot.put_task(Claim("t", "j", "r", "u", "devel", 0, {"cpus": 1000}, "running", "n"))
    snapshot.drop_node("n")
    snapshot.changes()
    snapshot.move_task("t", state="killing")
    assert snapshot.node("n") is not None
    snapshot.drop_task("t")
    assert snapshot.node("n") is None and snapshot.changes().nodes == {"n": None}


WORLD = """
node n1 4
role a weight=1
task d1 a devel 4 @n1 age=60
task p1 b prod 4 age=5
task w1 a devel 4 age=9
"""


def record(*worlds: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"round": number, "snapshot": document, "plan": make_plan(Snapshot.parse(document)).document()}
        for number, document in enumerate(worlds, 1)
    ]


def test_the_same_and_not_the_same() -> None:
    lines = record(world(WORLD))
    assert [again.same for again in decide_again(lines)] == [True]
    lines[0]["plan"]["preempt"][0]["for"] = "w1"
    (again,) = decide_again(lines)
    assert not again.same
    assert [line for line in again.diff() if line[0] in "+-"][2:] == [
        '-preempt {"for": "w1", "node": "n1", "task": "d1"}',
        '+preempt {"for": "p1", "node": "n1", "task": "d1"}',
    ]
    lines[0]["plan"] = dict(reversed(lines[0]["plan"].items()))
    lines[0]["plan"]["preempt"][0]["for"] = "p1"
    assert not next(decide_again(lines)).same, "the same entries in another order are not the same bytes"


def test_another_policy_side_by_side() -> None:
    """One victim of 60 s on 4 cpus; by a policy in which devel is not preemptible nobody has to go, and prod waits."""
    first, later, last = world(WORLD), world(WORLD), world(WORLD)
    later["now"], last["now"] = "2026-01-01T01:00:10Z", "2026-01-01T01:00:50Z"
    later["tasks"] = [task for task in later["tasks"] if task["id"] != "d1"]  # it has gone
    last["tasks"] = [
        {**task, "state": "running", "node": "n1", "since": "2026-01-01T01:00:10Z"} if task["id"] == "p1" else task
        for task in later["tasks"]
    ]
    compared = Compared({"tiers": {"devel": {"rank": 1, "preemptible": False}}})
    assert list(compared.play(record(first, later, last))) == [1, 2, 3]
    report = compared.report()
    assert (report["rounds"], report["decided_otherwise"]) == (3, 1)
    same, on = report["same_rounds"], report["from_there_on"]
    assert (same["recorded"]["victims"], same["policy"]["victims"]) == (1, 0)
    assert (same["recorded"]["lost_cpu_s"], same["policy"]["lost_cpu_s"]) == (240.0, 0.0)
    # came at -60, -9 and -5 s; ran for 70 s until it was gone, not at all, and for 40 s so far: supposed are 70 too
    assert (on["tasks"], on["cut"], on["guessed"]) == (3, 1, 1)
    assert (on["recorded"]["victims"], on["recorded"]["waits"]["prod"]["max_s"]) == (1, 0.0)
    assert (on["policy"]["victims"], on["policy"]["waits"]["prod"]["max_s"]) == (0, 15.0)
    assert on["recorded"]["lost_cpu_s"] == 4 * 55


def test_roles_and_weights_of_another_policy_stand_through_the_recording() -> None:
    meddler = Meddler(5)
    script, stage = Script(), Stage({"roles": {"r": {"weight": 7}}})
    for number in range(30):
        meddler.act()
        line = script.line(number, meddler.snapshot.changes(), make_plan(meddler.snapshot), first=number == 0)
        assert stage.play(line).role("r").weight == 7
    assert stage.snapshot.role("s") == meddler.snapshot.role("s")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ([], "line: must be an object"),
        ({"round": 1, "plan": {}}, "line: must be an object"),
        ({"changes": {}, "plan": {}}, "snapshot: is missing"),
        ({"snapshot": {"now": "x", "nodes": [], "tasks": []}, "plan": {}}, "now: must be"),
    ],
)
def test_a_bad_line_is_named(line: Any, problem: str) -> None:
    with pytest.raises(Invalid) as caught:
        Stage().play(line)
    assert caught.value.message.startswith(problem)
