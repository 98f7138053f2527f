"""What the engine would do and what it has done to whom, as the plain JSON of `views`."""

from __future__ import annotations

from priority import resources
from priority.face import problem, views
from priority.face.plain import maybe, moment
from priority.service.preemptions import PreemptionView, SideView, Tally, Totals
from priority.service.risk import Risk
from priority.service.whatif import Displaced, Forecast, Place, QuotaAfter
from priority.task import ranges

CPU_S = 1e9
"""Milli-cores times microseconds in a cpu-second."""


def preemption(view: PreemptionView) -> views.PreemptionView:
    """One row of the ledger."""
    record, fate = view.record, view.record.fate
    return {
        "id": record.seq,
        "at": moment(record.at_us),
        "node": record.node,
        "rule": record.rule,
        "cpu_s_lost": record.lost / CPU_S,
        "victim": _side(view.victim),
        "preemptor": _side(view.preemptor),
        "outcome": view.outcome,
        "outcome_at": maybe(fate.at_us if fate is not None else None),
        "outcome_node": fate.node if fate is not None else None,
        "message": view.message,
    }


def _side(view: SideView) -> views.SideView:
    side = view.side
    return {
        "task": side.task,
        "job": side.key,
        "role": side.role,
        "tier": side.tier,
        "user": view.user,
        "state": view.state,
    }


def totals(found: Totals) -> views.PreemptionTotals:
    """Both ways."""
    return {
        "items": [{"role": one.role, "took": _tally(one.took), "gave": _tally(one.gave)} for one in found.roles],
        "pairs": [{"preemptor": one.preemptor, "victim": one.victim, "took": _tally(one.tally)} for one in found.pairs],
    }


def _tally(tally: Tally) -> views.TallyView:
    return {
        "tasks": tally.count,
        "cpu_s": tally.lost / CPU_S,
        "started": tally.started,
        "waiting": tally.waiting,
        "in_vain": tally.in_vain,
    }


def forecast(found: Forecast) -> views.ForecastView:
    """What would happen."""
    return {
        "verdict": found.verdict,
        "summary": found.summary,
        "at": moment(found.at_us),
        "jobs": list(found.jobs),
        "refusal": problem.document(found.refusal) if found.refusal is not None else None,
        "places": [_place(one) for one in found.places],
        "displaced": [_displaced(one) for one in found.displaced],
        "cpu_s_lost": sum(one.lost for one in found.displaced) / CPU_S,
        "quota": [_quota(one) for one in found.quotas],
        "warnings": list(found.warnings),
    }


def _place(one: Place) -> views.PlaceView:
    return {
        "job": one.job,
        "instances": ranges(one.instances),
        "count": len(one.instances),
        "verdict": one.verdict,
        "node": one.node,
        "until": maybe(one.until_us),
        "reason": one.reason.plain() if one.reason is not None else None,
    }


def _displaced(one: Displaced) -> views.DisplacedView:
    return {
        "task": one.task,
        "job": one.job,
        "instance": one.instance,
        "user": one.user,
        "node": one.node,
        "taker": one.taker,
        "taker_instance": one.taker_instance,
        "rule": one.rule,
        "cpu_s_lost": one.lost / CPU_S,
        "comes_back": one.comes_back,
    }


def _quota(one: QuotaAfter) -> views.QuotaAfter:
    return {
        "role": one.role,
        "tier": one.tier,
        "user": one.user,
        "quota": None if one.quota is None else resources.plain(one.quota),
        "use": resources.plain(one.use),
        "use_after": resources.plain(one.use_after),
        "holding": resources.plain(one.held),
        "holding_after": resources.plain(one.held_after),
    }


def risk(found: Risk, limit: int) -> views.RiskView:
    """Of the tasks, the first `limit`."""
    tasks: list[views.AtRiskView] = [
        {
            "task": one.task.id,
            "instance": one.task.instance,
            "attempt": one.task.attempt,
            "state": one.task.state.value,
            "node": one.task.node,
            "since": moment(one.task.since_us),
            "cpu_s_lost": one.lost / CPU_S,
            "cheaper": one.cheaper,
            "spared": one.spared,
        }
        for one in found.tasks[:limit]
    ]
    return {
        "job": found.job.spec.key,
        "uid": found.job.uid,
        "takers": list(found.takers),
        "comes_back": found.comes_back,
        "waiting": found.waiting,
        "count": len(found.tasks),
        "cpu_s_lost": found.lost / CPU_S,
        "tasks": tasks,
    }
