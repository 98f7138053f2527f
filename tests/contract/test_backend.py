"""What every backend promises: the same tests over real agents (and real processes) and the simulation."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "agent"))

from cluster import WAIT_S, Cluster

from priority.backend.local import LocalBackend
from priority.backend.memory import MemoryBackend, Play
from priority.errors import NotFound, Unavailable
from priority.node import Node
from priority.orders import Delivery, Launch, LogRequest, NodeGone, NodeSeen, NodeSilent, TaskSeen

TIMES = {"silent_s": 0.5, "lease_s": 3600.0, "lease_margin_s": 1.0}
SHORT = {**TIMES, "lease_s": 3.0}
"""For what is gone in the end. Elsewhere a busy machine, which stops an agent for a while, must not end its tasks."""

FOREVER = "echo out; echo ready; while :; do sleep 0.05; done"
DEAF = "trap '' TERM; " + FOREVER
THREE = "echo out; exit 3"
PLAYS = {
    FOREVER: Play(),
    DEAF: Play(obeys_s=None),
    THREE: Play(run_s=0.0, exit_code=3),
}


class HandClock:
    """Microseconds that pass only when they are told to."""

    def __init__(self) -> None:
        self._now_us = 0

    def now_us(self) -> int:
        return self._now_us

    def forward(self, seconds: float) -> None:
        self._now_us += round(seconds * 1e6)


class MemoryCluster(Cluster):
    """The same scheduler's view of simulated nodes; time passes while it is waited."""

    def __init__(self, times: dict[str, float]) -> None:
        self.clock = HandClock()
        self.simulation = MemoryBackend(self.clock, play=self._play, **times)
        self._ticking = threading.Event()
        super().__init__("", Path())
        self._ticker = threading.Thread(target=self._tick)
        self._ticker.start()

    @staticmethod
    def _play(launch: Launch) -> Play:
        return PLAYS[str(launch.spec.command)]

    def fresh(self) -> MemoryBackend:
        self.simulation._line._closed = False
        return self.simulation

    def _listen(self) -> None:
        self.backend: Any = self.fresh()
        self._thread = threading.Thread(target=self.backend.listen, args=(self._take,))
        self._thread.start()

    def _tick(self) -> None:
        while not self._ticking.wait(0.001):
            self.clock.forward(0.05)
            self.simulation.advance()

    def ready(self, name: str = "n1", **_options: Any) -> Any:
        self.simulation.start_node(Node(name, {"cpus": 100_000}, {"rack": "r1"}))
        self.node_seen(name)

    def out(self, task: str) -> None:
        self.simulation.write(task, b"out\nready\n")

    def restart_agent(self, name: str = "n1") -> None:
        self.simulation.restart_agent(name)

    def cut(self, name: str = "n1") -> None:
        self.simulation.cut(name)

    def heal(self, name: str = "n1") -> None:
        self.simulation.heal(name)

    def close(self) -> None:
        self._ticking.set()
        self._ticker.join(WAIT_S)
        self.backend.close()
        self._thread.join(WAIT_S)


class LocalCluster(Cluster):
    def out(self, task: str) -> None:
        """It is there when the last line is."""
        while not self.read(task, 0, 100, 10).data.endswith(b"ready\n"):
            pass

    def read(self, task: str, offset: int, limit: int, wait_s: float) -> Any:
        return self.backend.logs(
            LogRequest(node="n1", task=task, stream="stdout", offset=offset, limit=limit, wait_s=wait_s)
        )

    def fresh(self) -> LocalBackend:
        return LocalBackend(self.url, **self.times)

    def restart_agent(self) -> None:
        self._agents[-1].end(SIGKILL)
        self.agent()

    def cut(self) -> None:
        self._agents[-1].process.send_signal(SIGSTOP)

    def heal(self) -> None:
        self._agents[-1].process.send_signal(SIGCONT)


