"""Which nurseries there shall be: one on each node that may get tasks, of the breed of these tasks.

They are jobs of the lowest tier: whoever needs their room takes it, and tasks begin cold for a while.
"""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.configuration import AIRFLOW_HOME

from priority.airflow import nursery
from priority.airflow.identity import digest
from priority.airflow.run import give
from priority.errors import Conflict, PriorityError

if TYPE_CHECKING:
    from priority.face.client import Client

log = logging.getLogger(__name__)

LABEL = "airflow.nursery"
LOOK_S = 30.0
"""So often it is looked whether one is missing."""

PAUSE_MAX_S = 3600.0
"""One that does not live is tried again after twice as long each time, up to this."""


def breed_of(python: Sequence[str]) -> str:
    """What the processes of a task and of its nursery must have in common: an upgrade makes another breed."""
    ours = (version(name) for name in ("apache-airflow-core", "apache-airflow-task-sdk", "priority"))
    return digest(*python, platform.python_version(), AIRFLOW_HOME, *ours)[:12]


class Nurseries:
    """Of one executor, on at most `most` nodes; 0: on all."""

    def __init__(self, folder: Path, python: Sequence[str], role: str, most: int) -> None:
        self.breed = breed_of(python)
        self._folder = folder
        self._python = list(python)
        self._role = role
        self._most = most
        self._look = 0.0
        self._pauses: dict[str, tuple[float, float]] = {}

    def keep(self, client: Client, environment: Mapping[str, str]) -> None:
        """To be called often; PriorityError if it is not known what there is."""
        now = time.monotonic()
        if now < self._look:
            return
        self._look = now + LOOK_S
        nursery.kept(self._folder, self.breed).touch()
        there = {job["name"] for job in client.all_jobs(label=f"{LABEL}={self.breed}", state="active")}
        up = [node["name"] for node in client.nodes()["items"] if node["state"] == "up"]
        for node in up[: self._most or None]:
            name = f"airflow-nursery-{self.breed[:6]}-{node}"[:63]
            if name in there:
                self._pauses.pop(name, None)
            else:
                self._try(client, name, node, environment)

    def _try(self, client: Client, name: str, node: str, environment: Mapping[str, str]) -> None:
        now = time.monotonic()
        not_before, pause_s = self._pauses.get(name, (now, LOOK_S))
        if now < not_before:
            return
        self._pauses[name] = (now + pause_s, min(2 * pause_s, PAUSE_MAX_S))
        path = self._folder / f"{name}.json"
        give(path, {"env": environment})
        document: dict[str, Any] = {
            "role": self._role, "tier": "opportunistic", "name": name, "resources": {"cpus": 0.1, "mem": "512MiB"},
            "labels": {LABEL: self.breed}, "preempt": {"action": "end", "notice": 0},
            "constraints": [{"attribute": "host", "in": [node]}],
            "command": [*self._python, "-m", "priority.airflow.nursery", str(path), self.breed],
        }  # fmt: skip
        try:
            client.submit(document)
        except Conflict:
            return  # another scheduler of this Airflow was first
        except PriorityError as error:
            path.unlink(missing_ok=True)
            log.info("tasks begin cold on %s: %s", node, error)
