"""Many tasks for which victims must go: decided at once and certified; undone where somebody would have to wait."""

from __future__ import annotations

import random

import pytest

from priority import cover, preempt, siege
from priority.board import Board
from priority.certify import certify
from priority.claim import Claim
from priority.constraint import Constraint
from priority.face.bench import worlds
from priority.fairness import units
from priority.line import Line
from priority.node import Node
from priority.plan import make_plan
from priority.round import Round
from priority.snapshot import Snapshot


def storm(nodes: int, count: int, kinds: int) -> Snapshot:
    """A cluster full of devel, and so many prod tasks."""
    snapshot = worlds.full(nodes)
    for claim in worlds.wave(count, worlds.shapes(kinds)):
        snapshot.put_task(claim)
    return snapshot


def shuffled(snapshot: Snapshot, seed: int) -> Snapshot:
    """The same, its nodes and tasks in another order."""
    dice, other = random.Random(seed), Snapshot(now_us=snapshot.now_us)
    for node in dice.sample(list(snapshot.nodes()), len(list(snapshot.nodes()))):
        other.put_node(node)
    for claim in dice.sample(list(snapshot.tasks()), len(list(snapshot.tasks()))):
        other.put_task(claim)
    return other


def decided_at_once(snapshot: Snapshot) -> bool:
    return siege.level(Board(snapshot), units(snapshot.pending()))


def test_gangs_and_limited_tasks_after_the_others_and_the_hopeless_not_at_all() -> None:
    snapshot = storm(300, 200, 10)
    snapshot.put_task(worlds.task("huge", "prod", {"cpus": 64_000, "mem": 262_145}))
    for index in range(6):
        request = {"cpus": 3_000, "mem": 8_192}
        snapshot.put_task(worlds.task(f"g{index}", "prod", request, gang="g", job="g"))
        limit = (Constraint("rack", limit=1),)
        snapshot.put_task(worlds.task(f"l{index}", "prod", request, job="l", constraints=limit))
    done = Round(snapshot)
    done.run()
    assert not done.in_vain
    assert [unit.members[0].id for unit in done.waiting if id(unit) in done.hopeless] == ["huge"]
    plan = make_plan(snapshot)
    assert certify(snapshot, plan) == []
    assert [one.task for one in plan.wait] == ["huge"]


def test_who_waits_of_a_higher_tier_does_not_keep_a_lower_one_from_free_room() -> None:
    snapshot = worlds.half_full(40)
    snapshot.put_task(worlds.task("huge", "prod", {"cpus": 64_000, "mem": 262_145}))
    for claim in worlds.wave(300, worlds.shapes(5), tier="devel"):
        snapshot.put_task(claim)
    done = Round(snapshot)
    done.run()
    assert not done.in_vain
    plan = make_plan(snapshot)
    assert (len(plan.launch), [one.task for one in plan.wait]) == (300, ["huge"])
    assert certify(snapshot, plan) == []


def test_who_waits_for_no_room_in_the_end_makes_it_a_round_of_turns() -> None:
    snapshot = storm(20, 100, 5)
    for index in range(60):
        snapshot.put_task(worlds.task(f"g{index:02d}", "prod", {"cpus": 30_000, "mem": 8_192}, gang="g", job="g"))
    done = Round(snapshot)
    done.run()
    assert done.in_vain
    plan = make_plan(snapshot)
    assert certify(snapshot, plan) == []
    assert len(plan.wait) == 60


@pytest.mark.parametrize(("nodes", "count", "kinds"), [(1_000, 1_000, 10), (1_000, 1_000, 1_000), (60, 400, 20)])
def test_the_storms_of_the_bench_are_certified(nodes: int, count: int, kinds: int) -> None:
    snapshot = storm(nodes, count, kinds)
    assert decided_at_once(snapshot)
    plan = make_plan(snapshot)
    assert certify(snapshot, plan) == []
    assert not plan.wait
    assert plan.preempt
    assert make_plan(shuffled(snapshot, kinds)) == plan


def test_a_storm_that_needs_more_than_the_lowest_level_has() -> None:
    snapshot = storm(20, 300, 10)
    assert decided_at_once(snapshot)
    plan = make_plan(snapshot)
    assert certify(snapshot, plan) == []
    priorities = {claim.priority for one in plan.preempt if (claim := snapshot.task(one.task)) is not None}
    assert len(priorities) > 1


def test_a_storm_that_needs_several_victims_each() -> None:
    snapshot = worlds.full(30)
    for index in range(80):
        snapshot.put_task(worlds.task(f"p{index:02d}", "prod", {"cpus": 20_000, "mem": 81_920}))
    assert decided_at_once(snapshot)
    assert certify(snapshot, make_plan(snapshot)) == []


def test_some_in_free_room_some_in_coming_room_the_others_with_victims() -> None:
    snapshot = worlds.full(40)
    for index, claim in enumerate(sorted(snapshot.tasks(), key=lambda one: one.id)):
        if index % 40 == 0:
            snapshot.drop_task(claim.id)
        elif index % 40 == 20:
            snapshot.move_task(claim.id, state="killing")
    for claim in worlds.wave(200, worlds.shapes(5)):
        snapshot.put_task(claim)
    assert decided_at_once(snapshot)
    plan = make_plan(snapshot)
    assert certify(snapshot, plan) == []
    assert plan.launch
    assert plan.preempt
    taken = {one.node for one in plan.preempt}
    assert {one.node for one in plan.reserve} - taken  # in the room of the dying
    assert make_plan(shuffled(snapshot, 1)) == plan


def test_nothing_is_done_where_somebody_would_have_to_wait() -> None:
    snapshot = storm(10, 400, 7)
    board = Board(snapshot)
    now, total = board.now.copy(), board.total.copy()
    assert not siege.level(board, units(snapshot.pending()))
    assert (board.now == now).all()
    assert (board.total == total).all()
    assert not board.spots
    assert not board.killed
    assert bool(board.herd.alive.all())
    assert certify(snapshot, make_plan(snapshot)) == []


def test_the_line_is_by_work_then_node_then_id() -> None:
    snapshot = Snapshot(now_us=10**9)
    for name in "ab":
        snapshot.put_node(Node(name, {"cpus": 10_000}))
    ages = {"v3": ("b", 5), "v1": ("b", 5), "v2": ("a", 5), "v4": ("a", 4), "v0": ("a", 9)}
    for id, (node, age) in ages.items():
        since = snapshot.now_us - age
        snapshot.put_task(Claim(id, "j", "r", "u", "devel", 0, {"cpus": 1_000}, "running", node, since))
    line = Line(Board(snapshot), 2, 1)
    assert [snapshot.settled().stock.claims[place].id for place in line.places] == ["v4", "v2", "v1", "v3", "v0"]  # type: ignore[union-attr]


def test_the_victims_of_a_gang_are_looked_for_with_bounded_effort(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0

    def counted(*given: object, **more: object) -> object:
        nonlocal looked
        looked += 1
        return cover.least_cover(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(preempt, "least_cover", counted)
    snapshot = worlds.full(300)
    for index in range(12):
        request = {"cpus": 12_000 + 500 * (index % 3), "mem": 49_152}
        snapshot.put_task(worlds.task(f"g{index:02d}", "prod", request, gang="g", job="g"))
    plan = make_plan(snapshot)
    assert len(plan.reserve) == 12
    assert certify(snapshot, plan) == []
    assert looked < 200  # with every member on every node it would be 3,600 and more
