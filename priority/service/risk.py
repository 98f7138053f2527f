"""Which tasks of a job would be the next victims, in the engine's own order, and what would be lost with each.

The engine takes the least important tasks that make enough room: the lowest tier rank, then the lowest priority, then
as few as will do, then the least work lost; those that policy spares now come last, with why. Which of them it is in
the end also hangs on where room is needed: so this is an order of likelihood, not a promise.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from priority.board import Board
from priority.herd import Herd
from priority.job import Job
from priority.mercy import Mercy
from priority.policy import read
from priority.records import User
from priority.service.finding import find_job
from priority.service.mirror import Mirror, Truth, read_truth
from priority.service.parts import Parts
from priority.service.whatif import load
from priority.task import State, Task
from priority.tier import Tier

_RUNS = frozenset({State.STARTING, State.RUNNING})


@dataclass(frozen=True, slots=True)
class AtRisk:
    """A task that could be a victim."""

    task: Task
    lost: int
    """Milli-cores times microseconds that would be lost now."""
    cheaper: int
    """How many tasks of the whole cluster, that the same takers may take, the engine holds less important."""
    spared: str | None = None
    """Why policy does not let it be taken now; None: it may be."""


@dataclass(frozen=True, slots=True)
class Risk:
    """A job's tasks that hold room, the next victim first."""

    job: Job
    takers: tuple[str, ...]
    """Who may take them, in words; none: nobody."""
    comes_back: bool
    """Whether a victim is tried again."""
    tasks: tuple[AtRisk, ...]
    lost: int
    """Of all of them."""
    waiting: int
    """Of its tasks, how many hold no room and so have nothing to lose."""


def risk(parts: Parts, actor: User, ref: str) -> Risk:
    """Of a job, by uid or `role/tier/name`; `NotFound` if there is none or no grant."""
    with parts.store.read() as reader:
        job = find_job(reader, actor, ref)
        now_us = parts.clock.now_us()
        truth = read_truth(reader, policy=read(parts.settings.policy, parts.tiers), now_us=now_us)
    mercy = _Mercies(parts, truth, now_us)
    prey = _Prey(job, truth.jobs, parts.tiers, now_us, mercy)
    order = sorted(key for task in truth.tasks if (key := prey.key(task)) is not None)
    mine = [task for task in truth.tasks if task.job == job.uid]
    keyed = sorted(((key, task) for task in mine if (key := prey.key(task)) is not None), key=lambda pair: pair[0])
    tasks = tuple(AtRisk(task, key.lost, bisect_left(order, key), mercy.keeps(task.id)) for key, task in keyed)
    waiting = sum(task.state is State.PENDING for task in mine)
    back = job.spec.preempt.action == "requeue"
    return Risk(job, _takers(job, parts.tiers), back, tasks, sum(one.lost for one in tasks), waiting)


def _takers(job: Job, tiers: Mapping[str, Tier]) -> tuple[str, ...]:
    spec, tier = job.spec, tiers[job.spec.tier]
    higher = [other.name for other in tiers.values() if tier.preemptible and other.rank > tier.rank]
    found = [f"{name} of any role" for name in sorted(higher, key=lambda name: -tiers[name].rank)]
    return (*found, f"{spec.role}/{spec.tier} with a priority over {spec.priority}")


class _Key(NamedTuple):
    spared: bool
    young: bool
    rank: int
    priority: int
    lost: int
    id: str


class _Mercies:
    """What policy says of every task that runs, as the engine would be told; nothing without policy."""

    def __init__(self, parts: Parts, truth: Truth, now_us: int) -> None:
        self._herd: Herd | None = None
        self._mercy: Mercy | None = None
        if parts.settings.policy:
            mirror = Mirror(parts.tiers, policy=parts.settings.policy)
            load(mirror, truth, parts, now_us)
            board = Board(mirror.snapshot)
            self._herd, self._mercy = board.herd, board.mercy

    def keeps(self, id: str) -> str | None:
        """Why a task may not be taken now."""
        place = self._place(id)
        return None if place < 0 or self._mercy is None else self._mercy.keeps(place)

    def young(self, id: str) -> bool:
        """Whether it is taken only if none that ran longer will do."""
        place = self._place(id)
        return place >= 0 and self._mercy is not None and bool(self._mercy.young[place])

    def _place(self, id: str) -> int:
        return -1 if self._herd is None else self._herd.place(id)


class _Prey:
    """Whom those could take who may take a job's tasks, in the engine's order."""

    def __init__(
        self, job: Job, jobs: Mapping[str, Job], tiers: Mapping[str, Tier], now_us: int, mercy: _Mercies
    ) -> None:
        self._mercy = mercy
        self._spec = job.spec
        self._jobs = jobs
        self._tiers = tiers
        self._now_us = now_us

    def key(self, task: Task) -> _Key | None:
        """Where it stands; None: it holds no room, is on its way out, or is not theirs to take."""
        if task.state not in _RUNS:
            return None
        spec = self._jobs[task.job].spec
        tier = self._tiers[spec.tier]
        if not tier.preemptible and (spec.role, spec.tier) != (self._spec.role, self._spec.tier):
            return None
        lost = spec.resources.get("cpus", 0) * max(0, self._now_us - task.since_us)
        spared, young = self._mercy.keeps(task.id) is not None, self._mercy.young(task.id)
        return _Key(spared, young, tier.rank, spec.priority, lost, task.id)
