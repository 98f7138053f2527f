"""The shapes of the answers about cron jobs."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from priority.face.views import Amounts


class TickView(TypedDict):
    """What became of one tick of a cron job: `started` (its `job`), `waiting` (it begins when the run before has
    ended), `skipped` (collision, suspended, quota, deleted) or `missed` (late, deadline, superseded, limit). `tick` is
    the moment that it is for, `at` when it was decided; `by` who started it by hand.
    """

    tick: str
    outcome: str
    at: str
    job: str | None
    by: str | None
    reason: dict[str, Any] | None


class CronSummary(TypedDict):
    """A cron job. `next` is its next tick, `last` the newest of its history, `runs` the jobs that go on."""

    uid: str
    key: str
    role: str
    tier: str
    name: str
    user: str
    state: str
    schedule: str
    timezone: str
    collision: str
    next: str | None
    last: TickView | None
    runs: list[str]
    instances: int
    resources: Amounts


class CronView(CronSummary):
    """A cron job with all that it says. `coming` are its next five ticks: in UTC, and `local` on its own wall clock."""

    created: str
    changed: str
    coming: list[str]
    local: list[str]
    spec: dict[str, Any]


class CronSubmitted(CronView):
    """A cron job as it was accepted: whether it was `made`, or `altered` one that was there (neither: it was
    so already). `warnings`: why its runs may wait for ever.
    """

    made: bool
    altered: bool
    warnings: list[str]


class CronStarted(CronView):
    """A cron job that was started by hand, and what came of that."""

    started: TickView


class CronPage(TypedDict):
    """Cron jobs, newest first. `next` is the cursor for `after`, null on the last page."""

    items: list[CronSummary]
    next: str | None


class TickPage(TypedDict):
    """Ticks, newest first."""

    items: list[TickView]
    next: str | None
