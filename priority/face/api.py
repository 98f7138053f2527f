"""The API: FastAPI over the verbs, one process.

`create` makes the application over any `Service`; `serve` is what `priority api` runs. Every error leaves as an
RFC 9457 problem, every route asks for a token but health, and start-up fails when a route forgot to say for whom it
is (see `routing`). Reads run in threads; submissions go through one writing thread that shares commits (`batch`).
"""

from __future__ import annotations

import gc
import logging
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from priority.errors import Malformed, NotFound, PriorityError, TooLarge
from priority.face import (
    openapi,
    problem,
    routes_cluster,
    routes_cron,
    routes_jobs,
    routes_plan,
    routes_roles,
    routes_tasks,
)
from priority.face.batch import Submitter
from priority.face.events import Bell
from priority.face.listen import announce, bind, url_of, withdraw
from priority.face.routing import DISCARD_MAX, Gate, asked, check_app, invalid_request
from priority.face.web import cron_pages, door, pages, signing
from priority.printable import printable
from priority.service.build import Service
from priority.service.settings import Settings

_log = logging.getLogger(__name__)

DESCRIPTION = """Submit jobs tagged prod, devel or opportunistic; the scheduler places them, preempts the least
important work when the important needs the room, and brings the victims back.

Errors are RFC 9457 problem details. Lists are paged: pass `next` of a page as `after`."""


def create(service: Service, settings: Settings) -> FastAPI:
    """The application; its lifespan starts and ends the threads, the parts are its caller's."""
    app = FastAPI(
        title="priority",
        version=version("priority"),
        description=DESCRIPTION,
        lifespan=_lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    # Pages last: a route is looked for in this order.
    faces = (pages, cron_pages, signing)
    for part in (routes_jobs, routes_cron, routes_plan, routes_tasks, routes_roles, routes_cluster, *faces):
        app.include_router(part.routes)
    app.add_exception_handler(PriorityError, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_request)
    app.add_exception_handler(HTTPException, _refuse_http)
    app.add_exception_handler(Exception, _fault)
    app.openapi = lambda: openapi.describe(app)  # type: ignore[method-assign]
    app.state.service = service
    app.state.settings = settings
    app.state.gate = Gate(service.users.recall, service.users.authenticate)
    app.state.submitter = Submitter(service.jobs.submit)
    app.state.bell = Bell(service.parts.queue.watch, service.jobs.last_event)
    check_app(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    check_app(app)
    app.state.log_limiter = routes_tasks.limiter()
    app.state.plan_limiter = routes_plan.limiter()
    app.state.submitter.start()
    app.state.bell.start()
    try:
        yield
    finally:
        app.state.bell.close()
        app.state.submitter.stop()


def problem_response(
    error: PriorityError, status: int | None = None, headers: dict[str, str] | None = None
) -> Response:
    """An error on the wire. NaN and such in its details become null: the answer is always JSON."""
    document = problem.document(error, status)
    body = orjson.dumps(document, default=str, option=orjson.OPT_NON_STR_KEYS)
    sent = dict(headers or {})
    if error.status == 401:
        sent["www-authenticate"] = "Bearer"
    if isinstance(error, TooLarge) and error.details.get("size", 0) > DISCARD_MAX:
        sent["connection"] = "close"
    if error.status == 503:
        sent["retry-after"] = "1"
    return Response(body, status or error.status, sent, problem.MEDIA_TYPE)


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, PriorityError)
    if error.status >= 500:
        _log.warning("%s: %s", asked(request), printable(str(error)))
    return problem_response(error)


async def _refuse_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem_response(invalid_request(error.errors()))


async def _refuse_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.scope["path"]
    if error.status_code == 404:
        if not path.startswith("/v1/") and "text/html" in request.headers.get("accept", ""):
            return door.not_found(request)
        return problem_response(NotFound(f"there is no {path}, or you have no grant for it"))
    if error.status_code == 405:
        allowed = ", ".join(_methods(request))
        wrong = Malformed(f"{path} does not take {request.method}, but {allowed}")
        return problem_response(wrong, 405, {"allow": allowed})
    kind = Malformed if error.status_code < 500 else PriorityError
    return problem_response(kind(str(error.detail)), error.status_code, dict(error.headers or {}))


def _methods(request: Request) -> list[str]:
    """Every method that is taken at this address: by the first path that it fits."""
    routes = request.app.router.routes
    path = next((route.path for route in routes if route.matches(request.scope)[0] is not Match.NONE), None)
    return sorted({method for route in routes if route.path == path for method in route.methods or ()})


async def _fault(request: Request, error: Exception) -> Response:
    _log.error("%s failed", asked(request), exc_info=error)
    return problem_response(PriorityError("a fault of ours; the server's log says more"))


# --- the process


def serve(settings: Settings, listener: socket.socket | None = None, ready: Callable[[str], None] | None = None) -> int:
    """Answer requests until SIGTERM or SIGINT. `listener` is given by who keeps the address over our restarts;
    `ready` is told the URL once requests are answered.
    """
    from priority.service.build import build

    # Short turns: the thread that writes must not keep the one that answers waiting, and the other way round.
    sys.setswitchinterval(0.0005)
    listener = listener or bind(settings)
    service = build(settings)
    try:
        app = create(service, settings)
        gc.freeze()  # what stays for good is not looked through again and again while thousands of jobs come
        return _run(app, settings, listener, ready)
    finally:
        service.close()


def _run(app: FastAPI, settings: Settings, listener: socket.socket, ready: Callable[[str], None] | None) -> int:
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                announce(settings.state, url_of(listener))
                if ready is not None:
                    ready(url_of(listener))

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            withdraw(settings.state)  # here, for uvicorn raises the signal anew as soon as it is done
            app.state.bell.close()  # or it would wait in vain for those who listen
            await super().shutdown(sockets)

    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=3,
        backlog=2048,
    )
    server = Server(config)
    server.run(sockets=[listener])
    return 0 if server.started else 1
