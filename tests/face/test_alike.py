"""Jobs that are alike are read once, and come out as if each had been read by itself."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from priority.errors import PriorityError
from priority.face.alike import KINDS_MAX, parse_jobs
from priority.face.routing import parse
from priority.job import JobSpec

ONE: dict[str, Any] = {"role": "physics", "tier": "devel", "name": "a", "command": "true"}
MANY: TypeAdapter[tuple[JobSpec, ...]] = TypeAdapter(tuple[JobSpec, ...])

FIELDS: dict[str, list[Any]] = {
    "name": ["a", "b", "b\n", "", "-", "a b", "x" * 64, "\0", None, 3, ["a"], "nämlich"],
    "command": ["true", ["run", "it"], [], "", 7, "\0"],
    "resources": [
        {"cpus": 1},
        {"cpus": 1.0},
        {"cpus": "1"},
        {"cpus": True},
        {"cpus": 10**30},
        {"mem": "1GiB"},
        {},
        [],
        1,
    ],
    "instances": [1, 1.0, "2", 0, -1, 10**25, 1.5, None],
    "preempt": [{"notice": 5}, {"notice": "1m"}, {"notice": -1}, {"unknown": 1}, {}],
    "env": [{"A": "1"}, {"A": 1}, {}],
    "unknown": [1],
}


def outcome(read: Any, body: bytes) -> Any:
    try:
        return [(spec, spec.model_dump_json(), spec.model_fields_set) for spec in read(body)]
    except PriorityError as error:
        return type(error), str(error)


def each(body: bytes) -> tuple[JobSpec, ...]:
    return parse(MANY, body, "jobs")


def agree(body: bytes) -> None:
    assert outcome(parse_jobs, body) == outcome(each, body)


JOBS = [{**ONE, field: value} for field, values in FIELDS.items() for value in values]


@pytest.mark.parametrize("job", JOBS, ids=[f"{index}" for index in range(len(JOBS))])
def test_one_that_is_wrong_is_told_as_ever(job: dict[str, Any]) -> None:
    agree(json.dumps([ONE, {**ONE, "name": "z"}, job]).encode())


BODIES = [
    b"",
    b"{}",
    b"[]",
    b"[1]",
    b"[[]]",
    b"null",
    b"[{}]",
    b'[{"name": "a"}',
    b'[{"role":"r","tier":"devel","name":"a","name":"b","command":"true"}]',
    b'[{"role":"r","tier":"devel","name":"a","command":"a\\u003ab"}]',
    b'[{"role":"r","tier":"devel","name":"a","command":"true","instances":10000000000000000000000}]',
    b'[{"role":"r","tier":"devel","name":"a","command":"true","resources":{"cpus":1e999}}]',
    b'[{"role":"r","tier":"devel","name":"a","command":"true","priority":NaN}]',
    b'[{"role":"r","tier":"devel","name":"\\ud800","command":"true"}]',
    b"[" * 10_000,
]


@pytest.mark.parametrize("body", BODIES, ids=[f"{index}" for index in range(len(BODIES))])
def test_what_is_no_list_of_jobs_is_told_as_ever(body: bytes) -> None:
    agree(body)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"role": st.just("r"), "tier": st.sampled_from(["prod", "devel"]), "name": st.sampled_from("abcd-")},
            optional={field: st.sampled_from(values[:4]) for field, values in FIELDS.items() if field != "name"},
        ),
        max_size=6,
    )
)
def test_any_jobs_are_read_as_each_alone(jobs: list[dict[str, Any]]) -> None:
    agree(json.dumps(jobs).encode())


@pytest.mark.parametrize("kinds", [1, KINDS_MAX, KINDS_MAX + 1, 2 * KINDS_MAX])
def test_however_many_kinds_there_are(kinds: int) -> None:
    jobs = [{**ONE, "name": f"j{n}", "priority": n % kinds} for n in range(2 * kinds + 1)]
    agree(orjson.dumps(jobs))
    assert [spec.priority for spec in parse_jobs(orjson.dumps(jobs))] == [n % kinds for n in range(2 * kinds + 1)]
