"""Nouns to rows and back. A row is a plain tuple in the order of the columns named beside it."""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache
from operator import attrgetter
from typing import Any, TypeVar, cast

import orjson

from priority import document
from priority.constraint import Constraint
from priority.document import Document
from priority.job import Backoff, Job, JobSpec, JobState, OnMesos, Preempt
from priority.node import Node, NodeState
from priority.reason import Reason
from priority.records import Audit, Event, Fate, NodeRecord, PreemptionRecord, Side, Token
from priority.role import MemberSpec, Quotas, RoleSpec
from priority.store.session import Row
from priority.task import State, Task

_Model = TypeVar("_Model", bound=Document)

# --- JSON --------------------------------------------------------------------------------------------------


def dumps(value: Any) -> str:
    """Compact JSON text."""
    return orjson.dumps(value, default=_plain).decode()


def loads(text: str) -> Any:
    """The inverse of `dumps`, for plain values."""
    return orjson.loads(text)


def _plain(value: Any) -> Any:
    if isinstance(value, Preempt | Backoff):
        return value.__dict__
    if isinstance(value, OnMesos):
        return value.model_dump(mode="json")
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} is not plain JSON")


def dump_spec(spec: JobSpec) -> str:
    """Every field as it is held (not as users write it), so that a later change of defaults changes no old job; but for
    the name, which has a column of its own: what is left is the same text for all jobs that are alike.
    """
    values = spec.__dict__.copy()
    del values["name"]
    return dumps(values)


def load_spec(text: str, name: str) -> JobSpec:
    """Without checking again: it was checked at the door, and a check costs as much as the rest of a transaction."""
    return document.made(JobSpec, {**_alike(text), "name": name})


@lru_cache(maxsize=256)
def _alike(text: str) -> dict[str, Any]:
    """The fields of jobs that are alike, read once: that is most of what a job sent in thousands costs its reader."""
    fields = made(JobSpec, {**fields_of(orjson.loads(text)), "name": ""}).__dict__
    return {name: fields[name] for name in document.names_of(JobSpec)}


def fields_of(values: dict[str, Any]) -> dict[str, Any]:
    """The fields of a job or a cron job as it holds them, from what `dumps` has made of them."""
    if isinstance(values["command"], list):
        values["command"] = tuple(values["command"])
    values["constraints"] = tuple(map(_constraint, values["constraints"]))
    values["preempt"] = made(Preempt, values["preempt"])
    values["backoff"] = made(Backoff, values["backoff"])
    if values.get("mesos") is not None:
        values["mesos"] = OnMesos.model_validate(values["mesos"])
    return values


def made(model: type[_Model], values: dict[str, Any]) -> _Model:
    """A document as it was written down."""
    if values.keys() != _names(model):
        # A field is newer than the row: it gets its default.
        return cast(_Model, model.model_construct(**values))
    return document.made(model, values)


@lru_cache(maxsize=64)
def _names(model: type[Document]) -> frozenset[str]:
    return frozenset(document.names_of(model))


def _constraint(values: dict[str, Any]) -> Constraint:
    within, outside = values["within"], values["outside"]
    return Constraint(
        values["attribute"],
        within=None if within is None else frozenset(within),
        outside=None if outside is None else frozenset(outside),
        limit=values["limit"],
    )


# --- tasks -------------------------------------------------------------------------------------------------

_TASK_FIELDS = tuple(field.name for field in fields(Task))
_COLUMN_OF = {"cpu_s": "cpu_us"}
TASK = tuple(_COLUMN_OF.get(name, name) for name in _TASK_FIELDS)
"""The columns of a task."""

FIRST_TASK = (
    *("id", "job", "instance", "attempt", "state", "since_us"),
    *("not_before_us", "failures", "preemptions"),
)
"""Those of a first attempt that waits: nothing is in the others."""

_task_values = attrgetter(*_TASK_FIELDS)
_STATE, _REASON, _CPU = (_TASK_FIELDS.index(name) for name in ("state", "reason", "cpu_s"))
_STATES = {state.value: state for state in State}
_TASK_SLOTS = tuple(Task.__dict__[name].__set__ for name in _TASK_FIELDS)


def task_row(task: Task) -> Row:
    """A task as a row of `TASK`."""
    row = list(_task_values(task))
    row[_STATE] = task.state.value
    if task.reason is not None:
        row[_REASON] = dumps(task.reason.plain())
    if task.cpu_s is not None:
        row[_CPU] = round(task.cpu_s * 1e6)
    return row


def task_of(row: Row) -> Task:
    """The inverse of `task_row`; a list is used up."""
    values = row if isinstance(row, list) else list(row)
    values[_STATE] = _STATES[values[_STATE]]
    if values[_REASON] is not None:
        values[_REASON] = Reason.of(orjson.loads(values[_REASON]))
    if values[_CPU] is not None:
        values[_CPU] /= 1e6
    task = Task.__new__(Task)
    # A frozen dataclass's own constructor takes twice as long, which shows when 100,000 are read at a start.
    for put, value in zip(_TASK_SLOTS, values, strict=True):
        put(task, value)
    return task


def task_cell(name: str, value: Any) -> tuple[str, Any]:
    """One field of a task as a column and its value."""
    if name not in _TASK_FIELDS or name == "id":
        raise ValueError(f"{name} is not a field of a task that can change")
    if value is not None:
        if name == "state":
            value = State(value).value
        elif name == "reason":
            value = dumps(value.plain())
        elif name == "cpu_s":
            value = round(value * 1e6)
    return _COLUMN_OF.get(name, name), value


