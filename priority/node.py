"""A node: what runs tasks. A machine with an agent, or an agent of a Mesos cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from priority.constraint import HOST, Constraint
from priority.resources import Resources

MAINTENANCE = "maintenance"
"""The attribute of a node that goes down at a moment which is known: then (RFC 3339)."""
REVOCABLE = "revocable"
"""The attribute of a node whose room may be taken back at any time, if it is `true`: for the least tier alone."""

OPEN_END_S = 3600.0
"""A task that does not say for how long it runs at most is thought to run so long."""
AHEAD_S = 5.0
"""A placement is decided so long before its task begins, at most."""


class NodeState(StrEnum):
    """`up`; `draining` takes no new tasks while what runs goes on; the tasks of a `down` one hold nothing."""

    UP = "up"
    DRAINING = "draining"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Node:
    """`capacity` in held units (see resources); `attributes` are free strings, and `host` is always the name."""

    name: str
    capacity: Resources
    attributes: Mapping[str, str] = field(default_factory=dict)
    state: NodeState = NodeState.UP

    def attribute(self, name: str) -> str | None:
        """The value of one attribute, None where the node has none of that name."""
        return self.name if name == HOST else self.attributes.get(name)

    @property
    def leaves_us(self) -> int | None:
        """When it goes down, if that is known (microseconds since the epoch)."""
        try:
            return round(datetime.fromisoformat(self.attributes[MAINTENANCE]).timestamp() * 1e6)
        except (KeyError, ValueError, OverflowError):
            return None


@dataclass(frozen=True, slots=True)
class Shares:
    """Who has what of a node that is not ours alone, such as an agent of Mesos; held units."""

    whole: Resources
    offered: Resources
    """To anybody."""
    used: Resources
    """By anybody's tasks."""


def avoided(nodes: Iterable[Node], *, runtime_s: float | None, least: bool, now_us: int) -> tuple[Constraint, ...]:
    """What a task of a job keeps away from though that does not say so: nodes that go down before it has ended, and
    room that may be taken back, unless its tier is the `least`.
    """
    nodes = list(nodes)
    end_us = now_us + round(((runtime_s or OPEN_END_S) + AHEAD_S) * 1e6)
    down = frozenset(
        node.attributes[MAINTENANCE] for node in nodes if node.leaves_us is not None and node.leaves_us < end_us
    )
    found = (Constraint(MAINTENANCE, outside=down),) if down else ()
    if least or not any(node.attributes.get(REVOCABLE) == "true" for node in nodes):
        return found
    return (*found, Constraint(REVOCABLE, outside=frozenset({"true"})))
