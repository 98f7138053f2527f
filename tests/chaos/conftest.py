from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from whole import Service


@pytest.fixture
def start_service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Starts `priority up` in the test's folder; at the end each must stop cleanly."""
    made: list[Service] = []

    def start(**settings: object) -> Service:
        made.append(Service(tmp_path, settings))
        made[-1].start()
        return made[-1]

    yield start
    for service in made:
        status = service.stop()
        if status != 0:
            print((tmp_path / "up.log").read_text()[-5000:])
        assert status == 0, "the service did not stop cleanly"