# --- jobs --------------------------------------------------------------------------------------------------

JOB = (
    *("uid", "member", "state", "submitted_us", "ended_us", "active", "finished", "failed", "killed"),
    *("tick_us", "name", "spec"),
    *("role", "tier", "request", "seq"),
)
"""The columns of a job; those after `spec` are there for queries."""

JOB_READ = JOB[: JOB.index("spec") + 1]


def job_row(job: Job, seq: int) -> Row:
    """A job as a row of `JOB`."""
    spec = job.spec
    counts = (job.active, job.finished, job.failed, job.killed)
    head = (job.uid, job.user, job.state.value, job.submitted_us, job.ended_us, *counts, job.tick_us, spec.name)
    return (*head, dump_spec(spec), spec.role, spec.tier, _dump_amounts(tuple(spec.resources.items())), seq)


@lru_cache(maxsize=1024)  # many jobs ask for the same
def _dump_amounts(amounts: tuple[tuple[str, int], ...]) -> str:
    return dumps(dict(amounts))


def job_of(row: Row) -> Job:
    """From a row of `JOB_READ`."""
    uid, user, state, submitted_us, ended_us, active, finished, failed, killed, tick_us, name, spec = row
    return Job(
        uid=uid,
        spec=load_spec(spec, name),
        user=user,
        submitted_us=submitted_us,
        state=JobState(state),
        ended_us=ended_us,
        active=active,
        finished=finished,
        failed=failed,
        killed=killed,
        tick_us=tick_us,
    )


# --- the others --------------------------------------------------------------------------------------------

EVENT = ("id", "at_us", "kind", "role", "job", "task", "data")


def event_of(row: Row) -> Event:
    """From a row of `EVENT`."""
    id, at_us, kind, role, job, task, data = row
    return Event(id, at_us, kind, role, job, task, loads(data))


AUDIT = ("id", "at_us", "who", "action", "subject", "role", "before", "after")


def audit_row(audit: Audit, id: int) -> Row:
    """In the order of `AUDIT`."""
    return (
        id,
        audit.at_us,
        audit.who,
        audit.action,
        audit.subject,
        audit.role,
        dumps(audit.before),
        dumps(audit.after),
    )


def audit_of(row: Row) -> Audit:
    """From a row of `AUDIT`."""
    id, at_us, who, action, subject, role, before, after = row
    return Audit(id, at_us, who, action, subject, role, loads(before), loads(after))


TOKEN = ("id", "member", "digest", "label", "created_us", "expires_us", "revoked_us")


def token_of(row: Row) -> Token:
    """From a row of `TOKEN`."""
    return Token(*row)


_SIDE = ("", "_job", "_role", "_tier", "_name", "_member")
FATE = ("fate", "fate_us", "fate_node", "fate_cause")
PREEMPTION = (
    *("seq", "at_us", "node", "rule", "lost"),
    *(f"victim{part}" for part in _SIDE),
    *(f"preemptor{part}" for part in _SIDE),
    *FATE,
)
_LOST_MAX = 2**63 - 1
_side_values = attrgetter("task", "job", "role", "tier", "name", "user")


def preemption_row(record: PreemptionRecord, seq: int) -> Row:
    """A preemption as a row of `PREEMPTION`."""
    head = (seq, record.at_us, record.node, record.rule, min(record.lost, _LOST_MAX))
    fate = (None, None, None, None) if record.fate is None else fate_row(record.fate)
    return (*head, *_side_values(record.victim), *_side_values(record.preemptor), *fate)


def preemption_of(row: Row) -> PreemptionRecord:
    """The inverse of `preemption_row`."""
    seq, at_us, node, rule, lost, *rest = row
    sides, fate = rest[:-4], rest[-4:]
    victim, preemptor = Side(*sides[:6]), Side(*sides[6:])
    known = None if fate[0] is None else Fate(*fate)
    return PreemptionRecord(at_us, victim, preemptor, node, rule, lost, known, seq)


def fate_row(fate: Fate) -> Row:
    """A fate as a row of `FATE`."""
    return (fate.code, fate.at_us, fate.node, fate.cause)


NODE = ("name", "capacity", "attributes", "state", "agent", "seen_us", "drained")


def node_row(record: NodeRecord) -> Row:
    """A node as a row of `NODE`."""
    node = record.node
    held = (node.name, dumps(node.capacity), dumps(dict(node.attributes)), node.state.value)
    return (*held, record.agent, record.seen_us, record.drained)


def node_of(row: Row) -> NodeRecord:
    """The inverse of `node_row`."""
    name, capacity, attributes, state, agent, seen_us, drained = row
    node = Node(name, loads(capacity), loads(attributes), NodeState(state))
    return NodeRecord(node, agent, seen_us, bool(drained))


def role_settings(role: RoleSpec) -> str:
    """What of a role is neither quota nor user."""
    return dumps({"description": role.description, "weight": role.weight})


def role_of(settings: str, quota: Quotas, users: dict[str, MemberSpec]) -> RoleSpec:
    """The inverse of `role_settings`, with the rest."""
    return RoleSpec.model_construct(**loads(settings), quota=quota, users=users)


def member_of(grants: str, quota: Quotas) -> MemberSpec:
    """A user of a role."""
    return MemberSpec.model_construct(grants=tuple(loads(grants)), quota=quota)
