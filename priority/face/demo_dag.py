"""The last step of the demo: a release validation, as a DAG of Apache Airflow, on the full cluster.

Airflow is an extra: without it, or without the repository's `dags`, the step is left out. It gets ready in a process of
its own while the story begins, at the lowest priority.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

DAG = "release_validation"
DAG_FILE = Path(__file__).parents[2] / "dags" / f"{DAG}.py"
CONF = {"events": 60, "jobs": 3, "hits_per_chunk": 1200}
"""A small one: of each step, and as many tracking jobs as its first step finds chunks."""

_LAST_S = 10.0


class Validation:
    """One run of the DAG; `told` is what Airflow has said."""

    def __init__(self, state: Path) -> None:
        self.products = state / "validation"
        self.told = state / "airflow.log"
        home = state / "airflow"
        home.mkdir(mode=0o700)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PRIORITY_"))}
        command = ["nice", sys.executable, "-m", "priority.airflow.once", str(DAG_FILE), DAG]
        with self.told.open("wb") as log:
            self._process = subprocess.Popen(
                command, env={**clean, "AIRFLOW_HOME": str(home)}, stdin=subprocess.PIPE, stdout=log, stderr=log
            )

    def begin(self, url: str, token: str) -> None:
        """It may still be getting ready."""
        order = {
            "connection": {"conn_type": "priority", "host": url, "password": token},
            "conf": {**CONF, "folder": str(self.products)},
        }
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, and `succeeded` tells
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.close()

    def ended(self) -> bool:
        """Whether the run is over, well or not."""
        return self._process.poll() is not None

    def succeeded(self) -> bool:
        """Whether Airflow calls it a success."""
        return self._process.poll() == 0

    def report(self) -> str:
        """The DAG's last product; empty if there is none."""
        with suppress(FileNotFoundError):
            return (self.products / "report.html").read_text(encoding="utf-8")
        return ""

    def jobs_in_report(self) -> int:
        """So many jobs had their logs read for the verdict."""
        return self.report().count(f"/prod/{DAG}.")

    def stop(self) -> None:
        """Whatever it is doing."""
        self._process.terminate()
        try:
            self._process.wait(_LAST_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def prepare(state: Path) -> Validation | None:
    """None where there is no Airflow."""
    if importlib.util.find_spec("airflow") is None or not DAG_FILE.exists():
        return None
    return Validation(state)
