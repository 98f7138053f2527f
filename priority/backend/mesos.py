"""The Mesos backend: `ports.Backend` over the v1 scheduler HTTP API of a Mesos cluster.

What follows from what is `mesos_driver`; here are the threads that carry it:

- `listen` (the caller's): delivers reports, and lets time pass for the driver;
- *events*: subscribes, reads the stream, and again with back-off whenever it ends or is silent;
- *calls*: send what the driver says, on some connections: what is about one agent, or acknowledges one task, in order.

Fault first. The framework id is written into the database before anything is done with it, and so the next process
is the same framework. A call whose outcome is not known breaks the stream: the master takes nothing from a broken
stream, so after the next SUBSCRIBED what was sent is either there or never will be, and the driver asks.
"""

from __future__ import annotations

import getpass
import logging
import queue
import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zlib import crc32

import orjson

from priority.backend.mesos_driver import Driver
from priority.backend.mesos_known import UNSAID, Ack, Facts, Known, Phase, Times, mesos_id
from priority.backend.mesos_line import CALL_S, SILENCE_S, Call, Lost, Masters, Sender, Stream, backoff_s
from priority.backend.mesos_operator import AgentFacts, Machine, Operator
from priority.backend.mesos_tasks import AGENT, framework
from priority.backend.mesos_tasks import acknowledge as acknowledge_call
from priority.errors import NotFound, PriorityError, Unavailable
from priority.job import JobSpec
from priority.node import NodeState, Shares
from priority.orders import Delivery, Launch, LogChunk, LogRequest, Report, Stop, TaskSeen
from priority.ports import Store
from priority.task import ACTIVE, PLACED, Task

NOTE = "mesos.framework"
"""Under which the framework id is kept in the database."""
STANDING = "mesos.standing"
"""Under which the driver's counters are, as they were a few seconds ago."""
STANDING_S = 5.0
DELIVERY_REPORTS = 1000
LOOK_S = 0.1
"""Between two looks at a task's output by whoever waits for it."""

SANDBOXES = 1000
"""So many are remembered."""

LANES = 4
"""Connections for acknowledgements, and as many for other calls: a slow answer must not hold up a thousand others."""

log = logging.getLogger(__name__)


