"""A few tasks launched straight away, or the victims of a single one: the plan of a whole round, or no answer."""

from __future__ import annotations

import random
from collections import Counter
from unittest.mock import patch

from engine_worlds import Dice

from priority.certify import certify
from priority.claim import Claim
from priority.node import Node, NodeState
from priority.plan import make_plan
from priority.snapshot import Snapshot
from priority.straight import straight


def by_the_round(snapshot: Snapshot) -> object:
    with patch("priority.plan.straight", return_value=None):
        return make_plan(snapshot)


def check(snapshot: Snapshot) -> str:
    found = straight(snapshot)
    if found is None:
        return "round"
    spots, plan = found.spots, make_plan(snapshot)
    assert {one.task: (one.node, True) for one in plan.launch} | {
        one.task: (one.node, False) for one in plan.reserve
    } == spots
    assert plan == by_the_round(snapshot)
    assert {one.task for one in plan.preempt} == {one.id for one in found.victims}
    if found.victims:
        assert certify(snapshot, plan) == []
        return "victim" if len(found.victims) == 1 else "victims"
    return "one" if len(spots) == 1 else "launched" if not plan.reserve else "reserved"


def roomy(seed: int) -> Snapshot:
    """Nodes of several sizes and states, full or half full, room that is kept, and a few that wait."""
    dice = random.Random(seed)
    snapshot = Snapshot(now_us=10**12)
    waits = dice.choice((1, 1, 2, 4, 8))
    for n in range(dice.choice((2, 4, 12))):
        state = dice.choice([NodeState.UP] * 6 + [NodeState.DRAINING, NodeState.DOWN])
        capacity = {"cpus": dice.choice((4, 8)) * 1000, "mem": dice.choice((8, 16)), "gpus": dice.choice((0, 1000))}
        snapshot.put_node(Node(f"n{n}", {name: amount for name, amount in capacity.items() if amount}, {}, state))
        for index in range(dice.randrange(4) if seed % 2 else capacity["cpus"] // 500):
            request = {"cpus": 500, "mem": 1}
            more = {"state": "running", "node": f"n{n}", "role": f"r{dice.randrange(3)}"}
            if not dice.randrange(3 + 3 * (seed % 2)):
                more |= {"state": "preempting", "kept_for": f"p{dice.randrange(waits + 2)}"}
            tier = dice.choice(("prod", "devel"))
            snapshot.put_task(Claim(f"v{n}-{index}", "j", user="u", tier=tier, request=request, **more))  # type: ignore[arg-type]
    for n in range(waits):
        request = {"cpus": dice.choice((500, 1000)), "mem": dice.randrange(1, 3 + 3 * (seed % 2))}
        if not dice.randrange(4 + 20 * (1 - seed % 2)):
            request["gpus"] = 500
        tier, role = dice.choice(("prod", "devel", "opportunistic")), f"r{dice.randrange(3)}"
        snapshot.put_task(
            Claim(f"p{n}", f"j{n}", role, "u", tier, dice.randrange(2), request, since_us=dice.randrange(9))
        )
    for role in range(dice.randrange(3)):
        quota = {"devel": {"cpus": 2000}} if dice.randrange(2) else {}
        snapshot.put_role(f"r{role}", dice.choice((0.5, 1.0, 3.0)), quota)
    return snapshot


def test_the_plan_is_that_of_a_round() -> None:
    found = Counter(check(roomy(seed)) for seed in range(600))
    assert min(found[kind] for kind in ("launched", "one", "round")) >= 40 and found["reserved"] >= 5, found


def test_the_plan_is_that_of_a_round_in_worlds_of_all_kinds() -> None:
    found = Counter(check(Snapshot.parse(Dice(seed).document())) for seed in range(400))
    assert found["round"] and sum(found.values()) > found["round"], found


def packed(seed: int) -> tuple[Snapshot, random.Random]:
    """Nodes full of tasks of several tiers, priorities, sizes and ages, many of them equal."""
    dice = random.Random(seed)
    snapshot = Snapshot(now_us=10**12)
    priorities, ages = dice.choice((1, 2, 4)), dice.choice((1, 3, 10**9))
    for n in range(dice.choice((1, 3, 12, 30))):
        state = dice.choice([NodeState.UP] * 6 + [NodeState.DRAINING, NodeState.DOWN])
        cores, gpus = dice.choice((8, 16)), dice.choice((0, 0, 2000))
        snapshot.put_node(Node(f"n{n}", {"cpus": cores * 1000, "mem": cores, "gpus": gpus}, {}, state))
        while cores > 0:
            size = min(cores, dice.choice((1, 1, 2, 3, 4)))
            cores -= size
            snapshot.put_task(runs(dice, f"v{n}-{cores}", f"n{n}", size, priorities, ages))
    return snapshot, dice


def runs(dice: random.Random, id: str, node: str, size: int, priorities: int = 2, ages: int = 3) -> Claim:
    request: dict[str, int] = {"cpus": size * 1000, "mem": size} | ({} if dice.randrange(4) else {"gpus": 500})
    state = dice.choice(["running"] * 9 + ["preempting"])
    tier = dice.choice(("prod", "devel", "devel", "devel", "opportunistic"))
    since = 10**12 - dice.randrange(ages)
    more: dict[str, object] = {
        "state": state,
        "node": node,
        "role": f"r{dice.randrange(3)}",
        "priority": dice.randrange(priorities),
    }
    return Claim(id, "j", user="u", tier=tier, request=request, since_us=since, **more)  # type: ignore[arg-type]


def test_the_victims_of_a_single_task_are_those_of_a_round() -> None:
    found: Counter[str] = Counter()
    for seed in range(250):
        snapshot, dice = packed(seed)
        for turn in range(4):  # as time goes by, tasks come and go
            size, tier = dice.choice((1, 2, 4, 8)), dice.choice(("prod", "prod", "devel"))
            request = {"cpus": size * 1000, "mem": dice.choice((1, size))}
            snapshot.put_task(Claim("p", "k", "r0", "u", tier, dice.randrange(3), request))
            found[check(snapshot)] += 1
            snapshot.drop_task("p")
            snapshot.now_us += dice.choice((0, 0, 7, 10**6, -5))
            gone = dice.sample(
                there := sorted(one.id for one in snapshot.tasks()), min(len(there), dice.choice((1, 20)))
            )
            for id in gone:
                claim = snapshot.task(id)
                assert claim is not None and claim.node is not None
                snapshot.drop_task(id)
                if dice.randrange(4):
                    snapshot.put_task(runs(dice, f"w{turn}-{id}", claim.node, claim.request["mem"]))
    assert min(found["victim"], found["victims"]) >= 60, found


def test_who_is_taken_first_of_very_many_is_known_as_time_goes_by() -> None:
    for seed in range(6):
        dice = random.Random(seed)
        snapshot = Snapshot(now_us=10**12)
        for n in range(40):
            snapshot.put_node(Node(f"n{n}", {"cpus": 60_000, "mem": 60}))
            for index in range(20):
                more = {"node": f"n{n}", "since_us": 10**12 - dice.randrange(10 ** dice.choice((1, 3, 9)))}
                request = {"cpus": dice.choice((0, 1000, 2000, 3000)), "mem": 3}
                snapshot.put_task(Claim(f"v{n}-{index}", "j", "r", "u", "devel", 0, request, "running", **more))  # type: ignore[arg-type]
        for turn in range(30):
            size = dice.choice((1, 2, 3))
            snapshot.put_task(Claim("p", "k", "r", "u", "prod", 0, {"cpus": size * 1000, "mem": 3}))
            assert check(snapshot) == "victim"
            victim = make_plan(snapshot).preempt[0]
            snapshot.drop_task("p")
            snapshot.drop_task(victim.task)
            snapshot.now_us += dice.choice((0, 1, 10**3, 10**6))
            more = {"node": victim.node, "since_us": snapshot.now_us}
            snapshot.put_task(Claim(f"w{turn}", "j", "r", "u", "devel", 0, {"cpus": 1000, "mem": 3}, "running", **more))  # type: ignore[arg-type]


def test_nobody_waits_nobody_is_launched() -> None:
    assert straight(Snapshot()) is None
    snapshot = Snapshot()
    snapshot.put_task(Claim("p", "j", "r", "u", "prod", 0, {"cpus": 1}))
    assert straight(snapshot) is None
