"""Who is killed, and who is given up, hangs on what the master says and not on how long it takes. Needs no Mesos."""

from __future__ import annotations

from typing import Any

import pytest

from priority.backend.mesos_driver import Driver
from priority.backend.mesos_fleet import DOUBT_S, LIMIT
from priority.backend.mesos_known import Facts, Times
from priority.job import JobSpec
from priority.orders import Launch, NodeSeen, Report, Stop, TaskSeen

ROOM_S = 30.0
HOLD_S = 300.0
WHOLE = {"cpus": 2000}


class World:
    """A driver with a clock of its own; what it sends, says and asks is kept."""

    def __init__(self, hold_s: float = 1e6) -> None:
        self.now_s = 100.0
        self.sent: list[dict[str, Any]] = []
        self.heard: list[Report] = []
        self.looks = 0
        self.offers = 0
        self.driver = Driver(
            self.sent.append, lambda report, _: self.heard.append(report), self.asked,
            role="r", times=Times(room_s=ROOM_S, silent_s=1e6, hold_s=hold_s), now=lambda: self.now_s,
        )  # fmt: skip
        self.driver.subscribed()
        self.look()

    def asked(self) -> None:
        self.looks += 1

    def look(self, **others: int) -> None:
        self.driver.looked(self.now_s, [Facts("a1", "n1", 1, {}, WHOLE, others)])

    def offer(self, cpus: float, agent: str = "a1", **others: float) -> None:
        self.offers += 1
        resources = [
            {"name": name, "type": "SCALAR", "scalar": {"value": value}, "allocation_info": {"role": "r"}}
            for name, value in {"cpus": cpus, **others}.items()
        ]
        offer = {
            "id": {"value": f"o{self.offers}"}, "agent_id": {"value": agent}, "hostname": agent.replace("a", "n"),
            "resources": resources,
        }  # fmt: skip
        self.driver.event({"type": "OFFERS", "offers": {"offers": [offer]}})

    def launch(self, *tasks: str, **fields: Any) -> None:
        spec = JobSpec(
            **{"role": "r", "tier": "prod", "name": "x", "command": "true", "resources": {"cpus": 1}, **fields},
            instances=len(tasks),
        )
        of: dict[str, Any] = {"job": "r/prod/x", "node": "n1", "agent": "a1", "epoch": 1, "attempt": 1, "spec": spec}
        self.driver.launch([Launch(task=task, instance=number, **of) for number, task in enumerate(tasks)])

    def update(self, task: str, state: str) -> None:
        status = {"task_id": {"value": task}, "agent_id": {"value": "a1"}, "state": state, "uuid": "dQ=="}
        self.driver.event({"type": "UPDATE", "update": {"status": status}})

    def die(self, task: str) -> None:
        self.driver.stop([Stop(task=task, node="n1", epoch=1, signal="TERM", notice_s=0)])
        self.update(task, "TASK_KILLED")

    def passes(self, seconds: float) -> None:
        self.now_s += seconds
        self.driver.tick()

    def launched(self) -> list[str]:
        accepted = [one["accept"]["operations"] for one in self.sent if one["type"] == "ACCEPT"]
        launches = [one["launch"]["task_infos"] for operations in accepted for one in operations if "launch" in one]
        return [info["task_id"]["value"] for infos in launches for info in infos]

    def refused(self) -> dict[str, str]:
        seen = [one for one in self.heard if isinstance(one, TaskSeen) and one.kind == "refused"]
        return {one.task: one.cause.code if one.cause is not None else "" for one in seen}

    @property
    def capacity(self) -> int:
        return self.driver.nodes["n1"].room.capacity().get("cpus", 0)


@pytest.fixture
def full() -> World:
    """Two tasks fill the agent."""
    made = World()
    made.offer(2)
    for task in ("v1", "v2"):
        made.launch(task)
        made.offer(1)
        made.update(task, "TASK_RUNNING")
    made.offer(0.001)
    made.driver.nodes["n1"].room.give_back()
    made.driver.nodes["n1"].room.believed = {}
    assert made.launched() == ["v1", "v2"] and made.capacity == 2000
    return made


def test_room_that_is_offered_before_the_death_is_told_counts_once(full: World) -> None:
    full.offer(1)
    full.die("v1")
    full.launch("p1")
    assert full.launched()[-1] == "p1"
    full.die("v2")
    assert full.driver.nodes["n1"].room.believed == {"cpus": 1000}
    full.launch("p2")
    assert "p2" not in full.launched() and full.capacity == 2000
    full.offer(1)
    assert full.launched()[-1] == "p2" and not full.driver.nodes["n1"].room.believed


