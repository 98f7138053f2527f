"""What a user asks for: a job, validated at the door."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from operator import attrgetter, gt
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from priority import constraint, resources, unique
from priority.constraint import Constraint
from priority.document import NAME_PATTERN, VARIABLE_PATTERN, Document, invalid, joined, shown
from priority.errors import Invalid, Malformed
from priority.resources import AMOUNT_MAX, Resources
from priority.tier import DEFAULT_TIERS

CPUS_DEFAULT = 1000
"""Of an instance that does not say: one core."""

MEM_LEAST = 32
"""MiB that an instance that names no mem gets at least, however small its part of a core: what an interpreter takes."""

SIGNALS = ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2")
"""With which a job may be given notice."""

_DURATION = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9}(?:\.\d{1,6})?)s)?", re.ASCII)
_DURATION_SCHEMA = r"^(\d{1,6}d)?(\d{1,6}h)?(\d{1,6}m)?(\d{1,9}(\.\d{1,6})?s)?$"
_INDEX = re.compile(r"\[(\d+)\]", re.ASCII)
_DURATION_MAX_S = 10 * 366 * 86_400.0


def duration_s(value: Any) -> float:
    """Seconds, from a number of them or a string such as `90s`, `10m`, `1h30m`, `2d`; ValueError says what is wrong."""
    if isinstance(value, str) and value and (match := _DURATION.fullmatch(value)):
        days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
        value = days * 86_400 + hours * 3_600 + minutes * 60 + seconds
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(
            f'must be a number of seconds or a string such as "90s", "10m", "1h30m", "2d", not {shown(value)}'
        )
    if value < 0:
        raise ValueError("must not be negative")
    if not value <= _DURATION_MAX_S:  # false for NaN too
        raise ValueError("must be a number of seconds, at most ten years")
    return float(value)


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not hold a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must not hold a lone surrogate") from None
    return text


def _at(error: Invalid) -> PydanticCustomError:
    """Our own error inside pydantic's: `invalid` puts the two paths together again."""
    return PydanticCustomError("priority", "{problem}", {"path": error.field, "problem": error.problem})


def _resources(value: Any) -> Resources:
    """What one instance holds: a core, unless it says how many; never none, or it would slip under every ceiling."""
    try:
        if isinstance(value, dict):
            types = tuple(map(type, value.values()))
            if _SIMPLE.issuperset(types):
                return dict(_held(tuple(value.items()), types))
        return _read(value)
    except Invalid as error:
        raise _at(error) from None


_SIMPLE = frozenset((int, float, str))


@lru_cache(maxsize=1024)  # the jobs of one request mostly ask for the same
def _held(amounts: tuple[tuple[str, Any], ...], _: tuple[type, ...]) -> Resources:
    """`_read`, once for all that are written alike: their types too, for to a dictionary 1 and 1.0 are the same."""
    return _read(dict(amounts))


def _read(value: Any) -> Resources:
    found = resources.parse(value, "")
    resources.check_names(found, "")
    if "cpus" not in found:
        if "cpus" in value:
            raise Invalid(".cpus", "must be more than 0")
        found["cpus"] = CPUS_DEFAULT
    if "mem" in value:
        found.setdefault("mem", 0)  # said aloud, it is not the same as left out: see `filled`
    return found


def _quota(value: Any) -> Resources:
    try:
        found = resources.parse(value, "", zeros=True)
        resources.check_names(found, "")
        return found
    except Invalid as error:
        raise _at(error) from None


def _constraints(value: Any) -> tuple[Constraint, ...]:
    if isinstance(value, tuple) and all(isinstance(one, Constraint) for one in value):
        return value
    try:
        return constraint.parse(value, "")
    except Invalid as error:
        raise _at(error) from None


Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
TierName = Annotated[Name, Field(json_schema_extra={"enum": list(DEFAULT_TIERS)})]
"""The schema names those that there are; whether a tier is there is asked where they are known."""
Text = Annotated[str, AfterValidator(_no_nul)]
Duration = Annotated[
    float,
    BeforeValidator(duration_s),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0},
                {"type": "string", "minLength": 2, "pattern": _DURATION_SCHEMA},
            ],
            "examples": ["90s", "10m", "1h30m", "2d", 0.5],
        }
    ),
]
Amounts = Annotated[
    Resources,
    BeforeValidator(_resources),
    PlainSerializer(resources.plain),
    WithJsonSchema({**resources.SCHEMA, "examples": [{"cpus": 1, "mem": "1GiB"}, {"cpus": 0.5, "gpus": 1}]}),
]
QuotaAmounts = Annotated[
    Resources,
    BeforeValidator(_quota),
    PlainSerializer(resources.plain),
    WithJsonSchema({**resources.SCHEMA, "examples": [{"cpus": 8, "mem": "16GiB"}]}),
]
"""Like `Amounts`, but a zero is kept: nothing of that resource, where a name that is absent means no limit."""
Constraints = Annotated[
    tuple[Constraint, ...],
    BeforeValidator(_constraints),
    PlainSerializer(lambda many: [one.plain() for one in many]),
    WithJsonSchema({"type": "array", "items": constraint.SCHEMA, "examples": [[constraint.EXAMPLE]]}),
]


