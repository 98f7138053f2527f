"""Which incarnation of an agent began first, by their names."""

from __future__ import annotations

import pytest

from priority.incarnation import began_later, name_of

OLD = "0f" * 16
"""As versions before named theirs."""
MESOS = "20261123-101112-1-5050-7-S12"


@pytest.mark.parametrize(
    ("one", "other", "later"),
    [
        (name_of("a", 2, "0"), name_of("a", 1, "f"), True),
        (name_of("a", 1, "f"), name_of("a", 2, "0"), False),
        (name_of("a", 10**18, "0"), name_of("a", 9, "f"), True),
        # nothing is known of those of one number, of another home, of names of another form
        (name_of("a", 1, "0"), name_of("a", 1, "1"), None),
        (name_of("a", 2, "0"), name_of("b", 1, "0"), None),
        (name_of("a", 2, "0"), OLD, None),
        (OLD, name_of("a", 2, "0"), None),
        (MESOS, MESOS.replace("12", "13"), None),
        ("", name_of("a", 1, "0"), None),
        (name_of("a", 2, "0") + "\n", name_of("a", 1, "0"), None),
    ],
)
def test_which_began_later(one: str, other: str, later: bool | None) -> None:
    assert began_later(one, other) is later
    assert began_later(other, one) is (None if later is None else not later)
    assert len(name_of("h" * 64, 10**18, "c" * 32)) <= 128
