"""The OpenAPI document, and the API held to it by schemathesis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from pydantic import TypeAdapter

from priority.backend.memory import MemoryBackend
from priority.face import api, problem, views
from priority.queue.memory import MemoryQueue
from priority.service.build import assemble
from priority.service.clock import SystemClock
from priority.service.parts import Parts
from priority.service.settings import Settings
from priority.store import open_store

from .live import TIERS, Live, parts_in, serving, spec


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with serving(parts_in(tmp_path_factory.mktemp("openapi")), scheduler=False) as found:
        found.client().submit(spec("devel/there"))
        yield found


@pytest.fixture(scope="module")
def described(live: Live) -> Any:
    return live.client().openapi()


def operations(document: Any) -> Iterator[tuple[str, Any]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_every_operation_is_complete(described: Any) -> None:
    for name, operation in operations(described):
        assert operation["summary"] and operation["description"] and operation["operationId"] and operation["tags"], (
            name
        )
        good = [answer for status, answer in operation["responses"].items() if status[0] == "2"]
        assert good, name
        for answer in good:
            for content in answer.get("content", {}).values():
                assert "example" in content, name
        for body in operation.get("requestBody", {}).get("content", {}).values():
            assert "example" in body and "schema" in body, name
        assert ("security" in operation) == (name != "GET /v1/health"), name
        assert "application/problem+json" in operation["responses"]["404"]["content"], name


def test_every_example_of_a_problem_is_of_its_status(described: Any) -> None:
    seen = 0
    for name, operation in operations(described):
        for status, answer in operation["responses"].items():
            content = answer.get("content", {}).get(problem.MEDIA_TYPE)
            assert (content is None) == (status[0] == "2" or (name, status) == ("GET /v1/health", "503")), (
                name,
                status,
            )
            if content is None:
                continue
            example = content["example"]
            kind = type(problem.rebuild(int(status), example))
            assert example["status"] == int(status) == kind.status, (name, status)
            assert example["code"] == kind.code and example["title"] == kind.__doc__, (name, status)
            assert example["type"] == problem.TYPE_PREFIX + kind.code, (name, status)
            TypeAdapter(views.Problem).validate_python(example)
            seen += 1
    assert seen > 100


def test_examples_of_bodies_are_valid(described: Any) -> None:
    from priority.face.openapi import BODIES

    for name, operation in operations(described):
        for body in operation.get("requestBody", {}).get("content", {}).values():
            TypeAdapter(BODIES[body["schema"]["$ref"].rpartition("/")[2]]).validate_python(body["example"]), name


def test_every_reference_leads_somewhere(described: Any) -> None:
    import re

    import orjson

    references = set(re.findall(r'"#/components/schemas/([^"]+)"', orjson.dumps(described).decode()))
    assert references <= described["components"]["schemas"].keys()


def test_operation_ids_are_unique(described: Any) -> None:
    names = [operation["operationId"] for _, operation in operations(described)]
    assert len(names) == len(set(names))


def document() -> Any:
    """Of an application over nothing: the description depends on the code alone."""
    nothing = Settings()
    parts = Parts(open_store("sqlite://"), MemoryQueue(TIERS), MemoryBackend(SystemClock()), nothing)
    return api.create(assemble(parts), nothing).openapi()


schema = schemathesis.openapi.from_dict(document())
positive_data_acceptance = schemathesis.checks.CHECKS.get_one("positive_data_acceptance")
"""Left out: limits are settings and tiers are data, so what a schema lets through may still be refused."""


@schema.parametrize()
@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_the_api_keeps_to_it(case: Any, live: Live) -> None:
    """Whatever it is asked: documented statuses, media types and shapes, never a 500."""
    if case.path == "/v1/events":
        case.query = {**(case.query or {}), "follow": "false"}  # else it never ends
    headers = {"Authorization": f"Bearer {live.tokens['root']}"}
    case.call_and_validate(base_url=live.url, headers=headers, excluded_checks=[positive_data_acceptance])
