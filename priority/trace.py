"""A trace: the jobs that a simulation is given, with what only hindsight knows: when they came, how long they ran.

Two formats are read, a line at a time; bad input is an `Invalid` that names the field.

**Our own JSON lines**: one object a line, a job without its command (see `Line`):

    {"submit": 90, "runtime": "1h", "role": "physics", "tier": "devel", "resources": {"cpus": 2}, "instances": 10}

**The Standard Workload Format** (SWF 2.2; Feitelson's Parallel Workloads Archive; Chapin et al. 1999): 18 numbers a
line, -1 where a number is not known; `;` begins a comment. How its fields are read:

    1 job number            the job's id
    2 submit time           `submit`, in seconds since the trace began
    4 run time              `runtime`; a job without one never ran, and is left out
    8 requested processors  cpus; if not known, 5 (allocated). A job of more than `widest` processors becomes a gang of
                            equal tasks, each of at most so many
    10 requested memory     `mem`; if not known, 7 (used): KiB for each processor, of a task rounded up to MiB
    11 status               0: its only attempt fails in the end. 2, 3, 4 (parts of a job that has a line of its own):
                            left out
    12 user                 user `uN`
    13 group                role `gN` (`g0` if not known)
    15 queue                tier, by the mapping that is given; a queue that is not in it has the default tier
    others                  not looked at: wait time, cpu time, requested time, executable, partition, preceding job,
                            think time
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field, ValidationError

from priority.constraint import Constraint
from priority.document import Document, invalid
from priority.errors import Invalid
from priority.job import CPUS_DEFAULT, Amounts, Backoff, Constraints, Duration, Name, Preempt
from priority.resources import Resources

SWF_FIELDS = (
    "job number", "submit time", "wait time", "run time", "allocated processors", "average cpu time", "used memory",
    "requested processors", "requested time", "requested memory", "status", "user", "group", "executable", "queue",
    "partition", "preceding job", "think time",
)  # fmt: skip

_PARTS = (2, 3, 4)
"""Statuses of lines that tell of a part of a job that was checkpointed or swapped out."""


_BACKOFF = Backoff()


@dataclass(frozen=True, slots=True)
class Work:
    """A job of a trace. Times are microseconds, those of moments since the trace begins; `request` is in held units."""

    id: str
    submit_us: int
    runtime_us: int
    """How long an attempt runs that nobody disturbs."""
    role: str
    user: str
    tier: str
    request: Resources = field(default_factory=dict)
    """Of each instance."""
    instances: int = 1
    priority: int = 0
    constraints: tuple[Constraint, ...] = ()
    gang: bool = False
    notice_us: int = 30_000_000
    """How long a victim holds its room after it was told."""
    requeue: bool = True
    """Whether a victim comes back, from zero."""
    failures: int = 0
    """So many attempts of each instance fail, at their end."""
    max_failures: int = 1
    """How many may, until the instance has failed; -1: any number."""
    max_runtime_us: int | None = None
    """An attempt that would run longer fails then."""
    backoff: Backoff = _BACKOFF
    at_once: int | None = None
    """How many of its instances may be gone at a time by preemption, where the tier lets a job say so."""
    job: str = ""
    """What the limits of its constraints count; empty: its id."""


class Line(Document):
    """One line of our own format: the fields of a job (`priority job schema`) that matter here, and what came of it."""

    id: Name | None = None
    """Once in the trace; without it `j` and the line's number."""
    submit: Duration
    """Since the trace began."""
    runtime: Duration
    role: Name
    tier: Name
    user: Name = "nobody"
    resources: Annotated[Amounts, Field()] = {"cpus": CPUS_DEFAULT}
    instances: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] = 1
    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000, strict=True)] = 0
    constraints: Constraints = ()
    gang: bool = False
    preempt: Preempt = Preempt()
    failures: Annotated[int, Field(ge=0, le=1_000_000, strict=True)] = 0
    """So many attempts of each instance fail, at the end of their run time."""
    max_failures: Annotated[int, Field(ge=-1, le=1_000_000, strict=True)] = 1
    backoff: Backoff = Backoff()
    max_runtime: Annotated[Duration, Field(gt=0)] | None = None


def micros(seconds: float) -> int:
    """Seconds as whole microseconds."""
    return round(seconds * 1e6)


def parse_line(document: Any, number: int) -> Work:
    """A line of our own format, read as JSON. `Invalid` names the field."""
    if not isinstance(document, Mapping):
        raise Invalid("line", 'must be an object such as {"submit": 0, "runtime": "1h", "role": "r", "tier": "devel"}')
    try:
        line = Line.model_validate(document)
    except ValidationError as error:
        found = invalid(error)
        problem = found.problem.replace("see `priority job schema`", f"there are {', '.join(Line.model_fields)}")
        raise Invalid(found.field, problem) from None
    return Work(
        id=line.id or f"j{number}",
        submit_us=micros(line.submit),
        runtime_us=micros(line.runtime),
        role=line.role,
        user=line.user,
        tier=line.tier,
        request=line.resources,
        instances=line.instances,
        priority=line.priority,
        constraints=line.constraints,
        gang=line.gang and line.instances > 1,
        notice_us=micros(line.preempt.notice),
        requeue=line.preempt.action == "requeue",
        failures=line.failures,
        max_failures=line.max_failures,
        max_runtime_us=None if line.max_runtime is None else micros(line.max_runtime),
        backoff=line.backoff,
        at_once=line.preempt.at_once,
    )


def parse_swf(text: str, tiers: Mapping[int, str], tier: str, widest: int) -> Work | None:
    """A line of the Standard Workload Format; None for a comment, an empty line and what is left out.

    `tiers` is by queue, `tier` that of any other; `widest` is the most processors of one task.
    """
    words = text.split(";", 1)[0].split()
    if not words:
        return None
    if len(words) != len(SWF_FIELDS):
        raise Invalid("line", f"must have the {len(SWF_FIELDS)} numbers of an SWF line, not {len(words)}")
    numbers = [_number(word, name) for word, name in zip(words, SWF_FIELDS, strict=True)]
    id, submit, _, runtime, allocated, _, used, asked, _, memory, status, user, group, _, queue, *_ = numbers
    processors = math.ceil(asked if asked > 0 else allocated)
    if submit < 0:
        raise Invalid("submit time", f"must not be before the trace begins, but is {words[1]}")
    if runtime < 0 or processors <= 0 or status in _PARTS:
        return None
    instances = -(-processors // widest)
    cpus = -(-processors // instances)
    request = {"cpus": 1000 * cpus}
    kib = memory if memory > 0 else used
    if kib > 0:
        request["mem"] = -(-math.ceil(kib) * cpus // 1024)
    return Work(
        id=f"j{int(id)}",
        submit_us=micros(submit),
        runtime_us=micros(runtime),
        role=f"g{max(0, int(group))}",
        user=f"u{max(0, int(user))}",
        tier=tiers.get(int(queue), tier),
        request=request,
        instances=instances,
        gang=instances > 1,
        failures=int(status == 0),
    )


def _number(word: str, name: str) -> float:
    try:
        value = float(word)
    except ValueError:
        raise Invalid(name, f"must be a number, not {word[:40]!r}") from None
    if not -1 <= value <= 1e15:  # false for NaN and the infinities as well
        raise Invalid(name, f"must be a number from -1 to 1e15, not {word[:40]}")
    return value
