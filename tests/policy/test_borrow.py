"""What runs on others' idle guarantees."""

from __future__ import annotations

import pytest

from priority.borrow import borrowed
from priority.tier import DEFAULT_TIERS

GUARANTEES = {("web", "prod"): {"cpus": 6000}, ("physics", "prod"): {"cpus": 2000}, ("web", "devel"): {"cpus": 9000}}


@pytest.mark.parametrize(
    ("web", "devel", "opportunistic", "of_devel", "of_opportunistic"),
    [
        # held by web/prod, chem/devel, chem/opportunistic of 10 cpus, 8 of them guaranteed; what each tier borrows
        (0, 2000, 0, 0, 0),
        (0, 3000, 0, 1000, 1000),
        (0, 2000, 4000, 0, 4000),
        (0, 4000, 4000, 2000, 6000),
        (6000, 2000, 0, 0, 0),
        (6000, 3000, 0, 1000, 1000),
        (7000, 3000, 0, 2000, 2000),
    ],
)
def test_what_is_borrowed(web: int, devel: int, opportunistic: int, of_devel: int, of_opportunistic: int) -> None:
    held = {
        ("web", "prod"): {"cpus": web},
        ("chem", "devel"): {"cpus": devel},
        ("chem", "opportunistic"): {"cpus": opportunistic},
    }
    for tier, amount in (("devel", of_devel), ("opportunistic", of_opportunistic)):
        found = borrowed(tier, DEFAULT_TIERS, {"cpus": 10_000}, GUARANTEES, held)
        assert (found.amounts["cpus"] if found else 0) == amount


def test_whose_it_is() -> None:
    held = {("web", "prod"): {"cpus": 5000}, ("chem", "devel"): {"cpus": 5000, "mem": 10}}
    found = borrowed("devel", DEFAULT_TIERS, {"cpus": 10_000, "mem": 10}, GUARANTEES, held)
    assert found is not None
    assert found.lenders == ((("physics", "prod"), {"cpus": 2000}), (("web", "prod"), {"cpus": 1000}))
