"""The whole outside world on one screen or two: what the service needs of it, and nothing else.

Each port is defined by its contract tests (`tests/contract`), which every implementation passes. What goes through
them are the values of `records` (the store) and `orders` (the backend). Times are microseconds since the epoch;
amounts are in held units (see `priority.resources`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from priority.aged import AgedReader, AgedWriter
from priority.crontab import CronReader, CronWriter
from priority.job import Job
from priority.node import Shares
from priority.orders import Delivery, Launch, LogChunk, LogRequest, Stop
from priority.reason import Reason
from priority.records import (
    Audit,
    Event,
    Fate,
    JobQuery,
    NodeRecord,
    Page,
    PreemptionQuery,
    PreemptionRecord,
    PreemptionSum,
    TaskChange,
    Token,
    User,
)
from priority.resources import Resources
from priority.role import RoleSpec
from priority.task import State, Task

# --- the clock ---------------------------------------------------------------------------------------------


class Clock(Protocol):
    """The only source of time for the service."""

    def now_us(self) -> int:
        """Microseconds since the epoch, UTC."""


# --- the store: the truth ----------------------------------------------------------------------------------


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

    def on_nodes(self) -> dict[str, tuple[int, Resources]]:
        """Node -> how many tasks are on it right now, and what they hold; nodes with none are left out."""

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
