"""Why a job waits, or why it was killed: the stored facts in words, the sum of them first.

Nothing is found out here: every reason was written down by whoever decided (the scheduler, a user's verb, the node
that reported), at the moment of the decision.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from priority.borrow import borrowed
from priority.job import Job, JobState
from priority.node import NodeState
from priority.ports import Reader
from priority.reason import Reason
from priority.records import Page, User
from priority.resources import Resources, show, total
from priority.schedule import show_moment
from priority.service.access import may
from priority.service.finding import attempts_of, find_job, find_task
from priority.service.ledger import parts_of
from priority.service.parts import Parts
from priority.task import ACTIVE, DYING, State, Task, ranges

TASKS_MAX = 2000
"""Of a larger job, the attempts of its first instances are told one by one; where all of them are is counted by the
store, and the summary says how many are not among those that are told."""

LINES_MAX = 50

_RUNS = frozenset({State.STARTING, State.RUNNING})


@dataclass(frozen=True, slots=True)
class Line:
    """About one task, or about several that are alike."""

    task: str
    instance: int
    attempt: int
    state: str
    message: str
    alike: int = 1
    """How many tasks of the job this is true of."""
    instances: str = ""
    """Their instances, as `kill -i` takes them: `0,2-5`."""
    attempts: str = ""
    """Which of their attempts, written alike."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """The reason with its numbers, in plain JSON."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """`summary` is one line that a person understands."""

    job: str
    """`role/tier/name`."""
    uid: str
    summary: str
    lines: tuple[Line, ...]


def explain(parts: Parts, actor: User, ref: str) -> Explanation:
    """Of a job (uid or `role/tier/name`) or of one task (its id): why it waits, runs or ended, by whom, at what cost.
    `NotFound` if there is none or no grant.
    """
    now_us = parts.clock.now_us()
    with parts.store.read() as reader:
        if parts_of(ref) is not None:
            task, job = find_task(reader, actor, ref)
            tasks = attempts_of(reader, job.uid, task.instance)
            telling = _Telling(job, tasks, now_us)
            lines = [telling.line(one) for one in tasks if one.attempt <= task.attempt][::-1]
            return Explanation(job.spec.key, job.uid, f"{telling.name(task)}: {lines[0].message}", tuple(lines))
        job = find_job(reader, actor, ref)
        tasks, more = reader.tasks(job.uid, Page(TASKS_MAX))
        counts = reader.standing([job.uid]).get(job.uid, {}) if more is not None else None
        lent = _borrowed(parts, reader, actor, job) if any(task.state in _RUNS for task in tasks) else ""
    telling = _Telling(job, tasks, now_us, counts)
    run = "" if job.tick_us is None else f" (run of the cron job for {show_moment(job.tick_us)})"
    return Explanation(job.spec.key, job.uid, telling.summary() + lent + run, tuple(telling.lines()))


def _borrowed(parts: Parts, reader: Reader, actor: User, job: Job) -> str:
    """That tasks of its tier run on room that is guaranteed to others, who may have it back."""
    tier, tiers = job.spec.tier, parts.tiers
    if not tiers[tier].preemptible:
        return ""
    guarantees = {(name, its): quota for name, role in reader.roles().items() for its, quota in role.quota.items()}
    held: dict[tuple[str, str], Resources] = {}
    for (role, its, _), use in reader.holding().items():
        held[role, its] = total([held.get((role, its), {}), use])
    nodes = [record for record in reader.nodes() if record.node.state is NodeState.UP and not record.drained]
    size = total(record.node.capacity for record in nodes)
    guarantees = {owner: quota for owner, quota in guarantees.items() if owner[1] in tiers}
    held = {owner: use for owner, use in held.items() if owner[1] in tiers}
    found = borrowed(tier, tiers, size, guarantees, held)
    if found is None:
        return ""
    known = [f"{role}/{its} ({show(idle)} idle)" for (role, its), idle in found.lenders if may(actor, role)]
    others = _count(len(found.lenders) - len(known), "other role") if len(found.lenders) > len(known) else ""
    whose = ", ".join([*known[:3], *([f"{_count(len(known) - 3, 'role')} more"] if len(known) > 3 else [])])
    lenders = " and ".join(part for part in (whose, others) if part)
    return (
        f"; {tier} runs on room that is guaranteed to {lenders} but not used: {show(found.amounts)} may be taken back"
    )


class _Telling:
    """One job's facts, put into words."""

    def __init__(self, job: Job, tasks: Sequence[Task], now_us: int, counts: Mapping[State, int] | None = None) -> None:
        """`counts`: in which states its active instances are, if `tasks` are not all of its tasks."""
        self._job = job
        self._now_us = now_us
        self._counts = counts
        self._tasks = {task.id: task for task in tasks}
        self._sibling = next(
            (task.reason for task in tasks if task.state is State.PENDING and task.reason and not task.after), None
        )

    def name(self, task: Task) -> str:
        """`role/tier/name[instance]`."""
        return f"{self._job.spec.key}[{task.instance}]"

    def line(self, task: Task) -> Line:
        """About one task."""
        reason = self._reason(task)
        details = reason.plain() if reason is not None else {}
        if task.not_before_us > self._now_us and task.state is State.PENDING:
            details = {**details, "not_before_us": task.not_before_us}
        message = self.message(task)
        return Line(
            task.id,
            task.instance,
            task.attempt,
            task.state.value,
            message,
            1,
            str(task.instance),
            str(task.attempt),
            details,
        )

    def lines(self) -> list[Line]:
        """What is alike stands once; what has not ended first, then what ended otherwise than by finishing."""
        alike: dict[tuple[str, str], list[Task]] = {}
        for task in self._tasks.values():
            if task.state is not State.FINISHED and not (task.reason and task.reason.code == "withdrawn"):
                what = _taker(task) if task.state is State.PREEMPTED else ""
                alike.setdefault((task.state.value, what or self.message(task)), []).append(task)
        order = sorted(alike.values(), key=lambda tasks: (tasks[0].state not in ACTIVE, -len(tasks), tasks[0].instance))
        found = []
        for tasks in order[:LINES_MAX]:
            whose = ranges(task.instance for task in tasks)
            tries = ranges(task.attempt for task in tasks)
            line = replace(self.line(tasks[0]), alike=len(tasks), instances=whose, attempts=tries)
            if len(tasks) > 1 and _taker(tasks[0]):
                line = replace(line, message=f"{line.state}: {_lost_to(tasks)}")
            found.append(line)
        return found

    def message(self, task: Task) -> str:
        """Why this attempt is where it is."""
        why = task.reason.message if task.reason is not None else ""
        if task.state is State.PENDING:
            backs_off = task.not_before_us > self._now_us
            return self._waits(task) + ("" if task.after or backs_off else self._before(task))
        if task.state is State.STARTING:
            return f"is starting on {task.node}{self._before(task)}"
        if task.state is State.RUNNING:
            return f"runs on {task.node}{self._before(task)}"
        if task.state in DYING:
            return f"is being stopped on {task.node}: {why}"
        if task.state is State.FINISHED:
            return f"finished on {task.node}"
        return f"{task.state}: {why}" if why else str(task.state)

    def summary(self) -> str:
        """One line about the whole job."""
        job = self._job
        parts = [self._state_of_job(), self._untold(), self._why_waits(), self._why_stopped(), self._cost()]
        return f"{job.spec.key}: " + "; ".join(part for part in parts if part)

    def _reason(self, task: Task) -> Reason | None:
        if task.reason is None and task.state is State.PENDING:
            return self._sibling
        return task.reason

    def _waits(self, task: Task) -> str:
        former = self._tasks.get(task.after) if task.after else None
        if former is not None:
            why = f": {former.reason.message}" if former.reason else ""
            return f"waits until its former attempt has ended on {former.node}{why}"
        if task.not_before_us > self._now_us:
            left_s = (task.not_before_us - self._now_us) / 1e6
            least_s = task.reason.details.get("tier_s") if task.reason is not None else None
            why = (
                f" ({self._job.spec.tier} waits {least_s:g} s at least, twice as long each time more)"
                if least_s
                else ""
            )
            return f"waits {left_s:.0f} s more after {_count(task.failures, 'failed attempt')}{why}"
        reason = self._reason(task)
        if reason is None or reason.code in ("preempted", "backoff", "restarted"):
            return "waits for the scheduler's next round"
        return f"waits: {reason.message}"

    def _before(self, task: Task) -> str:
        told = []
        if task.preemptions:
            told.append(f"preempted {_times(task.preemptions)}")
        if task.failures:
            told.append(f"failed {_times(task.failures)}")
        return f" ({' and '.join(told)} before)" if told else ""

    def _state_of_job(self) -> str:
        job = self._job
        ended = [
            f"{count} {word}"
            for count, word in ((job.finished, "finished"), (job.failed, "failed"), (job.killed, "killed"))
            if count
        ]
        if job.state is JobState.ENDED:
            return "has ended: " + (", ".join(ended) or "nothing ran")
        states = Counter(_WORDS[task.state] for task in self._leading())
        if self._counts is not None:
            states = Counter({_WORDS[state]: count for state, count in self._counts.items()})
        active = [f"{count} {word}" for word, count in states.most_common()]
        return f"of {_count(job.spec.instances, 'instance')} " + ", ".join(active + ended)

    def _untold(self) -> str:
        """That what follows, and the lines, are of some of its instances only."""
        if self._counts is None:
            return ""
        told = len({task.instance for task in self._tasks.values()})
        rest = max(0, self._job.spec.instances - told)
        more = f"{rest} more are not listed" if rest else "later attempts are not listed"
        return f"what follows is of its first {_count(told, 'instance')}, {more}"

    def _leading(self) -> Iterable[Task]:
        """Of each instance that has not ended, the attempt that says where it is: the dying one, if there is one."""
        chosen: dict[int, Task] = {}
        for task in self._tasks.values():
            if task.state in ACTIVE:
                chosen.setdefault(task.instance, task)
        return chosen.values()

    def _why_waits(self) -> str:
        waiting = Counter(self._waits(task) for task in self._tasks.values() if task.state is State.PENDING)
        if not waiting:
            return ""
        message, count = waiting.most_common(1)[0]
        if len(waiting) == 1:
            return message if count == 1 else message.replace("waits", "each waits", 1)
        return f"{count} of {sum(waiting.values())} that wait: {message.removeprefix('waits: ')}"

    def _why_stopped(self) -> str:
        ended = [task for task in self._tasks.values() if task.state in (State.KILLED, State.FAILED, State.KILLING)]
        reasons = Counter(task.reason.message for task in ended if task.reason and task.reason.code != "withdrawn")
        return ", ".join(f"{message} ({_count(count, 'task')})" for message, count in reasons.most_common(2))

    def _cost(self) -> str:
        victims = [
            task for task in self._tasks.values() if task.state in (State.PREEMPTED, State.PREEMPTING) and task.reason
        ]
        takers = [
            task.reason.details for task in victims if task.reason is not None and task.reason.code == "preempted"
        ]
        if not takers:
            return ""
        lost_s = sum(float(taker.get("cpu_s_lost", 0.0)) for taker in takers)
        last = max(takers, key=lambda taker: int(taker.get("at_us", 0)))
        whose = f"{last.get('preemptor_job')} of {last.get('preemptor_user')}"
        return f"preempted {_times(len(takers))}, last for {whose}, {lost_s:.1f} cpu-seconds of work lost in all"


def _taker(task: Task) -> str:
    """Which job took its room, if one did."""
    reason = task.reason
    return str(reason.details.get("preemptor_job", "")) if reason is not None and reason.code == "preempted" else ""


def _lost_to(tasks: Sequence[Task]) -> str:
    """Of several victims of one job."""
    told = [task.reason.details for task in tasks if task.reason is not None]
    lost_s = sum(float(one.get("cpu_s_lost", 0.0)) for one in told)
    whose = f"{_taker(tasks[0])} of {told[0].get('preemptor_user')}"
    return f"{len(tasks)} attempts gave way to {whose}; {lost_s:.1f} cpu-seconds of work were lost"


_WORDS: Mapping[State, str] = {
    State.PENDING: "waiting",
    State.STARTING: "starting",
    State.RUNNING: "running",
    State.PREEMPTING: "being preempted",
    State.KILLING: "being killed",
}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")
