"""What goes wrong around a framework on a real Mesos: other frameworks, dead masters and agents, and a broken line."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from cluster_of_mesos import MesosCluster
from real import Mesos

from priority.backend.mesos import MesosBackend
from priority.backend.mesos_known import Times
from priority.orders import NodeSeen, NodeSilent, Stop, TaskSeen
from priority.recordio import Records

pytestmark = [pytest.mark.mesos, pytest.mark.timeout(250)]

STAYS = "sleep 1000"
MESOS = {
    "separate": True,
    "resources": "cpus:4;mem:1024;disk:0;ports:[]",
    "agent": {"hostname": "n1", "recovery_timeout": "60secs", "executor_shutdown_grace_period": "1secs"},
}
CALM = {"silent_s": 60.0, "lease_s": 3600.0, "lease_margin_s": 1.0}


class Greedy:
    """A second framework that takes every offer it gets, all of it, and gives nothing back."""

    def __init__(self, mesos: Mesos) -> None:
        self._url = mesos.url + "/api/v1/scheduler"
        self._client = httpx.Client(timeout=60, trust_env=False)
        info = {"user": "root", "name": "greedy", "roles": ["greedy"], "capabilities": [{"type": "MULTI_ROLE"}]}
        body = {"type": "SUBSCRIBE", "subscribe": {"framework_info": info}}
        self._context = self._client.stream("POST", self._url, json=body, headers={"Accept": "application/json"})
        self._answer = self._context.__enter__()
        self.taken: list[dict[str, Any]] = []
        self.subscribed = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        assert self.subscribed.wait(30)

    def _read(self) -> None:
        records = Records()
        with contextlib.suppress(httpx.HTTPError, httpx.StreamError, OSError):
            for data in self._answer.iter_raw():
                for record in records.feed(data):
                    event = orjson.loads(record)
                    if event["type"] == "SUBSCRIBED":
                        self._id = event["subscribed"]["framework_id"]
                        self.subscribed.set()
                    elif event["type"] == "OFFERS":
                        for offer in event["offers"]["offers"]:
                            self._take(offer)

    def _take(self, offer: dict[str, Any]) -> None:
        """A task on all of it."""
        self.taken.append(offer)
        task = {
            "name": "greedy", "task_id": {"value": f"greedy-{len(self.taken)}"}, "agent_id": offer["agent_id"],
            "resources": offer["resources"], "command": {"value": STAYS},
        }  # fmt: skip
        operation = {"type": "LAUNCH", "launch": {"task_infos": [task]}}
        body = {
            "type": "ACCEPT", "framework_id": self._id,
            "accept": {"offer_ids": [offer["id"]], "operations": [operation], "filters": {"refuse_seconds": 0}},
        }  # fmt: skip
        stream = self._answer.headers["Mesos-Stream-Id"]
        httpx.post(self._url, json=body, headers={"Mesos-Stream-Id": stream}, timeout=30)

    def close(self) -> None:
        network = self._answer.extensions["network_stream"].get_extra_info("socket")
        with contextlib.suppress(OSError):
            network.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._client.close()


class Lines(MesosCluster):
    """Through a line of one's own, with times of one's own."""

    def __init__(self, mesos: Mesos, state: Path, url: str = "", **options: Any) -> None:
        self._url, self._options = url or mesos.url, options
        super().__init__(mesos, state, **CALM)

    def fresh(self) -> MesosBackend:
        return MesosBackend(self._url, self._store, role="contract", failover_s=100.0, **self._options)


@pytest.fixture
def join(mesos: Mesos, tmp_path: Path) -> Iterator[Callable[..., Lines]]:
    made: list[Lines] = []

    def make(on: Mesos = mesos, **options: Any) -> Lines:
        made.append(Lines(on, tmp_path, **options))
        made[-1].ready()
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def greedy(mesos: Mesos) -> Iterator[Callable[..., Greedy]]:
    made: list[Greedy] = []

    def make(on: Mesos = mesos) -> Greedy:
        made.append(Greedy(on))
        return made[-1]

    yield make
    for one in made:
        one.close()


def full(cluster: Lines) -> list[str]:
    """Four tasks of one cpu, all that the agent has."""
    tasks = [cluster.launch(STAYS) for _ in range(4)]
    for task in tasks:
        cluster.seen(task, "started")
    return tasks


def test_a_victims_room_reaches_the_preemptor_whoever_else_wants_it(
    join: Callable[..., Lines], greedy: Callable[..., Greedy]
) -> None:
    cluster = join()
    first, second, *_ = full(cluster)
    taker = greedy()
    cluster.backend.stop([Stop(task=one, node="n1", epoch=1, signal="TERM", notice_s=1) for one in (first, second)])
    cluster.ended(first)
    cluster.ended(second)
    preemptor = cluster.launch(STAYS, resources={"cpus": 2})
    cluster.seen(preemptor, "started")
    assert not [offer for offer in taker.taken if any(one["name"] == "cpus" for one in offer["resources"])]


@pytest.mark.slow
def test_room_that_another_framework_took_is_given_up_with_a_cause(
    make_mesos: Callable[..., Mesos],
    join: Callable[..., Lines],
    greedy: Callable[..., Greedy],
    eventually: Callable[..., Any],
) -> None:
    """Where nothing is reserved; on a cluster of its own, since what was reserved stays so."""
    mesos = make_mesos(resources="cpus:4;mem:1024;disk:0;ports:[]", agent={"hostname": "n1"})
    cluster = join(mesos, reserve=False, times=Times(room_s=3.0, silent_s=60.0))
    first, *_ = full(cluster)
    taker = greedy(mesos)
    cluster.stop(first, notice_s=0)
    cluster.ended(first)
    eventually(lambda: any(one["name"] == "cpus" for offer in taker.taken for one in offer["resources"]), "it to take")
    preemptor = cluster.launch(STAYS)
    assert cluster.seen(preemptor, "refused").cause.code == "no-offer"
    cluster.wait(lambda one: isinstance(one, NodeSeen) and one.node.capacity["cpus"] == 3000)


def test_a_master_that_dies_and_comes_back_costs_no_task(mesos: Mesos, join: Callable[..., Lines]) -> None:
    cluster = join()
    task = cluster.run(STAYS)
    mesos.kill("master")
    mesos.restart()
    after = cluster.launch("exit 3")  # while there is none
    assert cluster.ended(after).exit_code == 3
    assert cluster.kinds(task) == {"started"}
    cluster.stop(task, notice_s=1)
    assert cluster.ended(task).stopped


@pytest.mark.slow
def test_an_agent_that_is_cut_off_proves_nothing(mesos: Mesos, join: Callable[..., Lines]) -> None:
    """The master holds it unreachable after some seconds here; its task may run, and does."""
    cluster = join(times=Times(silent_s=1.0, gone_s=2.0))
    task = cluster.run(STAYS)
    cluster.cut()
    try:
        cluster.wait(lambda one: isinstance(one, NodeSilent) and one.node == "n1")
        since = len(cluster.heard)
        cluster.backend.inquire(["n1"])
        assert not cluster.backend._closed.wait(5)  # longer than a node without tasks would be kept
        assert cluster.kinds(task) == {"started"}
        assert not [one for one in cluster.heard[since:] if not isinstance(one, NodeSilent | TaskSeen)]
    finally:
        cluster.heal()
    assert cluster.node_seen(since=since).tasks == {task}
    cluster.stop(task, notice_s=1)
    assert cluster.ended(task).stopped


@pytest.mark.slow
def test_its_job_may_say_that_it_waits_for_no_proof(mesos: Mesos, join: Callable[..., Lines]) -> None:
    cluster = join()
    task = cluster.run(STAYS, mesos={"replace_after": 0.5})
    cluster.cut()
    try:
        assert cluster.seen(task, "refused").cause.code == "unreachable"
        since = len(cluster.heard)
    finally:
        cluster.heal()
    cluster.seen(task, "started", since)  # it is found again, for the service to stop it
    cluster.stop(task, notice_s=1)
    assert cluster.ended(task).stopped


# --- a line that is cut, or goes silent -------------------------------------------------------------------------


class Proxy:
    """Between us and the master: it can be slow, go silent without closing anything, or drop every connection."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.silent = False
        self.late_s = 0.0
        """Each piece of what is said, either way, is late by up to so long."""
        self._chance = random.Random(4)
        self.connections = 0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                one, _ = self._listener.accept()
                self.connections += 1
                other = socket.create_connection(self._target)
                self._pairs.append((one, other))
                for pair in ((one, other), (other, one)):
                    threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                while self.silent:
                    time.sleep(0.02)
                if self.late_s:
                    time.sleep(self._chance.uniform(0, self.late_s))
                target.sendall(data)
        self._end(source, target)

    @staticmethod
    def _end(*sockets: socket.socket) -> None:
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def drop(self) -> None:
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            self._end(*pair)

    def close(self) -> None:
        self._listener.close()
        self.silent = False
        self.drop()


