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

from priority.errors import PriorityError, Unavailable
from priority.service.jobs import Accepted, Submission

BATCH_JOBS = 2_000
"""So many jobs at most go into one transaction, so that nobody waits long behind a flood."""

WAITING_JOBS = 20_000
"""So many jobs at most wait for it: beyond that the answer is 503 at once."""

_log = logging.getLogger(__name__)

Submit = Callable[[Sequence[Submission]], list[Accepted | PriorityError]]
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
        answers = self._answers([submission for submission, _ in batch])
        futures = [future for _, future in batch]
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(_resolve, futures, answers)
        except RuntimeError:  # the loop has ended: nobody waits any more
            return

    def _answers(self, submissions: list[Submission]) -> Sequence[Accepted | BaseException]:
        try:
            return self._submit(submissions)
        except PriorityError as error:
            return [error] * len(submissions)
        except Exception as error:
            _log.exception("a batch of %d submissions failed", len(submissions))
            if len(submissions) == 1:
                return [error]
            # One bad request must not fail its neighbours: each alone, then.
            return [answer for one in submissions for answer in self._answers([one])]


def _resolve(futures: Sequence[asyncio.Future[Accepted]], answers: Sequence[Accepted | BaseException]) -> None:
    for future, answer in zip(futures, answers, strict=True):
        if future.done():  # its client has gone; the job is there all the same, and its key finds it
            continue
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)
