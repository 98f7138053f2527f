"""A whole service in real processes, for tests that kill parts of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from priority.errors import PriorityError
from priority.face.client import Client
from priority.service.settings import Settings

ROLES = {"physics": {"quota": {"prod": {"cpus": 10_000}}}, "devel": {}}


class Service:
    """`priority up` on its own folder, and the pids of its parts."""

    def __init__(self, state: Path, settings: dict[str, Any]) -> None:
        self.state = state
        self.process: subprocess.Popen[bytes] | None = None
        mine = {"port": 0, "config": os.devnull, "leader_lease_s": 2, "resend_s": 1, "sweep_s": 1, **settings}
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("PRIORITY_")}
        self.environment["PRIORITY_STATE"] = str(state)
        self.environment |= {f"PRIORITY_{name.upper()}": str(value) for name, value in mine.items()}

    def start(self) -> None:
        with (self.state / "up.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "priority", "up"],
                env=self.environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def parts(self) -> dict[str, int]:
        """The supervisor's children by their names."""
        assert self.process is not None
        found = {}
        for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            with suppress(OSError):
                found[Path(f"/proc/{pid}/comm").read_text().strip()] = int(pid)
        return found

    def client(self, deadline_s: float = 120.0) -> Client:
        until = time.monotonic() + deadline_s
        while True:
            try:
                settings = Settings(state=self.state, url="", token="")
                with Client.find(settings, retry_s=0.0) as client:  # the address may be of the run before
                    client.nodes()
                return Client.find(settings, retry_s=60.0)
            except PriorityError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def stop(self) -> int:
        """Ask it to stop; its exit status. Once is enough."""
        assert self.process is not None
        if self.process.poll() is not None:
            return self.process.returncode
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
