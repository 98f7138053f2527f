"""What a node has been told and has seen, kept through the deaths of agent and warden.

One file of JSON lines, appended to *before* what is written is acted on, one write(2) for each batch: a process
that is killed leaves whole lines, and a last line torn by a full disk is left out when it is read. It is not
fsynced: after the death of the machine nothing runs, and the next agent is another incarnation, which runs nothing
that was sent to the former one.

    {"do": "launch", "task", "mark"}     about to be started
    {"do": "end", "task", "report"}      has ended, or will never run (a refusal); not yet acknowledged
    {"do": "ack", "tasks": [...], "at"}  the scheduler knows the ends of these
    {"do": "forget", "tasks": [...]}     so old that nothing can be sent for them any more
    {"do": "epoch", "epoch"}             the highest seen
    {"do": "void", "agent"}              this incarnation's lease ran out
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COMPACT_BYTES = 8 * 2**20


@dataclass(slots=True)
class Memory:
    """What a journal says."""

    running: dict[str, int] = field(default_factory=dict)
    """Task -> mark, of those whose end is not written."""
    ended: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Task -> report, not acknowledged."""
    done: dict[str, float] = field(default_factory=dict)
    """Task -> when (seconds since the epoch) its end was acknowledged."""
    epoch: int = 0
    void: str = ""

    def apply(self, entry: dict[str, Any]) -> None:
        """One line. Lines are ours alone: what is wrong in them raises KeyError or TypeError."""
        what = entry["do"]
        if what == "launch":
            self.running[entry["task"]] = entry["mark"]
        elif what == "end":
            self.running.pop(entry["task"], None)
            self.ended[entry["task"]] = entry["report"]
        elif what == "ack":
            for task in entry["tasks"]:
                self.ended.pop(task, None)
                self.done[task] = entry["at"]
        elif what == "forget":
            for task in entry["tasks"]:
                self.done.pop(task, None)
        elif what == "epoch":
            self.epoch = max(self.epoch, entry["epoch"])
        elif what == "void":
            self.void = entry["agent"]

    def entries(self) -> list[dict[str, Any]]:
        """The shortest journal that says the same."""
        by_time: dict[float, list[str]] = {}
        for task, at in self.done.items():
            by_time.setdefault(at, []).append(task)
        return [
            {"do": "epoch", "epoch": self.epoch},
            {"do": "void", "agent": self.void},
            *({"do": "launch", "task": task, "mark": mark} for task, mark in self.running.items()),
            *({"do": "end", "task": task, "report": report} for task, report in self.ended.items()),
            *({"do": "ack", "tasks": tasks, "at": at} for at, tasks in by_time.items()),
        ]


class Journal:
    """The file. `write` raises OSError when the disk is full: then what was to be written must not be done."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._size = 0

    def open(self) -> Memory:
        """Read all there is, and leave a compact file."""
        memory = Memory()
        data = self._path.read_bytes() if self._path.exists() else b""
        for line in data.split(b"\n"):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                memory.apply(json.loads(line))
        self.compact(memory)
        return memory

    def write(self, entries: list[dict[str, Any]]) -> None:
        """Append all or (an error) nothing."""
        data = b"".join(json.dumps(entry, separators=(",", ":")).encode() + b"\n" for entry in entries)
        written = os.write(self._fd, data)
        if written < len(data):
            # A full disk took a part: take it back, so that the next line does not begin in the middle of this one.
            os.ftruncate(self._fd, self._size)
            raise OSError(28, "no space left for the journal")
        self._size += written

    @property
    def long(self) -> bool:
        """Whether it is time to `compact`."""
        return self._size > COMPACT_BYTES

    def compact(self, memory: Memory) -> None:
        """Begin a new file with what is still of use, and put it in the place of the old one at once."""
        fresh = self._path.with_suffix(".new")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        old, self._fd, self._size = self._fd, fd, 0
        self.write(memory.entries())
        fresh.replace(self._path)
        if old >= 0:
            os.close(old)
