"""What a transaction can do with a database, whichever it is: the seam between our statements and the two drivers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

Row = Sequence[Any]
"""In the order of the columns that are named beside it."""


class Session(Protocol):
    """An open transaction. Statements are written with `?` for each parameter and are the same for both databases."""

    def fetch(self, columns: Sequence[str], rest: str, *params: Any) -> list[Any]:
        """`SELECT columns FROM rest`: rows of integers, texts, booleans (maybe as 0 and 1) and None; no other kind can
        be read exactly. In the order of `rest` only if that has a LIMIT.
        """

    def run(self, sql: str, *params: Any) -> int:
        """Anything else: how many rows it touched."""

    def insert(self, table: str, columns: Sequence[str], rows: Collection[Row], conflict: str = "") -> None:
        """In bulk. `conflict` is an `ON CONFLICT` clause; without one no row may be there already."""

    def update(self, table: str, key: str, columns: Sequence[str], rows: Collection[Row]) -> None:
        """In bulk: each row is the value of `key` (unique among the rows), then those of `columns`."""

    def among(self, column: str, values: Iterable[str]) -> tuple[str, Any]:
        """A condition that `column` is one of many values, and its one parameter."""

    def numbered(self, column: str, values: Iterable[int]) -> tuple[str, Any]:
        """The same of a column of whole numbers."""

    def alike(self, column: str, glob: str) -> tuple[str, Any]:
        """A condition that `column` fits a `document.GLOB_PATTERN`, letter by letter, and its one parameter."""


class Database(Protocol):
    """Where transactions come from. `Unavailable` if it does not answer in time; no SQL is ever in an error."""

    def reading(self) -> AbstractContextManager[Session]:
        """One consistent view, which writers do not wait for."""

    def writing(self) -> AbstractContextManager[Session]:
        """The one writer: commits at the end, rolls back on any exception."""

    def upgrade(self) -> None:
        """Bring the schema to the newest version."""

    def close(self) -> None:
        """Let go of every connection."""
