"""Runs DAGs by `dag.test()`, all in one process, since the first costs five seconds; what came of them goes to a file.

Not imported by pytest: Airflow changes the logging and the warnings of its process, and must find its settings in the
environment when it is imported.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow.dag_processing.dagbag import DagBag
from airflow.executors.workloads import BundleInfo, ExecuteTask
from airflow.executors.workloads.task import TaskInstanceDTO
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session

from priority.airflow.executor import PriorityExecutor, handed
from priority.airflow.hook import PriorityHook
from priority.face.client import Client

FOLDER = Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
HOME = Path(os.environ["AIRFLOW_HOME"])


class Driver:
    def __init__(self) -> None:
        self.bag = DagBag(FOLDER)
        self.client = PriorityHook().client
        self.found: dict[str, Any] = {}

    def run(self, dag: str, conf: dict[str, Any] | None = None, name: str = "") -> dict[str, Any]:
        print(f"=== {name or dag}", flush=True)
        began = time.process_time()
        done = self.bag.dags[dag].test(run_conf=conf or {})
        tasks = sorted((ti.task_id, ti.map_index, str(ti.state)) for ti in done.get_task_instances())
        jobs = [self.client.job(job["uid"]) for job in self.client.all_jobs(label=f"airflow.run={done.run_id}")]
        found = {
            "state": str(done.state),
            "tasks": [[f"{task}[{index}]" if index >= 0 else task, state] for task, index, state in tasks],
            "xcom": returned(dag, done.run_id),
            "jobs": {job["spec"]["labels"]["airflow.task"]: job["uid"] for job in jobs},
            "attempts": {
                job["spec"]["labels"]["airflow.task"]: [task["state"] for task in self.client.all_tasks(job["uid"])]
                for job in jobs
            },
            "labels": jobs[0]["spec"]["labels"] if jobs else {},
            "cpu_s": time.process_time() - began,
        }  # fmt: skip
        self.found[name or dag] = found
        return found


def returned(dag: str, run_id: str) -> dict[str, Any]:
    """What the tasks of a run have returned: task[map index] -> value."""
    with create_session() as session:
        rows = session.scalars(XComModel.get_many(run_id=run_id, dag_ids=dag, key="return_value"))
        return {f"{row.task_id}[{row.map_index}]": XComModel.deserialize_value(row) for row in rows}


def workload(token: str, task: str = "t", **more: Any) -> ExecuteTask:
    """As Airflow's scheduler makes it."""
    weight, queue = more.pop("priority_weight", 3), more.pop("queue", "default")
    ti = TaskInstanceDTO(
        id=uuid.uuid4(), dag_version_id=uuid.uuid4(), task_id=task, dag_id="d", run_id="r", try_number=1, map_index=-1,
        pool_slots=1, priority_weight=weight, queue=queue, executor_config=more,
    )  # fmt: skip
    return ExecuteTask(
        ti=ti, dag_rel_path=Path("d.py"), token=token, log_path=None, bundle_info=BundleInfo(name="dags-folder")
    )


def execute(client: Client) -> dict[str, Any]:
    """The executor without Airflow's scheduler: `true` stands for the Python that would run a task."""
    executor = PriorityExecutor(parallelism=8)
    executor.start()
    good, again = workload("secret-1"), workload("secret-2", resources={"cpus": 2}, labels={"mine": "yes"})
    bad = workload("secret-3", "bad", pods=3)
    greedy = workload("secret-4", "greedy", queue="reco/prod", resources={"cpus": 50})

    def submit(*many: ExecuteTask) -> None:
        executor.queued_tasks.update({one.key: one for one in many})
        executor.trigger_tasks(8)

    submit(good)
    first = executor._jobs[good.key]
    files = [(path.stat().st_mode & 0o777, "secret" in path.read_text()) for path in executor._folder().glob("*.json")]
    submit(again, bad, greedy)
    second, waiting = executor._jobs[again.key], sorted(key.task_id for key in executor.queued_tasks)
    events = {key.task_id: (str(state), str(info)) for key, (state, info) in executor.event_buffer.items()}
    executor.event_buffer.clear()
    deadline = time.monotonic() + 120
    while not executor.event_buffer and time.monotonic() < deadline:
        executor.sync()
        time.sleep(0.05)
    ended = [(key.task_id, str(state)) for key, (state, _) in executor.event_buffer.items()]
    for _ in range(3):
        executor.sync()
    specs = [client.job(uid)["spec"] for uid in (first, second)]
    left = [path.name for path in executor._folder().glob("*.json") if "greedy" not in path.name]
    executor.end()
    return {
        "specs": specs, "files": files, "waiting": waiting, "events": events, "ended": ended, "left": left,
        "reported": len(executor.event_buffer), "running": len(executor.running), "handed": sorted(handed({
            "AIRFLOW__CORE__FERNET_KEY": "x", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "x", "AIRFLOW_CONN_A": "x",
            "AIRFLOW__API_AUTH__JWT_SECRET": "x", "PRIORITY_TOKEN": "x", "PATH": "x",
        })),
    }  # fmt: skip


def when_it_runs(client: Client, dag: str, act: Callable[[], Any]) -> threading.Thread:
    """Act as soon as a job of the DAG runs."""

    def watch() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if any(job["running"] for job in client.jobs(label=f"airflow.dag={dag}", state="active")["items"]):
                act()
                return
            time.sleep(0.05)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def main(out: Path) -> None:
    driver = Driver()
    driver.found["errors"] = {Path(name).name: error for name, error in driver.bag.import_errors.items()}
    driver.found["dags"] = sorted(driver.bag.dags)
    folder = HOME / "products"
    small = {"events": 40, "jobs": 2, "hits_per_chunk": 500, "folder": str(folder)}
    whole = driver.run("release_validation", small)
    whole["report"] = (folder / "report.html").read_text(encoding="utf-8")
    driver.run("release_validation", {**small, "start_at": "compare"}, "part")
    driver.run("release_validation", {**small, "folder": str(HOME / "none"), "start_at": "plots"}, "unprepared")
    old = HOME / "validation" / "old"
    old.mkdir(parents=True)
    for path in (old / "qa.json", old):
        path.touch()
        os.utime(path, (0, 0))
    driver.run("nightly_cleanup")
    driver.found["nightly_cleanup"]["gone"] = not old.exists()
    driver.run("quota_report")
    driver.found["executor"] = execute(driver.client)
    driver.run("makeflow_invariant_mass")
    driver.run("everything")
    driver.run("over_quota")
    driver.run("failing")
    driver.run("stopped")
    prod = {
        "role": "reco", "tier": "prod", "name": "important", "command": "true", "resources": {"cpus": 4},
    }  # fmt: skip
    watcher = when_it_runs(driver.client, "displaced", lambda: driver.client.submit(prod))
    driver.run("displaced")
    watcher.join()
    out.write_text(json.dumps(driver.found, default=str), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
