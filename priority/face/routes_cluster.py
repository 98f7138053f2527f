"""Routes of the service itself and of its nodes."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import Request, Response

from priority.errors import PriorityError
from priority.face import examples, plain, views
from priority.face.openapi import describe, says
from priority.face.request import Actor, NamePath, Verbs, answer
from priority.face.routing import Permission, needs, router
from priority.service.build import Service

METRICS = "text/plain; version=0.0.4; charset=utf-8"

routes = router()


@routes.get(
    "/health",
    tags=["service"],
    summary="Whether it works",
    response_model=views.Health,
    responses={**says(examples.HEALTH), **says(examples.HEALTH, status=503, text="The database does not answer")},
)
@needs(Permission.ANYONE)
def health(service: Verbs) -> Response:
    """Part by part, without a token. 503 only when nothing can be accepted: a degraded service answers 200."""
    parts = standing(service)
    status = "ok" if set(parts.values()) == {"ok"} else "degraded"
    document = {"status": status, "version": version("priority"), "parts": parts}
    return answer(document, 200 if parts["database"] == "ok" else 503, {"cache-control": "no-store"})


def standing(service: Service) -> dict[str, str]:
    """Of each part: `ok`, or what is wrong with it."""
    redis = {"redis": "ok" if service.parts.queue.alive() else "does not answer: slower, but nothing is lost"}
    try:
        (nodes, up, silent), led = service.nodes.standing(), service.nodes.led()
        mesos = _mesos(service)
    except PriorityError:
        return {"database": "does not answer", **redis, "scheduler": "not known", "nodes": "not known"}
    some = f"{up} of {nodes} are up" + (f", {silent} {'is' if silent == 1 else 'are'} silent" if silent else "")
    return {
        "database": "ok",
        **redis,
        "scheduler": _scheduler(service) if led else "no scheduler leads",
        "nodes": "ok" if up and up == nodes else some,
        **mesos,
    }


def _mesos(service: Service) -> dict[str, str]:
    if service.parts.settings.backend != "mesos":
        return {}
    from priority.service.mesos import contact

    return {"mesos": contact(service.parts.store)}


def _scheduler(service: Service) -> str:
    refused = service.nodes.refused()
    plans = "1 plan was" if refused == 1 else f"{refused} plans were"
    return f"{plans} refused by certify, see: priority audit list --action plan.refuse" if refused else "ok"


@routes.get(
    "/metrics",
    tags=["service"],
    summary="Metrics, for Prometheus",
    response_class=Response,
    responses={200: {"description": "As text", "content": {METRICS: {"example": examples.METRICS}}}},
)
@needs(Permission.ADMIN)
def read_metrics(service: Verbs) -> Response:
    """Nodes, capacity, quotas and what is held, what waits and why, preemptions, and whether each part works. With the
    token of a cluster admin, as it tells of every role.
    """
    from priority.face import metrics

    noted: dict[str, Any] = {}
    if service.parts.settings.backend == "mesos":
        from priority.service.mesos import noted as noted_by_driver

        noted = noted_by_driver(service.parts.store)
    text = metrics.text(service.metrics(), service.nodes.refused(), standing(service), noted)
    return Response(text, media_type=METRICS, headers={"cache-control": "no-store"})


@routes.get("/me", tags=["users"], summary="Who am I", response_model=views.UserView, responses=says(examples.USER))
@needs(Permission.USER)
async def me(actor: Actor) -> Response:
    """Whose token this is, and what they may do."""
    return answer(plain.user(actor))


@routes.get(
    "/openapi.json",
    tags=["service"],
    summary="This description",
    response_model=dict[str, Any],
    responses=says({"openapi": "3.1.0"}),
)
@needs(Permission.USER)
async def openapi(request: Request) -> Response:
    """Every route, with examples."""
    return answer(describe(request.app))


@routes.get(
    "/nodes",
    tags=["nodes"],
    summary="Every node",
    response_model=views.Nodes,
    responses=says({"items": [examples.NODE]}),
)
@needs(Permission.USER)
def list_nodes(actor: Actor, service: Verbs) -> Response:
    """What they have, what tasks hold of it, and when they were last heard of."""
    return answer({"items": [plain.node(view) for view in service.nodes.list(actor)]})


@routes.post(
    "/nodes/{name}/drain",
    tags=["nodes"],
    summary="No new tasks there",
    response_model=views.NodeView,
    responses=says({**examples.NODE, "state": "draining", "drained": True}),
)
@needs(Permission.ADMIN)
def drain_node(actor: Actor, service: Verbs, name: NamePath) -> Response:
    """What runs there goes on."""
    service.nodes.drain(actor, name)
    return _node(service, actor, name)


@routes.post(
    "/nodes/{name}/undrain",
    tags=["nodes"],
    summary="New tasks there again",
    response_model=views.NodeView,
    responses=says(examples.NODE),
)
@needs(Permission.ADMIN)
def undrain_node(actor: Actor, service: Verbs, name: NamePath) -> Response:
    """The end of a drain."""
    service.nodes.undrain(actor, name)
    return _node(service, actor, name)


@routes.delete(
    "/nodes/{name}",
    tags=["nodes"],
    summary="Forget a node",
    status_code=204,
    response_class=Response,
    responses={204: {"description": "It is forgotten"}},
)
@needs(Permission.ADMIN)
def forget_node(actor: Actor, service: Verbs, name: NamePath) -> Response:
    """One that is down and will not come back."""
    service.nodes.forget(actor, name)
    return Response(status_code=204)


def _node(service: Service, actor: Any, name: str) -> Response:
    return answer(next(plain.node(view) for view in service.nodes.list(actor) if view.record.node.name == name))
