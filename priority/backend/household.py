"""All tasks of a node: started, stopped, looked at, buried."""

from __future__ import annotations

import os
import signal
from collections import deque
from pathlib import Path
from typing import Any

from priority.backend import proc
from priority.backend.custody import Custody, cause, now_s, report, send
from priority.backend.ledger import Ledger
from priority.backend.limits import Looker
from priority.backend.messages import Halt, Order
from priority.backend.timers import Timers

CHUNK = 16
"""Tasks started in one go, before ends and messages are looked at again."""
KILL_AGAIN_S = (0.002, 0.1)
"""After SIGKILL it is looked again whether something is left: after so long at first, then longer, up to so long."""
EARLY_LOOK_S = 0.1
"""Into a task's life its memory is measured for the first time, so that short ones have a figure too."""


class Household:
    """In the warden's one thread; whatever it does is in the ledger."""

    def __init__(self, folder: Path, ledger: Ledger, timers: Timers, log_limit: int) -> None:
        self.tasks: dict[str, Custody] = {}
        self.orders: deque[Order] = deque()
        """Accepted, not yet started."""
        self._sandboxes = folder / "sandboxes"
        self._ledger = ledger
        self._timers = timers
        self._looker = Looker(log_limit)
        self._mains: dict[int, Custody] = {}
        self._marks: dict[int, Custody] = {}
        self._orphans: dict[int, Custody] = {}
        self._leaving: set[Custody] = set()
        """Tasks whose main process has ended."""
        self._null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)

    @property
    def empty(self) -> bool:
        """Whether nothing runs and nothing is to be started."""
        return not self.tasks and not self.orders

    @property
    def held(self) -> list[str]:
        """Every task that runs or will, without more being said."""
        return [*self.tasks, *(order.task for order in self.orders)]

    # --- starting ------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """What a former warden left running is killed; only then is it said to have ended."""
        for task, mark in self._ledger.memory.running.items():
            self.tasks[task] = self._marks[mark] = Custody(task, mark, self._sandboxes / task)
        for custody in list(self.tasks.values()):
            self.kill(custody)
        self._timers.later(self._looker.next_s, self._look)

    def repeat(self, task: str) -> bool:
        """Whether it is here and has not ended; then it is said again."""
        custody = self.tasks.get(task)
        if custody is None:
            return any(order.task == task for order in self.orders)
        if custody.started is not None:
            self._ledger.started(custody)
        return True

    def start_some(self) -> None:
        """The next of what was ordered, written down first."""
        orders = [self.orders.popleft() for _ in range(min(CHUNK, len(self.orders)))]
        if not orders:
            return
        fresh = [Custody(one.task, proc.new_mark(), self._sandboxes / one.task, one) for one in orders]
        try:
            self._ledger.launching(fresh)
        except OSError as error:
            for custody in fresh:
                self._ledger.never(custody.task, "journal", f"the node cannot write its journal: {error.strerror}")
            return
        for custody in fresh:
            self._start(custody)

    def _start(self, custody: Custody) -> None:
        order = custody.order
        assert order is not None
        try:
            fault = custody.start(self._null)
        except OSError as error:
            self._ledger.never(custody.task, "sandbox", f"the node cannot make a sandbox: {error.strerror}")
            return
        if fault is not None:
            self._ledger.ended(report(custody.task, "ended", stopped=False, cause=cause("exec", fault)))
            return
        self.tasks[custody.task] = self._mains[custody.pid] = self._marks[custody.mark] = custody
        self._ledger.started(custody)
        self._timers.later(EARLY_LOOK_S, lambda: self._look_early(custody))
        if order.max_runtime_s is not None:
            self._timers.later(order.max_runtime_s, lambda: self._too_long(custody))

    # --- stopping ------------------------------------------------------------------------------------------

    def halt(self, halt: Halt) -> None:
        """The scheduler wants it ended. What is not here will not be: that is a proof too."""
        custody = self.tasks.get(halt.task)
        if custody is not None:
            first, custody.stopped = not custody.stopped, True
            self._wind_up(custody, halt.notice_s, getattr(signal, "SIG" + halt.signal) if first else None)
            return
        waiting = [order for order in self.orders if order.task == halt.task]
        if waiting:
            self.orders.remove(waiting[0])
            self._ledger.never(halt.task, "unknown", "it was stopped before it was started")
        elif not self._ledger.repeat(halt.task):
            self._ledger.never(halt.task, "unknown", "this node does not have it, and will never start it")

    def end_all(self, grace_s: float) -> None:
        """The node is shut down."""
        while self.orders:
            self._ledger.never(self.orders.popleft().task, "unknown", "its node was shut down before it was started")
        for custody in list(self.tasks.values()):
            custody.cause = custody.cause or cause("lease", "its node was shut down")
            self._wind_up(custody, grace_s, signal.SIGTERM)

    def kill_all(self, why: str) -> None:
        """The lease has run out: at once, and nothing that waits is started."""
        while self.orders:
            self._ledger.refuse(self.orders.popleft().task, "incarnation", why)
        for custody in list(self.tasks.values()):
            custody.cause = custody.cause or cause("lease", why)
            self.kill(custody)

    def _wind_up(self, custody: Custody, notice_s: float, number: int | None) -> None:
        """Tell it to end, and see that it is over in time; of several such times the first counts."""
        if number is not None and not custody.killing:
            self._find_orphans()
            custody.signal(number)
        kill_at_s = now_s() + notice_s
        if custody.kill_at_s is None or kill_at_s < custody.kill_at_s:
            custody.kill_at_s = kill_at_s
            self._timers.later(notice_s, lambda: self._time_is_up(custody))

    def _time_is_up(self, custody: Custody) -> None:
        if custody.kill_at_s is not None and now_s() >= custody.kill_at_s:
            self.kill(custody)

    def kill(self, custody: Custody) -> None:
        """SIGKILL all of it, and again until nothing is left."""
        if not custody.killing:
            self._kill_again(custody, KILL_AGAIN_S[0])

    def _kill_again(self, custody: Custody, pause_s: float) -> None:
        if self.tasks.get(custody.task) is not custody:
            return
        self._find_orphans()
        custody.kill()
        if custody.order is None and not custody.kin():
            self._gone(custody)
        else:
            self._timers.later(pause_s, lambda: self._kill_again(custody, min(pause_s * 2, KILL_AGAIN_S[1])))

    # --- limits --------------------------------------------------------------------------------------------

    def _look(self) -> None:
        self._find_orphans()
        for breach in self._looker.look(self.tasks.values()):
            self._break_off(breach.custody, breach.why, breach.far)
        self._timers.later(self._looker.next_s, self._look)

    def _look_early(self, custody: Custody) -> None:
        if custody.status is None and not custody.peak_kib:
            custody.peak_kib = sum(map(proc.resident_kib, custody.kin()))

    def _too_long(self, custody: Custody) -> None:
        if self.tasks.get(custody.task) is custody and custody.order is not None:
            limit_s = custody.order.max_runtime_s or 0.0
            self._break_off(custody, cause("runtime", f"ran for {limit_s:g} s, its max_runtime", limit_s=limit_s))

    def _break_off(self, custody: Custody, why: dict[str, Any], far: bool = False) -> None:
        """It broke a limit; if it is being stopped anyway, that remains the reason."""
        if custody.order is None or custody.status is not None:
            return
        if custody.cause is None and not custody.stopped:
            custody.cause = why
            self._wind_up(custody, custody.order.grace_s, signal.SIGTERM)
        if far:
            self.kill(custody)

    # --- ends ----------------------------------------------------------------------------------------------

    def reap(self) -> None:
        """Bury what has died."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if (custody := self._mains.pop(pid, None)) is not None:
                custody.status = status
                custody.used(usage, main=True)
                self._leaving.add(custody)
            elif (custody := self._orphans.pop(pid, None)) is not None:
                custody.orphans.discard(pid)
                custody.used(usage, main=False)
        if self._leaving:
            self._settle()

    def _settle(self) -> None:
        """Of tasks whose main process has ended: nothing left? then they have ended; else the rest must go."""
        self._find_orphans()
        for custody in list(self._leaving):
            if not custody.orphans:
                self._gone(custody)
            elif custody.kill_at_s is None:
                self.kill(custody)

    def _gone(self, custody: Custody) -> None:
        self.tasks.pop(custody.task, None)
        self._marks.pop(custody.mark, None)
        self._leaving.discard(custody)
        self._looker.trim(custody)
        self._ledger.ended(custody.end())

    def _find_orphans(self) -> None:
        """Our children that are not main processes: whose are they? One that is nobody's is killed."""
        for pid in proc.children(os.getpid()):
            if pid in self._mains or pid in self._orphans:
                continue
            owner = self._marks.get(proc.mark_of(pid) or 0) or self.tasks.get(proc.task_of(pid) or "")
            if owner is None:
                send(pid, signal.SIGKILL)
                continue
            self._orphans[pid] = owner
            owner.orphans.add(pid)
            if owner.killing:
                send(pid, signal.SIGKILL)
