"""Airflow's real components with PriorityExecutor: `make test-all`."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from priority.airflow import start
from priority.airflow.stand import Stand
from priority.face import locate
from priority.face.client import Client

WHOLE = Path(__file__).parent / "whole"
EXECUTOR = "priority.airflow.executor.PriorityExecutor"
LONG_S = 400.0
KILLED_S = 5.0
"""From the moment in which Airflow has marked a task until its job has ended, as both have written it down."""

ROLES = {"roles": {"pilots": {"quota": {"prod": {"cpus": 8}, "devel": {"cpus": 8}}}}}

pytestmark = [pytest.mark.components, pytest.mark.slow, pytest.mark.timeout(2400)]


@contextmanager
def standing(folder: Path) -> Iterator[tuple[Stand, Client]]:
    roles = folder / "roles.yaml"
    roles.write_text(yaml.safe_dump(ROLES))
    more = {
        "AIRFLOW__PRIORITY__ROLE": "pilots", "AIRFLOW__PRIORITY__CPUS": "1",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "10",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10", "AIRFLOW__CORE__PARALLELISM": "32",
        "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "2",
    }  # fmt: skip
    with Stand(folder / "airflow", WHOLE, executor=EXECUTOR, more=more) as stand:
        start.service(stand, folder / "service", roles, PRIORITY_AGENTS="2")
        stand.environment.update(more)
        stand.migrate()
        stand.start()
        stand.wait(stand.well, "Airflow", LONG_S)
        stand.wait(lambda: len(stand.dags()) >= 6, "the DAGs", LONG_S)
        with Client(locate.url(folder / "service", 5.0), locate.token(folder / "service", needed=True)) as client:
            yield stand, client


def ended(stand: Stand, dag: str, run: str) -> str:
    """The run's state when it has ended."""
    found: str = stand.wait(
        lambda: state if (state := stand.state(dag, run)) in ("success", "failed") else "", f"{dag} {run}", LONG_S
    )
    return found


def jobs(client: Client, dag: str, **query: Any) -> list[Any]:
    return list(client.all_jobs(label=f"airflow.dag={dag}", **query))


def test_the_whole() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="af", ignore_cleanup_errors=True) as name,
        standing(Path(name)) as (
            stand,
            client,
        ),
    ):
        twenty_tasks(stand, client)
        marked_failed(stand, client, "deferred", "deferred")
        marked_failed(stand, client, "running", "running")
        a_scheduler_dies(stand, client)
        production_goes_first(stand, client)
        no_token_is_seen(client)
        loopback_only(stand)


def test_make_airflow_runs_the_validation_to_its_report(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="af", ignore_cleanup_errors=True) as name:
        assert start.main(["--folder", name, "--once"]) == 0
        (report,) = Path(name).glob("validation/*/report.html")
        assert "Passed" in report.read_text()


def twenty_tasks(stand: Stand, client: Client) -> None:
    run = stand.trigger("twenty")
    assert ended(stand, "twenty", run) == "success"
    # A task has told Airflow before its process has ended, and the executor clears up when that has.
    stand.wait(lambda: sum(job["finished"] for job in jobs(client, "twenty")) >= 21, "21 jobs", LONG_S)
    stand.wait(lambda: not list((stand.folder / "priority").glob("*.json")), "the hand-overs' end", LONG_S)


def sleeping(client: Client, dag: str) -> list[Any]:
    """The operator's own job, beside the one in which its task runs."""
    found = [job for job in jobs(client, dag, state="active") if job["running"]]
    return [job for job in found if "sleep" in str(client.job(job["uid"])["spec"]["command"])]


def marked_failed(stand: Stand, client: Client, dag: str, state: str) -> None:
    """Its job is killed, however soon after it was deferred and whenever the next heartbeat is."""
    run = stand.trigger(dag)
    (job,) = stand.wait(lambda: sleeping(client, dag), f"the job of {dag}", LONG_S)
    stand.wait(lambda: [task for task in stand.tasks(dag, run) if task["state"] == state], f"{dag} is {state}", LONG_S)
    stand.mark(dag, run, "job", "failed")
    stand.wait(lambda: client.job(job["uid"])["state"] == "ended", f"the end of the job of {dag}", LONG_S)
    (task,) = stand.tasks(dag, run)
    took_s = seconds(client.job(job["uid"])["ended"]) - seconds(task["end_date"])
    print(f"{dag}: its job ended {took_s:.1f} s after the task was marked failed")
    assert took_s < KILLED_S
    assert client.job(job["uid"])["killed"] == 1
    assert ended(stand, dag, run) == "failed"
    assert [task["state"] for task in stand.tasks(dag, run)] == ["failed"]


def seconds(moment: str | None) -> float:
    assert moment is not None
    return datetime.fromisoformat(moment).timestamp()


def a_scheduler_dies(stand: Stand, client: Client) -> None:
    """The next one adopts its tasks: each ran once."""
    run = stand.trigger("slow")
    stand.wait(lambda: sum(task["state"] == "running" for task in stand.tasks("slow", run)) == 4, "four tasks", LONG_S)
    stand.stop("scheduler", signal.SIGKILL)
    stand.start("scheduler")
    assert ended(stand, "slow", run) == "success"
    assert [(task["try_number"], task["state"]) for task in stand.tasks("slow", run)] == [(1, "success")] * 4
    assert len(jobs(client, "slow")) == 4


def production_goes_first(stand: Stand, client: Client) -> None:
    """Tasks of a devel DAG give way without using up a retry, and come back."""
    first = stand.trigger("experiment")
    stand.wait(
        lambda: [task["state"] for task in stand.tasks("experiment", first)] == ["running"] * 2, "experiments", LONG_S
    )
    lines = stand.call("GET", f"dags/experiment/dagRuns/{first}/taskInstances/explore/logs/1?map_index=0")
    assert "pilots/devel/experiment.explore-" in str(lines)  # while it runs: from the job
    second = stand.trigger("production")
    assert ended(stand, "production", second) == "success"
    assert ended(stand, "experiment", first) == "success"
    assert {task["state"] for task in stand.tasks("experiment", first)} == {"success"}
    assert len([job for job in jobs(client, "experiment") if job["killed"]]) >= 1


def no_token_is_seen(client: Client) -> None:
    """A job is what its command line and its environment are made of."""
    for job in jobs(client, "twenty"):
        assert "eyJ" not in str(client.job(job["uid"])["spec"])


def loopback_only(stand: Stand) -> None:
    """Nothing of Airflow or the service can be reached from another machine."""
    sessions, sockets = {process.pid for process in stand.processes.values()}, set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) in sessions:
                links = [str(fd.readlink()) for fd in (folder / "fd").iterdir()]
                sockets |= {link.removeprefix("socket:[").rstrip("]") for link in links if link.startswith("socket:")}
    listening = []
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            _, local, _, state, *others = line.split()
            if state == "0A" and others[5] in sockets:
                listening.append(local.partition(":")[0])
    assert listening and set(listening) == {"0100007F"}, listening
