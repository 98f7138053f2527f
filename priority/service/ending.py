"""Kill and restart: one job, some of its instances, or many jobs in one transaction.

Of jobs that are named, all are changed or none: one that is not there, or not the actor's, refuses the request. Of jobs
that are selected, one page is, the newest first: whoever asks goes on with the cursor until there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from priority import lifecycle
from priority.errors import Conflict, Invalid, TooLarge
from priority.job import Job, JobState
from priority.ports import Reader, Writer
from priority.reason import Reason
from priority.records import Audit, JobQuery, Page, User
from priority.service.finding import find_job
from priority.service.ledger import Ledger
from priority.service.parts import Parts
from priority.task import Task

WHY_MAX = 1000
"""Characters kept of a user's words."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to happen: `event` is KILL or RESTART. `instances` None: all of them. `dry`: only say to whom."""

    event: lifecycle.Event
    instances: Collection[int] | None = None
    why: str = ""
    dry: bool = False

    @property
    def verb(self) -> str:
        """As in `job.kill`, an action of an audit."""
        return "kill" if self.event is lifecycle.Event.KILL else "restart"

    @property
    def done(self) -> str:
        """As in `job.killed`, an event."""
        return "killed" if self.event is lifecycle.Event.KILL else "restarted"


def end_named(parts: Parts, actor: User, refs: Sequence[str], order: Order) -> list[Job]:
    """All of these jobs (each a uid or `role/tier/name`), once each, or none: `NotFound`, `Conflict` if one that is to
    begin anew has ended, `TooLarge` for more than one transaction takes.
    """
    limits = parts.settings
    if len(refs) > limits.bulk_limit:
        raise TooLarge(f"jobs: there are {len(refs)}, at most {limits.bulk_limit} go into one request")

    def find(reader: Reader) -> list[Job]:
        jobs = list({job.uid: job for job in (find_job(reader, actor, ref) for ref in refs)}.values())
        active = sum(job.active for job in jobs)
        if len(jobs) > 1 and active > limits.instances_limit:
            most = f"at most {limits.instances_limit} instances are ended in one request"
            raise TooLarge(f"jobs: they have {active} active instances, and {most}: name fewer")
        return jobs

    return _end(parts, actor, find, order)


def end_selected(parts: Parts, actor: User, query: JobQuery, page: Page, order: Order) -> tuple[list[Job], str | None]:
    """The active jobs of one page of `query` (whose roles the actor may see), and the next page's cursor."""
    after: str | None = None

    def find(reader: Reader) -> list[Job]:
        nonlocal after
        limit = page.limit
        while True:
            jobs, after = reader.jobs(query, Page(limit, page.after))
            if len(jobs) <= 1 or sum(job.active for job in jobs) <= parts.settings.instances_limit:
                return jobs
            limit = len(jobs) // 2

    return _end(parts, actor, find, order), after


def _end(parts: Parts, actor: User, find: Callable[[Reader], list[Job]], order: Order) -> list[Job]:
    if order.instances is not None and not order.instances:
        raise Invalid("instances", "names none: write those that are meant, such as [0, 3], or null for all")
    if order.dry:
        with parts.store.read() as reader:
            jobs = find(reader)
            _check(jobs, order)
            return jobs
    with parts.store.write() as writer:
        now_us = parts.clock.now_us()
        jobs = find(writer)
        _check(jobs, order)
        ledger = Ledger(
            writer, now_us, writer.active_tasks(jobs=[job.uid for job in jobs]), {job.uid: job for job in jobs}
        )
        moved = _move(ledger, actor, jobs, order)
        if not moved:
            return jobs
        last_event = ledger.write()
        _note(writer, actor, moved, order, now_us)
        now = writer.jobs_of([job.uid for job in jobs])
    jobs = [now.get(job.uid, job) for job in jobs]
    parts.ring([now.get(job.uid, job) for job in moved], last_event)
    return jobs


def _check(jobs: Sequence[Job], order: Order) -> None:
    for job in jobs:
        for instance in order.instances or ():
            if not 0 <= instance < job.spec.instances:
                last = job.spec.instances - 1
                raise Invalid("instances", f"{job.spec.key} has instances 0 to {last}, but not {instance}")
        if order.event is lifecycle.Event.RESTART and job.state is not JobState.ACTIVE:
            raise Conflict(f"{job.spec.key} has ended; submit it again", job=job.uid)


def _move(ledger: Ledger, actor: User, jobs: Sequence[Job], order: Order) -> list[Job]:
    """Those of which it has changed anything."""
    reason = by(actor, order.done, order.why[:WHY_MAX], ledger.now_us)
    which = None if order.instances is None else set(order.instances)
    of: dict[str, list[Task]] = {}
    for task in ledger.tasks.values():
        of.setdefault(task.job, []).append(task)
    moved = []
    for job in jobs:
        if move_all(ledger, of.get(job.uid, ()), order.event, which, reason):
            said = {"why": order.why[:WHY_MAX], "instances": None if which is None else sorted(which)}
            ledger.emit(f"job.{order.done}", job.spec.role, job.uid, by=actor.name, **said)
            moved.append(job)
    return moved


def _note(writer: Writer, actor: User, jobs: Sequence[Job], order: Order, now_us: int) -> None:
    which = None if order.instances is None else sorted(set(order.instances))
    after = {"instances": which, "why": order.why[:WHY_MAX]}
    writer.audit(*(audit_of(actor, f"job.{order.verb}", job, now_us, after=after) for job in jobs))


# --- what scaling needs too --------------------------------------------------------------------------------------


def move_all(
    ledger: Ledger, tasks: Collection[Task], event: lifecycle.Event, instances: set[int] | None, reason: Reason
) -> int:
    """Let it happen to every one of these attempts that is of these instances; how many it changed."""
    chosen = [task for task in tasks if instances is None or task.instance in instances]
    chosen.sort(key=lambda task: (task.instance, task.attempt))
    return sum(ledger.move(task.id, event, reason=reason) is not None for task in chosen)


def by(actor: User, done: str, why: str, now_us: int) -> Reason:
    """Who did it, and why."""
    message = f"{done} by {actor.name}" + (f": {why}" if why else "")
    return Reason(done, message, {"by": actor.name, "why": why, "at_us": now_us})


def audit_of(actor: User, action: str, job: Job, now_us: int, **sides: Any) -> Audit:
    """`sides` are `before` and `after`."""
    before, after = sides.get("before"), sides.get("after")
    return Audit(0, now_us, actor.name, action, f"job:{job.spec.key}", job.spec.role, before, after)
