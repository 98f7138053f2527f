"""What endpoints ask of a request: who acts, the verbs, a page, a checked path; and how they answer."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import Depends, Path, Query, Request, Response

from priority.document import NAME_PATTERN, UID_PATTERN
from priority.errors import Invalid
from priority.records import Page, User
from priority.service.build import Service
from priority.service.settings import Settings


async def _actor(request: Request) -> User:
    user: User = request.state.user
    return user


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


Actor = Annotated[User, Depends(_actor)]
Verbs = Annotated[Service, Depends(_service)]
Set = Annotated[Settings, Depends(_settings)]


async def _page(
    settings: Set,
    limit: Annotated[int, Query(ge=1, le=100_000, description="Rows in this page, at most the service's limit")] = 100,
    after: Annotated[
        str | None, Query(pattern=r"^[A-Za-z0-9_.:/=-]{1,300}$", description="The cursor `next` of the page before")
    ] = None,
) -> Page:
    return Page(limit=page_size(limit, settings), after=after)


def page_size(limit: int, settings: Settings) -> int:
    """So many rows; `Invalid` if they are more than a page may have, rather than fewer than were asked for."""
    if limit > settings.page_limit:
        raise Invalid("limit", f"must be at most {settings.page_limit} (setting page_limit), not {limit}")
    return limit


Paging = Annotated[Page, Depends(_page)]


async def _job_ref(request: Request) -> str:
    """The job that the path names: by uid or by its three names."""
    named = request.path_params
    return named["uid"] if "uid" in named else f"{named['role']}/{named['tier']}/{named['name']}"


JobRef = Annotated[str, Depends(_job_ref)]

NamePath = Annotated[str, Path(pattern=NAME_PATTERN, examples=["physics"])]
UidPath = Annotated[str, Path(pattern=UID_PATTERN, examples=["01j9z3c4v5x6y7z8a9b0c"])]


async def with_uid(uid: UidPath) -> None:
    """The path names a thing by its id."""


async def with_key(role: NamePath, tier: NamePath, name: NamePath) -> None:
    """The path names the latest job of this role, tier and name."""


NameQuery = Annotated[str | None, Query(pattern=NAME_PATTERN)]


def answer(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Plain JSON."""
    return Response(orjson.dumps(document), status, headers, "application/json")
