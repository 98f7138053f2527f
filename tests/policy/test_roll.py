"""Who is on nodes: whoever came and went, each is found again as it was put in, and nobody else is."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from priority import roll, stock
from priority.claim import Claim
from priority.constraint import Constraint
from priority.node import Node
from priority.roll import NOBODY, Roll
from priority.snapshot import Snapshot


def any_claim(dice: random.Random, id: str) -> Claim:
    return Claim(
        id,
        job=f"j{dice.randrange(5)}",
        role=f"r{dice.randrange(3)}",
        user=f"u{dice.randrange(3)}",
        tier=dice.choice(["prod", "devel"]),
        priority=dice.randrange(-2, 3),
        request={"cpus": dice.randrange(1, 40), "mem": dice.randrange(3)},
        state=dice.choice(["starting", "running", "preempting", "killing"]),
        node=f"n{dice.randrange(4)}",
        since_us=dice.randrange(10),
        constraints=dice.choice([(), (Constraint("host", limit=2),)]),
        gang=dice.choice([None, None, "g"]),
        kept_for=dice.choice([None, None, "p"]),
        preempted_us=dice.choice([(), (), (3, 4)]),
        at_once=dice.choice([None, None, 2]),
        until_us=dice.choice([None, None, 77]),
    )


@pytest.mark.parametrize("seed", range(4))
def test_whoever_is_there_is_found_as_it_was_put_in(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roll, "KINDS_MIN", 4)
    dice = random.Random(seed)
    mine, there, free = Roll(), dict[str, tuple[int, Claim]](), list[int]()
    for number in range(3_000):
        if there and dice.random() < 0.45:
            id = dice.choice([*there]) if number % 7 == 0 else next(iter(there))
            place, _ = there.pop(id)
            mine.leave(id)
            free.append(place)
            assert mine.place(id) == NOBODY
            assert not mine.there(place)
        else:
            claim = any_claim(dice, f"t{number}")
            place = free.pop(dice.randrange(len(free))) if free and dice.random() < 0.8 else len(mine)
            mine.enter(claim, place)
            there[claim.id] = place, claim
    assert len(there) > 100
    for id, (place, claim) in there.items():
        assert mine.place(id) == place
        assert mine.claim(place, claim.node or "", claim.priority, claim.since_us) == claim
        assert mine.owner(place) == (claim.tier, claim.role)
    assert sorted(mine.jobs()) == sorted((claim.id, claim.job) for _, claim in there.values())
    assert mine.place("nobody") == NOBODY


def test_ids_that_fall_into_one_chain_are_told_apart() -> None:
    class Alike(str):
        __slots__ = ()

        def __hash__(self) -> int:
            return 7

        def __eq__(self, other: object) -> bool:
            return str.__eq__(self, other) is True

    mine, base = Roll(), any_claim(random.Random(1), "x")
    ids = [Alike(f"t{index}") for index in range(40)]
    for place, id in enumerate(ids):
        mine.enter(replace(base, id=id), place)
    for gone in (39, 0, 20):  # the first of the chain, the last, one in between
        mine.leave(ids[gone])
    for place, id in enumerate(ids):
        assert mine.place(id) == (NOBODY if place in (0, 20, 39) else place)


def test_a_snapshot_gives_back_every_claim_though_few_are_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stock, "MADE_MAX", 3)
    dice, snapshot, expected = random.Random(5), Snapshot(), dict[str, Claim]()
    for index in range(4):
        snapshot.put_node(Node(f"n{index}", {"cpus": 1000}, {"rack": "r"}))
    for number in range(200):
        claim = any_claim(dice, f"t{number % 60}")
        snapshot.put_task(claim)
        expected[claim.id] = claim
        if number % 20 == 0:
            snapshot.settled()
    for _ in range(2):  # as it comes, and settled
        assert {claim.id: claim for claim in snapshot.tasks()} == expected
        assert {id: snapshot.task(id) for id in expected} == expected
        for job in {(claim.role, claim.job) for claim in expected.values()}:
            mine = {claim.id for claim in expected.values() if (claim.role, claim.job) == job}
            assert {claim.id for claim in snapshot.tasks_of(*job)} == mine
        for name in ("n0", "n1", "n2", "n3"):
            assert {one.id for one in snapshot.tasks_on(name)} == set(snapshot.ids_on(name))
        snapshot.settled()
    snapshot.drop_task("t0")
    assert "t0" not in {
        one.id for job in range(5) for role in range(3) for one in snapshot.tasks_of(f"r{role}", f"j{job}")
    }
