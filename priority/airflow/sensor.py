"""Waits for a job that somebody else submitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.configuration import conf
from airflow.sdk import BaseSensorOperator, PokeReturnValue
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from priority.airflow.hook import PriorityHook
from priority.airflow.operator import summary
from priority.airflow.trigger import PriorityJobTrigger
from priority.airflow.watch import failure
from priority.errors import NotFound, Unavailable

if TYPE_CHECKING:
    from airflow.sdk import Context

    from priority.face import views


class PriorityJobSensor(BaseSensorOperator):
    """Until the job (a uid, or the latest `role/tier/name`) has ended; it fails at once if that was no success. A job
    that is not there yet is waited for, unless `must_exist`.
    """

    template_fields: Sequence[str] = ("job", "priority_conn_id")
    ui_color = "#d7ecdb"

    def __init__(
        self,
        *,
        job: str,
        must_exist: bool = False,
        priority_conn_id: str = PriorityHook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("poke_interval", 5.0)
        super().__init__(**kwargs)
        self.job = job
        self.must_exist = must_exist
        self.priority_conn_id = priority_conn_id
        self.deferrable = deferrable
        self._hook: PriorityHook | None = None

    @property
    def hook(self) -> PriorityHook:
        """Made once."""
        if self._hook is None:
            self._hook = PriorityHook(self.priority_conn_id)
        return self._hook

    def execute(self, context: Context) -> Any:
        """A job that is there can be waited for in the triggerer; one that is not, only by poking."""
        if not self.deferrable:
            return super().execute(context)
        found = self._find()
        if found is None:
            return super().execute(context)
        if found["state"] == "active":
            trigger = PriorityJobTrigger(found["uid"], self.priority_conn_id, self.poke_interval)
            self.defer(trigger=trigger, method_name="execute_complete", timeout=self.timeout)
        return self._ended(found)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:  # noqa: ARG002
        """Called by Airflow when the trigger has seen the end."""
        if "error" in event:
            raise AirflowException(f"job {event['job']} could not be followed: {event['error']}")
        return self._ended(self.hook.client.job(str(event["job"])))

    def poke(self, context: Context) -> PokeReturnValue | bool:  # noqa: ARG002
        """Whether it has ended."""
        try:
            found = self._find()
        except Unavailable as error:
            self.log.warning("%s", error)
            return False
        if found is None or found["state"] == "active":
            return False
        return PokeReturnValue(True, self._ended(found))

    def _find(self) -> views.JobView | None:
        try:
            return self.hook.client.job(self.job)
        except NotFound as error:
            if self.must_exist:
                raise AirflowFailException(str(error)) from None
            self.log.info("there is no job %s yet", self.job)
            return None

    def _ended(self, job: views.JobView) -> dict[str, Any]:
        if why := failure(self.hook.client, job):
            raise AirflowFailException(why)
        return summary(job)