_EMPTY: Any = Field(default_factory=dict, json_schema_extra={"default": {}, "additionalProperties": False})
"""A dict of one's own. A plain `{}` pydantic copies deeply for each job, which takes three times as long."""


class Preempt(Document):
    """What happens to a task of the job when its room is taken."""

    action: Literal["requeue", "end"] = "requeue"
    """Whether it comes back as a new attempt, or ends as preempted."""
    signal: Literal["TERM", "INT", "HUP", "QUIT", "USR1", "USR2"] = "TERM"
    """With which it is told."""
    notice: Duration = 30.0
    """Seconds between the signal and SIGKILL; at most `notice_limit_s` (a setting of the service) are given."""
    at_once: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] | None = None
    """How many of its tasks may be gone at a time by preemption, where the tier lets a job say so; null: any number."""


class Backoff(Document):
    """How long to wait after a failure: doubling from `initial` up to `limit`, in seconds."""

    initial: Duration = 1.0
    """After the first failure."""
    limit: Duration = 300.0
    """Never longer."""


class Fetch(Document):
    """Something that is fetched into the sandbox before the command begins."""

    uri: Annotated[Text, StringConstraints(min_length=1, max_length=2048)]
    """`https://...`, `file:///...` or whatever else the cluster's agents can fetch."""
    extract: Annotated[bool, Field(strict=True)] = True
    """Whether an archive is unpacked."""
    executable: Annotated[bool, Field(strict=True)] = False
    """Whether it may be executed."""
    cache: Annotated[bool, Field(strict=True)] = False
    """Whether the agent keeps it for other tasks."""


class Container(Document):
    """An image to run in."""

    image: Annotated[Text, StringConstraints(min_length=1, max_length=1024)]
    """Such as `library/python:3.12`."""
    runtime: Literal["mesos", "docker"] = "mesos"
    """Who runs it: Mesos' own containerizer, or Docker."""


class HealthCheck(Document):
    """A command in the task's surroundings that has to end well again and again; else the task is killed as failed."""

    command: Annotated[Text, StringConstraints(min_length=1)]
    """For the shell."""
    delay: Duration = 0.0
    """Seconds before the first check."""
    interval: Annotated[Duration, Field(gt=0)] = 10.0
    """Seconds between two."""
    within: Annotated[Duration, Field(gt=0)] = 20.0
    """Seconds that one may take."""
    grace: Duration = 10.0
    """Seconds from the start in which a failure does not count."""
    failures: Annotated[int, Field(ge=1, le=1000, strict=True)] = 3
    """So many in a row end the task."""


class OnMesos(Document):
    """What only a Mesos cluster can do for a task. Refused where the tasks run on our own agents."""

    container: Container | None = None
    """An image to run in; None: the agent's own system."""
    uris: Annotated[tuple[Fetch, ...], Field(max_length=64)] = ()
    """What to fetch into the sandbox first."""
    health_check: HealthCheck | None = None
    """How to see that it still does its work."""
    replace_after: Annotated[Duration, Field(gt=0)] | None = None
    """When its agent cannot be reached: seconds until another attempt begins elsewhere, although this one may be
    running still; None: only when it is proved dead.
    """
    group: Annotated[bool, Field(strict=True)] = False
    """Whether the tasks of a gang that begin on one agent are a Mesos task group there: they start together and end
    together, whichever of them fails or is killed, and those that did not finish begin anew.
    """


EXAMPLE: Any = {
    "role": "simulation",
    "tier": "opportunistic",
    "name": "mc",
    "instances": 100,
    "command": "./simulate --events 1000 --seed $PRIORITY_INSTANCE",
    "resources": {"cpus": 1, "mem": "2GiB"},
    "max_failures": 3,
    "max_runtime": "8h",
    "preempt": {"signal": "TERM", "notice": "30s"},
    "constraints": [{"attribute": "rack", "in": ["r1", "r2"]}],
    "labels": {"run": "4711"},
}
"""A job, as a user may write it."""