@pytest.fixture
def proxy(mesos: Mesos) -> Iterator[Proxy]:
    made = Proxy(mesos.port)
    yield made
    made.close()


@pytest.mark.parametrize("fault", ["drops", pytest.param("silent", marks=pytest.mark.slow)])
def test_a_broken_line_is_healed_and_nothing_runs_twice(
    proxy: Proxy, join: Callable[..., Lines], tmp_path: Path, eventually: Callable[..., Any], fault: str
) -> None:
    cluster = join(url=proxy.url, silence_s=18.0)
    witness = tmp_path / "witness"
    command = f"echo $PRIORITY_TASK_ID >> {witness}; {STAYS}"
    tasks = [cluster.run(command)]
    before = proxy.connections
    proxy.silent = fault == "silent"
    tasks.append(cluster.launch(command))
    if fault == "drops":
        proxy.drop()
    else:
        deadline = time.monotonic() + 60
        while proxy.connections < before + 2 and time.monotonic() < deadline:  # the call's and the next subscription's
            time.sleep(0.05)
        proxy.silent = False
    tasks.append(cluster.launch(command))
    for task in tasks:
        cluster.seen(task, "started")
    eventually(lambda: set(witness.read_text().split()) == set(tasks), "each to have written its line", 60.0)
    for task in tasks:
        cluster.stop(task, notice_s=1)
        assert cluster.ended(task).stopped
    assert sorted(witness.read_text().split()) == sorted(tasks)


