"""What a Mesos status update means to us: one table of states, and how a task ended.

Sources: mesos.proto (TaskState, TaskStatus.Reason) and, of the Mesos documentation, "Task reconciliation" and "Highly
available frameworks". With PARTITION_AWARE, `TASK_GONE` and `TASK_DROPPED` prove that a task does not run and never
will; `TASK_UNREACHABLE` and `TASK_UNKNOWN` prove nothing, and neither does `TASK_LOST`, which only frameworks get that
are not partition-aware (we are).
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from priority.reason import Reason


class Means(StrEnum):
    """What a state says."""

    COMING = "coming"
    """It is there, and does not run yet."""
    RUNS = "runs"
    ENDED = "ended"
    """It ran and ended; the update says how."""
    NEVER = "never"
    """It was refused or got lost before it began: it does not run and never will."""
    GONE = "gone"
    """It is proved not to run (any more); how it ended nobody knows."""
    SILENT = "silent"
    """Its agent cannot be reached: it may run."""
    UNSURE = "unsure"
    """Nothing is known: it may run."""


STATES = {
    "TASK_STAGING": Means.COMING,
    "TASK_STARTING": Means.COMING,
    "TASK_RUNNING": Means.RUNS,
    "TASK_KILLING": Means.RUNS,
    "TASK_FINISHED": Means.ENDED,
    "TASK_FAILED": Means.ENDED,
    "TASK_KILLED": Means.ENDED,
    "TASK_ERROR": Means.ENDED,
    "TASK_DROPPED": Means.NEVER,
    "TASK_GONE": Means.GONE,
    "TASK_GONE_BY_OPERATOR": Means.GONE,
    "TASK_UNREACHABLE": Means.SILENT,
    "TASK_UNKNOWN": Means.UNSURE,
    "TASK_LOST": Means.UNSURE,
}

_CAUSES = {
    "REASON_MAX_COMPLETION_TIME_REACHED": "runtime",
    "REASON_CONTAINER_LIMITATION_MEMORY": "mem",
    "REASON_CONTAINER_LIMITATION_DISK": "disk",
    "REASON_CONTAINER_LIMITATION": "limit",
    "REASON_CONTAINER_LAUNCH_FAILED": "exec",
    "REASON_COMMAND_EXECUTOR_FAILED": "exec",
    "REASON_TASK_INVALID": "invalid",
    "REASON_TASK_UNAUTHORIZED": "unauthorized",
}
"""Reasons that say more about an end than an exit status does."""

_UNSEEN = frozenset({"REASON_EXECUTOR_TERMINATED", "REASON_AGENT_RESTARTED", "REASON_EXECUTOR_REREGISTRATION_TIMEOUT"})
"""Reasons of a TASK_FAILED that no task is to blame for: its executor went away below it."""

_STATUS = re.compile(r"exited with status (\d{1,3})")
_SIGNAL = re.compile(r"terminated with signal ([^(]+?)(?: \(core dumped\))?$")
_SIGNALS = {signal.strsignal(number): int(number) for number in signal.Signals}


@dataclass(frozen=True, slots=True)
class Status:
    """One status of a task, as it came."""

    task: str
    state: str
    means: Means
    at_us: int
    """By the clock of whoever made it; 0: not said."""
    agent: str | None
    uuid: str | None
    """To be acknowledged by it; None: nothing is to be acknowledged."""
    reason: str
    message: str
    healthy: bool | None
    answer: bool
    """Whether it answers a reconciliation: the master's view, without the details of the update itself."""


def read_status(document: Any) -> Status:
    """From `TaskStatus` in JSON. ValueError if it is none or its state is not known."""
    try:
        state = document["state"]
        agent = document.get("agent_id", {}).get("value")
        reason = document.get("reason", "")
        stamp = float(document.get("timestamp", 0.0))
        found = Status(
            task=document["task_id"]["value"],
            state=state,
            means=STATES[state],
            at_us=int(stamp * 1e6) if 0 < stamp < 1e11 else 0,
            agent=agent,
            uuid=document.get("uuid"),
            reason=reason,
            message=str(document.get("message", ""))[:4096],
            healthy=document.get("healthy"),
            answer=reason == "REASON_RECONCILIATION",
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"not a task status: {error!r}") from None
    if not all(isinstance(one, str | None) for one in (found.task, found.agent, found.uuid, found.reason)):
        raise ValueError("not a task status: an id is no text")
    if not found.task or len(found.task) > 255:
        raise ValueError("not a task status: no task id, or one that is too long")
    return found


@dataclass(frozen=True, slots=True)
class End:
    """How a task ended, in our words (see `orders.TaskSeen`)."""

    exit_code: int | None = None
    signal: int | None = None
    stopped: bool = False
    cause: Reason | None = None


def how_it_ended(status: Status, *, asked: bool) -> End:
    """Of a status that means `ENDED` or `GONE`. `asked`: a kill of ours had reached it, so that even a good end is one
    that it was asked for.
    """
    if status.means is Means.GONE or status.reason in _UNSEEN:
        return End(stopped=asked, cause=Reason("vanished", _line(status, "it is gone, and nobody saw how it ended")))
    exit_code, number = _read_message(status.message)
    if status.state == "TASK_FINISHED":
        return End(exit_code=0 if exit_code is None else exit_code, stopped=asked)
    cause = _cause(status, asked=asked, told=exit_code is not None or number is not None)
    # An executor says failed when a task ends by another signal than that of our kill, which was under way.
    stopped = status.state == "TASK_KILLED" or (asked and exit_code is None)
    return End(exit_code, number, stopped=stopped and cause is None, cause=cause)


def _cause(status: Status, *, asked: bool, told: bool) -> Reason | None:
    """What says more about the end than how the process ended, if there is something."""
    code = _CAUSES.get(status.reason)
    if status.state == "TASK_ERROR":
        return Reason(code or "invalid", _line(status, "Mesos refused it"))
    if status.state == "TASK_KILLED":
        unhealthy = status.healthy is False and not asked
        return Reason("unhealthy", _line(status, "its health checks failed")) if unhealthy else None
    if code is not None:
        return Reason(code, _line(status, "it was ended by Mesos"))
    return None if told or asked else Reason("failed", _line(status, "it failed"))


def _read_message(message: str) -> tuple[int | None, int | None]:
    """(exit status, signal): a command executor says them in words only."""
    if found := _STATUS.search(message):
        return int(found[1]), None
    if found := _SIGNAL.search(message):
        return None, _SIGNALS.get(found[1].strip())
    return None, None


def _line(status: Status, otherwise: str) -> str:
    said = " ".join(status.message.split())[:300] or otherwise
    return f"{said} ({status.state}{', ' + status.reason if status.reason else ''})"
