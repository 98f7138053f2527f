"""A task: one attempt of one instance of a job."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from priority.reason import Reason


class State(StrEnum):
    """Where a task is in its life; the moves between are `priority.lifecycle.TABLE`."""

    PENDING = "pending"
    STARTING = "starting"
    RUNNING = "running"
    PREEMPTING = "preempting"
    KILLING = "killing"
    FINISHED = "finished"
    FAILED = "failed"
    KILLED = "killed"
    PREEMPTED = "preempted"
    LOST = "lost"


ACTIVE = frozenset({State.PENDING, State.STARTING, State.RUNNING, State.PREEMPTING, State.KILLING})
"""Not ended. Exactly these are in a Snapshot."""

DYING = frozenset({State.PREEMPTING, State.KILLING})
"""Told to end, and not proved to have."""

UNCONFIRMED = DYING | {State.STARTING}
"""A node was or will be told, and has not answered yet."""

PLACED = UNCONFIRMED | {State.RUNNING}
"""Holds room on a node."""

TERMINAL = frozenset({State.FINISHED, State.FAILED, State.KILLED, State.PREEMPTED, State.LOST})
"""Ended: never changes again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One row of the truth. Times are microseconds since the epoch, UTC."""

    id: str
    """`JOB_UID-INSTANCE-ATTEMPT`: only `[A-Za-z0-9_-]`, never used twice."""
    job: str
    """The uid of its job."""
    instance: int
    attempt: int
    """From 1; a retry, a requeue or a restart is the next attempt."""
    state: State
    since_us: int
    """When it became pending (see `pending_us`) or, once placed, when it was placed."""
    node: str | None = None
    agent: str | None = None
    """The incarnation of the node's agent that it was sent to: a later one refuses it."""
    after: str | None = None
    """The former attempt of this instance, while that is not proved dead: until then this one must not start."""
    kept_for: str | None = None
    """Of a victim: the pending task that its room is kept for."""
    not_before_us: int = 0
    """Back-off after a failure: not to be placed before."""
    failures: int = 0
    """How many attempts of this instance have failed, this one's predecessors included."""
    preemptions: int = 0
    """How often this instance has been preempted before this attempt."""
    reason: Reason | None = None
    """Why it waits or why it ended."""
    started_us: int | None = None
    """When its process was seen to run."""
    ended_us: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    cpu_s: float | None = None
    """Processor seconds used by all its processes."""
    peak_mem_mib: int | None = None


def task_id(job_uid: str, instance: int, attempt: int) -> str:
    """The id of an attempt: the same facts always give the same id, so that nothing can be requeued twice."""
    return f"{job_uid}-{instance}-{attempt}"


def pending_us(now_us: int, instance: int) -> int:
    """Since when an instance that becomes pending now does so. Those that do it together stand a microsecond apart, in
    the order of their numbers: else the engine's last tie, ids by code points, would start 10 and 11 before 2.
    """
    return now_us + instance


ONE_INSTANCE = re.compile(r"([^/]+/[^/]+/[^/]+)\[(\d{1,9})\]", re.ASCII)
"""An instance of a job as we print it: `role/tier/name[3]`."""


def ranges(numbers: Iterable[int]) -> str:
    """Instances as people write them: `0,2-5`."""
    parts: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if parts and parts[-1][1] == number - 1:
            parts[-1] = parts[-1][0], number
        else:
            parts.append((number, number))
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)
