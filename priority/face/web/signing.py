"""Routes to sign in and out, and what every page needs: its style and its script."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from urllib.parse import parse_qs

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool

from priority.errors import Malformed, Unauthenticated
from priority.face.request import Verbs
from priority.face.routing import Permission, needs, read_body
from priority.face.web import draw
from priority.face.web.door import STAYS_S, cookie_of, form, from_elsewhere, local, router

routes = router()

_FORM_MAX = 8192


@routes.get("/sign-in")
@needs(Permission.ANYONE)
async def show_form(request: Request, there: str = "/") -> Response:
    """Where a token is asked for."""
    return form(request, local(there))


@routes.post("/sign-in")
@needs(Permission.ANYONE)
async def sign_in(request: Request, service: Verbs) -> Response:
    """The token goes into the cookie if it is good."""
    if from_elsewhere(request):
        raise Malformed("this form was sent by another site; open the page itself to sign in")
    fields = parse_qs((await read_body(request, _FORM_MAX)).decode("utf-8", "replace"))
    there, secret = local(fields.get("there", ["/"])[0]), fields.get("token", [""])[0].strip()
    try:
        await run_in_threadpool(service.users.authenticate, secret)
    except Unauthenticated:
        return form(request, there, "That token is unknown, expired or revoked.", 401)
    response = Response(status_code=303, headers={"location": there})
    _keep(request, response, secret, STAYS_S)
    return response


@routes.post("/sign-out")
@needs(Permission.ANYONE)
async def sign_out(request: Request) -> Response:
    """The browser forgets the token; it stays good elsewhere."""
    if from_elsewhere(request):
        raise Malformed("this form was sent by another site; open the page itself to sign out")
    response = Response(status_code=303, headers={"location": "/sign-in"})
    _keep(request, response, "", 0)
    return response


def _keep(request: Request, response: Response, secret: str, stays_s: int) -> None:
    # We speak plain HTTP; who puts TLS in front says so, and then the cookie never goes without it.
    secure = request.headers.get("x-forwarded-proto", "") == "https"
    name = cookie_of(request)
    response.set_cookie(name, secret, max_age=stays_s, secure=secure, httponly=True, samesite="strict")


@routes.get("/page.css")
@needs(Permission.ANYONE)
async def style(request: Request) -> Response:
    """How pages look."""
    return _file(request, "page.css", "text/css")


@routes.get("/page.js")
@needs(Permission.ANYONE)
async def script(request: Request) -> Response:
    """What keeps them up to date."""
    return _file(request, "page.js", "text/javascript")


def _file(request: Request, name: str, kind: str) -> Response:
    body, tag = _read(name)
    headers = {"cache-control": "no-cache", "etag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=kind)


@lru_cache(maxsize=2)
def _read(name: str) -> tuple[bytes, str]:
    body = (draw.FOLDER / name).read_bytes()
    return body, f'"{hashlib.sha256(body).hexdigest()[:16]}"'
