"""What an operator does with nodes."""

from __future__ import annotations

from dataclasses import dataclass

from priority.ports import NodeRecord, User
from priority.resources import Resources
from priority.service.parts import Parts


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node and what is on it; held units."""

    record: NodeRecord
    held: Resources
    free: Resources
    tasks: int


class Nodes:
    """The verbs. Every user may look; cluster admins may drain."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def list(self, actor: User) -> list[NodeView]:
        """Every node ever seen and not forgotten, by name."""
        raise NotImplementedError

    def drain(self, actor: User, name: str) -> NodeRecord:
        """Place nothing new there; what runs goes on. Cluster admins only."""
        raise NotImplementedError

    def undrain(self, actor: User, name: str) -> NodeRecord:
        """Place there again. Cluster admins only."""
        raise NotImplementedError

    def forget(self, actor: User, name: str) -> None:
        """Drop a node that is down and will not come back. `Conflict` while it is up or holds tasks."""
        raise NotImplementedError
