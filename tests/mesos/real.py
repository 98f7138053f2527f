"""A real Mesos on the loopback interface, where there is one to be had.

`PRIORITY_TEST_MESOS` names the folder that holds `get-mesos` and `mesos-local` (default: `shared/mesos` beside the
repository); `PRIORITY_TEST_MESOS_PREFIX` where Mesos is installed, or is to be (default: among the temporary files).
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
READY_S = 60.0


class NoMesos(Exception):
    """Why there is none."""


def folder() -> Path:
    named = os.environ.get("PRIORITY_TEST_MESOS")
    found = Path(named) if named else ROOT.parent / "shared" / "mesos"
    if not (found / "mesos-local").exists():
        raise NoMesos(f"no real Mesos: {found} has no mesos-local (PRIORITY_TEST_MESOS names another folder)")
    return found


def prefix() -> Path:
    """Where it is installed; that takes seconds the first time, and one process at a time does it."""
    tools = folder()
    default = Path(tempfile.gettempdir()) / f"priority-mesos-{os.getuid()}"
    where = Path(os.environ.get("PRIORITY_TEST_MESOS_PREFIX") or default)
    where.mkdir(parents=True, exist_ok=True)
    with (where / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (where / "ready").exists():
            _install(tools, where)
            (where / "ready").touch()
    return where


def _install(tools: Path, where: Path) -> None:
    python = next((one for one in ("/usr/bin/python3", sys.executable) if _has_pip(one)), None)
    if python is None:
        raise NoMesos("no real Mesos: get-mesos needs a python3 with pip")
    done = subprocess.run(
        [python, str(tools / "get-mesos"), str(where)], capture_output=True, text=True, timeout=250, check=False
    )
    if done.returncode:
        raise NoMesos(f"no real Mesos: get-mesos failed: {(done.stderr or done.stdout).strip()[-300:]}")


def _has_pip(python: str) -> bool:
    if not Path(python).exists():
        return False
    return subprocess.run([python, "-c", "import pip"], capture_output=True, check=False).returncode == 0


def free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody has just now."""
    for begin in range(20000 + os.getpid() % 97 * 100, 60000, 97):
        taken = []
        try:
            for port in range(begin, begin + count):
                one = socket.socket()
                taken.append(one)
                one.bind(("127.0.0.1", port))
            return begin
        except OSError:
            continue
        finally:
            for one in taken:
                one.close()
    raise NoMesos("no real Mesos: no free ports")


QUICK = {"agent_ping_timeout": "2secs", "max_agent_ping_timeouts": "3", "allocation_interval": "100ms"}
"""Of masters: so that tests need not wait for what takes a minute by default."""


class Mesos:
    """One cluster. `separate`: processes that can be killed one by one."""

    def __init__(
        self,
        work: Path,
        *,
        agents: int = 1,
        resources: str = "cpus:8;mem:16384;disk:10000;ports:[31000-32000]",
        separate: bool = False,
        master: dict[str, str] | None = None,
        agent: dict[str, str] | None = None,
    ) -> None:
        self.prefix = prefix()
        self.work = work
        self.auth: tuple[str, str] | None = None
        """By which an operator is known, where the master wants that."""
        self.port = free_ports(agents + 1)
        self.url = f"http://127.0.0.1:{self.port}"
        flags = [f"--master-flag={name}={value}" for name, value in {**QUICK, **(master or {})}.items()]
        flags += [f"--agent-flag={name}={value}" for name, value in (agent or {}).items()]
        self._command = [
            *(sys.executable, str(folder() / "mesos-local"), "--prefix", str(self.prefix)),
            *("--agents", str(agents), "--resources", resources, "--port", str(self.port), "--work-dir", str(work)),
            *(["--separate"] if separate else []),
            *flags,
        ]
        self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("ready"):
            self.close()
            assert self.process.stderr is not None
            raise RuntimeError(f"mesos-local: {line}{self.process.stderr.read()[-2000:]}")

    def pid(self, name: str) -> int:
        """Of `master`, `agent-0`, ... when separate."""
        return int((self.work / f"{name}.pid").read_text())

    def signal(self, name: str, number: int) -> None:
        os.kill(self.pid(name), number)

    def kill(self, name: str) -> None:
        """SIGKILL, and wait until it is gone."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        self.ended(pid)

    def ended(self, pid: int, within_s: float = 30.0) -> bool:
        """Wait until mesos-local has seen that it is gone: sooner it would not start it again."""
        deadline = time.monotonic() + within_s
        while Path(f"/proc/{pid}").exists():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def restart(self) -> None:
        """Start again whatever is gone."""
        self.process.send_signal(signal.SIGHUP)

    def get(self, path: str) -> Any:
        return httpx.get(self.url + path, timeout=10).json()

    def operator(self, kind: str, **body: Any) -> Any:
        call = {"type": kind, kind.lower(): body} if body else {"type": kind}
        answer = httpx.post(self.url + "/api/v1", json=call, auth=self.auth)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def wait_until_idle(self, within_s: float = 20.0) -> None:
        """Until no executor of a framework that has gone is left on the agents: a master that restarts would find
        them again. Of agents that do not answer nothing is expected.
        """
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            try:
                slaves = self.get("/slaves")["slaves"]
                addresses = [one["pid"].partition("@")[::2] for one in slaves if one["active"]]
                states = [httpx.get(f"http://{at}/{name}/state", timeout=5).json() for name, at in addresses]
            except (httpx.HTTPError, ValueError):
                return
            if not any(state["frameworks"] for state in states):
                return
            time.sleep(0.05)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
