"""The warden's end of the line to its agent."""

from __future__ import annotations

import contextlib
import json
import select
import socket
from typing import Any

LINE_MAX = 256 * 2**20
OUT_MAX = 32 * 2**20
"""Bytes that wait for an agent that does not read; then it is cut off, and asks for all when it is back."""


class Peer:
    """The connection to the agent: lines, never blocking."""

    def __init__(self, connection: socket.socket, poll: select.poll) -> None:
        connection.setblocking(False)
        self.fd = connection.fileno()
        self._connection = connection
        self._poll = poll
        self._in = bytearray()
        self._out = bytearray()
        poll.register(self.fd, select.POLLIN)

    def receive(self) -> list[dict[str, Any]]:
        """The messages that are complete. ConnectionResetError when the other end is gone."""
        try:
            data = self._connection.recv(2**20)
        except BlockingIOError:
            return []
        if not data or len(self._in) > LINE_MAX:
            raise ConnectionResetError
        self._in += data
        *lines, rest = self._in.split(b"\n")
        self._in = bytearray(rest)
        return [json.loads(one) for one in lines]

    def send(self, data: bytes) -> None:
        """Now or later. ConnectionResetError if too much waits."""
        self._out += data
        if len(self._out) > OUT_MAX:
            raise ConnectionResetError
        self.flush()

    def flush(self) -> None:
        """As much as the other end takes now."""
        with contextlib.suppress(BlockingIOError):
            while self._out:
                sent = self._connection.send(self._out)
                del self._out[:sent]
        self._poll.modify(self.fd, select.POLLIN | (select.POLLOUT if self._out else 0))

    def close(self) -> None:
        """For good."""
        self._poll.unregister(self.fd)
        self._connection.close()
