"""The scheduler as a process: it waits for the leadership, then for news, and never looks without a reason.

Five threads beside the loop: one for each of what comes (queue, backend), which only put it into the inbox; one that
renews the leadership, so that a long round does not lose it; the ticker of the cron jobs; and one that forgets old
history. A standby listens to
nothing: what it took from the streams would be missing to the leader.

A restart on the same state folder need not wait until the dead leader's lease has run out. Whoever schedules for
a folder holds a lock on a file in it and has written its name there before it led; the kernel lets go of the lock
of a dead process, so whoever gets it knows that the one so named is dead, and resigns for it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from priority.errors import Unavailable
from priority.service.forgetting import PAUSE_S, Forgetting
from priority.service.parts import Parts
from priority.service.record import FOLDER, Recorder
from priority.service.scheduler import Scheduler
from priority.service.ticker import Ticker

log = logging.getLogger(__name__)

LOCK_FILE = "scheduler.lock"

_DATABASE_PAUSE_S = 0.5
"""Between two tries of a round while the database does not answer."""

_STANDBY_PAUSE_S = 0.5
"""Between two tries to lead."""


def new_holder() -> str:
    """A name that no other process has or will have."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


class Loop:
    """One scheduler process. `run` returns when `stop` is set, `Deposed` ends it when another leads."""

    def __init__(self, parts: Parts, holder: str | None = None) -> None:
        self.stop = Event()
        self._parts = parts
        settings = parts.settings
        self._recorder = Recorder(settings.state / FOLDER, settings.record_mib * 2**20) if settings.record_mib else None
        self.scheduler = Scheduler(parts, holder=holder or new_holder(), recorder=self._recorder)
        self._failure: BaseException | None = None

    def end(self) -> None:
        """From any thread or a signal handler: stop after this round."""
        self.stop.set()
        self.scheduler.wake.set()

    def run(self) -> None:
        """Lead, schedule, and leave the leadership to the next one when asked to stop."""
        with _state_lock(self._parts.settings.state, self.scheduler.holder, self._resign_for):
            if not self._await_leadership():
                return
            log.info("leads as %s, epoch %s", self.scheduler.holder, self.scheduler.epoch)
            listen = self._parts
            self._begin("queue", lambda: listen.queue.listen(self.scheduler.call))
            self._begin("backend", lambda: listen.backend.listen(self.scheduler.report))
            self._begin("renewal", self._renew)
            self._begin("ticker", self._tick)
            self._begin("forgetting", self._forget)
            try:
                self._rounds()
            finally:
                self.stop.set()
                self._parts.queue.close()
                self._parts.backend.close()
                if self._recorder is not None:
                    self._recorder.close()
            self.scheduler.resign()

    def _await_leadership(self) -> bool:
        while not self.stop.is_set():
            try:
                if self.scheduler.lead():
                    return True
            except Unavailable as error:
                log.warning("cannot lead yet: %s", error)
            self.stop.wait(_STANDBY_PAUSE_S)
        return False

    def _rounds(self) -> None:
        scheduler = self.scheduler
        while not self.stop.is_set():
            try:
                pause_s = scheduler.step()
            except Unavailable as error:
                log.warning("the database does not answer, the round is tried again: %s", error)
                self.stop.wait(_DATABASE_PAUSE_S)
                continue
            if self._failure is not None:
                raise self._failure
            scheduler.wake.wait(pause_s)

    def _renew(self) -> None:
        settings = self._parts.settings
        while not self.stop.wait(settings.leader_lease_s / 6):
            try:
                self.scheduler.renew()
            except Unavailable as error:
                log.warning("the leadership was not renewed: %s", error)

    def _tick(self) -> None:
        """Beside the rounds: a long one must not make a cron job late."""
        ticker = Ticker(self._parts, lambda: self.scheduler.epoch)
        while not self.stop.is_set():
            try:
                pause_s = ticker.step()
            except Unavailable as error:
                log.warning("the database does not answer, cron jobs are looked at again: %s", error)
                pause_s = _DATABASE_PAUSE_S
            self.stop.wait(pause_s)

    def _forget(self) -> None:
        forgetting = Forgetting(self._parts, lambda: self.scheduler.epoch)
        pause_s = PAUSE_S  # there is more to do when a leader begins
        while not self.stop.wait(pause_s):
            try:
                pause_s = forgetting.step()
            except Unavailable as error:
                log.warning("old history stays for now: %s", error)
                pause_s = PAUSE_S

    def _begin(self, name: str, work: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                work()
            except BaseException as error:
                if not self.stop.is_set():
                    self._failure = error
                    self.scheduler.wake.set()

        Thread(target=guarded, name=f"priority-{name}", daemon=True).start()

    def _resign_for(self, former: str) -> None:
        with self._parts.store.write() as writer:
            writer.resign(former)


@contextmanager
def _state_lock(state: Path, holder: str, resign_for: Callable[[str], None]) -> Iterator[None]:
    """Hold the folder's lock, if it is to be had at once; without it, only the lease decides."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(state / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another scheduler runs on this state folder; standing by")
        else:
            former = os.read(descriptor, 1000).decode(errors="replace").strip()
            if former:
                try:
                    resign_for(former)
                except Unavailable as error:
                    log.warning("the former leader's lease has to run out: %s", error)
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, holder.encode(), 0)
        yield
    finally:
        os.close(descriptor)