class MesosBackend:
    """A framework of a Mesos cluster. Until `listen` is called it only reads."""

    def __init__(
        self,
        master: str,
        store: Store,
        *,
        role: str = "priority",
        user: str = "",
        principal: str = "",
        secret: str = "",
        failover_s: float = 7 * 86_400.0,
        reserve: bool = True,
        times: Times | None = None,
        silence_s: float = SILENCE_S,
    ) -> None:
        self._masters = Masters(master)
        self._place = {} if "@" in master else {"masters": master, "role": role}
        """For `priority mesos`, which need not be told again; a password is not written down."""
        self._store = store
        self._auth = (principal, secret) if principal and secret else None
        self._role, self._user, self._principal = role, user or getpass.getuser(), principal or None
        self._failover_s = failover_s
        self._silence_s = silence_s
        self._operator = Operator(self._masters, self._auth)
        self._wonder = threading.Event()
        """Set when the driver has to know what the agents have."""
        self.driver = Driver(
            *(self._send, self._tell, self._wonder.set),
            role=role, principal=self._principal, reserving=reserve, times=times,
        )  # fmt: skip
        self._reports: queue.SimpleQueue[tuple[Report, Ack | None] | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._stream: Stream | None = None
        self._senders: list[Sender] = []
        self._framework: str | None = None
        self._standing: dict[str, Any] = {}
        self._written_s = 0.0
        self._listening = False
        self._sandboxes: dict[str, str] = {}
        """Where members of task groups have their files, once found."""
        self._failure: BaseException | None = None

    # --- acts ----------------------------------------------------------------------------------------------

    def launch(self, batch: Sequence[Launch]) -> None:
        """See `ports.Backend`."""
        self.driver.launch(batch)

    def stop(self, batch: Sequence[Stop]) -> None:
        """See `ports.Backend`."""
        self.driver.stop(batch)

    def acknowledge(self, delivery: Delivery) -> None:
        """See `ports.Backend`. Only here a master hears that an update with news has been taken."""
        for task, agent, uuid in delivery.token or ():
            self._send(acknowledge_call(task, agent, uuid))
        self.driver.committed(
            report.task for report in delivery.reports if isinstance(report, TaskSeen) and report.kind == "ended"
        )

    def inquire(self, nodes: Collection[str]) -> None:
        """See `ports.Backend`."""
        self.driver.inquire(nodes)

    def heard(self) -> Mapping[str, int]:
        """See `ports.Backend`. Where nobody listens to the master, it is asked which agents are active."""
        if self._listening:
            return self.driver.heard()
        try:
            active = {one.id for one in self._operator.agents().values() if one.active or one.draining}
            with self._store.read() as reader:
                nodes = {record.node.name: record.agent for record in reader.nodes()}
        except (Lost, PriorityError):
            return {}
        now_us = time.time_ns() // 1000
        return {name: now_us for name, agent in nodes.items() if mesos_id(agent) in active}

    def shares(self) -> Mapping[str, Shares]:
        """See `ports.Backend`: as the master tells it."""
        try:
            agents = self._operator.agents()
            with self._store.read() as reader:
                nodes = {record.node.name: record.agent for record in reader.nodes()}
        except (Lost, PriorityError):
            return {}
        found = {name: agents[agent] for name, agent in nodes.items() if agent in agents}
        return {name: Shares(one.whole, one.offered, one.used) for name, one in found.items()}

    def _send(self, body: dict[str, Any]) -> None:
        stream = self._stream
        if stream is None or not self._senders:
            return
        sender = self._senders[lane(body)]
        body.pop(AGENT, None)
        sender.put(Call({**body, "framework_id": {"value": self._framework}}, stream))

    def _call_failed(self, call: Call, why: str) -> None:
        log.warning("the Mesos master does not take %s: %s; subscribing anew", call.body.get("type"), why)
        call.stream.cut()

    def _tell(self, report: Report, ack: Ack | None) -> None:
        self._reports.put((report, ack))

    # --- reports -------------------------------------------------------------------------------------------

    def listen(self, deliver: Callable[[Delivery], None]) -> None:
        """See `ports.Backend`."""
        if self._closed.is_set():
            return
        self._senders = [Sender(f"mesos-calls-{number}", self._auth, self._call_failed) for number in range(2 * LANES)]
        self._listening = True
        threads = [
            threading.Thread(target=self._subscribe_for_ever, name="mesos-events", daemon=True),
            threading.Thread(target=self._look_for_ever, name="mesos-looks", daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            while not self._closed.is_set():
                pause_s = self.driver.tick()
                self._write_down()
                delivery = self._next(pause_s)
                if delivery is not None and not self._closed.is_set():
                    deliver(delivery)
                if self._failure is not None:
                    raise self._failure
        finally:
            self._closed.set()
            for sender in self._senders:
                sender.close()
            if self._stream is not None:
                self._stream.cut()
            self._wonder.set()
            for thread in threads:
                thread.join(5)
            self._operator.close()

    def _write_down(self) -> None:
        """The driver's counters, now and then, and only when they have changed: for `priority mesos status`."""
        now_s = time.monotonic()
        if now_s < self._written_s + STANDING_S:
            return
        self._written_s = now_s
        standing = self.driver.standing()
        if standing == self._standing:
            return
        self._standing = standing
        note = {**self._place, **standing, "at": datetime.now(UTC).isoformat(timespec="seconds")}
        try:
            with self._store.write() as writer:
                writer.put_note(STANDING, orjson.dumps(note).decode())
        except PriorityError as error:
            log.info("the driver's counters were not written down: %s", error)

    def _next(self, pause_s: float) -> Delivery | None:
        reports: list[Report] = []
        acks: list[Ack] = []
        try:
            found = self._reports.get(timeout=pause_s)
            while found is not None:
                reports.append(found[0])
                if found[1] is not None:
                    acks.append(found[1])
                if len(reports) == DELIVERY_REPORTS:
                    break
                found = self._reports.get_nowait()
        except queue.Empty:
            pass
        return Delivery(tuple(reports), acks) if reports else None

    def _subscribe_for_ever(self) -> None:
        failures = 0
        try:
            while not self._closed.is_set():
                try:
                    self._remember()
                    self._subscribe()
                except (Lost, ValueError) as error:
                    was_there = self.driver.connected_s is not None
                    failures = 0 if was_there else failures + 1
                    if not self._closed.is_set():
                        log.warning("no contact with the Mesos master: %s", error)
                except PriorityError as error:
                    failures += 1
                    log.warning("the Mesos framework waits for the database: %s", error)
                finally:
                    self.driver.disconnected()
                self._closed.wait(backoff_s(failures))
        except BaseException as error:  # `listen` raises it
            self._failure = error
            self._reports.put(None)

    def _remember(self) -> None:
        """The framework id, and all that may run, from the truth; once."""
        if self._framework is not None:
            return
        with self._store.read() as reader:
            self._framework = reader.note(NOTE) or None
            nodes = [record for record in reader.nodes() if record.node.state is not NodeState.DOWN]
            placed = [task for task in reader.active_tasks() if task.state in PLACED and task.node and task.agent]
            jobs = reader.jobs_of({task.job for task in placed})
        self.driver.remember(nodes, (_placed(task, jobs[task.job].spec) for task in placed))

    def _subscribe(self) -> None:
        info = framework(
            user=self._user,
            role=self._role,
            principal=self._principal,
            failover_s=self._failover_s,
            id=self._framework,
            host=socket.gethostname(),
        )
        body: dict[str, Any] = {"type": "SUBSCRIBE", "subscribe": {"framework_info": info}}
        if self._framework:
            body["framework_id"] = {"value": self._framework}
        stream = Stream(self._masters, self._auth, self._silence_s)
        self._stream = stream
        try:
            for event in stream.events(body):
                if self._closed.is_set():
                    return
                if event["type"] == "SUBSCRIBED":
                    self._subscribed(event)
                elif event["type"] == "ERROR":
                    self._refused(event)
                else:
                    self.driver.event(event)
        finally:
            stream.cut()
            stream.close()

    def _subscribed(self, event: dict[str, Any]) -> None:
        id = ((event.get("subscribed") or {}).get("framework_id") or {}).get("value")
        if not isinstance(id, str) or not id or len(id) > 255:
            raise ValueError("SUBSCRIBED without a framework id")
        if id != self._framework:
            with self._store.write() as writer:
                writer.put_note(NOTE, id)  # before it is used: whatever is launched under it can be found again
            self._framework = id
        self.driver.subscribed(id)

    def _look_for_ever(self) -> None:
        """Ask the master what its agents have, whenever the driver wants to know."""
        operator = Operator(self._masters, self._auth, answer_s=CALL_S)
        try:
            while self._wonder.wait() and not self._closed.is_set():
                self._wonder.clear()
                asked_s = time.monotonic()
                try:
                    agents = [one for one in operator.agents(fresh=True).values() if one.active or one.draining]
                    starts = operator.maintenance()
                    self.driver.looked(asked_s, [_facts(one, self._role, starts) for one in agents])
                except Lost as error:
                    log.info("the master does not list its agents: %s", error)
                    self.driver.looked(asked_s, None)
        except BaseException as error:  # `listen` raises it
            self._failure = error
            self._reports.put(None)
        finally:
            operator.close()

    def _refused(self, event: dict[str, Any]) -> None:
        message = str((event.get("error") or {}).get("message", ""))[:300]
        if "removed" in message.lower() or "completed" in message.lower():
            # Its failover time-out has passed: Mesos has killed its tasks, and never takes that id again.
            log.warning("Mesos has removed our framework %s: %s; registering anew", self._framework, message)
            with self._store.write() as writer:
                writer.put_note(NOTE, "")
            self._framework = None
        raise Lost(f"the master says: {message}")

    # --- output --------------------------------------------------------------------------------------------

    def logs(self, request: LogRequest) -> LogChunk:
        """See `ports.Backend`: out of the task's sandbox, through its agent."""
        deadline_s = time.monotonic() + min(request.wait_s, 60.0)
        while True:
            chunk = self._look(request)
            left_s = deadline_s - time.monotonic()
            if chunk.data or chunk.ended or left_s <= 0:
                return chunk
            time.sleep(min(LOOK_S, left_s))

    def _look(self, request: LogRequest) -> LogChunk:
        over = self._is_over(request.task)  # before the file is read: what comes after the end is in it
        try:
            agent = self._agent_of(request)
            offset = max(0, request.offset)
            found = self._read(agent, request, offset, request.limit if request.offset >= 0 else 0)
            if found is not None and request.offset < 0:
                offset = max(0, found[0] + request.offset)
                found = self._read(agent, request, offset, request.limit)
        except Lost as error:
            raise Unavailable(f"node {request.node} does not answer: {error}", node=request.node) from None
        if found is None:
            raise NotFound(f"node {request.node} keeps no output of task {request.task}")
        size, data = found
        offset = min(offset, size)
        return LogChunk(offset, data, over and offset + len(data) >= size)

    def _read(self, agent: AgentFacts, request: LogRequest, offset: int, limit: int) -> tuple[int, bytes] | None:
        """Of a task with an executor of its own; else of a member of a group, of which the master knows where it is."""
        framework = self._framework_id()
        usual = f"/frameworks/{framework}/executors/{request.task}/runs/latest"
        sandbox = self._sandboxes.get(request.task, usual)
        found = self._operator.read_file(agent, f"{sandbox}/{request.stream}", offset, limit)
        if found is not None or sandbox != usual:
            return found
        nested = self._operator.sandbox(framework, request.task)
        if nested is None:
            return None
        if len(self._sandboxes) >= SANDBOXES:
            self._sandboxes.clear()
        self._sandboxes[request.task] = nested
        return self._operator.read_file(agent, f"{nested}/{request.stream}", offset, limit)

    def _agent_of(self, request: LogRequest) -> AgentFacts:
        id = None
        with self.driver.lock:
            known = self.driver.known.get(request.task) or self.driver.ended(request.task)
            node = self.driver.nodes.get(request.node)
            id = known.agent if known is not None else node.id if node is not None else None
        if id is None:
            with self._store.read() as reader:
                task = reader.task(request.task)
                id = task.agent if task is not None else None
                if id is None:
                    records = {record.node.name: record.agent for record in reader.nodes()}
                    id = records.get(request.node)
        agent = self._operator.agents().get(mesos_id(id or ""))
        if agent is None:
            raise Lost("the Mesos master does not know its agent")
        return agent

    def _framework_id(self) -> str:
        if self._framework is None:
            with self._store.read() as reader:
                return reader.note(NOTE) or ""
        return self._framework

    def _is_over(self, task: str) -> bool:
        with self.driver.lock:
            if self.driver.ended(task) is not None:
                return True
            if task in self.driver.known:
                return self.driver.known[task].ended is not None
        with self._store.read() as reader:
            found = reader.task(task)
        return found is not None and found.state not in ACTIVE

    def close(self) -> None:
        """See `ports.Backend`."""
        self._closed.set()
        self._reports.put(None)
        if self._stream is not None:
            self._stream.cut()
        if not self._listening:
            self._operator.close()


def _facts(agent: AgentFacts, role: str, starts: Mapping[Machine, int] | None) -> Facts:
    leaves_us = UNSAID if starts is None else starts.get(agent.machine)
    return Facts(
        agent.id, agent.host, agent.port, agent.attributes, agent.whole, agent.others(role), agent.draining, leaves_us
    )


def _placed(task: Task, spec: JobSpec) -> Known:
    replace_s = spec.mesos.replace_after if spec.mesos is not None else None
    known = Known(task.id, task.node or "", task.agent or "", dict(spec.resources), Phase.UNSURE, replace_s=replace_s)
    known.notice_s, known.runtime_s = spec.preempt.notice, spec.max_runtime
    return known


def lane(body: dict[str, Any]) -> int:
    """Which connection a call takes: the same for all that must stay in order."""
    kind = body["type"]
    if kind == "ACKNOWLEDGE":
        return LANES + crc32(body["acknowledge"]["task_id"]["value"].encode()) % LANES
    agent = body.get(AGENT) if kind == "ACCEPT" else (body.get("kill") or {}).get("agent_id", {}).get("value")
    return crc32(agent.encode()) % LANES if agent else 0
