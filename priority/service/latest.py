"""Until when a task waits at the latest, from the run times that running tasks may not exceed.

A running task with a `max_runtime` has ended by its start + `max_runtime` + `kill_grace`. So the plan of this moment is
carried out, and then the engine decides again and again, each time that something must have ended: where it puts
the task, that is when. What is then to be tried again, what was displaced and what waits already are decided with it,
as they will be; so the answer holds if nothing new comes in the meantime and no node is lost. (A task that ends sooner
than it must can, rarely, let another one in between.)
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Collection
from dataclasses import replace

from priority.claim import PENDING, RUNS, Claim
from priority.job import JobSpec
from priority.plan import Plan, make_plan
from priority.service.ledger import next_id
from priority.service.mirror import Mirror
from priority.task import State

ROUNDS_MAX = 200
"""So often the engine is asked at most: of more ends than that, several count as one, the last of them."""

ROUNDS_S = 3.0
"""Nor for longer than this: what was not found out by then is not known."""

CLAIM_RUNNING = State.RUNNING.value


class Latest:
    """Over a mirror and its plan, which it carries out in the mirror's snapshot: that is of no use afterwards."""

    def __init__(
        self, mirror: Mirror, plan: Plan, notice_limit_s: float, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._mirror = mirror
        self._snapshot = mirror.snapshot
        self._limit_s = notice_limit_s
        self._now_s = now_s
        self._ends: list[tuple[int, str]] = []
        """A heap: when what runs must have ended."""
        self._failures: dict[str, int] = {}
        """Of attempts that are yet to come."""
        self._reserved = self._carry_out(plan)
        self._leave()
        for claim in list(self._snapshot.tasks()):
            task = mirror.tasks.get(claim.id)
            if claim.state in RUNS and task is not None and task.state is not State.PENDING:
                self._expect(claim, self._snapshot.now_us if task.started_us is None else task.started_us)

    def reserved_us(self, id: str) -> int:
        """Until when a task that the plan has reserved room for waits for it: notice and grace are over then."""
        return self._reserved[id]

    def waiting_us(self, ids: Collection[str]) -> dict[str, int]:
        """Of tasks that wait: until when. Those that are missing may wait for ever, as far as is known."""
        found: dict[str, int] = {}
        began_s, several = self._now_s(), max(1, len(self._ends) // ROUNDS_MAX)
        left = set(ids)
        while left and self._ends and self._now_s() - began_s < ROUNDS_S:
            self._let_end(several)
            started = self._carry_out(make_plan(self._snapshot))
            found |= {id: started[id] for id in left & started.keys()}
            left -= started.keys()
        return found

    def _carry_out(self, plan: Plan) -> dict[str, int]:
        """Place what the plan places, requeue whom it displaces; when each that it places has started at the latest."""
        snapshot, now_us = self._snapshot, self._snapshot.now_us
        leaving = self._leaving(plan)
        for one in plan.preempt:
            claim = snapshot.task(one.task)
            assert claim is not None
            snapshot.drop_task(one.task)
            if self._spec(claim).preempt.action == "requeue":
                self._requeue(claim, now_us, self._failed(claim))
        started = {one.task: now_us for one in plan.launch}
        started |= {one.task: now_us + leaving.get(one.node, 0) for one in plan.reserve}
        for placed in (*plan.launch, *plan.reserve):
            snapshot.move_task(placed.task, state=CLAIM_RUNNING, node=placed.node, since_us=now_us)
            claim = snapshot.task(placed.task)
            assert claim is not None
            self._expect(claim, started[placed.task])
        return started

    def _leaving(self, plan: Plan) -> dict[str, int]:
        """Of each node: the longest notice or grace of what leaves it."""
        snapshot, longest = self._snapshot, dict[str, int]()
        leaving = [claim for one in plan.preempt if (claim := snapshot.task(one.task)) is not None]
        for claim in (*leaving, *snapshot.dying()):
            spec = self._spec(claim)
            notice_s = spec.kill_grace if claim.state == State.KILLING else spec.preempt.notice
            node = claim.node or ""
            longest[node] = max(longest.get(node, 0), round(min(notice_s, self._limit_s) * 1e6))
        return longest

    def _leave(self) -> None:
        """What is on its way out is gone, and those that waited for that, or for their back-off, are there."""
        for claim in list(self._snapshot.dying()):
            self._snapshot.drop_task(claim.id)
        for task in self._mirror.tasks.values():
            if task.state is State.PENDING and (task.after or task.not_before_us > self._snapshot.now_us):
                self._snapshot.put_task(self._mirror.claim_of(task))

    def _expect(self, claim: Claim, start_us: int) -> None:
        spec = self._spec(claim)
        if spec.max_runtime is not None:
            lasts_s = spec.max_runtime + min(spec.kill_grace, self._limit_s)
            heapq.heappush(self._ends, (max(start_us + round(lasts_s * 1e6), self._snapshot.now_us), claim.id))

    def _let_end(self, several: int) -> None:
        """The next end, or the next several, and all that are at the same moment."""
        while self._ends and (several > 0 or self._ends[0][0] <= self._snapshot.now_us):
            at_us, id = heapq.heappop(self._ends)
            several -= 1
            self._snapshot.now_us = at_us
            claim = self._snapshot.task(id)
            if claim is None:
                continue  # it was displaced before
            self._snapshot.drop_task(id)
            failures, spec = self._failed(claim) + 1, self._spec(claim)
            if spec.max_failures < 0 or failures < spec.max_failures:
                self._requeue(claim, at_us, failures)

    def _requeue(self, claim: Claim, at_us: int, failures: int) -> None:
        following = next_id(claim.id) or f"{claim.id}+"
        self._failures[following] = failures
        again = replace(claim, id=following, state=PENDING, node=None, since_us=at_us, kept_for=None)
        self._snapshot.put_task(again)

    def _failed(self, claim: Claim) -> int:
        task = self._mirror.tasks.get(claim.id)
        return task.failures if task is not None else self._failures.get(claim.id, 0)

    def _spec(self, claim: Claim) -> JobSpec:
        return self._mirror.jobs[claim.job].spec
