"""The cluster's room as numpy planes, a row for each node and a column for each resource, kept up event by event.

Rows are by node name and columns by resource name whenever a round reads them, so that no decision hangs on the order
of events: `settle` sorts rows where nodes came or went; a resource that is new is put in its column at once. Planes
are stored column by column: most questions look at one resource of all nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from priority.claim import Claim
from priority.node import Node, NodeState
from priority.stock import Flags, Gone, Plane, Stock
from priority.tier import Tier

CACHED_MAX = 50_000
"""So many answers that follow from the nodes alone are remembered."""

BATCH = 1_024
"""So many tasks that have come are brought in at a time."""


class Planes:
    """Capacity, what all hold, and what the dying ones of them hold; and the stock of those that are there."""

    def __init__(self, tiers: Mapping[str, Tier]) -> None:
        self.stock = Stock(tiers)
        self.names: tuple[str, ...] = ()
        """Of the nodes, sorted; as of the last `settle`."""
        self.cached: dict[object, object] = {}
        """What was worked out from the nodes alone: emptied when one changes."""
        self._axis: dict[str, int] = {}
        self._rows: dict[str, int] = {}
        self._settled = True
        self._capacity = _plane(8, 4)
        self._holds = _plane(8, 4)
        self._leaves = _plane(8, 4)
        self._up: Flags = np.zeros(8, np.bool_)
        self._used = 0

    # --- events ---

    def put_node(self, node: Node) -> None:
        """A node is new or otherwise than it was; nothing is on it (see `hold`)."""
        row = self._rows.get(node.name)
        if row is None:
            row = self._rows[node.name] = self._new_row(node.name)
            self._settled = False
        columns = self.columns(node.capacity)
        self._capacity[row] = 0
        self._capacity[row, columns] = list(node.capacity.values())
        self._up[row] = node.state == NodeState.UP
        self.cached.clear()

    def forget_node(self, name: str) -> None:
        """A node is gone, and nothing was on it."""
        row = self._rows.pop(name)
        self._capacity[row] = 0
        self._up[row] = False
        self._settled = False
        self.cached.clear()

    def hold(self, claim: Claim, node: str) -> None:
        """A task holds room on a node."""
        self.columns(claim.request)
        row = self._rows[node]
        if self.stock.put(claim, row, bool(self._up[row])) >= BATCH:
            self._bring_in()

    def release(self, id: str) -> Gone:
        """The inverse of `hold`; `KeyError`: there is none of that id."""
        stock = self.stock
        place = stock.leave(id)
        if place < 0:
            raise KeyError(id)
        if stock.fresh(place):
            self._bring_in()
        return stock.drop(place)

    def places_on(self, node: str) -> list[int]:
        """The places in the stock of all that holds room on a node, in no fixed order."""
        row = self._rows.get(node)
        return [] if row is None else self.stock.on(row)

    def columns(self, names: Iterable[str]) -> list[int]:
        """The columns of these resources; new ones are given theirs."""
        axis = self._axis
        try:
            return [axis[name] for name in names]
        except KeyError:
            self._widen(names)
            return [self._axis[name] for name in names]

    # --- questions ---

    def axis(self) -> tuple[str, ...]:
        """The resources that any node or task was ever seen with, by name."""
        return tuple(self._axis)

    def rows(self) -> Mapping[str, int]:
        """Each node's row, by its name."""
        return self._rows

    def settle(self) -> None:
        """Bring in what has changed, and the rows into the order of the names."""
        self._bring_in()
        if self._settled:
            return
        names = sorted(self._rows)
        old = np.array([self._rows[name] for name in names], np.intp)
        new = np.zeros(max(self._used, 1), np.intp)
        new[old] = np.arange(len(names))
        size = max(8, len(names) + len(names) // 8)
        for name in ("_capacity", "_holds", "_leaves"):
            plane = _plane(size, self._capacity.shape[1])
            plane[: len(names)] = getattr(self, name)[old]
            setattr(self, name, plane)
        up = np.zeros(size, np.bool_)
        up[: len(names)] = self._up[old]
        self._up, self._used = up, len(names)
        self._rows = {name: row for row, name in enumerate(names)}
        self.stock.move_rows(new, old, size)
        self.names = tuple(names)
        self._settled = True
        self.cached.clear()

    def copies(self) -> tuple[Plane, Plane, Plane]:
        """Capacity (not a copy: to be read only), what all hold, what the dying hold; settled."""
        rows, width = len(self.names), len(self._axis)
        holds, leaves = self._holds[:rows, :width], self._leaves[:rows, :width]
        return self._capacity[:rows, :width], holds.copy(order="F"), leaves.copy(order="F")

    def room(self) -> tuple[Plane, Plane, Plane]:
        """Capacity (to be read only), what is free now, and what is once the dying are gone; settled."""
        rows, width = len(self.names), len(self._axis)
        capacity = self._capacity[:rows, :width]
        now = capacity - self._holds[:rows, :width]
        return capacity, now, now + self._leaves[:rows, :width]

    def shared(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What follows from the nodes and the axis alone, until one of them changes."""
        found = self.cached.get(key)
        if found is None:
            found = self.cached[key] = make()
        return found

    def free(self, column: int) -> Plane:
        """`[N]`: what is free of a resource at this moment; settled."""
        rows = len(self.names)
        return self._capacity[:rows, column] - self._holds[:rows, column]

    def leaving(self, column: int) -> Plane:
        """`[N]`: what the dying hold of a resource; settled; to be read only."""
        return self._leaves[: len(self.names), column]

    def up(self) -> Flags:
        """`[N]`: nodes that take tasks; settled; to be read only."""
        return self._up[: len(self.names)]

    # --- upkeep ---

    def _bring_in(self) -> None:
        if self.stock.settle(self._axis, self._holds, self._leaves) and len(self.cached) > CACHED_MAX:
            self.cached.clear()  # not within a round: then nothing has changed

    def _new_row(self, name: str) -> int:
        row = self._used
        self._used += 1
        self.stock.nodes.append(name)
        if row == len(self._up):
            more = ((0, row), (0, 0))
            self._capacity, self._holds, self._leaves = (
                np.asfortranarray(np.pad(plane, more)) for plane in (self._capacity, self._holds, self._leaves)
            )
            self._up = np.pad(self._up, (0, row))
            self.stock.more_rows(len(self._up))
        return row

    def _widen(self, names: Iterable[str]) -> None:
        self._bring_in()
        axis = sorted({*self._axis, *names})
        order = [self._axis.get(name, -1) for name in axis]
        width = max(4, len(axis))
        for name in ("_capacity", "_holds", "_leaves"):
            old: Plane = getattr(self, name)
            plane = _plane(len(old), width)
            for column, former in enumerate(order):
                if former >= 0:
                    plane[:, column] = old[:, former]
            setattr(self, name, plane)
        self._axis = {name: column for column, name in enumerate(axis)}
        self.stock.widen(order, width, self._axis.get("cpus"))
        self.cached.clear()


def _plane(rows: int, columns: int) -> npt.NDArray[np.int64]:
    return np.zeros((rows, columns), np.int64, order="F")
