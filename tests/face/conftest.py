"""One live API for the tests of a module that change different things; one of its own for who asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from priority.face.client import Client

from .live import Live, parts_in, serving


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with serving(parts_in(tmp_path_factory.mktemp("live"))) as found:
        yield found


@pytest.fixture
def root(live: Live) -> Client:
    return live.client()
