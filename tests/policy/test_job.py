"""What a user may ask for, and what is refused at the door, by the field that is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from priority.errors import Invalid, Malformed, PriorityError
from priority.job import JobSpec, Limits, check_limits, duration_s, filled, parse_file, parse_spec

LEAST: dict[str, Any] = {"role": "physics", "tier": "prod", "name": "reco", "command": "true"}


def test_the_least_that_a_job_is() -> None:
    spec = parse_spec(LEAST)
    assert spec.key == "physics/prod/reco"
    assert (spec.instances, spec.resources, spec.priority, spec.max_failures) == (1, {"cpus": 1000}, 0, 1)
    assert spec.argv == ["/bin/sh", "-c", "true"]


def test_a_command_may_be_a_list() -> None:
    spec = parse_spec(LEAST | {"command": ["echo", "two words"]})
    assert spec.argv == ["echo", "two words"]


@pytest.mark.parametrize(
    ("fields", "field", "problem"),
    [
        ({"comand": "x"}, "comand", "is not known"),
        ({"state": "running"}, "state", "is not known"),
        ({"user": "root"}, "user", "is not known"),
        ({"preempt": {"actoin": "end"}}, "preempt.actoin", "is not known"),
        ({"role": ""}, "role", ""),
        ({"role": "a/b"}, "role", ""),
        ({"role": "a\n"}, "role", ""),
        ({"name": "x" * 64}, "name", ""),
        ({"name": "-x"}, "name", ""),
        ({"command": ""}, "command", ""),
        ({"command": []}, "command", ""),
        ({"command": "a\0b"}, "command", "NUL"),
        ({"command": "a\ud800b"}, "command", "surrogate"),
        ({"command": ["a", "\0"]}, "command[1]", "NUL"),
        ({"instances": 0}, "instances", ""),
        ({"instances": -1}, "instances", ""),
        ({"instances": 1.0}, "instances", ""),
        ({"instances": "3"}, "instances", ""),
        ({"instances": True}, "instances", ""),
        ({"resources": {"cpus": -1}}, "resources.cpus", "negative"),
        ({"resources": {"cpus": float("nan")}}, "resources.cpus", "finite"),
        ({"resources": {"cpus": 1e300}}, "resources.cpus", "too large"),
        ({"resources": {"mem": "16GB"}}, "resources.mem", "MiB"),
        ({"resources": [1]}, "resources", "mapping"),
        ({"priority": 10**9}, "priority", ""),
        ({"priority": 0.5}, "priority", ""),
        ({"env": {"A B": "c"}}, "env.A B", ""),
        ({"env": {"A": "\0"}}, "env.A", "NUL"),
        ({"env": {"A": 3}}, "env.A", ""),
        ({"constraints": [{"attribute": "rack"}]}, "constraints[0]", "exactly one"),
        ({"constraints": [{"attribute": "rack", "in": "r1"}]}, "constraints[0].in", "list"),
        ({"max_failures": -2}, "max_failures", ""),
        ({"max_runtime": -1}, "max_runtime", "must not be neg"),
        ({"max_runtime": float("inf")}, "max_runtime", ""),
        ({"kill_grace": "soon"}, "kill_grace", "number of seconds"),
        ({"preempt": {"notice": "-5s"}}, "preempt.notice", "number of seconds"),
        ({"preempt": {"action": "explode"}}, "preempt.action", ""),
        ({"preempt": {"signal": "KILL"}}, "preempt.signal", ""),
        ({"labels": {"a b": "c"}}, "labels.a b", ""),
        ({"labels": {"a": "c" * 256}}, "labels.a", ""),
        ({"gang": "yes please"}, "gang", ""),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], field: str, problem: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_spec(LEAST | fields, "jobs[2]")
    assert caught.value.field.removesuffix(".[key]").startswith(f"jobs[2].{field}"), caught.value.field
    assert problem in caught.value.problem
    assert caught.value.details["field"] == caught.value.field


@pytest.mark.parametrize("missing", LEAST)
def test_what_is_missing_is_named(missing: str) -> None:
    which = ": say prod, devel or opportunistic" if missing == "tier" else ""
    with pytest.raises(Invalid, match=f"^{missing}: is missing{which}$"):
        parse_spec({name: value for name, value in LEAST.items() if name != missing})


@pytest.mark.parametrize("document", [None, [], 3, "true", [LEAST]])
def test_a_job_is_a_mapping(document: Any) -> None:
    with pytest.raises(Invalid, match="must be a mapping"):
        parse_spec(document)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [(0, 0.0), (1.5, 1.5), ("90s", 90.0), ("0.5s", 0.5), ("10m", 600.0), ("1h30m", 5400.0), ("2d1h1m1s", 176461.0)],
)
def test_durations(written: Any, seconds: float) -> None:
    assert duration_s(written) == seconds


@pytest.mark.parametrize(
    "written", ["", "s", "10", "1m1h", "-1s", "1.5m", "\u0661s", True, None, -1, float("nan"), 1e12]
)
def test_what_is_no_duration(written: Any) -> None:
    with pytest.raises(ValueError, match="must"):
        duration_s(written)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"instances": 1_000_000}, "instances"),
        ({"command": "x" * 200_000}, "command"),
        ({"env": {"A": "x" * 200_000}}, "env"),
        ({"labels": {f"l{index}": "" for index in range(65)}}, "labels"),
        ({"constraints": [{"attribute": "a", "limit": 1}] * 33}, "constraints"),
        ({"resources": {f"r{index}": 1 for index in range(33)}}, "resources"),
    ],
)
def test_limits(fields: dict[str, Any], field: str) -> None:
    spec = parse_spec(LEAST | fields)
    with pytest.raises(Invalid, match="is too large") as caught:
        check_limits(spec, Limits())
    assert caught.value.field == field


def test_several_jobs_in_one_file() -> None:
    both = "role: a\ntier: prod\nname: x\ncommand: 'true'\n---\nrole: b\ntier: devel\nname: y\ncommand: [echo, hi]\n"
    assert [spec.key for spec in parse_file(both)] == ["a/prod/x", "b/devel/y"]
    assert [spec.key for spec in parse_file(json.dumps([LEAST, LEAST | {"name": "two"}]))] == [
        "physics/prod/reco",
        "physics/prod/two",
    ]
    assert parse_file("") == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: b: c", "line 1, column 5"),
        ("a: [1, 2", "line 1"),
        ("\tx", "line 1"),
        ("a: !!python/object/apply:os.system [ls]", "line 1"),
        ("[" * 10_000, "nested too deeply"),
        ("a: 2026-99-99", "not YAML or JSON"),
    ],
)
def test_what_cannot_be_read_says_where(text: str, says: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse_file(text)
    assert says in caught.value.message


def test_a_file_names_the_job_that_is_wrong() -> None:
    with pytest.raises(Invalid) as caught:
        parse_file(json.dumps([LEAST, LEAST | {"instances": 0}]))
    assert caught.value.field == "jobs[1].instances"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(JobSpec.model_fields)), JSON))
def test_whatever_comes_is_a_job_or_a_clear_refusal(document: dict[str, Any]) -> None:
    try:
        spec = parse_spec(LEAST | document)
    except PriorityError as error:
        assert isinstance(error, Invalid)
        assert error.field
    else:
        assert parse_spec(spec.model_dump(mode="json")) == spec


@given(st.text(max_size=60))
def test_whatever_text_comes_is_read_or_clearly_refused(text: str) -> None:
    try:
        parse_file(text)
    except PriorityError as error:
        assert error.status in (400, 422)


def test_a_spec_comes_back_from_yaml_as_it_was() -> None:
    spec = parse_spec(
        LEAST
        | {
            "resources": {"cpus": 0.5, "mem": "2GiB"},
            "constraints": [{"attribute": "rack", "in": ["r2", "r1"]}],
            "preempt": {"notice": "2m"},
            "max_runtime": "1h",
        }
    )
    assert parse_file(yaml.safe_dump(spec.model_dump(mode="json"))) == [spec]


def test_a_job_that_does_not_say_how_many_cores_holds_one() -> None:
    spec = {"role": "a", "tier": "devel", "name": "x", "command": "true"}
    assert parse_spec(spec).resources == {"cpus": 1000}
    assert parse_spec({**spec, "resources": {"mem": "1GiB"}}).resources == {"cpus": 1000, "mem": 1024}


@pytest.mark.parametrize(
    ("resources", "field"),
    [({"cpus": 0}, "resources.cpus"), ({"cpu": 2}, "resources.cpu"), ({"memory": 2}, "resources.memory")],
)
def test_no_way_round_a_ceiling(resources: dict[str, int], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_spec({"role": "a", "tier": "devel", "name": "x", "command": "true", "resources": resources})
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("resources", "limits", "held"),
    [
        ({}, Limits(mem_per_cpu=128), {"cpus": 1000, "mem": 128}),
        ({"cpus": 4}, Limits(mem_per_cpu=128), {"cpus": 4000, "mem": 512}),
        ({"cpus": 0.75}, Limits(mem_per_cpu=129), {"cpus": 750, "mem": 97}),
        ({"cpus": 0.01, "gpus": 1}, Limits(mem_per_cpu=128), {"cpus": 10, "gpus": 1000, "mem": 32}),
        ({"cpus": 10**9}, Limits(mem_per_cpu=2**20), {"cpus": 10**12, "mem": 10**12}),
        ({"mem": 1}, Limits(mem_per_cpu=128), {"cpus": 1000, "mem": 1}),
        ({}, Limits(), {"cpus": 1000}),
        ({"mem": "0MiB"}, Limits(), {"cpus": 1000}),
        ({"mem": 0}, Limits(mem_per_cpu=128, mem_none=("devel",)), {"cpus": 1000}),
        ({}, Limits(mem_per_cpu=128, mem_none=("devel",)), {"cpus": 1000, "mem": 128}),
        ({"mem": 0}, Limits(mem_per_cpu=128, mem_none=("opportunistic",)), None),
        ({"mem": "0MiB"}, Limits(mem_per_cpu=128), None),
    ],
)
def test_memory_that_is_not_named(resources: dict[str, Any], limits: Limits, held: dict[str, int] | None) -> None:
    said = parse_spec({**LEAST, "tier": "devel", "resources": resources})
    assert parse_spec(said.model_dump(mode="json")) == said
    if held is None:
        with pytest.raises(Invalid, match=r"resources\.mem: must be more than 0: .* 128 MiB a cpu"):
            filled(said, limits)
        return
    found = filled(said, limits)
    assert found.resources == held
    assert ("mem" in said.resources) == ("mem" in resources)


GROUP = {"gang": True, "tier": "prod", "resources": {"cpus": 1, "mem": 64, "disk": 2}, "mesos": {"group": True}}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"gang": False}, r"mesos\.group: is for a gang"),
        ({"tier": "devel"}, r"mesos\.group: is not for devel"),
        ({"mesos": {"group": True, "container": {"image": "x", "runtime": "docker"}}}, r"mesos\.group: .*Docker"),
        ({"resources": {"cpus": 0.01, "mem": 64, "disk": 2}}, r"resources\.cpus: must be at least 0.02"),
        ({"resources": {"cpus": 1, "disk": 2}}, r"resources\.mem: must be at least 64"),
        ({"resources": {"cpus": 1, "mem": 64}}, r"resources\.disk: must be at least 2"),
    ],
)
def test_a_task_group_is_for_a_prod_gang_with_room_for_its_executor(changes: dict[str, Any], says: str) -> None:
    check_limits(parse_spec({**LEAST, **GROUP}), Limits())
    with pytest.raises(Invalid, match=says):
        check_limits(parse_spec({**LEAST, **GROUP, **changes}), Limits())


def test_what_only_mesos_can_do_is_refused_elsewhere() -> None:
    spec = parse_spec({**LEAST, "mesos": {"container": {"image": "library/python:3.12"}, "replace_after": "10m"}})
    assert spec.mesos is not None and spec.mesos.replace_after == 600.0
    check_limits(spec, Limits())
    with pytest.raises(Invalid, match="mesos: is for a Mesos cluster"):
        check_limits(spec, Limits(mesos=False))
    with pytest.raises(Invalid, match=r"mesos.container.image"):
        parse_spec({**LEAST, "mesos": {"container": {"runtime": "docker"}}})
