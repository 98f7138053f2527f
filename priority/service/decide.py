"""A plan, turned into moves: one transaction, in which each part holds only if the truth still allows it.

The plan was made from memory, without a lock; meanwhile a user may have killed any task in it. So the truth is read
again in the transaction, and what does not fit it any more is left out: the launch of a task that waits no longer, a
gang of which one member is gone, a victim whose preemptor is gone (nothing is killed for nothing), a victim
that is on its way out already. Tasks that were found otherwise than remembered are handed back to the mirror.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from priority.job import Job
from priority.lifecycle import Event
from priority.plan import Plan
from priority.ports import Writer
from priority.reason import Reason
from priority.records import PreemptionRecord, Side, TaskChange
from priority.service.ledger import Ledger
from priority.service.mirror import Mirror
from priority.task import DYING, State, Task

REASONS_AT_ONCE = 200
"""At most so many reasons for waiting are written down in one spell; the rest follow in later ones."""

SPELL_US = 250_000
"""How long a spell is: a thousand tasks that wait are told why within about a second, and a storm is not slowed."""

_SAME_REASON_EVERY_US = 5_000_000
"""The numbers in a reason may change with every round; they are written down no more often than this."""


@dataclass(slots=True)
class Decided:
    """What of a plan was written down."""

    changed: dict[str, Task]
    """Every task that is otherwise now, and those that memory had wrong."""
    gone: set[str]
    """Tasks that memory has and the truth has not."""
    launches: list[str]
    stops: list[str]
    """What this plan has taken, and what a user has in the meantime: whoever learns of it sends the stop."""
    last_event: int | None
    whole: bool
    """Whether all of the plan holds; else another one is due."""
    preemptions: list[PreemptionRecord]
    """That were written down."""


@dataclass(slots=True)
class Telling:
    """Which reasons for waiting were written down when, so that waiting costs no writes."""

    told_us: dict[str, int] = field(default_factory=dict)
    left: bool = False
    """Whether there is something left to tell in a later spell."""
    next_us: int = 0
    """When the next spell begins."""
    again_us: int | None = None
    """When the first of those may be told anew whose reason has changed too soon; None: there are none."""
    _said: int = 0

    def due_us(self) -> int | None:
        """When there is something to tell, even if nothing is decided until then."""
        moments = [self.next_us] if self.left else []
        return min(moments + ([] if self.again_us is None else [self.again_us]), default=None)

    def choose(self, reasons: Iterable[tuple[str, Reason]], mirror: Mirror, now_us: int) -> dict[str, Reason]:
        """Those that are new, and some of those whose numbers have changed: at most `REASONS_AT_ONCE` in a spell."""
        chosen: dict[str, Reason] = {}
        self.left, self.again_us = False, None
        if now_us >= self.next_us:
            self.next_us, self._said = now_us + SPELL_US, 0
        for id, reason in reasons:
            task = mirror.tasks.get(id)
            if task is None or task.state is not State.PENDING:
                continue
            stored = task.reason
            if stored is not None and stored.code == reason.code:
                if stored.message == reason.message:
                    continue
                again_us = self.told_us.get(id, 0) + _SAME_REASON_EVERY_US
                if now_us < again_us <= now_us + _SAME_REASON_EVERY_US:
                    self.again_us = min(again_us, self.again_us or again_us)
                    continue
            if self._said == REASONS_AT_ONCE:
                self.left = True
                break
            chosen[id] = reason
            self._said += 1
        for id in chosen:
            self.told_us[id] = now_us
        return chosen

    def forget(self, mirror: Mirror) -> None:
        """Only what still waits is kept."""
        if len(self.told_us) > 2 * len(mirror.tasks) + 1000:
            self.told_us = {id: at_us for id, at_us in self.told_us.items() if id in mirror.tasks}


def wait_reasons(plan: Plan, mirror: Mirror) -> Iterable[tuple[str, Reason]]:
    """Why each task that does not start now does not."""
    victims: dict[str, list[str]] = {}
    for preemption in plan.preempt:
        victims.setdefault(preemption.preemptor, []).append(preemption.task)
    for placement in plan.reserve:
        taken = victims.get(placement.task, [])
        yield placement.task, _reserved(placement.node, taken, mirror)
    for waiting in plan.wait:
        yield waiting.task, waiting.reason


def _reserved(node: str, victims: list[str], mirror: Mirror) -> Reason:
    if not victims:
        return Reason("reserved", f"starts on {node} once dying tasks have left it", {"node": node})
    jobs = sorted({mirror.jobs[mirror.tasks[victim].job].spec.key for victim in victims})
    several, have = (f"{len(victims)} tasks", "have") if len(victims) > 1 else ("a task", "has")
    message = f"starts on {node} once {several} of {_some(jobs)} that it preempted {have} left it"
    return Reason("reserved", message, {"node": node, "victims": sorted(victims)[:100]})


def decide(
    writer: Writer, plan: Plan, mirror: Mirror, now_us: int, *, epoch: int | None, reasons: dict[str, Reason]
) -> Decided:
    """Write the plan down as far as the truth allows it, and `reasons` for waiting beside it."""
    ids = [placement.task for placement in plan.launch]
    ids += [id for one in plan.preempt for id in (one.task, one.preemptor)]
    truth = writer.tasks_of(set(ids))
    ledger = Ledger(writer, now_us, truth.values(), mirror.jobs, epoch=epoch)
    broken = _broken_gangs(plan, truth, mirror)
    waiting = {id: task for id, task in truth.items() if _waits(task) and task.job not in broken}
    for placement in plan.launch:
        if placement.task in waiting:
            agent = mirror.nodes[placement.node].agent
            ledger.move(placement.task, Event.PLACE, node=placement.node, agent=agent, since_us=now_us, reason=None)
    written: list[PreemptionRecord] = []
    for one in plan.preempt:
        victim, preemptor = truth.get(one.task), waiting.get(one.preemptor)
        if victim is None or preemptor is None:
            continue
        record = _record(victim, preemptor, mirror, now_us)
        if ledger.preempt(record, _preempted(record, victim, preemptor, mirror)) is not None:
            written.append(record)
    last_event = ledger.write()
    stale = {id: task for id, task in truth.items() if id in mirror.tasks and mirror.tasks[id] != task}
    changed = stale | ledger.changed
    changed |= _tell(writer, {id: reason for id, reason in reasons.items() if id not in changed}, mirror)
    gone = {id for id in ids if id not in truth}
    whole = len(ledger.launches) + len(ledger.stops) == len(plan.launch) + len(plan.preempt)
    stops = ledger.stops + [id for id, task in stale.items() if task.state in DYING]
    return Decided(changed, gone, ledger.launches, stops, last_event, whole, written)


def _waits(task: Task) -> bool:
    return task.state is State.PENDING and task.after is None


def _broken_gangs(plan: Plan, truth: dict[str, Task], mirror: Mirror) -> set[str]:
    """Jobs whose instances start together, of which one that the plan starts does not wait any more."""
    ids = [placement.task for placement in plan.launch] + [one.preemptor for one in plan.preempt]
    broken = set()
    for id in ids:
        job = mirror.jobs[mirror.tasks[id].job]
        task = truth.get(id)
        if job.spec.gang and (task is None or not _waits(task)):
            broken.add(job.uid)
    return broken


def _record(victim: Task, preemptor: Task, mirror: Mirror, now_us: int) -> PreemptionRecord:
    taker, giver = mirror.jobs[preemptor.job], mirror.jobs[victim.job]
    # exact in integers: milli-cores times microseconds
    lost = giver.spec.resources.get("cpus", 0) * max(0, now_us - victim.since_us)
    rule: Literal["tier", "priority"] = "tier" if taker.spec.tier != giver.spec.tier else "priority"
    return PreemptionRecord(now_us, side_of(victim, giver), side_of(preemptor, taker), victim.node or "", rule, lost)


def side_of(task: Task, job: Job) -> Side:
    """A task's side of a preemption."""
    spec = job.spec
    return Side(task.id, job.uid, spec.role, spec.tier, spec.name, job.user)


