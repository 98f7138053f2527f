"""The truth."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from priority.errors import Invalid
from priority.store.sql import SqlStore as SqlStore
from priority.store.sqlite import SqliteDatabase

_WAIT_S = 10.0


def open_store(url: str, wait_s: float = _WAIT_S) -> SqlStore:
    """The store at a URL: `sqlite:///path/to/file`, `sqlite://` (memory, gone at its close) or
    `postgresql://user@host/database`. `Invalid` names what is wrong with it; `Unavailable` if it cannot be reached.
    Whoever waits longer than `wait_s` for another writer, a connection or an answer is told `Unavailable`.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise Invalid("database", "is not a URL, such as sqlite:///priority.db or postgresql://host/name") from None
    kind = parsed.get_backend_name()
    if kind == "sqlite":
        memory = parsed.database in (None, "", ":memory:")
        return SqlStore(SqliteDatabase(None if memory else Path(str(parsed.database)), wait_s))
    if kind == "postgresql":
        try:
            from priority.store.postgres import PostgresDatabase  # psycopg is an extra
        except ImportError:
            raise Invalid("database", "is PostgreSQL, for which install priority[postgres]") from None
        return SqlStore(PostgresDatabase(parsed, wait_s))
    raise Invalid("database", f"is of the kind {kind!r}; there are sqlite and postgresql")
