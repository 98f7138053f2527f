"""What `priority plan` reads and answers, as JSON schema, and an example to begin with.

The reader itself is `priority.reading`, which says more exactly what is wrong; tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from priority import constraint, resources
from priority.policy import COUNTS, POLICY

EXAMPLE: Mapping[str, Any] = {
    "now": "2026-08-23T12:00:00Z",
    "nodes": [
        {"name": "n1", "capacity": {"cpus": 4, "mem": "8GiB"}, "attributes": {"rack": "r1"}},
        {"name": "n2", "capacity": {"cpus": 4, "mem": "8GiB"}, "attributes": {"rack": "r2"}},
    ],
    "roles": {
        "reco": {"weight": 2.0, "quota": {"prod": {"cpus": 8}}},
        "simulation": {"quota": {"opportunistic": {"cpus": 6}}},
    },
    "tasks": [
        {
            "id": "mc-0", "job": "mc", "role": "simulation", "user": "mona", "tier": "opportunistic",
            "request": {"cpus": 3, "mem": "1GiB"}, "state": "running", "node": "n1", "since": "2026-08-23T11:00:00Z",
        },
        {
            "id": "mc-1", "job": "mc", "role": "simulation", "user": "mona", "tier": "opportunistic",
            "request": {"cpus": 3, "mem": "1GiB"}, "state": "running", "node": "n2", "since": "2026-08-23T11:55:00Z",
        },
        {
            "id": "mc-2", "job": "mc", "role": "simulation", "user": "mona", "tier": "opportunistic",
            "request": {"cpus": 3, "mem": "1GiB"}, "state": "pending", "since": "2026-08-23T11:56:00Z",
        },
        {
            "id": "run1-0", "job": "run1", "role": "reco", "user": "rosa", "tier": "prod", "request": {"cpus": 4},
            "state": "pending", "since": "2026-08-23T11:59:59Z",
        },
        {
            "id": "run2-0", "job": "run2", "role": "reco", "user": "rosa", "tier": "prod", "request": {"cpus": 1},
            "state": "pending", "since": "2026-08-23T11:59:59Z", "constraints": [{"attribute": "rack", "in": ["r1"]}],
        },
    ],
}  # fmt: skip
"""A full cluster: a production task takes the room of the task that has worked the least, another fits beside."""

_NAME: Mapping[str, Any] = {"type": "string", "minLength": 1}
_TIME: Mapping[str, Any] = {"type": "string", "format": "date-time"}
_TEXTS: Mapping[str, Any] = {"type": "object", "additionalProperties": {"type": "string"}}
_QUOTA: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": resources.SCHEMA,
    "description": "By tier. Of a preemptible tier a ceiling on what holds room at once",
}
_ONE_OF_THE_NODES = "The node that it is on; null while it is pending"


def _object(needs: Mapping[str, Any], may: Mapping[str, Any] | None = None, description: str = "") -> dict[str, Any]:
    found = {"type": "object", "properties": {**needs, **(may or {})}, "required": list(needs)}
    return {**found, "additionalProperties": False, **({"description": description} if description else {})}


_TASK = _object(
    {
        "id": {**_NAME, "description": "Of this task alone"},
        "job": {**_NAME, "description": "Its job; known by role and job"},
        "role": _NAME,
        "tier": {**_NAME, "description": "One of the tiers"},
        "request": {**resources.SCHEMA, "description": "What it holds once it is placed"},
        "state": {"enum": ["pending", "starting", "running", "preempting", "killing"]},
        "since": {**_TIME, "description": "When it became pending or, once placed, when it started"},
    },
    {
        "user": {"type": "string", "default": ""},
        "priority": {"type": "integer", "default": 0, "description": "Inside its role and tier, higher goes first"},
        "node": {"anyOf": [_NAME, {"type": "null"}], "default": None, "description": _ONE_OF_THE_NODES},
        "constraints": {"type": "array", "items": constraint.SCHEMA, "default": []},
        "gang": {
            "anyOf": [_NAME, {"type": "null"}],
            "default": None,
            "description": "Tasks of one gang start together or not at all",
        },
        "for": {
            "anyOf": [_NAME, {"type": "null"}],
            "description": "Only of one that is preempting or killing: the pending task that its room is kept for",
        },
        "preempted": {
            "type": "array",
            "items": _TIME,
            "default": [],
            "description": "When it was preempted in the last hour, over all its attempts",
        },
        "at_once": {
            "anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}],
            "default": None,
            "description": "How many tasks of its job may be gone by preemption at a time, as the job wants it",
        },
        "until": {
            "anyOf": [_TIME, {"type": "null"}],
            "default": None,
            "description": "When it will have ended at the latest; null: nobody knows",
        },
    },
    "A task that has not ended",
)


def _setting(name: str) -> dict[str, Any]:
    default, what = POLICY[name]
    least = 1 if name == "own_gone_at_once" else 0
    value = {"type": "integer" if name in COUNTS else "number", "minimum": least, "maximum": 1e12}
    return {"type": "object", "additionalProperties": value, "default": default, "description": what}


def _by_owner(kind: str) -> dict[str, Any]:
    amount = {"type": kind, "minimum": 0, "maximum": 1e12}
    return {"type": "object", "additionalProperties": {"type": "object", "additionalProperties": amount}}


SNAPSHOT: Mapping[str, Any] = _object(
    {
        "now": {**_TIME, "description": "The only clock of the round"},
        "nodes": {
            "type": "array",
            "items": _object(
                {"name": _NAME, "capacity": resources.SCHEMA},
                {
                    "attributes": {**_TEXTS, "default": {}, "description": "For constraints; host is always the name"},
                    "state": {
                        "enum": ["up", "draining", "down"],
                        "default": "up",
                        "description": "draining takes no new tasks, the tasks of a down one hold nothing",
                    },
                },
            ),
        },
        "tasks": {"type": "array", "items": _TASK, "description": "Every task that has not ended"},
    },
    {
        "tiers": {
            "type": "object",
            "additionalProperties": _object({"rank": {"type": "integer"}, "preemptible": {"type": "boolean"}}),
            "description": "If not given: prod (rank 2, not preemptible), devel (1, preemptible), opportunistic (0)",
        },
        "roles": {
            "type": "object",
            "additionalProperties": _object(
                {},
                {
                    "weight": {"type": "number", "exclusiveMinimum": 0, "default": 1.0},
                    "quota": _QUOTA,
                    "users": {"type": "object", "additionalProperties": _object({}, {"quota": _QUOTA})},
                },
            ),
        },
        "policy": {
            "type": "object",
            "properties": {name: _setting(name) for name in POLICY},
            "additionalProperties": False,
            "description": "Settings of the engine, each a value by tier; see `priority plan --help`",
        },
        "history": _object(
            {},
            {
                "gone": {
                    **_by_owner("integer"),
                    "description": "By role and job: tasks that are gone",
                },
                "destroyed": {**_by_owner("number"), "description": "By role and tier: cpu-seconds in the last hour"},
                "lost": {**_by_owner("number"), "description": "By role and tier: cpu-seconds in the last hour"},
            },
            "What budgets count beside what the tasks themselves say",
        ),
    },
    "One scheduling round: what there is",
)

_PLACE = _object({"task": _NAME, "node": _NAME})
PLAN: Mapping[str, Any] = _object(
    {
        "launch": {"type": "array", "items": _PLACE, "description": "Start now, in room that is free now"},
        "preempt": {
            "type": "array",
            "items": _object({"task": _NAME, "node": _NAME, "for": _NAME}),
            "description": "The victim, where it runs, and the pending task (in reserve there) that may take it",
        },
        "reserve": {
            "type": "array",
            "items": _PLACE,
            "description": "Will start there once room that is coming has come; it is held for it",
        },
        "wait": {
            "type": "array",
            "items": _object(
                {
                    "task": _NAME,
                    "reason": {
                        "type": "object",
                        "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
                        "required": ["code", "message"],
                        "description": "Why it waits, and the numbers",
                    },
                }
            ),
        },
    },
    description="What to do: every pending task is in exactly one of launch, reserve and wait",
)


def document() -> dict[str, Any]:
    """One JSON schema: a snapshot fits it, and under `$defs` stands what the answer is."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What `priority plan` reads ($defs/Snapshot) and answers ($defs/Plan)",
        "$ref": "#/$defs/Snapshot",
        "$defs": {"Snapshot": SNAPSHOT, "Plan": PLAN},
        "examples": [EXAMPLE],
    }