@pytest.fixture(params=["memory", "local"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    yield from running(TIMES, request, tmp_path)


@pytest.fixture(params=["memory", "local"])
def hasty_cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """One that gives a node up after some seconds."""
    yield from running(SHORT, request, tmp_path)


def running(times: dict[str, float], request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    made: Any = MemoryCluster(times) if request.param == "memory" else None
    if made is None:
        made = LocalCluster(request.getfixturevalue("valkey"), tmp_path, **times)
    try:
        made.ready()
        yield made
    finally:
        made.close()


def of(task: str, kind: str | None = None) -> Callable[[Any], bool]:
    return lambda one: isinstance(one, TaskSeen) and one.task == task and kind in (None, one.kind)


def test_a_node_says_what_it_is(cluster: Any) -> None:
    seen = cluster.node_seen()
    assert (seen.node.name, seen.node.capacity, seen.node.attributes) == ("n1", {"cpus": 100_000}, {"rack": "r1"})
    assert seen.agent and not seen.tasks


def test_a_task_starts_and_ends(cluster: Any) -> None:
    task = cluster.launch(THREE)
    ended = cluster.ended(task)
    assert (ended.exit_code, ended.signal, ended.stopped, ended.cause) == (3, None, False, None)
    assert cluster.kinds(task) == {"started", "ended"}


def test_a_repeated_launch_changes_nothing(cluster: Any) -> None:
    launch = cluster.make(FOREVER)
    cluster.backend.launch([launch, launch])
    cluster.seen(launch.task, "started")
    since = len(cluster.heard)
    cluster.backend.launch([launch])
    again = cluster.wait(of(launch.task), since)
    assert again.kind == "started"
    cluster.stop(launch.task, notice_s=0)
    cluster.ended(launch.task)


@pytest.mark.parametrize("acknowledged", [True, False])
def test_a_launch_after_the_end_never_starts(cluster: Any, acknowledged: bool) -> None:
    cluster.acknowledge = acknowledged
    launch = cluster.make(THREE)
    cluster.backend.launch([launch])
    cluster.ended(launch.task)
    since = len(cluster.heard)
    cluster.backend.launch([launch])
    cluster.wait(of(launch.task), since)
    cluster.ended(cluster.launch(THREE))
    kinds = [one.kind for one in cluster.heard[since:] if of(launch.task)(one)]
    first = [one for one in cluster.heard if of(launch.task, "started")(one)]
    assert len({one.at_us for one in first}) == 1, kinds


def test_another_incarnation_refuses(cluster: Any) -> None:
    launch = cluster.make(FOREVER)
    since = len(cluster.heard)
    cluster.restart_agent()
    cluster.wait(lambda one: isinstance(one, NodeSeen) and one.agent != launch.agent, since)
    cluster.backend.launch([launch])
    assert cluster.seen(launch.task, "refused").cause.code == "incarnation"
    assert "started" not in cluster.kinds(launch.task)


def test_a_lower_epoch_is_not_obeyed(cluster: Any) -> None:
    cluster.epoch = 2
    task = cluster.run(FOREVER)
    cluster.epoch = 1
    launch = cluster.make(FOREVER)
    cluster.stop(task, notice_s=0)
    cluster.backend.launch([launch])
    assert cluster.seen(launch.task, "refused").cause.code == "epoch"
    cluster.epoch = 2
    cluster.ended(cluster.launch(THREE))
    assert cluster.kinds(task) == {"started"}


def test_a_stop_gives_notice(cluster: Any) -> None:
    task = cluster.run(FOREVER)
    cluster.stop(task, notice_s=5)
    ended = cluster.ended(task)
    assert (ended.signal, ended.stopped) == (SIGTERM, True)


def test_and_then_kills(cluster: Any) -> None:
    task = cluster.run(DEAF)
    cluster.out(task)
    cluster.stop(task, notice_s=0.3)
    ended = cluster.ended(task)
    assert (ended.signal, ended.stopped) == (SIGKILL, True)


def test_a_repeated_stop_changes_nothing(cluster: Any) -> None:
    task = cluster.run(DEAF)
    cluster.out(task)
    for _ in range(3):
        cluster.stop(task, notice_s=0.3)
    ended = cluster.ended(task)
    since = len(cluster.heard)
    cluster.stop(task, notice_s=0)
    cluster.wait(of(task), since)
    assert {one for one in cluster.heard if of(task, "ended")(one)} == {ended}


def test_a_stop_of_the_unknown_is_a_proof(cluster: Any) -> None:
    launch = cluster.make(FOREVER)
    cluster.stop(launch.task)
    assert cluster.seen(launch.task, "refused").cause.code == "unknown"
    since = len(cluster.heard)
    cluster.backend.launch([launch])
    cluster.seen(launch.task, "refused", since)
    assert "started" not in cluster.kinds(launch.task)


def test_a_node_names_what_runs_and_what_is_not_acknowledged(cluster: Any) -> None:
    done = cluster.launch(THREE)
    cluster.ended(done)
    cluster.acknowledge = False
    runs, ended = cluster.run(FOREVER), cluster.launch(THREE)
    cluster.ended(ended)
    since = len(cluster.heard)
    cluster.backend.inquire(["n1"])
    assert cluster.node_seen(since=since).tasks == {runs, ended}
    assert cluster.ended(ended, since).exit_code == 3
    cluster.seen(runs, "started", since)


def test_what_was_not_acknowledged_comes_again(cluster: Any) -> None:
    cluster.acknowledge = False
    task = cluster.launch(THREE)
    cluster.ended(task)
    cluster.restart_scheduler()
    cluster.node_seen()
    assert cluster.ended(task).exit_code == 3


def test_an_agent_takes_its_tasks_over(cluster: Any) -> None:
    task = cluster.run(FOREVER)
    before = cluster.incarnation()
    cluster.restart_agent()
    taken = cluster.wait(lambda one: isinstance(one, NodeSeen) and one.agent != before)
    assert taken.tasks == {task}
    cluster.stop(task)
    assert cluster.ended(task).stopped


def test_silent_then_gone_then_back_with_the_proof(hasty_cluster: Any) -> None:
    cluster = hasty_cluster
    task = cluster.run(FOREVER)
    agent = cluster.incarnation()
    cluster.cut()
    cluster.wait(lambda one: isinstance(one, NodeSilent) and one.node == "n1")
    cluster.wait(lambda one: isinstance(one, NodeGone) and one.node == "n1")
    assert "n1" not in cluster.backend.heard()
    since = len(cluster.heard)
    cluster.heal()
    cluster.wait(lambda one: isinstance(one, NodeSeen) and one.agent != agent, since)
    assert cluster.ended(task).cause.code == "lease"


def test_each_beat_says_when_it_was(cluster: Any) -> None:
    seen = cluster.node_seen().at_us
    deadline = time.monotonic() + WAIT_S
    while not cluster.backend.heard().get("n1", 0) > seen and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    assert cluster.backend.heard()["n1"] > seen


def test_a_short_silence_ends_nothing(cluster: Any) -> None:
    task = cluster.run(FOREVER)
    cluster.cut()
    cluster.wait(lambda one: isinstance(one, NodeSilent))
    since = len(cluster.heard)
    cluster.heal()
    assert cluster.node_seen(since=since).tasks == {task}
    assert cluster.kinds(task) == {"started"}


def test_a_node_that_never_comes_is_gone(hasty_cluster: Any) -> None:
    hasty_cluster.backend.inquire(["n7"])
    hasty_cluster.wait(lambda one: isinstance(one, NodeSilent) and one.node == "n7")
    hasty_cluster.wait(lambda one: isinstance(one, NodeGone) and one.node == "n7")


class TestOutput:
    def read(self, cluster: Any, task: str, offset: int, limit: int = 100, node: str = "n1") -> Any:
        return cluster.backend.logs(
            LogRequest(node=node, task=task, stream="stdout", offset=offset, limit=limit, wait_s=0)
        )

    def test_pieces(self, cluster: Any) -> None:
        task = cluster.run(FOREVER)
        cluster.out(task)
        chunk = self.read(cluster, task, 0, 4)
        assert (chunk.offset, chunk.data, chunk.ended) == (0, b"out\n", False)
        chunk = self.read(cluster, task, 4)
        assert (chunk.offset, chunk.data, chunk.ended) == (4, b"ready\n", False)
        assert self.read(cluster, task, -3).data == b"dy\n"
        chunk = self.read(cluster, task, 1000)
        assert (chunk.offset, chunk.data) == (10, b"")
        cluster.stop(task, notice_s=0)
        cluster.ended(task)
        assert not self.read(cluster, task, 0, 4).ended
        deadline = time.monotonic() + WAIT_S  # the agent hears of the end a moment before or after us
        while not (chunk := self.read(cluster, task, 0)).ended:
            assert time.monotonic() < deadline
        assert chunk.data == b"out\nready\n"

    def test_no_such_task(self, cluster: Any) -> None:
        with pytest.raises(NotFound):
            self.read(cluster, "nothing", 0)

    def test_no_such_node(self, cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("priority.backend.local.LOG_GRACE_S", 0.2)
        with pytest.raises(Unavailable):
            self.read(cluster, "nothing", 0, node="n7")


def test_close_ends_listening(cluster: Any) -> None:
    cluster.backend.close()
    cluster._thread.join(WAIT_S)
    assert not cluster._thread.is_alive()


def test_deliver_may_fail(cluster: Any) -> None:
    """What it raises ends `listen`; the reports come again."""

    def fail(_delivery: Delivery) -> None:
        raise ZeroDivisionError

    task = cluster.make(THREE)
    cluster.backend.close()
    cluster._thread.join(WAIT_S)
    backend = cluster.fresh()
    backend.launch([task])
    with pytest.raises(ZeroDivisionError):
        backend.listen(fail)
    backend.close()
    cluster._listen()
    assert cluster.ended(task.task).exit_code == 3
