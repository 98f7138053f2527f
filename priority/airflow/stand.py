"""Airflow as separate components on this machine, on loopback, in a folder of its own: for `make airflow` and tests.

`airflow standalone` would force its own executor, and its log servers listen on every address; so the four components
are started one by one, without log servers (they share the folder of the logs).
"""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

COMPONENTS: Mapping[str, tuple[str, ...]] = {
    "api-server": ("api-server", "--host", "127.0.0.1", "--workers", "1"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
    "scheduler": ("scheduler", "--skip-serve-logs"),
}
EXECUTORS = "LocalExecutor,priority:priority.airflow.executor.PriorityExecutor"
"""The first is for tasks that name none; `executor="priority"` makes a task of a DAG a job."""

_STOP_S = 20.0
_ANSWER_S = 30.0
_BUSY_S = 120.0
_PR_SET_PDEATHSIG = 1


class NotReady(Exception):
    """What was waited for has not come."""


class Stand:
    """One Airflow. Use it in a `with`: what it started ends with it."""

    def __init__(
        self,
        folder: Path,
        dags: Path,
        *,
        executor: str = EXECUTORS,
        port: int = 0,
        more: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {**_clean(os.environ), **self._settings(dags, executor), **(more or {})}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._token = ""

    def __enter__(self) -> Stand:
        return self

    def __exit__(self, *_: object) -> None:
        for name in reversed(list(self.processes)):
            self.stop(name)

    def _settings(self, dags: Path, executor: str) -> dict[str, str]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return {
            "AIRFLOW_HOME": str(self.folder),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__EXECUTOR": executor,
            "AIRFLOW__CORE__PARALLELISM": "8",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": f"{self.url}/",
            "AIRFLOW__API_AUTH__JWT_SECRET": self._secret("jwt.secret"),
            "AIRFLOW__API__SECRET_KEY": self._secret("api.secret"),
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",  # five seconds are few for many tasks at once on few cores
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "20",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "20",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.folder / 'airflow.db'}?timeout=60",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        }

    def _secret(self, name: str) -> str:
        """Kept, so that a second start goes on where the first was."""
        path = self.folder / name
        if not path.exists():
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with os.fdopen(number, "w") as file:
                file.write(secrets.token_hex(32))
        return path.read_text(encoding="ascii")

    def connect(self, url: str, token: str, **more: str) -> None:
        """The default connection of our hook, for all components that are started from now on."""
        told = {"conn_type": "priority", "host": url, "password": token, "extra": more}
        self.environment["AIRFLOW_CONN_PRIORITY_DEFAULT"] = json.dumps(told)

    # --- processes

    def migrate(self) -> None:
        """The database, at its newest version."""
        with self._log("migrate") as log:
            subprocess.run(self._command("db", "migrate"), env=self.environment, stdout=log, stderr=log, check=True)

    def start(self, *names: str) -> None:
        """These components; all of them if none is named."""
        for name in names or COMPONENTS:
            self.run(name, self._command(*COMPONENTS[name]))

    def run(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        """Any process beside them, with its output in the folder; it dies with us."""
        with self._log(name) as log:
            self.processes[name] = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 (it calls the kernel and nothing else)
            )  # fmt: skip
        return self.processes[name]

    def stop(self, name: str, number: int = signal.SIGTERM) -> None:
        """A component and all that it has started."""
        process = self.processes.pop(name)
        _signal_group(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_S)
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()

    def _command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "airflow", *words]

    def _log(self, name: str) -> IO[bytes]:
        path = self.folder / "out" / f"{name}.log"
        path.parent.mkdir(exist_ok=True)
        return path.open("ab")

    # --- its API

    def call(self, method: str, path: str, body: Any = None, *, done: int = 0) -> Any:
        """JSON of Airflow's REST API; OSError if there is no answer. What a busy SQLite did not let through is said
        again; the status `done` is then Airflow's word that once was enough.
        """
        said, deadline = 0, time.monotonic() + _BUSY_S
        while True:
            try:
                return self._call(method, path, body)
            except OSError as error:
                if said and done and getattr(error, "code", 0) == done:
                    return None
                if not _busy(error) or time.monotonic() > deadline:
                    raise
            said += 1
            time.sleep(0.5)

    def _call(self, method: str, path: str, body: Any) -> Any:
        if not self._token:
            with urllib.request.urlopen(f"{self.url}/auth/token", timeout=_ANSWER_S) as answer:
                self._token = json.load(answer)["access_token"]
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/api/v2/{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:
            return json.load(answer)

    def well(self) -> bool:
        """All four answer."""
        try:
            with urllib.request.urlopen(f"{self.url}/api/v2/monitor/health", timeout=10) as answer:
                health = json.load(answer)
        except (OSError, ValueError):
            return False
        parts = ("scheduler", "triggerer", "dag_processor", "metadatabase")
        return all((health.get(part) or {}).get("status") == "healthy" for part in parts)

    def dags(self) -> dict[str, Any]:
        """What it shows, by id; none as long as it does not answer."""
        try:
            return {one["dag_id"]: one for one in self.call("GET", "dags?limit=100")["dags"]}
        except (OSError, ValueError):
            return {}

    def trigger(self, dag: str, conf: Mapping[str, Any] | None = None) -> str:
        """A new run's id; ours, so that it can be said twice."""
        run = f"manual__{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}_{secrets.token_hex(2)}"
        body = {"dag_run_id": run, "logical_date": None, "conf": dict(conf or {})}
        self.call("POST", f"dags/{dag}/dagRuns", body, done=409)
        return run

    def mark(self, dag: str, run: str, task: str, state: str) -> None:
        """As a person does who has had enough of it."""
        self.call("PATCH", f"dags/{dag}/dagRuns/{run}/taskInstances/{task}", {"new_state": state}, done=409)

    def state(self, dag: str, run: str) -> str:
        """Of a run."""
        found: str = self.call("GET", f"dags/{dag}/dagRuns/{run}")["state"]
        return found

    def tasks(self, dag: str, run: str) -> list[dict[str, Any]]:
        """The task instances of a run."""
        found: list[dict[str, Any]] = self.call("GET", f"dags/{dag}/dagRuns/{run}/taskInstances?limit=500")[
            "task_instances"
        ]
        return found

    def wait(self, found: Callable[[], Any], what: str, within_s: float = 180.0) -> Any:
        """Until `found` gives something true, and no component has died."""
        deadline = time.monotonic() + within_s
        while not (value := found()):
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise NotReady(f"{name} has ended with status {process.returncode}; see {self.folder / 'out'}")
            if time.monotonic() > deadline:
                raise NotReady(f"{what} did not come within {within_s:g} s; see {self.folder / 'out'}")
            time.sleep(0.2)
        return value


def free_port() -> int:
    """Of the loopback; somebody else may take it before we do, and then the start says so."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _busy(error: OSError) -> bool:
    """Whether it may answer another time: SQLite's lock is a 500, few cores are silence."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code >= 500
    why = error.reason if isinstance(error, urllib.error.URLError) else error
    return isinstance(why, (TimeoutError, ConnectionResetError))


def _clean(environment: Mapping[str, str]) -> dict[str, str]:
    """Without settings of another Airflow or service."""
    return {name: value for name, value in environment.items() if not name.startswith(("AIRFLOW", "PRIORITY_"))}


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return
