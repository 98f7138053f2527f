"""What came of a workload: every attempt and every wait, as a simulation (or a recording) has seen them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from priority.node import Node
from priority.reading import RoleRules
from priority.tier import DEFAULT_TIERS, Tier
from priority.trace import Work


class Outcome(StrEnum):
    """How an instance, or an attempt of it, ended."""

    FINISHED = "finished"
    FAILED = "failed"
    PREEMPTED = "preempted"
    """Of an instance: for good, as its job wants it."""
    REFUSED = "refused"
    """Its job was over the quota of a tier that is not preemptible."""
    NEVER = "never"
    """It waits for ever: nothing that would make room for it ever happens."""


class Attempt(NamedTuple):
    """From its launch until it was gone; times in microseconds."""

    work: int
    """Which of the trace's jobs."""
    task: str
    node: str
    start_us: int
    end_us: int
    outcome: Outcome


class Wait(NamedTuple):
    """From when a task was ready to run until it was launched, or for ever (None)."""

    work: int
    task: str
    from_us: int
    until_us: int | None
    first: bool
    """Before its first attempt."""


class Loss(NamedTuple):
    """A preemption: whose work of how much was thrown away for whom."""

    at_us: int
    victim: int
    preemptor: int
    rule: int
    """Of the law, 1 or 2; 0 where it is not known."""
    lost: int
    """Milli-cores times microseconds since the victim's start."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What does not change in a simulation."""

    nodes: Sequence[Node]
    tiers: Mapping[str, Tier] = field(default_factory=lambda: DEFAULT_TIERS)
    roles: Mapping[str, RoleRules] = field(default_factory=dict)
    policy: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class History:
    """Grows while a simulation runs."""

    cluster: Cluster
    works: Sequence[Work]
    attempts: list[Attempt] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    """Of every instance, once."""
    rounds: int = 0
    """How often the engine was asked."""
