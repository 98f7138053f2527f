"""HTTP/1.1 to the API: connections that stay open, errors as our own, repeats only where a repeat is harmless.

`http.client` rather than a larger library: it costs a fifth of the time of one request, and a command or a worker
has to import nothing for it.
"""

from __future__ import annotations

import http.client
import json
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

import orjson

from priority.document import shown
from priority.errors import Invalid, PriorityError, Unauthenticated, Unavailable
from priority.face import problem

BACKOFF_S = (0.02, 0.05, 0.1, 0.2, 0.5)
"""Seconds between repeats; the last one again and again."""

_LOST = (ConnectionError, http.client.HTTPException, TimeoutError, OSError)


class Answer:
    """Status, headers and the whole body of a response."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        """The body as JSON."""
        return orjson.loads(self.body) if self.body else None


class Transport:
    """Thread-safe: each request takes an idle connection or opens one. `retry_s` bounds the repeats of one request,
    `timeout_s` each wait for the server, `refused_s` the repeats while a host has refused every connection so far: it
    may be the wrong one. `waits` is told once, if something must be tried again.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout_s: float = 60.0,
        retry_s: float = 10.0,
        refused_s: float | None = None,
        waits: Callable[[str], None] | None = None,
    ) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Invalid("url", f"must be such as http://127.0.0.1:8330, not {url!r}")
        self.url = url.rstrip("/")
        self._secure = parts.scheme == "https"
        self._host = parts.hostname
        self._port = parts.port or (443 if self._secure else 80)
        self._base = parts.path.rstrip("/")
        self._timeout_s = timeout_s
        self._retry_s = retry_s
        self._refused_s = retry_s if refused_s is None else min(refused_s, retry_s)
        self._met = False
        self._waits = waits
        self._headers = {"Authorization": f"Bearer {_token(token)}"} if token else {}
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    def close(self) -> None:
        """Let go of every idle connection."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def json(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool | None = None,
    ) -> Any:
        """Send JSON (bytes are sent as they are), get JSON; a problem is raised as the error that it was."""
        return self.request(method, path, body, query=query, headers=headers, repeatable=repeatable).json()

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool | None = None,
        welcome: int = 0,
    ) -> Answer:
        """One request; repeated after a lost connection if it is `repeatable` (by default all but POST are). The status
        `welcome` is no error.
        """
        sent = dict(self._headers)
        payload = None
        if body is not None:
            payload = body if isinstance(body, bytes) else encoded(body)
            sent["Content-Type"] = "application/json"
        sent.update(headers or {})
        target = self._base + path + _query(query)
        may_repeat = method != "POST" if repeatable is None else repeatable
        began, attempt = time.monotonic(), 0
        while True:
            try:
                answer = self._once(method, target, payload, sent)
                break
            except _LOST as error:
                pause = BACKOFF_S[min(attempt, len(BACKOFF_S) - 1)]
                patience = self._patience(error) if may_repeat else 0.0
                if time.monotonic() + pause > began + patience:
                    raise self._unavailable(error) from None
                if self._waits is not None:
                    self._waits(f"no answer from {self.url} ({_why(error)}); trying for {patience:.2g} s")
                    self._waits = None
                attempt += 1
                time.sleep(pause)
        if answer.status >= 400 and answer.status != welcome:
            raise _error(answer)
        return answer

    @contextmanager
    def stream(
        self, path: str, query: Mapping[str, Any] | None = None, timeout_s: float | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """A response to read as it comes, on a connection of its own that ends with it. `timeout_s`, if it is less
        than usual, bounds each wait for more of it.
        """
        connection = self._connect()
        if timeout_s is not None:
            connection.timeout = min(timeout_s, self._timeout_s)
        try:
            try:
                connection.request("GET", self._base + path + _query(query), headers=self._headers)
                response = connection.getresponse()
                if response.status >= 400:
                    raise _error(Answer(response.status, dict(response.getheaders()), response.read()))
            except _LOST as error:
                raise self._unavailable(error) from None
            yield response
        finally:
            connection.close()

    def _once(self, method: str, target: str, payload: bytes | None, headers: Mapping[str, str]) -> Answer:
        connection = self._take()
        try:
            connection.request(method, target, payload, dict(headers))
            response = connection.getresponse()
            body = response.read()
            self._met = True
        except BaseException:
            connection.close()
            raise
        if response.will_close:
            connection.close()
        else:
            with self._lock:
                self._idle.append(connection)
        return Answer(response.status, cast("Mapping[str, str]", response.headers), body)

    def _take(self) -> http.client.HTTPConnection:
        while True:
            with self._lock:
                if not self._idle:
                    break
                connection = self._idle.pop()
            # An idle connection with something to read is one that the server has closed.
            if connection.sock is not None and not _readable(connection.sock):
                return connection
            connection.close()
        return self._connect()

    def _connect(self) -> http.client.HTTPConnection:
        if self._secure:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout_s, context=context)
        return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)

    def _patience(self, error: BaseException) -> float:
        """Seconds for which it is worth trying again. A name that does not exist will not in ten seconds either."""
        if isinstance(error, socket.gaierror) and error.errno != socket.EAI_AGAIN:
            return 0.0
        if isinstance(error, ConnectionRefusedError) and not self._met:
            return self._refused_s
        return self._retry_s

    def _unavailable(self, error: BaseException) -> Unavailable:
        said = f"no answer from {self.url} ({_why(error)})"
        if isinstance(error, socket.gaierror):
            return Unavailable(f"{said}; is the URL right (--url, PRIORITY_URL)?")
        return Unavailable(f"{said}; does `priority up` run, and is PRIORITY_URL right?")


def server_sent(response: Any, deadline: float | None = None) -> Iterator[Any]:
    """Parse server-sent events (WHATWG HTML, section 9.2.6): None for each heartbeat."""
    data: list[bytes] = []
    while line := response.readline():
        line = line.rstrip(b"\r\n")
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line and data:
            yield orjson.loads(b"\n".join(data))
            data = []
        elif line.startswith(b":"):
            yield None
        if deadline is not None and time.monotonic() >= deadline and not data:
            return


def _why(error: BaseException) -> str:
    """In the system's words, without its numbers."""
    said = error.strerror if isinstance(error, OSError) else None
    return said or str(error) or type(error).__name__


def _token(text: str) -> str:
    """Fit for a header. What a file of a secret has around it, a line's end, is no part of it."""
    token = text.strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise Unauthenticated(
            "PRIORITY_TOKEN: holds characters that no token has; copy the token anew, and nothing else"
        )
    return token


def _readable(sock: Any) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def encoded(body: Any) -> bytes:
    """As JSON, any number of digits included, which orjson refuses: what is too large is for the service to say."""
    try:
        return orjson.dumps(body)
    except TypeError:
        return utf8(json.dumps(body, ensure_ascii=False))


def utf8(text: str) -> bytes:
    """Its bytes. `Invalid` if there are none: it came from a command line that was not UTF-8."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        near = shown(text[max(0, error.start - 10) : error.end])
        raise Invalid("request", f"must be text in UTF-8, not {near}") from None


def _query(query: Mapping[str, Any] | None) -> str:
    if not query:
        return ""
    given = []
    for name, value in query.items():
        if value is None or value is False:
            continue
        for one in value if isinstance(value, list | tuple) else (value,):
            given.append((name, "true" if one is True else utf8(str(one))))
    return f"?{urlencode(given)}" if given else ""


def _error(answer: Answer) -> PriorityError:
    try:
        document = orjson.loads(answer.body)
    except ValueError:
        document = None
    return problem.rebuild(answer.status, document)
