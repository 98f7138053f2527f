"""Events as server-sent events (WHATWG HTML, section 9.2): one bell for all who listen, the database for what they get.

A listener holds nothing but the id of the last event it was sent: it reads the next page itself, at its own pace, so a
slow one costs no memory and can never miss an event. The bell only says that there is something new; when Redis is
away, a look at the database each `POLL_S` seconds says it instead.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import orjson
from starlette.concurrency import run_in_threadpool

from priority.errors import PriorityError

POLL_S = 1.5
HEARTBEAT_S = 10.0
"""Silence is broken by a comment, so that each side notices when the other has gone."""
PAGE = 500
GATHER_S = 0.005
"""After a bell, so that a burst of events is one page."""

_log = logging.getLogger(__name__)

_T = TypeVar("_T")


class Bell:
    """Wakes whoever waits for an event. `last` is the newest id known."""

    def __init__(self, watch: Callable[[Callable[[int], None]], None], last_event: Callable[[], int]) -> None:
        """`watch` blocks and calls back on each news (`Queue.watch`); `last_event` asks the database."""
        self.last = 0
        self._watch = watch
        self._last_event = last_event
        self._waiting: set[asyncio.Future[None]] = set()
        self._wanted = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._poll: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None
        self.closed = False
        self._closing = asyncio.Event()

    def start(self) -> None:
        """Call it on the event loop of the listeners."""
        self._loop = asyncio.get_running_loop()
        self._poll = self._loop.create_task(self._look())
        self._thread = threading.Thread(target=self._listen, name="bell", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Every listener's stream ends, and every wait for output."""
        self.closed = True
        self._closing.set()
        self._wanted.set()
        if self._poll is not None:
            self._poll.cancel()
        self._wake()

    async def wait(self, after: int, timeout_s: float) -> bool:
        """Until there is an event after `after`; False if the time is over."""
        if self.last > after or self.closed:
            return True
        assert self._loop is not None
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiting.add(waiter)
        self._wanted.set()
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError:
            return False
        finally:
            self._waiting.discard(waiter)
        return True

    async def unless_closed(self, work: Awaitable[_T]) -> _T | None:
        """What comes of `work`; None if the bell is closed before: it is given up then."""
        doing, closing = asyncio.ensure_future(work), asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait({doing, closing}, return_when=asyncio.FIRST_COMPLETED)
            return doing.result() if doing.done() else None
        finally:
            closing.cancel()
            doing.cancel()

    def _listen(self) -> None:
        try:
            self._watch(self._ring_from_thread)
        except Exception:  # the poll goes on
            _log.exception("no news from the queue any more; the database is asked each %s s", POLL_S)

    def _ring_from_thread(self, last: int) -> None:
        loop = self._loop
        if loop is not None and not self.closed:
            try:
                loop.call_soon_threadsafe(self._ring, last)
            except RuntimeError:  # the loop has ended
                return
            # While nobody listens, no commit wakes this thread, which would take turns with those that answer. What
            # came meanwhile is not missed: the queue tells of the newest event as soon as it is asked again.
            self._wanted.clear()
            if not self._waiting and not self.closed:
                self._wanted.wait()

    def _ring(self, last: int) -> None:
        if last > self.last:
            self.last = last
            self._wake()

    def _wake(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            if not self._waiting:
                continue
            try:
                self._ring(await run_in_threadpool(self._last_event))
            except Exception as error:
                _log.warning("cannot look for events: %s", error)


Read = Callable[[int, int], list[dict[str, Any]]]
"""(after, limit) -> events as plain JSON."""


async def stream(bell: Bell, read: Read, after: int) -> AsyncIterator[bytes]:
    """The body of a server-sent event response that begins after the event `after`."""
    yield b"retry: 1000\n\n"
    while not bell.closed:
        seen = bell.last
        try:
            events = await run_in_threadpool(read, after, PAGE)
        except PriorityError:
            return  # its token is revoked or the database away: asking again, the client is told which
        if events:
            after = events[-1]["id"]
            yield b"".join(_one(event) for event in events)
        if len(events) == PAGE:
            continue
        # What this reader may not see also counts as seen: else it would ask for it for ever.
        if not await bell.wait(max(after, seen), HEARTBEAT_S):
            yield b": still here\n\n"
        else:
            await asyncio.sleep(GATHER_S)


def _one(event: dict[str, Any]) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event["id"], event["kind"].encode(), orjson.dumps(event))
