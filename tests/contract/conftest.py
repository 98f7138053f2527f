"""Real databases for the store's contract: SQLite in a file and in memory, and a PostgreSQL of our own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from postgres import Postgres, own_server

from priority.store import SqlStore, open_store


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A server for one test alone, which it may stop."""
    with own_server() as server:
        yield server


KINDS = ("sqlite", "memory", pytest.param("postgres", marks=pytest.mark.postgres))
SHARED_KINDS = (KINDS[0], KINDS[2])


def new_url(kind: str, request: pytest.FixtureRequest, empty: bool = False) -> str:
    if kind == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        return server.create() if empty else server.cleaned()
    if kind == "memory":
        return "sqlite://"
    return f"sqlite:///{request.getfixturevalue('tmp_path')}/priority.db"


@pytest.fixture(params=SHARED_KINDS)
def empty_url(request: pytest.FixtureRequest) -> str:
    """Of a database without any table, which several processes can open."""
    return new_url(request.param, request, empty=True)


@pytest.fixture(params=SHARED_KINDS)
def url(request: pytest.FixtureRequest) -> str:
    """Of a database with the newest schema, which several processes can open."""
    url = new_url(request.param, request)
    if request.param == "sqlite":
        store = open_store(url)
        store.upgrade()
        store.close()
    return url


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest) -> Iterator[SqlStore]:
    """Each kind of store, empty."""
    opened = open_store(new_url(request.param, request))
    opened.upgrade()
    yield opened
    opened.close()
