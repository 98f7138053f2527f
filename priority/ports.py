"""The whole outside world on one screen or two: what the service needs of it, and nothing else.

Each port is defined by its contract tests (`tests/contract`), which every implementation passes. Times
are microseconds since the epoch; amounts are in held units (see `priority.resources`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from priority.aged import AgedReader, AgedWriter
from priority.crontab import CronReader, CronWriter
from priority.job import Job, JobSpec, JobState
from priority.node import Node, Shares
from priority.reason import Reason
from priority.resources import Resources
from priority.role import RoleSpec
from priority.task import State, Task

# --- the clock ---------------------------------------------------------------------------------------------


class Clock(Protocol):
    """The only source of time for the service."""

    def now_us(self) -> int:
        """Microseconds since the epoch, UTC."""


# --- the store: the truth ----------------------------------------------------------------------------------


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


class Reader(CronReader, AgedReader, Protocol):
    """One consistent view."""

    def roles(self, names: Collection[str] | None = None) -> dict[str, RoleSpec]:
        """Every role with its quotas and users, or those of these names that there are."""

    def user(self, name: str) -> User | None:
        """A user with all grants."""

    def users(self) -> list[User]:
        """Every user, by name."""

    def token(self, digest: str) -> Token | None:
        """The token with this hash, revoked and expired ones too."""

    def tokens(self, user: str | None) -> list[Token]:
        """One user's tokens, or everyone's."""

    def usage(self, role: str | None = None) -> dict[tuple[str, str, str], Resources]:
        """(role, tier, user) -> what their instances that have not ended hold, kept by `charge`."""

    def holding(self, role: str | None = None) -> dict[tuple[str, str, str], Resources]:
        """(role, tier, user) -> what their tasks that are on a node hold right now, summed from the tasks."""

    def waiting(self, roles: Collection[str] | None = None) -> list[tuple[str, str, int, int, Reason | None]]:
        """Of these roles: (job uid, tier, how many of its instances wait for room, since when, why one of them)."""

    def job(self, uid: str) -> Job | None:
        """By uid."""

    def latest_job(self, role: str, tier: str, name: str) -> Job | None:
        """The one submitted last under this key."""

    def active_jobs(self, keys: Collection[tuple[str, str, str]]) -> dict[tuple[str, str, str], str]:
        """Of these (role, tier, name), those under which a job is active: its uid. Many at once, for admission."""

    def jobs(self, query: JobQuery, page: Page) -> tuple[list[Job], str | None]:
        """Newest first, and the cursor of the next page if there is one."""

    def jobs_of(self, uids: Collection[str]) -> dict[str, Job]:
        """Many at once."""

    def answered(self, keys: Collection[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, Any]]:
        """What was answered to these idempotency keys, each (role, key): the digest of the request and the answer."""

    def task(self, id: str) -> Task | None:
        """By id."""

    def standing(self, jobs: Collection[str]) -> dict[str, dict[State, int]]:
        """Job uid -> state -> how many of its active instances are there. An instance counts once, also while its next
        attempt waits for the end of the one before: so these add up to the job's `active`.
        """

    def tasks(
        self, job: str, page: Page, states: Collection[State] | None = None, current: bool = False
    ) -> tuple[list[Task], str | None]:
        """A job's tasks by instance and attempt, and the cursor of the next page if there is one. `current`: of each
        instance the newest attempt, and one before it that is not proved dead.
        """

    def tasks_of(self, ids: Collection[str]) -> dict[str, Task]:
        """Many at once."""

    def active_tasks(self, jobs: Collection[str] | None = None, node: str | None = None) -> list[Task]:
        """Every task that has not ended, of these jobs, on this node, or at all."""

    def events(
        self, after: int, limit: int, roles: Collection[str] | None = None, job: str | None = None
    ) -> list[Event]:
        """In commit order. `roles` None: everybody's; else of these roles and of the cluster."""

    def last_event(self) -> int:
        """The id of the newest event, 0 if there is none."""

    def audits(
        self,
        page: Page,
        roles: Collection[str] | None = None,
        *,
        who: str | None = None,
        action: str | None = None,
        since_us: int | None = None,
    ) -> tuple[list[Audit], str | None]:
        """Newest first: of these roles, by this user, of this action (`quota.set`) or kind of action (`quota`), not
        before this moment; all that fit everything that is given.
        """

    def preemptions(self, query: PreemptionQuery, page: Page) -> tuple[list[PreemptionRecord], str | None]:
        """Newest first, and the cursor of the next page if there is one."""

    def in_ledger(self, jobs: Collection[str]) -> set[str]:
        """Which of these jobs (by uid) are a side of a preemption."""

    def preemption_sums(self, query: PreemptionQuery) -> list[PreemptionSum]:
        """The same, added up by the two roles and the fate, in their order."""

    def nodes(self) -> list[NodeRecord]:
        """Every node ever seen and not forgotten, by name."""

    def note(self, name: str) -> str | None:
        """What a backend wrote down under this name."""

    def leader(self) -> tuple[str, int, int] | None:
        """Who leads (or led last and did not resign), its epoch, and when its lease runs out."""