class JobSpec(Document):
    """A batch job of so many instances, each the same command. Unknown fields are refused."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    role: Annotated[Name, Field(examples=["physics"])]
    """The tenant whose quota it uses."""
    tier: Annotated[TierName, Field(examples=["devel"])]
    """What it is worth: prod is guaranteed by the role's quota, devel and opportunistic give way to what is above."""
    name: Annotated[Name, Field(examples=["reco"])]
    """Of the job in its role and tier; one active job may have it."""
    command: Annotated[Text, StringConstraints(min_length=1)] | Annotated[tuple[Text, ...], Field(min_length=1)]
    """A string for the shell, or a list: a program and its arguments."""
    instances: Annotated[int, Field(ge=1, strict=True, examples=[1, 100])] = 1
    """How many tasks run it, each with its number in PRIORITY_INSTANCE."""
    env: dict[Annotated[str, StringConstraints(pattern=VARIABLE_PATTERN)], Text] = _EMPTY
    """Variables for the command; a number is written in quotes."""
    resources: Annotated[Amounts, Field(json_schema_extra={"default": {"cpus": 1}})] = {"cpus": CPUS_DEFAULT}
    """What one instance holds: cpus in cores, mem and disk in MiB or with a unit, gpus in devices, others a count. If
    mem is not named, it is some for each cpu (`mem_default_mib`, a setting of the service). Of what else is not named
    it holds nothing: no quota counts it, and a task without disk is not stopped for that."""
    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000, strict=True)] = 0
    """Inside its role and tier, higher goes first and may take from lower."""
    constraints: Constraints = ()
    """On which nodes it may run, by their attributes (`host` is the node's name); all of them must hold."""
    gang: Annotated[bool, Field(strict=True)] = False
    """Whether all instances start together or none."""
    max_failures: Annotated[int, Field(ge=-1, le=1_000_000, strict=True)] = 1
    """How many failed attempts end an instance as failed: 0 is as 1 (the first does), -1: it is tried for ever."""
    backoff: Backoff = Backoff()
    """How long an instance waits after a failed attempt."""
    max_runtime: Annotated[Duration, Field(gt=0)] | None = None
    """Seconds after which an attempt is stopped and counts as failed."""
    preempt: Preempt = Preempt()
    """What happens to a task of it when its room is taken for something more important."""
    kill_grace: Duration = 10.0
    """Seconds between SIGTERM and SIGKILL when it is killed or breaks a limit; at most `notice_limit_s` are given."""
    labels: dict[Name, Annotated[Text, StringConstraints(max_length=255)]] = _EMPTY
    """To find it again: `priority list --label NAME=VALUE`; a number is written in quotes."""
    mesos: OnMesos | None = None
    """What only a Mesos cluster can do: images, fetched files, health checks."""

    @property
    def key(self) -> str:
        """`role/tier/name`."""
        return f"{self.role}/{self.tier}/{self.name}"

    @property
    def argv(self) -> list[str]:
        """What to execute: a string goes to the shell."""
        return ["/bin/sh", "-c", self.command] if isinstance(self.command, str) else list(self.command)


class JobState(StrEnum):
    """`active` until its last instance has ended."""

    ACTIVE = "active"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """An admitted job. An instance is active until none of its attempts is; then it counts in one of the tallies."""

    uid: str
    spec: JobSpec
    user: str
    submitted_us: int
    state: JobState = JobState.ACTIVE
    ended_us: int | None = None
    active: int = 0
    finished: int = 0
    failed: int = 0
    killed: int = 0
    """Instances killed by a user, and those that ended preempted."""
    tick_us: int | None = None
    """Of a run of a cron job: the moment that it is for. Its cron job has the same role, tier and name."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a job may be: settings of the service."""

    instances: int = 100_000
    command_bytes: int = 131_072
    env_bytes: int = 131_072
    labels: int = 64
    constraints: int = 32
    resources: int = 32
    mesos: bool = True
    """Whether the tasks run on a Mesos cluster."""
    at_once: Collection[str] = ()
    """Tiers of which a job may say how many of its tasks are gone at a time."""
    mem_per_cpu: int = 0
    """MiB for each cpu of a job that names no mem; 0: none."""
    mem_none: Collection[str] = ()
    """Tiers of which a job may say that it wants no mem, although there is a default."""


_LIMITED = ("instances", "command", "env", "labels", "constraints", "resources")
_limits_of = attrgetter("instances", "command_bytes", "env_bytes", "labels", "constraints", "resources")


GROUP_LEAST = {"cpus": 20, "mem": 64, "disk": 2}
"""What a task of a group asks at least (held units): the group's executor lives in half of that of one of them."""


