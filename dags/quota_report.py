"""Each working day: quotas and their use, as a page."""

from __future__ import annotations

import json
import logging
import shlex
from pathlib import Path
from typing import Any

import pendulum
from airflow.configuration import AIRFLOW_HOME
from airflow.sdk import DAG, Param, get_current_context, task

from priority.airflow.operator import PriorityJobOperator, client_of

log = logging.getLogger("airflow.task.quota")

FOLDER = "'{{ params.folder }}'"
PAGES = Path(__file__).resolve().parent / "programs" / "pages.py"

with DAG(
    "quota_report",
    description="Quotas and their use",
    schedule="0 6 * * 1-5",
    start_date=pendulum.datetime(2026, 1, 1, tz="Europe/Zurich"),
    catchup=False,
    max_active_runs=1,
    tags=["priority", "cron"],
    doc_md=__doc__,
    params={
        "folder": Param(str(Path(AIRFLOW_HOME) / "quota"), type="string"),
        "role": Param("ci", type="string"),
    },
) as dag:

    @task(retries=2)
    def collect() -> int:
        """What the service says, as a file; how many quotas there are. A warning of the service is one here too."""
        context: Any = get_current_context()
        found = client_of().quota()
        for warning in found["warnings"]:
            log.warning("%s", warning)
        folder = Path(context["params"]["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "quota.json").write_text(json.dumps(found), encoding="utf-8")
        return len(found["items"])

    page = PriorityJobOperator(
        task_id="page",
        role="{{ params.role }}",
        tier="devel",
        command=f"python3 {shlex.quote(str(PAGES))} quota {FOLDER}/quota.json {FOLDER}/quota.html",
        job_resources={"cpus": 0.5, "mem": "256MiB"},
        retries=2,
        result="line",
    )
    collect() >> page
