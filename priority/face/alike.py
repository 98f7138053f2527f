"""The jobs of one request: those that differ in nothing but their name are read and checked once.

Pydantic takes 5 us for a job, most of it for what a thousand jobs of one script have in common.
"""

from __future__ import annotations

import re
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from priority.document import NAME_PATTERN, made
from priority.face.routing import parse, repeats
from priority.job import JobSpec

KINDS_MAX = 50
"""Of so many kinds in one request, jobs are not alike, and each is read by itself."""

_ONE: TypeAdapter[JobSpec] = TypeAdapter(JobSpec)
_MANY: TypeAdapter[tuple[JobSpec, ...]] = TypeAdapter(tuple[JobSpec, ...])
_is_name = re.compile(NAME_PATTERN.removeprefix("^").removesuffix("$")).fullmatch


def parse_jobs(body: bytes) -> tuple[JobSpec, ...]:
    """A JSON list of jobs: `Malformed` if it is no JSON, `Invalid` with the field otherwise."""
    specs = _parse_alike(body)
    return parse(_MANY, body, "jobs") if specs is None else specs


def _parse_alike(body: bytes) -> tuple[JobSpec, ...] | None:
    """None if they are not alike, or if anything is wrong: then every job is looked at, to say what and where."""
    try:
        jobs = orjson.loads(body)
        if not isinstance(jobs, list) or repeats(body, jobs):
            return None
        return _read(jobs)
    except (ValueError, TypeError, ValidationError):
        return None


def _read(jobs: list[Any]) -> tuple[JobSpec, ...] | None:
    kinds: dict[bytes, JobSpec] = {}
    specs: list[JobSpec] = []
    for job in jobs:
        name = job.pop("name", None) if isinstance(job, dict) else None
        if not isinstance(name, str) or not _is_name(name):
            return None
        text = orjson.dumps(job)
        kind = kinds.get(text)
        if kind is None:
            if len(kinds) == KINDS_MAX:
                return None
            kind = kinds[text] = _ONE.validate_json(orjson.dumps({**job, "name": name}))
        specs.append(made(JobSpec, {**kind.__dict__, "name": name}, kind.model_fields_set))
    return tuple(specs)