def test_a_line_that_is_slow_either_way_loses_and_doubles_nothing(
    proxy: Proxy,
    join: Callable[..., Lines],
    tmp_path: Path,
    eventually: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Longer than a launch takes, and never the same: what was said first may come last."""
    cluster = join(url=proxy.url)
    witness = tmp_path / "witness"
    proxy.late_s = 1.0
    tasks = []
    for _ in range(3):
        mine = [cluster.launch(f"echo $PRIORITY_TASK_ID >> {witness}; {STAYS}") for _ in range(4)]
        cluster.stop(mine[0], notice_s=0)  # which may be there before the launch is
        for task in mine[1:]:
            cluster.seen(task, "started")
        eventually(lambda mine=mine: set(mine[1:]) <= set(witness.read_text().split()), "each to have written", 60.0)
        for task in mine[1:]:
            cluster.stop(task, notice_s=1)
        for task in mine[1:]:
            assert cluster.ended(task).stopped
        cluster.wait(lambda one, task=mine[0]: isinstance(one, TaskSeen) and one.task == task and one.kind != "started")
        tasks += mine
    lines = witness.read_text().split()
    assert len(lines) == len(set(lines)) and set(lines) <= set(tasks)
    assert not [one for one in caplog.records if "no contact" in one.message], "nobody gave the line up"
