"""Every task of Airflow as a job of ours: role, tier, quota and preemption hold for it as for any other.

    [core] executor = priority.airflow.executor.PriorityExecutor

A task says what it is worth by `executor_config` ({"role", "tier", "priority", "resources", ...}), or by its queue (a
tier, or role/tier); its `priority_weight` is the job's priority.

Known by TaskInstanceKey, of which there is one workload at a time: one that was deferred comes again under the same
key, and what its former job has still to say is then dropped. Told too late, "the task has finished" would fail a task
that is queued (Airflow 3.3.2; apache/airflow 67287).

Who dies, and what follows: the jobs run on without Airflow's scheduler, and the next one adopts them by a label that
names the key. A job that gave way ends; its task is queued again, without using up a retry.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.configuration import AIRFLOW_HOME
from airflow.executors.base_executor import BaseExecutor
from airflow.executors.workloads import ExecuteTask
from airflow.sdk.exceptions import AirflowException
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState

from priority.airflow.hook import PriorityHook
from priority.airflow.identity import digest, name_of
from priority.airflow.nurseries import Nurseries
from priority.airflow.run import DISPLACED, NOTICE, TAKEN, give
from priority.errors import Conflict, NotFound, PriorityError, QuotaExceeded, Unavailable

if TYPE_CHECKING:
    from airflow.cli.cli_config import GroupCommand
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.taskinstancekey import TaskInstanceKey

    from priority.airflow.hook import Access
    from priority.face import views
    from priority.face.client import Client

LABEL = "airflow.task-instance"
"""Of a job: the digest of its TaskInstanceKey."""

TIERS = ("prod", "devel", "opportunistic")
PATIENCE_S = 2.0
"""So long Airflow's scheduler loop may wait for us; what was not done then is done with the next heartbeat."""

LOOK_S = 30.0
"""All jobs are looked at so often, whatever the events have told."""

REFUSED_S = 5.0
"""So long a task that the quota did not allow waits until it is asked for again."""

NOTICE_S = 10.0
_PAGES = 50
_BULK = 500
MEM = "1GiB"
"""Of a task, if nobody says."""

