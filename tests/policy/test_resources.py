"""Amounts: what users may write, what it means, and that nothing is lost on the way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from priority.errors import Invalid
from priority.resources import AMOUNT_MAX, minus, parse, plain, shortfall, show, times, total

HUGE = 10**400


@pytest.mark.parametrize(
    ("name", "amount", "held"),
    [
        ("cpus", 2, 2000),
        ("cpus", 0.5, 500),
        ("cpus", 0.1, 100),
        ("cpus", 0.001, 1),
        ("cpus", 1e6, 10**9),
        ("gpus", 0.25, 250),
        ("mem", 512, 512),
        ("mem", 512.0, 512),
        ("mem", "16GiB", 16 * 1024),
        ("mem", "1.5GiB", 1536),
        ("mem", "1024KiB", 1),
        ("mem", " 3 MiB ", 3),
        ("disk", "2TiB", 2 * 2**20),
        ("licences", 7, 7),
    ],
)
def test_an_amount_is_read(name: str, amount: Any, held: int) -> None:
    assert parse({name: amount}, "resources") == {name: held}


@pytest.mark.parametrize(
    ("name", "amount", "problem"),
    [
        ("cpus", -1, "must not be negative"),
        ("cpus", -0.001, "must not be negative"),
        ("cpus", float("nan"), "must be a finite number"),
        ("cpus", float("inf"), "must be a finite number"),
        ("cpus", True, "must be a number"),
        ("cpus", None, "must be a number"),
        ("cpus", "2", "must be a number"),
        ("cpus", [1], "must be a number"),
        ("cpus", 0.0001, "to the thousandth"),
        ("cpus", 1e308, "is too large"),
        ("cpus", HUGE, "is too large"),
        ("cpus", AMOUNT_MAX, "is too large"),
        ("mem", 0.5, "a whole number of MiB"),
        ("mem", "16GB", "must be a number of MiB"),
        ("mem", "1KiB", "must be whole MiB"),
        ("mem", "-1GiB", "must be a number of MiB"),
        ("mem", "٣GiB", "must be a number of MiB"),
        ("mem", "999999999999999TiB", "is too large"),
        ("slots", 1.5, "a whole number"),
    ],
)
def test_an_amount_is_refused_by_its_name(name: str, amount: Any, problem: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse({name: amount}, "jobs[3].resources")
    assert caught.value.field == f"jobs[3].resources.{name}"
    assert problem in caught.value.problem
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("name", ["", "CPU", "a b", "a" * 64, "é", "1x", "a\n", 3, None])
def test_a_resource_s_name_is_plain(name: Any) -> None:
    with pytest.raises(Invalid, match="is not a resource name"):
        parse({name: 1}, "resources")


@pytest.mark.parametrize("amounts", [None, [], "cpus", 3])
def test_amounts_are_a_mapping(amounts: Any) -> None:
    with pytest.raises(Invalid, match="must be a mapping"):
        parse(amounts, "resources")


def test_a_zero_says_nothing_unless_it_is_asked_for() -> None:
    assert parse({"cpus": 0, "mem": 0.0}, "resources") == {}
    assert parse({"cpus": -0.0}, "resources") == {}
    assert parse({"cpus": 0}, "quota", zeros=True) == {"cpus": 0}


AMOUNTS = st.dictionaries(st.sampled_from(["cpus", "gpus", "mem", "disk", "slots"]), st.integers(1, 10**9), max_size=5)


@given(AMOUNTS)
def test_plain_is_the_inverse_of_parse(held: dict[str, int]) -> None:
    assert parse(plain(held), "resources") == held


@given(AMOUNTS, AMOUNTS)
def test_shortfall_is_what_is_missing(ask: dict[str, int], room: dict[str, int]) -> None:
    short = shortfall(ask, room)
    assert all(amount > 0 for amount in short.values())
    assert shortfall(ask, total([room, short])) == {}
    for name in short:
        assert shortfall(ask, total([room, short, {name: -1}])) != {}


@given(AMOUNTS, AMOUNTS, st.integers(0, 1000))
def test_sums_and_multiples_are_exact(left: dict[str, int], right: dict[str, int], factor: int) -> None:
    both = total([left, right])
    assert {name: amount for name, amount in minus(both, right).items() if amount} == left
    assert total([left] * min(factor, 5)) == ({} if factor == 0 else times(left, min(factor, 5)))


@pytest.mark.parametrize(
    ("held", "shown"),
    [
        ({}, "nothing"),
        ({"cpus": 2000}, "cpus 2"),
        ({"mem": 4096, "cpus": 500}, "cpus 0.5, mem 4GiB"),
        ({"mem": 1000, "disk": 2**20, "slots": 3}, "disk 1TiB, mem 1000MiB, slots 3"),
    ],
)
def test_people_read_it(held: dict[str, int], shown: str) -> None:
    assert show(held) == shown
