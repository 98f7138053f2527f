"""Whose turn it is to write to a SQLite file, among all processes and threads of this machine.

SQLite has a lock of its own, but whoever waits for it sleeps in growing steps of up to 100 ms, in no order: of two
processes that wrote all the time one came to write once in three seconds. Here are two `flock`s on two small files
beside the database: a process first takes the *queue*, then the *turn*, and then lets go of the queue. Whoever has
just written cannot overtake whoever waits, since that one has the queue. The kernel lets go of both when a process
dies, however it dies. The files are never deleted: a lock on a file that others can no longer find is worth nothing.

`flock` itself can wait, but without a limit, and a process that was stopped (SIGSTOP) amid a write would hold up all
others for ever. So whoever finds a lock taken waits for its *bell*, a named pipe into which everyone who lets go of
the lock puts a byte. It only wakes: a byte too many costs a look, and one that is lost (its writer was killed, another
who waits took it) the rest of `_LOOK_S`.
"""

from __future__ import annotations

import fcntl
import os
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LOOK_S = 0.005
"""Whoever waits looks this often, bell or no bell."""


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
        self._queue = _Lock(database.with_name(f"{database.name}-queue"))
        self._turn = _Lock(database.with_name(f"{database.name}-turn"))

    @contextmanager
    def take(self, wait_s: float) -> Iterator[None]:
        """Wait at most so long; `TurnTaken` after that."""
        deadline = time.monotonic() + wait_s
        with self._threads.take(wait_s):
            self._queue.take(deadline)
            try:
                self._turn.take(deadline)
            finally:
                self._queue.let_go()
            try:
                yield
            finally:
                self._turn.let_go()

    def close(self) -> None:
        """Close the files."""
        self._queue.close()
        self._turn.close()


class _Lock:
    """A file that one process at a time has locked, and its bell."""

    def __init__(self, path: Path) -> None:
        bell = path.with_name(f"{path.name}-bell")
        with suppress(FileExistsError):
            os.mkfifo(bell, 0o600)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # Open both ways, so that a pipe that nobody listens to is no error.
        self._bell = os.open(bell, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def take(self, deadline: float) -> None:
        while not self._try():
            if time.monotonic() >= deadline:
                raise TurnTaken
            # Silence the bell, then look again: what is let go of after that look rings it.
            with suppress(BlockingIOError):
                os.read(self._bell, 65_536)
            if self._try():
                return
            select.select([self._bell], [], [], _LOOK_S)

    def let_go(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_UN)
        with suppress(BlockingIOError):
            # Full means that it rings already.
            os.write(self._bell, b".")

    def close(self) -> None:
        os.close(self._file)
        os.close(self._bell)

    def _try(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
