"""PostgreSQL, through psycopg 3.

A write first of all takes one advisory lock, kept until its end, so that there is one writer at a time in the whole
service. It runs at READ COMMITTED: each statement sees what was committed before it began, which once the lock is
ours is everything. (At REPEATABLE READ the view would be as old as the waiting for the lock.) PostgreSQL lets go of
the lock after the commit can be seen by others. A read runs at REPEATABLE READ: one view for all its statements.

If we die, or the connection does, the server rolls back and lets go of the lock. If the connection dies during COMMIT
nobody here can know whether it was done: `Unavailable` says so, and the idempotency key of the request finds out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, cast

import psycopg
from sqlalchemy import URL
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import PoolProxiedConnection, QueuePool

from priority.errors import Conflict, Invalid, PriorityError, Unavailable
from priority.store.session import Row
from priority.store.tables import METADATA

_WRITER = 0x7072696F72697479
"""The one advisory lock: `priority` in ASCII."""

_CONNECTIONS = 32

_COPY_FROM = 8
"""With fewer rows one INSERT is faster than a COPY, which takes two more messages."""

_MARGIN_S = 1.0

_UPGRADE_S = 3600.0

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]

_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

_WRITE = f"BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock({_WRITER})"

_LIMITS = """
SET statement_timeout = {answer_ms};
SET lock_timeout = {wait_ms};
SET idle_in_transaction_session_timeout = {wait_ms}
"""
"""The last one: a writer that was stopped (SIGSTOP) amid a transaction loses it, and the lock with it."""


class PostgresSession:
    """An open transaction on one connection."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._cursor: psycopg.Cursor[Any] | None = connection.cursor()

    def fetch(self, columns: Sequence[str], rest: str, *params: Any) -> list[Any]:
        """See `Session`."""
        return self._execute(f"SELECT {', '.join(columns)} FROM {rest}", params).fetchall()

    def run(self, sql: str, *params: Any) -> int:
        """See `Session`."""
        return self._execute(sql, params).rowcount

    def insert(self, table: str, columns: Sequence[str], rows: Collection[Row], conflict: str = "") -> None:
        """See `Session`."""
        if not rows:
            return
        named = ", ".join(columns)
        if conflict or len(rows) < _COPY_FROM:
            arrays = ", ".join(f"?::{kind}[]" for kind in _kinds(table, tuple(columns)))
            sql = f"INSERT INTO {table} ({named}) SELECT * FROM unnest({arrays}) {conflict}"
            self._execute(sql, [list(column) for column in zip(*rows, strict=True)])
            return
        with self._open().copy(_statement(f"COPY {table} ({named}) FROM STDIN")) as copy:
            for row in rows:
                copy.write_row(row)

    def update(self, table: str, key: str, columns: Sequence[str], rows: Collection[Row]) -> None:
        """See `Session`."""
        if not rows:
            return
        arrays = ", ".join(f"?::{kind}[]" for kind in _kinds(table, (key, *columns)))
        assign = ", ".join(f"{column} = v.{column}" for column in columns)
        values = f"unnest({arrays}) AS v({', '.join(('id_', *columns))})"
        sql = f"UPDATE {table} SET {assign} FROM {values} WHERE {table}.{key} = v.id_"
        self._execute(sql, [list(column) for column in zip(*rows, strict=True)])

    def among(self, column: str, values: Iterable[str]) -> tuple[str, Any]:
        """See `Session`."""
        return f"{column} = ANY(?::text[])", list(values)

    def numbered(self, column: str, values: Iterable[int]) -> tuple[str, Any]:
        """See `Session`."""
        return f"{column} = ANY(?::bigint[])", list(values)

    def alike(self, column: str, glob: str) -> tuple[str, Any]:
        """See `Session`."""
        return f"{column} LIKE ?", glob.replace("_", r"\_").replace("*", "%").replace("?", "_")

    def end(self) -> None:
        """The transaction is over: another may have the connection from now on."""
        self._cursor = None

    def _execute(self, sql: str, params: Sequence[Any]) -> psycopg.Cursor[Any]:
        return self._open().execute(_statement(sql), params)

    def _open(self) -> psycopg.Cursor[Any]:
        if self._cursor is None:
            raise RuntimeError("this transaction has ended; what it was to read must be read inside the `with`")
        return self._cursor


class _Silent(psycopg.OperationalError):
    """The server has the connection and says nothing."""


class _Connection(psycopg.Connection[Any]):
    """One that does not wait for ever for a server that has the connection and says nothing (it was stopped, or its
    machine is gone): no limit of the server's own helps there.
    """

    answer_s = 0.0

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """See psycopg."""
        try:
            return super().wait(gen, interval, self.answer_s if timeout is None else timeout)
        except psycopg.errors._WaitTimeout:
            self.close()
            raise _Silent("no answer in time") from None


