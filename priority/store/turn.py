"""Whose turn it is to write to a SQLite file, among all processes and threads of this machine.

SQLite has a lock of its own, but whoever waits for it sleeps in growing steps of up to 100 ms, in no order.
Here are two `flock`s on two small files beside the database: a process first takes the *queue*, then the *turn*,
and then lets go of the queue. Whoever has just written cannot overtake whoever waits, since that one has
the queue. The kernel lets go of both when a process dies, however it dies. The files are never deleted: a lock on a
file that another process can no longer find would be worth nothing.

The kernel's own waiting has no time limit, and a process that was stopped (SIGSTOP) amid a write would block all others
for ever, so a process that finds the turn taken asks again, soon: see `_PAUSES_S`.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PAUSES_S = (0.0001, 0.0002, 0.0004, 0.0008)
"""Between questions; the last one from then on. A write takes about as long."""


class TurnTaken(Exception):
    """It did not become our turn in time."""


class ThreadTurn:
    """Among the threads of one process: for a database in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @contextmanager
    def take(self, wait_s: float) -> Iterator[None]:
        """Wait at most so long; `TurnTaken` after that."""
        if not self._lock.acquire(timeout=wait_s):
            raise TurnTaken
        try:
            yield
        finally:
            self._lock.release()

    def close(self) -> None:
        """Nothing to let go of."""


class FileTurn:
    """Among the processes of one machine, and the threads of each."""

    def __init__(self, database: Path) -> None:
        self._threads = ThreadTurn()
        self._queue = _open(database.with_name(database.name + "-queue"))
        self._turn = _open(database.with_name(database.name + "-turn"))

    @contextmanager
    def take(self, wait_s: float) -> Iterator[None]:
        """Wait at most so long; `TurnTaken` after that."""
        deadline = time.monotonic() + wait_s
        with self._threads.take(wait_s):
            _lock(self._queue, deadline)
            try:
                _lock(self._turn, deadline)
            finally:
                fcntl.flock(self._queue, fcntl.LOCK_UN)
            try:
                yield
            finally:
                fcntl.flock(self._turn, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the two files."""
        os.close(self._queue)
        os.close(self._turn)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _lock(descriptor: int, deadline: float) -> None:
    asked = 0
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise TurnTaken from None
        time.sleep(_PAUSES_S[min(asked, len(_PAUSES_S) - 1)])
        asked += 1
