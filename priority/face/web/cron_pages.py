"""Routes of pages about cron jobs."""

from __future__ import annotations

from fastapi import Request, Response

from priority.crontab import CronQuery, CronState
from priority.document import NAME_PATTERN
from priority.face import plain_cron
from priority.face.request import Actor, NamePath, Verbs
from priority.face.routing import Permission, needs
from priority.face.web import draw
from priority.face.web.asked import chosen, one_of
from priority.face.web.door import router
from priority.records import Page

routes = router()

ROWS = 50


@routes.get("/cron")
@needs(Permission.USER)
def list_crons(
    *,
    request: Request,
    actor: Actor,
    service: Verbs,
    role: str = "",
    tier: str = "",
    state: str = "",
    after: str = "",
) -> Response:
    """Newest first, those that fit."""
    last = service.jobs.last_event()
    its_role = chosen("role", role, NAME_PATTERN)
    query = CronQuery(
        roles=None if its_role is None else [its_role],
        tier=chosen("tier", tier, NAME_PATTERN),
        state=one_of(CronState, "state", state),
    )
    looks, more = service.crons.list(actor, query, Page(ROWS, after or None))
    return draw.answer(
        request,
        "crons.html",
        last=last,
        given={"role": role, "tier": tier, "state": state},
        states=[one.value for one in CronState],
        roles=sorted(service.roles.show(actor)),
        tiers=list(service.parts.tiers),
        crons=[plain_cron.cron_summary(look) for look in looks],
        after=after,
        more=more,
    )


@routes.get("/cron/{role}/{tier}/{name}")
@needs(Permission.SUBMIT)
def show_cron(
    *,
    request: Request,
    actor: Actor,
    service: Verbs,
    role: NamePath,
    tier: NamePath,
    name: NamePath,
    after: str = "",
) -> Response:
    """What it says, when it runs, and what became of its ticks."""
    last = service.jobs.last_event()
    key = f"{role}/{tier}/{name}"
    ticks, more = service.crons.history(actor, key, Page(ROWS, after or None))
    return draw.answer(
        request,
        "cron.html",
        last=last,
        cron=plain_cron.cron(service.crons.show(actor, key)),
        ticks=[plain_cron.tick(one) for one in ticks],
        after=after,
        more=more,
    )
