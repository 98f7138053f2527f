"""What users do with jobs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from priority.errors import PriorityError
from priority.job import Job, JobSpec
from priority.ports import Event, JobQuery, LogChunk, Page, User
from priority.service.parts import Parts
from priority.task import State, Task


Events = list[Event]
Answers = list["Accepted | PriorityError"]
JobPage = tuple[list[Job], str | None]
TaskPage = tuple[list[Task], str | None]


@dataclass(frozen=True, slots=True)
class Submission:
    """One request: all of its jobs or none. `key`: what makes a repetition of the request the same request."""

    actor: User
    specs: tuple[JobSpec, ...]
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """Its jobs, on disk. `replayed`: they were already, by an earlier request with the same key and body."""

    jobs: tuple[Job, ...]
    replayed: bool = False


class Jobs:
    """The verbs. `ref` is a job's uid or `role/tier/name` (the latest one so named)."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def submit(self, requests: Sequence[Submission]) -> Answers:
        """Admit or refuse many independent requests in one transaction; the answers are in the order of `requests`.

        Each is refused on its own: `Invalid`, `NotFound` (role), `Conflict` (name in use, key used for another
        body), `QuotaExceeded` with the numbers. Raises only `Unavailable`.
        """
        raise NotImplementedError

    def get(self, actor: User, ref: str) -> Job:
        """`NotFound` if there is none or no grant."""
        raise NotImplementedError

    def list(self, actor: User, query: JobQuery, page: Page) -> JobPage:
        """Newest first, and the next page's cursor; only of roles that the actor has a grant for."""
        raise NotImplementedError

    def tasks(self, actor: User, ref: str, page: Page, states: Collection[State] | None = None) -> TaskPage:
        """A job's tasks by instance and attempt."""
        raise NotImplementedError

    def task(self, actor: User, id: str) -> Task:
        """One task; `NotFound` if there is none or no grant."""
        raise NotImplementedError

    def events(self, actor: User, after: int, limit: int, job: str | None = None) -> Events:
        """Committed facts in order, after the event `after`; `job` is a ref."""
        raise NotImplementedError

    def last_event(self) -> int:
        """The id of the newest event."""
        raise NotImplementedError

    def kill(self, actor: User, ref: str, instances: Collection[int] | None = None, why: str = "") -> Job:
        """End these instances (None: all). What waits ends at once; what runs is stopped with the job's grace.
        Instances that have ended already are left as they are.
        """
        raise NotImplementedError

    def restart(self, actor: User, ref: str, instances: Collection[int] | None = None, why: str = "") -> Job:
        """Begin these instances (None: all that run) anew: stopped with the job's grace, then another attempt."""
        raise NotImplementedError

    def scale(self, actor: User, ref: str, instances: int) -> Job:
        """So many instances: more are admitted like a submission, fewer kills the highest ones.
        `Conflict` if the job has ended.
        """
        raise NotImplementedError

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
        A task that has not been placed yet answers an empty chunk that has not ended.
        """
        raise NotImplementedError
