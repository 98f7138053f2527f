"""When a schedule says that something is to run: five fields in a time zone, and the ticks that follow from them.

A *tick* is a moment at which a schedule fires. Ticks are instants (microseconds, UTC); a schedule speaks of the wall
clock of its time zone, so between the two stand the days on which clocks are changed. croniter does the calendar, on
wall times without a zone; the clocks are done here:

1. a wall time that does not exist (clocks were set forward over it) is the first instant after the gap;
2. a wall time that comes twice (clocks were set back) is its first instant only;
3. a schedule whose hour is `*` means every hour that passes: it has neither the first nor the second exception.

So a daily job runs once a day and an hourly one once an hour, whatever the clocks do.
"""

from __future__ import annotations

import copy
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from croniter import croniter
from croniter.croniter import CroniterBadDateError

from priority.document import shown

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

_US = 1_000_000
_DAY_US = 86_400 * _US
_NONE = timedelta()
EPOCH = datetime(1970, 1, 1)
"""Of all instants here: without a zone, meant in UTC."""

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


class Schedule:
    """Five fields in a time zone. Immutable, may be shared between threads."""

    def __init__(self, fields: str, zone: str) -> None:
        """`ValueError` says what is wrong with either."""
        self._zone = zone_of(zone)
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
        return (EPOCH + timedelta(microseconds=at_us)).replace(tzinfo=UTC).astimezone(self._zone).utcoffset() or _NONE

    def _local(self, at_us: int) -> datetime:
        moment = (EPOCH + timedelta(microseconds=at_us)).replace(tzinfo=UTC)
        return moment.astimezone(self._zone).replace(tzinfo=None, fold=0)

    def _instant(self, wall: datetime, fold: int) -> int:
        offset = wall.replace(tzinfo=self._zone, fold=fold).utcoffset() or _NONE
        return (wall - EPOCH - offset) // timedelta(microseconds=1)


@lru_cache(maxsize=1024)
def schedule_of(fields: str, zone: str) -> Schedule:
    """Made once for all who have the same."""
    return Schedule(fields, zone)


@lru_cache(maxsize=65_536)
def next_tick(fields: str, zone: str, after_us: int) -> int | None:
    """The first tick of a schedule later than this moment; None if there is none any more."""
    return schedule_of(fields, zone).next(after_us)


def check_fields(fields: str) -> None:
    """`ValueError` says what is wrong with a schedule."""
    _calendar(_five_fields(fields))


def _calendar(fields: str) -> croniter:
    try:
        # "cron bug": of day and weekday both must match if one of them begins with `*`, as in every cron there is.
        return croniter(fields, EPOCH, implement_cron_bug=True)
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


def zone_of(name: str) -> ZoneInfo:
    """`ValueError` if there is none of this name."""
    if name not in zones():
        raise ValueError(f"must be a time zone such as Europe/Zurich or UTC, not {shown(name)}")
    return ZoneInfo(name)


def show_moment(at_us: int) -> str:
    """RFC 3339 in UTC, without a fraction where there is none."""
    return (EPOCH + timedelta(microseconds=at_us)).isoformat() + "Z"


def show_local(at_us: int, zone: str) -> str:
    """On the wall clock of a time zone, with its offset."""
    moment = (EPOCH + timedelta(microseconds=at_us)).replace(tzinfo=UTC).astimezone(ZoneInfo(zone))
    return moment.isoformat(" ", "minutes" if not moment.second and not moment.microsecond else "auto")
