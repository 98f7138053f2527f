"""Release validation, as ALICE does it: simulate x N, merge resources and QA, plots; beside it the reconstruction, the
width of whose second step is known only after its first; then a verdict from the logs; the report is the last product.

Each step is a job of tier prod. With `start_at` and `stop_at` only a part of it runs, on the products that an earlier
run left in `folder`.
"""

from __future__ import annotations

import json
import logging
import re
import shlex
from pathlib import Path
from typing import Any

import pendulum
from airflow.configuration import AIRFLOW_HOME
from airflow.sdk import DAG, Param, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from priority.airflow.operator import PriorityJobOperator, client_of
from priority.airflow.scan import ERRORS, scan

log = logging.getLogger("airflow.task.validation")

HOME = Path(AIRFLOW_HOME) / "validation"
PROGRAMS = Path(__file__).resolve().parent / "programs"
TOY = f"python3 {shlex.quote(str(PROGRAMS / 'toy.py'))}"
PAGES = f"python3 {shlex.quote(str(PROGRAMS / 'pages.py'))}"

STAGES = ["simulate", "merge", "reconstruct", "compare", "plots"]
NEEDS = {"merge": "sim-*.json", "reconstruct": "sim-*.json", "compare": "reco.json", "plots": "qa.json"}
"""What a run that starts there finds in its folder."""


def folder_of(params: dict[str, Any], run_id: str) -> str:
    """Where the products are: of this run alone, unless one is named."""
    return str(params["folder"] or HOME / re.sub(r"[^A-Za-z0-9_.-]", "-", run_id))


class Step(PriorityJobOperator):
    """A job of the validation; skipped where its stage lies outside of what was asked for."""

    def __init__(self, *, stage: str, **kwargs: Any) -> None:
        kwargs = {"role": "{{ params.role }}", "tier": "{{ params.tier }}", "trigger_rule": "none_failed", **kwargs}
        super().__init__(**kwargs)
        self.stage = stage

    def execute(self, context: Any) -> Any:
        """As any other job, or not at all."""
        first, last = (STAGES.index(context["params"][name]) for name in ("start_at", "stop_at"))
        if not first <= STAGES.index(self.stage) <= last:
            raise AirflowSkipException(f"{self.stage} is not between {STAGES[first]} and {STAGES[last]}")
        return super().execute(context)


with DAG(
    "release_validation",
    description="Simulate, merge, reconstruct, compare, report: ALICE's release validation with a toy Monte Carlo",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    tags=["priority", "validation"],
    doc_md=__doc__,
    user_defined_macros={"folder_of": folder_of},
    default_args={"retries": 1, "retry_delay": 2.0},
    params={
        "events": Param(300, type="integer", minimum=1, description="Events of each simulation job"),
        "jobs": Param(4, type="integer", minimum=1, maximum=200, description="Simulation jobs"),
        "hits_per_chunk": Param(8000, type="integer", minimum=100, description="Of the reconstruction"),
        "seed": Param(1, type="integer"),
        "role": Param("reco", type="string"),
        "tier": Param("prod", type="string", enum=["prod", "devel", "opportunistic"]),
        "start_at": Param("simulate", type="string", enum=STAGES),
        "stop_at": Param("plots", type="string", enum=STAGES),
        "folder": Param("", type="string", description="Of the products; empty: a new one"),
        "patterns": Param(ERRORS, type="array", description="What in a log is an error"),
    },
) as dag:
    FOLDER = "{{ folder_of(params, run_id) }}"

    @task(retries=0)
    def check() -> list[str]:
        """Before anything runs: all that would make it fail later. The commands of the simulation."""
        context: Any = get_current_context()
        params, problems = dict(context["params"]), []
        folder = Path(folder_of(params, context["run_id"]))
        first, last = STAGES.index(params["start_at"]), STAGES.index(params["stop_at"])
        if last < first:
            problems.append(f"stop_at ({params['stop_at']}) comes before start_at ({params['start_at']})")
        for stage in STAGES[first : first + 1]:
            if stage in NEEDS and not any(folder.glob(NEEDS[stage])):
                problems.append(f"start_at is {stage}, but there is no {NEEDS[stage]} in {folder}")
        for pattern in params["patterns"]:
            try:
                re.compile(pattern)
            except re.error as error:
                problems.append(f"patterns: {pattern!r} is no regular expression: {error}")
        forecast = client_of().plan(
            {"role": params["role"], "tier": params["tier"], "name": "release-validation-check", "command": "true"}
        )
        if forecast["verdict"] == "refused":
            problems.append(f"a job of {params['role']}/{params['tier']} would be refused: {forecast['summary']}")
        folder.mkdir(parents=True, exist_ok=True)
        if problems:
            raise AirflowFailException("; ".join(problems))
        out = shlex.quote(str(folder))
        seeds = range(params["seed"], params["seed"] + params["jobs"])
        return [
            f"{TOY} simulate --events {params['events']} --seed {seed} --out {out}/sim-{seed}.json" for seed in seeds
        ]

    simulate = Step.partial(task_id="simulate", stage="simulate", job_resources={"cpus": 1}).expand(command=check())

    merge_qa, merge_resources = (
        Step(
            task_id=f"merge_{what}",
            stage="merge",
            command=f"{TOY} merge --what {what} --out '{FOLDER}'/{what}.json '{FOLDER}'/sim-*.json",
        )
        for what in ("qa", "resources")
    )

    clusters = Step(
        task_id="cluster",
        stage="reconstruct",
        command=f"{TOY} cluster '{FOLDER}' --hits-per-chunk {{{{ params.hits_per_chunk }}}}",
        result="json",
    )

    def environment(chunk: int) -> dict[str, str]:
        """Of the job for one chunk; how many there are is known when the first step has run."""
        return {"CHUNK": str(chunk)}

    track = Step.partial(
        task_id="track",
        stage="reconstruct",
        command=f"{TOY} track '{FOLDER}' --chunk $CHUNK",
        job_resources={"cpus": 0.5, "mem": "256MiB"},
        max_active_tis_per_dagrun=8,
    ).expand(env=clusters.output.map(environment))

    merge_tracks = Step(
        task_id="merge_tracks",
        stage="reconstruct",
        command=f"{TOY} merge --out '{FOLDER}'/reco.json '{FOLDER}'/reco-*.json",
    )
    compare = Step(task_id="compare", stage="compare", command=f"{TOY} compare '{FOLDER}'")
    plots = Step(task_id="plots", stage="plots", command=f"{PAGES} plots '{FOLDER}'")

    @task(trigger_rule="all_done", retries=0)
    def verdict() -> bool:
        """From the logs of all jobs of this run, those that failed included."""
        context: Any = get_current_context()
        folder = Path(folder_of(context["params"], context["run_id"]))
        labels = {"airflow.dag": context["dag"].dag_id, "airflow.run": context["run_id"]}
        found = scan(client_of(), labels, context["params"]["patterns"])
        for finding in found["findings"]:
            log.error("%s", finding)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "verdict.json").write_text(json.dumps(found), encoding="utf-8")
        return bool(found["good"])

    report = PriorityJobOperator(
        task_id="report",
        role="{{ params.role }}",
        tier="{{ params.tier }}",
        command=f"{PAGES} report '{FOLDER}'",
        trigger_rule="all_done",
        retries=0,
    )

    simulate >> [merge_qa, merge_resources, clusters]
    track >> merge_tracks
    [merge_qa, merge_tracks] >> compare
    [merge_qa, merge_resources, compare] >> plots >> verdict() >> report
