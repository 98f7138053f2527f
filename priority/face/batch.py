"""Group commit: submissions that come at the same time share one transaction.

One thread writes. While it commits, new requests gather; when it is done it takes all of them at once. So one client
waits for its own commit only, and a hundred clients share the cost of one.

Clients that each send their next request upon an answer would fall into two halves that take turns, and pay two
commits where one would do. So once a batch is written the next one waits for those who have just been answered, if
there are some; at most `GATHER_S`. (PostgreSQL knows it as `commit_delay` and `commit_siblings`.)
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from priority.errors import PriorityError, Unavailable
from priority.service.jobs import Accepted, Submission

BATCH_JOBS = 2_000
"""So many jobs at most go into one transaction, so that nobody waits long behind a flood."""

WAITING_JOBS = 20_000
"""So many jobs at most wait for it: beyond that the answer is 503 at once."""

GATHER_S = 0.005
"""So long at most a batch waits for more. Its clients would otherwise wait for the commit before theirs."""

GATHER_MIN = 4
"""Of fewer at once nobody waits for another."""

_log = logging.getLogger(__name__)

Answers = list[Accepted | PriorityError]


class Submit(Protocol):
    """`service.jobs.Jobs.submit`: calls `answered` once the answers are on disk, and returns them in the end."""

    def __call__(self, requests: Sequence[Submission], answered: Callable[[Answers], None]) -> Answers:
        """All of them in one transaction."""


_Waiting = tuple[Submission, "asyncio.Future[Accepted]"]


class Submitter:
    """The writing thread and its queue. Used from one event loop."""

    def __init__(self, submit: Submit) -> None:
        self._submit = submit
        self._waiting: deque[_Waiting] = deque()
        self._jobs_waiting = 0
        self._batches: queue.SimpleQueue[list[_Waiting] | None] = queue.SimpleQueue()
        self._writing = False
        self._expected = 0
        """So many requests are worth waiting for, until `_patience` ends."""
        self._patience: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="submitter", daemon=True)

    def start(self) -> None:
        """Call it on the event loop that will `submit`."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """What waits is still written; blocks until it is."""
        if self._patience is not None:
            self._patience.cancel()
        self._batches.put(list(self._waiting))
        self._waiting.clear()
        self._batches.put(None)
        self._thread.join(timeout=10)

    async def submit(self, submission: Submission) -> Accepted:
        """On disk when this returns; raises why not."""
        size = len(submission.specs)
        if self._jobs_waiting + size > WAITING_JOBS:
            raise Unavailable("too many submissions wait to be written; send it again in a moment")
        self._jobs_waiting += size
        assert self._loop is not None
        future: asyncio.Future[Accepted] = self._loop.create_future()
        self._waiting.append((submission, future))
        self._go_on()
        try:
            return await future
        finally:
            self._jobs_waiting -= size

    def _go_on(self) -> None:
        """Have the next batch written, unless one is being written or more are about to come."""
        if self._writing or len(self._waiting) < max(1, self._expected):
            return
        batch: list[_Waiting] = []
        jobs = 0
        while self._waiting and jobs < BATCH_JOBS:
            batch.append(self._waiting.popleft())
            jobs += len(batch[-1][0].specs)
        self._writing = True
        self._batches.put(batch)

    def _answered(
        self, futures: Sequence[asyncio.Future[Accepted]], answers: Sequence[Accepted | BaseException]
    ) -> None:
        """A batch is on disk, or refused; those who sent it may come again."""
        self._expected = len(futures) + len(self._waiting)
        _resolve(futures, answers)

    def _written(self) -> None:
        """The thread is free."""
        assert self._loop is not None
        self._writing = False
        if self._patience is not None:
            self._patience.cancel()
        if self._expected >= GATHER_MIN:
            self._patience = self._loop.call_later(GATHER_S, self._enough)
        else:
            self._expected = 0
        self._go_on()

    def _enough(self) -> None:
        self._expected = 0
        self._go_on()

    def _run(self) -> None:
        assert self._loop is not None
        while (batch := self._batches.get()) is not None:
            if batch:
                self._write(batch)
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._written)

    def _write(self, batch: list[_Waiting]) -> None:
        told = False

        def tell(answers: Sequence[Accepted | BaseException]) -> None:
            nonlocal told
            told = True
            self._tell([future for _, future in batch], answers)

        try:
            self._submit([submission for submission, _ in batch], tell)
        except PriorityError as error:
            if not told:
                tell([error] * len(batch))
        except Exception as error:
            _log.exception("a batch of %d submissions failed", len(batch))
            if told:
                return None  # they are on disk and answered; the scheduler finds them by itself
            if len(batch) == 1:
                return tell([error])
            # One bad request must not fail its neighbours: each alone, then.
            for one in batch:
                self._write([one])

    def _tell(self, futures: Sequence[asyncio.Future[Accepted]], answers: Sequence[Accepted | BaseException]) -> None:
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop has ended: nobody waits any more
            self._loop.call_soon_threadsafe(self._answered, futures, answers)


def _resolve(futures: Sequence[asyncio.Future[Accepted]], answers: Sequence[Accepted | BaseException]) -> None:
    for future, answer in zip(futures, answers, strict=True):
        if future.done():  # its client has gone; the job is there all the same, and its key finds it
            continue
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)
