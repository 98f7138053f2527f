"""Agents that go down: who is sent away when, and what is answered to an offer to leave. Needs no Mesos."""

from __future__ import annotations

from typing import Any

import pytest
from test_rooms import WHOLE, World

from priority.backend.mesos_known import Facts, now_us
from priority.node import NodeState
from priority.orders import NodeSeen, TaskSeen


@pytest.fixture
def world() -> World:
    """A task of which all is known runs on the agent, which has room for another."""
    made = World()
    made.offer(2)
    made.launch("t1")
    made.update("t1", "TASK_RUNNING")
    made.passes(2)
    made.sent.clear()
    return made


def unavailability(in_s: float) -> dict[str, Any]:
    return {"start": {"nanoseconds": round((now_us() + in_s * 1e6) * 1000)}}


def ask_to_leave(world: World, in_s: float, id: str = "i1") -> None:
    one = {"id": {"value": id}, "agent_id": {"value": "a1"}, "unavailability": unavailability(in_s)}
    world.driver.event({"type": "INVERSE_OFFERS", "inverse_offers": {"inverse_offers": [one]}})
    world.passes(1)


def sent(world: World, kind: str) -> list[Any]:
    return [one[kind.lower()] for one in world.sent if one["type"] == kind]


def node(world: World) -> Any:
    return next(one.node for one in reversed(world.heard) if isinstance(one, NodeSeen))


def test_long_before_it_stays_and_says_so(world: World) -> None:
    ask_to_leave(world, 1000)
    (declined,) = sent(world, "DECLINE_INVERSE_OFFERS")
    assert declined["inverse_offer_ids"] == [{"value": "i1"}]
    assert 5 <= declined["filters"]["refuse_seconds"] <= 60
    assert not sent(world, "KILL") and not sent(world, "ACCEPT_INVERSE_OFFERS")
    assert (node(world).state, abs(node(world).leaves_us - now_us() - 1e9) < 60e6) == (NodeState.UP, True)


def test_shortly_before_it_is_sent_away_once_and_then_the_offer_is_accepted(world: World) -> None:
    ask_to_leave(world, 30)
    assert node(world).state is NodeState.DRAINING
    assert not sent(world, "DECLINE_INVERSE_OFFERS") and not sent(world, "ACCEPT_INVERSE_OFFERS")
    world.passes(1)
    world.passes(1)
    (kill,) = sent(world, "KILL")
    assert kill["task_id"] == {"value": "t1"}
    assert kill["kill_policy"]["grace_period"] == {"nanoseconds": 30_000_000_000}
    world.update("t1", "TASK_KILLED")
    ended = next(one for one in world.heard if isinstance(one, TaskSeen) and one.kind == "ended")
    assert ended.stopped, "it begins anew"
    world.passes(1)
    assert [one["inverse_offer_ids"] for one in sent(world, "ACCEPT_INVERSE_OFFERS")] == [[{"value": "i1"}]]


def test_one_that_ends_before_that_by_itself_is_let_be(world: World) -> None:
    known = world.driver.known["t1"]
    known.runtime_s, known.notice_s = 5.0, 60.0
    ask_to_leave(world, 30)
    assert not sent(world, "KILL")
    known.runtime_s = 500.0
    world.passes(1)
    assert sent(world, "KILL")


def test_who_waits_for_room_there_is_handed_back(world: World) -> None:
    world.driver.agents["a1"].room.give_back()
    world.launch("t2")
    assert world.driver.known["t2"].phase.value == "waiting"
    ask_to_leave(world, 30)
    assert world.refused() == {"t2": "maintenance"}


def test_a_drain_by_mesos_is_shown_and_so_is_its_end(world: World) -> None:
    looks = world.looks
    world.update("t1", "TASK_KILLED")
    world.passes(3)
    assert world.looks > looks, "who did that?"
    world.driver.looked(world.now_s, [Facts("a1", "n1", 1, {}, WHOLE, {}, draining=True)])
    world.passes(1)
    assert node(world).state is NodeState.DRAINING
    world.driver.looked(world.now_s, [Facts("a1", "n1", 1, {}, WHOLE, {})])
    world.passes(1)
    assert (node(world).state, node(world).capacity) == (NodeState.UP, WHOLE)


def test_a_window_that_is_called_off_is_forgotten(world: World) -> None:
    ask_to_leave(world, 1000)
    assert node(world).leaves_us is not None
    looks = world.looks
    world.driver.event(
        {"type": "RESCIND_INVERSE_OFFER", "rescind_inverse_offer": {"inverse_offer_id": {"value": "i1"}}}
    )
    world.passes(3)
    assert world.looks > looks
    world.look()
    world.passes(1)
    assert node(world).leaves_us is None


@pytest.mark.parametrize(
    "body",
    [{"inverse_offers": 5}, {"inverse_offers": [{}]}, {"inverse_offers": [{"id": {"value": "i"}, "agent_id": 5}]},
     {"inverse_offers": [{"id": {"value": "i"}, "agent_id": {"value": "a1"}, "unavailability": {"start": 5}}]}],
)  # fmt: skip
def test_nonsense_is_refused(world: World, body: Any) -> None:
    with pytest.raises(ValueError, match=r"is not understood|is missing"):
        world.driver.event({"type": "INVERSE_OFFERS", "inverse_offers": body})
