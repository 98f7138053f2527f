"""`priority bench mesos`: figures of the Mesos driver, some of them beside a bare loop on the same cluster.

Without a master only what the driver does by itself is measured, and what a scheduler costs that has a thousand
agents (see `agents`). With one, so many tasks are launched twice: by a loop
that accepts offers and acknowledges updates and does nothing else, and by our backend. And the room of one task is
given to another: by such a loop that kills and launches, and by a whole service that preempts. Nothing else should use
the cluster meanwhile; its agents are to be of one size.
"""

from __future__ import annotations

import gc
import json
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any
from zlib import crc32

import httpx
import orjson

from priority.backend import mesos_tasks as calls
from priority.backend.mesos import MesosBackend
from priority.backend.mesos_driver import Driver
from priority.backend.mesos_line import Masters
from priority.backend.mesos_operator import AgentFacts, Operator
from priority.errors import Unavailable
from priority.face.bench import agents as many_agents
from priority.face.bench.figures import TIMEOUT_S, Figure, figure, wait_for, world
from priority.job import JobSpec
from priority.offers import Piece
from priority.orders import Delivery, Launch, NodeSeen, TaskSeen
from priority.recordio import Records
from priority.store import open_store

AGENTS, PENDING = 1000, 1000
TASKS = 100
TURNS = 2
FILL, REPEATS = 4, 5
STAYS = "sleep 1000"
ROLE = "bench"


def run(master: str, tasks: int = TASKS) -> Iterator[Figure]:
    """Every figure, as it is measured."""
    yield from alone()
    yield from many_agents.run()
    if not master:
        return
    with Operations(master) as cluster:
        bare: list[float] = []
        ours: list[float] = []
        for turn in range(TURNS):  # each goes first as often
            for rates, rate in ((bare, bare_rate), (ours, our_rate))[:: 1 if turn % 2 else -1]:
                cluster.settle()
                rates.append(rate(master, tasks, turn))
        yield figure("mesos launches, bare loop", f"{tasks} tasks", bare, "tasks/s")
        yield figure("mesos launches, ours", f"{tasks} tasks", ours, "tasks/s")
        ratios = [one / other for one, other in zip(ours, bare, strict=True)]
        yield figure("mesos launches, ours over bare", f"{tasks} tasks", ratios, "of it/s", 0.9)
        cluster.settle()
        relaunches = bare_relaunches(master, cluster.quarter)
        cluster.settle()
        preemptions = our_preemptions(master, cluster)
        size = f"1 of {FILL * cluster.nodes} tasks"
        yield figure("mesos kill and relaunch, bare loop", "1 of 4 tasks", relaunches, "ms")
        yield figure("mesos preemption, to running", size, preemptions, "ms")
        ratio = statistics.median(preemptions) / statistics.median(relaunches)
        yield figure("mesos preemption over bare relaunch", size, [ratio], "times", 1.2)


class Operations:
    """What the bench asks the cluster itself."""

    def __init__(self, master: str) -> None:
        self._operator = Operator(Masters(master), None)
        agents = self._operator.agents().values()
        self.nodes = len(agents)
        if not agents:
            raise Unavailable("the Mesos master has no agents")
        self.quarter = min(one.whole.get("cpus", 0) for one in agents) / 1000 / FILL

    def __enter__(self) -> Operations:
        return self

    def __exit__(self, *_: object) -> None:
        self._operator.close()

    def settle(self) -> None:
        """Wait until nothing of a measurement before is left on any agent."""
        wait_for(lambda: all(self._idle(one) for one in self._operator.agents(fresh=True).values()))

    def _idle(self, agent: AgentFacts) -> bool:
        state = httpx.get(f"{agent.address}/state", timeout=TIMEOUT_S, trust_env=False).json()
        return not state["frameworks"]


# --- the driver by itself ----------------------------------------------------------------------------------------


