"""Requests and sums in columns, for `certify`: planes are `[R, N]`, resources by name, nodes (or slots) as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from priority.snapshot import Plane

Flags = npt.NDArray[np.bool_]
Picks = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """A request: `vector[R]`, and what it asks for as (resource, amount)."""

    vector: Plane
    asks: tuple[tuple[int, int], ...]

    def fits(self, room: Plane) -> Flags:
        """Nodes (columns of `room`) with room for it."""
        if not self.asks:
            return np.ones(room.shape[1], np.bool_)
        resource, amount = self.asks[0]
        mask: Flags = room[resource] >= amount
        for resource, amount in self.asks[1:]:
            mask &= room[resource] >= amount
        return mask

    def count(self, room: Plane, most: int) -> Plane:
        """How many of it each node has room for, at most `most`."""
        counts = np.full(room.shape[1], most, np.int64)
        for resource, amount in self.asks:
            np.minimum(counts, room[resource] // amount, out=counts)
        return np.maximum(counts, 0)


def grouped(slots: Picks) -> Picks:
    """An order in which equal slots stand together, in rising order: by radix, sixteen bits at a time."""
    order = np.argsort((slots & 0x7FFF).astype(np.int16), kind="stable")
    high = slots >> 15
    if high.any():
        order = order[np.argsort(high[order].astype(np.int16), kind="stable")]
    return order


CELLS = 1_000_000
"""So many comparisons are made in one pass: what is in memory at once."""


def anywhere(shapes: Sequence[Shape], room: Plane) -> Flags:
    """Of each shape whether any column of `room` has room for it."""
    if not len(shapes) or not room.shape[1]:
        return np.zeros(len(shapes), np.bool_)
    asks = np.array([shape.vector for shape in shapes]).T
    room = room[:, nearest(shapes, room)]
    found = np.zeros(len(shapes), np.bool_)
    step = max(1, CELLS // max(1, room.shape[1]))
    for start in range(0, len(shapes), step):
        some = slice(start, start + step)
        good = np.ones((len(shapes[some]), room.shape[1]), np.bool_)
        for resource in range(len(asks)):
            amounts = asks[resource, some, np.newaxis]
            if amounts.any():
                good &= (room[resource] >= amounts) | (amounts == 0)
        found[some] = good.any(axis=1)
    return found


def nearest(shapes: Sequence[Shape], room: Plane) -> Picks:
    """Columns with room for the least that any of them asks for of each resource: for no others is there more to do."""
    could = np.ones(room.shape[1], np.bool_)
    if len(shapes):
        least = np.array([shape.vector for shape in shapes]).min(axis=0)
        for resource in np.flatnonzero(least).tolist():
            could &= room[resource] >= least[resource]
    return np.flatnonzero(could)


def scatter(rows: Picks, amounts: Plane, nodes: int) -> Plane:
    """Sums by node: `[R, N]` of `[R, A]` amounts that go to these rows."""
    return more(np.zeros((amounts.shape[0], nodes), np.int64), rows, amounts)


def more(sums: Plane, rows: Picks, amounts: Plane) -> Plane:
    """The same plane, with amounts added at these rows."""
    for resource in range(len(amounts)) if len(rows) else ():
        np.add.at(sums[resource], rows, amounts[resource])
    return sums
