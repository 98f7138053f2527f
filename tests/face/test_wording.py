"""Whatever is wrong with a document, the answer is in our own words: the field, and what to write instead."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from priority.cron import CronSpec
from priority.document import Document, invalid
from priority.errors import Invalid
from priority.face.openapi import BODIES
from priority.job import JobSpec, QuotaAmounts, parse_file
from priority.role import RolesFile
from priority.role import parse_file as parse_roles
from priority.service.settings import Settings

LEAST: dict[str, Any] = {"role": "r", "tier": "devel", "name": "n", "command": "true"}
WRONG: list[Any] = [
    None, True, -1, 0, 1.5, 10**30, 10**4000, float("nan"), float("inf"), "", "x y", "\0", "x" * 5000, "-1s", [],
    [None], [[]], {}, {"a b": 1}, {"": None}, {"x": {"y": {"z": 1}}}, "\ud800", [1, "a"], {"cpus": "many"},
    {"colour": "red"},
]  # fmt: skip
FOREIGN = (
    "Input should", "should be", "should have", "should match", "Value error", "valid string", "validation", "pydantic",
    "Extra inputs", "dictionary", "tuple", "constrained", "function-after", "greater than", "unable to parse",
    "Exceeds",
)  # fmt: skip


def fields(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every field there is, also below other documents."""
    for name, field in model.model_fields.items():
        yield (*path, name)
        for inner in documents(field.annotation):
            through = () if inner is field.annotation else ("x",)
            yield from fields(inner, (*path, name, *through))


def documents(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in documents(part)]


def nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    for part in reversed(path):
        value = {part: value}
    return dict(value)


def kinds() -> Iterator[Any]:
    models: dict[str, Any] = {"RolesFile": RolesFile, "Settings": Settings, **BODIES}
    for name, kind in models.items():
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            for path in fields(kind):
                yield pytest.param(kind, path, id=f"{name}:{'.'.join(path)}")


def check(found: Invalid, path: str) -> None:
    assert not any(word in found.problem for word in FOREIGN), found.message
    assert found.field.startswith(path.split(".", maxsplit=1)[0]), found.message
    assert "\n" not in found.message and len(found.message) < 400, found.message


