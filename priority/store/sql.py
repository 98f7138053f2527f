"""The store: one implementation over both databases."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from priority.store.reader import SqlReader
from priority.store.session import Database
from priority.store.writer import SqlWriter


class SqlStore:
    """`ports.Store`. May be used by many threads at once, each with one transaction at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._inside = threading.local()

    @contextmanager
    def read(self) -> Iterator[SqlReader]:
        """See `Store`."""
        with self._alone(), self._database.reading() as session:
            yield SqlReader(session)

    @contextmanager
    def write(self, epoch: int | None = None) -> Iterator[SqlWriter]:
        """See `Store`."""
        with self._alone(), self._database.writing() as session:
            writer = SqlWriter(session)
            if epoch is not None:
                writer.obey(epoch)
            yield writer

    def upgrade(self) -> None:
        """See `Store`."""
        self._database.upgrade()

    def close(self) -> None:
        """See `Store`."""
        self._database.close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        # A write inside a write would wait for itself, and so would, in memory, any transaction inside another.
        mine = self._inside.__dict__
        if mine.get("transaction"):
            raise RuntimeError("this thread is inside a transaction already; a Writer can read too")
        mine["transaction"] = True
        try:
            yield
        finally:
            # Of the thread that began it: another may end it (a web framework's pool does so).
            mine["transaction"] = False
