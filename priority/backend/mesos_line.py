"""The connection to a Mesos master: who leads, the stream of events, and the calls that go the other way.

v1 scheduler HTTP API (Mesos documentation, "Scheduler HTTP API"): one POST of SUBSCRIBE whose answer never ends,
RecordIO of JSON events; every other call is a POST of its own that carries the id of that stream. A master that does
not lead answers with a redirect to the one that does.
"""

from __future__ import annotations

import contextlib
import logging
import random
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx
import orjson

from priority.errors import Invalid
from priority.recordio import Records

API = "/api/v1/scheduler"
STREAM = "Mesos-Stream-Id"
CONNECT_S = 5.0
CALL_S = 60.0
"""A master that is only slow is not given up; one that is dead is known by its missing heartbeats."""
HEARTBEAT_S = 15.0
"""Between two heartbeats of a master: not to be set in Mesos 1.x."""
SILENCE_S = 2.2 * HEARTBEAT_S
"""So long without a byte, and the master or the way to it is dead."""
BACKOFF_S = (0.1, 0.3, 1.0, 2.0, 5.0)
REDIRECTS = 3

log = logging.getLogger(__name__)


class Lost(Exception):
    """No master answers, or the one that did does not any more; try again later."""


@cache
def trusted() -> ssl.SSLContext:
    """For https: made once, since that takes longer than a whole conversation without it."""
    return ssl.create_default_context()


def client(auth: tuple[str, str] | None, *, read_s: float) -> httpx.Client:
    """To masters and agents, past whatever proxies the environment names."""
    return httpx.Client(auth=auth, timeout=httpx.Timeout(read_s, connect=CONNECT_S), trust_env=False, verify=trusted())


class Masters:
    """Where masters may be: `http://host:5050`, `host:5050`, several with commas, or `zk://host:2181/mesos`."""

    def __init__(self, where: str) -> None:
        self.where = where.strip()
        self._leader: str | None = None
        self._list: list[str] = []
        if self.where.startswith("zk://"):
            _split_zk(self.where)
        else:
            self._list = [_base(one.strip()) for one in self.where.split(",") if one.strip()]
            if not self._list:
                raise Invalid("mesos_master", "must be http://HOST:5050, several with commas, or zk://HOST:2181/mesos")

    def candidates(self) -> list[str]:
        """Base URLs, the one that is thought to lead first. `Lost` if ZooKeeper knows none."""
        known = self._list if self._list else [leader_in_zookeeper(self.where)]
        return list(dict.fromkeys([*([self._leader] if self._leader and self._list else []), *known]))

    def leads(self, base: str) -> None:
        """It answered as the leader does."""
        self._leader = base


def redirected(base: str, answer: httpx.Response) -> str | None:
    """The base URL of the leader that a master names, if it does."""
    if answer.status_code not in (301, 302, 307, 308):
        return None
    target = httpx.URL(base).join(answer.headers.get("location", ""))
    if target.scheme not in ("http", "https") or not target.host:
        return None
    return str(target.copy_with(raw_path=b"/")).rstrip("/")


