"""The JSON schemas that are printed say what the readers do: what one takes, the other takes."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from priority.constraint import EXAMPLE as CONSTRAINT
from priority.errors import PriorityError
from priority.face import plan_schema
from priority.job import EXAMPLE as JOB
from priority.job import JobSpec, parse_spec
from priority.plan import answer
from priority.role import EXAMPLE as ROLES
from priority.role import RolesFile, parse_file
from priority.snapshot import Snapshot

JOB_SCHEMA = Draft202012Validator(JobSpec.model_json_schema())
ROLES_SCHEMA = Draft202012Validator(RolesFile.model_json_schema())
SNAPSHOT_SCHEMA = Draft202012Validator(plan_schema.document())
LEAST: dict[str, Any] = {"role": "r", "tier": "devel", "name": "n", "command": "true"}

GOOD_JOBS: list[dict[str, Any]] = [
    {},
    {"command": ["a", "b"]},
    {"resources": {"cpus": 0.5, "mem": 100, "disk": "1.5 TiB", "gpus": 2, "licences": 3}},
    {"constraints": [{"attribute": "host", "not_in": []}, {"attribute": "rack", "limit": 0}, CONSTRAINT]},
    {"max_runtime": None}, {"max_runtime": 5}, {"max_runtime": "1h30m"}, {"kill_grace": "0.5s"},
    {"preempt": {"action": "end", "signal": "USR1", "notice": 0}, "backoff": {"initial": "1s", "limit": "1h"}},
    {"env": {"A_1": ""}, "labels": {"run.1": "x"}, "gang": True, "priority": -3, "max_failures": -1},
]  # fmt: skip
BAD_JOBS: list[dict[str, Any]] = [
    {"role": "a b"}, {"tier": 1}, {"name": ""}, {"command": ""}, {"command": []}, {"command": 3}, {"command": [1]},
    {"instances": 0}, {"instances": "3"}, {"env": {"A": 1}}, {"env": {"1A": "x"}}, {"labels": {"a b": "x"}},
    {"labels": {"a": "x" * 256}}, {"resources": {"cpus": -1}}, {"resources": {"cpus": "2"}}, {"resources": []},
    {"resources": {"mem": "2GB"}}, {"resources": {"licences": 0.5}}, {"resources": {"A!": 1}},
    {"priority": 10**7}, {"priority": 0.5}, {"constraints": {}}, {"constraints": [{"attribute": "rack"}]},
    {"constraints": [{"attribute": "rack", "in": "r1"}]}, {"constraints": [{"attribute": "a", "in": [], "limit": 1}]},
    {"constraints": [{"attribute": "", "in": []}]}, {"constraints": [{"attribute": "a", "limit": -1}]},
    {"constraints": [{"in": []}]}, {"constraints": [{"attribute": "a", "like": "b"}]}, {"max_failures": -2},
    {"max_runtime": -1}, {"max_runtime": "soon"}, {"kill_grace": None}, {"preempt": {"action": "no"}},
    {"preempt": {"signal": "KILL"}}, {"preempt": 1}, {"backoff": {"first": 1}}, {"colour": "red"}, {"gang": 7},
]  # fmt: skip


@pytest.mark.parametrize("fields", [*GOOD_JOBS, JOB], ids=str)
def test_a_good_job_fits_the_schema(fields: dict[str, Any]) -> None:
    document = {**LEAST, **fields}
    parse_spec(document)
    JOB_SCHEMA.validate(document)


@pytest.mark.parametrize("fields", BAD_JOBS, ids=lambda fields: str(fields)[:60])
def test_a_bad_job_does_not(fields: dict[str, Any]) -> None:
    document = {**LEAST, **fields}
    with pytest.raises(PriorityError):
        parse_spec(document)
    assert not JOB_SCHEMA.is_valid(document)


def test_a_roles_file() -> None:
    assert parse_file(json.dumps(ROLES)).keys() == ROLES["roles"].keys()
    ROLES_SCHEMA.validate(ROLES)
    several: tuple[dict[str, Any], ...] = (
        {"rolls": {}}, {"roles": {"a b": {}}}, {"roles": {"x": {"weight": 0}}}, {"roles": {"x": {"users": {"u": []}}}},
        {"roles": {"x": {"quota": {"prod": {"cpus": -1}}}}}, {"roles": {"x": {"users": {"u": {"grants": ["root"]}}}}},
    )  # fmt: skip
    for bad in several:
        with pytest.raises(PriorityError):
            parse_file(json.dumps(bad))
        assert not ROLES_SCHEMA.is_valid(bad), bad
    # A tier that is not there is refused by whoever knows which there are.
    assert not ROLES_SCHEMA.is_valid({"roles": {"x": {"quota": {"gold": {}}}}})


def test_every_field_is_described() -> None:
    for model in (JobSpec.model_json_schema(), RolesFile.model_json_schema()):
        for found in (model, *model["$defs"].values()):
            for name, field in found["properties"].items():
                assert field.get("description"), f"{found['title']}.{name}"
        assert model["examples"]
    tiers = JobSpec.model_json_schema()["properties"]["tier"]["enum"]
    assert tiers == ["prod", "devel", "opportunistic"]


def test_the_example_of_a_snapshot_tells_a_story() -> None:
    SNAPSHOT_SCHEMA.validate(plan_schema.EXAMPLE)
    plan = json.loads(answer(json.dumps(plan_schema.EXAMPLE)))
    Draft202012Validator(plan_schema.PLAN).validate(plan)
    assert [plan[list_name] != [] for list_name in ("launch", "preempt", "reserve", "wait")] == [True] * 4
    # what the reader writes is a snapshot too
    SNAPSHOT_SCHEMA.validate(Snapshot.parse(plan_schema.EXAMPLE).document())


def changed(path: tuple[str | int, ...], value: Any) -> Mapping[str, Any]:
    document = copy.deepcopy(dict(plan_schema.EXAMPLE))
    place: Any = document
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return document


def bad_snapshots() -> Iterator[tuple[str, Mapping[str, Any]]]:
    for path, value in (
        (("colour",), 1), (("nodes",), {}), (("nodes", 0, "name"), ""), (("nodes", 0, "state"), "off"),
        (("nodes", 0, "attributes"), {"rack": 1}), (("nodes", 0, "capacity"), {"cpus": -1}), (("tasks", 0, "id"), 3),
        (("tasks", 0, "state"), "done"), (("tasks", 0, "priority"), 0.5), (("tasks", 0, "colour"), 1),
        (("tasks", 0, "constraints"), [{"attribute": "a"}]), (("tasks", 0, "gang"), ""), (("now",), 3),
        (("roles", "reco", "weight"), 0), (("roles", "reco", "quota"), {"prod": {"mem": "x"}}), (("policy",), {"x": 1}),
        (("tiers",), {"prod": {"rank": "high", "preemptible": False}}), (("tiers",), {"prod": {"rank": 1}}),
    ):  # fmt: skip
        yield ".".join(map(str, path)), changed(path, value)
    for name in ("now", "nodes", "tasks"):
        yield f"no {name}", {key: value for key, value in plan_schema.EXAMPLE.items() if key != name}


@pytest.mark.parametrize(("what", "document"), list(bad_snapshots()))
def test_a_bad_snapshot_fits_neither(what: str, document: Mapping[str, Any]) -> None:
    with pytest.raises(PriorityError):
        answer(json.dumps(document))
    assert not SNAPSHOT_SCHEMA.is_valid(document)
