"""Tasks for the tests: one for each thing that can happen to a job."""

from __future__ import annotations

import threading

from airflow.sdk import DAG, task

from priority.airflow.operator import PriorityJobOperator
from priority.airflow.sensor import PriorityJobSensor

CI = {"role": "ci", "tier": "devel"}
PROD = {"role": "reco", "tier": "prod"}


class Twice(PriorityJobOperator):
    """A worker that dies after it has submitted, and another that takes its place."""

    def submit_job(self, context):
        """The same job, though what it says is another thing each time."""
        first = super().submit_job(context)
        assert super().submit_job(context) == first
        self.env = {"NOW": "later"}
        assert super().submit_job(context) == first
        return first


class Stopped(PriorityJobOperator):
    """Airflow stops the task as soon as it is followed."""

    def poll_until_complete(self, external_id, context):
        """As a signal would."""
        threading.Timer(0.2, self.on_kill).start()
        return super().poll_until_complete(external_id, context)


with DAG("everything", schedule=None) as everything:
    one = PriorityJobOperator(
        task_id="one", **PROD, command=["sh", "-c", "echo '{{ task.task_id }}'; echo aside >&2; echo '[3, 4]'"],
        result="json", labels={"mine": "yes"}, env={"A": "b"}, job_resources={"cpus": 0.5}, max_failures="2",
    )  # fmt: skip
    many = PriorityJobOperator.partial(task_id="many", **PROD, command="echo $N", result="line").expand(
        env=one.output.map(lambda number: {"N": str(number * 2)})
    )
    deferred = PriorityJobOperator(
        task_id="deferred", **PROD, command="echo begun; sleep 1; echo done", deferrable=True, defer_after_s=0.0,
        poll_interval_s=0.2,
    )  # fmt: skip
    awaited = PriorityJobSensor(
        task_id="awaited", job="{{ ti.xcom_pull(task_ids='deferred', key='priority_job') }}", deferrable=True
    )

    @task.priority(**PROD)
    def function(number: int, *, by: int) -> dict:
        """Runs on a node."""
        print("in the job")
        return {"product": number * by}

    twice = Twice(task_id="twice", **CI, command="true")
    one >> twice >> deferred >> awaited >> function(6, by=7)

with DAG("over_quota", schedule=None):
    PriorityJobOperator(task_id="greedy", **PROD, command="true", instances=50)

with DAG("failing", schedule=None):
    PriorityJobOperator(task_id="fails", **CI, command="echo going down; exit 3")

with DAG("stopped", schedule=None):
    Stopped(task_id="stopped", **CI, command="echo up; exec sleep 300", kill_grace=1)

with DAG("displaced", schedule=None):
    PriorityJobOperator(
        task_id="displaced", **CI, command="[ $PRIORITY_ATTEMPT -gt 1 ] && exec echo back; exec sleep 300",
        job_resources={"cpus": 4}, preempt={"notice": 1}, result="line",
    )  # fmt: skip
