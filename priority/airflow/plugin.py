"""A task that a person marks ends its job at once: a listener in Airflow's API server.

By itself Airflow tells a running task with its next heartbeat (up to five seconds later, then SIGTERM), and a deferred
one through its trigger, but only if the triggerer has begun that: one which was marked before is dropped without a word
(3.3.2). So the kill is asked for where the mark is made, as soon as it is committed; `on_kill` of operator and trigger
remain for what is not marked by hand: cleared tasks, timeouts, a worker that stops.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl
from airflow.sdk.plugins_manager import AirflowPlugin

from priority.errors import PriorityError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

log = logging.getLogger(__name__)

PATIENCE_S = 25.0
_THREADS = 4


class Marks:
    """Of tasks, by hand: Airflow tells their former state of all others. A retry finds the job of one that was lost, so
    that must not be killed.
    """

    def __init__(self) -> None:
        self._killers = ThreadPoolExecutor(_THREADS, "priority-kill")

    @hookimpl
    def on_task_instance_success(self, previous_state: Any, task_instance: Any) -> None:
        """The hook of Airflow."""
        self._marked(previous_state, task_instance)

    @hookimpl
    def on_task_instance_failed(self, previous_state: Any, task_instance: Any) -> None:
        """The hook of Airflow."""
        self._marked(previous_state, task_instance)

    @hookimpl
    def on_task_instance_skipped(self, previous_state: Any, task_instance: Any) -> None:
        """The hook of Airflow."""
        self._marked(previous_state, task_instance)

    def _marked(self, previous_state: Any, ti: Any) -> None:
        from airflow.models.taskinstance import TaskInstance
        from sqlalchemy import event
        from sqlalchemy.orm import object_session

        session = object_session(ti) if previous_state is None and isinstance(ti, TaskInstance) else None
        found = _job_of(ti, session) if session is not None else None
        if session is not None and found is not None:
            event.listen(session, "after_commit", lambda _: self._killers.submit(_kill, *found), once=True)


def _job_of(ti: Any, session: Session) -> tuple[str, str] | None:
    """The connection, and the uid; None of a task that has no job."""
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.models.xcom import XComModel

    from priority.airflow.hook import PriorityHook
    from priority.airflow.operator import UID_KEY

    row = session.scalar(
        XComModel.get_many(
            run_id=ti.run_id, key=UID_KEY, task_ids=ti.task_id, dag_ids=ti.dag_id, map_indexes=ti.map_index, limit=1
        )
    )
    if row is None:
        return None
    fields = RenderedTaskInstanceFields.get_templated_fields(ti, session=session) or {}
    connection = str(fields.get("priority_conn_id") or PriorityHook.default_conn_name)
    return connection, str(XComModel.deserialize_value(row))


def _kill(connection: str, uid: str) -> None:
    from airflow.sdk.exceptions import AirflowException

    from priority.airflow.hook import PriorityHook

    try:
        PriorityHook(connection).access.kill(uid, "its task was marked in Airflow", PATIENCE_S)
        log.info("job %s is killed: its task was marked", uid)
    except (PriorityError, AirflowException) as error:
        log.warning("job %s of a marked task could not be killed: %s", uid, error)


class PriorityPlugin(AirflowPlugin):
    """Found by its entry point: one that a provider describes is not loaded where providers are discovered lazily."""

    name = "priority"
    listeners = [Marks()]
