"""Cron jobs: what one says, and what becomes of a tick that comes late or meets an earlier run.

When a schedule fires is `priority.schedule`'s; here is the job around it (`CronSpec`), and what is decided of each tick
(`due`, `prior`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)

from priority import job as jobs
from priority.document import Document, invalid, made, names_of, shown
from priority.errors import Invalid
from priority.job import Duration, JobSpec
from priority.reason import Reason
from priority.schedule import EPOCH, SCHEDULE_MAX, check_fields, next_tick, show_moment, zone_of

TICKS_AT_ONCE = 1000
"""Ticks of one cron job that are decided together; if more are due, the next ones follow in the next transaction."""

LIMIT_MAX = 1000
"""Late ticks of one cron job that may be run together."""

TICK_VARIABLE = "PRIORITY_TICK"
"""In the environment of a run: for which moment it is, RFC 3339 in UTC."""

_US = 1_000_000


# --- a cron job --------------------------------------------------------------------------------------------------


def _schedule(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f'must be text such as "30 2 * * *", not {shown(value)}')
    check_fields(value)
    return " ".join(value.split())


def _timezone(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a time zone such as Europe/Zurich or UTC, not {shown(value)}")
    zone_of(value)
    return value


def _missed(value: Any) -> Any:
    return {"policy": value} if isinstance(value, str) else value


def _moment(value: Any, info: ValidationInfo) -> int | None:
    """Microseconds. What names no offset is meant in the job's own time zone."""
    if value is None:
        return None
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day)
        if not isinstance(value, datetime):
            raise ValueError
        moment: datetime = value
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zone_of(info.data.get("timezone", "UTC")))
        return (moment.astimezone(UTC).replace(tzinfo=None) - EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        problem = f'must be a time such as "2026-12-01T00:00:00Z" or "2026-12-01 06:00", not {shown(value)}'
        raise ValueError(problem) from None


Moment = Annotated[
    int | None,
    BeforeValidator(_moment),
    PlainSerializer(lambda at_us: None if at_us is None else show_moment(at_us)),
    WithJsonSchema({"anyOf": [{"type": "string", "examples": ["2026-12-01T00:00:00Z"]}, {"type": "null"}]}),
]


class Missed(Document):
    """What is done about ticks that nobody could start in time, as the service was down. A word alone is the policy."""

    policy: Literal["skip", "run_latest", "run_all"] = "skip"
    """Skip them; run the latest of them; or run them all, one after another unless `collision` is `allow`."""
    deadline: Annotated[Duration, Field(gt=0)] = 86_400.0
    """Seconds after its time beyond which a tick is not run any more."""
    limit: Annotated[int, Field(ge=1, le=LIMIT_MAX, strict=True)] = 10
    """Of more ticks than this that come together, `run_all` runs only the latest."""

    @property
    def most(self) -> int:
        """How many of the ticks that come together may run."""
        return self.limit if self.policy == "run_all" else 1


EXAMPLE: Any = {
    "role": "physics",
    "tier": "prod",
    "name": "nightly",
    "command": "./validate --release nightly",
    "resources": {"cpus": 2, "mem": "4GiB"},
    "schedule": "30 2 * * *",
    "timezone": "Europe/Zurich",
    "collision": "cancel_new",
    "missed": {"policy": "run_latest", "deadline": "6h"},
}
"""A cron job, as a user may write it."""


class CronSpec(JobSpec):
    """A cron job: what a job says, and when it is to run. Each run is a job of the same role, tier and name."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    schedule: Annotated[
        str,
        BeforeValidator(_schedule),
        Field(max_length=SCHEDULE_MAX, examples=["30 2 * * *", "*/15 * * * 1-5", "@hourly"]),
    ]
    """Minute, hour, day of the month, month, day of the week; or @hourly, @daily, @weekly, @monthly, @yearly."""
    timezone: Annotated[str, BeforeValidator(_timezone), Field(examples=["Europe/Zurich"])] = "UTC"
    """An IANA name: whose wall clock the schedule means."""
    collision: Literal["cancel_new", "kill_existing", "allow"] = "cancel_new"
    """If a run is still going on: leave the new one out, kill the old one and begin once it is dead, or run both."""
    missed: Annotated[
        Missed,
        BeforeValidator(_missed),
        WithJsonSchema(
            {"anyOf": [{"type": "string", "enum": ["skip", "run_latest", "run_all"]}, Missed.model_json_schema()]}
        ),
    ] = Missed()
    """What is done about ticks while the service was down."""
    suspend: Annotated[bool, Field(strict=True)] = False
    """Whether it is submitted suspended: its ticks are noted as skipped until it is resumed."""
    start: Moment = None
    """No tick before this moment."""
    end: Moment = None
    """No tick after this moment."""

    def next(self, after_us: int) -> int | None:
        """The first tick later than `after_us`; None if there is none any more."""
        if self.start is not None:
            after_us = max(after_us, self.start - 1)
        found = next_tick(self.schedule, self.timezone, after_us)
        return found if found is not None and (self.end is None or found <= self.end) else None

    def ticks(self, first_us: int | None) -> Iterator[int]:
        """This tick and all that follow."""
        while first_us is not None:
            yield first_us
            first_us = self.next(first_us)

    def coming(self, now_us: int, count: int = 5) -> list[int]:
        """The next ticks after now, for people."""
        return list(islice(self.ticks(self.next(now_us)), count))


def run_spec(spec: CronSpec, tick_us: int) -> JobSpec:
    """The job that one tick makes."""
    held = spec.__dict__
    fields = {name: held[name] for name in names_of(JobSpec)}
    fields["env"] = {**spec.env, TICK_VARIABLE: show_moment(tick_us)}
    return made(JobSpec, fields)


def parse_spec(document: Any, prefix: str = "") -> JobSpec:
    """One job from plain data, a cron job if it has a schedule; `Invalid` names the field."""
    if not isinstance(document, Mapping) or "schedule" not in document:
        return jobs.parse_spec(document, prefix)
    try:
        return CronSpec.model_validate(document)
    except ValidationError as error:
        raise invalid(error, prefix) from None


def check_fires(spec: CronSpec, now_us: int) -> None:
    """`Invalid` if no tick will ever come."""
    if spec.start is not None and spec.end is not None and spec.end < spec.start:
        raise Invalid("end", "must not be before start")
    if spec.next(now_us) is not None:
        return
    if next_tick(spec.schedule, spec.timezone, now_us) is None:
        raise Invalid("schedule", f"never fires: there is no such day ({shown(spec.schedule)})")
    if spec.end is not None and spec.end <= now_us:
        raise Invalid("end", "is over: it would never fire")
    raise Invalid("schedule", "never fires between start and end")


# --- what becomes of a tick --------------------------------------------------------------------------------------


class Outcome(StrEnum):
    """What became of a tick. All but `waiting` are for good."""

    STARTED = "started"
    """A job was made for it."""
    WAITING = "waiting"
    """It begins when the run before has ended."""
    SKIPPED = "skipped"
    """It was there in time, but was not to run: collision, suspended, quota."""
    MISSED = "missed"
    """Nobody was there in time."""


@dataclass(frozen=True, slots=True)
class Due:
    """A tick that has come. `missed` says why it is not run; None: run it. `late`: nobody was there in time."""

    tick_us: int
    missed: Reason | None = None
    late: bool = False


def due(spec: CronSpec, next_us: int | None, now_us: int, on_time_us: int) -> tuple[list[Due], int | None]:
    """What to do about every tick from `next_us` until now, and the first that is left: of very many only the oldest
    `TICKS_AT_ONCE` are dealt with, and what is left is not later than now.
    """
    most = spec.missed.most
    known: list[int] = []
    for tick_us in spec.ticks(next_us):
        known.append(tick_us)
        if tick_us > now_us or len(known) > TICKS_AT_ONCE + most:
            break
    come = [tick_us for tick_us in known if tick_us <= now_us]
    dealt = come[:TICKS_AT_ONCE]
    left = known[len(dealt)] if len(known) > len(dealt) else None
    return [_judge(spec, tick_us, len(come) - 1 - at, now_us, on_time_us) for at, tick_us in enumerate(dealt)], left


def _judge(spec: CronSpec, tick_us: int, later: int, now_us: int, on_time_us: int) -> Due:
    """`later`: how many ticks that have come too are later (at least: of more than counted, too many)."""
    late_us, missed = now_us - tick_us, spec.missed
    late = late_us > on_time_us
    facts = {"late_s": round(late_us / _US, 3)}
    seen = f"seen {_lateness(late_us)} late"
    if missed.policy == "skip":
        reason = Reason("late", f"{seen}: nothing scheduled at its time", facts) if late else None
        return Due(tick_us, reason, late)
    if late_us > max(on_time_us, round(missed.deadline * _US)):
        limit = f"more than the deadline of {missed.deadline:g} s"
        return Due(tick_us, Reason("deadline", f"{seen}, {limit}", facts), late)
    if later >= missed.most and late:
        if missed.policy == "run_latest":
            return Due(tick_us, Reason("superseded", f"{seen}: a later one was there too", facts), late)
        return Due(tick_us, Reason("limit", f"{seen}: {missed.limit} or more later ones were there too", facts), late)
    return Due(tick_us, None, late)


def _lateness(late_us: int) -> str:
    seconds = late_us / _US
    for size, unit in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def prior(collision: str, late: bool) -> Literal["skip", "wait", "kill", "start"]:
    """What a tick does when a run before it is still going on. Late ones of `run_all` were asked for: they queue up."""
    if collision == "allow":
        return "start"
    if collision == "kill_existing":
        return "kill"
    return "wait" if late else "skip"
