"""SQLite: a file (WAL, every commit on disk before it is acknowledged) or, for tests and simulations, memory.

One step at a time. Python's `sqlite3` lets go of the interpreter's lock at every step of a statement, that is for each
row that is read and each row of an `executemany`; in a process with another busy thread (the API's event loop) it
then waits up to 5 ms to get it back: 1,000 rows took 1.6 s. So many rows are written by one statement with many
VALUES, and read as one row, a JSON array: 40 to 60 times faster there, and not slower in a quiet process.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, cast

import orjson
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import PoolProxiedConnection, QueuePool

from priority.errors import Conflict, Invalid, PriorityError, Unavailable
from priority.store.session import Row
from priority.store.turn import FileTurn, ThreadTurn, TurnTaken

_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "temp_store=MEMORY",
    "cache_size=-65536",
    "wal_autocheckpoint=4000",
)
"""`cache_size` in KiB. A checkpoint after 16 MB of log rather than 4: it makes one writer wait."""

_LOG_BYTES = 16 * 2**20
"""How long the log becomes before it is written from its beginning again."""

_CHUNKS = (500, 100, *range(20, 0, -1))
"""Rows of one statement: few different ones, so that each is prepared once, and few statements for a few rows."""

_PARAMETERS = 32_766
"""No statement may have more (SQLITE_MAX_VARIABLE_NUMBER since 3.32)."""

_READERS = 64


class SqliteSession:
    """An open transaction on one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection: sqlite3.Connection | None = connection

    def fetch(self, columns: Sequence[str], rest: str, *params: Any) -> list[Any]:
        """See `Session`."""
        rows: list[Any] = orjson.loads(self._execute(_select(tuple(columns), rest), params).fetchone()[0])
        return rows

    def run(self, sql: str, *params: Any) -> int:
        """See `Session`."""
        return self._execute(sql, params).rowcount

    def insert(self, table: str, columns: Sequence[str], rows: Collection[Row], conflict: str = "") -> None:
        """See `Session`."""
        for chunk in _chunks(rows, len(columns)):
            self._execute(_insert(table, tuple(columns), len(chunk), conflict), list(chain.from_iterable(chunk)))

    def update(self, table: str, key: str, columns: Sequence[str], rows: Collection[Row]) -> None:
        """See `Session`."""
        for chunk in _chunks(rows, 1 + len(columns)):
            self._execute(_update(table, key, tuple(columns), len(chunk)), list(chain.from_iterable(chunk)))

    def among(self, column: str, values: Iterable[str]) -> tuple[str, Any]:
        """See `Session`."""
        return f"{column} IN (SELECT value FROM json_each(?))", orjson.dumps(list(values)).decode()

    def numbered(self, column: str, values: Iterable[int]) -> tuple[str, Any]:
        """See `Session`."""
        return f"{column} IN (SELECT value FROM json_each(?))", orjson.dumps(list(values)).decode()

    def alike(self, column: str, glob: str) -> tuple[str, Any]:
        """See `Session`."""
        return f"{column} GLOB ?", glob

    def end(self) -> None:
        """The transaction is over: another may have the connection from now on."""
        self._connection = None

    def _execute(self, sql: str, params: Sequence[Any]) -> sqlite3.Cursor:
        if self._connection is None:
            raise RuntimeError("this transaction has ended; what it was to read must be read inside the `with`")
        return self._connection.execute(sql, params)


