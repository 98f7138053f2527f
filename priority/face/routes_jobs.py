"""Routes of jobs: submit, look, change."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Depends, Query, Request, Response
from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool

from priority import lifecycle
from priority.document import GLOB_PATTERN, shown
from priority.errors import Invalid, TooLarge
from priority.face import examples, plain, views
from priority.face.alike import parse_jobs
from priority.face.openapi import Choice, Scale, Which, body_of, page_of, says
from priority.face.request import Actor, JobRef, NameQuery, Paging, Verbs, answer, with_key, with_uid
from priority.face.routing import Permission, again, needs, parse, read_body, reads, router
from priority.job import Job, JobSpec, JobState, Name
from priority.records import JobQuery, Page, User
from priority.service.build import Service
from priority.service.ending import Order
from priority.service.jobs import Submission
from priority.service.largest import Largest
from priority.task import State

routes = router()

_ONE: TypeAdapter[JobSpec] = TypeAdapter(JobSpec)

_KEY_HEADER: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key with the same body never makes two jobs: the first answer is given again.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"},
}


def _key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not (0 < len(key) <= 200 and all("!" <= letter <= "~" for letter in key)):
        raise Invalid("Idempotency-Key", "must be 1 to 200 printable ASCII characters without a space")
    return key


@routes.post(
    "/jobs",
    status_code=201,
    tags=["jobs"],
    summary="Submit one job",
    response_model=views.Submitted,
    responses={
        **says(examples.SUBMITTED, status=201, text="The job is on disk"),
        **says(examples.SUBMITTED, text="The answer to the same key again"),
    },
    openapi_extra={**body_of("JobSpec", examples.SPEC), "parameters": [_KEY_HEADER]},
)
@needs(Permission.USER, direct=True)
async def submit_job(request: Request) -> Response:
    """Admitted by the quota of its role and tier, or refused with the numbers. 201 means that it is on disk."""
    state = request.app.state
    key = _key(request)
    spec = parse(_ONE, await read_body(request, state.settings.body_limit))
    accepted = await state.submitter.submit(Submission(request.state.user, (spec,), key))
    job = accepted.jobs[0]
    where = {"location": f"/v1/jobs/{job.uid}"}
    warnings = [*accepted.warnings, *await _warnings(state.service.largest, (spec,))]
    if accepted.replayed:
        (now,) = await run_in_threadpool(state.service.jobs.look_again, accepted.jobs)
        return answer({**plain.job(now.job, now.states), "warnings": warnings}, 200, where)
    return answer({**plain.job(job), "warnings": warnings}, 201, where)


async def _warnings(largest: Largest, specs: Sequence[JobSpec]) -> list[str]:
    """From what is known of the nodes. Nobody waits for them to be read anew, but who is to be warned."""
    if largest.due():
        reading = asyncio.get_running_loop().run_in_executor(None, largest.refresh)
        if largest.unread:
            await reading
    warnings = largest.warnings(specs)
    if warnings and not largest.sure():
        await run_in_threadpool(largest.refresh)
        warnings = largest.warnings(specs)
    return warnings


@routes.post(
    "/jobs/bulk",
    status_code=201,
    tags=["jobs"],
    summary="Submit many jobs in one transaction",
    response_model=views.Bulk,
    responses={
        **says(examples.BULK, status=201, text="The jobs are on disk"),
        **says({**examples.BULK, "replayed": True}, text="The answer to the same key again"),
    },
    openapi_extra={**body_of("JobSpecs", [examples.SPEC]), "parameters": [_KEY_HEADER]},
)
@needs(Permission.USER, direct=True)
async def submit_jobs(request: Request) -> Response:
    """A JSON list, or (media type `application/x-ndjson`) one job a line: all of them are admitted, or none."""
    state = request.app.state
    key = _key(request)
    body = await read_body(request, state.settings.body_limit)
    lines = "ndjson" in request.headers.get("content-type", "") or "jsonl" in request.headers.get("content-type", "")
    specs = _parse_lines(body) if lines else parse_jobs(body)
    if not specs:
        raise Invalid("jobs", "must hold at least one job")
    if len(specs) > state.settings.bulk_limit:
        raise TooLarge(f"jobs: there are {len(specs)}, at most {state.settings.bulk_limit} go into one request")
    accepted = await state.submitter.submit(Submission(request.state.user, specs, key))
    warnings = [*accepted.warnings, *await _warnings(state.service.largest, specs)]
    more = {"replayed": accepted.replayed, "warnings": warnings}
    if accepted.replayed:
        again = await run_in_threadpool(state.service.jobs.look_again, accepted.jobs)
        return answer({"jobs": [plain.job_summary(now.job, now.states) for now in again], **more})
    return answer({"jobs": [plain.job_summary(job) for job in accepted.jobs], **more}, 201)


def _parse_lines(body: bytes) -> tuple[JobSpec, ...]:
    specs: list[JobSpec] = []
    for line in body.splitlines():
        if line.strip():
            specs.append(parse(_ONE, line, f"jobs[{len(specs)}]"))
    return tuple(specs)


def label_of(text: str | None) -> tuple[str, str] | None:
    """`name=value` as a pair; `Invalid` if it is none."""
    if text is None:
        return None
    name, equals, value = text.partition("=")
    if not name or not equals or "\0" in text:
        raise Invalid("label", f"must be such as run=4711: a name, an equals sign and a value, not {shown(text)}")
    return name, value


@routes.get(
    "/jobs",
    tags=["jobs"],
    summary="List jobs",
    response_model=views.JobPage,
    responses=says(page_of(examples.JOB_SUMMARY)),
)
@needs(Permission.USER)
def list_jobs(
    *,
    actor: Actor,
    service: Verbs,
    page: Paging,
    role: Annotated[list[Name] | None, Query(description="Of any of these roles")] = None,
    tier: NameQuery = None,
    name: Annotated[str | None, Query(pattern=GLOB_PATTERN, description="`mc-*`: all that begin so")] = None,
    user: NameQuery = None,
    state: JobState | None = None,
    label: Annotated[
        str | None,
        Query(description="`name=value`", max_length=400, json_schema_extra={"pattern": r"^[^=\x00]+=[^\x00]*$"}),
    ] = None,
) -> Response:
    """Newest first, of the roles in which one may submit."""
    query = JobQuery(roles=role, tier=tier, name=name, user=user, state=state, label=label_of(label))
    jobs, after = service.jobs.look(actor, query, page)
    return answer({"items": [plain.job_summary(one.job, one.states) for one in jobs], "next": after})


def kill_jobs(*, actor: Actor, service: Verbs, body: Annotated[Choice, Depends(reads(Choice))]) -> Response:
    """Of jobs that are named all are killed, in one transaction, or (one is not there, or not yours) none. Of jobs that
    are selected a page is, the newest first: send it again with `after` until `next` is null. Twice is once.
    """
    return _end_many(service, actor, body, lifecycle.Event.KILL)


def restart_jobs(*, actor: Actor, service: Verbs, body: Annotated[Choice, Depends(reads(Choice))]) -> Response:
    """As many are killed. Of jobs that are named, one that has ended refuses it for all."""
    return _end_many(service, actor, body, lifecycle.Event.RESTART)


def _end_many(service: Service, actor: User, body: Choice, event: lifecycle.Event) -> Response:
    order = Order(event, body.instances, body.why, body.dry_run)
    selects = any(value is not None for value in (body.role, body.tier, body.name, body.user, body.label))
    if (body.jobs is None) != selects:
        also = "not both" if selects else "null alone would mean every job"
        raise Invalid("jobs", f"name the jobs, or say which by role, tier, name, user or label: {also}")
    after: str | None = None
    if body.jobs is not None:
        if body.after is not None:
            raise Invalid("after", "goes with jobs that are selected; those that are named are changed at once")
        found = service.jobs.end_named(actor, body.jobs, order)
    else:
        if body.instances is not None:
            raise Invalid("instances", "goes with jobs that are named: jobs that are selected are changed whole")
        roles = None if body.role is None else [body.role]
        query = JobQuery(roles, body.tier, body.name, body.user, None, label_of(body.label))
        page = Page(service.parts.settings.bulk_limit, body.after)
        found, after = service.jobs.end_selected(actor, query, page, order)
    return answer({"items": [plain.job_summary(one.job, one.states) for one in found], "next": after})


for _many, _what in ((kill_jobs, "End many jobs"), (restart_jobs, "Begin many jobs anew")):
    routes.add_api_route(
        f"/jobs/{_many.__name__.removesuffix('_jobs')}",
        needs(Permission.USER)(_many),
        methods=["POST"],
        tags=["jobs"],
        summary=_what,
        response_model=views.JobPage,
        responses=says(page_of(examples.JOB_SUMMARY)),
        openapi_extra=body_of("Choice", examples.NAMED),
        operation_id=_many.__name__,
    )


def show_job(actor: Actor, service: Verbs, ref: JobRef) -> Response:
    """With what was asked for and how far it is."""
    found = service.jobs.look_at(actor, ref)
    return answer(plain.job(found.job, found.states))


def list_tasks(
    *,
    actor: Actor,
    service: Verbs,
    ref: JobRef,
    page: Paging,
    state: Annotated[list[State] | None, Query(description="In any of these states")] = None,
    current: Annotated[
        bool, Query(description="Of each instance only the newest attempt, and one before it that still dies")
    ] = False,
) -> Response:
    """Every attempt of every instance, by instance and attempt."""
    tasks, after = service.jobs.tasks(actor, ref, page, state, current)
    return answer({"items": [plain.task(task) for task in tasks], "next": after})


def explain_job(actor: Actor, service: Verbs, ref: JobRef) -> Response:
    """Why it waits, or why it was killed: by whom, for whom, at what cost. One line first, then each task's."""
    return answer(plain.explanation(service.explain(actor, ref)))


