"""When a cron job fires, and what becomes of a firing that comes late or meets an earlier run.

A *tick* is a moment at which a schedule says that its job is to run. Ticks are instants (microseconds, UTC); a schedule
speaks of the wall clock of its time zone, so between the two stand the days on which clocks are changed. croniter does
the calendar, on wall times without a zone; the clocks are done here:

1. a wall time that does not exist (clocks were set forward over it) is the first instant after the gap;
2. a wall time that comes twice (clocks were set back) is its first instant only;
3. a schedule whose hour is `*` means every hour that passes: it has neither the first nor the second exception.

So a daily job runs once a day and an hourly one once an hour, whatever the clocks do.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from itertools import islice
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from croniter import croniter
from croniter.croniter import CroniterBadDateError
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

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

SCHEDULE_MAX = 200
"""Characters of a schedule."""

TICKS_AT_ONCE = 1000
"""Ticks of one cron job that are decided together; if more are due, the next ones follow in the next transaction."""

LIMIT_MAX = 1000
"""Late ticks of one cron job that may be run together."""

TICK_VARIABLE = "PRIORITY_TICK"
"""In the environment of a run: for which moment it is, RFC 3339 in UTC."""

_US = 1_000_000
_DAY_US = 86_400 * _US
_EPOCH = datetime(1970, 1, 1)
_FIELDS = ("minute", "hour", "day of the month", "month", "day of the week")
_HOUR, _WEEKDAY = 1, 4
_RANGE = re.compile(r"([a-z0-9]+)-([a-z0-9]+)(?:/\d+)?", re.ASCII)
_CHANCE = re.compile(r"(?:^|[\s,])[hr](?:[\s,(/]|$)", re.ASCII)
_NAMES = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))} | {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), start=1
    )
}


# --- a schedule --------------------------------------------------------------------------------------------------


class Schedule:
    """Five fields in a time zone. Immutable, may be shared between threads."""

    def __init__(self, fields: str, zone: str) -> None:
        """`ValueError` says what is wrong with either."""
        self._zone = _zone(zone)
        self._calendar = _calendar(_five_fields(fields))
        self._every_hour = self._calendar.expanded[_HOUR][0] == "*"

    def next(self, after_us: int) -> int | None:
        """The first tick later than this moment; None if there is none any more."""
        naive = self._local(after_us)
        best = None
        while (wall := self._next_wall(naive)) is not None:
            best = self._later(wall, after_us)
            if best is not None:
                break
            naive = wall
        if self._every_hour and (second := self._second_pass(after_us)) is not None:
            best = second if best is None else min(best, second)
        return best

    def _next_wall(self, naive: datetime) -> datetime | None:
        try:
            # A copy, as it remembers where it is: it costs a fiftieth of what making it costs.
            found = copy.copy(self._calendar).get_next(datetime, start_time=naive)
        except (CroniterBadDateError, OverflowError, ValueError):
            return None
        return found if isinstance(found, datetime) else None

    def _later(self, wall: datetime, after_us: int) -> int | None:
        """The first instant of a wall time that is later than `after_us`, if it has one."""
        first = self._instant(wall, 0)
        if self._local(first) != wall:
            # It does not exist.
            if self._every_hour:
                return None
            first = self._change(self._instant(wall, 1), first)
        elif self._every_hour and first <= after_us:
            first = self._instant(wall, 1)
        return first if first > after_us else None

    def _second_pass(self, after_us: int) -> int | None:
        """If clocks are set back within the next day: the first match afterwards, of wall times that have been."""
        if self._offset(after_us + _DAY_US) >= self._offset(after_us):
            return None
        change_us = self._change(after_us, after_us + _DAY_US)
        wall = self._next_wall(self._local(change_us) - timedelta(microseconds=1))
        if wall is None:
            return None
        found = change_us + (wall - self._local(change_us)) // timedelta(microseconds=1)
        return found if self._local(found) == wall else None

    def _change(self, low_us: int, high_us: int) -> int:
        """The instant between the two at which clocks are changed; they are, once."""
        before = self._offset(low_us)
        low, high = low_us // _US, -(-high_us // _US)
        while high - low > 1:
            middle = (low + high) // 2
            if self._offset(middle * _US) == before:
                low = middle
            else:
                high = middle
        return high * _US

    def _offset(self, at_us: int) -> timedelta:
        return (_EPOCH + timedelta(microseconds=at_us)).replace(tzinfo=UTC).astimezone(self._zone).utcoffset() or _NONE

    def _local(self, at_us: int) -> datetime:
        moment = (_EPOCH + timedelta(microseconds=at_us)).replace(tzinfo=UTC)
        return moment.astimezone(self._zone).replace(tzinfo=None, fold=0)

    def _instant(self, wall: datetime, fold: int) -> int:
        offset = wall.replace(tzinfo=self._zone, fold=fold).utcoffset() or _NONE
        return (wall - _EPOCH - offset) // timedelta(microseconds=1)


_NONE = timedelta()


@lru_cache(maxsize=1024)
def schedule_of(fields: str, zone: str) -> Schedule:
    """Made once for all who have the same."""
    return Schedule(fields, zone)


@lru_cache(maxsize=65_536)
def _next(fields: str, zone: str, after_us: int) -> int | None:
    return schedule_of(fields, zone).next(after_us)


def _calendar(fields: str) -> croniter:
    try:
        # "cron bug": of day and weekday both must match if one of them begins with `*`, as in every cron there is.
        return croniter(fields, _EPOCH, implement_cron_bug=True)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        problem = str(error).removeprefix(f"[{fields}] ").removeprefix("is not acceptable, ")
        raise ValueError(f"is not a schedule: {shown(fields)} {problem}") from None


def _five_fields(written: str) -> str:
    """Lower case and without an alias; ValueError for what croniter would read otherwise than it is meant."""
    if len(written) > SCHEDULE_MAX:
        raise ValueError(f"must have at most {SCHEDULE_MAX} characters")
    text = " ".join(written.lower().split())
    if text.startswith("@"):
        if text not in ALIASES:
            raise ValueError(f"must be five fields or one of {', '.join(ALIASES)}, not {shown(written)}")
        return ALIASES[text]
    if not text.isascii():
        raise ValueError(f"must be written in ASCII, not {shown(written)}")
    fields = [field.rstrip(",") or field for field in text.split(" ")]  # a comma at the end is of no harm
    if len(fields) != len(_FIELDS):
        are = f"there {'is' if len(fields) == 1 else 'are'} {len(fields) if text else 'none'}"
        raise ValueError(f'must have five fields ({", ".join(_FIELDS)}), such as "30 2 * * *", but {are}')
    if _CHANCE.search(text):
        raise ValueError("must not be left to chance: H and R are not known here")
    for index, field in enumerate(fields):
        for part in field.split(","):
            if match := _RANGE.fullmatch(part):
                _check_range(index, part, match[1], match[2])
    return " ".join(fields)


def _check_range(index: int, part: str, first: str, last: str) -> None:
    low, high = (_NAMES.get(one, int(one) if one.isdigit() else None) for one in (first, last))
    if low is None or high is None:
        return
    if index == _WEEKDAY and high == 0:
        high = 7
    if low == high:
        raise ValueError(f"has the {_FIELDS[index]} {part}: that is one value, write {first}")
    if low > high:
        raise ValueError(f"has the {_FIELDS[index]} {part}: a range goes up; write two of them, with a comma between")


@lru_cache(maxsize=1)
def zones() -> frozenset[str]:
    """The names of all time zones."""
    return frozenset(available_timezones() - {"localtime", "Factory"})


def _zone(name: str) -> ZoneInfo:
    if name not in zones():
        raise ValueError(f"must be a time zone such as Europe/Zurich or UTC, not {shown(name)}")
    return ZoneInfo(name)


# --- a cron job --------------------------------------------------------------------------------------------------


def _schedule(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f'must be text such as "30 2 * * *", not {shown(value)}')
    _calendar(_five_fields(value))
    return " ".join(value.split())


def _timezone(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a time zone such as Europe/Zurich or UTC, not {shown(value)}")
    _zone(value)
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
            moment = moment.replace(tzinfo=_zone(info.data.get("timezone", "UTC")))
        return (moment.astimezone(UTC).replace(tzinfo=None) - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        problem = f'must be a time such as "2026-12-01T00:00:00Z" or "2026-12-01 06:00", not {shown(value)}'
        raise ValueError(problem) from None


def show_moment(at_us: int) -> str:
    """RFC 3339 in UTC, without a fraction where there is none."""
    return (_EPOCH + timedelta(microseconds=at_us)).isoformat() + "Z"


def show_local(at_us: int, zone: str) -> str:
    """On the wall clock of a time zone, with its offset."""
    moment = (_EPOCH + timedelta(microseconds=at_us)).replace(tzinfo=UTC).astimezone(ZoneInfo(zone))
    return moment.isoformat(" ", "minutes" if not moment.second and not moment.microsecond else "auto")


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
        found = _next(self.schedule, self.timezone, after_us)
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
    if _next(spec.schedule, spec.timezone, now_us) is None:
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
