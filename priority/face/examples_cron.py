"""Examples of cron jobs for the OpenAPI."""

from __future__ import annotations

from typing import Any

from priority.cron import EXAMPLE

SPEC: dict[str, Any] = EXAMPLE
TICK: dict[str, Any] = {
    "tick": "2026-11-23T01:30:00Z",
    "outcome": "started",
    "at": "2026-11-23T01:30:00.004000Z",
    "job": "1ka5p2c7g0m4x9q3d8t6v",
    "by": None,
    "reason": None,
}
SUMMARY: dict[str, Any] = {
    "uid": "1ka5p2c7g0m4x9q3d8t70",
    "key": "physics/prod/nightly",
    "role": "physics",
    "tier": "prod",
    "name": "nightly",
    "user": "ada",
    "state": "active",
    "schedule": "30 2 * * *",
    "timezone": "Europe/Zurich",
    "collision": "cancel_new",
    "next": "2026-11-24T01:30:00Z",
    "last": TICK,
    "runs": [],
    "instances": 1,
    "resources": {"cpus": 2, "mem": 4096},
}
CRON: dict[str, Any] = {
    **SUMMARY,
    "created": "2026-11-20T10:00:00.000000Z",
    "changed": "2026-11-20T10:00:00.000000Z",
    "coming": ["2026-11-24T01:30:00Z", "2026-11-25T01:30:00Z"],
    "local": ["2026-11-24 02:30+01:00", "2026-11-25 02:30+01:00"],
    "spec": SPEC,
}
SUBMITTED: dict[str, Any] = {**CRON, "last": None, "made": True, "altered": True, "warnings": []}
STARTED: dict[str, Any] = {**CRON, "started": {**TICK, "by": "ada"}}
