"""Routes of cron jobs: submit, look, change."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Response

from priority.cron import CronSpec, Outcome
from priority.crontab import CronQuery, CronState
from priority.face import examples_cron as examples
from priority.face import plain_cron as plain
from priority.face import views_cron as views
from priority.face.openapi import Why, body_of, page_of, says
from priority.face.request import Actor, JobRef, NameQuery, Paging, Verbs, answer, with_key
from priority.face.routing import Permission, needs, reads, router

routes = router()

_PATH = "/cron/{role}/{tier}/{name}"
_KEYED = [Depends(with_key)]


@routes.post(
    "/cron",
    status_code=201,
    tags=["cron"],
    summary="Submit a cron job",
    response_model=views.CronSubmitted,
    responses={
        **says(examples.SUBMITTED, status=201, text="The cron job is on disk"),
        **says({**examples.SUBMITTED, "made": False}, text="The one that was there says this from now on"),
    },
    openapi_extra=body_of("CronSpec", examples.SPEC),
)
@needs(Permission.USER)
def submit_cron(actor: Actor, service: Verbs, body: Annotated[CronSpec, Depends(reads(CronSpec))]) -> Response:
    """A job with a schedule. One of the same role, tier and name says this from now on, for the runs that follow; sent
    twice, it is submitted once. Of a prod quota it takes what one run holds, or what its runs hold if that is more.
    """
    kept = service.crons.submit(actor, body)
    if service.largest.due():
        service.largest.refresh()
    document = {
        **plain.cron(kept.look),
        "made": kept.made,
        "altered": kept.changed,
        "warnings": service.largest.warnings([body]),
    }
    where = {"location": f"/v1/cron/{body.key}"}
    return answer(document, 201 if kept.made else 200, where)


@routes.get(
    "/cron",
    tags=["cron"],
    summary="List cron jobs",
    response_model=views.CronPage,
    responses=says(page_of(examples.SUMMARY)),
)
@needs(Permission.USER)
def list_crons(
    *,
    actor: Actor,
    service: Verbs,
    page: Paging,
    role: NameQuery = None,
    tier: NameQuery = None,
    user: NameQuery = None,
    state: CronState | None = None,
) -> Response:
    """Newest first, of the roles in which one may submit; deleted ones only if asked for."""
    query = CronQuery(roles=None if role is None else [role], tier=tier, user=user, state=state)
    looks, after = service.crons.list(actor, query, page)
    return answer({"items": [plain.cron_summary(look) for look in looks], "next": after})


@routes.get(
    _PATH,
    tags=["cron"],
    summary="One cron job",
    response_model=views.CronView,
    responses=says(examples.CRON),
    dependencies=_KEYED,
)
@needs(Permission.SUBMIT)
def show_cron(actor: Actor, service: Verbs, ref: JobRef) -> Response:
    """What it says, its next five ticks, and the newest of its history."""
    return answer(plain.cron(service.crons.show(actor, ref)))


@routes.get(
    f"{_PATH}/history",
    tags=["cron"],
    summary="What became of its ticks",
    response_model=views.TickPage,
    responses=says(page_of(examples.TICK)),
    dependencies=_KEYED,
)
@needs(Permission.SUBMIT)
def cron_history(
    *,
    actor: Actor,
    service: Verbs,
    ref: JobRef,
    page: Paging,
    outcome: Outcome | None = None,
) -> Response:
    """Newest first, one row for each tick; also of a cron job that was deleted."""
    ticks, after = service.crons.history(actor, ref, page, outcome)
    return answer({"items": [plain.tick(one) for one in ticks], "next": after})


@routes.post(
    f"{_PATH}/start",
    tags=["cron"],
    summary="Run it now",
    response_model=views.CronStarted,
    responses=says(examples.STARTED),
    openapi_extra=body_of("Why", {"why": "the input was late"}),
    dependencies=_KEYED,
)
@needs(Permission.SUBMIT)
def start_cron(
    *,
    actor: Actor,
    service: Verbs,
    ref: JobRef,
    body: Annotated[Why, Depends(reads(Why))],
) -> Response:
    """Beside its schedule, also while it is suspended. 409 if a run goes on and `collision` is `cancel_new`."""
    look, tick = service.crons.start(actor, ref, body.why)
    return answer({**plain.cron(look), "started": plain.tick(tick)})


@routes.post(
    f"{_PATH}/suspend",
    tags=["cron"],
    summary="Skip its ticks",
    response_model=views.CronView,
    responses=says({**examples.CRON, "state": "suspended", "next": None, "coming": [], "local": []}),
    openapi_extra=body_of("Why", {"why": "maintenance"}),
    dependencies=_KEYED,
)
@needs(Permission.SUBMIT)
def suspend_cron(
    *,
    actor: Actor,
    service: Verbs,
    ref: JobRef,
    body: Annotated[Why, Depends(reads(Why))],
) -> Response:
    """Until it is resumed. Runs that go on are left alone. Twice is once."""
    return answer(plain.cron(service.crons.suspend(actor, ref, body.why)))


@routes.post(
    f"{_PATH}/resume",
    tags=["cron"],
    summary="Run its ticks again",
    response_model=views.CronView,
    responses=says(examples.CRON),
    openapi_extra=body_of("Why", {"why": "maintenance is over"}),
    dependencies=_KEYED,
)
@needs(Permission.SUBMIT)
def resume_cron(
    *,
    actor: Actor,
    service: Verbs,
    ref: JobRef,
    body: Annotated[Why, Depends(reads(Why))],
) -> Response:
    """From the next one on. Twice is once."""
    return answer(plain.cron(service.crons.resume(actor, ref, body.why)))


@routes.delete(
    _PATH,
    tags=["cron"],
    summary="Delete a cron job",
    status_code=204,
    response_class=Response,
    responses={204: {"description": "It has no ticks any more"}},
    dependencies=_KEYED,
)
@needs(Permission.SUBMIT)
def delete_cron(actor: Actor, service: Verbs, ref: JobRef) -> Response:
    """Runs that go on are left alone; its history stays."""
    service.crons.delete(actor, ref)
    return Response(status_code=204)
