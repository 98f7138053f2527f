"""Three real masters that elect their leader in a real ZooKeeper, and one agent; all on the loopback interface."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
from real import QUICK, READY_S, NoMesos, free_ports, prefix

JARS = Path("/usr/share/java/zookeeper.jar")
MASTERS = 3


class Elected:
    """`zk` and `listed` name the masters; `url` is the leader's."""

    def __init__(self, work: Path) -> None:
        java = shutil.which("java")
        if java is None or not JARS.exists():
            raise NoMesos(f"no ZooKeeper: it needs java and {JARS} (Debian's package zookeeper)")
        work.mkdir()
        self.work = work
        self._bin = prefix() / "bin"
        port = free_ports(MASTERS + 2)
        self.ports = range(port, port + MASTERS)
        self.zk = f"zk://127.0.0.1:{port + MASTERS}/mesos"
        self.listed = ",".join(f"127.0.0.1:{one}" for one in self.ports)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        config = {"tickTime": 500, "dataDir": work / "zookeeper", "clientPort": port + MASTERS}
        config |= {"clientPortAddress": "127.0.0.1", "admin.enableServer": "false"}
        (work / "zoo.cfg").write_text("".join(f"{name}={value}\n" for name, value in config.items()))
        try:
            main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
            self._start("zookeeper", java, "-Xmx128m", "-cp", str(JARS), main, str(work / "zoo.cfg"))
            for number in range(MASTERS):
                self.start_master(number)
            self._start(
                "agent-0", self._bin / "mesos-agent", f"--master={self.zk}", f"--port={port + MASTERS + 1}",
                f"--work_dir={work / 'agent-0'}", "--hostname=n1", "--executor_shutdown_grace_period=1secs",
                "--resources=cpus:4;mem:1024;disk:0;ports:[]",
            )  # fmt: skip
            self._until(lambda: bool(self.get("/slaves")["slaves"]), "the agent")
        except BaseException:
            self.close()
            raise

    def start_master(self, number: int) -> None:
        flags = {**QUICK, "zk": self.zk, "quorum": "2", "port": self.ports[number], "ip": "127.0.0.1"}
        flags |= {"hostname": "127.0.0.1", "work_dir": self.work / f"master-{number}", "zk_session_timeout": "2secs"}
        self._start(
            f"master-{number}", self._bin / "mesos-master", *(f"--{name}={value}" for name, value in flags.items())
        )

    def _start(self, name: str, *command: Any) -> None:
        env = {key: value for key, value in os.environ.items() if not key.startswith(("MESOS_", "LIBPROCESS_"))}
        with (self.work / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [str(one) for one in command], env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _until(self, wanted: Any, what: str) -> None:
        deadline = time.monotonic() + READY_S
        while True:
            try:
                if wanted():
                    return
            except (httpx.HTTPError, ValueError, KeyError):
                pass
            assert time.monotonic() < deadline, f"waited for {what}"
            time.sleep(0.05)

    def leader(self) -> int:
        """Which one leads."""
        found: list[int] = []

        def one_leads() -> bool:
            for number, port in enumerate(self.ports):
                try:
                    answer = httpx.get(f"http://127.0.0.1:{port}/metrics/snapshot", timeout=5, trust_env=False)
                except httpx.TransportError:
                    continue
                if answer.json()["master/elected"] == 1:
                    found.append(number)
            return bool(found)

        self._until(one_leads, "a leader")
        return found[0]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[self.leader()]}"

    def kill_leader(self) -> int:
        """SIGKILL; which one it was."""
        number = self.leader()
        process = self._processes[f"master-{number}"]
        process.kill()
        process.wait(10)
        return number

    def get(self, path: str) -> Any:
        return httpx.get(self.url + path, timeout=10, trust_env=False).json()

    def operator(self, kind: str, **body: Any) -> None:
        answer = httpx.post(self.url + "/api/v1", json={"type": kind, kind.lower(): body}, trust_env=False)
        answer.raise_for_status()

    def wait_until_idle(self) -> None:
        self._until(lambda: not self.get("/frameworks")["frameworks"], "the framework to go")

    def close(self) -> None:
        for process in reversed(self._processes.values()):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
