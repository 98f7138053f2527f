"""Cron jobs and ticks to the plain JSON of `views_cron`."""

from __future__ import annotations

from priority import resources
from priority.crontab import Tick
from priority.face import views_cron as views
from priority.face.plain import moment
from priority.schedule import show_local, show_moment
from priority.service.crons import CronLook


def tick(tick: Tick) -> views.TickView:
    """One tick."""
    return {
        "tick": show_moment(tick.tick_us),
        "outcome": tick.outcome.value,
        "at": moment(tick.at_us),
        "job": tick.job,
        "by": tick.by,
        "reason": None if tick.reason is None else tick.reason.plain(),
    }


def cron_summary(look: CronLook) -> views.CronSummary:
    """A cron job without all that it says."""
    cron, spec = look.cron, look.cron.spec
    return {
        "uid": cron.uid,
        "key": spec.key,
        "role": spec.role,
        "tier": spec.tier,
        "name": spec.name,
        "user": cron.user,
        "state": cron.state.value,
        "schedule": spec.schedule,
        "timezone": spec.timezone,
        "collision": spec.collision,
        "next": show_moment(look.coming[0]) if look.coming else None,
        "last": None if look.last is None else tick(look.last),
        "runs": [run.uid for run in look.runs],
        "instances": spec.instances,
        "resources": resources.plain(spec.resources),
    }


def cron(look: CronLook) -> views.CronView:
    """A cron job."""
    spec = look.cron.spec
    return {
        **cron_summary(look),
        "created": moment(look.cron.created_us),
        "changed": moment(look.cron.changed_us),
        "coming": [show_moment(at_us) for at_us in look.coming],
        "local": [show_local(at_us, spec.timezone) for at_us in look.coming],
        "spec": spec.model_dump(mode="json"),
    }
