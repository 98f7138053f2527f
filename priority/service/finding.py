"""Jobs and tasks by the names that users give them. What an actor may not see looks like what is not there."""

from __future__ import annotations

from priority.errors import NotFound
from priority.job import Job
from priority.ports import Reader
from priority.records import User
from priority.service.access import may, no_such
from priority.service.ids import is_id
from priority.task import Task, task_id
from priority.tier import DEFAULT_TIERS

_ATTEMPTS_AT_ONCE = 8


def find_job(reader: Reader, actor: User, ref: str) -> Job:
    """By uid or `role/tier/name`; `NotFound` in the same words whether there is none or no grant."""
    pieces = ref.split("/")
    job = None
    if len(pieces) == 3:
        # a role that is hidden is not even asked for
        job = reader.latest_job(*pieces) if may(actor, pieces[0]) else None
        if job is None and may(actor, pieces[0]) and reader.cron_names([(pieces[0], pieces[1], pieces[2])]):
            raise NotFound(f"{ref} is a cron job that has not run yet: see `priority cron show {ref}`")
    elif len(pieces) == 1:
        job = reader.job(ref)
    if job is None or not may(actor, job.spec.role):
        raise NotFound(no_such(f"job {ref}").message + _misnamed(pieces))
    return job


def _misnamed(pieces: list[str]) -> str:
    """What is wrong with the name itself, whatever jobs there are."""
    if len(pieces) == 3 and pieces[1] not in DEFAULT_TIERS:
        return f"; {pieces[1]} is not a tier: there are {', '.join(DEFAULT_TIERS)}"
    if len(pieces) == 1 and not is_id(pieces[0]):
        return "; a job's whole name is role/tier/name"
    return ""


def find_task(reader: Reader, actor: User, id: str) -> tuple[Task, Job]:
    """A task and its job; `NotFound` in the same words whether there is none or no grant."""
    task = reader.task(id)
    job = reader.job(task.job) if task is not None else None
    if task is None or job is None or not may(actor, job.spec.role):
        raise no_such(f"task {id}")
    return task, job


def attempts_of(reader: Reader, uid: str, instance: int) -> list[Task]:
    """Every attempt of one instance, oldest first: their ids can be counted up."""
    found: list[Task] = []
    first = 1
    while True:
        ids = [task_id(uid, instance, attempt) for attempt in range(first, first + _ATTEMPTS_AT_ONCE)]
        tasks = reader.tasks_of(ids)
        found += [tasks[id] for id in ids if id in tasks]
        if len(tasks) < len(ids):
            return found
        first += _ATTEMPTS_AT_ONCE