def alone() -> Iterator[Figure]:
    """A driver with a thousand agents and as many tasks that wait for their offers."""
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sent: list[float] = []

    def send(call: dict[str, Any]) -> None:
        orjson.dumps(call)  # as a sender does
        sent.append(time.thread_time())

    driver = Driver(send, lambda _report, _ack: None, role=ROLE)
    driver.subscribed()
    for number in range(AGENTS):
        driver.event(_offers(number, 0))
    driver.tick()
    for agent in driver.agents.values():  # what is offered goes back, so that all of it has to come again
        agent.room.give_back()
    driver.launch([_launch(f"t{number}", f"h{number % AGENTS}", f"a{number % AGENTS}") for number in range(PENDING)])
    delays = []
    for number in range(AGENTS):
        event = _offers(number, 1)
        sent.clear()
        began = time.thread_time()
        driver.event(event)
        delays.append((sent[-1] - began) * 1000)
    yield figure("mesos offer to ACCEPT", f"{PENDING} pending on {AGENTS} agents", delays[::20], "ms", 10.0)
    yield figure(
        "mesos offer to ACCEPT", f"{PENDING} pending on one agent", [_all_at_once() for _ in range(9)], "ms", 10.0
    )
    began = time.process_time()
    for _ in range(20):
        driver.tick()
    share = (time.process_time() - began) / 20 / 0.5 * 100
    yield figure("mesos driver, idle", f"{AGENTS} agents", [share], "% of a core", 2.0)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024
    yield figure("mesos driver, memory", f"{AGENTS} agents, {PENDING} tasks", [grown], "MiB")


def _all_at_once() -> float:
    """Milliseconds (of this thread's own time) from one offer to one ACCEPT with a thousand tasks."""
    sent: list[float] = []

    def send(call: dict[str, Any]) -> None:
        orjson.dumps(call)  # as a sender does
        sent.append(time.thread_time())

    driver = Driver(send, lambda _report, _ack: None, role=ROLE)
    driver.subscribed()
    driver.launch([_launch(f"t{number}", "h0", "a0") for number in range(PENDING)])
    event = _offers(0, 0)
    for one in event["offers"]["offers"][0]["resources"]:
        one["scalar"]["value"] = 1e6
    sent.clear()
    gc.collect()  # what runs before have left is none of this one's work
    began = time.thread_time()
    driver.event(event)
    return (sent[-1] - began) * 1000


def _offers(number: int, turn: int) -> dict[str, Any]:
    resources = [
        {"name": name, "type": "SCALAR", "scalar": {"value": value}, "allocation_info": {"role": ROLE}}
        for name, value in (("cpus", 8), ("mem", 16384), ("disk", 10000))
    ]
    offer = {
        "id": {"value": f"o{turn}-{number}"}, "agent_id": {"value": f"a{number}"}, "hostname": f"h{number}",
        "attributes": [{"name": "rack", "type": "TEXT", "text": {"value": f"r{number % 40}"}}], "resources": resources,
    }  # fmt: skip
    return {"type": "OFFERS", "offers": {"offers": [offer]}}


JOBS = 10
"""So many jobs tasks are of."""


@lru_cache(100)
def _spec(number: int, command: str, cpus: float, mem: int) -> JobSpec:
    resources = {"cpus": cpus} | ({"mem": mem} if mem else {})
    return JobSpec(role="bench", tier="devel", name=f"x{number}", command=command, resources=resources)


def _launch(task: str, node: str, agent: str, *, command: str = "true", cpus: float = 0.01, mem: int = 1) -> Launch:
    spec = _spec(crc32(task.encode()) % JOBS, command, cpus, mem)
    return Launch(
        task=task, job=f"bench/devel/{spec.name}", node=node, agent=agent, epoch=1, instance=0, attempt=1, spec=spec
    )  # fmt: skip


# --- on a cluster ------------------------------------------------------------------------------------------------


