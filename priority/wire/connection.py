"""One connection to Redis for each thread that waits for something.

redis-py retries by itself, pools, and offers no way to wake a thread that blocks in a read. A `Line` does
not retry (its owner knows better what to do), and `close`, from any thread, ends a blocked call at once:
it shuts the socket down under it.
"""

from __future__ import annotations

import contextlib
import socket
from threading import Event
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

Lost = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError)
"""What a call raises when Redis cannot be reached or does not answer."""

CONNECT_S = 2.0
"""To connect, or to answer what should not block."""


def connect(url: str, timeout_s: float = CONNECT_S, *, single: bool = False) -> redis.Redis:
    """A client that never retries, answers in bytes, and gives streams as `{name: [(id, fields)]}`."""
    return redis.Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=CONNECT_S,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        legacy_responses=False,
        single_connection_client=single,
    )


class Line:
    """A lazily made connection of one thread, made anew after it was lost.

    `wait` is how long to wait before the next attempt: 50 ms at first, then doubling up to 1 s.
    """

    def __init__(self, url: str, timeout_s: float = CONNECT_S) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._client: redis.Redis | None = None
        self._ended = Event()
        self._pause_s = 0.05
        self.closed = False

    @property
    def client(self) -> redis.Redis:
        """The connection, made now if there is none. Raises one of `Lost`."""
        if self.closed:
            raise redis.exceptions.ConnectionError("closed")
        if self._client is None:
            self._client = connect(self._url, self._timeout_s, single=True)
            if self.closed:  # closed by another thread just now: it had nothing to shut down
                self.drop()
                raise redis.exceptions.ConnectionError("closed")
        return self._client

    def works(self) -> None:
        """A call has been answered: the next failure is a first one."""
        self._pause_s = 0.05

    def drop(self) -> None:
        """Forget the connection; called by the owner after an error."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                client.close()

    def wait(self) -> bool:
        """After an error: forget the connection and wait a little. False if it was closed meanwhile."""
        self.drop()
        self._ended.wait(self._pause_s)
        self._pause_s = min(1.0, self._pause_s * 2)
        return not self.closed

    def close(self) -> None:
        """From any thread, for good: a blocked call raises, `wait` returns."""
        self.closed = True
        self._ended.set()
        client = self._client
        if client is not None:
            shut(client.connection)


def shut(connection: Any) -> None:
    """Shut the socket of a redis-py connection down, so that whoever reads from it gets an error at once."""
    sock = getattr(connection, "_sock", None)
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
