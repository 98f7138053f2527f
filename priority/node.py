"""A node: what runs tasks. A machine with an agent, or an agent of a Mesos cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from priority.constraint import HOST
from priority.resources import Resources


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
