"""The truth: jobs, tasks, roles, quotas, events, nodes and who leads, in SQLite or PostgreSQL.

What lives where:

- `tables` says what is kept; `migrations` bring a database there, `migrate` runs them.
- `rows` turns nouns into rows and back; `reader` and `writer` hold every statement, each written once for both.
- `session` is the seam below them; `sqlite` and `postgres` are what stands behind it.
- `turn` is the queue of those who write to one SQLite file. `sql` puts it all together; `open_store` picks by URL.

**One writer at a time.** Every write, from its first statement, has the only lock there is: the file's turn and
`BEGIN IMMEDIATE` in SQLite, an advisory lock in PostgreSQL. What that buys: a quota is read, reckoned with and
charged without a race; whoever is told to compare and set has compared with the newest; events are numbered in the
order in which they can be seen, so that "all after number n" never misses one; nothing deadlocks, and no write is
ever to be tried again because of another. What it costs is one commit after the other, about 3,000 small ones a
second; so callers put what has come meanwhile into one (group commit), and do nothing slow inside a `with`. Readers
have a view of their own, wait for nobody and hold up nobody (in memory, where there is one connection, they do).

**The leader's writes** name its epoch. It is compared inside the transaction with the row of who leads, which
nobody can change meanwhile: a leader that slept through its lease writes nothing once another leads.

**If we die**

- before the commit: nothing of it is there. The kernel (the server) lets go of the lock, the next one goes on.
- during the commit: all of it is there or nothing; an idempotency key finds out which, since its answer is kept in
  the same transaction.
- after the commit, before we could tell anyone: it is there. Acts are repeated from what is there, answers are found
  by their key.
- amid an upgrade: the schema is what it was.

And if we are stopped (SIGSTOP) amid a write: the others are told `Unavailable` after `wait_s`, until we go on, or are
killed, or (PostgreSQL) the server ends our transaction for us.

A commit is on disk when `write` returns: SQLite runs with `synchronous=FULL`, and a PostgreSQL that runs with
`fsync=off` or `synchronous_commit=off` is refused.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from priority.errors import Invalid
from priority.store.sql import SqlStore as SqlStore
from priority.store.sqlite import SqliteDatabase

_WAIT_S = 10.0


def open_store(url: str, wait_s: float = _WAIT_S, *, ahead: bool = False) -> SqlStore:
    """The store at a URL: `sqlite:///path/to/file`, `sqlite://` (memory, gone at its close) or
    `postgresql://user@host/database`. `Invalid` names what is wrong with it; `Unavailable` if it cannot be reached.
    Whoever waits longer than `wait_s` for another writer, a connection or an answer is told `Unavailable`. A server
    makes SQLite's log `ahead` of its commits.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise Invalid("database", "is not a URL, such as sqlite:///priority.db or postgresql://host/name") from None
    kind = parsed.get_backend_name()
    if kind == "sqlite":
        memory = parsed.database in (None, "", ":memory:")
        return SqlStore(SqliteDatabase(None if memory else Path(str(parsed.database)), wait_s, ahead=ahead))
    if kind == "postgresql":
        try:
            from priority.store.postgres import PostgresDatabase  # psycopg is an extra
        except ImportError:
            raise Invalid("database", "is PostgreSQL, for which install priority[postgres]") from None
        return SqlStore(PostgresDatabase(parsed, wait_s))
    raise Invalid("database", f"is of the kind {kind!r}; there are sqlite and postgresql")