def _check_group(spec: JobSpec) -> None:
    """A task group ends as one: so it is for tasks that nobody of another tier displaces one by one."""
    if not spec.gang:
        raise Invalid("mesos.group", "is for a gang: set gang: true, or leave it out")
    if DEFAULT_TIERS[spec.tier].preemptible:
        raise Invalid("mesos.group", f"is not for {spec.tier}: one that gives way would take all of its group with it")
    if spec.mesos is not None and spec.mesos.container is not None and spec.mesos.container.runtime == "docker":
        raise Invalid("mesos.group", "Mesos runs no task group in Docker: set runtime: mesos, or leave group out")
    for name, least in GROUP_LEAST.items():
        if spec.resources.get(name, 0) < least:
            text = "0.02 (cores)" if name == "cpus" else f"{least} (MiB)"
            raise Invalid(f"resources.{name}", f"must be at least {text} for mesos.group: Mesos' executor lives in it")


def check_limits(spec: JobSpec, limits: Limits) -> None:
    """`Invalid` names the field that is over a limit, and the limit."""
    env = spec.env
    sizes = (
        spec.instances,
        sum(map(len, spec.argv)),
        sum(map(len, env)) + sum(map(len, env.values())) if env else 0,
        len(spec.labels),
        len(spec.constraints),
        len(spec.resources),
    )
    most = _limits_of(limits)
    if any(map(gt, sizes, most)):
        field, size, limit = next(over for over in zip(_LIMITED, sizes, most, strict=True) if over[1] > over[2])
        raise Invalid(field, f"is too large: {size}, at most {limit} are allowed")
    if spec.mesos is not None and not limits.mesos:
        raise Invalid("mesos", "is for a Mesos cluster; this service runs its own agents, which have no images")
    if spec.mesos is not None and spec.mesos.group:
        _check_group(spec)
    if spec.preempt.at_once is not None and spec.tier not in limits.at_once:
        who = f"only jobs of {', '.join(sorted(limits.at_once))} may" if limits.at_once else "no job may"
        raise Invalid("preempt.at_once", f"is not for jobs of {spec.tier}: {who} set it (setting own_gone_at_once)")


def filled(spec: JobSpec, limits: Limits) -> JobSpec:
    """What is admitted of it: if it names no mem, with the default, so that no number of such tasks fits on a node.
    `Invalid` if it asks for a mem of 0 where that would slip under the default.
    """
    said, per_cpu = spec.resources.get("mem"), limits.mem_per_cpu
    if said or (said is None and not per_cpu):
        return spec
    if said is not None and per_cpu and spec.tier not in limits.mem_none:
        raise Invalid("resources.mem", f"must be more than 0: name what it needs, or none for {per_cpu} MiB a cpu")
    held = {name: amount for name, amount in spec.resources.items() if name != "mem"}
    if said is None:
        held["mem"] = min(AMOUNT_MAX, max(MEM_LEAST, -(-held.get("cpus", 0) * per_cpu // 1000)))
    return spec.model_copy(update={"resources": held})


def parse_spec(document: Any, prefix: str = "") -> JobSpec:
    """One job from plain data; `Invalid` names the field."""
    if not isinstance(document, Mapping):
        raise Invalid(prefix or "document", "must be a mapping with at least role, tier, name and command")
    try:
        return JobSpec.model_validate(document)
    except ValidationError as error:
        raise invalid(error, prefix) from None


def parse_file(text: str, parse: Callable[[Any, str], JobSpec] = parse_spec) -> list[JobSpec]:
    """Jobs from YAML or JSON: one document, several, or a list in one. `Malformed` names a line, `Invalid` fields."""
    return parse_all(documents(text), parse)


def parse_all(documents: Iterable[Any], parse: Callable[[Any, str], JobSpec]) -> list[JobSpec]:
    """The jobs that these are; `Invalid` has the first faults of all of them."""
    found, faults = [], []
    for index, document in enumerate(documents):
        try:
            found.append(parse(document, f"jobs[{index}]"))
        except Invalid as error:
            faults.append(error)
    if faults:
        raise joined(faults)
    return found


def at(jobs: int, path: str) -> str:
    """A path inside a document of a file as one of the file, of which so many jobs were read before."""
    inside = _INDEX.match(path)
    return f"jobs[{jobs + int(inside[1])}]{path[inside.end() :]}" if inside else f"jobs[{jobs}].{path}"


def documents(text: str) -> Iterator[Any]:
    """What is to become jobs, as it comes; errors as of `parse_file`."""
    count = 0
    try:
        for document in unique.load_all(text):
            jobs = document if isinstance(document, list) else [] if document is None else [document]
            yield from jobs
            count += len(jobs)
    except Invalid as error:
        raise Invalid(at(count, error.field), error.problem) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise Malformed(f"{where}not YAML or JSON: {getattr(error, 'problem', None) or error}") from None
    except RecursionError:
        raise Malformed("not YAML or JSON: nested too deeply") from None
    except ValueError as error:
        raise Malformed(f"not YAML or JSON: {error}") from None
