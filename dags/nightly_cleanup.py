"""Each night: products of validations that nobody looks at any more are removed, by a job of tier devel."""

from __future__ import annotations

import shlex
from pathlib import Path

import pendulum
from airflow.configuration import AIRFLOW_HOME
from airflow.sdk import DAG, Param

from priority.airflow.operator import PriorityJobOperator

TOY = Path(__file__).resolve().parent / "programs" / "toy.py"

with DAG(
    "nightly_cleanup",
    description="Removes old products of validations",
    schedule="30 3 * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="Europe/Zurich"),
    catchup=False,
    max_active_runs=1,
    tags=["priority", "cron"],
    doc_md=__doc__,
    params={
        "folder": Param(str(Path(AIRFLOW_HOME) / "validation"), type="string"),
        "keep_days": Param(14, type="number", minimum=0, description="Since the newest file of a run"),
        "role": Param("ci", type="string"),
    },
) as dag:
    PriorityJobOperator(
        task_id="clean",
        role="{{ params.role }}",
        tier="devel",
        command=f"python3 {shlex.quote(str(TOY))} clean" + " '{{ params.folder }}' --keep-days {{ params.keep_days }}",
        job_resources={"cpus": 0.5, "mem": "256MiB"},
        max_runtime="1h",
        retries=2,
        result="json",
    )
