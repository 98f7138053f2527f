"""Constraints: which node may hold a task, by its attributes."""

from __future__ import annotations

from typing import Any

import pytest

from priority.constraint import LIMIT_MAX, parse
from priority.errors import Invalid

R1, R2, NONE = {"rack": "r1"}, {"rack": "r2"}, {"other": "r1"}


@pytest.mark.parametrize(
    ("document", "r1", "r2", "none"),
    [
        # constraint                                    rack r1 rack r2  no rack
        ({"attribute": "rack", "in": ["r1"]}, True, False, False),
        ({"attribute": "rack", "in": []}, False, False, False),
        ({"attribute": "rack", "not_in": ["r1"]}, False, True, True),
        ({"attribute": "rack", "not_in": []}, True, True, True),
        ({"attribute": "rack", "limit": 1}, True, True, False),
    ],
)
def test_what_one_node_alone_can_tell(document: dict[str, Any], r1: bool, r2: bool, none: bool) -> None:
    (constraint,) = parse([document], "constraints")
    assert [constraint.allows(attributes) for attributes in (R1, R2, NONE)] == [r1, r2, none]
    assert parse([constraint.plain()], "constraints") == (constraint,)


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ("rack", "c"),
        ({"attribute": "rack"}, "c"),
        (["rack"], "c[0]"),
        ([{"attribute": "rack"}], "c[0]"),
        ([{"attribute": "rack", "in": ["a"], "limit": 1}], "c[0]"),
        ([{"in": ["a"]}], "c[0].attribute"),
        ([{"attribute": "", "in": ["a"]}], "c[0].attribute"),
        ([{"attribute": "rack", "in": "a"}], "c[0].in"),
        ([{"attribute": "rack", "in": [1]}], "c[0].in"),
        ([{"attribute": "rack", "limit": -1}], "c[0].limit"),
        ([{"attribute": "rack", "limit": True}], "c[0].limit"),
        ([{"attribute": "rack", "limit": 1.0}], "c[0].limit"),
        ([{"attribute": "rack", "limit": LIMIT_MAX + 1}], "c[0].limit"),
        ([{"attribute": "rack", "in": ["a"], "value": 3}], "c[0].value"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_place(document: Any, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(document, "c")
    assert caught.value.field == field
