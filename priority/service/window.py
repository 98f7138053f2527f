"""How many of the tasks that wait alike the engine has to look at.

A role that submits a hundred thousand small jobs must not make every round cost a hundred thousand looks, least of
all for others. Tasks of one user in one role that ask for the same, with the same priority and constraints, are alike
to the engine but for their age: if the oldest of them find no room, nor do the rest. So only the oldest are shown, and
for each that leaves another one comes in.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field

from priority.job import Job
from priority.task import Task

WINDOW = 1000
"""So many of a kind are shown: more than a round starts, few enough for it to be quick."""


def kind_of(job: Job) -> Hashable:
    """What tasks that are alike to the engine have in common."""
    spec = job.spec
    limited = any(constraint.limit is not None for constraint in spec.constraints)
    return (
        spec.role,
        job.user,
        spec.tier,
        spec.priority,
        tuple(sorted(spec.resources.items())),
        spec.constraints,
        job.uid if limited else None,  # a limit counts the tasks of one job
    )


@dataclass(slots=True)
class Window:
    """The tasks of one kind that may be placed: those that are shown, and the rest by age."""

    size: int = WINDOW
    shown: set[str] = field(default_factory=set)
    hidden: set[str] = field(default_factory=set)
    untold: deque[str] = field(default_factory=deque)
    """Those that no plan has looked at and nobody has told why they wait: for the same reason as the others."""
    refused_us: int | None = None
    """Since when the oldest waits that the last plan refused; None: it has refused none of them."""
    _by_age: list[tuple[int, str]] = field(default_factory=list)

    def enter(self, task: Task) -> bool:
        """Whether the task is to be shown now."""
        if task.id in self.shown or task.id in self.hidden:
            return False
        if len(self.shown) < self.size:
            self.shown.add(task.id)
            return True
        self.hidden.add(task.id)
        self.untold.append(task.id)
        heapq.heappush(self._by_age, (task.since_us, task.id))
        return False

    def hopeless(self, task: Task) -> bool:
        """Whether an older one of the kind was refused by the last plan: nothing has room for this one either, until
        something else changes.
        """
        return self.refused_us is not None and task.since_us >= self.refused_us

    def leave(self, id: str) -> str | None:
        """The task waits no longer; the one that is to be shown in its place, if any."""
        self.hidden.discard(id)
        if id not in self.shown:
            return None
        self.shown.discard(id)
        while self._by_age:
            _, oldest = heapq.heappop(self._by_age)
            if oldest in self.hidden:
                self.hidden.discard(oldest)
                self.shown.add(oldest)
                return oldest
        return None

    def __bool__(self) -> bool:
        return bool(self.shown or self.hidden)
