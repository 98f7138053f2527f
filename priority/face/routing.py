"""How a route is declared: never without saying who may use it.

    @router.get("/nodes", ...)
    @needs(Permission.USER)
    def list_nodes(...): ...

A route of `router()` without `needs` fails when it is declared, and one that came into the application by any other
way fails at start-up (`check`). Who has no permission is answered as if there were nothing at the address: the check
runs before anything of the request is looked at, so it cannot tell what exists from what does not. The verbs behind
the routes check every grant again, against the object itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from enum import StrEnum
from types import FunctionType
from typing import Any, TypeVar, cast

import orjson
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.dependencies.utils import get_flat_dependant
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from priority import strict
from priority.document import invalid, wording
from priority.errors import Invalid, Malformed, PriorityError, TooLarge, Unauthenticated
from priority.printable import printable
from priority.records import User
from priority.service import access

BODY_WAIT_S = 30.0
"""The whole body of a request has to be there within this time: a client that dribbles holds nothing for long."""

DISCARD_MAX = 64 * 2**20
"""A refused body of up to so many bytes is read and thrown away, so that its sender gets to read why: a connection
that is closed while it still sends is reset, and the answer with it. A larger one is cut off."""

OPEN = frozenset({"/v1/health", "/sign-in", "/sign-out", "/page.css", "/page.js"})
"""What is answered without a token: whether the service works, and the form that asks for one."""

T = TypeVar("T")
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


class Permission(StrEnum):
    """Who may use a route."""

    ANYONE = "anyone"
    """No token: only what is in `OPEN`."""
    USER = "user"
    """Any valid token; what it is answered holds only what its user has a grant for."""
    SUBMIT = "submit"
    """A grant on the role in the path."""
    ROLE_ADMIN = "role-admin"
    """The admin grant on the role in the path."""
    ADMIN = "admin"
    """A cluster admin."""


def needs(permission: Permission, *, direct: bool = False) -> Callable[[Endpoint], Endpoint]:
    """Declare who may use a route. `direct`: the endpoint gets the bare request and answers a Response, without
    FastAPI's own reading of parameters in between: for the few routes where each tenth of a millisecond counts.
    """

    def mark(endpoint: Endpoint) -> Endpoint:
        endpoint.__permission__ = permission  # type: ignore[attr-defined]
        endpoint.__direct__ = direct  # type: ignore[attr-defined]
        return endpoint

    return mark


def again(endpoint: Callable[..., Any], permission: Permission, name: str) -> Callable[..., Any]:
    """The same endpoint for another path: a function of its own, since each path has a permission of its own."""
    assert isinstance(endpoint, FunctionType)
    copy = FunctionType(endpoint.__code__, endpoint.__globals__, name, endpoint.__defaults__, endpoint.__closure__)
    copy.__annotations__ = endpoint.__annotations__
    copy.__kwdefaults__ = endpoint.__kwdefaults__
    copy.__doc__ = endpoint.__doc__
    return needs(permission)(copy)


def permission_of(route: Any) -> Permission | None:
    """What a route has declared, None where it has not."""
    declared = getattr(getattr(route, "endpoint", None), "__permission__", None)
    return declared if isinstance(route, Guarded) and isinstance(declared, Permission) else None


def check(routes: Iterable[Any]) -> None:
    """Fail start-up if any route has not declared its permission, or lets anyone in but to see health."""
    for route in routes:
        permission = permission_of(route)
        path = getattr(route, "path", repr(route))
        if permission is None:
            raise RuntimeError(f"the route {path} declares no permission: put @needs(...) on it")
        if permission is Permission.ANYONE and path not in OPEN:
            raise RuntimeError(f"the route {path} is open to anyone: only {', '.join(sorted(OPEN))} may be")


class Guarded(APIRoute):
    """A route that lets nobody in without its permission."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        if getattr(endpoint, "__direct__", False):
            # Without FastAPI's exit stacks around it: they are for dependencies, of which a direct route has none.
            self.app = _bare(self.get_route_handler())

    def secret(self, request: Request) -> str:
        """The token that it carries; empty if none."""
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        return secret if scheme.lower() == "bearer" else ""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """Authenticate, authorize, and only then do what FastAPI does."""
        declared = getattr(self.endpoint, "__permission__", None)
        if not isinstance(declared, Permission):
            raise RuntimeError(f"the route {self.path} declares no permission: put @needs(...) on it")
        permission: Permission = declared
        direct = getattr(self.endpoint, "__direct__", False)
        inner = self.endpoint if direct else super().get_route_handler()
        known = {field.alias for field in get_flat_dependant(self.dependant).query_params}

        async def handle(request: Request) -> Response:
            if permission is not Permission.ANYONE:
                gate: Gate = request.app.state.gate
                request.state.user = user = await gate.user(request, self.secret(request))
                _authorize(user, permission, request)
            if request.scope["query_string"]:
                _check_query(request, known)
            return cast(Response, await inner(request))

        return handle


def _bare(handle: Callable[[Request], Awaitable[Response]]) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await handle(Request(scope, receive, send))
        await response(scope, receive, send)

    return app


def _check_query(request: Request, known: set[str]) -> None:
    """A misspelt parameter is refused like a misspelt field: ignored, it would change what is asked for."""
    for name in request.query_params:
        if name not in known:
            there = f"there are {', '.join(sorted(known))}" if known else "this route has none"
            raise Invalid(name[:100], f"is not a parameter; {there}")


def router() -> APIRouter:
    """Where routes are declared: all under /v1."""
    return APIRouter(prefix="/v1", route_class=Guarded)


