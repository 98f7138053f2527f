"""What users do with jobs. Each verb is one transaction; the doorbell rings after its commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from priority import lifecycle
from priority.errors import Conflict, Invalid, PriorityError
from priority.job import Job, JobState
from priority.orders import LogChunk, LogRequest
from priority.ports import Reader, Writer
from priority.records import Event, JobQuery, Page, User
from priority.resources import times
from priority.service.access import no_such, visible_roles
from priority.service.admission import Accepted, Admission, Answer, Submission, check, check_quota, first_attempts
from priority.service.ending import Order, audit_of, by, end_named, end_selected, move_all
from priority.service.finding import attempts_of, find_job, find_task
from priority.service.largest import over_ceiling
from priority.service.ledger import Ledger, parts_of
from priority.service.parts import Parts
from priority.task import TERMINAL, State, Task, task_id

__all__ = ["Accepted", "Jobs", "Standing", "Submission"]

Answers = list[Answer]
Events = list[Event]
JobPage = tuple[list[Job], str | None]
News = tuple[list[Job], int | None]
"""Jobs that were made, and the newest event."""
TaskPage = tuple[list[Task], str | None]


@dataclass(frozen=True, slots=True)
class Standing:
    """A job, and in which states how many of its active instances are; together they are `job.active`."""

    job: Job
    states: Mapping[State, int]


Looks = list[Standing]
LookPage = tuple[list[Standing], str | None]

PLACED_LOOK_S = 0.25
"""Between two looks whether a task whose output somebody waits for has been placed."""


class Jobs:
    """The verbs. `ref` is a job's uid or `role/tier/name` (the latest one so named)."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    # --- asking --------------------------------------------------------------------------------------------------

    def get(self, actor: User, ref: str) -> Job:
        """`NotFound` if there is none or no grant."""
        with self._parts.store.read() as reader:
            return find_job(reader, actor, ref)

    def list(self, actor: User, query: JobQuery, page: Page) -> JobPage:
        """Newest first, and the next page's cursor; only of roles that the actor has a grant for."""
        with self._parts.store.read() as reader:
            return reader.jobs(replace(query, roles=_narrow(query.roles, actor)), page)

    def look(self, actor: User, query: JobQuery, page: Page) -> LookPage:
        """As `list`, and where the instances of each job are. `Invalid` for a tier that is none."""
        self._check_tier(query)
        with self._parts.store.read() as reader:
            jobs, after = reader.jobs(replace(query, roles=_narrow(query.roles, actor)), page)
            return _standing(reader, jobs), after

    def _check_tier(self, query: JobQuery) -> None:
        if query.tier is not None and query.tier not in self._parts.tiers:
            raise Invalid("tier", f"{query.tier!r} is not a tier; there are {', '.join(self._parts.tiers)}")

    def look_at(self, actor: User, ref: str) -> Standing:
        """As `get`, and where its instances are."""
        with self._parts.store.read() as reader:
            return _standing(reader, [find_job(reader, actor, ref)])[0]

    def look_again(self, jobs: Sequence[Job]) -> Looks:
        """The same jobs as they are now, and where their instances are; for who was shown them already."""
        with self._parts.store.read() as reader:
            now = reader.jobs_of([job.uid for job in jobs])
            return _standing(reader, [now.get(job.uid, job) for job in jobs])

    def tasks(
        self, actor: User, ref: str, page: Page, states: Collection[State] | None = None, current: bool = False
    ) -> TaskPage:
        """A job's tasks by instance and attempt; `current`: of each instance the newest, and one that still dies."""
        with self._parts.store.read() as reader:
            return reader.tasks(find_job(reader, actor, ref).uid, page, states, current)

    def task(self, actor: User, id: str) -> Task:
        """One task; `NotFound` if there is none or no grant."""
        with self._parts.store.read() as reader:
            return find_task(reader, actor, id)[0]

    def events(self, actor: User, after: int, limit: int, job: str | None = None) -> Events:
        """Committed facts in order, after the event `after`; `job` is a ref."""
        with self._parts.store.read() as reader:
            uid = find_job(reader, actor, job).uid if job is not None else None
            return reader.events(after, limit, visible_roles(actor), uid)

    def last_event(self) -> int:
        """The id of the newest event."""
        with self._parts.store.read() as reader:
            return reader.last_event()

    def logs(
        self,
        actor: User,
        ref: str,
        *,
        instance: int | None = None,
        stream: Literal["stdout", "stderr"] = "stdout",
        offset: int = 0,
        limit: int = 65_536,
        wait_s: float = 0.0,
    ) -> LogChunk:
        """Output of a task: `ref` is a task's id, or a job with `instance` (its latest attempt that was placed).
        A task that has not been placed answers, after `wait_s`, an empty chunk that has not `started`.
        """
        until_s = time.monotonic() + wait_s
        while True:
            with self._parts.store.read() as reader:
                task = self._task_to_read(reader, actor, ref, instance)
            left_s = until_s - time.monotonic()
            if task.node is not None or task.state in TERMINAL or left_s <= 0:
                break
            # No bell rings for one task: a look costs some 50 us, and who reads output of what waits is one of few.
            time.sleep(min(PLACED_LOOK_S, left_s))
        if task.node is None:
            return LogChunk(0, b"", ended=task.state in TERMINAL, started=False)
        return self._parts.backend.logs(
            LogRequest(node=task.node, task=task.id, stream=stream, offset=offset, limit=limit, wait_s=wait_s)
        )

    def _task_to_read(self, reader: Reader, actor: User, ref: str, instance: int | None) -> Task:
        if instance is None and parts_of(ref) is not None:
            return find_task(reader, actor, ref)[0]
        job = find_job(reader, actor, ref)
        attempts = attempts_of(reader, job.uid, instance or 0)
        if not attempts:
            raise no_such(f"instance {instance or 0} of job {ref}")
        return next((task for task in reversed(attempts) if task.node is not None), attempts[-1])

    # --- submitting ----------------------------------------------------------------------------------------------

    def submit(self, requests: Sequence[Submission], answered: Callable[[Answers], None] | None = None) -> Answers:
        """Admit or refuse many independent requests in one transaction; the answers are in the order of `requests`.

        Each is refused on its own: `Invalid`, `NotFound` (role), `Conflict` (name in use, key used for another
        body), `QuotaExceeded` with the numbers. Raises only `Unavailable`. `answered` gets the answers as soon as they
        are on disk: before the scheduler is told, for which a client need not wait.
        """
        answers: dict[int, Answer] = {}
        good: dict[int, Submission] = {}
        for index, request in enumerate(requests):
            try:
                good[index] = check(request, self._parts)
            except PriorityError as error:
                answers[index] = error
        news = self._admit(good, answers) if good else None
        found = [answers[index] for index in range(len(requests))]
        if answered is not None:
            answered(found)
        if news is not None:
            self._parts.ring(*news)
        return found

    def _admit(self, good: Mapping[int, Submission], answers: dict[int, Answer]) -> News:
        """One transaction; the jobs that it made and the last event, for `Parts.ring`."""
        with self._parts.store.write() as writer:
            now_us = self._parts.clock.now_us()
            admission = Admission.begin(self._parts, writer, list(good.values()), now_us)
            for index, request in good.items():
                try:
                    answers[index] = admission.admit(request)
                except PriorityError as error:
                    answers[index] = error
            last_event = admission.write()
        return admission.jobs, last_event

    # --- changing ------------------------------------------------------------------------------------------------

    def kill(self, actor: User, ref: str, instances: Collection[int] | None = None, why: str = "") -> Job:
        """End these instances (None: all). What waits ends at once; what runs is stopped with the job's grace.
        Instances that have ended already are left as they are.
        """
        return end_named(self._parts, actor, [ref], Order(lifecycle.Event.KILL, instances, why))[0]

    def restart(self, actor: User, ref: str, instances: Collection[int] | None = None, why: str = "") -> Job:
        """Begin these instances (None: all that run) anew: stopped with the job's grace, then another attempt.
        `Conflict` if the job has ended.
        """
        return end_named(self._parts, actor, [ref], Order(lifecycle.Event.RESTART, instances, why))[0]

    def end_named(self, actor: User, refs: Sequence[str], order: Order) -> Looks:
        """Kill or restart all of these jobs in one transaction, or none: see `ending.end_named`."""
        return self.look_again(end_named(self._parts, actor, refs, order))

    def end_selected(self, actor: User, query: JobQuery, page: Page, order: Order) -> LookPage:
        """Kill or restart the active jobs that fit, a page of them: the newest first, and the next page's cursor."""
        self._check_tier(query)
        query = replace(query, roles=_narrow(query.roles, actor), state=JobState.ACTIVE)
        jobs, after = end_selected(self._parts, actor, query, page, order)
        return self.look_again(jobs), after

    def scale(self, actor: User, ref: str, instances: int) -> Job:
        """So many instances: more are admitted like a submission, fewer kills the highest ones.
        `Conflict` if the job has ended.
        """
        limit = self._parts.settings.instances_limit
        if not 1 <= instances <= limit:
            raise Invalid("instances", f"must be from 1 to {limit}; to end the job, kill it")
        with self._parts.store.write() as writer:
            now_us = self._parts.clock.now_us()
            job = find_job(writer, actor, ref)
            if job.state is not JobState.ACTIVE:
                raise Conflict(f"{job.spec.key} has ended; submit it again", job=job.uid)
            before = job.spec.instances
            if instances == before:
                return job
            if job.tick_us is not None:
                raise Conflict(
                    f"{job.spec.key} is a run of a cron job, which says how large it is: submit the cron job again",
                    job=job.uid,
                )
            ledger = Ledger(writer, now_us, writer.active_tasks(jobs=[job.uid]), {job.uid: job})
            added = 0
            if instances < before:
                reason = by(actor, "killed", f"scaled from {before} to {instances} instances", now_us)
                gone = set(range(instances, before))
                move_all(ledger, list(ledger.tasks.values()), lifecycle.Event.KILL, gone, reason)
            else:
                added = self._grow(writer, ledger, job, instances)
            spec = job.spec.model_copy(update={"instances": instances})
            writer.change_job(job.uid, {"spec": spec, "active": job.active + added})
            ledger.emit("job.scaled", job.spec.role, job.uid, by=actor.name, before=before, after=instances)
            last_event = ledger.write()
            sides = {"before": {"instances": before}, "after": {"instances": instances}}
            writer.audit(audit_of(actor, "job.scale", job, now_us, **sides))
            job = writer.job(job.uid) or job
        self._parts.ring([job], last_event)
        return job

    def ceilings(self, job: Job) -> Sequence[str]:
        """A warning if it asks for more than its ceiling, as it may after `scale`."""
        with self._parts.store.read() as reader:
            return over_ceiling([job.spec], job.user, reader.roles({job.spec.role}), self._parts.tiers)

    def _grow(self, writer: Writer, ledger: Ledger, job: Job, instances: int) -> int:
        """Add instances; how many of them have to be counted and charged anew.

        An instance that was scaled away before goes on with its next attempt, and if one of it is still dying (not
        always the last: a restart gives it a successor at once), after that: then it has never left the tally.
        """
        fresh = range(job.spec.instances, instances)
        before = _last_attempts(writer, job.uid, fresh)
        dying = {task.instance: task for task in ledger.tasks.values() if task.instance in fresh}
        added = len(fresh) - len(dying)
        owner = (job.spec.role, job.spec.tier, job.user)
        ask = times(job.spec.resources, added)
        if not self._parts.tiers[job.spec.tier].preemptible and added:
            role = writer.roles().get(job.spec.role)
            if role is None:
                raise no_such(f"role {job.spec.role}")
            check_quota(role, owner, ask, writer.usage(job.spec.role))
        for task in first_attempts(job, fresh, ledger.now_us):
            last = before.get(task.instance)
            ledger.add(task if last is None else _follow(last, dying.get(task.instance), task))
        if added:
            writer.charge({owner: ask})
        return added


