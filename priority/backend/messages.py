"""What scheduler, agent and warden say to each other: plain JSON, checked by plain code.

Only the standard library is imported here: the warden, which stands beside every node's tasks, is to stay small.
A *parcel* is one batch for one node (one RQ job):

    {"specs": [{job, argv, env, mem_mib, disk_mib, max_runtime_s, grace_s}, ...],
     "launch": [{task, agent, epoch, instance, attempt, spec: index into specs}, ...],
     "stop": [{task, epoch, signal, notice_s}, ...]}

It comes through Redis, so it is not believed: every field is checked, sizes are bounded, and a task's id can be
nothing but a name (it becomes a folder).
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

TASK = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", re.ASCII)
SIGNALS = frozenset({"TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "KILL"})
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}", re.ASCII)

PARCEL_TASKS_MAX = 1000
TEXT_MAX = 4 * 2**20
"""Bytes of a command or of an environment."""
SECONDS_MAX = 3.2e8


class Unreadable(ValueError):
    """A message that we do not understand; it says which field and why."""


@dataclass(frozen=True, slots=True)
class Order:
    """To run one task. Amounts of 0 and times of None are not limited."""

    task: str
    job: str
    agent: str
    epoch: int
    instance: int
    attempt: int
    argv: list[str]
    env: dict[str, str]
    mem_mib: int
    disk_mib: int
    max_runtime_s: float | None
    grace_s: float


@dataclass(frozen=True, slots=True)
class Halt:
    """To end one task: `signal`, `notice_s` seconds, SIGKILL."""

    task: str
    epoch: int
    signal: str
    notice_s: float


def read_parcel(document: Any) -> tuple[list[Order], list[Halt]]:
    """Check everything; `Unreadable` names the first field that is wrong."""
    if not isinstance(document, dict):
        raise Unreadable("a parcel must be an object")
    specs = [_spec(item) for item in _list(document, "specs")]
    orders = []
    for item in _list(document, "launch"):
        index = _whole(item, "spec")
        if index >= len(specs):
            raise Unreadable("spec: there is no such one")
        facts: dict[str, Any] = {name: _whole(item, name) for name in ("epoch", "instance", "attempt")}
        orders.append(Order(task=_name(item), agent=_text(item, "agent", 128), **facts, **specs[index]))
    return orders, [_halt(item) for item in _list(document, "stop")]


def is_task(value: Any) -> bool:
    """Whether it may be the id of a task."""
    return isinstance(value, str) and TASK.fullmatch(value) is not None


def line(document: Any) -> bytes:
    """One message as one line."""
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def _spec(item: Any) -> dict[str, Any]:
    argv = _list(item, "argv")
    env = item.get("env")
    if not argv or not all(isinstance(part, str) and "\0" not in part for part in argv) or not argv[0]:
        raise Unreadable("argv: must be a program and its arguments")
    if not isinstance(env, dict) or not all(
        ENV_NAME.fullmatch(name) and isinstance(value, str) and "\0" not in value for name, value in env.items()
    ):
        raise Unreadable("env: must be names and texts")
    if sum(map(len, argv)) > TEXT_MAX or sum(map(len, env.values())) > TEXT_MAX:
        raise Unreadable("argv, env: too large")
    runtime = item.get("max_runtime_s")
    return {
        "job": _text(item, "job", 256),
        "argv": argv,
        "env": env,
        "mem_mib": _whole(item, "mem_mib"),
        "disk_mib": _whole(item, "disk_mib"),
        "max_runtime_s": None if runtime is None else _seconds(item, "max_runtime_s"),
        "grace_s": _seconds(item, "grace_s"),
    }


def _halt(item: Any) -> Halt:
    task, signal = _name(item), item.get("signal")
    if signal not in SIGNALS:
        raise Unreadable(f"signal: must be one of {', '.join(sorted(SIGNALS))}")
    return Halt(task, _whole(item, "epoch"), signal, _seconds(item, "notice_s"))


def _list(item: Any, field: str) -> list[Any]:
    value = item.get(field, []) if isinstance(item, dict) else None
    if not isinstance(value, list) or (field != "argv" and len(value) > PARCEL_TASKS_MAX):
        raise Unreadable(f"{field}: must be a list of at most {PARCEL_TASKS_MAX}")
    return value


def _name(item: Any) -> str:
    value = item.get("task") if isinstance(item, dict) else None
    if not is_task(value):
        raise Unreadable("task: must be of letters, digits, '-' and '_'")
    return str(value)


def _text(item: Any, field: str, longest: int) -> str:
    value = item.get(field)
    if not isinstance(value, str) or len(value) > longest or "\0" in value:
        raise Unreadable(f"{field}: must be a text of at most {longest}")
    return value


def _whole(item: Any, field: str) -> int:
    value = item.get(field) if isinstance(item, dict) else None
    if type(value) is not int or not 0 <= value < 2**63:
        raise Unreadable(f"{field}: must be a whole number")
    return value


def _seconds(item: Any, field: str) -> float:
    value = item.get(field)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Unreadable(f"{field}: must be seconds")
    return min(max(0.0, float(value)), SECONDS_MAX)