def _authorize(user: User, permission: Permission, request: Request) -> None:
    if permission is Permission.ADMIN:
        allowed = user.admin
    elif permission is Permission.SUBMIT:
        allowed = access.may(user, request.path_params["role"], "submit")
    elif permission is Permission.ROLE_ADMIN:
        allowed = access.may(user, request.path_params["role"], "admin")
    else:
        allowed = True
    if not allowed:
        raise access.no_such(_named(request, permission))


def _named(request: Request, permission: Permission) -> str:
    """What the path is about, in the words of who asks; never whether it is there."""
    named = request.path_params
    if {"role", "tier", "name"} <= named.keys():
        return f"job {named['role']}/{named['tier']}/{named['name']}"
    if "role" in named:
        change = f"{access.MAY}change (its admins may)" if permission is Permission.ROLE_ADMIN else ""
        return f"role {named['role']}{change}"
    path = str(request.scope["path"])
    kind, act = {"nodes": ("node", "change"), "users": ("user", "make or change")}.get(path.split("/")[2], ("", ""))
    return f"{kind} {named['name']}{access.MAY}{act} (a cluster admin may)" if kind and "name" in named else path


class Gate:
    """Whose token a request carries. `recall` answers at once or not at all, `authenticate` asks the database."""

    def __init__(self, recall: Callable[[str], User | None], authenticate: Callable[[str], User]) -> None:
        self._recall = recall
        self._authenticate = authenticate

    async def user(self, request: Request, secret: str) -> User:
        """`Unauthenticated` says what is missing, never why a token is not good."""
        if not secret:
            raise Unauthenticated("send a token: Authorization: Bearer TOKEN")
        request.state.secret = secret
        known = self._recall(secret)
        return known if known is not None else await run_in_threadpool(self._authenticate, secret)


async def read_body(request: Request, limit: int) -> bytes:
    """The body, refused as soon as it is known to be larger than `limit` bytes or does not come."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced[:20]) > limit:
        size = int(announced[:20])
        await _discard(request, size)
        raise TooLarge(f"the body has {size} bytes, at most {limit} are allowed", limit=limit, size=size)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_WAIT_S):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise TooLarge(f"the body has more than the {limit} bytes that are allowed", limit=limit)
                chunks.append(chunk)
    except TimeoutError:
        raise Malformed(f"the body did not arrive within {BODY_WAIT_S:.0f} s") from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _discard(request: Request, size: int) -> None:
    """Of a connection that is closed after the answer nothing is read any more: so before it, unless its sender waits
    for a word of ours to send it at all.
    """
    headers = request.headers
    if size > DISCARD_MAX or headers.get("connection", "").lower() != "close" or "expect" in headers:
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(BODY_WAIT_S):
            async for _ in request.stream():
                pass


def parse(adapter: TypeAdapter[T], body: bytes, prefix: str = "") -> T:
    """JSON text to a noun: `Malformed` if it is no JSON, `Invalid` with the field otherwise."""
    try:
        found = adapter.validate_json(body)
    except ValidationError as error:
        raise unreadable(error, prefix) from None
    refuse_repeated(body, prefix)
    return found


def refuse_repeated(body: bytes, prefix: str = "") -> None:
    """`Invalid` names the first field that is there twice in one object: both parsers here would keep the last.

    Every field has a colon. So where the body has as many as the same document written anew, none was dropped, and
    that is known in some 2 us (an escaped colon would spoil the count); else it is looked at by the strict reader.
    """
    with suppress(ValueError):
        if not repeats(body, orjson.loads(body)):
            return
    try:
        strict.read(body.decode(), prefix or "body")
    except Invalid as error:
        dot = "." if prefix and not error.field.startswith("[") else ""
        raise Invalid(f"{prefix}{dot}{error.field}", error.problem) from None


def repeats(body: bytes, read: Any) -> bool:
    """Whether a field may be there twice in the body, which was `read` as this. See `refuse_repeated`."""
    return b"\\u003" in body or body.count(b":") != orjson.dumps(read).count(b":")


def unreadable(error: ValidationError, prefix: str = "") -> PriorityError:
    """What pydantic found, as ours. Its own text of a JSON fault names line and column."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        where = f"{prefix}: " if prefix else ""
        return Malformed(f"{where}{first['msg'].replace('Invalid JSON', 'not JSON')}")
    return invalid(error, prefix)


def reads(kind: Any) -> Callable[[Request], Awaitable[Any]]:
    """A dependency that reads the body as `kind`, with the limits of every body."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)

    async def read(request: Request) -> Any:
        return parse(adapter, await read_body(request, request.app.state.settings.body_limit))

    return read


def field_of(location: Iterable[Any]) -> str:
    """FastAPI's location of a fault in a request, as the name of the field."""
    parts = [str(part) for part in location if not isinstance(part, int)]
    return ".".join(parts[1:] if parts and parts[0] in ("query", "path", "header", "body", "cookie") else parts)


def invalid_request(errors: Iterable[Any]) -> Invalid:
    """The first fault that FastAPI found in path, query or headers."""
    first = next(iter(errors))
    return Invalid(field_of(first.get("loc", ())) or "request", wording(first))


def asked(request: Request) -> str:
    """What was asked for, for the log: whoever asks must not be able to write a line of it."""
    return printable(f"{request.method} {request.scope['path']}")


def check_app(app: FastAPI) -> None:
    """`check` over everything that the application answers to."""
    check(app.router.routes)
