"""`priority bench`: figures that were measured, one JSON object a line.

    {"measure", "size", "value", "unit", "goal", "met", "runs": [...]}

`value` is the median of `runs` unless the measure's name says p95. A goal is a ceiling for a time or a count and a
floor for a rate; without a goal `met` is null.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from priority.errors import PriorityError, Unavailable
from priority.face.client import Client
from priority.service.settings import Settings

TIMEOUT_S = 120.0
RATES = ("/s",)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the bench."""

    measure: str
    size: str
    value: float
    unit: str
    goal: float | None
    met: bool | None
    runs: list[float]

    def plain(self) -> dict[str, Any]:
        """As it is printed."""
        return asdict(self)


def figure(
    measure: str, size: str, runs: Sequence[float], unit: str, goal: float | None = None, *, at: float = 0.5
) -> Figure:
    """The median of the runs (or another quantile, `at`) against its goal."""
    ordered = sorted(runs)
    value = statistics.median(ordered) if at == 0.5 else ordered[min(len(ordered) - 1, int(at * len(ordered)))]
    met = None if goal is None else (value >= goal if unit.endswith(RATES) else value <= goal)
    return Figure(measure, size, round(value, 3), unit, goal, met, [round(run, 3) for run in runs])


class World:
    """A service of its own in a new folder, with as many agents as asked for. Agents only count cpus: the machine need
    not have them.
    """

    def __init__(
        self, agents: int, cpus: int, *, idle: bool = False, settings: Mapping[str, str] | None = None
    ) -> None:
        self.idle = idle
        self.state = Path(tempfile.mkdtemp(prefix="priority-bench-"))
        self.nodes = agents
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PRIORITY_")}
        environment |= {
            "PRIORITY_STATE": str(self.state),
            "PRIORITY_PORT": "0",
            "PRIORITY_AGENTS": str(agents),
            "PRIORITY_AGENT_CPUS": str(cpus),
            "PRIORITY_AGENT_MEM": "1TiB",
            "PRIORITY_AGENT_DISK": "1TiB",
            "PRIORITY_CONFIG": os.devnull,
            **(settings or {}),
        }
        with (self.state / "up.log").open("wb") as log:
            self.service = subprocess.Popen(
                [sys.executable, "-m", "priority", "up"],
                env=environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        self.bell = self.state / "bell"
        os.mkfifo(self.bell)
        # Held open for reading and writing, so that no task waits for a reader.
        self._bell = os.open(self.bell, os.O_RDWR | os.O_NONBLOCK)
        self.client = self._find()
        self.client.apply_roles(ROLES)

    def _find(self) -> Client:
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline and self.service.poll() is None:
            with suppress(PriorityError):
                client = Client.find(Settings(state=self.state, url="", token=""))
                if sum(node["state"] == "up" for node in client.nodes()["items"]) == self.nodes:
                    return client
                client.close()
            time.sleep(0.1)
        raise Unavailable(f"the service did not come up; it says why in {self.state}/up.log")

    def close(self) -> None:
        """End the service and what it ran (`idle`: nothing ever did); on a clean end the folder goes too."""
        with suppress(PriorityError):
            for job in () if self.idle else self.client.all_jobs(state="active"):
                self.client.kill(job["uid"])
            wait_for(lambda: self.idle or not self.client.jobs(state="active")["items"])
        self.client.close()
        self.service.send_signal(signal.SIGTERM)
        if self.service.wait(timeout=TIMEOUT_S) == 0:
            shutil.rmtree(self.state, ignore_errors=True)
        os.close(self._bell)

    def rings(self, count: int) -> list[float]:
        """Wait for so many lines from tasks (each does `echo x > bell`); when each came, by the monotonic clock."""
        came: list[float] = []
        deadline = time.monotonic() + TIMEOUT_S
        while len(came) < count:
            ready, _, _ = select.select([self._bell], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise Unavailable(f"{len(came)} of {count} tasks rang in {TIMEOUT_S} s")
            came += [time.monotonic()] * os.read(self._bell, 65_536).count(b"\n")
        return came

    def spec(self, role: str, tier: str, name: str, command: str, cpus: float = 1, **fields: Any) -> dict[str, Any]:
        """A job; `$BELL` is where its tasks ring."""
        env = {"BELL": str(self.bell)}
        return {
            "role": role,
            "tier": tier,
            "name": name,
            "command": command,
            "resources": {"cpus": cpus},
            "env": env,
            **fields,
        }

    def pid(self, part: str) -> int:
        """The process of one part of the service: the supervisor's child of that name."""
        children = Path(f"/proc/{self.service.pid}/task/{self.service.pid}/children").read_text().split()
        names = {Path(f"/proc/{pid}/comm").read_text().strip(): int(pid) for pid in children}
        return names[f"prio-{part}"[:15]]

    def running(self, uid: str, state: str = "running") -> int:
        """How many of a job's tasks are in a state."""
        return sum(1 for _ in self.client.all_tasks(uid, state=[state]))


ROLES = {
    "physics": {"quota": {"prod": {"cpus": 1_000_000}}},
    "devel": {},
}


@contextmanager
def world(agents: int, cpus: int, *, idle: bool = False, settings: Mapping[str, str] | None = None) -> Iterator[World]:
    """A world that is ended afterwards, whatever happens. `settings`: more of the environment's."""
    made = World(agents, cpus, idle=idle, settings=settings)
    try:
        yield made
    finally:
        made.close()


def wait_for(seen: Callable[[], bool], timeout_s: float = TIMEOUT_S) -> None:
    """Outside of what is timed: look some times a second until it is so."""
    deadline = time.monotonic() + timeout_s
    while not seen():
        if time.monotonic() > deadline:
            raise Unavailable("what the bench waits for did not come")
        time.sleep(0.02)


def timed(act: Callable[[], Any]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began