# --- finding -----------------------------------------------------------------------------------------------------


def _standing(reader: Reader, jobs: Sequence[Job]) -> Looks:
    states = reader.standing([job.uid for job in jobs if job.active])
    return [Standing(job, states.get(job.uid, {})) for job in jobs]


def _last_attempts(reader: Reader, uid: str, instances: Iterable[int]) -> dict[int, Task]:
    """The newest attempt of each of these instances, of those that have any."""
    last: dict[int, Task] = {}
    attempt = 1
    wanted = list(instances)
    while wanted:
        found = reader.tasks_of([task_id(uid, instance, attempt) for instance in wanted]).values()
        last |= {task.instance: task for task in found}
        wanted = [task.instance for task in found]
        attempt += 1
    return last


def _narrow(roles: Collection[str] | None, actor: User) -> Collection[str] | None:
    visible = visible_roles(actor)
    if visible is None or roles is None:
        return visible if roles is None else roles
    return [role for role in roles if role in visible]


# --- changing ----------------------------------------------------------------------------------------------------


def _follow(last: Task, dying: Task | None, first: Task) -> Task:
    """The attempt after `last`, to begin once none is `dying`, otherwise like a first one."""
    attempt = last.attempt + 1
    after = dying.id if dying else None
    return replace(first, id=task_id(first.job, first.instance, attempt), attempt=attempt, after=after)
