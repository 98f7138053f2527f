"""What is sent to the nodes, and what is sent again.

An act is sent only after the commit that calls for it, and best effort: a message may be lost, and the process may
die between the two. So each act is remembered until its task is seen to have moved on, and sent again when that
takes too long. Nodes know tasks by their ids, so twice is once.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from priority.orders import Launch, Stop
from priority.service.mirror import Mirror
from priority.service.parts import Parts
from priority.task import DYING, UNCONFIRMED, State, Task

ACTS_A_BATCH = 1000
"""Launches or stops in one message to the backend."""


class Acts:
    """Of one leadership: it sends in the name of `epoch` what the mirror says is to be done."""

    def __init__(
        self, parts: Parts, mirror: Mirror, epoch: int, fail_at: Callable[[str], None], batch: int = ACTS_A_BATCH
    ) -> None:
        self._parts = parts
        self._mirror = mirror
        self._epoch = epoch
        self._fail_at = fail_at
        self._batch = batch
        self._resend_us = round(parts.settings.resend_s * 1e6)
        self._due: list[tuple[int, str]] = []
        self._due_us: dict[str, int] = {}
        """Of each task, which entry of the heap counts."""
        self._strays_us: dict[str, int] = {}

    def launch(self, ids: Sequence[str], now_us: int) -> None:
        """Send these tasks to their nodes, if they are starting still."""
        batch = [self._launch_of(self._mirror.tasks[id]) for id in ids if self._is(id, State.STARTING)]
        for start in range(0, len(batch), self._batch):
            self._parts.backend.launch(batch[start : start + self._batch])
            self._fail_at("mid-launch")
        for launch in batch:
            self._expect(launch.task, now_us)

    def stop(self, ids: Sequence[str], now_us: int) -> None:
        """Have these tasks ended, with the notice that their job gives them, if they are dying still."""
        batch = [self._stop_of(self._mirror.tasks[id]) for id in dict.fromkeys(ids) if self._is(id, *DYING)]
        for start in range(0, len(batch), self._batch):
            self._parts.backend.stop(batch[start : start + self._batch])
        for stop in batch:
            self._expect(stop.task, now_us, stop.notice_s)

    def stop_strays(self, strays: Sequence[tuple[str, str]], now_us: int) -> None:
        """(task, node): what runs against the truth ends at once, as another attempt may be running.

        A node answers a stop with all it knows of the task, so an answer must not be answered again.
        """
        batch = []
        for id, node in strays:
            if now_us - self._strays_us.get(id, now_us - self._resend_us) >= self._resend_us:
                self._strays_us[id] = now_us
                batch.append(Stop(task=id, node=node, epoch=self._epoch, signal="TERM", notice_s=0.0))
        if batch:
            self._parts.backend.stop(batch)

    def expect(self, tasks: Sequence[Task], now_us: int) -> None:
        """These are starting, and whether a former leader has sent them is not known: give them time, then send."""
        for task in tasks:
            if task.id not in self._due_us:
                self._expect(task.id, now_us)

    def send_again(self, now_us: int) -> None:
        """What was not confirmed in time."""
        due: list[str] = []
        while self._due and self._due[0][0] <= now_us:
            due_us, id = heapq.heappop(self._due)
            if self._due_us.get(id) == due_us:
                del self._due_us[id]
                if self._is(id, *UNCONFIRMED):
                    due.append(id)
        self.launch(due, now_us)
        self.stop(due, now_us)

    def next_us(self) -> int | None:
        """When something is to be sent again at the earliest."""
        return self._due[0][0] if self._due else None

    def forget(self, now_us: int) -> None:
        """Only what has not ended is remembered."""
        self._due_us = {id: due_us for id, due_us in self._due_us.items() if id in self._mirror.tasks}
        self._strays_us = {id: at_us for id, at_us in self._strays_us.items() if now_us - at_us < self._resend_us}

    def step_back(self, back_us: int) -> None:
        """The clock was set back by so much."""
        self._due = [(due_us - back_us, id) for due_us, id in self._due]
        self._due_us = {id: due_us - back_us for id, due_us in self._due_us.items()}
        self._strays_us = {}

    def _expect(self, id: str, now_us: int, notice_s: float = 0.0) -> None:
        """To be confirmed in time; what a stop needs is the notice longer."""
        due_us = now_us + self._resend_us + round(notice_s * 1e6)
        self._due_us[id] = due_us
        heapq.heappush(self._due, (due_us, id))

    def _is(self, id: str, *states: State) -> bool:
        task = self._mirror.tasks.get(id)
        return task is not None and task.state in states

    def _launch_of(self, task: Task) -> Launch:
        job = self._mirror.jobs[task.job]
        return Launch(
            task=task.id,
            job=job.spec.key,
            node=task.node or "",
            agent=task.agent or "",
            epoch=self._epoch,
            instance=task.instance,
            attempt=task.attempt,
            spec=job.spec,
        )

    def _stop_of(self, task: Task) -> Stop:
        spec = self._mirror.jobs[task.job].spec
        preempted = task.state is State.PREEMPTING
        notice_s = spec.preempt.notice if preempted else spec.kill_grace
        return Stop(
            task=task.id,
            node=task.node or "",
            epoch=self._epoch,
            signal=spec.preempt.signal if preempted else "TERM",
            notice_s=min(notice_s, self._parts.settings.notice_limit_s),
        )
