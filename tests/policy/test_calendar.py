"""When a schedule fires, held against two others who know: plain counting of minutes, and cronsim (Debian's cron).

`make test` looks at a day of changed clocks in each zone, `make test-all` at every firing of twenty years.
"""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest
from calendar_oracle import Plain, changes, us
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from priority.schedule import Schedule

ZONES = (
    *("UTC", "Europe/Zurich", "Europe/London", "Europe/Dublin", "Europe/Chisinau", "Atlantic/Azores", "Asia/Beirut"),
    *("America/New_York", "America/Los_Angeles", "America/St_Johns", "America/Havana", "America/Santiago"),
    *("America/Asuncion", "America/Sao_Paulo", "America/Scoresbysund", "Africa/Casablanca", "Africa/Cairo"),
    *("Asia/Gaza", "Asia/Tehran", "Asia/Jerusalem", "Asia/Kolkata", "Asia/Kathmandu", "Asia/Pyongyang"),
    *("Australia/Sydney", "Australia/Lord_Howe", "Pacific/Auckland", "Pacific/Chatham", "Pacific/Apia"),
    *("Pacific/Norfolk", "Antarctica/Troll"),
)
OFTEN = "*/20 * * * *"
SCHEDULES = (
    *("30 2 * * *", "0 0 * * *", "59 23 * * *", "0 3 * * *", "5,35 1,2,3 * * *", "15 1 * * 0", "0 1-3 25-31 3,10 *"),
    *("30 * * * *", OFTEN, "10 * 1-7 4,11 *", "*/15 2 * * *", "30 */2 * * *", "0 2 1-7 * 0"),
)
FIRST, LAST = datetime(2010, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)
MINUTE_US = 60_000_000
GROUPS = 3
"""Of zones, for tests that run side by side."""

LIKE_DEBIAN = {
    schedule
    for schedule in SCHEDULES
    # To Debian's cron, and so to cronsim, a * anywhere in minute or hour means "by the clock that passes".
    if "*" not in schedule.split()[0] + schedule.split()[1] or schedule.split()[1] == "*"
}
BY_HALF_AN_HOUR = {"Australia/Lord_Howe", "Asia/Pyongyang", "Pacific/Norfolk"}
"""Where clocks were set back by that: cronsim, which walks in steps of an hour, falls out of step there."""


def counted(schedule: str, zone: str, first: datetime, last: datetime) -> list[int]:
    """By counting minutes, from just after `first` until `last`."""
    begin, end = us(first) // MINUTE_US, us(last) // MINUTE_US
    # a firing of the very first minute may be one that was jumped over before
    minutes = Plain(schedule, zone).between(begin - 1440, end)
    found: list[int] = (minutes[minutes > begin] * MINUTE_US).tolist()
    return found


def ours(schedule: Schedule, first: datetime, last: datetime) -> list[int]:
    def fires(at: int | None) -> Iterator[int]:
        while at is not None and (at := schedule.next(at)) is not None:
            yield at

    return [*takewhile(lambda at: at <= us(last), fires(us(first)))]


def theirs(schedule: str, zone: str, first: datetime, last: datetime) -> list[int]:
    moments = (moment.astimezone(UTC) for moment in CronSim(schedule, first.astimezone(ZoneInfo(zone))))
    return [us(moment) for moment in takewhile(lambda moment: moment <= last, moments)]


def cronsim_knows(schedule: str, zone: str) -> bool:
    return schedule in LIKE_DEBIAN and not (zone in BY_HALF_AN_HOUR and schedule.split()[1] == "*")


def first_difference(some: list[int], others: list[int]) -> list[str]:
    """What only one of the two has, the first of it, for people."""
    odd = sorted(set(some) ^ set(others))[:5]
    return [f"{datetime.fromtimestamp(at / 1e6, UTC):%F %R} {'+-'[at in set(others)]}" for at in odd]


def _changed_clocks(zone: str, chance: random.Random) -> tuple[datetime, datetime]:
    days = changes(zone, FIRST, LAST)
    day = chance.choice(days) if days else FIRST
    return day - timedelta(hours=12), day + timedelta(hours=36)


@pytest.mark.parametrize("zone", ZONES)
def test_it_agrees_with_counting_minutes(zone: str) -> None:
    chance = random.Random(zone)
    span = _changed_clocks(zone, chance)
    for schedule in chance.sample(SCHEDULES, 3):
        assert ours(Schedule(schedule, zone), *span) == counted(schedule, zone, *span), (schedule, span)


@pytest.mark.parametrize("zone", ZONES)
def test_it_agrees_with_cronsim(zone: str) -> None:
    span = _changed_clocks(zone, random.Random(zone))
    for schedule in sorted(LIKE_DEBIAN):
        if cronsim_knows(schedule, zone):
            assert ours(Schedule(schedule, zone), *span) == theirs(schedule, zone, *span), (schedule, span)


class Remembering(Schedule):
    """Asks croniter once for each wall time: its answer has nothing to do with the zone, and takes most of our time."""

    known: dict[tuple[str, datetime], datetime | None]

    def __init__(self, fields: str, zone: str, known: dict[tuple[str, datetime], datetime | None]) -> None:
        super().__init__(fields, zone)
        self.fields, self.known = fields, known

    def _next_wall(self, naive: datetime) -> datetime | None:
        key = self.fields, naive
        if key not in self.known:
            self.known[key] = super()._next_wall(naive)
        return self.known[key]


@pytest.mark.long
@pytest.mark.timeout(1200)  # some two minutes by itself, and a machine may be busy
@pytest.mark.parametrize("group", range(GROUPS))
def test_twenty_years(group: int) -> None:
    """Every firing of each schedule in each zone; of what fires often, those on the days of changed clocks."""
    known: dict[tuple[str, datetime], datetime | None] = {}
    for zone in ZONES[group::GROUPS]:
        days = [
            (day - timedelta(1), day + timedelta(2)) for day in changes(zone, FIRST, LAST) or [FIRST + timedelta(1)]
        ]
        for schedule in SCHEDULES:
            schedule_there = Remembering(schedule, zone, known)
            by_minutes = counted(schedule, zone, FIRST, LAST)
            for span in days if schedule == OFTEN else [(FIRST, LAST)]:
                found = ours(schedule_there, *span)
                expected = by_minutes[bisect(by_minutes, us(span[0])) : bisect(by_minutes, us(span[1]))]
                assert found == expected, (schedule, zone, first_difference(found, expected))
                if cronsim_knows(schedule, zone):
                    expected = theirs(schedule, zone, *span)
                    assert found == expected, (schedule, zone, first_difference(found, expected))


@given(
    st.sampled_from(ZONES),
    st.sampled_from(SCHEDULES),
    st.datetimes(datetime(2010, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),
    st.integers(1, 3 * 86_400 * 10**6),
)
def test_the_next_is_the_first_of_all_later_ones(zone: str, schedule: str, at: datetime, later: int) -> None:
    ours = Schedule(schedule, zone)
    first = ours.next(us(at))
    assert first is not None and first > us(at) and first % MINUTE_US == 0
    # From any moment in between the next one is the same, and from it on it is another: order and no gaps.
    between = us(at) + later
    assert (ours.next(between) == first) == (between < first)
