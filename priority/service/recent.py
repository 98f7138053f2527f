"""What policy has to know of the last hour, kept from the ledger of preemptions: see `priority.policy.Past`.

Kept by the scheduler as it commits preemptions, and read from the store by whoever starts from nothing. Without any
policy nothing is kept.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import replace

from priority.policy import HOUR_US, WORK, Past, Policy
from priority.ports import Page, PreemptionQuery, PreemptionRecord, Reader
from priority.service.ledger import parts_of
from priority.task import State, Task, task_id

_PAGE = 1000

Instance = tuple[str, int]
"""A job's uid, and which of its instances."""


class Recent:
    """Preemptions of the last hour, and which instances are gone by one."""

    def __init__(self, policy: Policy) -> None:
        self.keeps = policy.spares
        """Whether anything is kept."""
        self._records: deque[PreemptionRecord] = deque()
        self._times: dict[Instance, list[int]] = {}
        self._destroyed: Counter[tuple[str, str]] = Counter()
        self._lost: Counter[tuple[str, str]] = Counter()
        self._gone: dict[Instance, tuple[str, str]] = {}
        """Whose last attempt was preempted and is dead, and who wait: by instance the role and the job."""
        self._changed = False

    def add(self, records: Iterable[PreemptionRecord]) -> None:
        """Oldest first."""
        for record in records if self.keeps else ():
            self._records.append(record)
            self._count(record, 1)
            name = parts_of(record.victim.task)
            if name is not None:
                self._times.setdefault((name.job, name.instance), []).append(record.at_us)

    def advance(self, now_us: int) -> None:
        """Forget what is older than an hour."""
        while self._records and self._records[0].at_us <= now_us - HOUR_US:
            record = self._records.popleft()
            self._count(record, -1)
            name = parts_of(record.victim.task)
            if name is not None:
                times = self._times[name.job, name.instance]
                times.remove(record.at_us)
                if not times:
                    del self._times[name.job, name.instance]

    def next_us(self) -> int | None:
        """When the oldest is forgotten."""
        return self._records[0].at_us + HOUR_US if self._records else None

    def times(self, task: Task) -> tuple[int, ...]:
        """When the task's instance was preempted."""
        return tuple(self._times.get((task.job, task.instance), ()))

    def gone(self, task: Task, role: str) -> None:
        """It was preempted, is dead, and its next attempt waits."""
        if self.keeps:
            self._gone[task.job, task.instance] = role, task.job
            self._changed = True

    def back(self, task: Task) -> bool:
        """An attempt of it has a node again, or it waits no longer; whether it was gone."""
        if not self._gone or self._gone.pop((task.job, task.instance), None) is None:
            return False
        self._changed = True
        return True

    def news(self) -> Past | None:
        """As things are now, if anything has changed since this was last asked."""
        if not self._changed:
            return None
        self._changed = False
        return Past(dict(Counter(self._gone.values())), dict(+self._destroyed), dict(+self._lost))

    def _count(self, record: PreemptionRecord, sign: int) -> None:
        work = sign * (record.lost // WORK)
        self._destroyed[record.preemptor.role, record.preemptor.tier] += work
        self._lost[record.victim.role, record.victim.tier] += work
        self._changed = True


def read_recent(reader: Reader, now_us: int) -> list[PreemptionRecord]:
    """The preemptions of the last hour, oldest first."""
    found: list[PreemptionRecord] = []
    page: Page | None = Page(_PAGE)
    while page is not None:
        records, after = reader.preemptions(PreemptionQuery(since_us=now_us - HOUR_US + 1), page)
        found += records
        page = replace(page, after=after) if after is not None else None
    return found[::-1]


def read_gone(reader: Reader, tasks: Iterable[Task]) -> list[Task]:
    """Those of the pending tasks whose former attempt was preempted and is dead."""
    former = {
        task_id(task.job, task.instance, task.attempt - 1): task
        for task in tasks
        if task.state is State.PENDING and task.preemptions and task.after is None and task.attempt > 1
    }
    dead = reader.tasks_of(former.keys()) if former else {}
    return [task for id, task in former.items() if id in dead and dead[id].state is State.PREEMPTED]
