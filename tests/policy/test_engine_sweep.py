"""Very many tasks at once: all that waits is launched in one sweep where there is room for all."""

from __future__ import annotations

import random
from typing import Any

import pytest
from engine_worlds import Dice, shuffled, world

from priority import plan, straight, sweep
from priority.certify import certify
from priority.plan import Launches, Placement, make_plan
from priority.snapshot import Snapshot


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few they are."""
    monkeypatch.setattr(plan, "FEWEST", 1)
    monkeypatch.setattr(straight, "MOST", 0)


def swept(document: dict[str, Any]) -> bool:
    return isinstance(make_plan(Snapshot.parse(document)).launch, Launches)


@pytest.mark.parametrize("group", range(4))
def test_a_sweep_is_certified_and_is_the_same_in_any_order(group: int) -> None:
    seen = 0
    for seed in range(group * 300, group * 300 + 300):
        document = Dice(seed, gangs=False).document()
        document["tasks"] = [one for one in document["tasks"] if one["state"] != "pending" or one["id"] < "p3"]
        snapshot = Snapshot.parse(document)
        made = make_plan(snapshot)
        assert certify(snapshot, made) == [], seed
        again = make_plan(Snapshot.parse(shuffled(document, seed)))
        assert again.document() == made.document(), seed
        seen += isinstance(made.launch, Launches)
    assert seen > 20


@pytest.mark.parametrize("group", range(4))
def test_a_tier_at_a_time_is_certified_and_is_the_same_in_any_order(
    group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "FEWEST", 10**9)
    monkeypatch.setattr(sweep, "LEVEL", 1)
    for seed in range(group * 200, group * 200 + 200):
        document = Dice(seed + 10_000, full=bool(seed % 2)).document()
        snapshot = Snapshot.parse(document)
        made = make_plan(snapshot)
        assert certify(snapshot, made) == [], seed
        again = make_plan(Snapshot.parse(shuffled(document, seed)))
        assert again.document() == made.document(), seed


def test_a_large_sweep_is_certified() -> None:
    dice = random.Random(1)
    lines = [f"node n{index:02} {dice.randint(4, 16)}/{dice.randint(8, 32)} rack=r{index % 3}" for index in range(60)]
    lines += [f"task p{index:03} r devel {dice.randint(1, 3) / 2}/{dice.randint(0, 2)}" for index in range(300)]
    lines += [f"task q{index:03} r prod 0.25 rack=r{index % 3}" for index in range(100)]
    document = world("\n".join(lines))
    snapshot = Snapshot.parse(document)
    made = make_plan(snapshot)
    assert isinstance(made.launch, Launches)
    assert len(made.launch) == 400
    assert certify(snapshot, made) == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("node n 4\ntask p r prod 5", "no room"),
        ("node n 4\ntask p r prod 1 gang=g", "a gang"),
        ("node n 4\ntask p r prod 1 host<=1", "a limit"),
        ("node n 4\ntask d r devel 1 !n for=p\ntask p r prod 1", "room that is kept"),
        ("node n 4\nrole r devel=1\ntask p r devel 2", "a ceiling"),
        ("task p r prod 1", "no node"),
        ("node n 4 draining\ntask p r prod 1", "no node that takes tasks"),
    ],
)
def test_what_is_not_that_simple_is_decided_one_by_one(text: str, why: str) -> None:
    assert not swept(world(text)), why


def test_nodes_with_devices_are_left_to_those_that_want_them() -> None:
    text = "node a 4 gpus=2\nnode b 4\ntask p r prod 4\ntask q r prod 4 gpus=1"
    document = world(text)
    assert swept(document)
    launched = {one.task: one.node for one in make_plan(Snapshot.parse(document)).launch}
    assert launched == {"p": "b", "q": "a"}


def test_launches_behave_as_a_tuple() -> None:
    made = make_plan(Snapshot.parse(world("node n 4\ntask q r prod 1\ntask p r prod 1")))
    assert type(made.launch) is Launches
    assert [one.task for one in made.launch] == ["p", "q"]
    assert made.launch == tuple(made.launch) == made.launch[:]
    other = (Placement("r", "n"),)
    assert made.launch + other == (*made.launch, *other)
    assert other + made.launch == (*other, *made.launch)
    assert (len(made.launch), made.launch[1].task, hash(made.launch)) == (2, "q", hash(tuple(made.launch)))
    assert repr(made.launch) == repr(tuple(made.launch))
