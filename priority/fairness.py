"""Whose turn it is: the pending order, with shares that grow while a round gives room.

The order is lexical:
    1. tier rank, high first
    2. the role's dominant share over its weight, small first; it grows with every task that is given room
    3. priority, high first
    4. since, old first
    5. id, by code points
A gang stands where its first member stands. It is known by its name alone, whatever the jobs and roles of its
members, and only its pending members count: those that run or die are not waited for.

Shares are exact: integers over one common denominator, because a tie decided by rounding would make a plan hang on
the order of additions.

Dominant resource fairness: Ghodsi et al., NSDI 2011.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from operator import itemgetter

from priority.claim import Claim
from priority.resources import Resources
from priority.snapshot import Snapshot


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """What is placed as a whole: one task, or a gang (members by id)."""

    members: tuple[Claim, ...]

    @property
    def gang(self) -> str | None:
        """The gang's name, None for a task of its own."""
        return self.members[0].gang


def units(pending: Iterable[Claim]) -> list[Unit]:
    """Single tasks and whole gangs; a gang is known by its name alone."""
    singles: list[Unit] = []
    gangs: dict[str, list[Claim]] = {}
    for claim in pending:
        if claim.gang is None:
            singles.append(Unit((claim,)))
        else:
            gangs.setdefault(claim.gang, []).append(claim)
    return singles + [Unit(tuple(sorted(members, key=lambda one: one.id))) for members in gangs.values()]


Share = Fraction | int
"""A whole number where no weight makes it a fraction: both are exact, and the one compares twenty times as fast."""


class Shares:
    """Each role's dominant share over its weight, as exact numbers that only compare with each other."""

    def __init__(self, snapshot: Snapshot) -> None:
        capacity = snapshot.size()
        common = math.lcm(*(amount for amount in capacity.values() if amount))
        self._factors = {name: common // amount for name, amount in capacity.items() if amount}
        self._snapshot = snapshot
        self._held: dict[str, Resources] = {}
        self._keys: dict[str, Share] = {}
        self._inverses: dict[str, Fraction | None] = {}

    def of(self, role: str) -> Share:
        """The role's share over its weight, times a number that is the same for all roles."""
        share = self._keys.get(role)
        if share is None:
            held = self._held[role] if role in self._held else self._snapshot.held(role)
            largest = 0
            for name, factor in self._factors.items():
                largest = max(largest, held.get(name, 0) * factor)
            inverse = self._inverse(role)
            share = self._keys[role] = largest if inverse is None else largest * inverse
        return share

    def _inverse(self, role: str) -> Fraction | None:
        """One over the weight; None where that is 1, as it mostly is."""
        if role not in self._inverses:
            weight = self._snapshot.role(role).weight
            self._inverses[role] = None if weight == 1 else 1 / Fraction(str(weight))
        return self._inverses[role]

    def give(self, claims: Iterable[Claim]) -> None:
        """Count tasks that are given room."""
        alike: dict[tuple[str, int], list[Claim]] = {}
        for claim in claims:
            alike.setdefault((claim.role, id(claim.request)), []).append(claim)
        for (role, _), some in alike.items():
            held = self._held.get(role)
            if held is None:
                held = self._held[role] = dict(self._snapshot.held(role))
            for name, amount in some[0].request.items():
                held[name] = held.get(name, 0) + amount * len(some)
            self._keys.pop(role, None)


_STANDING = itemgetter(0, 1, 2)

_Entry = tuple[Share, int, int, str, str]
"""(share, -priority, since, id, role): the head of a role's queue."""

Level = dict[str, list[tuple[int, int, str, Unit]]]
"""By role its tasks of one tier rank: (-priority, since, id, unit)."""


class Turns:
    """Iterate to get each unit once, in pending order; call `shares.give` for what is given room on the way."""

    def __init__(self, waiting: Iterable[Unit], shares: Shares, ranks: Mapping[str, int]) -> None:
        self.shares = shares
        self._seen: set[int] = set()
        queues: dict[int, Level] = {}
        for unit in waiting:
            for claim in unit.members:
                queue = queues.setdefault(ranks[claim.tier], {}).setdefault(claim.role, [])
                queue.append((-claim.priority, claim.since_us, claim.id, unit))
        self._levels = [queues[rank] for rank in sorted(queues, reverse=True)]

    def __iter__(self) -> Iterator[Unit]:
        for level in self.levels():
            yield from self.of(level)

    def levels(self) -> Iterator[Level]:
        """The tiers' ranks, high first: of each role its queue."""
        return iter(self._levels)

    def fresh(self, level: Level) -> list[Unit]:
        """The units of a level that have not had their turn, in no order of importance."""
        units = {id(entry[3]): entry[3] for queue in level.values() for entry in queue}
        return [unit for key, unit in units.items() if key not in self._seen]

    def skip(self, units: Iterable[Unit]) -> None:
        """These have had their turn."""
        self._seen.update(map(id, units))

    def of(self, level: Level) -> Iterator[Unit]:
        """The units of a level that have not had their turn, in their order."""
        seen = self._seen
        left = {role: [entry for entry in queue if id(entry[3]) not in seen] for role, queue in level.items()}
        queues = {role: deque(sorted(queue, key=_STANDING)) for role, queue in left.items() if queue}
        heap = [self._entry(role, queue[0]) for role, queue in queues.items()]
        heapq.heapify(heap)
        while heap:
            share, *_, role = heap[0]
            queue = queues[role]
            if share != self.shares.of(role):  # it grew since: shares never shrink, so a later look is enough
                heapq.heapreplace(heap, self._entry(role, queue[0]))
                continue
            unit = queue.popleft()[3]
            if id(unit) not in seen:
                seen.add(id(unit))
                yield unit
            if queue:
                heapq.heapreplace(heap, self._entry(role, queue[0]))
            else:
                heapq.heappop(heap)

    def _entry(self, role: str, head: tuple[int, int, str, Unit]) -> _Entry:
        return self.shares.of(role), head[0], head[1], head[2], role