class SqliteDatabase:
    """A file, or memory when `path` is None. See `Database`."""

    def __init__(self, path: Path | None, wait_s: float, *, ahead: bool = False) -> None:
        """`ahead`: for a server, see `_make_log`."""
        self._path = path
        self._wait_s = wait_s
        try:
            self._turn = FileTurn(path) if path else ThreadTurn()
        except OSError as error:
            raise Unavailable(
                f"the database {path} cannot be opened: {error.strerror}; `priority db upgrade` makes it, in a folder "
                "that you may write in"
            ) from error
        with _errors("be opened"), self._turn.take(wait_s):
            # Whoever comes first makes the file and its log; two at once would get in each other's way.
            self._writer = self._connect()
            if path and ahead:
                _make_log(self._writer, path)
        self._pool = QueuePool(
            cast(Any, self._connect), pool_size=_READERS, max_overflow=0, timeout=wait_s, reset_on_return=None
        )

    @contextmanager
    def reading(self) -> Iterator[SqliteSession]:
        """See `Database`."""
        if self._path is None:
            # The one connection would show a reader what a writer has not committed, so they take turns.
            with _errors("be read"), self._turn.take(self._wait_s), _transaction(self._writer, "BEGIN") as session:
                yield session
            return
        with _errors("be read"):
            pooled = self._pool.connect()
            try:
                with _transaction(_raw(pooled), "BEGIN") as session:
                    yield session
            finally:
                pooled.close()

    @contextmanager
    def writing(self) -> Iterator[SqliteSession]:
        """See `Database`."""
        with (
            _errors("be written"),
            self._turn.take(self._wait_s),
            _transaction(self._writer, "BEGIN IMMEDIATE") as session,
        ):
            yield session

    def upgrade(self) -> None:
        """See `Database`."""
        from priority.store.migrate import upgrade  # Alembic takes 0.2 s to import

        with _errors("be upgraded"), self._turn.take(self._wait_s):
            upgrade("sqlite://", self._writer, begin="BEGIN IMMEDIATE")

    def close(self) -> None:
        """See `Database`."""
        self._pool.dispose()
        self._writer.close()
        self._turn.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path or ":memory:",
            timeout=self._wait_s,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=2048,
        )
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}").close()
        return connection


def _make_log(connection: sqlite3.Connection, path: Path) -> None:
    """Have the log at its full length from the first commit on. Each commit that makes it longer has the file system
    put down the new length too, which takes as long again as the commit itself. A transaction that is too large for
    the cache spills into the log; undone, it leaves nothing but the room.
    """
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size >= _LOG_BYTES:
        return
    connection.execute("PRAGMA cache_size=-100").close()
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("CREATE TABLE ahead (x)")
        connection.execute("INSERT INTO ahead VALUES (zeroblob(?))", (_LOG_BYTES,))
    finally:
        connection.execute("ROLLBACK")
    connection.execute("PRAGMA cache_size=-65536").close()
    with log.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[SqliteSession]:
    connection.execute(begin)
    session = SqliteSession(connection)
    try:
        yield session
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    finally:
        session.end()


@contextmanager
def _errors(done: str) -> Iterator[None]:
    """Say each of SQLite's errors in our words, without the statement."""
    try:
        yield
    except PriorityError:
        raise
    except TurnTaken:
        raise Unavailable(f"the database cannot {done}: another writer has it for too long; try again") from None
    except PoolTimeout:
        raise Unavailable(f"the database cannot {done}: {_READERS} others are reading; try again") from None
    except sqlite3.IntegrityError as error:
        raise Conflict(f"the database holds something that this does not fit ({error})") from None
    except UnicodeEncodeError:
        raise Invalid("text", "holds a lone surrogate, which is not a character") from None
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            raise Unavailable("the database has no tables yet; run `priority db upgrade`") from error
        raise Unavailable(f"the database cannot {done}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise Unavailable(f"the database cannot {done}: {error}") from error


def _raw(pooled: PoolProxiedConnection) -> sqlite3.Connection:
    connection = pooled.dbapi_connection
    assert isinstance(connection, sqlite3.Connection)
    return connection


def _chunks(rows: Iterable[Row], width: int) -> Iterator[list[Row]]:
    """Cut into pieces whose lengths are among few, none with too many values for one statement."""
    rows = list(rows)
    start = 0
    for size in (size for size in _CHUNKS if size * width <= _PARAMETERS):
        while len(rows) - start >= size:
            yield rows[start : start + size]
            start += size


@lru_cache(maxsize=4096)
def _select(columns: tuple[str, ...], rest: str) -> str:
    names = ", ".join(f"c{index}" for index in range(len(columns)))
    inner = ", ".join(f"{column} AS c{index}" for index, column in enumerate(columns))
    return f"SELECT json_group_array(json_array({names})) FROM (SELECT {inner} FROM {rest})"


@lru_cache(maxsize=1024)
def _insert(table: str, columns: tuple[str, ...], count: int, conflict: str) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {_values(len(columns), count)} {conflict}"


@lru_cache(maxsize=1024)
def _update(table: str, key: str, columns: tuple[str, ...], count: int) -> str:
    assign = ", ".join(f"{column} = v.{column}" for column in columns)
    named = ", ".join(("id_", *columns))
    return (
        f"WITH v({named}) AS (VALUES {_values(1 + len(columns), count)}) "
        f"UPDATE {table} SET {assign} FROM v WHERE {table}.{key} = v.id_"
    )


def _values(width: int, count: int) -> str:
    one = "(" + ", ".join("?" * width) + ")"
    return ", ".join([one] * count)
