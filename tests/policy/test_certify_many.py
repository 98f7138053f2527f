"""Very many small cases: against brute force, and certified. A failure names its seed.

`PRIORITY_TEST_CASES` and `PRIORITY_TEST_STORMS` say how many, `PRIORITY_TEST_SEED` where to begin; as it stands about
half a minute of processor time in all.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest
from engine_worlds import Dice, shuffled
from test_engine_properties import against_the_oracle

from priority.certify import certify
from priority.plan import make_plan
from priority.snapshot import Snapshot

CASES = int(os.environ.get("PRIORITY_TEST_CASES", "10000"))
STORMS = int(os.environ.get("PRIORITY_TEST_STORMS", "5000"))
SEED = int(os.environ.get("PRIORITY_TEST_SEED", "20000000"))
BLOCK = 500

GANG_EVERY = 5
"""Every so many cases it is a gang of two or three that waits, else a single task."""


def blocks(count: int) -> list[range]:
    return [range(start, min(start + BLOCK, SEED + count)) for start in range(SEED, SEED + count, BLOCK)]


def ids(block: range) -> str:
    return f"{block.start}-{block.stop - 1}"


@pytest.mark.parametrize("block", blocks(CASES), ids=ids)
def test_the_victims_are_those_of_brute_force(block: range) -> None:
    kinds = Counter(against_the_oracle(seed, 0 if seed % GANG_EVERY else 2 + seed % 2) for seed in block)
    assert len(block) < BLOCK or min(kinds[kind] for kind in ("launch", "reserve", "kill", "wait")) >= 10, kinds


@pytest.mark.parametrize("block", blocks(STORMS), ids=ids)
def test_storms_are_certified(block: range) -> None:
    """Full clusters on which up to twelve tasks and gangs wait at once."""
    for seed in block:
        document = Dice(seed, full=True).document()
        snapshot = Snapshot.parse(document)
        plan = make_plan(snapshot)
        broken = {violation.property for violation in certify(snapshot, plan)}
        assert not broken, f"seed {seed}: {broken}"
        if seed % 10 == 0:
            assert make_plan(Snapshot.parse(shuffled(document, seed))) == plan, f"seed {seed}: another order"
