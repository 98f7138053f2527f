"""`priority bench mesos`: figures of the Mesos driver, some of them beside a bare loop on the same cluster.

Without a master only what the driver does by itself is measured. With one, so many tasks are launched twice: by a loop
that accepts offers and acknowledges updates and does nothing else, and by our backend.
"""

from __future__ import annotations

import json
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from priority.backend import mesos_tasks as calls
from priority.backend.mesos import MesosBackend
from priority.backend.mesos_driver import Driver
from priority.errors import Unavailable
from priority.face.bench import TIMEOUT_S, Figure, figure
from priority.job import JobSpec
from priority.ports import Delivery, Launch, NodeSeen, TaskSeen
from priority.recordio import Records
from priority.store import open_store

AGENTS, PENDING = 1000, 1000
TASKS = 100
ROLE = "bench"


def run(master: str, tasks: int = TASKS) -> Iterator[Figure]:
    """Every figure, as it is measured."""
    yield from alone()
    if master:
        bare = bare_rate(master, tasks)
        ours = our_rate(master, tasks)
        yield figure("mesos launches, bare loop", f"{tasks} tasks", [bare], "tasks/s")
        yield figure("mesos launches, ours", f"{tasks} tasks", [ours], "tasks/s")
        yield figure("mesos launches, ours over bare", f"{tasks} tasks", [ours / bare], "of it/s", 0.9)


# --- the driver by itself ----------------------------------------------------------------------------------------


def alone() -> Iterator[Figure]:
    """A driver with a thousand agents and as many tasks that wait for their offers."""
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sent: list[float] = []
    driver = Driver(lambda _call: sent.append(time.thread_time()), lambda _report, _ack: None, role=ROLE)
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
    driver = Driver(lambda _call: sent.append(time.thread_time()), lambda _report, _ack: None, role=ROLE)
    driver.subscribed()
    driver.launch([_launch(f"t{number}", "h0", "a0") for number in range(PENDING)])
    event = _offers(0, 0)
    for one in event["offers"]["offers"][0]["resources"]:
        one["scalar"]["value"] = 1e6
    sent.clear()
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


def _launch(task: str, node: str, agent: str) -> Launch:
    spec = JobSpec(role="bench", tier="devel", name="x", command="true", resources={"cpus": 0.01, "mem": 1})
    return Launch(
        task=task, job="bench/devel/x", node=node, agent=agent, epoch=1, instance=0, attempt=1, spec=spec
    )  # fmt: skip


# --- on a cluster ------------------------------------------------------------------------------------------------


def our_rate(master: str, tasks: int) -> float:
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
            backend.launch([_launch(f"ours-{number}", seen.node.name, seen.agent) for number in range(tasks)])
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


def bare_rate(master: str, tasks: int) -> float:
    """Launches a second of a loop that does nothing else, with the same tasks on one agent."""
    url = master.rstrip("/") + "/api/v1/scheduler"
    info = calls.framework(user="root", role=ROLE, principal=None, failover_s=0.0, id=None, host="")
    body = {"type": "SUBSCRIBE", "subscribe": {"framework_info": info}}
    running: set[str] = set()
    began = 0.0
    timeout = httpx.Timeout(TIMEOUT_S)
    with (
        httpx.Client(timeout=timeout, trust_env=False) as client,
        httpx.Client(timeout=timeout, trust_env=False) as other,
        client.stream("POST", url, json=body, headers={"Accept": "application/json"}) as answer,
    ):
        answer.raise_for_status()
        headers = {"Mesos-Stream-Id": answer.headers["Mesos-Stream-Id"]}
        framework: Any = None
        for event in _events(answer):
            if event["type"] == "SUBSCRIBED":
                framework = event["subscribed"]["framework_id"]
            elif event["type"] == "OFFERS" and not began:
                began = time.perf_counter()
                offer = event["offers"]["offers"][0]
                accepted = calls.accept("", [offer["id"]["value"]], [_bare_launch(offer, tasks)], 0.0)
                accepted.pop(calls.AGENT)
                other.post(url, json={**accepted, "framework_id": framework}, headers=headers)
            elif event["type"] == "UPDATE":
                status = event["update"]["status"]
                if status["state"] == "TASK_RUNNING":
                    running.add(status["task_id"]["value"])
                if "uuid" in status:
                    ack = calls.acknowledge(status["task_id"]["value"], status["agent_id"]["value"], status["uuid"])
                    other.post(url, json={**ack, "framework_id": framework}, headers=headers)
                if len(running) >= tasks:
                    return tasks / (time.perf_counter() - began)
    raise Unavailable("the Mesos master ended the bare loop")


def _bare_launch(offer: dict[str, Any], tasks: int) -> dict[str, Any]:
    infos = []
    for number in range(tasks):
        resources = [
            {"name": name, "type": "SCALAR", "scalar": {"value": value}, "allocation_info": {"role": ROLE}}
            for name, value in (("cpus", 0.01), ("mem", 1.0))
        ]
        task = {"name": "x", "task_id": {"value": f"bare-{number}"}, "agent_id": offer["agent_id"]}
        infos.append({**task, "resources": resources, "command": {"value": "true"}})
    return calls.launch_operation(infos)


def _events(answer: httpx.Response) -> Iterator[dict[str, Any]]:
    records = Records()
    for data in answer.iter_raw():
        for record in records.feed(data):
            yield json.loads(record)
