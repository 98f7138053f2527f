"""Routes of tasks, of their output, and of events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Literal

import anyio
from anyio.to_thread import run_sync
from fastapi import Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from priority.document import JOB_PATTERN
from priority.errors import Invalid, PriorityError
from priority.face import events, examples, plain, views
from priority.face.openapi import says
from priority.face.request import Actor, JobRef, Set, UidPath, Verbs, answer, page_size, with_key, with_uid
from priority.face.routing import Permission, again, needs, router
from priority.orders import LogChunk

routes = router()

LOG_WAITERS = 200
"""So many requests may wait for output at once, in threads of their own, so that they hold up nobody else."""

LOG_PIECE = 65_536


@routes.get(
    "/tasks/{uid}", tags=["tasks"], summary="One task", response_model=views.TaskView, responses=says(examples.TASK)
)
@needs(Permission.USER)
def show_task(actor: Actor, service: Verbs, uid: UidPath) -> Response:
    """One attempt of one instance."""
    return answer(plain.task(service.jobs.task(actor, uid)))


@routes.get(
    "/tasks/{uid}/explain",
    tags=["tasks"],
    summary="Why a task is where it is",
    response_model=views.ExplanationView,
    responses=says(examples.EXPLANATION),
)
@needs(Permission.USER)
def explain_task(actor: Actor, service: Verbs, uid: UidPath) -> Response:
    """Why it waits, runs or ended: by whom, for whom, at what cost."""
    return answer(plain.explanation(service.explain(actor, uid)))


async def show_logs(
    *,
    request: Request,
    service: Verbs,
    ref: JobRef,
    instance: Annotated[int | None, Query(ge=0, le=10**9, description="Which instance of a job")] = None,
    stream: Literal["stdout", "stderr"] = "stdout",
    offset: Annotated[int, Query(ge=-(2**53), le=2**53, description="First byte; negative: from the end")] = 0,
    limit: Annotated[int, Query(ge=1, le=2**20, description="Bytes in this answer")] = LOG_PIECE,
    wait_s: Annotated[float, Query(ge=0, le=30, description="How long to wait for output")] = 0.0,
    follow: Annotated[bool, Query(description="Go on until the task has ended")] = False,
) -> Response:
    """The bytes as they are. `Log-Offset` is where the piece begins, `Log-Next` where the next one does, and
    `Log-Ended` says whether there will be more. Only the last part of a long output is kept: a piece that begins after
    `offset` tells how much is gone. `Log-Started` is false as long as the task was never on a node.
    """

    secret: str = request.state.secret

    def piece(at: int, wait: float) -> LogChunk:
        reader = service.users.authenticate(secret)  # it may have been revoked since
        return service.jobs.logs(reader, ref, instance=instance, stream=stream, offset=at, limit=limit, wait_s=wait)

    async def read(at: int, wait: float) -> LogChunk:
        limiter = request.app.state.log_limiter
        return await run_sync(piece, at, wait, limiter=limiter, abandon_on_cancel=True)

    chunk = await read(offset, 0.0 if follow else wait_s)
    after = chunk.offset + len(chunk.data)
    headers = {"log-offset": str(chunk.offset), "log-ended": str(chunk.ended).lower(), "log-next": str(after)}
    headers["log-started"] = str(chunk.started).lower()
    if not follow:
        return Response(chunk.data, 200, headers, "application/octet-stream")
    return StreamingResponse(_follow(request.app.state.bell, read, chunk), 200, headers, "application/octet-stream")


async def _follow(bell: events.Bell, read: Callable[[int, float], Any], first: LogChunk) -> AsyncIterator[bytes]:
    chunk: LogChunk | None = first
    while chunk is not None:  # None: we are about to end
        if chunk.data:
            yield chunk.data
        elif chunk.ended:
            return
        try:
            chunk = await bell.unless_closed(read(chunk.offset + len(chunk.data), 20.0))
        except PriorityError:
            return  # the headers are out; the client sees where it stopped and asks again


def _logs(path: str, permission: Permission, named: Any, name: str) -> None:
    octets = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}, "example": "hello\n"}}
    whole = {"schema": {"type": "string"}}
    headers = {"Log-Offset": whole, "Log-Next": whole, "Log-Ended": whole, "Log-Started": whole}
    routes.add_api_route(
        path,
        again(show_logs, permission, name),
        methods=["GET"],
        tags=["tasks"],
        summary="Its output",
        response_class=Response,
        responses={200: {"description": "The bytes", "content": octets, "headers": headers}},
        dependencies=[Depends(named)],
        operation_id=name,
    )


_logs("/jobs/{uid}/logs", Permission.USER, with_uid, "show_logs_by_uid")
_logs("/jobs/{role}/{tier}/{name}/logs", Permission.SUBMIT, with_key, "show_logs_by_key")
_logs("/tasks/{uid}/logs", Permission.USER, with_uid, "show_logs_of_task")


@routes.get(
    "/events",
    tags=["events"],
    summary="What happens",
    response_model=views.EventPage,
    responses={
        200: {
            "description": "Server-sent events, or with `follow=false` one page of JSON",
            "content": {
                "application/json": {"example": {"items": [examples.EVENT], "next": None, "last": 42}},
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": 'id: 42\nevent: task.running\ndata: {"id": 42}\n\n',
                },
            },
        }
    },
)
@needs(Permission.USER)
async def list_events(
    *,
    request: Request,
    service: Verbs,
    settings: Set,
    after: Annotated[
        int | None, Query(ge=-1, le=2**63 - 1, description="Events after this id; 0: from the first, -1: from now on")
    ] = None,
    job: Annotated[
        str | None, Query(description="Only of this job: uid or role/tier/name", pattern=JOB_PATTERN)
    ] = None,
    follow: Annotated[bool, Query(description="Server-sent events, until the client goes")] = True,
    limit: Annotated[int, Query(ge=1, le=100_000, description="Events in a page of JSON")] = 100,
    last_event_id: Annotated[str | None, Header(description="Goes before `after`: how a browser resumes")] = None,
) -> Response:
    """In the order of the commits, of the roles in which one may submit and of the cluster. `after` or the header
    `Last-Event-ID` resumes behind an event; without either, following begins now and a page with the first event.
    """
    begin = _begin(last_event_id, after, follow)

    secret: str = request.state.secret

    def read(after: int, limit: int) -> list[dict[str, Any]]:
        # Asked anew for each page: a stream lives long, and neither a revoked token nor a lost grant may outlive it.
        reader = service.users.authenticate(secret)
        return [dict(plain.event(one)) for one in service.jobs.events(reader, after, limit, job)]

    if begin < 0:
        begin = await run_in_threadpool(service.jobs.last_event)
    if not follow:
        return await _event_page(read, begin, page_size(limit, settings))
    if job is not None:
        await run_in_threadpool(read, begin, 1)  # a job that is not there is a 404, not a stream of nothing
    body = events.stream(request.app.state.bell, read, begin)
    return StreamingResponse(body, media_type="text/event-stream", headers={"cache-control": "no-store"})


async def _event_page(read: events.Read, begin: int, limit: int) -> Response:
    items = await run_in_threadpool(read, begin, limit)
    last = items[-1]["id"] if items else begin
    return answer({"items": items, "next": last if len(items) == limit else None, "last": last})


def _begin(last_event_id: str | None, after: int | None, follow: bool) -> int:
    if last_event_id is not None:
        if not last_event_id.isascii() or not last_event_id.isdigit() or len(last_event_id) > 18:
            raise Invalid("Last-Event-ID", "must be the id of an event, a whole number")
        return int(last_event_id)
    if after is not None:
        return after
    return -1 if follow else 0


def limiter() -> anyio.CapacityLimiter:
    """For the threads that wait for output; made on the event loop."""
    return anyio.CapacityLimiter(LOG_WAITERS)
