"""Where a task may run, by the attributes of nodes: in, not in, and at most so many for each value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from priority.errors import Invalid

HOST = "host"
"""The attribute that every node has: its own name."""

LIMIT_MAX = 1_000_000

EXAMPLE = {"attribute": "rack", "in": ["r1", "r2"]}
_ATTRIBUTE = {
    "type": "string",
    "minLength": 1,
    "description": "The attribute of a node; every node has host, its own name",
}
_VALUES = {"type": "array", "items": {"type": "string"}}
_KINDS: Mapping[str, Mapping[str, Any]] = {
    "in": {**_VALUES, "description": "The node has one of these values"},
    "not_in": {**_VALUES, "description": "The node has none of these values; one without the attribute will do"},
    "limit": {
        "type": "integer",
        "minimum": 0,
        "maximum": LIMIT_MAX,
        "description": "At most so many tasks of the job for each value of the attribute",
    },
}
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "description": "Where a task may run: attribute, and exactly one of in, not_in, limit",
    "oneOf": [
        {
            "type": "object",
            "title": name,
            "properties": {"attribute": _ATTRIBUTE, name: kind},
            "required": ["attribute", name],
            "additionalProperties": False,
        }
        for name, kind in _KINDS.items()
    ],
    "examples": [EXAMPLE, {"attribute": "host", "not_in": ["n7"]}, {"attribute": "rack", "limit": 2}],
}
"""Of one constraint, as JSON schema."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """Exactly one of `within`, `outside` and `limit` is set.

    A node without the attribute fails `within`, passes `outside` and fails `limit` (at most `limit`
    tasks of the job for each value of the attribute, counted until they are gone).
    """

    attribute: str
    within: frozenset[str] | None = None
    outside: frozenset[str] | None = None
    limit: int | None = None

    def allows(self, attributes: Mapping[str, str]) -> bool:
        """Whether a node with these attributes may hold the task, as far as one node alone can tell."""
        value = attributes.get(self.attribute)
        if self.within is not None:
            return value in self.within
        if self.outside is not None:
            return value not in self.outside
        return value is not None

    def plain(self) -> dict[str, Any]:
        """As users write it; the inverse of `parse`."""
        if self.within is not None:
            return {"attribute": self.attribute, "in": sorted(self.within)}
        if self.outside is not None:
            return {"attribute": self.attribute, "not_in": sorted(self.outside)}
        return {"attribute": self.attribute, "limit": self.limit}


def parse(document: Any, field: str) -> tuple[Constraint, ...]:
    """Read a list of `{"attribute", "in" | "not_in" | "limit"}`; `Invalid` names the field."""
    if not isinstance(document, Sequence) or isinstance(document, str):
        raise Invalid(field, 'must be a list of constraints, such as [{"attribute": "rack", "in": ["r1"]}]')
    return tuple(_parse_one(item, f"{field}[{index}]") for index, item in enumerate(document))


def _parse_one(item: Any, field: str) -> Constraint:
    if not isinstance(item, Mapping):
        raise Invalid(field, 'must be a mapping, such as {"attribute": "rack", "in": ["r1"]}')
    for name in item:
        if name not in ("attribute", "in", "not_in", "limit"):
            raise Invalid(f"{field}.{name}", "is not known; a constraint has attribute and one of in, not_in, limit")
    attribute = item.get("attribute")
    if not isinstance(attribute, str) or not attribute:
        raise Invalid(f"{field}.attribute", "must be the name of an attribute")
    kinds = [name for name in ("in", "not_in", "limit") if name in item]
    if len(kinds) != 1:
        raise Invalid(field, "must have exactly one of in, not_in, limit")
    kind = kinds[0]
    value = item[kind]
    if kind == "limit":
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LIMIT_MAX:
            raise Invalid(f"{field}.limit", f"must be a whole number from 0 to {LIMIT_MAX}")
        return Constraint(attribute, limit=value)
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(one, str) for one in value):
        raise Invalid(f"{field}.{kind}", "must be a list of strings")
    values = frozenset(value)
    return Constraint(attribute, within=values) if kind == "in" else Constraint(attribute, outside=values)
