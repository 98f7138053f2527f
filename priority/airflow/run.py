"""What a job of the PriorityExecutor runs: one task of Airflow, under Airflow's own supervisor.

    python -m priority.airflow.run FILE [BREED]

FILE is the executor's hand-over: the workload with its token, and the environment for it. It is read once and removed;
nothing secret is on the command line or in the job. With BREED a nursery of that breed is asked first, if this node has
one (see `nursery`). The exit status is the task's, or `DISPLACED` or `TAKEN`.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

DISPLACED = 75
"""The job had to give way. The supervisor is ended without a word to Airflow, where the task counts as running still:
so the executor can let it come back without using up a retry."""

TAKEN = 76
"""An earlier attempt of this job has had the hand-over: its node was lost, perhaps in the middle of the task."""

CLOSED_S = 0.02
"""So often a supervisor looks whether its task has ended, once that has closed all its sockets."""

NOTICE = signal.SIGUSR1
"""Of a preemption; a kill comes as SIGTERM, which the supervisor hands on to the task's `on_kill`."""


def main(path: Path, breed: str = "") -> int:
    """The exit status. Warm where the node has a nursery, else cold."""
    status = None
    if breed:
        from priority.airflow import nursery

        status = nursery.ask(path, breed)
    return cold(path) if status is None else status


def cold(path: Path) -> int:
    """In this process."""
    handed = take(path)
    if handed is None:
        print(f"ERROR: {path} is gone: an earlier attempt has taken it", file=sys.stderr)  # noqa: T201
        return TAKEN
    os.environ.update(handed["env"])
    signal.signal(NOTICE, _give_way)
    return execute(handed["workload"])


def give(path: Path, content: Mapping[str, Any]) -> None:
    """A hand-over. Written twice, it is the same file."""
    import json

    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(number, "w", encoding="utf-8") as file:
        json.dump(content, file)


def take(path: Path) -> dict[str, Any] | None:
    """Whoever renames it has it; None if somebody else had."""
    import json

    mine = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.rename(mine)
        text = mine.read_bytes()
        mine.unlink()
    except FileNotFoundError:
        return None
    found: dict[str, Any] = json.loads(text)
    return found


def load(*more: str) -> None:
    """All that a task needs of Airflow: most of what a short one costs. Without the collector it takes a sixth less."""
    import gc
    from contextlib import suppress
    from importlib import import_module

    gc.disable()
    from airflow.executors.base_executor import BaseExecutor  # noqa: F401
    from airflow.executors.workloads import ExecuteTask  # noqa: F401
    from airflow.sdk.execution_time.supervisor import WatchedSubprocess

    for name in more:
        with suppress(ImportError):
            import_module(name)
    _wake(WatchedSubprocess)
    gc.freeze()
    gc.enable()


def _wake(supervisor: Any) -> None:
    """A task closes its sockets a moment before it has ended. Airflow's supervisor (3.3.2), awoken by that, often looks
    in this moment, then sleeps until its next heartbeat: of short tasks two in five kept their slot five seconds more.
    """
    original = supervisor.__dict__.get("_service_subprocess")
    if original is None or original.__module__ == __name__:
        return

    def impatient(self: Any, max_wait_time: float, *args: Any, **kwargs: Any) -> Any:
        open_sockets = getattr(self, "_open_sockets", True)
        return original(self, max_wait_time if open_sockets else min(max_wait_time, CLOSED_S), *args, **kwargs)

    supervisor._service_subprocess = impatient


def execute(workload: str) -> int:
    """Under Airflow's supervisor; its log goes to Airflow's folder and to our output."""
    load()
    from airflow.executors.base_executor import BaseExecutor
    from airflow.executors.workloads import ExecuteTask
    from airflow.sdk.log import configure_logging
    from airflow.settings import dispose_orm

    dispose_orm(do_log=False)
    configure_logging(output=sys.stdout.buffer, json_output=True)
    return BaseExecutor.run_workload(ExecuteTask.model_validate_json(workload), subprocess_logs_to_stdout=True)


def _give_way(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    for child in _children():
        os.kill(child, signal.SIGTERM)
    os._exit(DISPLACED)


def _children() -> list[int]:
    try:
        return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    except OSError:
        return []


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:3]))
