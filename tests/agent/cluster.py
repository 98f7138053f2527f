"""Real agents with real wardens and real processes, over a real Valkey."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from priority.backend import proc
from priority.backend.local import LocalBackend
from priority.job import JobSpec
from priority.orders import Delivery, Launch, NodeSeen, Report, Stop, TaskSeen

WAIT_S = 60.0

AGENT = """
import json, sys
from pathlib import Path
from priority.backend import agent
given = json.loads(sys.argv[1])
agent.run(given.pop("name"), given.pop("capacity"), {"rack": "r1"}, given.pop("url"), Path(given.pop("state")), **given)
"""


class AgentProcess:
    """One start of an agent."""

    def __init__(self, url: str, state: Path, name: str, options: dict[str, Any]) -> None:
        given = {"name": name, "capacity": {"cpus": 100_000}, "url": url, "state": str(state), **options}
        self.folder = state / "nodes" / name
        self.process = subprocess.Popen([sys.executable, "-c", AGENT, json.dumps(given)], start_new_session=True)

    def warden(self) -> int:
        """The pid of its warden."""
        return int((self.folder / "warden.lock").read_text())

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(WAIT_S)


class Cluster:
    """A scheduler's view of some nodes. All that is heard is kept in order."""

    def __init__(self, url: str, state: Path, **times: float) -> None:
        self.url = url
        self.state = state
        self.times: dict[str, Any] = {"silent_s": 1.0, "lease_s": 30.0, "lease_margin_s": 1.0, **times}
        self.heard: list[Report] = []
        self.acknowledge = True
        self.epoch = 1
        self._changed = threading.Condition()
        self._agents: list[AgentProcess] = []
        self._next = 0
        self._listen()

    def _listen(self) -> None:
        self.backend = LocalBackend(self.url, **self.times)
        self._thread = threading.Thread(target=self.backend.listen, args=(self._take,))
        self._thread.start()

    def restart_scheduler(self) -> None:
        """Another process takes over: it knows nothing but what it is told."""
        self.backend.close()
        self._thread.join(WAIT_S)
        self.heard = []
        self._listen()

    def _take(self, delivery: Delivery) -> None:
        if self.acknowledge:
            self.backend.acknowledge(delivery)
        with self._changed:
            self.heard += delivery.reports
            self._changed.notify_all()

    # --- nodes ---------------------------------------------------------------------------------------------

    def agent(self, name: str = "n1", **options: Any) -> AgentProcess:
        options = {"heartbeat_s": 0.2, "lease_s": self.times["lease_s"], **options}
        self._agents.append(AgentProcess(self.url, self.state, name, options))
        return self._agents[-1]

    def ready(self, name: str = "n1", **options: Any) -> AgentProcess:
        begin = len(self.heard)
        agent = self.agent(name, **options)
        self.node_seen(name, begin)
        return agent

    def node_seen(self, name: str = "n1", since: int = 0) -> NodeSeen:
        found = self.wait(
            lambda report: isinstance(report, NodeSeen) and report.node.name == name, since, f"node {name} to be seen"
        )
        assert isinstance(found, NodeSeen)
        return found

    def incarnation(self, name: str = "n1") -> str:
        with self._changed:
            return [one for one in self.heard if isinstance(one, NodeSeen) and one.node.name == name][-1].agent

    def sandbox(self, task: str, node: str = "n1") -> Path:
        return self.state / "nodes" / node / "sandboxes" / task

    # --- tasks ---------------------------------------------------------------------------------------------

    def make(self, command: Any, node: str = "n1", task: str | None = None, **spec: Any) -> Launch:
        self._next += 1
        return Launch(
            task=task or f"job-{self._next}-1",
            job="r/prod/x",
            node=node,
            agent=self.incarnation(node),
            epoch=self.epoch,
            instance=self._next,
            attempt=1,
            spec=JobSpec(role="r", tier="prod", name="x", command=command, **spec),
        )

    def launch(self, command: Any, node: str = "n1", **spec: Any) -> str:
        launch = self.make(command, node, **spec)
        self.backend.launch([launch])
        return launch.task

    def run(self, command: Any, node: str = "n1", **spec: Any) -> str:
        """Launched and seen to run."""
        task = self.launch(command, node, **spec)
        self.seen(task, "started")
        return task

    def stop(self, task: str, notice_s: float = 10.0, node: str = "n1", signal: str = "TERM") -> None:
        self.backend.stop([Stop(task=task, node=node, epoch=self.epoch, signal=signal, notice_s=notice_s)])

    def seen(self, task: str, kind: str, since: int = 0) -> TaskSeen:
        found = self.wait(
            lambda report: isinstance(report, TaskSeen) and report.task == task and report.kind == kind,
            since,
            f"{task} {kind}",
        )
        assert isinstance(found, TaskSeen)
        return found

    def ended(self, task: str, since: int = 0) -> TaskSeen:
        return self.seen(task, "ended", since)

    def wait(self, wanted: Callable[[Report], bool], since: int = 0, what: str = "") -> Report:
        deadline = time.monotonic() + WAIT_S
        with self._changed:
            while True:
                for report in self.heard[since:]:
                    if wanted(report):
                        return report
                since = max(since, len(self.heard))
                left = deadline - time.monotonic()
                assert left > 0, f"waited {WAIT_S} s for {what}; heard {self.heard[-5:]}"
                self._changed.wait(left)

    def kinds(self, task: str) -> set[str]:
        with self._changed:
            return {one.kind for one in self.heard if isinstance(one, TaskSeen) and one.task == task}

    # --- the end -------------------------------------------------------------------------------------------

    def close(self) -> None:
        for agent in self._agents:
            if agent.process.poll() is None:
                agent.process.send_signal(signal.SIGCONT)
                agent.end(signal.SIGKILL)
            self._end_warden(agent)
        self.backend.close()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive(), "close did not end the listening thread"

    def _end_warden(self, agent: AgentProcess) -> None:
        try:
            pid = agent.warden()
        except (OSError, ValueError):
            return
        while proc.alive(pid):
            if b"priority.backend.warden" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                return  # another process by now
            for one in proc.below([pid]) - {pid}:
                kill(one)
            if not proc.children(pid):
                kill(pid)
            time.sleep(0.01)


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def lives(pid: int) -> bool:
    return proc.alive(pid)
