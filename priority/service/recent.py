"""What policy has to know of the last hour, kept from the ledger of preemptions: see `priority.policy.Past`.

Kept by the scheduler as it commits preemptions, and read from the store by whoever starts from nothing. Without any
policy nothing is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from priority.lately import Lately
from priority.policy import HOUR_US, Past, Policy
from priority.ports import Reader
from priority.records import Page, PreemptionQuery, PreemptionRecord
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
        self._lately = Lately()
        self._times: dict[Instance, tuple[int, ...]] = {}
        self._gone: dict[Instance, str] = {}
        """Whose last attempt was preempted and is dead, and who wait: by instance the role."""

    def add(self, records: Iterable[PreemptionRecord]) -> None:
        """Oldest first."""
        for record in records if self.keeps else ():
            taker, giver = record.preemptor, record.victim
            self._lately.add(record.at_us, (taker.role, taker.tier), (giver.role, giver.tier), record.lost)
            name = parts_of(giver.task)
            if name is not None:
                its = name.job, name.instance
                self._times[its] = (*self._since(self._times.get(its, ()), record.at_us), record.at_us)

    def advance(self, now_us: int) -> Past | None:
        """Forget what is older than an hour; as things are then, if anything has changed."""
        self._lately.advance(now_us)
        return self._lately.news()

    def next_us(self) -> int | None:
        """When the oldest is forgotten."""
        return self._lately.next_us()

    def times(self, task: Task, now_us: int) -> tuple[int, ...]:
        """When the task's instance was preempted in the last hour."""
        its = task.job, task.instance
        times = self._since(self._times.get(its, ()), now_us)
        if not times:
            self._times.pop(its, None)
        return times

    @staticmethod
    def _since(times: tuple[int, ...], now_us: int) -> tuple[int, ...]:
        return tuple(at_us for at_us in times if at_us > now_us - HOUR_US)

    def gone(self, task: Task, role: str) -> None:
        """It was preempted, is dead, and its next attempt waits."""
        its = task.job, task.instance
        if self.keeps and its not in self._gone:
            self._gone[its] = role
            self._lately.gone((role, task.job), 1)

    def back(self, task: Task) -> bool:
        """An attempt of it has a node again, or it waits no longer; whether it was gone."""
        role = self._gone.pop((task.job, task.instance), None) if self._gone else None
        if role is None:
            return False
        self._lately.gone((role, task.job), -1)
        return True


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
