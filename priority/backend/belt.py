"""The node's end of the belt: an RQ worker that carries parcels from the queue `node-NAME` to the warden.

It is a real RQ worker (`rq info` shows it) without what does not serve here: no work horse (a parcel is handed on,
not run), no command channel (its stop has no grace), no results. It never calls what a job names: a job whose
function is not `TAKE` is refused, its arguments are JSON and are checked. A job costs three round trips.

RQ's own loop does not outlive a lost Redis (a busy worker dies); this one does: whatever happens to the connection
or to what Redis holds, it begins again. A parcel lost on the way is sent again by the scheduler.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable
from typing import Any

import redis
from rq import Queue, SimpleWorker
from rq.exceptions import DequeueTimeout, DeserializationError, NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer

from priority.backend.messages import Unreadable
from priority.wire.connection import Line, Lost

TAKE = "priority.backend.belt.take"
"""The name that a parcel's job bears in RQ. There is no such function: it is a word, not code."""
PARCEL_S = 60
"""A parcel not fetched in this time is dropped by Redis; the scheduler sends again what matters."""
FAILED_S = 60
PARCEL_MAX = 64 * 2**20
WORKER_TTL_S = 20
"""RQ takes from this how long one blocking fetch lasts (15 s less) and when the worker is forgotten (60 s more)."""

log = logging.getLogger(__name__)


def queue_name(node: str) -> str:
    """Of a node's belt."""
    return f"node-{node}"


class Parcel(Job):
    """A job of which only the payload is read, and no more of it than is believed."""

    def restore(self, raw_data: Any) -> None:
        """From the hash in Redis."""
        packed = raw_data.get(b"data")
        if packed is None:
            raise NoSuchJobError(f"{self.id} has no data")
        unpacker = zlib.decompressobj()
        self.data = unpacker.decompress(packed, PARCEL_MAX)
        if unpacker.unconsumed_tail:
            raise Unreadable("a parcel is too large")

    def payload(self) -> Any:
        """Its one argument; `Unreadable` if it is not one of ours."""
        try:
            if self.func_name != TAKE or self.kwargs or len(self.args) != 1:
                raise Unreadable(f"{str(self.func_name)[:100]!r} is not what this worker does")
            return self.args[0]
        except (DeserializationError, RecursionError, TypeError, ValueError) as error:
            raise error if isinstance(error, Unreadable) else Unreadable(f"not JSON: {error}") from None


class Belt(SimpleWorker):
    """One connection's worth of it: made anew after the connection was lost."""

    job_class = Parcel

    def __init__(self, node: str, connection: redis.Redis, take: Callable[[Any], None]) -> None:
        queue = Queue(queue_name(node), connection=connection, serializer=JSONSerializer, job_class=Parcel)
        name = queue_name(node)  # always the same, so that no worker of the past is left in Redis
        super().__init__([queue], name=name, connection=connection, serializer=JSONSerializer, worker_ttl=WORKER_TTL_S)
        self._take = take
        connection.delete(self.key)
        self.register_birth()  # type: ignore[no-untyped-call]
        connection.delete(queue.intermediate_queue_key)

    def carry(self) -> None:
        """Wait for one parcel and hand it on."""
        try:
            found = Queue.dequeue_any(
                self.queues,
                self.dequeue_timeout,
                connection=self.connection,
                job_class=Parcel,
                serializer=JSONSerializer,
            )
        except DequeueTimeout:
            self.heartbeat()
            return
        except (Unreadable, zlib.error) as error:
            self._refuse(getattr(error, "job_id", ""), error)
            return
        if found is None:
            return
        job = found[0]
        assert isinstance(job, Parcel)
        try:
            self._take(job.payload())
        except Unreadable as error:
            self._refuse(job.id, error)
            return
        with self.connection.pipeline(transaction=False) as pipeline:
            pipeline.lrem(self.queues[0].intermediate_queue_key, 1, job.id)
            pipeline.delete(Parcel.key_for(job.id))
            pipeline.hincrby(self.key, "successful_job_count", 1)
            pipeline.execute()

    def _refuse(self, job_id: str, error: Exception) -> None:
        log.warning("node %s: a parcel is refused: %s", self.queues[0].name, error)
        key = Parcel.key_for(job_id)
        with self.connection.pipeline(transaction=False) as pipeline:
            pipeline.lrem(self.queues[0].intermediate_queue_key, 1, job_id)
            pipeline.hset(key, "status", "failed")
            pipeline.expire(key, FAILED_S)
            pipeline.hincrby(self.key, "failed_job_count", 1)
            pipeline.execute()


def carry(node: str, line: Line, take: Callable[[Any], None]) -> None:
    """Carry parcels until `line` is closed, through everything that happens to Redis."""
    belt: Belt | None = None
    cut = False
    while not line.closed:
        try:
            if belt is None:
                belt = Belt(node, line.client, take)
            if cut:
                cut = False
                log.warning("node %s: Redis answers again", node)
            belt.carry()
            line.works()
        except (redis.exceptions.RedisError, *Lost) as error:
            belt = None
            if not line.closed:
                cut = True
                log.warning("node %s: Redis does not answer, what runs goes on: %s", node, error)
            line.wait()
