"""Everything dies at random while tasks run; each instance still ends, and never runs twice at once.

The scheduler here is as small as one can be that is correct: it tells a task again until it is seen, and makes a new
attempt only when the former one is proved not to run. The witnesses are the tasks: each takes a lock of its
instance, and writes down its id, its begin and its end.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cluster import Cluster, kill

from priority.orders import Launch, NodeGone, NodeSeen, TaskSeen
from priority.queue.embedded import serve

NODES = ("n1", "n2", "n3")
INSTANCES = 120
CHAOS_S = 12.0
WITNESS = (
    "exec 9>>{locks}/$PRIORITY_INSTANCE; flock -n 9 || echo VIOLATION $PRIORITY_TASK_ID >> {log}; "
    "echo begin $PRIORITY_TASK_ID >> {log}; sleep 0.{tenths}; echo end $PRIORITY_TASK_ID >> {log}"
)


@dataclass
class Instance:
    number: int
    attempt: int = 0
    launch: Launch | None = None
    sent_s: float = 0.0
    done: bool = False


class Scheduler:
    def __init__(self, cluster: Cluster, rng: random.Random, folder: Path) -> None:
        self.cluster = cluster
        self.rng = rng
        self.log = folder / "witness"
        self.locks = folder / "locks"
        self.locks.mkdir()
        self.log.touch()
        self.instances = [Instance(number) for number in range(INSTANCES)]
        self.up: dict[str, str] = {}
        self.read = 0

    def turn(self) -> bool:
        """One round; True when every instance has ended by itself."""
        reports = self.cluster.heard[self.read :]
        self.read += len(reports)
        for report in reports:
            self._heed(report)
        now = time.monotonic()
        due: list[Launch] = []
        for one in self.instances:
            if not one.done and (one.launch is None or now > one.sent_s + 1.0) and self._place(one):
                one.sent_s = now
                due.append(one.launch)  # type: ignore[arg-type]
        if due:
            self.cluster.backend.launch(due)
        return all(one.done for one in self.instances)

    def _place(self, one: Instance) -> bool:
        if one.launch is None:
            if not self.up or sum(1 for other in self.instances if other.launch and not other.done) >= 30:
                return False
            node = self.rng.choice(sorted(self.up))
            one.attempt += 1
            command = WITNESS.format(locks=self.locks, log=self.log, tenths=self.rng.randrange(1, 6))
            made = self.cluster.make(command, node, task=f"job-{one.number}-{one.attempt}")
            one.launch = Launch(
                task=made.task,
                job=made.job,
                node=node,
                agent=self.up[node],
                epoch=1,
                instance=one.number,
                attempt=one.attempt,
                spec=made.spec,
            )
        return True

    def _heed(self, report: object) -> None:
        if isinstance(report, NodeSeen):
            self.up[report.node.name] = report.agent
            for one in self._on(report.node.name):
                if one.launch.agent != report.agent and one.launch.task not in report.tasks:
                    one.launch = None
        elif isinstance(report, NodeGone):
            self.up.pop(report.node, None)
            for one in self._on(report.node):
                one.launch = None
        elif isinstance(report, TaskSeen) and report.kind != "started":
            for one in self.instances:
                if one.launch is not None and one.launch.task == report.task:
                    if report.kind == "ended" and report.exit_code == 0 and report.cause is None:
                        one.done = True
                    elif report.kind == "ended" or report.cause.code != "epoch":  # type: ignore[union-attr]
                        one.launch = None

    def _on(self, node: str) -> list[Instance]:
        return [one for one in self.instances if one.launch is not None and one.launch.node == node and not one.done]


@pytest.mark.chaos
@pytest.mark.parametrize("seed", [1, 2])
def test_everything_dies_at_random(make_cluster: Callable[..., Cluster], tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    with serve(tmp_path / "redis") as server:
        cluster = make_cluster(server.url, silent_s=0.5, lease_s=1.5, lease_margin_s=0.7)
        agents = {name: cluster.agent(name) for name in NODES}
        scheduler = Scheduler(cluster, rng, tmp_path)
        stopped: list[tuple[float, int]] = []

        def fault() -> None:
            name = rng.choice(NODES)
            agent = agents[name]
            what = rng.choice(["agent", "agent", "warden", "redis", "flush", "stop", "stop"])
            if what == "warden" and (agent.folder / "warden.lock").exists():
                kill(agent.warden())
            elif what == "agent":
                agent.process.send_signal(signal.SIGCONT)
                agent.end(signal.SIGKILL)
                agents[name] = cluster.agent(name)
            elif what == "redis":
                server.kill()
                server.start()
            elif what == "flush":
                from priority.wire.connection import connect

                client = connect(server.url)
                client.flushall()
                client.close()
            elif what == "stop":
                kill(agent.process.pid, signal.SIGSTOP)
                stopped.append((time.monotonic() + rng.uniform(0.2, 4.0), agent.process.pid))

        end = time.monotonic() + CHAOS_S
        next_fault = time.monotonic() + 1.0
        deadline = end + 60.0
        while not scheduler.turn() or time.monotonic() < end:
            now = time.monotonic()
            if now < end and now > next_fault:
                fault()
                next_fault = now + rng.uniform(0.3, 1.0)
            for due, pid in list(stopped):
                if now > due or now > end:
                    stopped.remove((due, pid))
                    kill(pid, signal.SIGCONT)
            if now > end:
                for name, agent in agents.items():
                    if agent.process.poll() is not None:
                        agents[name] = cluster.agent(name)
            assert now < deadline, f"seed {seed}: {[one for one in scheduler.instances if not one.done][:3]}"
            time.sleep(0.02)  # the scheduler's own pace
    lines = scheduler.log.read_text().split("\n")[:-1]
    begun = [line for line in lines if line.startswith("begin ")]
    assert not [line for line in lines if line.startswith("VIOLATION")], f"seed {seed}"
    assert len(begun) == len(set(begun)), f"seed {seed}: a task ran twice"
    done = {f"job-{one.number}-{one.attempt}" for one in scheduler.instances}
    assert {line.removeprefix("end ") for line in lines if line.startswith("end ")} >= done, f"seed {seed}"
