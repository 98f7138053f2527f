"""What nodes say, turned into moves: inside one transaction, against the truth that is read in it.

A report is a claim about the past. Each is harmless when it comes twice, late or out of order, because the
table in `priority.lifecycle` has no row for what does not fit any more. What proves a task dead:

1. its node says that it ended, or that it refuses it and always will;
2. its node's agent, in a later incarnation than the one it was sent to, does not name it among all it has;
3. its node's lease has run out, and with it the agent's own, shorter one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from priority.incarnation import began_later
from priority.job import Job
from priority.lifecycle import Event
from priority.node import NodeState
from priority.orders import NodeGone, NodeSeen, NodeSilent, Report, TaskSeen
from priority.ports import Writer
from priority.reason import Reason
from priority.records import NodeRecord
from priority.service.ledger import Ledger, others_of
from priority.task import ACTIVE, DYING, State, Task

_UNPROVEN = frozenset({"epoch"})
"""Refusals that say nothing of what the node will do with the next launch."""

_UNSEEN_END = frozenset({"vanished", "lease"})
"""Causes of an end that tell nothing about the task: nobody saw it, or the agent had lost its leader."""

_SEEN_EVERY_US = 10_000_000
"""A node that only says again what is known is written down no more often."""

_SET_BACK_US = 60_000_000
"""What is told of so much later than now was told by a clock that was set back since, or by one that is wrong."""


@dataclass(slots=True)
class Outcome:
    """What a batch of reports came to; to be acted on once it is committed."""

    ledger: Ledger
    last_event: int | None = None
    nodes: dict[str, NodeRecord] = field(default_factory=dict)
    heard: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    relaunch: list[str] = field(default_factory=list)
    """Tasks whose node does not have them yet: send the launch again."""
    restop: list[str] = field(default_factory=list)
    """Tasks whose node still has them although they are to end: send the stop again."""
    doubted: list[str] = field(default_factory=list)
    """Tasks that were refused as sent to another incarnation than the node's agent is."""
    strays: list[tuple[str, str]] = field(default_factory=list)
    """(task, node): runs there against the truth; to be stopped at once."""


def apply(
    writer: Writer,
    reports: Sequence[Report],
    jobs: Mapping[str, Job],
    now_us: int,
    *,
    epoch: int | None,
    backoff: Mapping[str, float] | None = None,
) -> Outcome:
    """Read the truth, let every report happen to it in the order given, and write what changed.

    `jobs` are known ones; those that are missing are read. `backoff` is the setting backoff_s.
    """
    nodes = {record.node.name: record for record in writer.nodes()} if _about_nodes(reports) else {}
    tasks = _read(writer, reports, nodes)
    missing = {task.job for task in tasks.values()} - jobs.keys()
    known = {**jobs, **writer.jobs_of(missing)} if missing else jobs
    outcome = Outcome(Ledger(writer, now_us, tasks.values(), known, epoch=epoch, backoff=backoff))
    for report in reports:
        if isinstance(report, TaskSeen):
            _task_seen(outcome, report)
        elif isinstance(report, NodeSeen):
            _node_seen(outcome, report, nodes)
        elif isinstance(report, NodeGone):
            _node_gone(outcome, report, nodes)
        else:
            _node_silent(outcome, report)
    for record in outcome.nodes.values():
        writer.put_node(record)
    outcome.last_event = outcome.ledger.write()
    return outcome


def _about_nodes(reports: Iterable[Report]) -> bool:
    return any(isinstance(report, NodeSeen | NodeGone) for report in reports)


