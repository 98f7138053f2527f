"""What tests of several rings share: a real Valkey, a real PostgreSQL, and the one way to wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from postgres import Postgres, own_server

from priority.queue.embedded import Server, serve

WAIT_S = 60.0
"""Only a test that fails waits so long: a busy machine may need a multiple of what is usual."""

# The same examples every time, and no complaint about a machine that is busy. `--hypothesis-profile=default` looks for
# new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for each test process."""
    with serve(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def valkey(valkey_server: Server) -> str:
    """The URL of a real and empty server."""
    from priority.wire.connection import connect

    client = connect(valkey_server.url)
    client.flushdb()  # others are for what lives longer than one test
    client.close()
    return valkey_server.url


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for each test process."""
    with own_server() as server:
        yield server


def eventually(found: Callable[[], Any], what: str = "", within_s: float = WAIT_S) -> Any:
    """Look until `found` gives something true, and return that; the test fails when it never does."""
    deadline = time.monotonic() + within_s
    while not (value := found()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {within_s} s for {what or found}")
        time.sleep(0.01)
    return value


@pytest.fixture(name="eventually")
def _eventually() -> Callable[..., Any]:
    return eventually