def kill_job(actor: Actor, service: Verbs, ref: JobRef, body: Annotated[Which, Depends(reads(Which))]) -> Response:
    """What waits ends at once, what runs is stopped with the job's grace. Twice is once."""
    return _now(service, service.jobs.kill(actor, ref, body.instances, body.why))


def restart_job(actor: Actor, service: Verbs, ref: JobRef, body: Annotated[Which, Depends(reads(Which))]) -> Response:
    """What runs is stopped with the job's grace and begun anew."""
    return _now(service, service.jobs.restart(actor, ref, body.instances, body.why))


def scale_job(actor: Actor, service: Verbs, ref: JobRef, body: Annotated[Scale, Depends(reads(Scale))]) -> Response:
    """More instances are admitted like a submission; fewer kills those with the highest numbers."""
    (now,) = service.jobs.look_again([service.jobs.scale(actor, ref, body.instances)])
    return answer({**plain.job(now.job, now.states), "warnings": service.jobs.ceilings(now.job)})


def _now(service: Service, job: Job) -> Response:
    (now,) = service.jobs.look_again([job])
    return answer(plain.job(now.job, now.states))


def _both(method: str, action: str, endpoint: Any, *, summary: str, model: Any, example: Any, body: Any = None) -> None:
    """The same route by uid and by `role/tier/name`. By uid only the verb can tell whose the job is."""
    extra = body_of(body, {"instances": 2} if body == "Scale" else {"instances": [0]}) if body else None
    for path, permission, named in (
        ("/jobs/{uid}", Permission.USER, with_uid),
        ("/jobs/{role}/{tier}/{name}", Permission.SUBMIT, with_key),
    ):
        name = f"{endpoint.__name__}_{named.__name__}"
        routes.add_api_route(
            path + action,
            again(endpoint, permission, name),
            methods=[method],
            tags=["jobs"],
            summary=summary,
            response_model=model,
            responses=says(example),
            openapi_extra=extra,
            dependencies=[Depends(named)],
            operation_id=name,
        )


_both("GET", "", show_job, summary="One job", model=views.JobView, example=examples.JOB)
_both("GET", "/tasks", list_tasks, summary="Its tasks", model=views.TaskPage, example=page_of(examples.TASK))
_both(
    "GET",
    "/explain",
    explain_job,
    summary="Why it is where it is",
    model=views.ExplanationView,
    example=examples.EXPLANATION,
)
for _action, _endpoint, _summary, _body in (
    ("/kill", kill_job, "End it", "Which"),
    ("/restart", restart_job, "Begin it anew", "Which"),
    ("/scale", scale_job, "Change the number of its instances", "Scale"),
):
    _scaled = _body == "Scale"
    _model, _example = (views.Submitted, examples.SUBMITTED) if _scaled else (views.JobView, examples.JOB)
    _both("POST", _action, _endpoint, summary=_summary, model=_model, example=_example, body=_body)
