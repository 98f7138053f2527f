"""What is saved of a refused plan does no harm, and forgets nobody."""

from __future__ import annotations

import random

import pytest
from engine_worlds import Dice
from spoilt import spoil

from priority.certify import HARM, certify
from priority.plan import make_plan
from priority.salvage import salvage
from priority.snapshot import Snapshot


@pytest.mark.parametrize("block", range(6))
def test_what_is_saved_does_no_harm(block: int) -> None:
    saved = 0
    for seed in range(50 * block, 50 * (block + 1)):
        rng = random.Random(seed)
        snapshot = Snapshot.parse(Dice(seed, full=seed % 2 == 0).document())
        plan = make_plan(snapshot)
        for _ in range(3):
            plan = spoil(rng, snapshot, plan)
            found = certify(snapshot, plan)
            rest = salvage(snapshot, plan, found)
            assert certify(snapshot, rest, only=HARM) == [], f"seed {seed}"
            assert {one.task for one in rest.preempt} <= {one.task for one in plan.preempt}
            assert {(one.task, one.node) for one in rest.launch} <= {(one.task, one.node) for one in plan.launch}
            if not any(one.property in HARM for one in found):
                assert rest == plan
            saved += bool(found and (rest.launch or rest.reserve))
    assert saved > 20
