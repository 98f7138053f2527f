"""The agent: one process that makes a machine a node. It speaks Redis on one side and with its warden on the other.

Threads, each with its own connection: the main one beats (a sign of life in Redis each `heartbeat_s`, and with each
that got through the lease of the tasks); one carries parcels (`belt`); one passes reports on; one answers asks
(acknowledgements, requests for all that it has, pieces of output).

Each start is a new *incarnation*, with a name of its own (see `starts`): launches that were sent to another one are
refused, so that what a `NodeSeen` does not name is proved not to run. An incarnation also ends when the lease runs out.

SIGTERM ends the agent and leaves the tasks with the warden until the lease runs out: an agent started before that
takes them over. With `stop_tasks` they are stopped first and their ends reported.

Keys
    priority:beats           hash; node -> `INCARNATION:NUMBER:AT_US:PLACE`, changed by each beat. That a beat makes the
                             field anew means that Redis or the scheduler has forgotten the node: then it says all it
                             has. The time is for people alone: nobody's silence is counted by another machine's clock.
    priority:reports         stream; `node`, `agent` and `seen` or `reports`, in JSON
    priority:ask:NODE        list of asks, in JSON
    priority:reply:ID        list; the answer to one ask
    rq:queue:node-NODE       see `belt`
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import shutil
import signal
import socket
import threading
import time
import uuid
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import redis

from priority.backend import belt
from priority.backend.bond import Bond
from priority.backend.custody import now_s
from priority.backend.messages import NODE, is_task, read_parcel
from priority.backend.output import Reader
from priority.backend.starts import Starts
from priority.errors import Conflict, Invalid
from priority.resources import Resources
from priority.wire.connection import Line, Lost
from priority.wire.names import ASK, BEATS, REPORTS

REPORTS_MAX = 100_000
"""Entries kept in the stream of reports: older ones are lost, and told again."""
CHUNK = 500
"""Reports in one entry."""
ASK_S = 5.0
ASK_MAX = 2**20
STOP_GRACE_S = 10.0
BELT_TIMEOUT_S = 15.0
WELL_S = 3.0
"""And this plus a heartbeat is how long a warden may take for an answer."""
CLAIM_BEATS = 5
"""Heartbeats to wait for one of another agent of our name, where one was there last."""

log = logging.getLogger(__name__)


def run(
    name: str,
    capacity: Resources,
    attributes: dict[str, str],
    url: str,
    state: Path,
    *,
    heartbeat_s: float = 1.0,
    lease_s: float = 60.0,
    log_limit: int = 64 * 2**20,
    ended_keep_s: float = 7 * 86_400.0,
    stop_tasks: bool = False,
) -> None:
    """Be the node `name` until SIGTERM or SIGINT. `Conflict` if another agent is this node on this machine."""
    if NODE.fullmatch(name) is None:
        raise Invalid("name", f"{name!r} is not a node's name (letters, digits, '_', '-', '.')")
    folder = state.absolute() / "nodes" / name
    (folder / "sandboxes").mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(folder / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise Conflict(f"another agent runs as node {name} on {state}; stop it or choose another --name") from None
    agent = Agent(name, capacity, attributes, url, folder, heartbeat_s, lease_s, Bond(folder, log_limit, ended_keep_s))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.leave())
    try:
        agent.run(stop_tasks)
    finally:
        os.close(lock)


class Agent:
    """What `run` does."""

    def __init__(  # noqa: PLR0917
        self,
        name: str,
        capacity: Resources,
        attributes: dict[str, str],
        url: str,
        folder: Path,
        heartbeat_s: float,
        lease_s: float,
        bond: Bond,
    ) -> None:
        self.name = name
        self._capacity = capacity
        self._attributes = attributes
        self._folder = folder
        self._heartbeat_s = heartbeat_s
        self._lease_s = lease_s
        self._bond = bond
        self._socket_path = unquote(urlsplit(url).path) if url.startswith("unix:") else None
        self._starts = Starts(folder)
        self._incarnation = self._starts.next()
        self._lease_until_s = 0.0
        self._sure = threading.Event()
        """A beat of this incarnation got through: from then on it has a lease."""
        self._beats = 0
        self._claimed = False
        self._warden_well_s = now_s()
        """When it last answered: a node whose warden hangs can start and stop nothing, and must not seem alive."""
        self._place = f"{uuid.getnode():x}-{zlib.crc32(os.fsencode(folder)):x}"
        self._missed = False
        self._leaving = threading.Event()
        self._running: set[str] = set()
        self._idle = threading.Condition()
        answer_s = max(0.5, min(2.0, heartbeat_s))
        self._beat_line = Line(url, answer_s)
        self._report_line = Line(url, 2.0)
        self._ask_line = Line(url, ASK_S + 5.0)
        self._belt_line = Line(url, BELT_TIMEOUT_S)
        self._reader = Reader(folder / "sandboxes")

    def leave(self) -> None:
        """End `run`; from a signal handler."""
        self._leaving.set()

    def run(self, stop_tasks: bool) -> None:
        """Until `leave`."""
        threads = [
            threading.Thread(target=self._carry, name="belt", daemon=True),
            threading.Thread(target=self._pass_on, name="reports", daemon=True),
            threading.Thread(target=self._answer, name="asks", daemon=True),
        ]
        for thread in threads:
            thread.start()
        log.info("node %s: agent %s begins", self.name, self._incarnation)
        while not self._leaving.is_set():
            begin = time.monotonic()
            self._beat()
            self._leaving.wait(max(0.01, begin + self._heartbeat_s - time.monotonic()))
        self._belt_line.close()
        if stop_tasks:
            self._stop_tasks()
        self._bond.close()
        for line in (self._ask_line, self._report_line, self._beat_line):
            line.close()
        for thread in threads:
            thread.join(5.0)
        log.info("node %s: agent %s ends", self.name, self._incarnation)

    # --- signs of life -------------------------------------------------------------------------------------

    def _beat(self) -> None:
        if self._sure.is_set() and now_s() > self._warden_well_s + WELL_S + self._heartbeat_s:
            log.warning("node %s: the warden does not answer; no sign of life is given", self.name)
            self._bond.send({"do": "well"})
            return
        # The lease counts from before the beat was sent: the scheduler cannot have seen it earlier.
        begin, incarnation = now_s(), self._incarnation
        self._beats += 1
        try:
            if not self._claimed:
                self._claim()
            beat = f"{incarnation}:{self._beats}:{time.time_ns() // 1000}:{self._place}"
            forgotten = self._beat_line.client.hset(BEATS, self.name, beat)
        except (redis.exceptions.RedisError, *Lost):
            self._beat_line.drop()
            self._missed = True
            if not self._nobody_hears():
                self._bond.send({"do": "well"})  # it is told of no lease now, and would seem to hang once Redis is back
                return
            forgotten = 0
        else:
            if (forgotten or self._missed) and self._bond.send({"do": "seen"}):
                self._missed = False
        if incarnation == self._incarnation:
            self._lease_until_s = begin + self._lease_s
            self._sure.set()
            self._bond.send({"do": "lease", "agent": incarnation, "until_s": self._lease_until_s})

    def _claim(self) -> None:
        """Two agents of one name would each take the other's tasks for dead. On one state folder the lock forbids it;
        elsewhere a beat that goes on betrays the other. `Conflict` then.
        """
        client = self._beat_line.client
        before: Any = client.hget(BEATS, self.name)
        if before is not None and not before.endswith(b":" + self._place.encode()):
            deadline = time.monotonic() + CLAIM_BEATS * self._heartbeat_s
            while time.monotonic() < deadline and not self._leaving.wait(self._heartbeat_s / 2):
                if client.hget(BEATS, self.name) not in (before, None):
                    raise Conflict(f"another machine's agent is node {self.name}; choose another --name")
        self._claimed = True

    def _nobody_hears(self) -> bool:
        """Whether Redis is proved to be away for everybody, by a unix socket on which nobody listens. Then the
        scheduler cannot count our silence (its clock begins anew when Redis is back), and the tasks need not end.
        Over a network there is no such proof.
        """
        if self._socket_path is None:
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
            try:
                return probe.connect_ex(self._socket_path) == errno.ECONNREFUSED
            except OSError:
                return False

    # --- the belt ------------------------------------------------------------------------------------------

    def _carry(self) -> None:
        belt.carry(self.name, self._belt_line, self._take)

    def _take(self, document: Any) -> None:
        read_parcel(document)  # raises Unreadable: the warden need not cope with strangers
        parcel = {"do": "parcel", **{key: document.get(key, []) for key in ("specs", "launch", "stop")}}
        if not self._bond.send(parcel, wait_s=10.0):
            log.warning("node %s: a parcel is lost: no warden", self.name)

    # --- the warden ----------------------------------------------------------------------------------------

    def _pass_on(self) -> None:
        while not self._leaving.is_set():
            try:
                self._bond.connect()
            except OSError as error:
                log.warning("node %s: %s", self.name, error)
                self._leaving.wait(0.2)
                continue
            self._hello()
            for message in self._bond.messages():
                self._heed(message)

    def _hello(self) -> None:
        """Not before it has a lease: a task must never run without one."""
        if self._sure.is_set() and now_s() >= self._lease_until_s:
            self._renew()
        while not self._sure.wait(0.5):
            if self._leaving.is_set():
                return
        self._bond.send({"do": "hello", "agent": self._incarnation, "until_s": self._lease_until_s})

    def _renew(self) -> None:
        """The lease ran out: whatever was sent to the former incarnation may by now run elsewhere."""
        self._sure.clear()
        self._incarnation = self._starts.next()
        log.warning("node %s: the lease ran out; agent %s begins", self.name, self._incarnation)

    def _heed(self, message: dict[str, Any]) -> None:
        self._warden_well_s = now_s()
        if "well" in message:
            return
        if (void := message.get("void")) is not None:
            if void == self._incarnation:
                self._renew()
                self._hello()
            return
        if (old := message.get("old")) is not None:
            threading.Thread(target=self._clean, args=(old,), daemon=True).start()
            return
        entries: list[dict[str, str]] = []
        reports = message.get("reports", [])
        if (seen := message.get("seen")) is not None:
            if message["agent"] != self._incarnation:
                return
            self._running = set(seen)
            entries.append(self._seen(seen, message["at_us"]))
        self._note(reports)
        entries += [{"reports": json.dumps(reports[at : at + CHUNK])} for at in range(0, len(reports), CHUNK)]
        self._publish(entries)

    def _seen(self, tasks: list[str], at_us: int) -> dict[str, str]:
        facts = {
            "capacity": self._capacity,
            "attributes": self._attributes,
            "tasks": tasks,
            "at_us": at_us,
        }
        return {"seen": json.dumps(facts)}

    def _note(self, reports: Iterable[dict[str, Any]]) -> None:
        with self._idle:
            for report in reports:
                if report["kind"] == "started":
                    self._running.add(report["task"])
                else:
                    self._running.discard(report["task"])
            self._idle.notify_all()

    def _publish(self, entries: list[dict[str, str]]) -> None:
        """If it fails all is said again after the next beat that gets through."""
        for _ in range(2):
            try:
                with self._report_line.client.pipeline(transaction=False) as pipeline:
                    for entry in entries:
                        fields: Any = {"node": self.name, "agent": self._incarnation, **entry}
                        pipeline.xadd(REPORTS, fields, maxlen=REPORTS_MAX, approximate=True)
                    pipeline.execute()
                return
            except (redis.exceptions.RedisError, *Lost):
                self._report_line.drop()
        self._missed = True

    def _stop_tasks(self) -> None:
        self._bond.send({"do": "end", "grace_s": STOP_GRACE_S}, wait_s=5.0)
        deadline = time.monotonic() + STOP_GRACE_S + 5.0
        while self._running and (left := deadline - time.monotonic()) > 0:
            self._beat()
            with self._idle:
                self._idle.wait_for(lambda: not self._running, min(left, self._heartbeat_s))

    def _clean(self, tasks: list[str]) -> None:
        for task in tasks:
            if is_task(task):
                shutil.rmtree(self._folder / "sandboxes" / task, ignore_errors=True)

    # --- asks ----------------------------------------------------------------------------------------------

    def _answer(self) -> None:
        while not self._ask_line.closed:
            try:
                client = self._ask_line.client
                found: Any = client.blpop([ASK + self.name], timeout=self._reader.pause_s(ASK_S))
                self._ask_line.works()
                if found is not None:
                    self._heed_ask(found[1])
                self._reader.answer(client, self._running)
            except (redis.exceptions.RedisError, *Lost):
                self._ask_line.wait()

    def _heed_ask(self, data: bytes) -> None:
        try:
            ask = json.loads(data) if len(data) <= ASK_MAX else None
            if not isinstance(ask, dict):
                raise TypeError("an ask is an object")
            if "ack" in ask:
                self._bond.send({"do": "ack", "tasks": [task for task in ask["ack"] if is_task(task)]}, wait_s=5.0)
            elif "inquire" in ask:
                self._bond.send({"do": "seen"}, wait_s=5.0)
            elif "logs" in ask:
                self._reader.take(ask["logs"])
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            log.warning("node %s: an ask is not understood: %s", self.name, error)
