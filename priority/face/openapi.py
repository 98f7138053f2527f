"""The OpenAPI document: FastAPI's own, with the bodies that we read ourselves, the token, and every problem."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import ConfigDict, Field, TypeAdapter

from priority.cron import CronSpec
from priority.document import GLOB_PATTERN, JOB_PATTERN, Document
from priority.face import examples, problem, views
from priority.face.routing import Permission, permission_of
from priority.job import Amounts, Duration, JobSpec, Name, Text
from priority.role import RolesFile, RoleSpec

MAX_INSTANCES = 1_000_000


Instances = (
    Annotated[
        list[Annotated[int, Field(ge=0, le=MAX_INSTANCES, strict=True)]],
        Field(max_length=100_000, json_schema_extra={"minItems": 1}),
    ]
    | None
)


class Which(Document):
    """Which instances of the job (null: all), and why."""

    instances: Instances = None
    why: Annotated[Text, Field(max_length=1000)] = ""


class Choice(Document):
    """Which jobs: those of `jobs` (all of them are changed, or none), or the active ones that fit all else that is said
    of `role`, `tier`, `name`, `user` and `label`; and why.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [examples.NAMED, examples.SELECTED]})

    jobs: Annotated[list[Annotated[str, Field(pattern=JOB_PATTERN)]], Field(min_length=1, max_length=100_000)] | (
        None
    ) = None
    """Each a uid or role/tier/name."""
    role: Name | None = None
    tier: Name | None = None
    name: Annotated[str, Field(pattern=GLOB_PATTERN, examples=["mc-*"])] | (None) = None
    """`*` stands for any letters, `?` for one."""
    user: Name | None = None
    label: Annotated[Text, Field(max_length=400, examples=["run=4711"])] | (None) = None
    instances: Instances = None
    """Of each of `jobs` only these; null: all."""
    why: Annotated[Text, Field(max_length=1000)] = ""
    dry_run: Annotated[bool, Field(strict=True)] = False
    """Only say which jobs it would be."""
    after: Annotated[str, Field(pattern=r"^[0-9.]{1,40}$")] | (None) = None
    """The `next` of the answer before."""


class Why(Document):
    """Why it is done: others will read it."""

    why: Annotated[Text, Field(max_length=1000)] = ""


class Scale(Document):
    """How many instances there are to be."""

    instances: Annotated[int, Field(ge=1, le=10**9, strict=True)]


class NewUser(Document):
    """A user; grants come with the roles."""

    admin: Annotated[bool, Field(strict=True)] = False


class NewToken(Document):
    """For whom (null: oneself), what it is for, and for how long it is good (null: until it is revoked)."""

    user: Name | None = None
    label: Annotated[Text, Field(max_length=255)] = ""
    expires_s: Duration | None = None


BODIES: dict[str, Any] = {
    "JobSpec": JobSpec,
    "JobSpecs": list[JobSpec],
    "JobSpecOrSpecs": JobSpec | list[JobSpec],
    "CronSpec": CronSpec,
    "Which": Which,
    "Choice": Choice,
    "Why": Why,
    "Scale": Scale,
    "RolesFile": RolesFile,
    "RoleSpec": RoleSpec,
    "Amounts": Amounts,
    "NewUser": NewUser,
    "NewToken": NewToken,
}
"""What routes read by themselves, by the name of its schema."""

_TEXTS = {
    400: "It cannot be read",
    401: "A valid token is needed",
    403: "The quota does not allow it",
    404: "There is no such thing, or you have no grant for it",
    409: "It does not fit what is already there",
    413: "It is too large",
    422: "A field is not valid",
    500: "A fault of ours",
    503: "A part that is needed does not answer",
}


def body_of(name: str, example: Any) -> dict[str, Any]:
    """`openapi_extra` for a route that `reads` the body itself: the schema `name` of `BODIES`."""
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def says(example: Any, *, status: int = 200, text: str = "Done", **more: str) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route: its own answer with an example; the problems are added to all alike."""
    return {status: {"description": text, "content": {"application/json": {"example": example}}, **more}}


def page_of(item: Any, **more: Any) -> dict[str, Any]:
    """The example of a page."""
    return {"items": [item], "next": None, **more}


def describe(app: FastAPI) -> dict[str, Any]:
    """The whole document; made once."""
    if app.openapi_schema:
        return app.openapi_schema
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    for name, kind in {**BODIES, "Problem": views.Problem}.items():
        schema = TypeAdapter(kind).json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[name] = schema
    # A problem has members of its own beside the standard ones.
    schemas["Problem"]["additionalProperties"] = True
    document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for route in app.routes:
        for method in getattr(route, "methods", None) or ():
            operation = document["paths"].get(getattr(route, "path", ""), {}).get(method.lower())
            if operation is not None:
                _complete(operation, permission_of(route))
    app.openapi_schema = document
    return document


def _complete(operation: dict[str, Any], permission: Permission | None) -> None:
    if permission is not Permission.ANYONE:
        operation["security"] = [{"token": []}]
        operation["description"] = f"{operation.get('description', '')}\n\nPermission: {permission}.".strip()
    operation["responses"].pop("422", None)
    for status, text in _TEXTS.items():
        content = {"schema": {"$ref": "#/components/schemas/Problem"}, "example": examples.PROBLEMS[status]}
        operation["responses"].setdefault(str(status), {"description": text, "content": {problem.MEDIA_TYPE: content}})
