"""What Mesos says of a task, and what it means: every state, and every way to end."""

from __future__ import annotations

from typing import Any

import pytest

from priority.mesos_status import STATES, Means, how_it_ended, read_status

MEANING = """
TASK_STAGING           coming
TASK_STARTING          coming
TASK_RUNNING           runs
TASK_KILLING           runs
TASK_FINISHED          ended
TASK_FAILED            ended
TASK_KILLED            ended
TASK_ERROR             ended
TASK_DROPPED           never
TASK_GONE              gone
TASK_GONE_BY_OPERATOR  gone
TASK_UNREACHABLE       silent
TASK_UNKNOWN           unsure
TASK_LOST              unsure
"""


def status(state: str, message: str = "", reason: str = "", **more: Any) -> Any:
    return read_status({"task_id": {"value": "t"}, "state": state, "message": message, "reason": reason, **more})


def test_every_state_of_mesos_is_in_the_table() -> None:
    assert {name: means.value for name, means in STATES.items()} == dict(
        line.split() for line in MEANING.strip().splitlines()
    )


# state, message, reason, asked by us -> exit status, signal, stopped, code of the cause
ENDS = [
    ("TASK_FINISHED", "Command exited with status 0", "", False, 0, None, False, None),
    ("TASK_FINISHED", "", "", False, 0, None, False, None),
    ("TASK_FINISHED", "Command exited with status 0", "", True, 0, None, True, None),
    ("TASK_FAILED", "Command exited with status 3", "", False, 3, None, False, None),
    ("TASK_FAILED", "Command exited with status 3", "", True, 3, None, False, None),
    ("TASK_FAILED", "Command terminated with signal Segmentation fault", "", False, None, 11, False, None),
    ("TASK_FAILED", "Command terminated with signal Aborted (core dumped)", "", False, None, 6, False, None),
    ("TASK_FAILED", "Command terminated with signal Killed", "", True, None, 9, True, None),
    ("TASK_FAILED", "something else", "", False, None, None, False, "failed"),
    ("TASK_FAILED", "", "REASON_MAX_COMPLETION_TIME_REACHED", False, None, None, False, "runtime"),
    ("TASK_FAILED", "", "REASON_CONTAINER_LIMITATION_MEMORY", False, None, None, False, "mem"),
    ("TASK_FAILED", "", "REASON_CONTAINER_LAUNCH_FAILED", False, None, None, False, "exec"),
    ("TASK_FAILED", "", "REASON_EXECUTOR_TERMINATED", False, None, None, False, "vanished"),
    ("TASK_KILLED", "Command terminated with signal Terminated", "", True, None, 15, True, None),
    ("TASK_KILLED", "Command terminated with signal Terminated", "", False, None, 15, True, None),
    ("TASK_ERROR", "no such role", "REASON_TASK_INVALID", False, None, None, False, "invalid"),
    ("TASK_GONE", "", "", False, None, None, False, "vanished"),
    ("TASK_GONE_BY_OPERATOR", "", "", True, None, None, True, "vanished"),
]


@pytest.mark.parametrize(("state", "message", "reason", "asked", "exit_code", "signal", "stopped", "code"), ENDS)
def test_how_a_task_ended(
    state: str, message: str, reason: str, asked: bool, exit_code: Any, signal: Any, stopped: bool, code: Any
) -> None:
    end = how_it_ended(status(state, message, reason), asked=asked)
    assert (end.exit_code, end.signal, end.stopped) == (exit_code, signal, stopped)
    assert (end.cause.code if end.cause else None) == code


def test_failed_health_checks_are_the_tasks_own_failure() -> None:
    end = how_it_ended(status("TASK_KILLED", healthy=False), asked=False)
    assert end.cause is not None and (end.cause.code, end.stopped) == ("unhealthy", False)


def test_an_answer_is_told_from_an_update() -> None:
    assert status("TASK_RUNNING", reason="REASON_RECONCILIATION").answer
    assert not status("TASK_RUNNING").answer


@pytest.mark.parametrize(
    "document",
    [
        None, 7, [], {}, {"state": "TASK_RUNNING"}, {"task_id": {"value": "t"}, "state": "TASK_DANCING"},
        {"task_id": {"value": 5}, "state": "TASK_RUNNING"}, {"task_id": {"value": ""}, "state": "TASK_RUNNING"},
        {"task_id": {"value": "t" * 300}, "state": "TASK_RUNNING"},
        {"task_id": {"value": "t"}, "state": ["TASK_RUNNING"]},
        {"task_id": {"value": "t"}, "state": "TASK_RUNNING", "timestamp": "soon"},
        {"task_id": {"value": "t"}, "state": "TASK_RUNNING", "uuid": 5},
        {"task_id": {"value": "t"}, "state": "TASK_RUNNING", "agent_id": "a"},
    ],
)  # fmt: skip
def test_what_is_no_status_is_refused(document: Any) -> None:
    with pytest.raises(ValueError):
        read_status(document)


@pytest.mark.parametrize(("timestamp", "at_us"), [(1.5, 1_500_000), (-1, 0), (float("inf"), 0), (1e300, 0), (0, 0)])
def test_no_time_is_taken_from_nonsense(timestamp: float, at_us: int) -> None:
    assert status("TASK_RUNNING", timestamp=timestamp).at_us == at_us


def test_what_proves_nothing() -> None:
    unproven = {state for state, means in STATES.items() if means in (Means.SILENT, Means.UNSURE)}
    assert unproven == {"TASK_UNREACHABLE", "TASK_UNKNOWN", "TASK_LOST"}
