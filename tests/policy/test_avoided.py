"""Nodes that go down, and room that may be taken back: who keeps away though the job does not say so."""

from __future__ import annotations

import pytest

from priority.node import AHEAD_S, OPEN_END_S, Node, avoided

AT_US = 1_800_000_000_000_000
LATER = "2027-01-15T09:00:00+00:00"
"""An hour after that."""
NODES = [Node("n1", {}, {"maintenance": LATER}), Node("n2", {}, {"maintenance": "soon"}), Node("n3", {})]


@pytest.mark.parametrize(
    ("runtime_s", "at_us", "kept_away"),
    [
        (3600.0, AT_US, True),
        (3600.0 - 2 * AHEAD_S, AT_US, False),
        (60.0, AT_US, False),
        (60.0, AT_US + 3590 * 10**6, True),
        (None, AT_US, True),  # it may run for an hour, for all that is known
        (None, AT_US - round(OPEN_END_S * 1e6), False),
    ],
)
def test_a_node_that_goes_down_before_the_task_has_ended(runtime_s: float | None, at_us: int, kept_away: bool) -> None:
    assert NODES[0].leaves_us == AT_US + 3600 * 10**6 and NODES[1].leaves_us is None
    found = avoided(NODES, runtime_s=runtime_s, least=True, now_us=at_us)
    assert bool(found) is kept_away
    assert [all(one.allows(node.attributes) for one in found) for node in NODES] == [not kept_away, True, True]


def test_revocable_room_is_for_the_least_tier_alone() -> None:
    node = Node("r", {}, {"revocable": "true"})
    assert avoided([node], runtime_s=1, least=True, now_us=0) == ()
    (one,) = avoided([node], runtime_s=1, least=False, now_us=0)
    assert not one.allows(node.attributes) and one.allows({}) and one.allows({"revocable": "no"})