def _preempted(record: PreemptionRecord, victim: Task, preemptor: Task, mirror: Mirror) -> Reason:
    taker = record.preemptor
    higher = f"{taker.tier} goes before {record.victim.tier}"
    law = higher if record.rule == "tier" else "it has a higher priority in the same role"
    lost_s = record.lost / 1e9
    details: dict[str, Any] = {
        "preemptor": taker.task,
        "preemptor_job": taker.key,
        "preemptor_user": taker.user,
        "rule": record.rule,
        "node": victim.node,
        "at_us": record.at_us,
        "cpu_s_lost": lost_s,
    }
    message = (
        f"its room on {victim.node} was taken for {instance_of(mirror.jobs[preemptor.job], preemptor)}: {law}; "
        f"{lost_s:.1f} cpu-seconds of work were lost"
    )
    return Reason("preempted", message, details)


def instance_of(job: Job, task: Task) -> str:
    """For people: `physics/prod/reco`, and which instance if it has several."""
    return f"{job.spec.key}[{task.instance}]" if job.spec.instances > 1 else job.spec.key


def _tell(writer: Writer, reasons: dict[str, Reason], mirror: Mirror) -> dict[str, Task]:
    """Reasons for waiting. Whether a task still waits is the compare-and-set's to see: if not, it has a better one."""
    if not reasons:
        return {}
    told = writer.change_tasks([TaskChange(id, State.PENDING, {"reason": reason}) for id, reason in reasons.items()])
    return {id: replace(mirror.tasks[id], reason=reasons[id]) for id in told}


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
