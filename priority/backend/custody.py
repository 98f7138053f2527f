"""One task in the warden's custody: its processes from the first to the last.

A task has ended when its main process has ended *and* nothing that it started is left. A main process that ends by
itself leaves nothing behind (the rest is killed at once); during a notice the rest has until the notice is over,
because it may be the rest that writes the checkpoint: `sh -c` dies of SIGTERM before its child does.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from priority.backend import proc, sandbox
from priority.backend.messages import Order


def now_s() -> float:
    """Seconds that go on while the machine is suspended: what the lease is counted in."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def report(task: str, kind: str, **facts: Any) -> dict[str, Any]:
    """As `orders.TaskSeen`, the node left out: it is the same for all that a warden says."""
    return {"task": task, "kind": kind, "at_us": time.time_ns() // 1000, **facts}


def cause(code: str, message: str, **numbers: Any) -> dict[str, Any]:
    """As `reason.Reason.plain`."""
    return {"code": code, "message": message, **numbers}


@dataclass(slots=True, eq=False)
class Custody:
    """What is known of a task that has not ended."""

    task: str
    mark: int
    folder: Path
    order: Order | None = None
    """None: a former warden started it; what is left of it is killed."""
    pid: int = 0
    """Of the main process; 0: it is not our child."""
    began_s: float = 0.0
    started: dict[str, Any] | None = None
    status: int | None = None
    """How the main process ended, as wait(2) says it; None while it runs."""
    orphans: set[int] = field(default_factory=set)
    """Of its processes those whose parents have died: children of the warden."""
    stopped: bool = False
    """The scheduler's stop was sent."""
    kill_at_s: float | None = None
    cause: dict[str, Any] | None = None
    killing: bool = False
    cpu_s: float = 0.0
    peak_kib: int = 0
    main_peak_kib: int = 0
    floor_kib: int = 0
    """The warden's own peak: a child's peak, as wait4(2) tells it, is never below it (it begins as a copy)."""
    disk_at_s: float = 0.0
    """When its folder may be walked again."""
    peak_at_s: float = 0.0
    """When its memory is to be looked at again, if that is not limited."""

    def start(self, null: int) -> str | None:
        """Run it; else why its command cannot be executed. OSError: the sandbox cannot be made."""
        assert self.order is not None
        out, err = sandbox.prepare(self.folder)
        self.floor_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.began_s = now_s()
        proc.wear(self.mark)
        try:
            process = subprocess.Popen(
                self.order.argv,
                stdin=null,
                stdout=out,
                stderr=err,
                cwd=self.folder,
                env=sandbox.environment(self.folder, self.order),
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            return f"{self.order.argv[0]!r} cannot be executed: {getattr(error, 'strerror', None) or error}"
        finally:
            os.close(out)
            os.close(err)
        process.returncode = 0  # not to be waited for by it: that is the warden's part
        self.pid = process.pid
        self.started = report(self.task, "started")
        return None

    def kin(self) -> set[int]:
        """All processes of the task that can be found now, zombies too."""
        if self.order is None:
            return proc.bearing({self.mark}).get(self.mark, set())
        roots = list(self.orphans)
        if self.pid and self.status is None:
            roots.append(self.pid)
        return proc.below(roots)

    def signal(self, number: int) -> None:
        """To every process of the task."""
        for pid in self.kin():
            send(pid, number)

    def kill(self) -> None:
        """SIGKILL to every process, again until no new one shows up; the warden sees to it that none is left."""
        self.killing = True
        hit: set[int] = set()
        for _ in range(100):
            fresh = self.kin() - hit
            if not fresh:
                return
            for pid in fresh:
                send(pid, signal.SIGKILL)
            hit |= fresh

    def used(self, usage: resource.struct_rusage, main: bool) -> None:
        """Count what a process of the task, now reaped, has used."""
        self.cpu_s += usage.ru_utime + usage.ru_stime
        if main:
            self.main_peak_kib = usage.ru_maxrss

    @property
    def peak_mem_mib(self) -> int:
        """What was seen at the looks, or the main process's own peak if higher. Of a task shorter than a look it may be
        the warden's own size, an upper bound.
        """
        peak = self.peak_kib
        if self.main_peak_kib > self.floor_kib or not peak:
            peak = max(peak, self.main_peak_kib)
        return -(-peak // 1024)

    def end(self) -> dict[str, Any]:
        """The report of its end."""
        facts: dict[str, Any] = {"stopped": self.stopped}
        if self.status is None:
            facts["cause"] = self.cause or cause("vanished", "its node's warden died; how it ended is not known")
            return report(self.task, "ended", **facts)
        if os.WIFSIGNALED(self.status):
            facts["signal"] = os.WTERMSIG(self.status)
        else:
            facts["exit_code"] = os.WEXITSTATUS(self.status)
        if self.cause is not None:
            facts["cause"] = self.cause
        facts["cpu_s"] = round(self.cpu_s, 6)
        facts["peak_mem_mib"] = self.peak_mem_mib
        return report(self.task, "ended", **facts)


def send(pid: int, number: int) -> None:
    """A signal, to a process that may be gone (or another user's by now)."""
    with contextlib.suppress(OSError):
        os.kill(pid, number)
