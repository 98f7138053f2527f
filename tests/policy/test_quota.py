"""Quotas: who may have how much more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from priority.quota import Admitted, Refused, admit, lowered_below_use, oversold
from priority.resources import total


@pytest.mark.parametrize(
    ("quota", "use", "ask", "short"),
    [
        # quota                        in use            asked                       short by
        ({"cpus": 8000}, {}, {"cpus": 8000}, {}),
        ({"cpus": 8000}, {"cpus": 7000}, {"cpus": 1000}, {}),
        ({"cpus": 8000}, {"cpus": 7000}, {"cpus": 1001}, {"cpus": 1}),
        ({"cpus": 8000}, {}, {"cpus": 1000, "mem": 10**9}, {}),
        ({"cpus": 8000, "mem": 100}, {"mem": 60}, {"cpus": 9000, "mem": 50}, {"cpus": 1000, "mem": 10}),
        ({"cpus": 0}, {}, {"cpus": 1}, {"cpus": 1}),
        ({}, {}, {"cpus": 10**9}, {}),
        (None, {"cpus": 10**9}, {"cpus": 10**9}, {}),
        # a quota that was lowered below its use stops only what asks for more of it
        ({"cpus": 1000, "gpus": 2000}, {"cpus": 4000}, {"gpus": 1000}, {}),
        ({"cpus": 1000, "gpus": 2000}, {"cpus": 4000}, {"gpus": 1000, "cpus": 1}, {"cpus": 3001}),
    ],
)
def test_admission(
    quota: dict[str, int] | None, use: dict[str, int], ask: dict[str, int], short: dict[str, int]
) -> None:
    answer = admit(ask, use, quota, "role physics, tier prod")
    if short:
        assert isinstance(answer, Refused)
        assert answer.short == short
    else:
        assert isinstance(answer, Admitted)


def test_a_refusal_has_every_number() -> None:
    answer = admit(
        {"cpus": 3000, "mem": 2048}, {"cpus": 6500}, {"cpus": 8000, "mem": 1024}, "user ada of role physics, tier prod"
    )
    assert isinstance(answer, Refused)
    assert answer.message == (
        "the quota of user ada of role physics, tier prod does not allow it: "
        "cpus: quota 8, in use 6.5, asked 3, short by 1.5; mem: quota 1GiB, in use 0MiB, asked 2GiB, short by 1GiB"
    )
    assert answer.plain() == {
        "owner": "user ada of role physics, tier prod",
        "quota": {"cpus": 8, "mem": 1024},
        "use": {"cpus": 6.5},
        "ask": {"cpus": 3, "mem": 2048},
        "short": {"cpus": 1.5, "mem": 1024},
    }


AMOUNTS = st.dictionaries(st.sampled_from(["cpus", "mem", "gpus"]), st.integers(0, 20), max_size=3)


@given(AMOUNTS, st.lists(AMOUNTS, max_size=10))
def test_whatever_is_asked_in_whatever_order_the_quota_holds(quota: dict[str, int], asks: list[dict[str, int]]) -> None:
    use: dict[str, int] = {}
    for ask in asks:
        if isinstance(admit(ask, use, quota, ""), Admitted):
            use = total([use, ask])
    assert all(use.get(name, 0) <= limit for name, limit in quota.items())


@given(AMOUNTS, AMOUNTS, AMOUNTS)
def test_a_refusal_is_as_large_as_it_says(quota: dict[str, int], use: dict[str, int], ask: dict[str, int]) -> None:
    answer = admit(ask, use, quota, "")
    if isinstance(answer, Refused):
        assert isinstance(admit(ask, use, total([quota, answer.short]), ""), Admitted)


@pytest.mark.parametrize(
    ("new", "use", "over"),
    [
        (None, {"cpus": 5}, {}),
        ({"cpus": 5}, {"cpus": 5}, {}),
        ({"cpus": 4}, {"cpus": 5}, {"cpus": 1}),
        ({"mem": 1}, {"cpus": 5}, {}),
        ({"cpus": 0}, {}, {}),
    ],
)
def test_lowering(new: dict[str, int] | None, use: dict[str, int], over: dict[str, int]) -> None:
    assert lowered_below_use(new, use) == over


def test_promises_that_cannot_be_kept_are_told() -> None:
    guarantees = {"a": {"cpus": 6000, "mem": 100}, "b": {"cpus": 6000}}
    assert oversold(guarantees, {"cpus": 12000, "mem": 100}) == []
    assert oversold(guarantees, {"cpus": 8000, "mem": 100}) == [
        "the prod quotas add up to 12 cpus, but the cluster has 8: 4 too many are promised"
    ]
    assert len(oversold(guarantees, {})) == 2
