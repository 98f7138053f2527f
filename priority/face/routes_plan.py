"""Routes of what the engine would do, and of what it has done to whom."""

from __future__ import annotations

from typing import Annotated, Any

import anyio
from anyio.to_thread import run_sync
from fastapi import Depends, Query, Request, Response
from pydantic import TypeAdapter

from priority.document import JOB_PATTERN
from priority.errors import Invalid, TooLarge
from priority.face import examples, plain_plan, views
from priority.face.moment import Since, since_us
from priority.face.openapi import body_of, page_of, says
from priority.face.request import Actor, JobRef, NameQuery, Paging, Set, Verbs, answer, page_size, with_key, with_uid
from priority.face.routing import Permission, again, needs, parse, read_body, router
from priority.job import JobSpec

routes = router()

QUESTIONS = 1
"""So many are answered at once; the others wait without a thread, so that they hold up nobody else."""

_ONE: TypeAdapter[JobSpec] = TypeAdapter(JobSpec)
_MANY: TypeAdapter[tuple[JobSpec, ...]] = TypeAdapter(tuple[JobSpec, ...])

Job = Annotated[str | None, Query(description="Of this job: uid or role/tier/name", pattern=JOB_PATTERN)]


async def _specs(request: Request) -> tuple[JobSpec, ...]:
    """One job or a list of them."""
    settings = request.app.state.settings
    body = await read_body(request, settings.body_limit)
    specs = parse(_MANY, body, "jobs") if body.lstrip()[:1] == b"[" else (parse(_ONE, body),)
    if not specs:
        raise Invalid("jobs", "must hold at least one job")
    if len(specs) > settings.bulk_limit:
        raise TooLarge(f"jobs: there are {len(specs)}, at most {settings.bulk_limit} go into one request")
    return specs


@routes.post(
    "/plan",
    tags=["jobs"],
    summary="What would happen if",
    response_model=views.ForecastView,
    responses=says(examples.FORECAST, text="What would happen"),
    openapi_extra=body_of("JobSpecOrSpecs", examples.SPEC),
)
@needs(Permission.USER)
async def ask_plan(request: Request, actor: Actor, service: Verbs, specs: Annotated[Any, Depends(_specs)]) -> Response:
    """If this job (or these, in one request) were submitted now: where each instance would run, whom it would displace
    and at what cost, the quotas after; or why it would wait, and until when at the latest; or that it would be
    refused. Nothing is changed.
    """
    found = await run_sync(service.whatif.ask, actor, specs, limiter=request.app.state.plan_limiter)
    return answer(plain_plan.forecast(found))


@routes.get(
    "/preemptions",
    tags=["preemptions"],
    summary="Who gave way to whom",
    response_model=views.PreemptionPage,
    responses=says(page_of(examples.PREEMPTION)),
)
@needs(Permission.USER)
def list_preemptions(
    *,
    actor: Actor,
    service: Verbs,
    page: Paging,
    role: NameQuery = None,
    job: Job = None,
    since: Since = None,
    started: Annotated[bool | None, Query(description="Only those whose preemptor has started, or has not")] = None,
) -> Response:
    """Newest first: those with one side of a role in which one may submit. `role` and `job` may be either side's."""
    from_us = since_us(since, service.parts.clock.now_us())
    found, after = service.preemptions.list(actor, page, role=role, job=job, since_us=from_us, started=started)
    return answer({"items": [plain_plan.preemption(one) for one in found], "next": after})


@routes.get(
    "/preemptions/totals",
    tags=["preemptions"],
    summary="What roles took of each other",
    response_model=views.PreemptionTotals,
    responses=says(examples.PREEMPTION_TOTALS),
)
@needs(Permission.USER)
def total_preemptions(actor: Actor, service: Verbs, role: NameQuery = None, since: Since = None) -> Response:
    """Both ways, in tasks and cpu-seconds: for each role in which one may submit, and each pair with one of them."""
    from_us = since_us(since, service.parts.clock.now_us())
    return answer(plain_plan.totals(service.preemptions.totals(actor, role=role, since_us=from_us)))


def show_risk(
    *,
    actor: Actor,
    service: Verbs,
    settings: Set,
    ref: JobRef,
    limit: Annotated[
        int, Query(ge=1, le=100_000, description="Tasks in this answer, at most the service's limit")
    ] = 100,
) -> Response:
    """Its tasks that could be victims, in the order in which the engine would take them, and what would be lost."""
    return answer(plain_plan.risk(service.risk(actor, ref), page_size(limit, settings)))


for _path, _permission, _named in (
    ("/jobs/{uid}/risk", Permission.USER, with_uid),
    ("/jobs/{role}/{tier}/{name}/risk", Permission.SUBMIT, with_key),
):
    _name = f"show_risk_{_named.__name__}"
    routes.add_api_route(
        _path,
        again(show_risk, _permission, _name),
        methods=["GET"],
        tags=["jobs"],
        summary="Which of its tasks would be the next victims",
        response_model=views.RiskView,
        responses=says(examples.RISK),
        dependencies=[Depends(_named)],
        operation_id=_name,
    )


def limiter() -> anyio.CapacityLimiter:
    """For the threads that answer questions; made on the event loop."""
    return anyio.CapacityLimiter(QUESTIONS)