_ASKED = {
    "role", "tier", "priority", "resources", "constraints", "env", "labels", "max_runtime", "kill_grace", "preempt",
}  # fmt: skip
_SECRETS = ("AIRFLOW__DATABASE__", "AIRFLOW__API_AUTH__", "AIRFLOW__API__SECRET_KEY", "AIRFLOW__CORE__FERNET_KEY")
_HANDED = ("PATH", "PYTHONPATH", "VIRTUAL_ENV", "LANG", "TZ", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


class PriorityExecutor(BaseExecutor):
    """See the module."""

    is_local = False
    is_production = True
    serve_logs = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._jobs: dict[TaskInstanceKey, str] = {}
        self._keys: dict[str, TaskInstanceKey] = {}
        self._files: dict[str, Path] = {}
        self._not_before: dict[TaskInstanceKey, float] = {}
        self._ended: set[str] = set()
        self._event: int | None = None
        self._looked = time.monotonic()
        self._nurseries: Nurseries | None = None
        self._made: Client | None = None
        self._access: Access | None = None

    # --- what Airflow calls

    def start(self) -> None:
        """Nothing runs yet; the folder for the hand-overs is made."""
        self._folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._said("nursery").lower() not in ("false", "0", "no"):
            role = self._said("role") or self.access.role
            self._nurseries = Nurseries(self._folder(), self._python(), role, self.parallelism)
        self.log.info("tasks become jobs of %s", self.access.url)

    def _process_workloads(self, workload_items: Sequence[Any]) -> None:
        """What the quota has refused is asked for again after a while."""
        asked = []
        for workload in workload_items:
            if not self._rests(workload.key):
                try:
                    asked.append((workload, self._document(workload)))
                except ValueError as error:
                    self._refuse(workload, str(error))
        for begin in range(0, len(asked), _BULK):
            self._submit(asked[begin : begin + _BULK])

    def _submit(self, asked: Sequence[tuple[ExecuteTask, dict[str, Any]]]) -> None:
        """In one request; if that is refused, each alone, so that one task's mistake is its own."""
        try:
            for workload, document in asked:
                self._hand_over(document["name"], workload)
            found = self._client.submit_many([document for _, document in asked])["jobs"]
        except Unavailable as error:
            self.log.warning("tasks wait: %s", error)
        except PriorityError:
            for workload, document in asked:
                self._submit_alone(workload, document)
        else:
            for (workload, document), job in zip(asked, found, strict=True):
                self._know(workload, job["uid"], document["name"])

    def order_queued_tasks_by_priority(self) -> list[tuple[TaskInstanceKey, ExecuteTask]]:
        """Those that the quota has refused come last: they must not stand before those that it allows."""
        return sorted(super().order_queued_tasks_by_priority(), key=lambda one: self._rests(one[0]))

    def _rests(self, key: TaskInstanceKey) -> bool:
        return self._not_before.get(key, 0.0) > time.monotonic()

    def sync(self) -> None:
        """Which jobs have ended: from the events, each half a minute by asking."""
        try:
            if self._nurseries is not None:
                self._nurseries.keep(self._client, handed(os.environ))
            if not self._jobs:
                self._event = None
                return
            self._listen()
            for uid in list(self._ended):
                self._report(uid)
        except PriorityError as error:  # Airflow's scheduler must not die of it
            self.log.warning("what became of the tasks is not known yet: %s", error)

    def try_adopt_task_instances(self, tis: Sequence[TaskInstance]) -> Sequence[TaskInstance]:
        """Those that have a job which runs, or has ended since the task began; the others are given back."""
        orphans = []
        for ti in tis:
            try:
                job = self._job_of(ti)
            except Unavailable as error:
                self.log.warning("%s is taken as it was: %s", ti.key, error)
                if ti.external_executor_id:
                    self._remember(ti.key, ti.external_executor_id)
                else:
                    orphans.append(ti)
                continue
            if job is None or (job["state"] != "active" and ti.state == TaskInstanceState.QUEUED):
                orphans.append(ti)  # a job that ended before the task was queued is that of an earlier leg
                continue
            self.log.info("adopted %s: job %s", ti.key, job["uid"])
            self._remember(ti.key, job["uid"])
            self._files[job["uid"]] = self._file(job["name"])
            self._ended.add(job["uid"])  # looked at with the next heartbeat
        return orphans

    def revoke_task(self, *, ti: TaskInstance) -> None:
        """Airflow does not want it any more; nothing is reported of it."""
        self.queued_tasks.pop(ti.key, None)
        self.running.discard(ti.key)
        uid = self._jobs.pop(ti.key, None)
        if uid is None:
            return
        self._forget(uid)
        try:
            self.access.kill(uid, "its task was revoked in Airflow")
        except PriorityError as error:
            self.log.warning("job %s of a revoked task could not be killed: %s", uid, error)

    def get_task_log(self, ti: TaskInstance, try_number: int) -> tuple[list[str], list[str]]:
        """While it runs: what the job has written until now."""
        key = ti.key.with_try_number(try_number)
        try:
            for job in self._client.jobs(label=f"{LABEL}={digest(*key)}", limit=1)["items"]:
                data = self._client.logs(job["uid"], instance=0, offset=-(2**20), limit=2**20)[1]
                return [f"Job {job['key']} ({job['uid']})"], data.decode(errors="replace").splitlines()
        except (PriorityError, AirflowException) as error:
            return [f"The job's output cannot be read: {error}"], []
        return [], []

    def end(self) -> None:
        """The jobs go on; the next scheduler adopts them."""
        if self._made is not None:
            self._made.close()
            self._made = None

    def terminate(self) -> None:
        """As `end`."""
        self.end()

    @staticmethod
    def get_cli_commands() -> list[GroupCommand]:
        """None."""
        return []

    # --- a task as a job

    def _document(self, workload: ExecuteTask) -> dict[str, Any]:
        """ValueError says what is wrong with its `executor_config`."""
        ti, key = workload.ti, digest(*workload.key)
        asked = dict(ti.executor_config or {})
        if unknown := sorted(set(asked) - _ASKED):
            raise ValueError(f"executor_config: {unknown[0]} is not known; there are {', '.join(sorted(_ASKED))}")
        role, tier = self._queue(ti.queue)
        amounts: dict[str, Any] = asked.get("resources") or {"cpus": float(self._said("cpus") or 1)}
        # The service's own default would not hold Airflow itself.
        if isinstance(amounts, dict) and "mem" not in amounts and (mem := self._said("mem", MEM)):
            amounts = {**amounts, "mem": mem}
        name = name_of(f"{ti.dag_id}.{ti.task_id}", digest(key, ti.id, workload.token))
        breed = [] if self._nurseries is None else [self._nurseries.breed]
        labels = {"airflow.dag": ti.dag_id, "airflow.task": ti.task_id, "airflow.run": ti.run_id}
        document = {
            "role": role or self._said("role") or self.access.role,
            "tier": tier or self._said("tier") or self.access.tier or "devel",
            "priority": max(-1_000_000, min(1_000_000, ti.priority_weight)),
            "preempt": {"action": "end", "signal": NOTICE.name.removeprefix("SIG"), "notice": NOTICE_S},
            **asked,
            "resources": amounts,
            "name": name,
            "command": [*self._python(), "-m", "priority.airflow.run", str(self._file(name)), *breed],
        }
        if not document["role"]:
            raise ValueError("no role: name one in executor_config, the queue, [priority] role, or the connection")
        short = {label: value[:255] for label, value in labels.items()}
        return {**document, "labels": {**short, **asked.get("labels", {}), LABEL: key}}

    @staticmethod
    def _queue(queue: str | None) -> tuple[str, str]:
        """A queue may be a tier, or role/tier; any other says nothing."""
        role, _, tier = (queue or "").rpartition("/")
        return (role, tier) if tier in TIERS else ("", "")

    def _python(self) -> list[str]:
        return [self._said("python") or sys.executable]

    def _said(self, option: str, fallback: str = "") -> str:
        return str(self.conf.get("priority", option, fallback=fallback) or "")

    def _folder(self) -> Path:
        return Path(self._said("folder") or Path(AIRFLOW_HOME) / "priority")

    def _file(self, name: str) -> Path:
        return self._folder() / f"{name}.json"

    def _hand_over(self, name: str, workload: ExecuteTask) -> None:
        """Before it is submitted."""
        give(self._file(name), {"workload": workload.model_dump_json(), "env": handed(os.environ)})

    def _submit_alone(self, workload: ExecuteTask, document: Mapping[str, Any]) -> None:
        try:
            job = self._client.submit(document)
            self._know(workload, job["uid"], document["name"])
        except QuotaExceeded as error:
            self._not_before[workload.key] = time.monotonic() + REFUSED_S
            self.log.warning("%s waits: %s", workload.key, error)
        except Unavailable as error:
            self.log.warning("%s waits: %s", workload.key, error)
        except Conflict as error:
            self._take_over(workload, document, error)
        except PriorityError as error:
            self._refuse(workload, str(error))

    def _take_over(self, workload: ExecuteTask, document: Mapping[str, Any], error: Conflict) -> None:
        """The name is that of this very workload: it was submitted, and the answer lost."""
        try:
            job = self._client.job(f"{document['role']}/{document['tier']}/{document['name']}")
            self._know(workload, job["uid"], document["name"])
            self._ended.add(job["uid"])
        except NotFound:
            self._refuse(workload, str(error))

    def _refuse(self, workload: ExecuteTask, why: str) -> None:
        self.queued_tasks.pop(workload.key, None)
        self._not_before.pop(workload.key, None)
        self.fail(workload.key, why)

    # --- what runs

    def _know(self, workload: ExecuteTask, uid: str, name: str) -> None:
        key = workload.key
        self.queued_tasks.pop(key, None)
        self._not_before.pop(key, None)
        self.event_buffer.pop(key, None)
        self._remember(key, uid)
        self._files[uid] = self._file(name)
        self.running_state(key, uid)  # Airflow keeps the uid for whoever adopts it

    def _remember(self, key: TaskInstanceKey, uid: str) -> None:
        """The newest job of a key is the one that counts."""
        former = self._jobs.get(key)
        if former is not None and former != uid:
            self._forget(former)
        self.running.add(key)
        self._jobs[key] = uid
        self._keys[uid] = key

    def _forget(self, uid: str) -> None:
        self._keys.pop(uid, None)
        self._ended.discard(uid)
        if path := self._files.pop(uid, None):
            path.unlink(missing_ok=True)

    def _listen(self) -> None:
        now = time.monotonic()
        if self._event is None or now - self._looked > LOOK_S:
            self._looked = now
            self._event = self._client.last_event() if self._event is None else self._event
            self._ended |= set(self._keys)
        for _ in range(_PAGES):
            page = self._client.event_page(self._event)
            self._ended |= {
                str(event["job"])
                for event in page["items"]
                if event["kind"] == "job.ended" and event["job"] in self._keys
            }
            self._event = page["last"] if page["next"] is None else page["next"]
            if page["next"] is None:
                return

    def _report(self, uid: str) -> None:
        key = self._keys.get(uid)
        if key is None:
            self._ended.discard(uid)
            return
        try:
            job = self._client.job(uid)
        except NotFound:
            self._done(uid, key)
            self.fail(key, f"job {uid} is gone")
            return
        if job["state"] == "active":
            self._ended.discard(uid)
            return
        gave_way, why = self._fate(job)
        self._done(uid, key)
        if not why:
            self.success(key)
        elif not (gave_way and self._bring_back(key)):
            self.fail(key, why)

    def _done(self, uid: str, key: TaskInstanceKey) -> None:
        self._jobs.pop(key, None)
        self._forget(uid)

    def _fate(self, job: views.JobView) -> tuple[bool, str]:
        """Whether it may come back, and why it did not end by itself; no text if it did: then the task has told Airflow
        how.
        """
        if job["finished"]:
            return False, ""
        last = self._client.tasks(job["uid"], current=True)["items"][-1]
        gave_way = last["state"] == "preempted" or last["exit_code"] in (DISPLACED, TAKEN)
        if last["state"] == "failed" and last["exit_code"] is not None and not gave_way:
            return False, ""
        reason = (last["reason"] or {}).get("message", "")
        return gave_way, f"job {job['key']} ({job['uid']}) was {last['state']}" + (f": {reason}" if reason else "")

    def _bring_back(self, key: TaskInstanceKey) -> bool:
        """Displaced, it is queued again without using up a retry: by the way of a task that a user has cleared while it
        ran. False if it is not ours to bring back.
        """
        from airflow.models.taskinstance import TaskInstance as Row
        from sqlalchemy import update
        from sqlalchemy.exc import SQLAlchemyError

        live = (TaskInstanceState.QUEUED, TaskInstanceState.RUNNING)
        same = (
            Row.dag_id == key.dag_id, Row.task_id == key.task_id, Row.run_id == key.run_id,
            Row.map_index == key.map_index, Row.try_number == key.try_number, Row.state.in_(live),
        )  # fmt: skip
        try:
            with create_session() as session:
                done: Any = session.execute(update(Row).where(*same).values(state=TaskInstanceState.RESTARTING))
        except SQLAlchemyError as error:
            self.log.warning("%s could not be brought back: %s", key, error)
            return False
        if not done.rowcount:
            return False
        self.log.info("%s gave way and is queued again", key)
        self.success(key)
        return True

    def _job_of(self, ti: TaskInstance) -> views.JobView | None:
        """The newest with its label. Airflow's own note of the uid may be that of an earlier leg."""
        found = self._client.jobs(label=f"{LABEL}={digest(*ti.key)}", limit=1)["items"]
        return self._client.job(found[0]["uid"]) if found else None

    # --- where the API is

    @property
    def access(self) -> Access:
        """Asked of Airflow once."""
        if self._access is None:
            self._access = PriorityHook(self._said("conn_id") or PriorityHook.default_conn_name).access
        return self._access

    @property
    def _client(self) -> Client:
        if self._made is None:
            self._made = self.access.client(timeout_s=20.0, retry_s=PATIENCE_S)
        return self._made


def handed(environment: Mapping[str, str]) -> dict[str, str]:
    """What a task gets of the scheduler's environment: Airflow's settings, but none of the secrets that only its own
    components need (the database, the key that signs tokens).
    """
    ours = {name: value for name, value in environment.items() if name.startswith("AIRFLOW") or name in _HANDED}
    return {
        "AIRFLOW_HOME": AIRFLOW_HOME,
        **{name: value for name, value in ours.items() if not name.startswith(_SECRETS)},
    }