class PostgresDatabase:
    """See `Database`."""

    def __init__(self, url: URL, wait_s: float) -> None:
        self._url = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._wait_s = wait_s
        connect = cast(Any, self._connect)
        self._pool = QueuePool(connect, pool_size=_CONNECTIONS, max_overflow=0, timeout=wait_s, reset_on_return=None)
        try:
            with _errors("be opened"), self._transaction(_READ) as session:
                _refuse_careless(session)
        except BaseException:
            self._pool.dispose()
            raise

    @contextmanager
    def reading(self) -> Iterator[PostgresSession]:
        """See `Database`."""
        with _errors("be read"), self._transaction(_READ) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[PostgresSession]:
        """See `Database`."""
        with _errors("be written"), self._transaction(_WRITE) as session:
            yield session

    def upgrade(self) -> None:
        """See `Database`."""
        from priority.store.migrate import upgrade  # Alembic takes 0.2 s to import

        with _errors("be upgraded"), self._connect() as connection:
            # A new index on a large table takes as long as it takes.
            connection.answer_s = _UPGRADE_S
            upgrade("postgresql+psycopg://", connection, begin=f"{_WRITE}; SET LOCAL statement_timeout = 0")

    def close(self) -> None:
        """See `Database`."""
        self._pool.dispose()

    def _connect(self) -> _Connection:
        limit_s = max(2, round(self._wait_s))
        connection = _Connection.connect(self._url, autocommit=True, client_encoding="utf8", connect_timeout=limit_s)
        # Each a little longer than the one before, so that the error says which it was.
        wait_ms, margin_ms = round(self._wait_s * 1000), round(_MARGIN_S * 1000)
        connection.answer_s = self._wait_s + 2 * _MARGIN_S
        connection.execute(_LIMITS.format(wait_ms=wait_ms, answer_ms=wait_ms + margin_ms), prepare=False)
        return connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[PostgresSession]:
        pooled, connection = self._begun(begin)
        session = PostgresSession(connection)
        try:
            yield session
            _commit(connection)
            session.end()
        except BaseException:
            session.end()
            _roll_back(connection)
            raise
        finally:
            if connection.closed:
                pooled.invalidate()
            pooled.close()

    def _begun(self, begin: str) -> tuple[PoolProxiedConnection, psycopg.Connection[Any]]:
        """A connection with an open transaction. One that died unused in the pool, as all do when the server is
        started anew, is thrown away and the next one tried: nothing was asked of it yet.
        """
        for last in (*(False,) * _CONNECTIONS, True):
            pooled = self._pool.connect()
            connection = cast("psycopg.Connection[Any]", pooled.dbapi_connection)
            try:
                connection.execute(_statement(begin), prepare=False)
                return pooled, connection
            except BaseException as error:
                died = isinstance(error, psycopg.OperationalError) and connection.closed
                # Silence took as long as the caller may wait; the next one would take as long again.
                died = died and not isinstance(error, _Silent)
                pooled.invalidate()
                pooled.close()
                if last or not died:
                    raise
        raise AssertionError("the last one returns or raises")


def _commit(connection: psycopg.Connection[Any]) -> None:
    try:
        connection.execute("COMMIT", prepare=False)
    except psycopg.OperationalError as error:
        raise Unavailable(
            "the connection to the database was lost while it was saving: whether it has saved is not known; "
            "ask again with the same idempotency key",
            outcome="unknown",
        ) from error


def _roll_back(connection: psycopg.Connection[Any]) -> None:
    try:
        connection.execute("ROLLBACK", prepare=False)
    except psycopg.Error:
        # Whatever is wrong with it, the server rolls back when it is gone.
        connection.close()


def _refuse_careless(session: PostgresSession) -> None:
    """What is acknowledged must be on disk, and any character must be kept: `Invalid` names the server's setting."""
    for setting, wrong in (("fsync", "off"), ("synchronous_commit", "off"), ("server_encoding", "SQL_ASCII")):
        if session.fetch((f"current_setting('{setting}')",), "(VALUES (1)) AS one") == [(wrong,)]:
            raise Invalid("database", f"its server has {setting}={wrong}, with which it may lose what it has saved")


@contextmanager
def _errors(done: str) -> Iterator[None]:
    """Say each of PostgreSQL's errors in our words, without the statement and its values."""
    try:
        yield
    except PriorityError:
        raise
    except psycopg.IntegrityError as error:
        which = error.diag.constraint_name
        raise Conflict(f"the database holds something that this does not fit ({which})") from None
    except psycopg.DataError:
        raise Invalid("text", "holds a character or a number that the database cannot keep") from None
    except UnicodeEncodeError:
        raise Invalid("text", "holds a lone surrogate, which is not a character") from None
    except psycopg.errors.UndefinedTable as error:
        raise Unavailable("the database has no tables yet; run `priority db upgrade`") from error
    except psycopg.errors.LockNotAvailable:
        raise Unavailable(f"the database cannot {done}: another writer has it for too long; try again") from None
    except PoolTimeout:
        raise Unavailable(f"the database cannot {done}: all {_CONNECTIONS} connections are in use; try again") from None
    except psycopg.Error as error:
        raise Unavailable(f"the database cannot {done}: it does not answer ({type(error).__name__})") from error


@lru_cache(maxsize=4096)
def _statement(sql: str) -> str:
    """Ours have `?` for a parameter, psycopg's `%s`. (None of ours has either character in a literal.)"""
    return sql.replace("?", "%s")


@lru_cache(maxsize=1024)
def _kinds(table: str, columns: tuple[str, ...]) -> list[str]:
    """The columns' types, to name those of arrays by."""
    found = METADATA.tables[table].columns
    return [found[column].type.compile(_DIALECT) for column in columns]
