"""A warning for whoever submits what no node there is could ever hold, or more than its ceiling, or would have longer
notice than is given. It is accepted all the same: a node may come, and a quota may be raised.

The first is asked for every job that is submitted, so it costs a look into a dictionary: of each kind of request it is
known whether one of the nodes would do, as they were some seconds ago. Before anybody is warned they are read anew.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from priority.errors import PriorityError
from priority.job import JobSpec
from priority.resources import Resources, show, show_amount
from priority.role import RoleSpec
from priority.service.parts import Parts
from priority.tier import Tier

FRESH_S = 5.0
"""So often the nodes are read."""

SURE_S = 0.5
"""So old may it be when somebody is warned, or when no node is known: the first may have come since."""

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
        if not sizes:
            self._due_s = now_s + SURE_S

    def warnings(self, specs: Sequence[JobSpec]) -> list[str]:
        """A line for each request that no node could ever hold, once for all jobs that ask alike; as far as is known.
        Without any node there is nothing to compare with.
        """
        found: dict[str, list[int]] = {}
        for index, spec in enumerate(specs):
            why = self._why(spec.resources)
            if why is not None:
                found.setdefault(why, []).append(index)
        return _told(specs, found)

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


def over_ceiling(
    specs: Sequence[JobSpec], user: str, roles: Mapping[str, RoleSpec], tiers: Mapping[str, Tier]
) -> list[str]:
    """A line for each job of `user` that asks for more at once (a gang: all of its instances) than the ceiling of its
    role or of the user in it: however long it waits, it will not start. Those that are alike are told together.
    """
    found: dict[str, list[int]] = {}
    ceilings: dict[tuple[str, str], list[tuple[Resources, str]]] = {}
    for index, spec in enumerate(specs):
        place = spec.role, spec.tier
        if place not in ceilings:
            ceilings[place] = _ceilings(*place, user, roles, tiers)
        for quota, whose in ceilings[place]:
            why = _over(spec, quota, whose)
            if why is not None:
                found.setdefault(why, []).append(index)
                break
    return _told(specs, found)


def _ceilings(
    name: str, tier: str, user: str, roles: Mapping[str, RoleSpec], tiers: Mapping[str, Tier]
) -> list[tuple[Resources, str]]:
    """What may run at once of a role and of a user in it, and whose limit that is."""
    role = roles.get(name)
    if role is None or not tiers[tier].preemptible:
        return []
    found = [(role.quota[tier], f"role {name}")] if tier in role.quota else []
    member = role.users.get(user)
    if member is not None and tier in member.quota:
        found.append((member.quota[tier], f"user {user} of role {name}"))
    return found


def shortened(specs: Sequence[JobSpec], limit_s: float) -> list[str]:
    """A line for each job that asks for more time to end than any is given."""
    found: dict[str, list[int]] = {}
    for index, spec in enumerate(specs):
        if spec.kill_grace > limit_s and "kill_grace" in spec.model_fields_set:
            found.setdefault(_capped("kill_grace", spec.kill_grace, limit_s), []).append(index)
        if spec.preempt.notice > limit_s and "notice" in spec.preempt.model_fields_set:
            found.setdefault(_capped("preempt.notice", spec.preempt.notice, limit_s), []).append(index)
    return _told(specs, found)


def _capped(field: str, asked_s: float, limit_s: float) -> str:
    return f"{field}: {asked_s:g} s are asked for, {limit_s:g} s are given (setting notice_limit_s)"


def _over(spec: JobSpec, quota: Mapping[str, int], whose: str) -> str | None:
    count = spec.instances if spec.gang else 1
    ask = {name: spec.resources.get(name, 0) * count for name in quota}
    lacks = {name: amount for name, amount in ask.items() if amount > quota[name]}
    if not lacks:
        return None
    ceiling = {name: quota[name] for name in lacks}
    what = f"its gang of {count} asks for {show(lacks)} at once" if spec.gang else f"it asks for {show(lacks)}"
    where = f"the ceiling of {whose} in tier {spec.tier} is {show(ceiling)}"
    return f"{what}, but {where}: it will never start unless the quota is raised"


def _told(specs: Sequence[JobSpec], found: Mapping[str, Sequence[int]]) -> list[str]:
    if len(specs) == 1:
        return list(found)
    return [f"{_which(specs, indexes)}: {why}" for why, indexes in found.items()]


def _which(specs: Sequence[JobSpec], indexes: Sequence[int]) -> str:
    first = f"jobs[{indexes[0]}] ({specs[indexes[0]].key})"
    return first if len(indexes) == 1 else f"{first} and {len(indexes) - 1} more"