class Writer(Reader, CronWriter, AgedWriter, Protocol):
    """One transaction: everything or nothing. There is one writer at a time in the whole service, so what a
    writer reads stays true until it commits: a check and what it allows cannot race.
    """

    def put_role(self, name: str, role: RoleSpec) -> None:
        """Insert or replace, its quotas and users with it; a user that is not there yet is made."""

    def drop_role(self, name: str) -> None:
        """Its quotas and users' grants go with it; its jobs stay as history."""

    def put_user(self, name: str, admin: bool) -> None:
        """Insert or replace."""

    def put_token(self, token: Token) -> None:
        """Insert or replace by id."""

    def add_jobs(self, jobs: Sequence[Job]) -> None:
        """In bulk."""

    def change_job(self, uid: str, values: Mapping[str, Any]) -> None:
        """`values` are fields of Job (`spec` too, when it is scaled)."""

    def tally(self, ended: Mapping[str, Mapping[State, int]], now_us: int) -> list[str]:
        """Job uid -> terminal state -> how many of its instances have just ended so: moves them from `active` to the
        tallies and ends the jobs that have none active. The uids of the jobs that ended.
        """

    def remember(self, answers: Mapping[tuple[str, str], tuple[str, Any]]) -> None:
        """(role, idempotency key) -> digest and answer, kept with the jobs it made. `Conflict` if one is there."""

    def add_first_tasks(self, jobs: Iterable[Job], now_us: int) -> None:
        """The first attempt of every instance of these jobs, pending since `now_us`: what `add_tasks` does with
        `Task`s, without making 10,000 of them for one job.
        """

    def add_tasks(self, tasks: Sequence[Task]) -> None:
        """In bulk; one that is there already (by id) is left as it is."""

    def change_tasks(self, changes: Sequence[TaskChange]) -> set[str]:
        """Each a compare-and-set on (id, expected state); the ids that changed."""

    def add_preemptions(self, records: Sequence[PreemptionRecord]) -> None:
        """In bulk. A task is a victim once: a row with its name that is there already is left as it is."""

    def settle_preemptions(self, fates: Mapping[str, Fate], spared: Collection[str] = ()) -> None:
        """What became of tasks (by id), for those of them that others made room for and whose fate is not known yet.
        Victims that were `spared` have finished after all: nothing of them was lost.
        """

    def charge(self, deltas: Mapping[tuple[str, str, str], Mapping[str, int]]) -> None:
        """Add to (negative: take from) what (role, tier, user) hold of their quotas."""

    def emit(self, events: Iterable[tuple[int, str, str | None, str | None, str | None, Mapping[str, Any]]]) -> int:
        """Append events (at_us, kind, role, job, task, data); the id of the last one."""

    def audit(self, *audits: Audit) -> None:
        """Append audit rows; their `id` is ignored and made anew."""

    def put_node(self, record: NodeRecord) -> None:
        """Insert or replace."""

    def drop_node(self, name: str) -> None:
        """Forget it."""

    def put_note(self, name: str, value: str) -> None:
        """Insert or replace: what a backend has to know again after a crash."""

    def lead(self, holder: str, now_us: int, lease_us: int) -> int | None:
        """Take or renew the leadership: the epoch, one higher whenever the holder changes, or None while another's
        lease lasts.
        """

    def resign(self, holder: str) -> None:
        """Give the leadership back, if `holder` has it."""


class Store(Protocol):
    """SQLite or PostgreSQL. 2xx means that a `write` has returned: it is on disk then."""

    def read(self) -> AbstractContextManager[Reader]:
        """A view that sees what was committed before it began."""

    def write(self, epoch: int | None = None) -> AbstractContextManager[Writer]:
        """Commits at the end, rolls back on any exception. `Deposed` if `epoch` is given and is not the leader's;
        `Unavailable` if the database does not answer.
        """

    def upgrade(self) -> None:
        """Bring the schema to the newest version."""

    def close(self) -> None:
        """Let go of every connection."""


# --- the queue: the doorbell -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Call:
    """Something was committed: look at these jobs again. May be lost, may come twice."""

    tier: str
    jobs: tuple[str, ...]
    token: Any = None
    """What `Queue.acknowledge` needs."""


