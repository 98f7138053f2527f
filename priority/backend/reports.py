"""What agents say, read from the stream of reports. It comes through Redis and is checked field by field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from priority.backend.messages import NODE, is_task
from priority.node import Node
from priority.orders import NodeSeen, Report, TaskSeen
from priority.reason import Reason
from priority.resources import AMOUNT_MAX, NAME

ENTRY_MAX = 16 * 2**20
TEXT_MAX = 4096
_KINDS = frozenset({"started", "ended", "refused"})


def read_entry(fields: Mapping[bytes, bytes]) -> list[Report]:
    """The reports of one entry; those that are not understood are left out. ValueError if nothing is."""
    try:
        node = fields[b"node"].decode()
        if NODE.fullmatch(node) is None:
            raise ValueError("node: not a name")
        if b"seen" in fields:
            return [_node_seen(node, fields[b"agent"].decode(), _json(fields[b"seen"]))]
        documents = _json(fields[b"reports"])
        if not isinstance(documents, list):
            raise ValueError("reports: not a list")
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a report: {error!r}") from None
    reports: list[Report] = []
    for document in documents:
        try:
            reports.append(_task_seen(node, document))
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
    return reports


def _json(data: bytes) -> Any:
    if len(data) > ENTRY_MAX:
        raise ValueError("too large")
    return json.loads(data)


def _node_seen(node: str, agent: str, document: Any) -> NodeSeen:
    capacity = {
        name: amount
        for name, amount in document["capacity"].items()
        if NAME.fullmatch(name) and type(amount) is int and 0 < amount <= AMOUNT_MAX
    }
    attributes = {
        name: value
        for name, value in document["attributes"].items()
        if isinstance(value, str) and len(value) < TEXT_MAX
    }
    if not 0 < len(agent) <= 128:
        raise ValueError("agent: not an incarnation")
    tasks = frozenset(task for task in document["tasks"] if is_task(task))
    return NodeSeen(
        node=Node(node, capacity, attributes), agent=agent, tasks=tasks, at_us=_whole(document, "at_us") or 0
    )


def _task_seen(node: str, document: Any) -> TaskSeen:
    if not is_task(document["task"]) or document["kind"] not in _KINDS:
        raise ValueError("task, kind: not known")
    cpu_s = document.get("cpu_s")
    cause = document.get("cause")
    return TaskSeen(
        task=document["task"],
        node=node,
        kind=document["kind"],
        at_us=_whole(document, "at_us") or 0,
        exit_code=_whole(document, "exit_code"),
        signal=_whole(document, "signal"),
        stopped=document.get("stopped") is True,
        cause=None if cause is None else _reason(cause),
        cpu_s=float(cpu_s) if isinstance(cpu_s, int | float) and 0 <= cpu_s < 1e12 else None,
        peak_mem_mib=_whole(document, "peak_mem_mib"),
    )


def _reason(document: Any) -> Reason:
    details = {
        str(name)[:64]: value
        for name, value in document.items()
        if name not in ("code", "message") and isinstance(value, int | float)
    }
    return Reason(str(document["code"])[:64], str(document["message"])[:TEXT_MAX], details)


def _whole(document: Any, field: str) -> int | None:
    value = document.get(field)
    return value if type(value) is int and 0 <= value < 2**63 else None
