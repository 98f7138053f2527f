"""Who may see a page: the token comes in a cookie, and all that is refused is answered as a page.

The cookie holds the token itself, out of reach of scripts (HttpOnly) and never sent along from another site
(SameSite=Strict); so a token that is revoked or expires ends what was signed in with it. It is taken by pages alone:
the routes under /v1 want a header, which no other site can make a browser send.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError

from priority.errors import NotFound, PriorityError, Unauthenticated
from priority.face.routing import Guarded, asked, invalid_request
from priority.face.web import draw

_log = logging.getLogger(__name__)

STAYS_S = 12 * 3600
"""Signed in for a day's work."""

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}

_HERE = re.compile(r"/(?![/\\])[!-~]{0,2000}|/")


class Leaf(Guarded):
    """A route that is a page."""

    def secret(self, request: Request) -> str:
        """From the cookie."""
        return request.cookies.get(cookie_of(request), "")

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """As any route's, and whatever it raises becomes a page."""
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                response = await inner(request)
            except (PriorityError, RequestValidationError) as error:
                response = refused(request, error)
            except Exception:
                _log.exception("%s failed", asked(request))
                response = refused(request, PriorityError("a fault of ours; the server's log says more"))
            return hardened(response)

        return handle


def router() -> APIRouter:
    """Where pages are declared; they are not part of the API's description."""
    return APIRouter(route_class=Leaf, include_in_schema=False)


def hardened(response: Response) -> Response:
    """With what tells a browser not to trust what is in it."""
    for name, value in HEADERS.items():
        response.headers[name] = value
    response.headers.setdefault("cache-control", "no-store")
    return response


def refused(request: Request, error: PriorityError | RequestValidationError) -> Response:
    """Why not, as a page; who is not signed in gets the form."""
    problem = invalid_request(error.errors()) if isinstance(error, RequestValidationError) else error
    if not isinstance(problem, Unauthenticated):
        return draw.answer(request, "problem.html", problem.status, problem=problem)
    held = request.cookies.get(cookie_of(request))
    if held is None and request.headers.get("sec-fetch-site") == "cross-site":
        # A link on another site: the browser has kept the cookie back. Asked for anew by a page of ours, it sends it.
        return draw.answer(request, "bounce.html", there=here(request))
    if held is None and request.method == "GET" and request.headers.get("sec-fetch-mode", "navigate") == "navigate":
        # Not for what our script fetches: it would take the form for the page, where 401 tells it to load anew.
        return Response(status_code=303, headers={"location": sign_in_for(here(request))})
    said = "The token is not good any more: it is unknown, expired or revoked." if held else ""
    return form(request, here(request), said, 401)


def sign_in_for(there: str) -> str:
    """The address of the form that leads `there`."""
    return "/sign-in" if there == "/" else f"/sign-in?there={quote(there, safe='/')}"


def form(request: Request, there: str, said: str = "", status: int = 200) -> Response:
    """To sign in, and then go `there`."""
    request.state.user = None
    return draw.answer(request, "sign_in.html", status, there=there, said=said)


def not_found(request: Request) -> Response:
    """No such page."""
    return hardened(refused(request, NotFound(f"there is no {request.scope['path']}, or you have no grant for it")))


def here(request: Request) -> str:
    """The address that was asked for."""
    query = request.scope["query_string"].decode("latin-1")
    return quote(request.scope["path"], safe="/:@-._~!$&'()*+,;=") + (f"?{query}" if query else "")


def local(address: str) -> str:
    """An address of ours, or the first page: nobody is sent elsewhere."""
    return address if _HERE.fullmatch(address) else "/"


def cookie_of(request: Request) -> str:
    """Its name. Browsers do not tell ports apart, so that two services of a machine would share one."""
    port = request.headers.get("host", "").rpartition(":")[2]
    return f"priority_{port}" if port.isascii() and port.isdigit() else "priority"


def from_elsewhere(request: Request) -> bool:
    """Whether another site's page has made the browser send this form."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is not None and origin.partition("://")[2] != request.headers.get("host")
