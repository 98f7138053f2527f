"""A warning for whoever submits what no node there is could ever hold. It is accepted all the same: a node may come.

Asked for every job that is submitted, so it costs a look into a dictionary: of each kind of request it is known whether
one of the nodes would do, as they were some seconds ago. Before anybody is warned they are read anew.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from priority.errors import PriorityError
from priority.job import JobSpec
from priority.resources import Resources, show, show_amount
from priority.service.parts import Parts

FRESH_S = 5.0
"""So often the nodes are read."""

SURE_S = 0.5
"""So old may it be when somebody is warned."""

KINDS_MAX = 10_000
"""Of so many kinds of request the answer is remembered."""

SIZES_MAX = 100
"""Of more nodes of different sizes, only the most of each resource is looked at: some warnings are not given then."""


class Largest:
    """What the nodes there are could hold at the most. May be used by many threads."""

    def __init__(self, parts: Parts, now_s: Callable[[], float] = time.monotonic) -> None:
        self._parts = parts
        self._now_s = now_s
        self._read_s: float | None = None
        self._due_s = -math.inf
        self._sizes: list[Resources] = []
        self._known: dict[tuple[tuple[str, int], ...], str | None] = {}

    @property
    def unread(self) -> bool:
        """Whether the nodes were never read: then nobody is warned."""
        return self._read_s is None

    def due(self) -> bool:
        """Whether it is time to `refresh`: of many who ask at once only one is told so."""
        now_s = self._now_s()
        if now_s < self._due_s:
            return False
        self._due_s = now_s + FRESH_S
        return True

    def sure(self) -> bool:
        """Whether the nodes were read just now, as is right before somebody is warned."""
        return self._read_s is not None and self._now_s() - self._read_s <= SURE_S

    def refresh(self) -> None:
        """Read the nodes. A database that does not answer just now is no reason to fail: what was known stays."""
        now_s = self._now_s()
        try:
            with self._parts.store.read() as reader:
                sizes = _largest(record.node.capacity for record in reader.nodes())
        except PriorityError:
            return
        if sizes != self._sizes:
            self._sizes, self._known = sizes, {}
        self._read_s = now_s

    def warnings(self, specs: Sequence[JobSpec]) -> list[str]:
        """A line for each request that no node could ever hold, once for all jobs that ask alike; as far as is known.
        Without any node there is nothing to compare with.
        """
        found: dict[str, list[int]] = {}
        for index, spec in enumerate(specs):
            why = self._why(spec.resources)
            if why is not None:
                found.setdefault(why, []).append(index)
        if len(specs) == 1:
            return list(found)
        return [f"{_which(specs, indexes)}: {why}" for why, indexes in found.items()]

    def _why(self, request: Mapping[str, int]) -> str | None:
        key = tuple(request.items())
        known = self._known  # another thread may put a new one in its place
        try:
            return known[key]
        except KeyError:
            if len(known) >= KINDS_MAX:
                known.clear()
            known[key] = why = _never(request, self._sizes)
            return why


def _never(request: Mapping[str, int], sizes: Sequence[Resources]) -> str | None:
    """In the words in which the engine says it."""
    if not sizes or any(_holds(size, request) for size in sizes):
        return None
    most = {name: max(size.get(name, 0) for size in sizes) for name in request}
    lacks = [name for name in sorted(request) if request[name] > most[name]]
    largest = ", ".join(f"the most that one has is {name} {show_amount(name, most[name])}" for name in lacks)
    where = largest or "no single node has that much of all at once"
    return f"no node could ever hold it: it asks for {show(request)}, and {where}; it waits until one comes"


def _largest(capacities: Iterable[Resources]) -> list[Resources]:
    """Those of which none is held by another; of too many, the most of each resource."""
    sizes = list({tuple(sorted(capacity.items())): capacity for capacity in capacities}.values())
    if len(sizes) > SIZES_MAX:
        names = {name for size in sizes for name in size}
        return [{name: max(size.get(name, 0) for size in sizes) for name in names}]
    return [size for size in sizes if not any(other is not size and _holds(other, size) for other in sizes)]


def _holds(size: Mapping[str, int], request: Mapping[str, int]) -> bool:
    return all(size.get(name, 0) >= amount for name, amount in request.items())


def _which(specs: Sequence[JobSpec], indexes: Sequence[int]) -> str:
    first = f"jobs[{indexes[0]}] ({specs[indexes[0]].key})"
    return first if len(indexes) == 1 else f"{first} and {len(indexes) - 1} more"
