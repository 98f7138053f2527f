"""Nodes that some tasks keep away from though their jobs do not say so: `node.avoided`, kept up for all who wait."""

from __future__ import annotations

from collections.abc import Mapping

from priority.constraint import Constraint
from priority.job import JobSpec
from priority.node import MAINTENANCE, REVOCABLE, Node, avoided
from priority.tier import Tier

AGAIN_US = 5_000_000
"""So often it is looked at whom the nodes that go down have become too near for (see `node.AHEAD_S`)."""


class Edges:
    """What is special about nodes, and what follows for a task that waits."""

    def __init__(self, tiers: Mapping[str, Tier]) -> None:
        self._nodes: dict[str, Node] = {}
        self._least = min(tiers.values(), key=lambda tier: tier.rank).name if tiers else ""
        self._again_us: int | None = None
        """When it is to be looked at again for all who wait; None: nobody keeps away from any."""

    def put(self, node: Node) -> None:
        """A node as it is now."""
        before, special = self._nodes.pop(node.name, None), _special(node)
        if special:
            self._nodes[node.name] = node
        if special != (_special(before) if before is not None else {}):
            self._again_us = 0

    def __bool__(self) -> bool:
        return bool(self._nodes)

    def drop(self, name: str) -> None:
        """A node was forgotten: what names its value now names none."""
        self._nodes.pop(name, None)

    def due(self, now_us: int) -> bool:
        """Whether it is time to look again at all who wait; that is then done."""
        if self._again_us is None or now_us < self._again_us:
            return False
        self._again_us = now_us + AGAIN_US if self._nodes else None
        return True

    def avoided(self, spec: JobSpec, now_us: int) -> tuple[Constraint, ...]:
        """What a task of this job keeps away from that would begin now."""
        if not self._nodes:
            return ()
        least = spec.tier == self._least
        return avoided(self._nodes.values(), runtime_s=spec.max_runtime, least=least, now_us=now_us)


def _special(node: Node) -> dict[str, str]:
    if node.leaves_us is None and node.attributes.get(REVOCABLE) != "true":
        return {}
    return {name: node.attributes[name] for name in (MAINTENANCE, REVOCABLE) if name in node.attributes}
