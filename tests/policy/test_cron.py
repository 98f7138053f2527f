"""When a cron job fires, by tables (`test_calendar` asks others who know), what is refused, what comes late."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from calendar_oracle import us

from priority.cron import (
    EXAMPLE,
    LIMIT_MAX,
    TICKS_AT_ONCE,
    CronSpec,
    Due,
    check_fires,
    due,
    parse_spec,
    prior,
    run_spec,
)
from priority.errors import Invalid
from priority.job import JobSpec
from priority.schedule import ALIASES, Schedule, show_local, show_moment


def minute(text: str) -> int:
    return us(datetime.fromisoformat(text).astimezone(UTC))


def wall(schedule: str, zone: str, after: str, count: int) -> list[str]:
    """The next firings after a moment, as the wall clock shows them."""
    found, at = [], minute(after)
    for _ in range(count):
        next_us = Schedule(schedule, zone).next(at)
        assert next_us is not None
        at = next_us
        found.append(show_local(at, zone)[5:])
    return found


def spec(**fields: Any) -> CronSpec:
    found = parse_spec({"role": "r", "tier": "prod", "name": "n", "command": "true", "schedule": "0 0 * * *"} | fields)
    assert isinstance(found, CronSpec)
    return found


# --- the calendar ------------------------------------------------------------------------------------------------

AURORA: dict[str, list[int]] = json.loads((Path(__file__).parent / "aurora_cron.json").read_text())["expected"]


def test_auroras_own_predictions() -> None:
    assert len(AURORA) == 222
    for schedule, expected in AURORA.items():
        ticks = list(islice(spec(schedule=schedule).ticks(Schedule(schedule, "UTC").next(0)), 10))
        assert [tick // 1000 for tick in ticks] == expected, schedule


@pytest.mark.parametrize(
    ("schedule", "zone", "after", "expected"),
    [
        # it does not exist: once, at the first instant after
        ("30 2 * * *", "Europe/Zurich", "2026-03-28T12:00Z", ["03-29 03:00+02:00", "03-30 02:30+02:00"]),
        ("*/15 2 * * *", "Europe/Zurich", "2026-03-28T12:00Z", ["03-29 03:00+02:00", "03-30 02:00+02:00"]),
        ("0 2,3 * * *", "Europe/Zurich", "2026-03-28T12:00Z", ["03-29 03:00+02:00", "03-30 02:00+02:00"]),
        ("30 * * * *", "Europe/Zurich", "2026-03-29T00:00Z", ["03-29 01:30+01:00", "03-29 03:30+02:00"]),
        ("0 0 * * *", "Asia/Beirut", "2026-03-28T00:00Z", ["03-29 01:00+03:00", "03-30 00:00+03:00"]),
        ("0 12 * * *", "Pacific/Apia", "2011-12-29T00:00Z", ["12-29 12:00-10:00", "12-31 00:00+14:00"]),
        # it comes twice: once, unless the hour is *
        ("30 2 * * *", "Europe/Zurich", "2026-10-24T12:00Z", ["10-25 02:30+02:00", "10-26 02:30+01:00"]),
        ("30 * * * *", "Europe/Zurich", "2026-10-25T00:00Z", ["10-25 02:30+02:00", "10-25 02:30+01:00"]),
        ("*/30 2 * * *", "Europe/Zurich", "2026-10-25T00:10Z", ["10-25 02:30+02:00", "10-26 02:00+01:00"]),
        ("30 */2 * * *", "Europe/Zurich", "2026-10-25T00:10Z", ["10-25 02:30+02:00", "10-25 04:30+01:00"]),
        # a repeated half of an hour, and one that is repeated over midnight on the day that is meant
        ("40 * * * *", "Australia/Lord_Howe", "2026-04-04T14:00Z", ["04-05 01:40+11:00", "04-05 01:40+10:30"]),
        ("30 23 * * *", "Asia/Beirut", "2026-10-24T12:00Z", ["10-24 23:30+03:00", "10-25 23:30+02:00"]),
        ("30 * 24 10 *", "Asia/Beirut", "2026-10-24T20:00Z", ["10-24 23:30+03:00", "10-24 23:30+02:00"]),
        # of the day and the weekday either, unless one of them begins with *
        ("0 0 13 * 5", "UTC", "2026-11-01T00:00Z", ["11-06 00:00+00:00", "11-13 00:00+00:00", "11-20 00:00+00:00"]),
        ("0 0 */2 * 5", "UTC", "2026-11-01T00:00Z", ["11-13 00:00+00:00", "11-27 00:00+00:00"]),
        ("0 0 29 2 *", "UTC", "2026-01-01T00:00Z", ["02-29 00:00+00:00"]),
        ("0 0 * * fri-sun", "UTC", "2026-11-20T01:00Z", ["11-21 00:00+00:00", "11-22 00:00+00:00"]),
    ],
)
def test_when_it_fires(schedule: str, zone: str, after: str, expected: list[str]) -> None:
    assert wall(schedule, zone, after, len(expected)) == expected


@pytest.mark.parametrize(("alias", "fields"), ALIASES.items())
def test_an_alias_is_what_it_stands_for(alias: str, fields: str) -> None:
    at = minute("2026-11-23T10:11:12Z")
    assert Schedule(alias, "UTC").next(at) == Schedule(f" {alias.upper()} ", "UTC").next(at)
    assert Schedule(alias, "Asia/Tokyo").next(at) == Schedule(fields, "Asia/Tokyo").next(at)


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("schedule", "* * * * * *", "must have five fields"),
        ("schedule", "", "there is none"),
        ("schedule", "0 0 0 2030 * * *", "there are 7"),
        ("schedule", "60 * * * *", "out of range"),
        ("schedule", "0 24 * * *", "out of range"),
        ("schedule", "0 0 * foo *", "is not a schedule"),
        ("schedule", "*/0 * * * *", "step '0'"),
        ("schedule", "-1 * * * *", "negative"),
        ("schedule", "0 0 * * 5#6", "is not a schedule"),
        ("schedule", "@reboot", "one of @hourly"),
        ("schedule", "@every 5m", "one of @hourly"),
        ("schedule", "R * * * *", "chance"),
        ("schedule", "0 H * * *", "chance"),
        ("schedule", "0 H(1-3)/2 * * *", "chance"),
        ("schedule", "22-2 * * * *", "a range goes up"),
        ("schedule", "0 0 * * fri-mon", "a range goes up"),
        ("schedule", "5-5 * * * *", "that is one value, write 5"),
        ("schedule", "\u0661 * * * *", "ASCII"),
        ("schedule", "0 " * 200, "at most 200 characters"),
        ("schedule", 5, "must be text"),
        ("schedule", None, "must be text"),
        ("timezone", "Europe/Zuerich", "must be a time zone"),
        ("timezone", "../../etc/passwd", "must be a time zone"),
        ("timezone", "Europe", "must be a time zone"),
        ("timezone", "localtime", "must be a time zone"),
        ("timezone", "", "must be a time zone"),
        ("timezone", 3, "must be a time zone"),
        ("collision", "kill", "must be cancel_new, kill_existing or allow"),
        ("missed.policy", "run", "must be skip, run_latest or run_all"),
        ("missed.limit", {"limit": 0}, "must be at least 1"),
        ("missed.limit", {"limit": LIMIT_MAX + 1}, f"must be at most {LIMIT_MAX}"),
        ("missed.deadline", {"deadline": 0}, "must be more than 0"),
        ("missed.policies", {"policies": "skip"}, "is not known"),
        ("suspend", "yes", "must be true or false"),
        ("start", "tomorrow", "must be a time such as"),
        ("start", 17, "must be a time such as"),
        ("end", "0001-01-01T00:00:00+23:00", "must be a time such as"),
    ],
)
def test_what_is_refused(field: str, value: Any, said: str) -> None:
    with pytest.raises(Invalid) as refused:
        spec(**{field.split(".", maxsplit=1)[0]: value})
    assert refused.value.field == field
    assert said in refused.value.problem


NOW = minute("2026-11-23T10:00:00Z")


@pytest.mark.parametrize(
    ("fields", "field", "said"),
    [
        ({"schedule": "0 0 31 2 *"}, "schedule", "never fires"),
        ({"schedule": "0 0 30,31 2 *"}, "schedule", "never fires"),
        ({"schedule": "0 0 31 4,6,9,11 *"}, "schedule", "never fires"),
        ({"end": "2026-11-23T10:00:00Z"}, "end", "is over"),
        ({"start": "2026-12-01", "end": "2026-11-30"}, "end", "must not be before start"),
        ({"start": "2026-12-01T00:00:01Z", "end": "2026-12-01T23:59:59Z"}, "schedule", "between start and end"),
    ],
)
def test_what_never_fires_is_refused(fields: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_fires(spec(**fields), NOW)
    assert (refused.value.field, said in refused.value.problem) == (field, True), refused.value


# --- a cron job --------------------------------------------------------------------------------------------------


def test_start_and_end_are_the_first_and_the_last_possible_tick() -> None:
    inside = spec(start="2026-11-25", end="2026-11-27T00:00:00Z")
    check_fires(inside, NOW)
    assert [show_moment(tick) for tick in inside.coming(NOW)] == [f"2026-11-{day}T00:00:00Z" for day in (25, 26, 27)]
    assert spec().coming(NOW, 1) == [minute("2026-11-24T00:00:00Z")]


def test_a_moment_without_an_offset_is_one_of_the_jobs_own_zone() -> None:
    made = spec(timezone="Europe/Zurich", start="2026-12-01 06:00", end="2026-12-02T00:00:00+05:00")
    assert (made.start, made.end) == (minute("2026-12-01T05:00Z"), minute("2026-12-01T19:00Z"))
    dumped = made.model_dump(mode="json")
    assert (dumped["start"], dumped["end"]) == ("2026-12-01T05:00:00Z", "2026-12-01T19:00:00Z")
    assert parse_spec(dumped) == made


def test_a_run_is_a_job_that_knows_its_tick() -> None:
    made = parse_spec(EXAMPLE | {"env": {"A": "b"}})
    assert isinstance(made, CronSpec)
    run = run_spec(made, NOW)
    assert type(run) is JobSpec
    assert run.env == {"A": "b", "PRIORITY_TICK": "2026-11-23T10:00:00Z"}
    expected = JobSpec.model_validate({name: EXAMPLE[name] for name in JobSpec.model_fields if name in EXAMPLE})
    assert run.model_copy(update={"env": {}}) == expected
    assert JobSpec.model_validate_json(run.model_dump_json()) == run


@pytest.mark.parametrize(
    ("fields", "field", "said"),
    [
        ({"timezone": "UTC"}, "timezone", "is of a cron job, which has a schedule too"),
        ({"schedule": "@daily", "timezon": "UTC"}, "timezon", "did you mean timezone? See `priority cron schema`"),
        ({"schedule": "@daily", "walltime": 3}, "walltime", "did you mean max_runtime?"),
    ],
)
def test_a_field_that_is_not_known(fields: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_spec({"role": "r", "tier": "prod", "name": "n", "command": "true"} | fields)
    assert refused.value.field == field
    assert said in refused.value.problem


def test_without_a_schedule_it_is_a_job() -> None:
    plain = {name: EXAMPLE[name] for name in ("role", "tier", "name", "command")}
    assert type(parse_spec(plain)) is JobSpec
    assert spec(missed="run_all").missed.policy == "run_all"
    with pytest.raises(Invalid, match="document"):
        parse_spec([1])


# --- what becomes of a tick --------------------------------------------------------------------------------------

MINUTE_US = 60_000_000
ON_TIME = 30_000_000


def judged(now_s: float, first_s: float = 0.0, **missed: Any) -> tuple[list[str], float | None]:
    """Ticks each minute from `first_s` on: what is done with each at `now_s`; and the next that is left."""
    begin = minute("2026-11-23T10:00:00Z")
    made = spec(schedule="* * * * *", missed=missed or "skip")
    found, left = due(made, begin + round(first_s * 1e6), begin + round(now_s * 1e6), ON_TIME)
    return [
        f"{(one.tick_us - begin) // 10**6} {one.missed.code if one.missed else 'run'}{' late' if one.late else ''}"
        for one in found
    ], None if left is None else (left - begin) / 1e6


@pytest.mark.parametrize(
    ("now_s", "missed", "expected", "left"),
    [
        (-0.000001, {}, [], 0),
        (0, {}, ["0 run"], 60),
        (30, {}, ["0 run"], 60),
        (31, {}, ["0 late late"], 60),
        (60, {}, ["0 late late", "60 run"], 120),
        (
            200,
            {"policy": "run_latest"},
            ["0 superseded late", "60 superseded late", "120 superseded late", "180 run"],
            240,
        ),
        (155, {"policy": "run_latest"}, ["0 superseded late", "60 superseded late", "120 run late"], 180),
        (
            155,
            {"policy": "run_latest", "deadline": 32},
            ["0 deadline late", "60 deadline late", "120 deadline late"],
            180,
        ),
        (155, {"policy": "run_all"}, ["0 run late", "60 run late", "120 run late"], 180),
        (155, {"policy": "run_all", "limit": 2}, ["0 limit late", "60 run late", "120 run late"], 180),
        (155, {"policy": "run_all", "deadline": 100}, ["0 deadline late", "60 run late", "120 run late"], 180),
        # a deadline shorter than what counts as in time takes nothing away
        (125, {"policy": "run_all", "deadline": 1}, ["0 deadline late", "60 deadline late", "120 run"], 180),
    ],
)
def test_what_is_done_about_late_ticks(now_s: float, missed: Any, expected: list[str], left: float) -> None:
    assert judged(now_s, **missed) == (expected, left)


def test_nothing_is_due_when_nothing_will_come() -> None:
    assert due(spec(), None, NOW, ON_TIME) == ([], None)
    last = spec(end="2026-11-24T00:00:00Z")
    assert due(last, last.next(NOW), minute("2026-11-24T00:00:10Z"), ON_TIME)[1] is None


@pytest.mark.parametrize("limit", [1, 10, LIMIT_MAX])
def test_very_many_are_decided_in_pieces_as_if_together(limit: int) -> None:
    made = spec(schedule="* * * * *", missed={"policy": "run_all", "limit": limit})
    now, left = NOW + 2_500 * MINUTE_US, made.next(NOW - 1)
    found: list[Due] = []
    pieces = 0
    while left is not None and left <= now:
        some, left = due(made, left, now, ON_TIME)
        assert len(some) <= TICKS_AT_ONCE
        found += some
        pieces += 1
    assert pieces == 3
    assert [one.tick_us for one in found] == [NOW + n * MINUTE_US for n in range(2_501)]
    assert [one.missed is None for one in found] == [n > 2_500 - limit for n in range(2_501)]


def test_what_a_tick_does_while_a_run_goes_on() -> None:
    table = {
        (collision, late): prior(collision, late)
        for collision in ("allow", "kill_existing", "cancel_new")
        for late in (False, True)
    }
    assert table == {
        ("allow", False): "start",
        ("allow", True): "start",
        ("kill_existing", False): "kill",
        ("kill_existing", True): "kill",
        ("cancel_new", False): "skip",
        ("cancel_new", True): "wait",
    }
