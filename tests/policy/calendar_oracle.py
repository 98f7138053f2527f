"""Cron's rules once more, by counting minutes: slow, and nothing in common with `priority.cron`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
LOW = (0, 0, 1, 1, 0)
HIGH = (59, 23, 31, 12, 7)


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
    def __init__(self, schedule: str, zone: str) -> None:
        self.fields = schedule.split()
        self.sets = [_values(field, index) for index, field in enumerate(self.fields)]
        self.zone = ZoneInfo(zone)

    def matches(self, wall: datetime) -> bool:
        minute, hour, day, month, weekday = self.sets
        if wall.minute not in minute or wall.hour not in hour or wall.month not in month:
            return False
        in_days, in_week = wall.day in day, wall.isoweekday() in weekday or wall.isoweekday() % 7 in weekday
        if self.fields[2][0] == "*" or self.fields[4][0] == "*":
            return in_days and in_week
        return in_days or in_week

    def between(self, first: datetime, last: datetime) -> list[datetime]:
        """Every firing from `first` until `last`, UTC, whole minutes. Clocks change by whole minutes nowadays."""
        moments = [first + n * MINUTE for n in range(round((last - first) / MINUTE) + 1)]
        walls = [moment.astimezone(self.zone).replace(tzinfo=None, fold=0) for moment in moments]
        if self.fields[1] == "*":
            return [moment for moment, wall in zip(moments, walls, strict=True) if self.matches(wall)]
        found = []
        seen: set[datetime] = set()
        newest = walls[0] - MINUTE
        for moment, wall in zip(moments, walls, strict=True):
            # the wall times that were jumped over, and this one if it is here for the first time
            jumped = [newest + n * MINUTE for n in range(1, round((wall - newest) / MINUTE))]
            new = [wall] if wall not in seen else []
            if any(self.matches(one) for one in jumped + new):
                found.append(moment)
            seen.add(wall)
            newest = max(newest, wall)
        return found


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
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
