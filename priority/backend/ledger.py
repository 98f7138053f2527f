"""What a warden knows of tasks, and has to say until it is acknowledged."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from priority.backend.custody import Custody, cause, now_s, report
from priority.backend.journal import Journal

TELL_AGAIN_S = (5.0, 60.0)
"""An end that is not acknowledged is told again after so long at first, then twice as long each time, up to so long."""
REMEMBER_S = 3600.0
"""How long the id of a task is kept at least after its end was acknowledged: longer than anything waits in Redis."""
OLD_MAX = 1000
"""Sandboxes that may go, told at once."""


class Ledger:
    """Entries for the journal and reports for the agent, in that order, each kind in one go: see `flush`."""

    def __init__(self, path: Path, ended_keep_s: float, send: Callable[[dict[str, Any]], None]) -> None:
        self._journal = Journal(path)
        self._keep_s = ended_keep_s
        self._send = send
        self._entries: list[dict[str, Any]] = []
        self._reports: list[dict[str, Any]] = []
        self.memory = self._journal.open()
        self._again = dict.fromkeys(self.memory.ended, (0.0, TELL_AGAIN_S[0]))
        self._old: deque[tuple[float, str]] = deque((at, task) for task, at in self.memory.done.items())

    @property
    def pending(self) -> bool:
        """Whether there is something to `flush`."""
        return bool(self._entries or self._reports)

    # --- what happens --------------------------------------------------------------------------------------

    def launching(self, custodies: Iterable[Custody]) -> None:
        """They are about to be started. OSError: the journal does not take it, so they must not be."""
        entries = [{"do": "launch", "task": one.task, "mark": one.mark} for one in custodies]
        self._journal.write(entries)
        for entry in entries:
            self.memory.apply(entry)

    def started(self, custody: Custody) -> None:
        """It runs."""
        assert custody.started is not None
        self._reports.append(custody.started)

    def ended(self, ended: dict[str, Any]) -> None:
        """It has ended; this is told until it is acknowledged."""
        self._note({"do": "end", "task": ended["task"], "report": ended})
        self._reports.append(ended)
        self._again[ended["task"]] = (now_s() + TELL_AGAIN_S[0], TELL_AGAIN_S[0])

    def refuse(self, task: str, code: str, message: str) -> None:
        """It is not started, for now or for ever."""
        self._reports.append(report(task, "refused", cause=cause(code, message)))

    def never(self, task: str, code: str, message: str) -> None:
        """It has not run and never will: a proof, so it is written down before it is said."""
        self._note({"do": "end", "task": task, "report": {}})
        self._note({"do": "ack", "tasks": [task], "at": time.time()})
        self.refuse(task, code, message)

    def acknowledged(self, tasks: list[str]) -> None:
        """The scheduler has committed these ends."""
        known = [task for task in tasks if task in self.memory.ended]
        if known:
            at = time.time()
            self._note({"do": "ack", "tasks": known, "at": at})
            for task in known:
                self._again.pop(task, None)
                self._old.append((at, task))

    def repeat(self, task: str) -> bool:
        """Say again how it ended; False if it has not ended here."""
        if task in self.memory.ended:
            self._reports.append(self.memory.ended[task])
        elif task in self.memory.done:
            self.refuse(task, "ended", "it has ended here, and its end was acknowledged")
        else:
            return False
        return True

    def heed(self, epoch: int) -> None:
        """A leader has spoken."""
        if epoch > self.memory.epoch:
            self._note({"do": "epoch", "epoch": epoch})

    def void(self, agent: str) -> None:
        """This incarnation's lease has run out."""
        self._note({"do": "void", "agent": agent})

    # --- what becomes of it --------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write down what has happened, then say it. What a full disk does not take is said all the same: it is in
        memory, and would come as `vanished` if this process died as well.
        """
        if self._entries:
            entries, self._entries = self._entries, []
            with contextlib.suppress(OSError):
                self._journal.write(entries)
        if self._reports:
            reports, self._reports = self._reports, []
            self._send({"reports": reports})

    def tick(self, listened_to: bool) -> None:
        """Now and then: what was not acknowledged is told again; what is old is forgotten."""
        now = now_s()
        for task, (due_s, pause_s) in list(self._again.items()):
            if due_s <= now and task in self.memory.ended:
                self._reports.append(self.memory.ended[task])
                longer_s = min(pause_s * 2, TELL_AGAIN_S[1])
                self._again[task] = (now + longer_s, longer_s)
        self._forget(listened_to)
        if self._journal.long:
            self.flush()
            with contextlib.suppress(OSError):
                self._journal.compact(self.memory)

    def _forget(self, listened_to: bool) -> None:
        now = time.time()
        old: list[str] = []
        while listened_to and self._old and self._old[0][0] < now - self._keep_s and len(old) < OLD_MAX:
            old.append(self._old.popleft()[1])
        if old:
            self._send({"old": old})
        longest_s = max(self._keep_s, REMEMBER_S)
        if self.memory.done and next(iter(self.memory.done.values())) < now - longest_s:
            gone = [task for task, at in self.memory.done.items() if at < now - longest_s]
            self._note({"do": "forget", "tasks": gone})

    def _note(self, entry: dict[str, Any]) -> None:
        """Known from now on, written down at the next `flush`, said after that."""
        self.memory.apply(entry)
        self._entries.append(entry)
