"""Group commit: submissions that come at the same time share one transaction.

One thread writes. While it commits, new requests gather; when it is done it takes all of them at once. So one client
waits for its own commit only, and a hundred clients share the cost of one.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from priority.errors import PriorityError, Unavailable
from priority.service.jobs import Accepted, Submission

BATCH_JOBS = 2_000
"""So many jobs at most go into one transaction, so that nobody waits long behind a flood."""

WAITING_JOBS = 20_000
"""So many jobs at most wait for it: beyond that the answer is 503 at once."""

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
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._jobs_waiting = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="submitter", daemon=True)

    def start(self) -> None:
        """Call it on the event loop that will `submit`."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """What waits is still written; blocks until it is."""
        self._queue.put(None)
        self._thread.join(timeout=10)

    async def submit(self, submission: Submission) -> Accepted:
        """On disk when this returns; raises why not."""
        size = len(submission.specs)
        if self._jobs_waiting + size > WAITING_JOBS:
            raise Unavailable("too many submissions wait to be written; send it again in a moment")
        self._jobs_waiting += size
        assert self._loop is not None
        future: asyncio.Future[Accepted] = self._loop.create_future()
        self._queue.put((submission, future))
        try:
            return await future
        finally:
            self._jobs_waiting -= size

    def _run(self) -> None:
        ended = False
        while not ended:
            batch: list[_Waiting] = []
            one = self._queue.get()
            jobs = 0
            while one is not None:
                batch.append(one)
                jobs += len(one[0].specs)
                if jobs >= BATCH_JOBS:
                    break
                try:
                    one = self._queue.get_nowait()
                except queue.Empty:
                    break
            ended = one is None
            if batch:
                self._write(batch)

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
            self._loop.call_soon_threadsafe(_resolve, futures, answers)


def _resolve(futures: Sequence[asyncio.Future[Accepted]], answers: Sequence[Accepted | BaseException]) -> None:
    for future, answer in zip(futures, answers, strict=True):
        if future.done():  # its client has gone; the job is there all the same, and its key finds it
            continue
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)
