"""Examples for the OpenAPI: one of each thing, all of the same small story."""

from __future__ import annotations

from typing import Any

from priority.errors import (
    Conflict,
    Invalid,
    Malformed,
    PriorityError,
    QuotaExceeded,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from priority.face import problem
from priority.quota import Refused
from priority.service.access import no_such

SPEC: dict[str, Any] = {
    "role": "physics",
    "tier": "prod",
    "name": "reco",
    "command": "python reconstruct.py --run 4711",
    "instances": 4,
    "resources": {"cpus": 2, "mem": "4GiB"},
    "max_failures": 3,
    "labels": {"run": "4711"},
}
JOB_SUMMARY: dict[str, Any] = {
    "uid": "1ka5p2c7g0m4x9q3d8t6v",
    "key": "physics/prod/reco",
    "role": "physics",
    "tier": "prod",
    "name": "reco",
    "user": "ada",
    "state": "active",
    "submitted": "2026-11-23T10:00:00.000000Z",
    "ended": None,
    "instances": 4,
    "active": 4,
    "pending": 1,
    "starting": 0,
    "running": 3,
    "dying": 0,
    "finished": 0,
    "failed": 0,
    "killed": 0,
    "priority": 0,
    "resources": {"cpus": 2, "mem": 4096},
    "tick": None,
}
JOB = {**JOB_SUMMARY, "spec": SPEC}
NAMED: dict[str, Any] = {"jobs": ["physics/prod/reco", "1ka5p2c7g0m4x9q3d8t6v"], "why": "wrong input"}
SELECTED: dict[str, Any] = {"role": "physics", "tier": "devel", "name": "mc-*", "dry_run": True}
"""The same request, of jobs that are selected."""
SUBMITTED: dict[str, Any] = {**JOB, "warnings": []}
BULK: dict[str, Any] = {
    "jobs": [JOB_SUMMARY],
    "replayed": False,
    "warnings": [
        "jobs[3] (physics/prod/large): no node could ever hold it: it asks for cpus 99, and the most that one has is "
        "cpus 4; it waits until one comes"
    ],
}
TASK: dict[str, Any] = {
    "id": "1ka5p2c7g0m4x9q3d8t6v-0-1",
    "job": "1ka5p2c7g0m4x9q3d8t6v",
    "instance": 0,
    "attempt": 1,
    "state": "running",
    "node": "node-1",
    "since": "2026-11-23T10:00:00.020000Z",
    "started": "2026-11-23T10:00:00.031000Z",
    "ended": None,
    "not_before": None,
    "exit_code": None,
    "signal": None,
    "cpu_s": None,
    "peak_mem_mib": None,
    "failures": 0,
    "preemptions": 0,
    "after": None,
    "kept_for": None,
    "reason": None,
}
EVENT: dict[str, Any] = {
    "id": 42,
    "at": "2026-11-23T10:00:00.031000Z",
    "kind": "task.running",
    "role": "physics",
    "job": "1ka5p2c7g0m4x9q3d8t6v",
    "task": "1ka5p2c7g0m4x9q3d8t6v-0-1",
    "data": {"node": "node-1"},
}
MEMBER = {"grants": ["submit"], "quota": {"devel": {"cpus": 4}}}
ROLE_SPEC: dict[str, Any] = {
    "description": "Reconstruction of what the detector saw",
    "weight": 2.0,
    "quota": {"prod": {"cpus": 8, "mem": "16GiB"}},
    "users": {"ada": MEMBER},
}
ROLE = {"name": "physics", **ROLE_SPEC, "quota": {"prod": {"cpus": 8, "mem": 16384}}}
CHANGES: dict[str, Any] = {
    "applied": True,
    "changes": [{"path": "physics/quota/prod", "before": {"cpus": 8}, "after": {"cpus": 12}}],
    "refused": [],
    "warnings": [],
}
QUOTA: dict[str, Any] = {
    "items": [
        {
            "role": "physics",
            "tier": "prod",
            "user": None,
            "quota": {"cpus": 8},
            "use": {"cpus": 4},
            "holding": {"cpus": 2},
            "reserved": {"cpus": 0},
            "waiting": {"cpus": 2},
            "left": {"cpus": 4},
            "guarantee": True,
        }
    ],
    "warnings": [],
}
USER: dict[str, Any] = {"name": "ada", "admin": False, "grants": {"physics": ["submit"]}}
TOKEN: dict[str, Any] = {
    "id": "1ka5p2c7g0m4x9q3d8t6w",
    "user": "ada",
    "label": "laptop",
    "created": "2026-11-23T10:00:00.000000Z",
    "expires": None,
    "revoked": None,
}
NODE: dict[str, Any] = {
    "name": "node-1",
    "state": "up",
    "drained": False,
    "capacity": {"cpus": 4, "mem": 8192},
    "held": {"cpus": 2, "mem": 4096},
    "free": {"cpus": 2, "mem": 4096},
    "tasks": 1,
    "attributes": {"rack": "r1"},
    "shared": None,
    "seen": "2026-11-23T10:00:01.000000Z",
}
AUDIT: dict[str, Any] = {
    "id": 7,
    "at": "2026-11-23T10:00:00.000000Z",
    "who": "admin",
    "action": "quota.set",
    "subject": "role:physics",
    "role": "physics",
    "before": {"cpus": 8},
    "after": {"cpus": 12},
}
EXPLANATION: dict[str, Any] = {
    "job": "physics/prod/reco",
    "uid": "1ka5p2c7g0m4x9q3d8t6v",
    "summary": "4 of 4 instances wait: no node has 2 more cpus free",
    "lines": [
        {
            "task": "1ka5p2c7g0m4x9q3d8t6v-0-1",
            "instance": 0,
            "instances": "0-3",
            "attempt": 1,
            "attempts": "1",
            "state": "pending",
            "message": "no node has room: cpus are short by 1 on the best of 4 nodes",
            "alike": 4,
            "details": {"code": "no-room"},
        }
    ],
}
_VICTIM: dict[str, Any] = {
    "task": "1ka5p2c7g0m4x9q3d8t5a-0-1",
    "job": "simulation/devel/mc",
    "role": "simulation",
    "tier": "devel",
    "user": None,
    "state": None,
}
PREEMPTION: dict[str, Any] = {
    "id": 12,
    "at": "2026-11-23T10:00:00.000000Z",
    "node": "node-1",
    "rule": "tier",
    "cpu_s_lost": 40.0,
    "victim": _VICTIM,
    "preemptor": {
        **_VICTIM,
        "task": "1ka5p2c7g0m4x9q3d8t6v-0-1",
        "job": "physics/prod/reco",
        "role": "physics",
        "tier": "prod",
        "user": "ada",
        "state": "running",
    },
    "outcome": "started",
    "outcome_at": "2026-11-23T10:00:00.031000Z",
    "outcome_node": "node-1",
    "message": "started on node-1",
}
_TALLY = {"tasks": 1, "cpu_s": 40.0, "started": 1, "waiting": 0, "in_vain": 0}
_NONE = {"tasks": 0, "cpu_s": 0.0, "started": 0, "waiting": 0, "in_vain": 0}
PREEMPTION_TOTALS: dict[str, Any] = {
    "items": [{"role": "physics", "took": _TALLY, "gave": _NONE}],
    "pairs": [{"preemptor": "physics", "victim": "simulation", "took": _TALLY}],
}
FORECAST: dict[str, Any] = {
    "verdict": "starts-later",
    "summary": "physics/prod/reco: 1 instance starts later, in room that is coming; it displaces 1 task of "
    "simulation/devel/mc: 40.0 cpu-seconds of work would be lost",
    "at": "2026-11-23T10:00:00.000000Z",
    "jobs": ["physics/prod/reco"],
    "refusal": None,
    "places": [
        {
            "job": "physics/prod/reco",
            "instances": "0",
            "count": 1,
            "verdict": "starts-later",
            "node": "node-1",
            "until": "2026-11-23T10:00:30.000000Z",
            "reason": None,
        }
    ],
    "displaced": [
        {
            "task": "1ka5p2c7g0m4x9q3d8t5a-0-1",
            "job": "simulation/devel/mc",
            "instance": 0,
            "user": None,
            "node": "node-1",
            "taker": "physics/prod/reco",
            "taker_instance": 0,
            "rule": "tier",
            "cpu_s_lost": 40.0,
            "comes_back": True,
        }
    ],
    "cpu_s_lost": 40.0,
    "quota": [
        {
            "role": "physics",
            "tier": "prod",
            "user": None,
            "quota": {"cpus": 8},
            "use": {"cpus": 2},
            "use_after": {"cpus": 4},
            "holding": {"cpus": 2},
            "holding_after": {"cpus": 4},
        }
    ],
    "warnings": [],
}
RISK: dict[str, Any] = {
    "job": "physics/devel/sim",
    "uid": "1ka5p2c7g0m4x9q3d8t6v",
    "takers": ["prod of any role", "physics/devel with a priority over 0"],
    "comes_back": True,
    "waiting": 0,
    "count": 1,
    "cpu_s_lost": 40.0,
    "tasks": [
        {
            "task": "1ka5p2c7g0m4x9q3d8t6v-0-1",
            "instance": 0,
            "attempt": 1,
            "state": "running",
            "node": "node-1",
            "since": "2026-11-23T10:00:00.020000Z",
            "cpu_s_lost": 40.0,
            "cheaper": 3,
            "spared": None,
        }
    ],
}
HEALTH: dict[str, Any] = {
    "status": "ok",
    "version": "0.1.0",
    "parts": {"database": "ok", "redis": "ok", "scheduler": "ok", "nodes": "ok"},
}
METRICS = """# HELP priority_waiting Instances that wait for room, by the code of why
# TYPE priority_waiting gauge
priority_waiting{reason="no-room",tier="devel"} 3.0
"""
_REFUSED = Refused("role physics, tier prod", {"cpus": 8000}, {"cpus": 4000}, {"cpus": 8000}, {"cpus": 4000})
_PROBLEMS = (
    Malformed("not JSON: expected value at line 1 column 1"),
    Unauthenticated("send a token: Authorization: Bearer TOKEN"),
    QuotaExceeded(_REFUSED.message, **_REFUSED.plain()),
    no_such("role physics"),
    Conflict(
        "physics/prod/reco is active already; kill it, wait for its end, or take another name",
        job=JOB_SUMMARY["uid"],
        key=JOB_SUMMARY["key"],
    ),
    TooLarge("the body has 33554432 bytes, at most 16777216 are allowed", limit=16_777_216, size=33_554_432),
    Invalid("tier", "'gold' is not a tier; there are prod, devel, opportunistic"),
    PriorityError("a fault of ours; the server's log says more"),
    Unavailable("the database cannot be read: another writer has it for too long; try again"),
)
PROBLEMS: dict[int, dict[str, Any]] = {error.status: problem.document(error) for error in _PROBLEMS}
"""One of each status, made as every answer is."""
