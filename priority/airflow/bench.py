"""What Airflow costs on top of us, and what we cost below Airflow; one JSON object a line.

    python -m priority.airflow.bench [--tasks 200]

- `operator_overhead_s`: one PriorityJobOperator of `true` under `dag.test()`, less the same job through the client
  (medians, one process, the first run is not counted). Goal: under 0.5 s. Beside it the same for a task that does
  nothing, which is Airflow's own part, and processor time, which a busy machine changes less.
- `executor_ratio`: a DAG of that many mapped tasks that do nothing by PriorityExecutor, as a multiple of the same by
  LocalExecutor: one Airflow, one after the other. Goal: at most 1.2.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from priority.airflow import start
from priority.airflow.stand import Stand
from priority.face import locate
from priority.face.client import Client

DAGS = """
from airflow.sdk import DAG, task
from priority.airflow.operator import PriorityJobOperator

with DAG("operator", schedule=None):
    PriorityJobOperator(task_id="job", role="bench", tier="devel", command="true", result="none")

with DAG("nothing", schedule=None):

    @task
    def no_job():
        return None

    no_job()

for name in ("local", "priority"):
    with DAG(name, schedule=None, default_args={"executor": None if name == "local" else name}) as dag:

        @task
        def nothing(number):
            return None

        nothing.expand(number=list(range(TASKS)))
    globals()[name] = dag
"""
_TESTED = """
import json, sys, time
from airflow.dag_processing.dagbag import DagBag
bag, spent = DagBag(sys.argv[1]), {"nothing": [], "operator": []}
for _ in range(int(sys.argv[2])):
    for name, times in spent.items():
        began, used = time.monotonic(), time.process_time()
        assert bag.dags[name].test().state == "success"
        times.append((time.monotonic() - began, time.process_time() - used))
print("\\n" + json.dumps(spent))
"""
ROUNDS = 12
LONG_S = 1800.0


def main() -> int:
    """The exit status: 0 if the goals are reached."""
    parser = argparse.ArgumentParser(prog="python -m priority.airflow.bench", description="Airflow with priority.")
    parser.add_argument("--tasks", type=int, default=200, help="Of the mapped DAG")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="af", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "dags").mkdir()
        (folder / "dags" / "bench.py").write_text(f"TASKS = {given.tasks}\n{DAGS}", encoding="utf-8")
        roles = folder / "roles.yaml"
        roles.write_text("roles: {bench: {}}\n", encoding="utf-8")
        more = {
            "AIRFLOW__PRIORITY__ROLE": "bench", "AIRFLOW__PRIORITY__CPUS": "0.5", "AIRFLOW__CORE__PARALLELISM": "32",
        }  # fmt: skip
        with Stand(folder / "airflow", folder / "dags", more=more) as stand:
            start.service(stand, folder / "service", roles)
            stand.environment.update(more)
            stand.migrate()
            with Client(locate.url(folder / "service", 5.0), locate.token(folder / "service", needed=True)) as client:
                one = overhead(stand, client)
            tell(one)
            stand.start()
            stand.wait(stand.well, "Airflow", LONG_S)
            two = executors(stand, given.tasks)
            tell(two)
    return 0 if one["operator_overhead_s"] < 0.5 and two["executor_ratio"] <= 1.2 else 1


def overhead(stand: Stand, client: Client) -> dict[str, Any]:
    """Of one task over its job."""
    bare = []
    for number in range(ROUNDS):
        began = time.monotonic()
        uid = client.submit({"role": "bench", "tier": "devel", "name": f"bare-{number}", "command": "true"})["uid"]
        client.wait(uid, timeout_s=60.0)
        bare.append(time.monotonic() - began)
    command = [sys.executable, "-c", _TESTED, stand.environment["AIRFLOW__CORE__DAGS_FOLDER"], str(ROUNDS)]
    done = subprocess.run(command, env=stand.environment, capture_output=True, text=True, timeout=LONG_S, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    spent = json.loads(done.stdout.splitlines()[-1])
    (task_s, cpu_s), (nothing_s, nothing_cpu_s) = (
        [statistics.median(column) for column in zip(*spent[name][1:], strict=True)] for name in ("operator", "nothing")
    )
    job_s = statistics.median(bare)
    return {
        "bench": "airflow", "operator_overhead_s": round(task_s - job_s, 3), "task_s": round(task_s, 3),
        "job_s": round(job_s, 3), "nothing_s": round(nothing_s, 3), "task_cpu_s": round(cpu_s, 3),
        "nothing_cpu_s": round(nothing_cpu_s, 3),
    }  # fmt: skip


def executors(stand: Stand, tasks: int) -> dict[str, Any]:
    """The same DAG by both, from the first task's start to the last one's end as Airflow has written them down."""
    stand.wait(lambda: {"local", "priority"} <= set(stand.dags()), "the DAGs", LONG_S)
    found = {}
    for name in ("local", "priority"):
        run = stand.trigger(name)
        state = stand.wait(partial(_ended, stand, name, run), name, LONG_S)
        told = stand.call("GET", f"dags/{name}/dagRuns/{run}")
        if state != "success":
            raise RuntimeError(f"the run of {name} has {state}")
        begin, end = (datetime.fromisoformat(told[key]) for key in ("start_date", "end_date"))
        found[name] = (end - begin).total_seconds()
    ratio = found["priority"] / found["local"]
    return {
        "bench": "airflow", "tasks": tasks, "local_executor_s": round(found["local"], 1),
        "priority_executor_s": round(found["priority"], 1), "executor_ratio": round(ratio, 2),
    }  # fmt: skip


def _ended(stand: Stand, dag: str, run: str) -> str:
    state = stand.state(dag, run)
    return state if state in ("success", "failed") else ""


def tell(found: dict[str, Any]) -> None:
    """One line."""
    print(json.dumps(found), flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