def our_rate(master: str, tasks: int, turn: int = 0) -> float:
    """Launches a second of our backend: from the first ACCEPT to the last task that runs."""
    with tempfile.TemporaryDirectory(prefix="priority-bench-") as folder:
        store = open_store(f"sqlite:///{Path(folder) / 'priority.db'}")
        store.upgrade()
        backend = MesosBackend(master, store, role=ROLE, failover_s=0.0)
        node: list[NodeSeen] = []
        running: set[str] = set()
        changed = threading.Condition()

        def take(delivery: Delivery) -> None:
            backend.acknowledge(delivery)
            with changed:
                node.extend(one for one in delivery.reports if isinstance(one, NodeSeen))
                seen = (one for one in delivery.reports if isinstance(one, TaskSeen))
                running.update(one.task for one in seen if one.kind == "started")
                changed.notify_all()

        thread = threading.Thread(target=backend.listen, args=(take,), daemon=True)
        thread.start()
        try:
            _await(changed, lambda: bool(node), "no agent has offered anything")
            time.sleep(1.0)  # for the rest of a round of offers
            began = time.perf_counter()
            seen = node[-1]
            backend.launch([_launch(f"ours-{turn}-{number}", seen.node.name, seen.agent) for number in range(tasks)])
            _await(changed, lambda: len(running) >= tasks, "not all tasks have begun")
            return tasks / (time.perf_counter() - began)
        finally:
            backend.close()
            thread.join(10)
            store.close()


def _await(changed: threading.Condition, wanted: Callable[[], bool], otherwise: str) -> None:
    with changed:
        if not changed.wait_for(wanted, TIMEOUT_S):
            raise Unavailable(f"{otherwise} within {TIMEOUT_S:g} s")


def our_preemptions(master: str, cluster: Operations) -> list[float]:
    """Milliseconds from a prod submission to its task running, where a devel task has to go for it."""
    settings = {"PRIORITY_BACKEND": "mesos", "PRIORITY_MESOS_MASTER": master, "PRIORITY_MESOS_ROLE": ROLE}
    found = []
    with world(cluster.nodes, 1, settings=settings) as service:
        client, fill = service.client, FILL * cluster.nodes
        spec = service.spec("devel", "devel", "fill", STAYS, cluster.quarter, instances=fill)
        devel = client.submit(spec)["uid"]
        for turn in range(REPEATS):
            wait_for(lambda: service.running(devel) == fill)
            began = time.perf_counter()
            prod = client.submit(service.spec("physics", "prod", f"now-{turn}", STAYS, cluster.quarter))["uid"]
            wait_for(lambda uid=prod: service.running(uid) == 1)  # type: ignore[misc]
            found.append((time.perf_counter() - began) * 1000)
            client.kill(prod)
    return found


