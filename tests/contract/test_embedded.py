"""The embedded server: private, restartable, and never two on one state folder."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from priority.errors import Unavailable
from priority.queue import embedded
from priority.wire.connection import connect


def ping(url: str) -> bool:
    client = connect(url)
    try:
        return bool(client.ping())
    finally:
        client.close()


def test_private_and_without_a_port(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with embedded.serve(state) as server:
        assert server.url == embedded.url(state)
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
        assert stat.S_IMODE(embedded.socket_path(state).stat().st_mode) == 0o700
        client = connect(server.url)
        assert client.config_get("port") == {b"port": b"0"} or client.config_get("port") == {"port": "0"}
        client.close()
    assert not embedded.socket_path(state).exists()


def test_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    state = tmp_path / ("long" * 20) / ("path" * 20)
    with embedded.serve(state) as server:
        assert ping(server.url)
        folder = embedded.socket_path(state).parent
        assert folder != state and stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.rmdir()


def test_restart(tmp_path: Path) -> None:
    with embedded.serve(tmp_path) as server:
        first = server.pid
        server.restart()
        assert server.pid != first and ping(server.url)
        server.kill()
        server.start()
        assert ping(server.url)


def test_one_that_a_killed_parent_left_behind_is_ended(tmp_path: Path) -> None:
    left = embedded.Server(tmp_path)
    left.start()
    with embedded.serve(tmp_path) as server:
        assert left.wait() == 0
        assert ping(server.url)


def test_one_that_cannot_start_says_where_to_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "binary", lambda: Path("/bin/false"))
    with pytest.raises(Unavailable, match=r"redis\.log"), embedded.serve(tmp_path):
        pass
