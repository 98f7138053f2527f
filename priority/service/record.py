"""The rounds of a scheduler on disk: off its hot path, bounded in size, and readable however the process ended.

The scheduler hands over what has changed, and the plan (both immutable); a thread makes lines of them (see `recording`)
and appends them, several at a time, as one gzip member each time. So `zcat` shows them, and:

- Killed in the middle of a write: the last member is torn. A reader skips it; a new process begins a new file.
- The thread cannot keep up: what the backlog has no room for is left out; then the record begins anew, with a whole
  snapshot.
- The disk is full: a line in the log, and a new beginning later. Scheduling goes on as if nothing was the matter.

Each file begins with a whole snapshot and can be read alone. It is ended when it has grown to its part of what is
allowed; the oldest files are deleted as soon as all together would be more than that (but never the newest).
"""

from __future__ import annotations

import logging
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Condition, Thread
from typing import Any

import orjson

from priority.plan import Plan
from priority.recording import Changes, Script, Watched
from priority.snapshot import Snapshot

log = logging.getLogger(__name__)

FOLDER = "rounds"
"""In the state folder."""

SUFFIX = ".jsonl.gz"
FILES = 8
"""Into so many files the room is parted, so that deleting the oldest forgets little."""

BACKLOG = 1_000
"""Rounds that wait to be written."""

_BASES = 4
"""A file is not ended before it is so many times as large as the whole snapshot that it begins with."""

_PAUSE_S = 10.0
"""After a write that failed, before the next try."""

_GZIP = 31
"""zlib's `wbits` for a gzip member."""

_LEVEL = 6
_CHUNK = 65_536


class Recorder:
    """`take` after each plan, from the scheduler's thread; `close` when it ends."""

    def __init__(self, folder: Path, limit_bytes: int, *, backlog: int = BACKLOG) -> None:
        self._folder, self._limit, self._backlog = folder, limit_bytes, backlog
        self._script = Script()
        self._news = Condition()
        self._waiting: list[tuple[int, Changes, Plan]] = []
        self._number = 0
        self._lost = False
        """Whether something was left out since the last whole snapshot."""
        self._closed = False
        self._file: int | None = None
        self._path = Path()
        self._size = 0
        self._others = 0
        """How large the other files are together."""
        self._whole = 0
        """How large the first write of this file was."""
        self._files = 0
        self._retry_s = 0.0
        self._thread = Thread(target=self._run, name="priority-record", daemon=True)
        self._thread.start()

    def take(self, snapshot: Snapshot, plan: Plan) -> None:
        """A round, as it was decided: never waits for the disk."""
        assert isinstance(snapshot, Watched)
        self._number += 1
        with self._news:
            self._lost = self._lost or len(self._waiting) >= self._backlog
            if self._lost:
                snapshot.all_anew()
                if self._waiting or time.monotonic() < self._retry_s:
                    return
                self._lost = False
            self._waiting.append((self._number, snapshot.changes(), plan))
            self._news.notify()

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what waits, if the disk lets us in time."""
        with self._news:
            self._closed = True
            self._news.notify()
        self._thread.join(timeout_s)

    # --- the thread ---

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._waiting or self._closed)
                batch, self._waiting = self._waiting, []
            if not batch:
                self._end_file()
                return
            try:
                self._write(batch)
            except Exception as error:  # a record that cannot be kept must not stop the scheduler
                log.warning("rounds are not recorded, a new try in %.0f s: %s", _PAUSE_S, error)
                self._end_file()
                with self._news:
                    self._retry_s = time.monotonic() + _PAUSE_S
                    self._lost = True
                    self._waiting.clear()  # they tell of changes to what was not written

    def _write(self, batch: Sequence[tuple[int, Changes, Plan]]) -> None:
        for part in self._parts(batch):
            packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
            member = packer.compress(part) + packer.flush()
            if self._file is None:
                self._begin_file()
            if self._others + self._size + len(member) > self._limit:
                self._forget(len(member))
            self._append(member)
            self._whole = self._whole or len(member)
            if self._size >= max(self._limit // FILES, _BASES * self._whole):
                self._end_file()

    def _parts(self, batch: Sequence[tuple[int, Changes, Plan]]) -> Iterator[bytes]:
        """Lines: the whole snapshot that a file begins with apart, the rest together."""
        lines: list[bytes] = []
        for number, changes, plan in batch:
            first = self._file is None and not lines
            line = orjson.dumps(self._script.line(number, changes, plan, first=first)) + b"\n"
            if first:
                yield line
            else:
                lines.append(line)
        if lines:
            yield b"".join(lines)

    def _append(self, member: bytes) -> None:
        assert self._file is not None
        left = memoryview(member)
        while left:
            left = left[os.write(self._file, left) :]
        self._size += len(member)

    def _begin_file(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._others = sum(path.stat().st_size for path in recorded(self._folder))
        self._files += 1
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        self._path = self._folder / f"{now}-{os.getpid()}-{self._files:04d}{SUFFIX}"
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = self._whole = 0

    def _end_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _forget(self, room: int) -> None:
        """Delete the oldest files until there is room for so much more; never this one."""
        others = {path: path.stat().st_size for path in recorded(self._folder) if path != self._path}
        self._others = sum(others.values())
        for path, size in others.items():
            if self._others + self._size + room <= self._limit:
                break
            path.unlink(missing_ok=True)
            self._others -= size


def recorded(folder: Path) -> list[Path]:
    """Every file of rounds there, the oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}"))


@dataclass(frozen=True, slots=True)
class Torn:
    """What stands in place of the rest of a file that cannot be read."""

    at: int
    """How many bytes of the file were read."""
    left: int
    """How many were not."""


def read_rounds(data: bytes) -> Iterator[dict[str, Any] | Torn]:
    """Every line of a file, and at last perhaps a `Torn`. A member that is not whole is skipped with all its lines."""
    at = 0
    while at < len(data):
        text, read = _member(data, at)
        try:
            lines = [orjson.loads(line) for line in text.splitlines()] if text is not None else None
        except orjson.JSONDecodeError:
            lines = None
        if lines is None:
            yield Torn(at, len(data) - at)
            return
        yield from lines
        at += read


def _member(data: bytes, at: int) -> tuple[bytes | None, int]:
    """One gzip member's text and its length in the file; None if it is not whole."""
    unpacker = zlib.decompressobj(_GZIP)
    text = []
    end = at
    try:
        while not unpacker.eof and end < len(data):
            text.append(unpacker.decompress(data[end : end + _CHUNK]))
            end = min(end + _CHUNK, len(data))
    except zlib.error:
        return None, 0
    return (b"".join(text), end - len(unpacker.unused_data) - at) if unpacker.eof else (None, 0)
