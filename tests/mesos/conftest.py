from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "chaos")]

from real import Mesos, NoMesos, prefix


@pytest.fixture(scope="session")
def mesos_there() -> Path:
    """Where a real Mesos is installed; without one the test is skipped, and says why."""
    try:
        return prefix()
    except NoMesos as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def mesos(
    mesos_there: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mesos]:
    """One for all tests of a module, which says in `MESOS` how it is to be: it takes seconds to start."""
    del mesos_there
    made = Mesos(tmp_path_factory.mktemp("mesos"), **request.module.MESOS)
    yield made
    made.close()


@pytest.fixture
def make_mesos(mesos_there: Path, tmp_path: Path) -> Iterator[Callable[..., Mesos]]:
    """Clusters that end with the test."""
    made: list[Mesos] = []

    def make(**options: Any) -> Mesos:
        made.append(Mesos(tmp_path / f"mesos-{len(made)}", **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def make_service(make_mesos: Callable[..., Mesos], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """`priority up --backend mesos`, after `make_mesos`, so that it ends before the cluster does."""
    from whole import Service

    made: list[Service] = []

    def make(mesos: Mesos, **settings: Any) -> Service:
        state = tmp_path / f"up-{len(made)}"
        state.mkdir()
        made.append(Service(state, {"backend": "mesos", "mesos_master": mesos.url, **settings}))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.stop()