def _read(writer: Writer, reports: Sequence[Report], nodes: Mapping[str, NodeRecord]) -> dict[str, Task]:
    """Every task that the reports are about, those on the nodes that are named, and all their successors."""
    ids: set[str] = set()
    tasks: dict[str, Task] = {}
    for report in reports:
        if isinstance(report, TaskSeen):
            ids.add(report.task)
        elif isinstance(report, NodeSeen):
            ids |= report.tasks
        if isinstance(report, NodeSeen | NodeGone) and _name(report) in nodes:
            tasks |= {task.id: task for task in writer.active_tasks(node=_name(report))}
    ids |= others_of(ids | tasks.keys())
    ids -= tasks.keys()
    if ids:
        tasks |= writer.tasks_of(ids)
    return tasks


def _name(report: NodeSeen | NodeGone) -> str:
    return report.node.name if isinstance(report, NodeSeen) else report.node


# --- tasks -----------------------------------------------------------------------------------------------------


def _task_seen(outcome: Outcome, seen: TaskSeen) -> None:
    task = outcome.ledger.tasks.get(seen.task)
    if task is None or task.node != seen.node:
        if seen.kind == "started":
            outcome.strays.append((seen.task, seen.node))
        return
    if seen.kind == "started":
        _started(outcome, seen, task)
    elif seen.kind == "ended":
        event, reason = _how_it_ended(seen)
        facts = {"exit_code": seen.exit_code, "signal": seen.signal, "cpu_s": seen.cpu_s}
        facts |= {"peak_mem_mib": seen.peak_mem_mib, "ended_us": _within(seen.at_us, task, outcome.ledger.now_us)}
        outcome.ledger.move(task.id, event, **facts, **_why(task, event, reason))
    elif seen.cause is None or seen.cause.code not in _UNPROVEN:
        reason = seen.cause or Reason("refused", f"node {seen.node} refused it")
        if reason.code == "incarnation":
            outcome.doubted.append(task.id)
        outcome.ledger.move(task.id, Event.GONE, **_why(task, Event.GONE, reason))


def _started(outcome: Outcome, seen: TaskSeen, task: Task) -> None:
    started_us = _within(seen.at_us, task, outcome.ledger.now_us)
    if outcome.ledger.move(task.id, Event.STARTED, started_us=started_us) is not None:
        return
    if task.state not in ACTIVE:
        # Told late, it has ended since; or it runs although it is proved dead, which must not be. Stopping what has
        # ended changes nothing.
        outcome.strays.append((task.id, seen.node))
    elif task.state in DYING:
        outcome.restop.append(task.id)


def _how_it_ended(seen: TaskSeen) -> tuple[Event, Reason | None]:
    if seen.cause is not None:
        return (Event.GONE if seen.cause.code in _UNSEEN_END else Event.FAILED), seen.cause
    if seen.stopped:
        return Event.STOPPED, None
    if seen.exit_code == 0:
        return Event.SUCCEEDED, None
    if seen.signal is not None:
        return Event.FAILED, Reason("signal", f"ended by signal {seen.signal}", {"signal": seen.signal})
    message = f"ended with exit status {seen.exit_code}"
    return Event.FAILED, Reason("exit", message, {"exit_code": seen.exit_code})


def _why(task: Task, event: Event, reason: Reason | None) -> dict[str, Any]:
    """The reason to keep. That it was preempted or killed, and by whom, says more than how it then ended."""
    if task.state in DYING and event is not Event.SUCCEEDED:
        return {}
    if event is Event.STOPPED and reason is None:
        reason = Reason("stopped", f"was stopped on {task.node}, but not by us")
    return {"reason": reason}


def _within(at_us: int, task: Task, now_us: int) -> int:
    """A node's clock may be wrong; nothing it says can lie before the task was placed or after now."""
    return max(task.started_us or task.since_us, min(at_us, now_us))


# --- nodes -----------------------------------------------------------------------------------------------------


