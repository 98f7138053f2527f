"""The agent's end of the line to its warden, which it starts if there is none."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Condition
from typing import Any

from priority.backend.messages import line

START_S = 30.0
ANSWER_S = 10


class Bond:
    """One thread calls `connect` and `messages`; any may call `send`."""

    def __init__(self, folder: Path, log_limit: int, ended_keep_s: float) -> None:
        self._folder = folder
        self._arguments = [str(folder), str(log_limit), str(ended_keep_s)]
        self._changed = Condition()
        self._socket: socket.socket | None = None
        self._closed = False
        self._warden: subprocess.Popen[bytes] | None = None

    def connect(self) -> None:
        """To the warden that is there, or to a new one. OSError if neither can be had."""
        self._drop()
        found = self._knock()
        if self._warden is not None and self._warden.poll() is not None:
            self._warden = None
        if found is None:
            self._start()
            found = self._knock()
        if found is None:
            raise ConnectionRefusedError("the warden does not answer")
        with self._changed:
            self._socket = found
            self._changed.notify_all()

    def send(self, message: dict[str, Any], wait_s: float = 0.0) -> bool:
        """Whether it was handed over; waits up to `wait_s` for a connection. What a warden that dies had not yet read
        is lost: whoever sent it sends it again.
        """
        with self._changed:
            if wait_s:
                self._changed.wait_for(lambda: self._socket is not None or self._closed, wait_s)
            if self._socket is None:
                return False
            try:
                self._socket.sendall(line(message))
            except OSError:
                self._drop()  # a part may have gone out: the rest would be read as nonsense
                return False
            return True

    def messages(self) -> Iterator[dict[str, Any]]:
        """As they come, until the connection is lost."""
        connection = self._socket
        rest = b""
        while connection is not None:
            try:
                data = connection.recv(2**20)
            except OSError:
                return
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for one in lines:
                yield json.loads(one)

    def close(self) -> None:
        """For good; the warden stays as long as it has tasks."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._drop()
        if self._warden is not None:
            self._warden.returncode = self._warden.poll() or 0  # it may outlive us: not ours to wait for any more

    def _drop(self) -> None:
        with self._changed:
            gone, self._socket = self._socket, None
        if gone is not None:
            with contextlib.suppress(OSError):
                gone.shutdown(socket.SHUT_RDWR)
            gone.close()

    def _knock(self) -> socket.socket | None:
        here = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            found.connect(f"/proc/self/fd/{here}/warden.sock")  # the path itself may be too long for a socket
        except OSError:
            found.close()
            return None
        finally:
            os.close(here)
        # A warden that is stopped takes nothing: `send` fails then, rather than hold the agent up for ever.
        found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", ANSWER_S, 0))
        return found

    def _start(self) -> None:
        """In a session of its own; it may outlive us."""
        with (self._folder / "warden.log").open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-I", "-m", "priority.backend.warden", *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,
                cwd=self._folder,
            )
        assert process.stdout is not None
        with process.stdout:
            readable, _, _ = select.select([process.stdout], [], [], START_S)
            answer = process.stdout.readline() if readable else b""
        if answer != b"ready\n":
            process.kill()
            process.wait()
            raise ConnectionRefusedError(f"the warden did not start; see {self._folder / 'warden.log'}")
        self._warden = process
