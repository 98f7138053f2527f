"""A job of ours as a task of Airflow.

The order of things: the connection is resolved, the job submitted under a key that names this very try, its uid kept in
Airflow's task state, and only then it is followed. So whatever dies where, the next one finds the job and does not
submit a second: the same try by the key, a retry by the task state (`ResumableJobMixin`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import orjson
from airflow.configuration import conf
from airflow.sdk import BaseOperator, BaseOperatorLink, ResumableJobMixin
from airflow.sdk.exceptions import AirflowException, TaskDeferralTimeout

from priority.airflow.hook import Access, PriorityHook
from priority.airflow.identity import Identity
from priority.airflow.trigger import PriorityJobTrigger
from priority.airflow.watch import Watch, failure, last_line
from priority.errors import Conflict, NotFound, PriorityError, QuotaExceeded

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.types import TaskInstanceKey

    from priority.face import views
    from priority.face.client import Client

UID_KEY = "priority_job"
"""Of the job's uid in Airflow's task state, and as an XCom."""

_PAGE_KEY = "priority_page"

_GONE = "gone"


class PriorityJobLink(BaseOperatorLink):
    """From the task to the job."""

    name = "Job"

    @property
    def xcom_key(self) -> str:
        """Where the operator leaves it."""
        return _PAGE_KEY

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Empty as long as nothing was submitted."""
        from airflow.sdk.execution_time.xcom import XCom

        return XCom.get_value(key=_PAGE_KEY, ti_key=ti_key) or ""


