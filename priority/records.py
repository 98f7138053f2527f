"""What the store keeps beside roles, jobs, tasks and ticks, and how it is asked for: values that go through `ports`.

Times are microseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from priority.job import JobState
from priority.node import Node
from priority.task import State


@dataclass(frozen=True, slots=True)
class Event:
    """One committed fact. `id` grows in commit order and is never visible out of order."""

    id: int
    at_us: int
    kind: str
    """`job.submitted`, `task.placed`, `task.running`, `task.finished`, `node.up`, `quota.changed`, ..."""
    role: str | None
    """Whose it is; None: the cluster's, which every user may see."""
    job: str | None
    task: str | None
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Audit:
    """Who changed what, and what it was before and after (plain JSON, secrets left out)."""

    id: int
    at_us: int
    who: str
    action: str
    subject: str
    """Such as `role:physics`, `job:physics/prod/reco`, `user:ada`."""
    role: str | None
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class User:
    """`admin` may do everything; `grants` is role -> what the user may do there (`submit`, `admin`)."""

    name: str
    admin: bool = False
    grants: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is kept: never the secret, only its hash."""

    id: str
    user: str
    digest: str
    label: str
    created_us: int
    expires_us: int | None = None
    revoked_us: int | None = None


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A node as the truth knows it. `agent` is the incarnation of its agent that was last seen."""

    node: Node
    agent: str
    seen_us: int
    drained: bool = False
    """An operator wants no new tasks there (the node's own state is up or down by its lease)."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two of a preemption, as it was then: a task, whose it is, and the name of its job."""

    task: str
    job: str
    """The uid."""
    role: str
    tier: str
    name: str
    user: str

    @property
    def key(self) -> str:
        """`role/tier/name`."""
        return f"{self.role}/{self.tier}/{self.name}"


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a task that others made room for: it `started` (on which node), or a word and a line for why not:
    `killed` by a user, `lost` with its node or refused by it, `stopped`, `preempted` itself, `failed` to begin.
    """

    code: Literal["started", "killed", "lost", "stopped", "preempted", "failed"]
    at_us: int
    node: str | None = None
    cause: str | None = None


@dataclass(frozen=True, slots=True)
class PreemptionRecord:
    """A row of the ledger of preemptions: who gave way, to whom, by which rule, what it cost, and what came of it."""

    at_us: int
    victim: Side
    preemptor: Side
    node: str
    rule: Literal["tier", "priority"]
    lost: int
    """The victim's work, in milli-cores times microseconds: exact. None is lost if it finished after all."""
    fate: Fate | None = None
    """The preemptor's; None: it waits still, or is about to start."""
    seq: int = 0
    """In the order of the commits; made anew when it is added."""


@dataclass(frozen=True, slots=True)
class PreemptionQuery:
    """Which preemptions: all that fit every field that is set. `roles`: one side is of any of these (None: all)."""

    roles: Collection[str] | None = None
    role: str | None = None
    """One side is of this role."""
    job: str | None = None
    """One side is of this job: its uid."""
    since_us: int | None = None
    started: bool | None = None
    """Whether the preemptor has started."""


@dataclass(frozen=True, slots=True)
class PreemptionSum:
    """So many preemptions between two roles that came to the same; `fate` None: not yet known."""

    preemptor: str
    victim: str
    fate: str | None
    count: int
    lost: int
    """Milli-cores times microseconds."""


@dataclass(frozen=True, slots=True)
class TaskChange:
    """A compare-and-set: applies only if the task is still in `expected`. `values` are fields of Task."""

    id: str
    expected: State
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """At most `limit` rows after the row with the cursor `after` (None: from the first)."""

    limit: int = 100
    after: str | None = None


@dataclass(frozen=True, slots=True)
class JobQuery:
    """Which jobs: all that fit every field that is set (`roles` None: every role). `name` may hold `*` and `?`."""

    roles: Collection[str] | None = None
    tier: str | None = None
    name: str | None = None
    user: str | None = None
    state: JobState | None = None
    label: tuple[str, str] | None = None
