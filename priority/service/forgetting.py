"""What the leader forgets, under its epoch: old ticks of cron jobs with the runs that they made, and old events.

Small pieces in transactions of their own, with pauses between, as each holds all other writers up. What may go is
looked for in a transaction that only reads, and what it names stays so: what has ended does not become active again.
Never forgotten: what is active or waits, the newest tick of a cron job and its run, what a preemption in the ledger was
about, what users submitted themselves (a retry with its idempotency key must find it), audits, and the newest event,
from which the next ones are numbered. Who dies in the middle has forgotten a piece more or less; nothing is remembered
between two processes.
"""

from __future__ import annotations

from collections.abc import Callable

from priority.crontab import Tick
from priority.service.parts import Parts

PAUSE_S = 60.0
"""Between two looks, when there was nothing left."""

BUSY_S = 1.0
"""Between two pieces."""

PIECE = 500
"""Ticks (each with its run) or events of one transaction."""

CRONS_AT_ONCE = 200
"""Cron jobs of one look."""

AGAIN_US = 86_400 * 10**6
"""So often events are looked through from the first one: those of a job that was active are left behind."""


class Forgetting:
    """`step` by hand or from a thread of its own."""

    def __init__(self, parts: Parts, epoch: Callable[[], int | None], piece: int = PIECE) -> None:
        self._parts = parts
        self._epoch = epoch
        self._piece = piece
        self._cron = ""
        self._tick_us = -1
        self._event = 0
        self._began_us = 0

    def step(self) -> float:
        """One piece of each; the seconds until the next. `Deposed`: another leads, and nothing has happened."""
        now_us, settings = self._parts.clock.now_us(), self._parts.settings
        busy = False
        if settings.ticks_keep_s:
            busy = self._ticks(now_us - round(settings.ticks_keep_s * 1e6))
        if settings.events_keep_s:
            busy = self._events(now_us, now_us - round(settings.events_keep_s * 1e6)) or busy
        return BUSY_S if busy else PAUSE_S

    def _ticks(self, before_us: int) -> bool:
        """Whether more is to be done at once."""
        found, left = self._look(before_us)
        with self._parts.store.read() as reader:
            kept = reader.in_ledger({tick.job for tick in found if tick.job is not None})
        gone = [tick for tick in found if tick.job not in kept]
        if gone:
            with self._parts.store.write(self._epoch()) as writer:
                writer.drop_ticks(gone)
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

    def _events(self, now_us: int, before_us: int) -> bool:
        if not 0 <= now_us - self._began_us < AGAIN_US:
            self._event, self._began_us = 0, now_us
        with self._parts.store.read() as reader:
            old, last = reader.old_events(self._event, before_us, self._piece)
        if old:
            with self._parts.store.write(self._epoch()) as writer:
                writer.drop_events(old)
        if last is not None:
            self._event = last
        return last is not None
