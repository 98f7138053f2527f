"""The life of a task: one table, walked by one function.

Rule 1: every move that a task can make is a row of `TABLE`. What is not there is not legal, and an
illegal event changes nothing: reports come twice, late and out of order, and must be harmless.
Rule 2: what has to be done beside the move is data (`Effect`), done by the service in the order in
which it stands in the enumeration, the database part in the same transaction as the move.
Rule 3: a terminal state has no row.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from priority.task import State


class Event(StrEnum):
    """What can happen to a task, by whoever it comes."""

    PLACE = "place"
    """A plan gives it a node."""
    STARTED = "started"
    """Its node says that its process runs."""
    SUCCEEDED = "succeeded"
    """It ended by itself with exit status 0, before any stop reached it."""
    FAILED = "failed"
    """It ended by itself otherwise, before any stop reached it, or broke a limit of its job."""
    STOPPED = "stopped"
    """It ended after our stop had reached it, however it ended."""
    GONE = "gone"
    """It is proved not to run, and how it ended is not known: its node died, or never took it."""
    PREEMPT = "preempt"
    """A plan takes its room for another."""
    KILL = "kill"
    """A user wants its instance ended."""
    RESTART = "restart"
    """A user wants its instance begun anew."""


class Effect(StrEnum):
    """What a move entails, in the order in which it is done."""

    RETRY = "retry"
    """A next attempt after back-off, if the job's failure budget allows; it counts as a failure."""
    REQUEUE = "requeue"
    """A next attempt, pending at once; does not count as a failure."""
    WITHDRAW = "withdraw"
    """The next attempt, made when this one was to be preempted, is not needed: it had finished."""
    LAUNCH = "launch"
    """Tell the node to start it."""
    STOP = "stop"
    """Tell the node to end it: a signal, the notice, then SIGKILL."""


class Move(NamedTuple):
    """The new state and what it entails."""

    state: State
    effects: tuple[Effect, ...] = ()


_S, _E, _F = State, Event, Effect

TABLE: Mapping[tuple[State, Event], Move] = {
    (_S.PENDING, _E.PLACE): Move(_S.STARTING, (_F.LAUNCH,)),
    (_S.PENDING, _E.KILL): Move(_S.KILLED),
    (_S.STARTING, _E.STARTED): Move(_S.RUNNING),
    (_S.STARTING, _E.SUCCEEDED): Move(_S.FINISHED),
    (_S.STARTING, _E.FAILED): Move(_S.FAILED, (_F.RETRY,)),
    (_S.STARTING, _E.STOPPED): Move(_S.LOST, (_F.REQUEUE,)),
    (_S.STARTING, _E.GONE): Move(_S.LOST, (_F.REQUEUE,)),
    (_S.STARTING, _E.PREEMPT): Move(_S.PREEMPTING, (_F.REQUEUE, _F.STOP)),
    (_S.STARTING, _E.KILL): Move(_S.KILLING, (_F.STOP,)),
    (_S.STARTING, _E.RESTART): Move(_S.KILLING, (_F.REQUEUE, _F.STOP)),
    (_S.RUNNING, _E.SUCCEEDED): Move(_S.FINISHED),
    (_S.RUNNING, _E.FAILED): Move(_S.FAILED, (_F.RETRY,)),
    (_S.RUNNING, _E.STOPPED): Move(_S.LOST, (_F.REQUEUE,)),
    (_S.RUNNING, _E.GONE): Move(_S.LOST, (_F.REQUEUE,)),
    (_S.RUNNING, _E.PREEMPT): Move(_S.PREEMPTING, (_F.REQUEUE, _F.STOP)),
    (_S.RUNNING, _E.KILL): Move(_S.KILLING, (_F.STOP,)),
    (_S.RUNNING, _E.RESTART): Move(_S.KILLING, (_F.REQUEUE, _F.STOP)),
    (_S.PREEMPTING, _E.SUCCEEDED): Move(_S.FINISHED, (_F.WITHDRAW,)),
    (_S.PREEMPTING, _E.FAILED): Move(_S.PREEMPTED),
    (_S.PREEMPTING, _E.STOPPED): Move(_S.PREEMPTED),
    (_S.PREEMPTING, _E.GONE): Move(_S.PREEMPTED),
    (_S.PREEMPTING, _E.KILL): Move(_S.KILLING),
    (_S.KILLING, _E.SUCCEEDED): Move(_S.FINISHED),
    (_S.KILLING, _E.FAILED): Move(_S.KILLED),
    (_S.KILLING, _E.STOPPED): Move(_S.KILLED),
    (_S.KILLING, _E.GONE): Move(_S.KILLED),
}
"""(state, event) -> move. REQUEUE on PREEMPT is left out for a job whose `preempt.action` is `end`."""


def step(state: State, event: Event) -> Move | None:
    """The move that `event` causes in `state`; None where it causes none (late, repeated or not legal)."""
    return TABLE.get((state, event))


BACKOFF_MAX_S = 3600.0
"""No tier has a failed task wait longer; its job may."""


def backoff_s(failures: int, initial_s: float, limit_s: float, least_s: float = 0.0) -> float:
    """Seconds to wait before the attempt that follows the `failures`-th failure: doubling, up to a limit. `least_s` is
    what the tier has a task wait after the first one at least, whatever its job says; that doubles too.
    """
    if failures <= 0:
        return 0.0
    times = 2.0 ** min(failures - 1, 62)
    return max(min(limit_s, initial_s * times), min(BACKOFF_MAX_S, least_s * times))


def diagram() -> str:
    """The table as a Mermaid state diagram: what ARCHITECTURE.md shows is made here."""
    lines = ["stateDiagram-v2", "    [*] --> pending"]
    for (state, event), move in TABLE.items():
        entails = f" / {', '.join(move.effects)}" if move.effects else ""
        lines.append(f"    {state} --> {move.state}: {event}{entails}")
    ended = dict.fromkeys(move.state for move in TABLE.values() if not any(key[0] == move.state for key in TABLE))
    lines += [f"    {state} --> [*]" for state in ended]
    return "\n".join(lines)


if __name__ == "__main__":
    print(diagram())  # noqa: T201 - the one thing that this module prints, for ARCHITECTURE.md