def test_a_slow_master_makes_nobody_give_up(full: World) -> None:
    full.die("v1")
    full.launch("p1")
    for _ in range(8):
        before = full.looks
        full.passes(ROOM_S)
        assert full.looks == before + 1
        full.look()
    assert not full.refused() and full.capacity == 2000
    full.offer(1)
    assert full.launched()[-1] == "p1"


def test_room_that_another_holds_is_given_up_with_a_cause(full: World) -> None:
    full.die("v1")
    full.launch("p1")
    full.passes(ROOM_S / 2)
    full.look(cpus=1000)
    assert not full.refused(), "it may come back"
    full.passes(ROOM_S / 2)
    full.look(cpus=1000)
    assert full.refused() == {"p1": "no-offer"}
    assert full.capacity == 1000


def test_room_that_never_comes_is_given_up_at_last(full: World) -> None:
    full.die("v1")
    full.launch("p1")
    full.passes(LIMIT * ROOM_S)
    assert full.refused() == {"p1": "no-offer"}


def test_room_that_nobody_waits_for_is_believed_in_until_the_master_says_otherwise(full: World) -> None:
    full.die("v1")
    full.passes(DOUBT_S)
    full.look()
    assert full.capacity == 2000
    full.passes(DOUBT_S)
    full.look(cpus=1000)
    assert full.capacity == 1000


def test_what_was_asked_before_an_offer_came_says_nothing_of_it(full: World) -> None:
    full.die("v1")
    full.passes(DOUBT_S)
    asked_s = full.now_s
    full.passes(1)
    full.offer(0.5)
    full.driver.looked(asked_s, [Facts("a1", "n1", 1, {}, WHOLE, {"cpus": 1000})])
    assert full.capacity == 2000


def test_a_node_is_told_of_when_all_of_it_is_known() -> None:
    world = World()
    facts = Facts("a2", "n2", 1, {}, WHOLE, {})
    offer = {"id": {"value": "x"}, "agent_id": {"value": "a2"}, "hostname": "n2", "resources": []}
    world.driver.event({"type": "OFFERS", "offers": {"offers": [offer]}})
    world.passes(10)
    assert not [one for one in world.heard if isinstance(one, NodeSeen)]
    world.driver.looked(world.now_s, [facts])
    world.passes(1)
    assert [one.node.name for one in world.heard if isinstance(one, NodeSeen)] == ["n2"]


def test_room_that_was_given_back_is_asked_for_again_though_another_agents_is_held() -> None:
    world = World(hold_s=HOLD_S)
    world.offer(1)
    world.passes(1)
    world.passes(HOLD_S / 2)
    world.offer(1, agent="a2")
    world.passes(HOLD_S / 2)
    assert [one["type"] for one in world.sent if one["type"] in ("ACCEPT", "SUPPRESS", "REVIVE")] == ["ACCEPT"]
    world.launch("t1")
    world.launch("t2")
    assert [one["type"] for one in world.sent].count("REVIVE") == 1
    world.offer(1)
    assert world.launched() == ["t1"]


def test_a_gang_on_one_agent_goes_in_one_call_or_not_yet() -> None:
    world = World()
    world.offer(1)
    world.launch("g1", "g2", gang=True)
    assert not world.launched() and world.capacity == 2000
    world.offer(1)
    assert world.launched() == ["g1", "g2"]
    assert len([one for one in world.sent if one["type"] == "ACCEPT"]) == 1


def test_a_task_group_takes_what_was_planned() -> None:
    world = World()
    asked = {"cpus": 1, "mem": 64, "disk": 10}
    world.launch("g1", "g2", gang=True, resources=asked, mesos={"group": True})
    world.offer(2, mem=128, disk=20)
    (accept,) = (one["accept"] for one in world.sent if one["type"] == "ACCEPT")
    reserved, launched = accept["operations"]
    group = launched["launch_group"]
    tasks = group["task_group"]["tasks"]
    assert [one["task_id"]["value"] for one in tasks] == ["g1", "g2"]
    amounts = [of(one["resources"]) for one in (group["executor"], *tasks)]
    assert amounts[0] == {"cpus": 0.01, "mem": 32, "disk": 1}
    assert amounts[2] == asked
    whole = {"cpus": 2, "mem": 128, "disk": 20}
    assert {name: sum(one[name] for one in amounts) for name in asked} == whole == of(reserved["reserve"]["resources"])


def of(resources: list[dict[str, Any]]) -> dict[str, float]:
    return {one["name"]: one["scalar"]["value"] for one in resources}