def _node_seen(outcome: Outcome, seen: NodeSeen, nodes: dict[str, NodeRecord]) -> None:
    name = seen.node.name
    before = nodes.get(name)
    set_back = before is not None and _was_set_back(seen.at_us, before.seen_us, outcome.ledger.now_us)
    if before is not None and _is_stale(seen, before, set_back):
        return
    outcome.heard.append(name)
    record = NodeRecord(
        node=seen.node if seen.node.state is NodeState.DRAINING else replace(seen.node, state=NodeState.UP),
        agent=seen.agent,
        seen_us=seen.at_us,
        drained=before.drained if before else False,
    )
    news = before is None or (before.node, before.agent) != (record.node, record.agent)
    if before is None or news or set_back or seen.at_us - before.seen_us > _SEEN_EVERY_US:
        nodes[name] = outcome.nodes[name] = record
    if news:
        outcome.ledger.emit("node.up", None, node=name, agent=seen.agent)
    for task in list(outcome.ledger.tasks.values()):
        if task.node == name and task.state in ACTIVE:
            _reconcile(outcome, seen, task)
    for id in sorted(seen.tasks):
        stray = outcome.ledger.tasks.get(id)
        if stray is None or stray.state not in ACTIVE or stray.node != name:
            outcome.strays.append((id, name))


def _is_stale(seen: NodeSeen, before: NodeRecord, set_back: bool) -> bool:
    """Said by an incarnation that a later one has followed: it proves nothing of what was sent to the later one. Of a
    node that is down there is no later one that holds anything.
    """
    if seen.agent == before.agent or before.node.state is NodeState.DOWN:
        return False
    later = began_later(seen.agent, before.agent)
    return (seen.at_us < before.seen_us and not set_back) if later is None else not later


def _was_set_back(at_us: int, before_us: int, now_us: int) -> bool:
    """Whether what was told `at_us` was told after what was told `before_us`, and clocks were set back in between: that
    one is told of later than now, and this one just now. By less than `_SET_BACK_US`, time makes it good soon; what
    comes so late that it looks like this was on its way for longer than that.
    """
    return before_us > now_us + _SET_BACK_US and abs(now_us - at_us) <= _SET_BACK_US // 2


def _reconcile(outcome: Outcome, seen: NodeSeen, task: Task) -> None:
    """One task that the truth has on this node, beside what the node says that it has."""
    dying = task.state in DYING
    if task.id in seen.tasks:
        if dying:
            outcome.restop.append(task.id)
        return
    began_us, now_us = task.started_us, outcome.ledger.now_us
    ran = began_us is not None and (began_us < seen.at_us or _was_set_back(seen.at_us, began_us, now_us))
    if task.agent != seen.agent or ran:
        # Sent to another incarnation, so this one refuses it; or it ran here, and there is nothing left of it.
        reason = Reason("vanished", f"node {task.node} does not have it any more", {"node": task.node})
        outcome.ledger.move(task.id, Event.GONE, **_why(task, Event.GONE, reason))
    elif task.state is State.STARTING:
        outcome.relaunch.append(task.id)
    elif dying:
        outcome.restop.append(task.id)


def _node_gone(outcome: Outcome, gone: NodeGone, nodes: dict[str, NodeRecord]) -> None:
    outcome.silent.append(gone.node)
    before = nodes.get(gone.node)
    if before is None:
        return
    if before.node.state is not NodeState.DOWN:
        seen_us = max(before.seen_us, min(gone.heard_us, gone.at_us))
        record = replace(before, node=replace(before.node, state=NodeState.DOWN), seen_us=seen_us)
        nodes[gone.node] = outcome.nodes[gone.node] = record
        outcome.ledger.emit("node.down", None, node=gone.node)
    reason = Reason("node-gone", f"node {gone.node} was lost", {"node": gone.node})
    for task in list(outcome.ledger.tasks.values()):
        if task.node == gone.node and task.state in ACTIVE:
            outcome.ledger.move(task.id, Event.GONE, **_why(task, Event.GONE, reason))


def _node_silent(outcome: Outcome, silent: NodeSilent) -> None:
    outcome.silent.append(silent.node)
    outcome.ledger.emit("node.silent", None, node=silent.node)
