"""The cron jobs that there are and every tick that they had: the nouns, and what the service needs of a store for them.

A cron job is known by its key, for good: deleted and submitted again it goes on under the same uid, so that of its
history nothing is lost and no tick can come twice. Its runs are jobs of the same key; they say for which tick they are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from priority.cron import CronSpec, Outcome
from priority.reason import Reason
from priority.resources import Resources

Key = tuple[str, str, str]
"""(role, tier, name)."""


class CronState(StrEnum):
    """What a cron job does with its ticks."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    """They are noted as skipped."""
    ENDED = "ended"
    """There are none any more: `end` is over."""
    DELETED = "deleted"
    """It is history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """A cron job. Times are microseconds since the epoch, UTC."""

    uid: str
    spec: CronSpec
    user: str
    """Who submitted it first: its runs are this user's, and so is what they hold of quotas."""
    created_us: int
    changed_us: int
    state: CronState = CronState.ACTIVE
    next_us: int | None = None
    """The first tick about which nothing is written down yet; None if there is none to come."""
    reserve: Resources = field(default_factory=dict)
    """What is kept of a guaranteed quota for its runs, running or not; nothing in a tier that may be preempted."""

    @property
    def key(self) -> Key:
        """(role, tier, name)."""
        return self.spec.role, self.spec.tier, self.spec.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """What became of one tick: there is exactly one of these for each. A start by hand has one too, with `by`."""

    cron: str
    """The uid."""
    tick_us: int
    """The moment that it is for."""
    outcome: Outcome
    at_us: int
    """When that was decided."""
    job: str | None = None
    """The run that was started."""
    by: str | None = None
    """Who started it by hand."""
    reason: Reason | None = None
    """Why it was not started, or what it waits for."""

    @property
    def id(self) -> str:
        """The same for the same tick, so that nothing is written down twice."""
        return tick_id(self.cron, self.tick_us)


def tick_id(cron: str, tick_us: int) -> str:
    """Of a tick of a cron job, by that one's uid."""
    return f"{cron}-{tick_us}"


@dataclass(frozen=True, slots=True)
class Run:
    """A run that has not ended."""

    uid: str
    user: str
    holds: Resources
    """What its instances that have not ended hold of the quota."""


@dataclass(frozen=True, slots=True)
class CronQuery:
    """Which cron jobs: all that fit every field that is set. `roles` None: every role. Deleted only if asked for."""

    roles: Collection[str] | None = None
    tier: str | None = None
    user: str | None = None
    state: CronState | None = None


class CronReader(Protocol):
    """One consistent view."""

    def cron(self, role: str, tier: str, name: str) -> Cron | None:
        """By its key, also when it is deleted."""

    def crons_of(self, keys: Collection[Key]) -> dict[Key, Cron]:
        """Of these keys, those under which there is one that is not deleted."""

    def cron_names(self, keys: Collection[Key]) -> set[Key]:
        """Which of these are keys of cron jobs that are not deleted."""

    def crons(self, query: CronQuery, limit: int, after: str | None = None) -> tuple[list[Cron], str | None]:
        """Newest first, and the cursor of the next page if there is one."""

    def due_crons(self, now_us: int, limit: int) -> list[Cron]:
        """Those that have a tick not later than now about which nothing is written down, the longest due first."""

    def next_tick(self) -> int | None:
        """The earliest tick of all about which nothing is written down."""

    def tick(self, cron: str, tick_us: int) -> Tick | None:
        """What became of this tick."""

    def ticks_there(self, ids: Collection[str]) -> set[str]:
        """Of which of these ticks (by `Tick.id`) something is written down."""

    def ticks(
        self, cron: str, limit: int, after: str | None = None, outcome: Outcome | None = None
    ) -> tuple[list[Tick], str | None]:
        """Newest first, and the cursor of the next page if there is one."""

    def waiting_ticks(self, crons: Collection[str] | None = None) -> list[Tick]:
        """Those that wait for a run before them, of these cron jobs or of all, oldest first."""

    def waiting_crons(self) -> list[Cron]:
        """Those that have such ticks."""

    def cron_runs(self, keys: Collection[Key]) -> dict[Key, list[Run]]:
        """The runs under these keys that have not ended, oldest first."""

    def cron_uids(self, after: str, limit: int) -> list[str]:
        """Of all cron jobs, deleted ones too, those after this uid, in that order."""

    def old_ticks(self, cron: str, after_us: int, before_us: int, limit: int) -> list[Tick]:
        """Ticks of a cron job that are later than `after_us` and may be forgotten, oldest first: decided, earlier than
        `before_us`, with no run, or one that had ended by then. The newest tick of each cron job is never among them.
        """

    def reserved(self, role: str | None = None) -> dict[Key, Resources]:
        """(role, tier, user) -> what is kept of their quotas for cron jobs and not held by a run of them just now."""


class CronWriter(CronReader, Protocol):
    """Part of a write transaction."""

    def put_crons(self, crons: Sequence[Cron]) -> None:
        """Insert or replace, by uid."""

    def move_crons(self, moved: Mapping[str, tuple[CronState, int | None, Resources]]) -> None:
        """Of each (by uid) the state, the next tick and what is reserved."""

    def add_ticks(self, ticks: Sequence[Tick]) -> None:
        """In bulk. `Conflict` if one is there already."""

    def settle_ticks(self, ticks: Sequence[Tick]) -> None:
        """What became of ticks that waited."""

    def drop_ticks(self, ticks: Sequence[Tick]) -> None:
        """Forget these that `old_ticks` named, and with each its run: job, tasks and labels."""