@pytest.mark.parametrize(("kind", "path"), list(kinds()))
def test_every_field_of_every_document(kind: type[BaseModel], path: tuple[str, ...]) -> None:
    """Wrong in every way: as Python values (from YAML) and as JSON (from the API)."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    start = {CronSpec: {**LEAST, "schedule": "@daily"}, JobSpec: LEAST}.get(kind, {})
    for value in WRONG:
        document = {**start, **nested(path, value)}
        try:
            adapter.validate_python(document)
        except ValidationError as error:
            check(invalid(error), ".".join(path))
        if issubclass(kind, Document) and value != "\ud800":
            try:
                adapter.validate_json(json.dumps(document))
            except ValidationError as error:
                if error.errors()[0]["type"] != "json_invalid":
                    check(invalid(error), ".".join(path))


@pytest.mark.parametrize("value", WRONG, ids=map(str, range(len(WRONG))))
def test_a_quota(value: Any) -> None:
    for document in (value, {"cpus": value}, {"mem": value}, {"licences": value}):
        try:
            TypeAdapter(QuotaAmounts).validate_python(document)
        except ValidationError as error:
            found = invalid(error)
            assert not any(word in found.problem for word in FOREIGN), found.message
            assert len(found.message) < 400


@pytest.mark.parametrize(
    ("job", "says"),
    [
        ({"instances": "3"}, 'jobs[0].instances: must be a whole number, not "3"'),
        ({"instances": 0}, "jobs[0].instances: must be at least 1, not 0"),
        ({"labels": {"run": 4711}}, 'jobs[0].labels.run: must be text, not 4711; write it in quotes: "4711"'),
        ({"env": {"DEBUG": True}}, 'jobs[0].env.DEBUG: must be text, not true; write it in quotes: "true"'),
        ({"env": {"A B": "c"}}, "jobs[0].env.A B: as a name it must be letters, digits or '_'"),
        ({"name": "a b"}, "jobs[0].name: must be letters, digits, '_', '.' or '-', at most 63 of them"),
        ({"command": 5}, "jobs[0].command: must be a line for the shell, or a list of a program and its argu"),
        ({"command": ["a", 5]}, 'jobs[0].command[1]: must be text, not 5; write it in quotes: "5"'),
        ({"gang": "perhaps"}, 'jobs[0].gang: must be true or false, not "perhaps"'),
        ({"preempt": "end"}, 'jobs[0].preempt: must be a mapping of names to values, not "end"'),
        ({"preempt": {"signal": "KILL"}}, "jobs[0].preempt.signal: must be TERM, INT, HUP, QUIT, USR1 or USR2, not "),
        ({"comand": "x"}, "jobs[0].comand: is not known; did you mean command? See `priority job schema`"),
        ({"cpus": 2}, "jobs[0].cpus: is not known; did you mean resources.cpus? See"),
        ({"notice": 2}, "jobs[0].notice: is not known; did you mean preempt.notice? See"),
        ({"timeout": "2h"}, "jobs[0].timeout: is not known; did you mean max_runtime? See"),
        ({"colour": "red"}, "jobs[0].colour: is not known; see `priority job schema`"),
        ({"max_runtime": -3}, "jobs[0].max_runtime: must not be negative"),
        ({"max_runtime": 0}, "jobs[0].max_runtime: must be more than 0, not 0"),
        ({"max_runtime": 10**10}, "jobs[0].max_runtime: must be a number of seconds, at most ten years"),
        ({"max_runtime": "1 day"}, "jobs[0].max_runtime: must be a number of seconds or a string such as "),
        (
            {"resources": {"cpus": "1e3"}},
            "jobs[0].resources.cpus: must be a number, not '1e3', which is text in YAML: write 1000",
        ),
        (
            {"resources": {"cpus": "5e-1"}},
            "jobs[0].resources.cpus: must be a number, not '5e-1', which is text in YAML: write 0.5",
        ),
        ({"resources": {"cpus": "1e300"}}, "jobs[0].resources.cpus: must be a number, not '1e300', which is text"),
        ({"resources": {"cpus": "4"}}, "jobs[0].resources.cpus: must be a number, not '4', which is text here"),
        ({"resources": {"cpus": "four"}}, "jobs[0].resources.cpus: must be a number, not 'four'"),
        ({"resources": {"memory": "4GiB"}}, "jobs[0].resources.memory: is not a resource that any node has: write mem"),
        ({"resources": {"mem": "4G"}}, "jobs[0].resources.mem: must be a number of MiB or a string such as "),
        ({"preempt": {"actoin": "end"}}, "jobs[0].preempt.actoin: is not known; did you mean preempt.action? See"),
    ],
)  # fmt: skip
def test_what_a_user_reads_of_a_job(job: dict[str, Any], says: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_file(yaml.safe_dump({**LEAST, **job}))
    assert caught.value.message.startswith(says)


@pytest.mark.parametrize(
    ("job", "ends"),
    [
        ({"max_runtime": "1 day"}, '"1h30m", "2d", not "1 day"'),
        ({"resources": {"cpus": "1e3"}}, ": write 1000"),
        ({"resources": {"mem": "4G"}}, """not '4G'; did you mean "4GiB"?"""),
        ({"resources": {"disk": "1.5 tb"}}, """not '1.5 tb'; did you mean "1.5TiB"?"""),
        ({"resources": {"mem": "4 gigs"}}, "not '4 gigs'"),
    ],
)
def test_what_to_write_instead(job: dict[str, Any], ends: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_file(yaml.safe_dump({**LEAST, **job}))
    assert caught.value.message.endswith(ends)


@pytest.mark.parametrize(
    ("role", "says"),
    [
        ({"wieght": 2}, "roles.x.wieght: is not known; did you mean weight? See `priority roles schema`"),
        ({"quotas": {}}, "roles.x.quotas: is not known; did you mean quota? See `priority roles schema`"),
        ({"weight": "heavy"}, 'roles.x.weight: must be a number, not "heavy"'),
        ({"weight": 0}, "roles.x.weight: must be more than 0, not 0"),
        ({"users": ["ada"]}, "roles.x.users: must be a mapping of names to values, not a list"),
        ({"users": {"ada": {"grants": ["root"]}}}, 'roles.x.users.ada.grants[0]: must be submit or admin, not "root"'),
        ({"users": {"ada": {"grants": "submit"}}}, 'roles.x.users.ada.grants: must be a list, not "submit"'),
        ({"quota": {"prod": {"cpu": 2}}}, "roles.x.quota.prod.cpu: is not a resource that any node has: write cpus"),
        ({"quota": {"prod": 4}}, "roles.x.quota.prod: must be a mapping of resource names to amounts"),
    ],
)
def test_what_an_admin_reads_of_a_roles_file(role: dict[str, Any], says: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_roles(yaml.safe_dump({"roles": {"x": role}}))
    assert caught.value.message.startswith(says)


LACKING = {name: value for name, value in LEAST.items() if name != "command"}


@pytest.mark.parametrize(
    ("kind", "document", "says"),
    [
        (JobSpec, {**LACKING, "comand": "x"}, "comand: is not known; did you mean command? See"),
        (JobSpec, {**LACKING, "colour": 1, "cmd": "x"}, "cmd: is not known; did you mean command? See"),
        (JobSpec, {**LACKING, "colour": 1}, "colour: is not known; see `priority job schema`"),
        (JobSpec, {**LACKING, "preempt": {"actoin": "end"}}, "command: is missing"),
        (JobSpec, LACKING, "command: is missing"),
        (RolesFile, {"rols": {}}, "rols: is not known; did you mean roles? See"),
        (QuotaAmounts, {"cpu": 1}, "cpu: is not a resource that any node has: write cpus"),
        (QuotaAmounts, {"cpus": -1}, "cpus: must not be negative"),
    ],
)
def test_a_field_that_is_missing_and_one_that_is_not_known(kind: Any, document: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(document)
    assert invalid(caught.value).message.startswith(says)