class Bare:
    """A framework that does nothing but what is asked of it."""

    def __init__(self, master: str) -> None:
        self._url = master.rstrip("/") + "/api/v1/scheduler"
        self._client = httpx.Client(timeout=httpx.Timeout(TIMEOUT_S), trust_env=False)
        self._framework: Any = None
        self._headers: dict[str, str] = {}
        self.offers: list[dict[str, Any]] = []
        """Not used yet."""
        self.agent: str | None = None
        """On which all tasks are."""

    def events(self) -> Generator[dict[str, Any]]:
        """Subscribe; updates are acknowledged, offers kept."""
        info = calls.framework(user="root", role=ROLE, principal=None, failover_s=0.0, id=None, host="")
        body = {"type": "SUBSCRIBE", "subscribe": {"framework_info": info}}
        with (
            httpx.Client(timeout=httpx.Timeout(TIMEOUT_S), trust_env=False) as client,
            client.stream("POST", self._url, json=body, headers={"Accept": "application/json"}) as answer,
        ):
            answer.raise_for_status()
            self._headers = {"Mesos-Stream-Id": answer.headers["Mesos-Stream-Id"]}
            for event in _events(answer):
                if event["type"] == "SUBSCRIBED":
                    self._framework = event["subscribed"]["framework_id"]
                elif event["type"] == "OFFERS":
                    self.offers += event["offers"]["offers"]
                elif event["type"] == "UPDATE" and "uuid" in event["update"]["status"]:
                    status = event["update"]["status"]
                    self.send(
                        calls.acknowledge(status["task_id"]["value"], status["agent_id"]["value"], status["uuid"])
                    )
                yield event
        raise Unavailable("the Mesos master ended the bare loop")

    def send(self, call: dict[str, Any]) -> None:
        """Any call."""
        call.pop(calls.AGENT, None)
        self._client.post(self._url, json={**call, "framework_id": self._framework}, headers=self._headers)

    def accept(self, names: list[str], command: str, cpus: float, mem: int) -> None:
        """These tasks, on all that is offered of the agent that the first were on."""
        agent = self.agent = self.agent or str(self.offers[0]["agent_id"]["value"])
        mine = [one["id"]["value"] for one in self.offers if one["agent_id"]["value"] == agent]
        self.offers = []
        infos = []
        for name in names:
            launch = _launch(name, "", agent, command=command, cpus=cpus, mem=mem)
            pieces = [
                Piece(what, amount, {"name": what, "type": "SCALAR", "allocation_info": {"role": ROLE}})
                for what, amount in launch.spec.resources.items()
            ]
            infos.append(calls.task_info(launch, agent, pieces))
        self.send(calls.accept(agent, mine, [calls.launch_operation(infos)], 0.0))

    def offered(self, name: str) -> float:
        """So much of a resource, on the agent that tasks are on."""
        mine = (one for offer in self.offers if offer["agent_id"]["value"] == self.agent for one in offer["resources"])
        return sum(float(one["scalar"]["value"]) for one in mine if one["name"] == name)

    def close(self) -> None:
        """Let go of the connection for calls."""
        self._client.close()


def _became(event: dict[str, Any], state: str) -> str | None:
    """The task of which an update says this."""
    status = event["update"]["status"] if event["type"] == "UPDATE" else {}
    return str(status["task_id"]["value"]) if status.get("state") == state else None


def bare_rate(master: str, tasks: int, turn: int = 0) -> float:
    """Launches a second of a loop that does nothing else, with the same tasks on one agent."""
    bare = Bare(master)
    running: set[str] = set()
    began = 0.0
    with closing(bare), closing(bare.events()) as events:
        for event in events:
            if bare.offers and not began:
                began = time.perf_counter()
                bare.accept([f"bare-{turn}-{number}" for number in range(tasks)], "true", 0.01, 1)
            running |= {_became(event, "TASK_RUNNING") or ""} - {""}
            if len(running) >= tasks:
                break
    return tasks / (time.perf_counter() - began)


def bare_relaunches(master: str, cpus: float) -> list[float]:
    """Milliseconds from the KILL of one of four tasks that fill an agent to another one running in its room."""
    bare = Bare(master)
    running: set[str] = set()
    found: list[float] = []
    began, asked = 0.0, False
    with closing(bare), closing(bare.events()) as events:
        for event in events:
            name = _became(event, "TASK_RUNNING")
            running -= {_became(event, "TASK_KILLED"), _became(event, "TASK_FAILED")}
            if name is not None:
                running.add(name)
            if bare.agent is None and bare.offers:
                bare.accept([f"bare-{number}" for number in range(FILL)], STAYS, cpus, 0)
            elif name is not None and len(running) == FILL:
                if began:
                    found.append((time.perf_counter() - began) * 1000)
                if len(found) == REPEATS:
                    break
                began, asked = time.perf_counter(), False
                bare.send(calls.kill(min(running), None, 1.0))
            elif began and not asked and len(running) < FILL and bare.offered("cpus") >= cpus:
                asked = True
                bare.accept([f"again-{len(found)}"], STAYS, cpus, 0)
    return found


def _events(answer: httpx.Response) -> Iterator[dict[str, Any]]:
    records = Records()
    for data in answer.iter_raw():
        for record in records.feed(data):
            yield json.loads(record)