class Stream:
    """One subscription. `events` blocks; `cut` ends it from any thread."""

    def __init__(self, masters: Masters, auth: tuple[str, str] | None, silence_s: float) -> None:
        self._masters = masters
        self._client = client(auth, read_s=silence_s)
        self._socket: socket.socket | None = None
        self._cut = False
        self.base: str | None = None
        self.id: str | None = None

    def events(self, subscribe: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Every event, until the stream ends or is silent for too long: then `Lost`, always."""
        errors = []
        for base in self._masters.candidates():
            for _ in range(REDIRECTS):
                try:
                    with self._client.stream(
                        "POST", base + API, content=orjson.dumps(subscribe), headers=_JSON, follow_redirects=False
                    ) as answer:
                        elsewhere = redirected(base, answer)
                        if elsewhere is None:
                            yield from self._read(base, answer)
                except (httpx.HTTPError, OSError, ValueError, httpx.InvalidURL) as error:
                    if self.id is not None:
                        raise Lost(f"{base}: {error or type(error).__name__}") from None
                    errors.append(f"{base}: {error or type(error).__name__}")
                    break
                if elsewhere is None:
                    raise Lost(f"{base}: the stream ended")
                base = elsewhere  # noqa: PLW2901  the next try of the same candidate
        raise Lost("; ".join(errors) or "no master leads")

    def _read(self, base: str, answer: httpx.Response) -> Iterator[dict[str, Any]]:
        if answer.status_code != 200:
            said = answer.read()[:300].decode(errors="replace")
            raise ValueError(f"answers {answer.status_code}: {said}")
        network: Any = answer.extensions.get("network_stream")
        self._socket = network.get_extra_info("socket") if network is not None else None
        if self._cut:
            raise ValueError("closed")
        self._masters.leads(base)
        self.base, self.id = base, answer.headers.get(STREAM, "")
        records = Records()
        for data in answer.iter_raw():
            for record in records.feed(data):
                event = orjson.loads(record)
                if not isinstance(event, dict) or not isinstance(event.get("type"), str):
                    raise ValueError("an event is no JSON object with a type")
                yield event
        if records.inside:
            raise ValueError("the stream ended inside an event")

    def cut(self) -> None:
        """End it: whoever reads gets `Lost`."""
        self._cut = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()


_JSON = {"Accept": "application/json", "Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Call:
    """To be sent to the master on the stream that is there; void once that is gone."""

    body: dict[str, Any]
    stream: Stream


class Sender:
    """Sends calls one after the other in a thread of its own. `failed` hears of each whose outcome is not known."""

    def __init__(self, name: str, auth: tuple[str, str] | None, failed: Callable[[Call, str], None]) -> None:
        self._client = client(auth, read_s=CALL_S)
        self._failed = failed
        self._calls: deque[Call] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.sent = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, call: Call) -> None:
        """To be sent soon."""
        with self._changed:
            self._calls.append(call)
            self._changed.notify()

    def close(self, within_s: float = 2.0) -> None:
        """Send what is there, if that does not take long, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not threading.current_thread():
            self._thread.join(within_s)
        self._client.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._calls:
                    if self._closed:
                        return
                    self._changed.wait()
                call = self._calls.popleft()
            self._post(call)

    def _post(self, call: Call) -> None:
        stream = call.stream
        if stream.base is None or stream.id is None or stream._cut:
            return
        try:
            answer = self._client.post(
                stream.base + API, content=orjson.dumps(call.body), headers={**_JSON, STREAM: stream.id}
            )
            self.sent += 1
            why = "" if answer.status_code == 202 else f"{answer.status_code} {answer.text[:300]}"
        except (httpx.HTTPError, OSError, RuntimeError) as error:
            why = f"{error or type(error).__name__}"
        # Of a stream that was cut while it was on its way the master says 403: that is no news.
        if why and not stream._cut:
            self._failed(call, why)


def backoff_s(failures: int) -> float:
    """How long to wait before the next try: growing, and not the same for all."""
    return BACKOFF_S[min(failures, len(BACKOFF_S) - 1)] * (0.5 + random.random())


def _base(where: str) -> str:
    url = where if "://" in where else f"http://{where}"
    try:
        found = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise Invalid("mesos_master", f"{where!r}: {error}") from None
    if found.scheme not in ("http", "https") or not found.host:
        raise Invalid("mesos_master", f"{where!r} must be http://HOST:5050 or HOST:5050")
    return str(found.copy_with(raw_path=b"/")).rstrip("/")


# --- ZooKeeper ---------------------------------------------------------------------------------------------


def _split_zk(where: str) -> tuple[str, str, str]:
    """`zk://[user:password@]hosts/path`: (user:password, hosts, path)."""
    rest = where.removeprefix("zk://")
    hosts, slash, path = rest.partition("/")
    who, _, hosts = hosts.rpartition("@")
    if not hosts or not slash or not path:
        raise Invalid("mesos_master", f"{where!r} must be zk://HOST:2181[,HOST:2181]/PATH")
    return who, hosts, "/" + path.strip("/")


def leader_in_zookeeper(where: str) -> str:
    """The base URL of the master that leads: the lowest `json.info_...` below the path. `Lost` if there is none."""
    try:
        from kazoo.client import KazooClient
        from kazoo.exceptions import KazooException
        from kazoo.handlers.threading import KazooTimeoutError
    except ImportError:
        raise Invalid("mesos_master", "zk:// needs the extra mesos (kazoo): install it, or name the masters") from None
    who, hosts, path = _split_zk(where)
    client = KazooClient(hosts=hosts, timeout=CONNECT_S, read_only=True, auth_data=[("digest", who)] if who else None)
    try:
        client.start(timeout=CONNECT_S)
        for child in sorted(one for one in client.get_children(path) if one.startswith("json.info_")):
            info = orjson.loads(client.get(f"{path}/{child}")[0])
            address = info["address"]
            return f"http://{address.get('ip') or address['hostname']}:{int(address['port'])}"
        raise Lost(f"{where}: no master leads")
    except (KazooException, KazooTimeoutError, OSError, ValueError, KeyError, TypeError) as error:
        raise Lost(f"{where}: {error or type(error).__name__}") from None
    finally:
        with contextlib.suppress(Exception):
            client.stop()
            client.close()
