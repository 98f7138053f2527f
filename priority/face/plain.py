"""Nouns to the plain JSON of `views`: the only place where held units and microseconds become what users read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from priority import resources
from priority.face import views
from priority.job import Job
from priority.records import Audit, Event, Token, User
from priority.role import Change, RoleSpec
from priority.schedule import show_moment
from priority.service.explain import Explanation
from priority.service.nodes import NodeView
from priority.service.roles import QuotaView
from priority.task import DYING, State, Task

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=1024)  # the jobs of one request have theirs in common
def moment(at_us: int) -> str:
    """Microseconds since the epoch as RFC 3339, UTC."""
    written = (_EPOCH + timedelta(microseconds=at_us)).isoformat(timespec="microseconds")
    return f"{written[:26]}Z"


def maybe(at_us: int | None) -> str | None:
    """The same for what may not have happened yet."""
    return None if at_us is None else moment(at_us)


def job_summary(job: Job, states: Mapping[State, int] | None = None) -> views.JobSummary:
    """A job without its spec. `states`: in which ones its active instances are; without, it is new and all wait."""
    spec = job.spec
    pending, starting, running, dying = (job.active, 0, 0, 0) if states is None else _standing(states)
    return {
        "uid": job.uid,
        "key": spec.key,
        "role": spec.role,
        "tier": spec.tier,
        "name": spec.name,
        "user": job.user,
        "state": job.state.value,
        "submitted": moment(job.submitted_us),
        "ended": maybe(job.ended_us),
        "instances": spec.instances,
        "active": job.active,
        "pending": pending,
        "starting": starting,
        "running": running,
        "dying": dying,
        "finished": job.finished,
        "failed": job.failed,
        "killed": job.killed,
        "priority": spec.priority,
        "resources": _amounts(tuple(spec.resources.items())),
        "tick": None if job.tick_us is None else show_moment(job.tick_us),
    }


def _standing(states: Mapping[State, int]) -> tuple[int, int, int, int]:
    pending, starting, running = (states.get(state, 0) for state in (State.PENDING, State.STARTING, State.RUNNING))
    return pending, starting, running, sum(states.get(state, 0) for state in DYING)


@lru_cache(maxsize=1024)  # many jobs ask for the same
def _amounts(held: tuple[tuple[str, int], ...]) -> dict[str, int | float]:
    return resources.plain(dict(held))


def job(job: Job, states: Mapping[State, int] | None = None) -> views.JobView:
    """A job with its spec."""
    return {**job_summary(job, states), "spec": job.spec.model_dump(mode="json")}


def task(task: Task) -> views.TaskView:
    """One attempt."""
    return {
        "id": task.id,
        "job": task.job,
        "instance": task.instance,
        "attempt": task.attempt,
        "state": task.state.value,
        "node": task.node,
        "since": moment(task.since_us),
        "started": maybe(task.started_us),
        "ended": maybe(task.ended_us),
        "not_before": moment(task.not_before_us) if task.not_before_us else None,
        "exit_code": task.exit_code,
        "signal": task.signal,
        "cpu_s": task.cpu_s,
        "peak_mem_mib": task.peak_mem_mib,
        "failures": task.failures,
        "preemptions": task.preemptions,
        "after": task.after,
        "kept_for": task.kept_for,
        "reason": task.reason.plain() if task.reason is not None else None,
    }


def event(event: Event) -> views.EventView:
    """One committed fact."""
    return {
        "id": event.id,
        "at": moment(event.at_us),
        "kind": event.kind,
        "role": event.role,
        "job": event.job,
        "task": event.task,
        "data": dict(event.data),
    }


def role(name: str, spec: RoleSpec) -> views.RoleView:
    """A tenant."""
    document: Any = {"name": name, **spec.model_dump(mode="json")}
    view: views.RoleView = document
    return view


def changes(
    found: Iterable[Change], warnings: Iterable[str], *, applied: bool, refused: Iterable[str] = ()
) -> views.Changes:
    """A diff, why it would be refused, and what it promises that cannot be kept."""
    lines: list[views.ChangeView] = [{"path": one.path, "before": one.before, "after": one.after} for one in found]
    return {"applied": applied, "changes": lines, "refused": list(refused), "warnings": list(warnings)}


def quota(view: QuotaView) -> views.QuotaView:
    """Quotas and warnings."""
    lines: list[views.QuotaLine] = [
        {
            "role": line.role,
            "tier": line.tier,
            "user": line.user,
            "quota": None if line.quota is None else resources.plain(line.quota),
            "use": resources.plain(line.use),
            "holding": resources.plain(line.holding),
            "reserved": resources.plain(line.reserved),
            "waiting": resources.plain(line.waiting),
            "left": None if line.left is None else resources.plain(line.left),
            "guarantee": line.guarantee,
        }
        for line in view.lines
    ]
    return {"items": lines, "warnings": list(view.warnings)}


def user(user: User) -> views.UserView:
    """A user."""
    return {
        "name": user.name,
        "admin": user.admin,
        "grants": {role: sorted(grants) for role, grants in sorted(user.grants.items())},
    }


def token(token: Token) -> views.TokenView:
    """A token, without its digest."""
    return {
        "id": token.id,
        "user": token.user,
        "label": token.label,
        "created": moment(token.created_us),
        "expires": maybe(token.expires_us),
        "revoked": maybe(token.revoked_us),
    }


def node(view: NodeView) -> views.NodeView:
    """A node and what is held of it."""
    record = view.record
    return {
        "name": record.node.name,
        "state": _node_state(view),
        "drained": record.drained,
        "capacity": resources.plain(record.node.capacity),
        "held": resources.plain(view.held),
        "free": resources.plain(view.free),
        "tasks": view.tasks,
        "attributes": dict(record.node.attributes),
        "shared": _shared(view),
        "seen": moment(record.seen_us),
    }


def _shared(view: NodeView) -> views.Shared | None:
    if view.shares is None:
        return None
    return {
        "capacity": resources.plain(view.shares.whole),
        "offered": resources.plain(view.shares.offered),
        "ours": resources.plain(view.held),
        "others": resources.plain(view.others),
    }


def _node_state(view: NodeView) -> str:
    state = view.record.node.state.value
    if view.silent:
        return "silent"
    return "draining" if view.record.drained and state == "up" else state


def audit(row: Audit) -> views.AuditView:
    """Who changed what."""
    return {
        "id": row.id,
        "at": moment(row.at_us),
        "who": row.who,
        "action": row.action,
        "subject": row.subject,
        "role": row.role,
        "before": row.before,
        "after": row.after,
    }


def explanation(found: Explanation) -> views.ExplanationView:
    """Why."""
    lines: list[views.ExplanationLine] = [
        {
            "task": line.task,
            "instance": line.instance,
            "instances": line.instances,
            "attempt": line.attempt,
            "attempts": line.attempts,
            "state": line.state,
            "message": line.message,
            "alike": line.alike,
            "details": _details(line.details),
        }
        for line in found.lines
    ]
    return {"job": found.job, "uid": found.uid, "summary": found.summary, "lines": lines}


def _details(details: Mapping[str, Any]) -> dict[str, Any]:
    return dict(details)