class Queue(Protocol):
    """Redis streams, one for each tier. Losing it costs latency, never a job."""

    def ring(self, tier: str, jobs: Sequence[str], last_event: int | None = None) -> None:
        """Tell the scheduler of these jobs (new, killed, scaled): best effort, never raises for a lost Redis. With
        `last_event` those who watch events are woken too, as `publish` does, without another journey.
        """

    def listen(self, deliver: Callable[[list[Call]], None]) -> None:
        """Block until `close`, delivering calls in batches, those of the highest tier first, again after a crash what
        was not acknowledged; outlives a Redis that goes away and comes back.
        """

    def acknowledge(self, calls: Sequence[Call]) -> None:
        """They are dealt with: best effort."""

    def publish(self, last_event: int) -> None:
        """Wake whoever watches events: best effort."""

    def watch(self, wake: Callable[[int], None]) -> None:
        """Block until `close`, calling `wake(last_event)` when there are new events."""

    def alive(self) -> bool:
        """Whether it gets through just now: for health, not for decisions."""

    def close(self) -> None:
        """End `listen` and `watch`."""


# --- the backend: what runs tasks --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Start this attempt. Sent again it changes nothing: an agent knows a task id for ever."""

    task: str
    job: str
    """`role/tier/name`."""
    node: str
    agent: str
    """Another incarnation refuses it."""
    epoch: int
    """Of the leader who sends it; an agent obeys none lower than the highest it has seen."""
    instance: int
    attempt: int
    spec: JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """End this attempt: `signal`, then `notice_s` seconds, then SIGKILL of everything it started. Idempotent."""

    task: str
    node: str
    epoch: int
    signal: str
    notice_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSeen:
    """A node's agent began (or was found) and says all it has: what it does not name it does not run and never will,
    if that was sent to another incarnation.
    """

    node: Node
    agent: str
    tasks: frozenset[str]
    """Running or ended and not yet acknowledged."""
    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeGone:
    """A node's lease has run out, and its agent's own (shorter) one with it: nothing runs there any more."""

    node: str
    at_us: int
    heard_us: int = 0
    """When it was last heard of, by its own clock; 0: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSilent:
    """No word from a node for a while: place nothing there, but believe nothing dead."""

    node: str
    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSeen:
    """What a node says of a task. May come twice, late and out of order."""

    task: str
    node: str
    kind: Literal["started", "ended", "refused"]
    at_us: int
    exit_code: int | None = None
    signal: int | None = None
    stopped: bool = False
    """Of `ended`: our signal had been sent before it ended."""
    cause: Reason | None = None
    """Of `ended` by a limit (codes `mem`, `disk`, `runtime`), by the agent itself (`lease`), a command that could not
    be started (`exec`) or a death nobody saw (`vanished`: proved dead, exit status not known); of `refused`: why.
    """
    cpu_s: float | None = None
    peak_mem_mib: int | None = None


Report = NodeSeen | NodeGone | NodeSilent | TaskSeen


@dataclass(frozen=True, slots=True)
class Delivery:
    """Reports and what `Backend.acknowledge` needs for them."""

    reports: tuple[Report, ...]
    token: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRequest:
    """At most `limit` bytes from `offset` (negative: that many before the end), waiting up to `wait_s` for any."""

    node: str
    task: str
    stream: Literal["stdout", "stderr"]
    offset: int
    limit: int
    wait_s: float


@dataclass(frozen=True, slots=True)
class LogChunk:
    """A piece of a task's output. `offset` counts bytes since the task began, also those no longer kept."""

    offset: int
    data: bytes
    ended: bool
    """Whether nothing will follow."""
    started: bool = True
    """False: the task was never placed on a node, so there is no output, and none was lost."""


class Backend(Protocol):
    """Local agents, a Mesos cluster, or a simulation. Acts are sent again until they are seen done."""

    def launch(self, batch: Sequence[Launch]) -> None:
        """Send; returns before they run. Best effort: never raises for a lost connection."""

    def stop(self, batch: Sequence[Stop]) -> None:
        """Send. Best effort."""

    def listen(self, deliver: Callable[[Delivery], None]) -> None:
        """Block until `close`, delivering what nodes say; first of all a `NodeSeen` for each node that is there.
        What was not acknowledged comes again after a crash.
        """

    def acknowledge(self, delivery: Delivery) -> None:
        """It is committed; the node may forget it. Best effort."""

    def inquire(self, nodes: Collection[str]) -> None:
        """Ask these nodes for a fresh `NodeSeen` and for what they know of their tasks (reconciliation). One that was
        never heard of counts as silent from then on: `NodeSilent` and `NodeGone` follow if it stays so.
        """

    def heard(self) -> Mapping[str, int]:
        """When nodes gave their last sign of life, each by its own clock, if known: for people; never raises."""

    def shares(self) -> Mapping[str, Shares]:
        """Of nodes that are not ours alone, who has what: for people; never raises."""

    def logs(self, request: LogRequest) -> LogChunk:
        """Read a task's output. `NotFound` if the node has no such task, `Unavailable` if it does not answer."""

    def close(self) -> None:
        """End `listen`."""
