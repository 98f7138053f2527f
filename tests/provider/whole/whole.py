"""DAGs for Airflow's real components: every task is a job, by PriorityExecutor."""

from __future__ import annotations

import time

from airflow.sdk import DAG, task

from priority.airflow.operator import PriorityJobOperator

JOB = {"role": "pilots", "tier": "devel", "command": "echo up; exec sleep 600", "kill_grace": 1}

with DAG("twenty", schedule=None, default_args={"retries": 3, "retry_delay": 1.0}):

    @task(executor_config={"labels": {"which": "twenty"}})
    def square(number: int) -> int:
        """Quick."""
        return number * number

    @task
    def add(numbers: list[int]) -> int:
        """Of all."""
        return sum(numbers)

    add(square.expand(number=list(range(20))))

with DAG("slow", schedule=None):

    @task(executor_config={"role": "pilots", "tier": "devel"})
    def wait(number: int) -> int:
        """Long enough for a scheduler to die in the middle."""
        time.sleep(25)
        return number

    wait.expand(number=list(range(4)))

with DAG("deferred", schedule=None):
    PriorityJobOperator(task_id="job", **JOB, deferrable=True, defer_after_s=0.0, poll_interval_s=0.5)

with DAG("running", schedule=None):
    PriorityJobOperator(task_id="job", **JOB)

with DAG("experiment", schedule=None, default_args={"retries": 0}):

    @task(executor_config={"role": "pilots", "tier": "devel", "resources": {"cpus": 3}})
    def explore(number: int) -> int:
        """Gives way in the middle, and comes back."""
        time.sleep(20)
        return number

    explore.expand(number=[1, 2])

with DAG("production", schedule=None, default_args={"queue": "pilots/prod"}):

    @task(executor_config={"resources": {"cpus": 3}})
    def produce(number: int) -> int:
        """Must not wait."""
        time.sleep(1)
        return number

    produce.expand(number=[1, 2])
