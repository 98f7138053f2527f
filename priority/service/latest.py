"""Until when a task waits at the latest, from the run times that running tasks may not exceed.

A running task with a `max_runtime` has ended by its start + `max_runtime` + `kill_grace`. So: let the plan of this
moment be carried out; then ask the engine itself where the task would be if all that must have ended by some moment
had, and find the first such moment. What is then to be tried again waits with the others; where the engine puts it
first, the task waits on. The answer holds if nothing that goes before the task comes in the meantime and no node is
lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from priority.claim import DYING, PENDING, RUNS, Claim
from priority.job import Job, JobSpec
from priority.plan import Plan, make_plan
from priority.service.ledger import next_id
from priority.service.mirror import Mirror
from priority.task import State, Task

PROBES_MAX = 48
"""So often the engine is asked at most, and not for longer than `PROBES_S`: what was not found out is then told later
than it is, or not at all."""

PROBES_S = 3.0


@dataclass(frozen=True, slots=True)
class _End:
    """A task that must have ended by then, and its next attempt if there will be one."""

    at_us: int
    claim: Claim
    successor: Claim | None


class Latest:
    """Over a mirror and its plan, which it carries out in the mirror's snapshot: that is of no use afterwards."""

    def __init__(
        self, mirror: Mirror, plan: Plan, notice_limit_s: float, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._mirror = mirror
        self._snapshot = mirror.snapshot
        self._limit_s = notice_limit_s
        self._now_us = mirror.snapshot.now_us
        self._now_s = now_s
        self._ends: list[_End] = []
        self._gone = 0
        """How many of the ends have happened in the snapshot."""
        self._notices = self._notice_us(plan)
        self._carry_out(plan)

    def reserved_us(self, id: str) -> int:
        """Until when a task that the plan has reserved room for waits for it: notice and grace are over then."""
        return self._now_us + self._notices.get(id, 0)

    def waiting_us(self, ids: Collection[str]) -> dict[str, int]:
        """Of tasks that wait: until when. Those that are missing may wait for ever, as far as is known."""
        found: dict[str, int] = {}
        began_s, probes = self._now_s(), 0

        def narrow(low: int, high: int, late: set[str]) -> None:
            """`late` start once all up to `high` have ended, and not yet after `low` of them."""
            nonlocal probes
            while late and high - low > 1 and probes < PROBES_MAX and self._now_s() - began_s < PROBES_S:
                middle = (low + high) // 2
                probes += 1
                early = self._placed(middle, late)
                narrow(low, middle, early)
                low, late = middle, late - early
            found.update(dict.fromkeys(late, self._ends[high - 1].at_us + self._delay_us))

        if self._ends:
            last = len(self._ends)
            narrow(0, last, self._placed(last, set(ids)))
        return found

    # --- the plan of this moment, carried out ---

    def _notice_us(self, plan: Plan) -> dict[str, int]:
        """Of each task with reserved room: the longest notice or grace of what leaves its node."""
        leaving: dict[str, int] = {}
        victims = [(one.node, one.task, True) for one in plan.preempt]
        dying = [(one.node or "", one.id, one.state == State.PREEMPTING) for one in self._snapshot.dying()]
        for node, id, preempted in victims + dying:
            spec = self._spec(id)
            notice_s = min(spec.preempt.notice if preempted else spec.kill_grace, self._limit_s)
            leaving[node] = max(leaving.get(node, 0), round(notice_s * 1e6))
        self._delay_us = max(leaving.values(), default=0)
        return {one.task: leaving.get(one.node, 0) for one in plan.reserve}

    def _carry_out(self, plan: Plan) -> None:
        snapshot, mirror = self._snapshot, self._mirror
        for id in [one.task for one in plan.preempt] + [claim.id for claim in list(snapshot.dying())]:
            claim = snapshot.task(id)
            assert claim is not None
            snapshot.drop_task(id)
            victim = claim.state not in DYING
            if victim and self._spec(id).preempt.action == "requeue":
                snapshot.put_task(_next(claim, self._now_us))
        for placed in (*plan.launch, *plan.reserve):
            snapshot.move_task(placed.task, state=State.RUNNING.value, node=placed.node, since_us=self._now_us)
        for task in mirror.tasks.values():
            if task.state is State.PENDING and (task.after or task.not_before_us > self._now_us):
                snapshot.put_task(mirror.claim_of(task))
        self._ends = sorted(
            (end for claim in snapshot.tasks() if claim.state in RUNS and (end := self._end(claim)) is not None),
            key=lambda end: (end.at_us, end.claim.id),
        )

    def _end(self, claim: Claim) -> _End | None:
        task = self._mirror.tasks[claim.id]
        spec = self._spec(claim.id)
        if spec.max_runtime is None:
            return None
        start_us = task.started_us if task.started_us is not None else self.reserved_us(claim.id)
        grace_s = min(spec.kill_grace, self._limit_s)
        at_us = max(start_us + round((spec.max_runtime + grace_s) * 1e6), self._now_us)
        return _End(at_us, claim, _next(claim, at_us) if _tried_again(task, spec) else None)

    def _spec(self, id: str) -> JobSpec:
        job: Job = self._mirror.jobs[self._mirror.tasks[id].job]
        return job.spec

    # --- what if so many had ended ---

    def _placed(self, ended: int, ids: set[str]) -> set[str]:
        self._let_end(ended)
        self._snapshot.now_us = self._ends[ended - 1].at_us
        plan = make_plan(self._snapshot)
        return ids & {one.task for one in (*plan.launch, *plan.reserve)}

    def _let_end(self, ended: int) -> None:
        """Forwards or backwards, one change for each end in between."""
        snapshot = self._snapshot
        while self._gone < ended:
            end = self._ends[self._gone]
            snapshot.drop_task(end.claim.id)
            if end.successor is not None:
                snapshot.put_task(end.successor)
            self._gone += 1
        while self._gone > ended:
            self._gone -= 1
            end = self._ends[self._gone]
            if end.successor is not None:
                snapshot.drop_task(end.successor.id)
            snapshot.put_task(end.claim)


def _next(claim: Claim, at_us: int) -> Claim:
    """The next attempt, pending."""
    following = next_id(claim.id) or f"{claim.id}+"
    return replace(claim, id=following, state=PENDING, node=None, since_us=at_us, kept_for=None)


def _tried_again(task: Task, spec: JobSpec) -> bool:
    return spec.max_failures < 0 or task.failures + 1 < spec.max_failures
