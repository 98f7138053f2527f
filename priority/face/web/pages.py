"""Routes of pages: each asks the verbs what the routes of the API ask them, and shows the same views."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

from fastapi import Request, Response

from priority import resources
from priority.document import GLOB_PATTERN, JOB_PATTERN, NAME_PATTERN
from priority.errors import Invalid, PriorityError
from priority.face import plain, plain_plan, routes_cluster, routes_jobs, routes_tasks
from priority.face.request import Actor, NamePath, UidPath, Verbs
from priority.face.routing import Permission, again, needs
from priority.face.web import draw
from priority.face.web.asked import chosen, one_of
from priority.face.web.door import router
from priority.job import JobState
from priority.records import JobQuery, Page, User
from priority.service.build import Service
from priority.task import State

routes = router()

ROWS = 50
FEW = 10
TAIL = 65_536
"""So much of the end of an output is in the page itself; the script goes on from there."""


@routes.get("/")
@needs(Permission.USER)
def overview(request: Request, actor: Actor, service: Verbs) -> Response:
    """Health, how full the cluster is, what waits and why, who gave way to whom."""
    found = service.overview(actor)
    nodes = service.nodes.standing()
    preemptions, _ = service.preemptions.list(actor, Page(FEW))
    active, _ = service.jobs.look(actor, JobQuery(state=JobState.ACTIVE), Page(FEW))
    waiting = [
        {
            "uid": one.job.uid,
            "key": one.job.spec.key,
            "user": one.job.user,
            "count": one.count,
            "since": plain.moment(one.since_us),
            "why": "not looked at yet" if one.reason is None else one.reason.message,
        }
        for one in found.waiting
    ]
    return draw.answer(
        request,
        "overview.html",
        last=found.last_event,
        parts=routes_cluster.standing(service),
        nodes=nodes,
        capacity=resources.plain(found.capacity),
        held={tier: resources.plain(amounts) for tier, amounts in found.held.items()},
        found=found,
        waiting=waiting,
        preemptions=[plain_plan.preemption(one) for one in preemptions],
        jobs=[plain.job_summary(one.job, one.states) for one in active],
    )


@routes.get("/jobs")
@needs(Permission.USER)
def list_jobs(
    *,
    request: Request,
    actor: Actor,
    service: Verbs,
    role: str = "",
    tier: str = "",
    name: str = "",
    user: str = "",
    state: str = "",
    label: str = "",
    after: str = "",
) -> Response:
    """Newest first, those that fit."""
    given = {"role": role, "tier": tier, "name": name, "user": user, "state": state, "label": label}
    last = service.jobs.last_event()
    its_role = chosen("role", role, NAME_PATTERN)
    query = JobQuery(
        roles=None if its_role is None else [its_role],
        tier=chosen("tier", tier, NAME_PATTERN),
        name=chosen("name", name, GLOB_PATTERN),
        user=chosen("user", user, NAME_PATTERN),
        state=one_of(JobState, "state", state),
        label=routes_jobs.label_of(label or None),
    )
    looks, more = service.jobs.look(actor, query, Page(ROWS, after or None))
    return draw.answer(
        request,
        "jobs.html",
        last=last,
        given=given,
        tiers=list(service.parts.tiers),
        roles=sorted(service.roles.show(actor)),
        jobs=[plain.job_summary(one.job, one.states) for one in looks],
        after=after,
        more=more,
    )


def show_job(
    request: Request, actor: User, service: Service, ref: str, *, state: str, every: str, after: str
) -> Response:
    """What was asked for, how far it is and why, whom it met."""
    last = service.jobs.last_event()
    look = service.jobs.look_at(actor, ref)
    uid = look.job.uid
    chosen_state = one_of(State, "state", state)
    states = None if chosen_state is None else [chosen_state]
    tasks, more = service.jobs.tasks(actor, uid, Page(ROWS, after or None), states, not every)
    preemptions, _ = service.preemptions.list(actor, Page(FEW), job=uid)
    return draw.answer(
        request,
        "job.html",
        last=last,
        job=plain.job(look.job, look.states),
        why=plain.explanation(service.explain(actor, uid)),
        tasks=[plain.task(one) for one in tasks],
        preemptions=[plain_plan.preemption(one) for one in preemptions],
        given={"state": state, "every": every},
        states=[one.value for one in State],
        after=after,
        more=more,
    )


@routes.get("/jobs/{uid}")
@needs(Permission.USER)
def show_job_by_uid(
    *,
    request: Request,
    actor: Actor,
    service: Verbs,
    uid: UidPath,
    state: str = "",
    every: str = "",
    after: str = "",
) -> Response:
    """One job."""
    return show_job(request, actor, service, uid, state=state, every=every, after=after)


@routes.get("/jobs/{role}/{tier}/{name}")
@needs(Permission.SUBMIT)
def show_job_by_key(
    *,
    request: Request,
    actor: Actor,
    service: Verbs,
    role: NamePath,
    tier: NamePath,
    name: NamePath,
    state: str = "",
    every: str = "",
    after: str = "",
) -> Response:
    """The latest of this name."""
    return show_job(request, actor, service, f"{role}/{tier}/{name}", state=state, every=every, after=after)


@routes.get("/tasks/{uid}")
@needs(Permission.USER)
def show_task(*, request: Request, actor: Actor, service: Verbs, uid: UidPath, stream: str = "stdout") -> Response:
    """One attempt of an instance: why it is where it is, and its output."""
    if stream not in ("stdout", "stderr"):
        raise Invalid("stream", "must be stdout or stderr")
    last = service.jobs.last_event()
    task = service.jobs.task(actor, uid)
    said: dict[str, Any] = {"text": "", "next": 0, "begins": 0, "ended": False, "fault": ""}
    try:
        chunk = service.jobs.logs(actor, uid, stream=cast(Any, stream), offset=-TAIL, limit=TAIL)
        text, after = draw.output(chunk.data), chunk.offset + len(chunk.data)
        said |= {"text": text, "next": after, "begins": chunk.offset, "ended": chunk.ended}
    except PriorityError as error:
        said["fault"] = error.message
    return draw.answer(
        request,
        "task.html",
        last=last,
        task=plain.task(task),
        job=plain.job_summary(service.jobs.get(actor, task.job)),
        why=plain.explanation(service.explain(actor, uid)),
        stream=stream,
        said=said,
    )


@routes.get("/nodes")
@needs(Permission.USER)
def list_nodes(request: Request, actor: Actor, service: Verbs) -> Response:
    """What they have, and what is held of it."""
    last = service.jobs.last_event()
    nodes = [plain.node(view) for view in service.nodes.list(actor)]
    names = sorted({name for node in nodes for name in node["capacity"]})
    states = Counter(node["state"] for node in nodes)
    return draw.answer(request, "nodes.html", last=last, nodes=nodes, names=names, states=states)


@routes.get("/roles")
@needs(Permission.USER)
def list_roles(request: Request, actor: Actor, service: Verbs) -> Response:
    """Every role that one may see, and what is taken of its quotas."""
    return _roles(request, actor, service, None)


@routes.get("/roles/{role}")
@needs(Permission.SUBMIT)
def show_role(request: Request, actor: Actor, service: Verbs, role: NamePath) -> Response:
    """One role, with its users."""
    return _roles(request, actor, service, role)


def _roles(request: Request, actor: User, service: Service, role: str | None) -> Response:
    last = service.jobs.last_event()
    roles = service.roles.show(actor) if role is None else service.roles.show(actor, role)
    quota = plain.quota(service.roles.quota(actor, role))
    totals = plain_plan.totals(service.preemptions.totals(actor, role=role))
    return draw.answer(
        request,
        "roles.html",
        last=last,
        one=role,
        roles=[plain.role(name, spec) for name, spec in roles.items()],
        lines=[line for line in quota["items"] if role is not None or line["user"] is None],
        warnings=quota["warnings"],
        totals={one["role"]: one for one in totals["items"]},
    )


@routes.get("/preemptions")
@needs(Permission.USER)
def list_preemptions(
    *, request: Request, actor: Actor, service: Verbs, role: str = "", job: str = "", after: str = ""
) -> Response:
    """Who gave way to whom, newest first."""
    last = service.jobs.last_event()
    its_role, its_job = chosen("role", role, NAME_PATTERN), chosen("job", job, JOB_PATTERN)
    found, more = service.preemptions.list(actor, Page(ROWS, after or None), role=its_role, job=its_job)
    return draw.answer(
        request,
        "preemptions.html",
        last=last,
        given={"role": role, "job": job},
        preemptions=[plain_plan.preemption(one) for one in found],
        after=after,
        more=more,
    )


# --- what the pages' script asks for: the routes of the API, behind this door

for _path, _endpoint in (("/events", routes_tasks.list_events), ("/tasks/{uid}/logs", routes_tasks.show_logs)):
    routes.get(_path)(again(_endpoint, Permission.USER, f"page_{_endpoint.__name__}"))
