"""The one door through which tasks change: `priority.lifecycle` walked inside one transaction.

Theory. A ledger is opened in a write transaction with the tasks as they are *there* (never from memory: there is
one writer at a time, so what was read stays true until the commit). `move` walks the table and notes everything
that the move entails: the next attempt, the tally of the instance, the quota given back, the event. `write`
puts all of it down; the compare-and-set of each change is the proof that nobody was in between.

An instance has at most two attempts that have not ended: one that is dying (preempting, or killing by a restart)
and its successor, pending with `after` naming it. The instance has ended when neither is left; only then does
it leave the job's `active` tally and give its part of the quota back. So a requeued, retried or restarted
instance is charged once, all the time.

A preemption is written down with the move of its victim (`preempt`). What became of the preemptor is known when it is
seen to run, or ends without that; of a victim that finished after all, nothing was lost. Both are noted by
the moves themselves, whoever makes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from priority import lifecycle
from priority.job import Job
from priority.lifecycle import Effect, Event, Move
from priority.ports import Writer
from priority.reason import Reason
from priority.records import Fate, PreemptionRecord, TaskChange
from priority.resources import Resources, times
from priority.service.reserve import given_back
from priority.task import ACTIVE, DYING, TERMINAL, State, Task, pending_us, task_id

KINDS: Mapping[State, str] = {state: f"task.{state}" for state in State} | {State.STARTING: "task.placed"}
"""What the event of a move into each state is called. A new attempt announces itself as `task.requeued`."""

_FATES: Mapping[State, Literal["killed", "lost", "preempted", "failed"]] = {
    State.KILLED: "killed",
    State.LOST: "lost",
    State.PREEMPTED: "preempted",
    State.FAILED: "failed",
}

EventRow = tuple[int, str, str | None, str | None, str | None, Mapping[str, Any]]


class Name(NamedTuple):
    """A task's id, taken apart."""

    job: str
    instance: int
    attempt: int


def parts_of(id: str) -> Name | None:
    """The inverse of `priority.task.task_id`; None if it is none of ours."""
    pieces = id.rsplit("-", 2)
    if len(pieces) != 3 or not all(piece.isascii() and piece.isdigit() for piece in pieces[1:]):
        return None
    return Name(pieces[0], int(pieces[1]), int(pieces[2]))


def next_id(id: str) -> str | None:
    """The id of the attempt that follows this one, if there ever is one."""
    name = parts_of(id)
    return task_id(name.job, name.instance, name.attempt + 1) if name else None


def others_of(ids: Iterable[str]) -> set[str]:
    """Which tasks a ledger must know beside these, to see whether an instance has ended: their successors."""
    return {following for id in ids if (following := next_id(id)) is not None}


