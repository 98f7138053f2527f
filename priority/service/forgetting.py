"""What the leader forgets, under its epoch: old ticks of cron jobs with the runs that they made, old jobs that users
submitted, old rows of the ledger of preemptions, and old events.

Small pieces in transactions of their own, with pauses between, as each holds all other writers up. What may go is
looked for in a transaction that only reads, and what it names stays so: what has ended does not become active again.
Never forgotten: what is active or waits, the newest tick of a cron job and its run, what a preemption that is still
in the ledger was about, the newest of those and those of unknown fate, audits, and the newest event, from which the
next ones are numbered. An idempotency key is there for as long as one of its jobs, and so for the whole of their time
at least; only then it may be used anew. Of a job with very many tasks the last ones go first, piece by piece, and it
itself with the first of them; so goes a run of a cron job.
Who dies in the middle has forgotten a piece more or less; nothing is remembered
between two processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from priority.crontab import Tick
from priority.service.parts import Parts

T = TypeVar("T")

PAUSE_S = 60.0
"""Between two looks, when there was nothing left."""

BUSY_S = 1.0
"""Between two pieces."""

PIECE = 500
"""Ticks (each with its run), jobs or events of one transaction, at most."""

TASKS_PIECE = 5_000
"""Tasks of the jobs, or runs, of one transaction."""

CRONS_AT_ONCE = 200
"""Cron jobs of one look."""

LEDGER_US = 3_600 * 10**6
"""The ledger is kept for that long in any case: budgets of an hour are counted from it."""

AGAIN_US = 86_400 * 10**6
"""So often events, jobs and answers are looked through from the first one: some are left behind."""


class Forgetting:
    """`step` by hand or from a thread of its own."""

    def __init__(
        self, parts: Parts, epoch: Callable[[], int | None], piece: int = PIECE, tasks: int = TASKS_PIECE
    ) -> None:
        self._parts = parts
        self._epoch = epoch
        self._piece = piece
        self._tasks = tasks
        self._cron = ""
        self._tick_us = -1
        self._event = 0
        self._preemption = 0
        self._job = 0
        self._answer: tuple[str, str] | None = ("", "")
        self._began_us = 0

    def step(self) -> float:
        """One piece of each; the seconds until the next. `Deposed`: another leads, and nothing has happened."""
        now_us, settings = self._parts.clock.now_us(), self._parts.settings
        busy = False
        if not 0 <= now_us - self._began_us < AGAIN_US:
            self._event, self._job, self._answer, self._began_us = 0, 0, ("", ""), now_us
            self._preemption = 0
        if settings.preemptions_keep_s:
            busy = self._preemptions(now_us - max(LEDGER_US, round(settings.preemptions_keep_s * 1e6)))
        if settings.jobs_keep_s:
            busy = self._jobs(now_us - round(settings.jobs_keep_s * 1e6)) or self._answers() or busy
        if settings.ticks_keep_s:
            busy = self._ticks(now_us - round(settings.ticks_keep_s * 1e6)) or busy
        if settings.events_keep_s:
            busy = self._events(now_us - round(settings.events_keep_s * 1e6)) or busy
        return BUSY_S if busy else PAUSE_S

    def _ticks(self, before_us: int) -> bool:
        """Whether more is to be done at once."""
        began = self._cron, self._tick_us
        found, left = self._look(before_us)
        with self._parts.store.read() as reader:
            kept = reader.in_ledger({tick.job for tick in found if tick.job is not None})
            gone = [tick for tick in found if tick.job not in kept]
            many = reader.task_counts({tick.job for tick in gone if tick.job is not None})
        some = _first(((tick, many.get(tick.job or "", 0)) for tick in gone), self._tasks)
        if gone:
            with self._parts.store.write(self._epoch()) as writer:
                if some:
                    writer.drop_ticks(some)
                else:
                    writer.drop_tasks(gone[0].job or "", self._tasks)
        if len(some) < len(gone):
            self._cron, self._tick_us = began
            return True
        return left

    def _look(self, before_us: int) -> tuple[list[Tick], bool]:
        """The next piece, in the order of cron job and moment, and whether others follow before all begins anew."""
        found: list[Tick] = []
        with self._parts.store.read() as reader:
            uids = [self._cron] if self._tick_us >= 0 else []
            uids += reader.cron_uids(self._cron, CRONS_AT_ONCE)
            for uid in uids:
                after_us = self._tick_us if uid == self._cron else -1
                some = reader.old_ticks(uid, after_us, before_us, self._piece - len(found))
                found += some
                self._cron, self._tick_us = uid, -1
                if len(found) == self._piece:
                    self._tick_us = some[-1].tick_us
                    return found, True
        if len(uids) >= CRONS_AT_ONCE:
            return found, True
        self._cron = ""
        return found, False

    def _jobs(self, before_us: int) -> bool:
        """Whether more is to be done at once."""
        with self._parts.store.read() as reader:
            old, last = reader.old_jobs(self._job, before_us, self._piece)
            kept = reader.in_ledger({uid for uid, _ in old})
        gone = [(uid, tasks) for uid, tasks in old if uid not in kept]
        some = _first(gone, self._tasks)
        if gone:
            with self._parts.store.write(self._epoch()) as writer:
                if some:
                    writer.drop_jobs(some)
                else:
                    writer.drop_tasks(gone[0][0], self._tasks)
        if len(some) < len(gone):
            return True
        if last is not None:
            self._job = last
        return last is not None

    def _answers(self) -> bool:
        """Whether more is to be done at once."""
        if self._answer is None:
            return False
        with self._parts.store.read() as reader:
            gone, last = reader.old_answers(self._answer, self._piece)
        if gone:
            with self._parts.store.write(self._epoch()) as writer:
                writer.drop_answers(gone)
        self._answer = last
        return last is not None

    def _preemptions(self, before_us: int) -> bool:
        with self._parts.store.read() as reader:
            old, last = reader.old_preemptions(self._preemption, before_us, self._piece)
        if old:
            with self._parts.store.write(self._epoch()) as writer:
                writer.drop_preemptions(old)
        if last is not None:
            self._preemption = last
        return last is not None

    def _events(self, before_us: int) -> bool:
        with self._parts.store.read() as reader:
            old, last = reader.old_events(self._event, before_us, self._piece)
        if old:
            with self._parts.store.write(self._epoch()) as writer:
                writer.drop_events(old)
        if last is not None:
            self._event = last
        return last is not None


def _first(tasks: Iterable[tuple[T, int]], limit: int) -> list[T]:
    """Of things that go with so many tasks each, as many as have no more than `limit` together, from the first."""
    found: list[T] = []
    for one, many in tasks:
        limit -= many
        if limit < 0:
            break
        found.append(one)
    return found
