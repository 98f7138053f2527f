"""Cron's rules once more, by counting minutes: nothing in common with `priority.schedule`.

All minutes of a span lie in one array, so that twenty years of them take a moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

MINUTE = timedelta(minutes=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LOW = (0, 0, 1, 1, 0)
HIGH = (59, 23, 31, 12, 7)
DAY = 1440

Ints = NDArray[np.integer]
Bools = NDArray[np.bool_]


def _values(field: str, index: int) -> set[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        if span == "*":
            low, high = LOW[index], HIGH[index]
        elif "-" in span:
            low, high = (int(one) for one in span.split("-"))
        else:
            low, high = int(span), HIGH[index] if step else int(span)
        found |= set(range(low, high + 1, int(step or 1)))
    return found


class Plain:
    """One schedule in one zone. All moments are minutes since the epoch, UTC."""

    def __init__(self, schedule: str, zone: str) -> None:
        self._fields = schedule.split()
        self._sets = [_values(field, index) for index, field in enumerate(self._fields)]
        self._zone = zone

    def between(self, first: int, last: int) -> Ints:
        """Every firing from `first` until `last`."""
        clock = wall_clock(self._zone, first, last)
        base = int(clock.day.min()) - 1
        days = self._days(base, int(clock.day.max()) + 2)
        found = np.flatnonzero(self._match(clock.day - base, clock.minute, days))
        if self._fields[1] == "*":
            return found + first
        # each wall time where it is shown for the first time, and what is jumped over where it is jumped
        fires = set((found[np.unique(clock.wall[found], return_index=True)[1]] + first).tolist())
        for at, low in clock.jumps:
            jumped = np.arange(low, int(clock.wall[at]))
            if self._match(jumped // DAY - base, jumped % DAY, days).any():
                fires.add(at + first)
        return np.array(sorted(fires), np.int64)

    def _match(self, day: Ints, minute: Ints, days: Bools) -> Bools:
        minutes = np.zeros(DAY, np.bool_)
        for hour in self._sets[1]:
            for one in self._sets[0]:
                minutes[hour * 60 + one] = True
        return days[day] & minutes[minute]

    def _days(self, base: int, end: int) -> Bools:
        return np.array([self._in_days(EPOCH + timedelta(days=day)) for day in range(base, end)])

    def _in_days(self, wall: datetime) -> bool:
        _, _, day, month, weekday = self._sets
        if wall.month not in month:
            return False
        in_days, in_week = wall.day in day, wall.isoweekday() in weekday or wall.isoweekday() % 7 in weekday
        if self._fields[2][0] == "*" or self._fields[4][0] == "*":
            return in_days and in_week
        return in_days or in_week


@dataclass(frozen=True)
class WallClock:
    """What the clock on the wall shows at each minute: in minutes, and the day and the minute of that."""

    wall: Ints
    day: Ints
    minute: Ints
    jumps: list[tuple[int, int]]
    """At which index it was set forward, and the first that it did not show."""


@lru_cache(maxsize=1)
def wall_clock(zone: str, first: int, last: int) -> WallClock:
    """Clocks change by whole minutes nowadays."""
    there = ZoneInfo(zone)

    def offset(minute: int) -> int:
        away = (EPOCH + minute * MINUTE).astimezone(there).utcoffset()
        assert away is not None and not away % MINUTE
        return away // MINUTE

    hours = [*range(first, last + 1, 60), last + 1]
    wall = np.arange(first, last + 1, dtype=np.int32)
    for (low, high), (before, after) in zip(pairwise(hours), pairwise(map(offset, hours)), strict=True):
        changed = before != after
        wall[low - first : high - first] += [offset(minute) for minute in range(low, high)] if changed else before
    newest = np.maximum.accumulate(wall)
    jumps = [(int(at) + 1, int(newest[at]) + 1) for at in np.flatnonzero(wall[1:] > newest[:-1] + 1)]
    return WallClock(wall, wall // DAY, wall % DAY, jumps)


def changes(zone: str, first: datetime, last: datetime) -> list[datetime]:
    """The days on which its clocks are changed, UTC midnights."""
    found, day, there = [], first, ZoneInfo(zone)
    while day < last:
        following = day + timedelta(days=1)
        if day.astimezone(there).utcoffset() != following.astimezone(there).utcoffset():
            found.append(day)
        day = following
    return found


def us(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)