class Ledger:
    """The moves of one transaction. `tasks` and `jobs` are the truth, read in the same transaction."""

    def __init__(
        self,
        writer: Writer,
        now_us: int,
        tasks: Iterable[Task],
        jobs: Mapping[str, Job],
        *,
        epoch: int | None = None,
        backoff: Mapping[str, float] | None = None,
    ) -> None:
        """`backoff`: seconds that failed tasks of a tier wait at least (setting backoff_s)."""
        self.now_us = now_us
        self._backoff = backoff or {}
        self.tasks: dict[str, Task] = {task.id: task for task in tasks}
        """Every task that was read, as it is after the moves so far."""
        self.changed: dict[str, Task] = {}
        """What this transaction changes or makes, as it is after it."""
        self.launches: list[str] = []
        self.stops: list[str] = []
        """What has to be sent once it is committed."""
        self._writer = writer
        self.jobs = jobs
        self._epoch = epoch
        self._new: dict[str, Task] = {}
        self._expected: dict[str, State] = {}
        self._values: dict[str, dict[str, Any]] = {}
        self._ended: dict[str, dict[State, int]] = {}
        self._events: list[EventRow] = []
        self._preemptions: list[PreemptionRecord] = []
        self._fates: dict[str, Fate] = {}
        self._spared: list[str] = []

    def move(self, id: str, event: Event, **values: Any) -> Move | None:
        """Let `event` happen to a task, `values` (fields of Task) with it; None if it changes nothing."""
        task = self.tasks.get(id)
        move = lifecycle.step(task.state, event) if task else None
        if task is None or move is None:
            return None
        if event is Event.FAILED:
            values["failures"] = task.failures + 1
        if move.state in TERMINAL:
            values.setdefault("ended_us", self.now_us)
        moved = self._set(task, state=move.state, **values)
        self._note(KINDS[move.state], moved, {"from": task.state} | self._facts(moved))
        for effect in move.effects:
            self._do(effect, event, moved)
        if move.state in TERMINAL:
            self._end(moved)
        if task.state is not State.RUNNING:
            self._note_fate(task, moved)
        return move

    def preempt(self, record: PreemptionRecord, reason: Reason) -> Move | None:
        """Take a victim's room for another, and write it down; None if it is on its way out already."""
        move = self.move(record.victim.task, Event.PREEMPT, kept_for=record.preemptor.task, reason=reason)
        if move is not None:
            self._preemptions.append(record)
        return move

    def add(self, task: Task) -> None:
        """A new attempt that no move entails: the first one of an instance, or of one that is scaled up again."""
        self.tasks[task.id] = self.changed[task.id] = self._new[task.id] = task

    def emit(self, kind: str, role: str | None, job: str | None = None, **data: Any) -> None:
        """An event that is no task's."""
        self._events.append((self.now_us, kind, role, job, None, data))

    def write(self) -> int | None:
        """Put it all down; the id of the last event, None if there was nothing to say.

        RuntimeError (and so a rollback) if a task was not as it was read: that is a bug, never a race.
        """
        writer = self._writer
        if self._new:
            writer.add_tasks(list(self._new.values()))
        if self._values:
            changes = [TaskChange(id, self._expected[id], values) for id, values in self._values.items()]
            if len(writer.change_tasks(changes)) != len(changes):
                raise RuntimeError("a task changed under a write transaction")
        if self._ended:
            self._settle()
        if self._preemptions:
            writer.add_preemptions(self._preemptions)
        if self._fates or self._spared:
            writer.settle_preemptions(self._fates, self._spared)
        return writer.emit(self._events) if self._events else None

    def _settle(self) -> None:
        deltas: dict[tuple[str, str, str], Resources] = {}
        ended = {uid: sum(counts.values()) for uid, counts in self._ended.items()}
        runs = [(self.jobs[uid], count) for uid, count in ended.items() if self.jobs[uid].tick_us is not None]
        if runs:
            deltas = given_back(self._writer, runs)
        for uid, count in ended.items():
            job = self.jobs[uid]
            if job.tick_us is not None:
                continue
            delta = deltas.setdefault((job.spec.role, job.spec.tier, job.user), {})
            for name, amount in times(job.spec.resources, -count).items():
                delta[name] = delta.get(name, 0) + amount
        self._writer.charge(deltas)
        for uid in self._writer.tally(self._ended, self.now_us):
            self._events.append((self.now_us, "job.ended", self.jobs[uid].spec.role, uid, None, {}))

    def _note_fate(self, before: Task, task: Task) -> None:
        """Of a task that did not run: it does now, or never will. Whether anybody made room for it, the store knows."""
        if task.state is State.RUNNING:
            self._fates[task.id] = Fate("started", task.started_us or self.now_us, task.node)
        elif task.state in TERMINAL:
            if before.state in DYING and before.kept_for is not None and task.state is State.FINISHED:
                self._spared.append(task.id)
            if before.started_us is None:
                self._fates[task.id] = _fate(task, self.now_us)

    def _do(self, effect: Effect, event: Event, task: Task) -> None:
        if effect is Effect.RETRY:
            self._retry(task)
        elif effect is Effect.REQUEUE:
            if event is not Event.PREEMPT or self.jobs[task.job].spec.preempt.action == "requeue":
                self._requeue(task, event)
        elif effect is Effect.WITHDRAW:
            self._withdraw(task)
        elif effect is Effect.LAUNCH:
            self.launches.append(task.id)
        elif effect is Effect.STOP:
            self.stops.append(task.id)

    def _retry(self, task: Task) -> None:
        spec = self.jobs[task.job].spec
        if 0 <= spec.max_failures <= task.failures:
            return
        least_s = self._backoff.get(spec.tier, 0.0)
        pause_s = lifecycle.backoff_s(task.failures, spec.backoff.initial, spec.backoff.limit, least_s)
        details: dict[str, Any] = {"failures": task.failures, "pause_s": pause_s, "former": task.id}
        message = f"waits {pause_s:g} s after {_count(task.failures, 'failed attempt')}"
        if pause_s > lifecycle.backoff_s(task.failures, spec.backoff.initial, spec.backoff.limit):
            message += f", as {spec.tier} waits {least_s:g} s at least, and twice as long each time more"
            details["tier_s"] = least_s
        reason = Reason("backoff", message, details)
        self._succeed(task, "failed", not_before_us=self.now_us + round(pause_s * 1_000_000), reason=reason)

    def _requeue(self, task: Task, event: Event) -> None:
        if event is Event.PREEMPT:
            self._succeed(task, "preempted", after=task.id, preemptions=task.preemptions + 1, reason=task.reason)
        elif event is Event.RESTART:
            self._succeed(task, "restarted", after=task.id, reason=task.reason)
        else:
            self._succeed(task, "lost", reason=task.reason)

    def _succeed(self, task: Task, cause: str, **values: Any) -> None:
        fields: dict[str, Any] = {"failures": task.failures, "preemptions": task.preemptions} | values
        attempt = task.attempt + 1
        successor = Task(
            id=task_id(task.job, task.instance, attempt),
            job=task.job,
            instance=task.instance,
            attempt=attempt,
            state=State.PENDING,
            since_us=pending_us(self.now_us, task.instance),
            **fields,
        )
        self.add(successor)
        self._note("task.requeued", successor, {"cause": cause, "former": task.id})

    def _withdraw(self, task: Task) -> None:
        """The successor goes without a trace in the tallies: its instance has finished."""
        successor = self._successor(task)
        if successor is not None and lifecycle.step(successor.state, Event.KILL):
            reason = Reason("withdrawn", "not needed: the attempt before it finished after all", {"former": task.id})
            ended = self._set(successor, state=State.KILLED, ended_us=self.now_us, reason=reason)
            self._note(KINDS[State.KILLED], ended, {"from": successor.state, "withdrawn": True})

    def _end(self, task: Task) -> None:
        successor = self._successor(task)
        if successor is not None and successor.after == task.id:
            self._set(successor, after=None)
        former = self.tasks.get(task.after) if task.after else None
        if successor is None and (former is None or former.state not in ACTIVE):
            counts = self._ended.setdefault(task.job, {})
            counts[task.state] = counts.get(task.state, 0) + 1

    def _successor(self, task: Task) -> Task | None:
        """The attempt that waits for this one to end. Those between were killed and others came for them."""
        attempt = task.attempt + 1
        following = self.tasks.get(task_id(task.job, task.instance, attempt))
        while following is not None and following.state not in ACTIVE:
            attempt += 1
            following = self._read(task_id(task.job, task.instance, attempt))
        return following

    def _read(self, id: str) -> Task | None:
        if id not in self.tasks:
            self.tasks |= self._writer.tasks_of([id])
        return self.tasks.get(id)

    def _set(self, task: Task, **values: Any) -> Task:
        changed = replace(task, **values)
        self.tasks[task.id] = self.changed[task.id] = changed
        if task.id in self._new:
            self._new[task.id] = changed
        else:
            self._expected.setdefault(task.id, task.state)
            self._values.setdefault(task.id, {}).update(values)
        return changed

    def _facts(self, task: Task) -> dict[str, Any]:
        facts: dict[str, Any] = {"node": task.node}
        if task.state is State.STARTING:
            facts |= {"agent": task.agent, "epoch": self._epoch}
        if task.reason is not None:
            facts["reason"] = task.reason.plain()
        if task.state in TERMINAL:
            facts |= {"exit_code": task.exit_code, "signal": task.signal, "failures": task.failures}
        return facts

    def _note(self, kind: str, task: Task, data: Mapping[str, Any]) -> None:
        facts = {"instance": task.instance, "attempt": task.attempt, **data}
        self._events.append((self.now_us, kind, self.jobs[task.job].spec.role, task.job, task.id, facts))


def _fate(task: Task, now_us: int) -> Fate:
    """Of one that ended before it was seen to run. One that has an exit status did run."""
    if task.state is State.FINISHED or (task.state is State.FAILED and task.exit_code is not None):
        return Fate("started", task.ended_us or now_us, task.node)
    stopped = task.state is State.LOST and task.reason is not None and task.reason.code == "stopped"
    code = "stopped" if stopped else _FATES[task.state]
    return Fate(code, task.ended_us or now_us, task.node, task.reason.message if task.reason else None)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
