"""The scheduler's side of the local backend: what it says to agents, and what it hears of them.

Launches and stops go as parcels on each node's belt (an RQ queue, see `belt`), several nodes in one round trip.
Reports come from one stream. Beats (see `agent`) are looked at between reports, by the same thread. Keys are told in
`backend.agent`.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import redis
from rq import Queue
from rq.serializers import JSONSerializer

from priority.backend import belt
from priority.backend.liveness import Liveness, Sign
from priority.backend.messages import SIGNALS
from priority.backend.reports import read_entry
from priority.errors import NotFound, Unavailable
from priority.node import Shares
from priority.orders import Delivery, Launch, LogChunk, LogRequest, NodeGone, NodeSilent, Report, Stop, TaskSeen
from priority.wire.connection import Line, Lost, connect
from priority.wire.names import ASK, BEATS, REPLY, REPORTS
from priority.wire.stream import Inlet

PARCEL_TASKS = 200
"""Launches and stops in one parcel."""
ANSWER_S = 2.0
REST_S = 0.5
"""After a failure nothing is sent for so long: what is to be done is done again by its owner."""
LOOK_S = 1.0
"""Between two looks at the beats, at most."""
ASK_KEEP_S = 60
LOG_GRACE_S = 5.0
"""For an answer, beyond what was asked to be waited."""

_Act = TypeVar("_Act", Launch, Stop)

log = logging.getLogger(__name__)


class LocalBackend:
    """`ports.Backend` over agents on this machine or others."""

    def __init__(
        self,
        url: str,
        *,
        silent_s: float = 5.0,
        lease_s: float = 60.0,
        lease_margin_s: float = 10.0,
        consumer: str = "leader",
    ) -> None:
        self._look_s = min(LOOK_S, silent_s / 4)
        self._alive = Liveness(silent_s, lease_s + lease_margin_s, gap_s=2 * self._look_s + 1.0)
        self._client = connect(url, ANSWER_S)
        self._logs = connect(url, 65.0 + LOG_GRACE_S)
        self._ears = Line(url, self._look_s + 2.0)
        self._inlet = Inlet(self._ears, [REPORTS], consumer)
        self._rest_until_s = 0.0
        self._expected: set[str] = set()
        self._first = True

    # --- acts ----------------------------------------------------------------------------------------------

    def launch(self, batch: Sequence[Launch]) -> None:
        """See `ports.Backend`."""
        self._send({node: [*_parcels(some)] for node, some in _by_node(batch).items()})

    def stop(self, batch: Sequence[Stop]) -> None:
        """See `ports.Backend`."""
        self._send({node: [*_stop_parcels(some)] for node, some in _by_node(batch).items()})

    def _send(self, parcels: dict[str, list[dict[str, Any]]]) -> None:
        def act() -> None:
            with self._client.pipeline(transaction=False) as pipeline:
                for node, some in parcels.items():
                    queue = Queue(belt.queue_name(node), connection=self._client, serializer=JSONSerializer)
                    for parcel in some:
                        job = queue.create_job(
                            belt.TAKE,
                            args=(parcel,),
                            job_id=uuid.uuid4().hex,
                            description="parcel",
                            ttl=belt.PARCEL_S,
                            result_ttl=0,
                            failure_ttl=belt.FAILED_S,
                        )
                        queue.enqueue_job(job, pipeline=pipeline)
                pipeline.execute()

        if parcels:
            self._try(act)

    def acknowledge(self, delivery: Delivery) -> None:
        """See `ports.Backend`. The node first: if we die in between the entry comes again, and with it this."""
        ends: dict[str, list[str]] = {}
        for report in delivery.reports:
            if isinstance(report, TaskSeen) and report.kind == "ended":
                ends.setdefault(report.node, []).append(report.task)
        if delivery.token:

            def act() -> None:
                self._ask({node: {"ack": tasks} for node, tasks in ends.items()})
                self._inlet.done(delivery.token)

            self._try(act)

    def inquire(self, nodes: Collection[str]) -> None:
        """See `ports.Backend`. A node that was never heard of counts as silent from now on."""
        self._expected.update(nodes)  # its clock is the listening thread's
        self._try(lambda: self._ask({node: {"inquire": True} for node in nodes}))

    def heard(self) -> Mapping[str, int]:
        """See `ports.Backend`."""
        try:
            return _heard(self._client.hgetall(BEATS))
        except (redis.exceptions.RedisError, *Lost):
            return {}

    def _ask(self, asks: dict[str, dict[str, Any]]) -> None:
        with self._client.pipeline(transaction=False) as pipeline:
            for node, ask in asks.items():
                pipeline.rpush(ASK + node, json.dumps(ask))
                pipeline.expire(ASK + node, ASK_KEEP_S)
            pipeline.execute()

    def _try(self, act: Callable[[], None]) -> None:
        if time.monotonic() < self._rest_until_s:
            return
        try:
            act()
        except (redis.exceptions.RedisError, *Lost) as error:
            self._rest_until_s = time.monotonic() + REST_S
            log.warning("nothing reaches the nodes: %s", error)

    # --- reports -------------------------------------------------------------------------------------------

    def listen(self, deliver: Callable[[Delivery], None]) -> None:
        """See `ports.Backend`."""
        self._first = True
        next_look_s = 0.0
        while not self._ears.closed:
            deliveries: list[Delivery] = []
            try:
                if time.monotonic() >= next_look_s:
                    next_look_s = time.monotonic() + self._look_s
                    deliveries.append(Delivery(tuple(self._look())))
                deliveries.append(self._read(max(0.001, next_look_s - time.monotonic())))
            except (redis.exceptions.RedisError, *Lost):
                self._alive.outage()
                self._inlet.lost()
                self._ears.wait()
            for delivery in deliveries:  # outside: an error of `deliver` is not one of Redis
                if (delivery.reports or delivery.token) and not self._ears.closed:
                    deliver(delivery)

    def _read(self, block_s: float) -> Delivery:
        entries = self._inlet.read(block_s)
        reports: list[Report] = []
        for _, entry, fields in entries:
            try:
                reports += read_entry(fields)
            except ValueError as error:
                log.warning("report %s is not understood: %s", entry, error)
        return Delivery(tuple(reports), [(name, entry) for name, entry, _ in entries])

    def _look(self) -> list[Report]:
        """At the beats: who is back (and is asked for all it has), silent or gone."""
        beats: Any = self._ears.client.hgetall(BEATS)
        now = time.monotonic()
        while self._expected:
            self._alive.expect([self._expected.pop()], now)
        signs = self._alive.observe({name.decode(errors="replace"): beat for name, beat in beats.items()}, now)
        back = [name for sign, name in signs if sign is Sign.BACK]
        if self._first:
            self._first, back = False, [name.decode(errors="replace") for name in beats]
        if back:
            self._ask({name: {"inquire": True} for name in back})
        gone = [name for sign, name in signs if sign is Sign.GONE]
        if gone:
            self._forget(gone)
        at_us = time.time_ns() // 1000
        reports: list[Report] = [NodeSilent(node=name, at_us=at_us) for sign, name in signs if sign is Sign.SILENT]
        heard = _heard(beats)
        return [*reports, *(NodeGone(node=name, at_us=at_us, heard_us=heard.get(name, 0)) for name in gone)]

    def _forget(self, nodes: list[str]) -> None:
        """What waits for them must not reach them; should one come back it finds itself forgotten and says all."""
        with self._ears.client.pipeline(transaction=False) as pipeline:
            pipeline.hdel(BEATS, *nodes)
            for node in nodes:
                pipeline.delete(ASK + node, Queue.redis_queue_namespace_prefix + belt.queue_name(node))
            pipeline.execute()

    # --- output --------------------------------------------------------------------------------------------

    def shares(self) -> Mapping[str, Shares]:
        """See `ports.Backend`. Every node is ours alone."""
        return {}

    def logs(self, request: LogRequest) -> LogChunk:
        """See `ports.Backend`."""
        reply = uuid.uuid4().hex
        ask = {
            "task": request.task,
            "stream": request.stream,
            "offset": request.offset,
            "limit": request.limit,
            "wait_s": request.wait_s,
            "reply": reply,
        }
        try:
            self._ask({request.node: {"logs": ask}})
            found: Any = self._logs.blpop([REPLY + reply], timeout=min(request.wait_s, 60.0) + LOG_GRACE_S)
        except (redis.exceptions.RedisError, *Lost):
            found = None
        if found is None:
            raise Unavailable(f"node {request.node} does not answer; try again", node=request.node)
        head, _, data = found[1].partition(b"\n")
        try:
            facts = json.loads(head)
            if facts.get("missing"):
                raise NotFound(f"node {request.node} keeps no output of task {request.task}")
            return LogChunk(int(facts["offset"]), data, bool(facts["ended"]))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise Unavailable(f"node {request.node} gives an answer that is not understood") from None

    def close(self) -> None:
        """See `ports.Backend`."""
        self._ears.close()
        self._client.close()
        self._logs.close()


def _heard(beats: Any) -> dict[str, int]:
    """When each beat was made; see `backend.agent`. What is not understood is left out."""
    heard: dict[str, int] = {}
    for name, beat in beats.items():
        parts = beat.split(b":", 3)
        if len(parts) == 4 and parts[2].isdigit() and len(parts[2]) < 19:
            heard[name.decode(errors="replace")] = int(parts[2])
    return heard


def _by_node(batch: Sequence[_Act]) -> dict[str, list[_Act]]:
    nodes: dict[str, list[_Act]] = {}
    for one in batch:
        nodes.setdefault(one.node, []).append(one)
    return nodes


def _parcels(batch: Sequence[Launch]) -> Iterable[dict[str, Any]]:
    for at in range(0, len(batch), PARCEL_TASKS):
        specs: list[dict[str, Any]] = []
        index: dict[int, int] = {}
        launches = []
        for one in batch[at : at + PARCEL_TASKS]:
            if id(one.spec) not in index:
                index[id(one.spec)] = len(specs)
                specs.append(_spec(one))
            launches.append(
                {
                    "task": one.task,
                    "agent": one.agent,
                    "epoch": one.epoch,
                    "instance": one.instance,
                    "attempt": one.attempt,
                    "spec": index[id(one.spec)],
                }
            )
        yield {"specs": specs, "launch": launches}


def _spec(launch: Launch) -> dict[str, Any]:
    spec = launch.spec
    return {
        "job": launch.job,
        "argv": spec.argv,
        "env": dict(spec.env),
        "mem_mib": spec.resources.get("mem", 0),
        "disk_mib": spec.resources.get("disk", 0),
        "max_runtime_s": spec.max_runtime,
        "grace_s": spec.kill_grace,
    }


def _stop_parcels(batch: Sequence[Stop]) -> Iterable[dict[str, Any]]:
    for at in range(0, len(batch), PARCEL_TASKS):
        yield {
            "stop": [
                {
                    "task": one.task,
                    "epoch": one.epoch,
                    "signal": one.signal if one.signal in SIGNALS else "TERM",
                    "notice_s": one.notice_s,
                }
                for one in batch[at : at + PARCEL_TASKS]
            ]
        }