class PriorityJobOperator(ResumableJobMixin, BaseOperator):
    """Submits a job, follows its output into the task's log, and ends as the job ends. A preempted job comes back and
    is waited for. Fields are those of a job (`priority job schema`), where Airflow has no other use for the word:
    `resources` is `job_resources` here. `spec` is a whole job as a mapping; fields that stand beside it go first.

    `result` is what the task returns: `job` (a summary), `line` (the last line of instance 0's output), `json` (that
    line, read as JSON) or `none`. With `deferrable` it is followed for `defer_after_s`, then handed to the triggerer.
    """

    template_fields: Sequence[str] = (
        "command", "role", "tier", "name", "instances", "env", "job_resources", "priority", "constraints", "gang",
        "max_failures", "backoff", "max_runtime", "preempt", "kill_grace", "labels", "spec", "priority_conn_id",
    )  # fmt: skip
    template_fields_renderers = {"command": "bash", "env": "json", "spec": "json"}
    ui_color = "#d7ecdb"
    operator_extra_links = (PriorityJobLink(),)
    external_id_key = UID_KEY

    def __init__(
        self,
        *,
        command: str | Sequence[str] | None = None,
        role: str | None = None,
        tier: str | None = None,
        name: str | None = None,
        instances: int | str | None = None,
        env: Mapping[str, str] | None = None,
        job_resources: Mapping[str, Any] | None = None,
        priority: int | str | None = None,
        constraints: Sequence[Mapping[str, Any]] | None = None,
        gang: bool | None = None,
        max_failures: int | str | None = None,
        backoff: Mapping[str, Any] | None = None,
        max_runtime: float | str | None = None,
        preempt: Mapping[str, Any] | None = None,
        kill_grace: float | str | None = None,
        labels: Mapping[str, str] | None = None,
        spec: Mapping[str, Any] | None = None,
        result: Literal["job", "line", "json", "none"] = "job",
        priority_conn_id: str = PriorityHook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        defer_after_s: float = 5.0,
        poll_interval_s: float = 2.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.command = command
        self.role = role
        self.tier = tier
        self.name = name
        self.instances = instances
        self.env = env
        self.job_resources = job_resources
        self.priority = priority
        self.constraints = constraints
        self.gang = gang
        self.max_failures = max_failures
        self.backoff = backoff
        self.max_runtime = max_runtime
        self.preempt = preempt
        self.kill_grace = kill_grace
        self.labels = labels
        self.spec = spec
        self.result = result
        self.priority_conn_id = priority_conn_id
        self.deferrable = deferrable
        self.defer_after_s = defer_after_s
        self.poll_interval_s = poll_interval_s
        self._hook: PriorityHook | None = None
        self._access: Access | None = None
        self._uid: str | None = None
        self._stopped = False
        self._seen: dict[str, Any] = {}

    # --- what Airflow calls

    def execute(self, context: Context) -> Any:
        """Until the job has ended, or is deferred."""
        self._access = self.hook.access
        result = self.execute_resumable(context)
        self._forget(context)
        return result

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Called by Airflow when the trigger has seen the end."""
        self._access = self.hook.access
        self._uid = str(event["job"])
        self._seen = dict(event.get("seen") or {})
        if "error" in event:
            raise AirflowException(f"job {self._uid} could not be followed: {event['error']}")
        self._follow(self._uid, None)
        result = self.get_job_result(self._uid, context)
        self._forget(context)
        return result

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """A job that was not done in time is killed, as it would be if the task had not been deferred."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            uid = context["ti"].xcom_pull(task_ids=self.task_id, key=UID_KEY, map_indexes=context["ti"].map_index)
            if uid:
                self.log.info("the time is over; killing job %s", uid)
                self.hook.access.kill(str(uid), "its task in Airflow timed out")
            raise

    def on_kill(self) -> None:
        """Called in a signal handler: nothing is asked of Airflow here (see `hook`). A job that is being submitted just
        then is killed as soon as it is known.
        """
        self._stopped = True
        if self._uid is None or self._access is None:
            return
        self.log.info("killing job %s", self._uid)
        try:
            self._access.kill(self._uid, "its task in Airflow was stopped")
        except PriorityError as error:
            self.log.error("job %s could not be killed: %s", self._uid, error)

    # --- what ResumableJobMixin calls

    def submit_job(self, context: Context) -> str:
        """The uid. A refusal fails the task at once if another try would only hear it again."""
        identity = Identity(context)
        document = self._document(identity)
        job: Any
        try:
            job = self.hook.client.submit(document, identity.key)
        except QuotaExceeded as error:
            raise AirflowException(f"refused: {error}") from None
        except Conflict as error:
            job = self._submitted_before(document, identity, error)
        except PriorityError as error:
            raise AirflowException(f"job {document.get('name')} was not accepted: {error}") from None
        for warning in job.get("warnings", ()):
            self.log.warning("%s", warning)
        self._know(job, context)
        return str(job["uid"])

    def get_job_status(self, external_id: Any, context: Context) -> str:
        """`active`, `finished`, `failed` or `gone`."""
        try:
            job = self.hook.client.job(str(external_id))
        except NotFound:
            return _GONE
        if job["state"] == "active":
            self._know(job, context)
            return "active"
        return "failed" if failure(self.hook.client, job) else "finished"

    def is_job_active(self, status: str) -> bool:
        """Whether it is to be followed."""
        return status == "active"

    def is_job_succeeded(self, status: str) -> bool:
        """Whether its result can be taken."""
        return status == "finished"

    def poll_until_complete(self, external_id: Any, context: Context) -> Any:
        """Its output goes to the log. The result, since the mixin takes it from here when it reconnects."""
        uid = str(external_id)
        if self._follow(uid, self.defer_after_s if self.deferrable else None) is None:
            self.log.info("waiting for job %s in the triggerer", uid)
            self.defer(
                trigger=PriorityJobTrigger(
                    uid=uid, priority_conn_id=self.priority_conn_id, poll_interval_s=self.poll_interval_s,
                    seen=self._seen,
                ),
                method_name="execute_complete",
                timeout=self.execution_timeout,
            )  # fmt: skip
        return self.get_job_result(uid, context)

    def get_job_result(self, external_id: Any, context: Context) -> Any:  # noqa: ARG002
        """What the task returns; AirflowException if the job was no success."""
        client = self.hook.client
        job = client.job(str(external_id))
        if why := failure(client, job):
            raise AirflowException(why)
        if self.result == "job":
            return summary(job)
        if self.result == "none":
            return None
        line = last_line(client, job["uid"])
        if self.result == "line":
            return line
        try:
            return orjson.loads(line)
        except ValueError:
            raise AirflowException(f"the last line of the output of {job['key']} is not JSON: {line[:200]!r}") from None

    # --- ours

    @property
    def hook(self) -> PriorityHook:
        """Made once."""
        if self._hook is None:
            self._hook = PriorityHook(self.priority_conn_id)
        return self._hook

    def _document(self, identity: Identity) -> dict[str, Any]:
        """The job: what is not said is the connection's, or the service's own default."""
        access = self.hook.access
        given = {
            "command": self.command, "role": self.role, "tier": self.tier, "name": self.name,
            "instances": _number(self.instances), "env": self.env, "resources": self.job_resources,
            "priority": _number(self.priority), "constraints": self.constraints, "gang": self.gang,
            "max_failures": _number(self.max_failures), "backoff": self.backoff, "max_runtime": self.max_runtime,
            "preempt": self.preempt, "kill_grace": self.kill_grace,
        }  # fmt: skip
        defaults = {"role": access.role or None, "tier": access.tier or "devel", "name": identity.name}
        whole = {**defaults, **(self.spec or {}), **{name: value for name, value in given.items() if value is not None}}
        whole["labels"] = {**identity.labels, **(whole.get("labels") or {}), **(self.labels or {})}
        return {name: value for name, value in whole.items() if value is not None}

    def _submitted_before(self, document: Mapping[str, Any], identity: Identity, error: Conflict) -> views.JobView:
        """A template that says something else each time (a time, a random number) makes this try look like another: its
        job is known by its labels.
        """
        try:
            job = self.hook.client.job(f"{document['role']}/{document['tier']}/{document['name']}")
        except (NotFound, KeyError):
            raise AirflowException(f"refused: {error}") from None
        if not identity.labels.items() <= job["spec"].get("labels", {}).items():
            raise AirflowException(f"refused: {error}")
        return job

    def _know(self, job: views.JobView, context: Context) -> None:
        """From now on it can be killed, and found from the task."""
        self._uid = job["uid"]
        self.log.info("job %s (%s)", job["key"], job["uid"])
        if self._stopped:
            self.on_kill()
            raise AirflowException(f"stopped while job {job['uid']} was submitted")
        ti: Any = context["ti"]
        ti.xcom_push(key=UID_KEY, value=job["uid"])
        ti.xcom_push(key=_PAGE_KEY, value=self.hook.access.page_of(job["uid"]))

    def _follow(self, uid: str, for_s: float | None) -> views.JobView | None:
        self._uid = uid
        say, note = self.log.info, self.log.info
        watch = Watch(
            self.hook.client, uid, lambda line: say("%s", line), lambda line: note("[priority] %s", line), self._seen
        )
        try:
            return watch.follow(for_s)
        finally:
            self._seen = watch.state

    def _forget(self, context: Context) -> None:
        """After a success. Who clears the task wants it to run again, not the result of the old job."""
        store = context.get("task_state_store")
        if store is not None:
            store.delete(self.external_id_key)


def summary(job: views.JobView) -> dict[str, Any]:
    """Of a job that has ended, small enough for an XCom."""
    names = ("uid", "key", "instances", "finished", "failed", "killed", "submitted", "ended")
    return {name: job[name] for name in names}  # type: ignore[literal-required]


def client_of(priority_conn_id: str = PriorityHook.default_conn_name) -> Client:
    """For a task that asks the API itself."""
    return PriorityHook(priority_conn_id).client


def _number(value: Any) -> Any:
    """A template gives text."""
    return int(value) if isinstance(value, str) and value.lstrip("-").isdigit() else value
