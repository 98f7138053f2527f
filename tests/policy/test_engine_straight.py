"""A few tasks launched straight away: the plan that a whole round would have made, or no answer."""

from __future__ import annotations

import random
from collections import Counter
from unittest.mock import patch

from engine_worlds import Dice

from priority.claim import Claim
from priority.node import Node, NodeState
from priority.plan import make_plan
from priority.snapshot import Snapshot
from priority.straight import straight


def by_the_round(snapshot: Snapshot) -> object:
    with patch("priority.plan.straight", return_value=None):
        return make_plan(snapshot)


def check(snapshot: Snapshot) -> str:
    spots = straight(snapshot)
    if spots is None:
        return "round"
    plan = make_plan(snapshot)
    assert {one.task: (one.node, True) for one in plan.launch} | {
        one.task: (one.node, False) for one in plan.reserve
    } == spots
    assert plan == by_the_round(snapshot)
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


def test_nobody_waits_nobody_is_launched() -> None:
    assert straight(Snapshot()) is None
    snapshot = Snapshot()
    snapshot.put_task(Claim("p", "j", "r", "u", "prod", 0, {"cpus": 1}))
    assert straight(snapshot) is None
