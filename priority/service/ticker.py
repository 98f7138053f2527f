"""The ticker: it sees to it that every tick of every cron job is decided, by the leader alone, under its epoch.

What if it dies at any line? A tick is decided in one transaction: its row, the tasks of its run, what that takes of the
quota, and the moment of the next tick. Dead before the commit nothing has happened, and the next leader finds the cron
job due; dead after it the next leader finds it done. Nothing is remembered between two steps, so nothing has to be
handed over. The scheduler is told of new runs as by a submission; if that is lost, its sweep finds them.

It looks once a second, whatever the clock says, so that a clock that was set forward, or a new cron job, is noticed:
one question to an index, some 50 microseconds. A clock that was set back makes nothing due, as what was decided has
moved its cron job's next tick into the future.
"""

from __future__ import annotations

from collections.abc import Callable

from priority.service.firing import Firing
from priority.service.parts import Parts

LOOK_S = 1.0
"""Between two looks at the longest."""

WAITING_LOOK_S = 0.2
"""While a tick waits for the end of a run."""

CRONS_AT_ONCE = 2_500
"""Of one transaction: it holds all other writers up."""


def _nothing(_point: str) -> None:
    pass


class Ticker:
    """`step` by hand or from a thread of its own. `fail_at` is called at named points, where a test may kill it."""

    def __init__(
        self,
        parts: Parts,
        epoch: Callable[[], int | None],
        *,
        fail_at: Callable[[str], None] = _nothing,
        batch: int = CRONS_AT_ONCE,
    ) -> None:
        self._parts = parts
        self._epoch = epoch
        self._fail_at = fail_at
        self._batch = batch

    def step(self) -> float:
        """Decide what is due; the seconds until the next look. `Deposed`: another leads, and nothing has happened."""
        clock = self._parts.clock
        with self._parts.store.read() as reader:
            next_us, waiting = reader.next_tick(), bool(reader.waiting_ticks())
        if waiting or (next_us is not None and next_us <= clock.now_us()):
            waiting, next_us = self._act()
        pause_s = WAITING_LOOK_S if waiting else LOOK_S
        if next_us is not None:
            pause_s = min(pause_s, max(0.0, (next_us - clock.now_us()) / 1e6))
        return pause_s

    def _act(self) -> tuple[bool, int | None]:
        """One transaction. Whether ticks wait after it, and when the next is due."""
        with self._parts.store.write(self._epoch()) as writer:
            now_us = self._parts.clock.now_us()
            due = {cron.uid: cron for cron in writer.due_crons(now_us, self._batch)}
            waiting = {cron.uid: cron for cron in writer.waiting_crons()}
            firing = Firing(self._parts, writer, now_us, {**waiting, **due}.values())
            for uid in due:
                firing.fire(uid)
            for uid in waiting:
                firing.promote(uid)
            last_event = firing.write()
            self._fail_at("tick-written")
            left = bool(writer.waiting_ticks()), writer.next_tick()
        self._fail_at("tick-committed")
        jobs = [*firing.jobs, *firing.ended]
        if jobs or last_event:
            self._parts.ring(jobs, last_event)
        return left
