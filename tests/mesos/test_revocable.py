"""Room that Mesos may take back is a node of its own, for the least tier. The agents here have no module that estimates
such room, so the master is a stand-in.
"""

from __future__ import annotations

from typing import Any

import pytest
from test_rooms import World

from priority.backend.mesos_known import Facts
from priority.backend.mesos_tasks import CAPABILITIES
from priority.job import JobSpec
from priority.node import NodeState
from priority.orders import Launch, NodeSeen, NodeSilent, Stop

TWIN = "n1.revocable"


def scalar(name: str, value: float, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": "SCALAR", "scalar": {"value": value}, "allocation_info": {"role": "r"}, **more}


def offer(world: World, id: str, firm: float, revocable: float) -> None:
    resources = [scalar("cpus", firm)] * bool(firm) + [scalar("cpus", revocable, revocable={})] * bool(revocable)
    document = {"id": {"value": id}, "agent_id": {"value": "a1"}, "hostname": "n1", "resources": resources}
    world.driver.event({"type": "OFFERS", "offers": {"offers": [document]}})
    world.passes(1)


def launch(world: World, task: str) -> None:
    spec = JobSpec(role="r", tier="opportunistic", name="x", command="true", resources={"cpus": 1})
    seen = nodes(world)[TWIN]
    of = {"job": "r/opportunistic/x", "epoch": 1, "instance": 0, "attempt": 1, "spec": spec}
    world.driver.launch([Launch(task=task, node=TWIN, agent=seen.agent, **of)])


def nodes(world: World) -> dict[str, NodeSeen]:
    return {one.node.name: one for one in world.heard if isinstance(one, NodeSeen)}


def capacity(world: World, node: str) -> int:
    return world.driver.nodes[node].room.capacity().get("cpus", 0)


@pytest.fixture
def world() -> World:
    made = World()
    offer(made, "o1", 2, 3)
    return made


def test_it_is_announced_since_it_is_handled() -> None:
    assert "REVOCABLE_RESOURCES" in CAPABILITIES


def test_it_is_a_node_of_its_own(world: World) -> None:
    firm, soft = nodes(world)["n1"].node, nodes(world)[TWIN].node
    assert (firm.capacity, soft.capacity) == ({"cpus": 2000}, {"cpus": 3000})
    assert firm.attributes.get("revocable") is None and soft.attributes["revocable"] == "true"


def test_a_task_gets_it_unreserved_and_what_else_was_offered_stays_capacity(world: World) -> None:
    launch(world, "t1")
    (accept,) = [one["accept"] for one in world.sent if one["type"] == "ACCEPT"]
    (operation,) = accept["operations"]
    (info,) = operation["launch"]["task_infos"]
    assert info["agent_id"] == {"value": "a1"}
    assert info["resources"] == [scalar("cpus", 1, revocable={})]
    assert (capacity(world, "n1"), capacity(world, TWIN)) == (2000, 3000)
    offer(world, "o2", 2, 2)
    assert (capacity(world, "n1"), capacity(world, TWIN)) == (2000, 3000)
    world.driver.event({"type": "RESCIND", "rescind": {"offer_id": {"value": "o2"}}})
    assert (capacity(world, "n1"), capacity(world, TWIN)) == (0, 1000)


def test_a_kill_and_a_question_name_the_agent_as_mesos_does(world: World) -> None:
    launch(world, "t1")
    world.update("t1", "TASK_RUNNING")
    world.driver.inquire([TWIN])
    world.driver.stop([Stop(task="t1", node=TWIN, epoch=1, signal="TERM", notice_s=0)])
    asked = [one["reconcile"]["tasks"] for one in world.sent if one["type"] == "RECONCILE"][-1]
    assert asked == [{"task_id": {"value": "t1"}, "agent_id": {"value": "a1"}}]
    assert next(one for one in world.sent if one["type"] == "KILL")["kill"]["agent_id"] == {"value": "a1"}
    assert nodes(world)[TWIN].tasks == {"t1"} and not nodes(world)["n1"].tasks


def test_both_fall_silent_and_drain_together(world: World) -> None:
    world.driver.looked(world.now_s, [Facts("a1", "n1", 1, {}, {"cpus": 2000}, {}, draining=True)])
    world.passes(1)
    assert {one.node.state for one in nodes(world).values()} == {NodeState.DRAINING}
    world.driver.event({"type": "FAILURE", "failure": {"agent_id": {"value": "a1"}}})
    assert {one.node for one in world.heard if isinstance(one, NodeSilent)} == {"n1", TWIN}


def test_what_is_taken_back_is_capacity_no_more(world: World) -> None:
    launch(world, "t1")
    offer(world, "o2", 2, 0)
    assert capacity(world, TWIN) == 3000, "it may come with another offer"
    world.passes(30)
    world.look()
    assert (capacity(world, "n1"), capacity(world, TWIN)) == (2000, 1000)
