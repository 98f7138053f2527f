"""Who waits though one behind it in the pending order took room that would have served it.

What is undone for a unit that waits: all that stands behind it, and the victims that only those may take. Who stands in
room that was kept for it by `for`, or on a node that it kept, stays. Gangs are looked at if their members have the same
rights.

The pending order is made anew from the shares as they grow with what the plan gives, and only if something that waits
would fit with everything undone: of all that are alike the first waits in vain, or none does. When a task was given
room a plan does not say. It may have been at its turn; or, where it stands in the room of a victim that is killed for
one after it, only then. Who waits does so in vain only if that is so by both.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from fractions import Fraction
from functools import cached_property

import numpy as np

from priority.claim import Claim
from priority.facts import Facts, Unit
from priority.packing import Packing, alike
from priority.prey import Prey
from priority.shape import Flags, scatter
from priority.snapshot import Plane

_Line = tuple[int, int, str]
"""(-priority, since, id): a place in a role's queue."""


def overtaken(facts: Facts, prey: Prey, packing: Packing) -> Iterator[tuple[str, str]]:
    """(task, message) of each kind of unit that waits in vain."""
    look = _Look(facts, prey)
    if not look.free.any():
        return
    looks = [look, _Look(facts, prey, late=True)]
    for kind in facts.fitting(facts.kinds(facts.pending[id] for id in facts.waiting), look.all_undone, facts.power):
        first = [min(kind, key=lambda one, of=by.turns: of[one.id]) for by in looks]  # type: ignore[misc]
        if all(_in_vain(facts, by, claim) for by, claim in zip(looks, first, strict=True)):
            yield first[0].id, look.message(first[0])
    for unit in facts.gangs():
        if unit[0].id in facts.waiting and alike(unit) and look.could(unit) and not facts.over_ceiling(unit):
            rooms = (by.undone(unit) for by in looks)
            if all(rows.any() and packing.packs(unit, [room] * len(unit), rows) for room, rows in rooms):
                yield unit[0].id, look.message(unit[0])


def _in_vain(facts: Facts, look: _Look, claim: Claim) -> bool:
    room, rows = look.undone((claim,))
    rows &= facts.shape(claim).fits(room) & facts.matches(claim)
    return bool(rows.any() and (rows & facts.may_be(claim)).any() and not facts.over_ceiling((claim,)))


class _Look:
    def __init__(self, facts: Facts, prey: Prey, *, late: bool = False) -> None:
        self.facts, self.prey, self._late = facts, prey, late
        pairs = {(claim.id, row) for claim, row in facts.kept} | {(one.id, row) for row, one in facts.holders.items()}
        free = [(claim.id, row) not in pairs for claim, row in zip(facts.arrivals, facts.at.tolist(), strict=True)]
        self.free: Flags = np.array(free, np.bool_)
        """By arrival: not in room that was kept for it."""
        self._later: Plane | None = None
        nodes = len(facts.names)
        self.most = facts.after + scatter(facts.at[self.free], facts.brings[:, self.free], nodes)
        """No room is larger than with all undone."""
        self.rows = np.zeros(nodes, np.bool_)
        self.rows[facts.at[self.free]] = True

    @cached_property
    def turns(self) -> dict[str, int]:
        """By pending task: its turn."""
        return turns(self.facts, late=self._late)

    def later(self, claim: Claim) -> Flags:
        """By arrival: behind that task, and free."""
        if self._later is None:
            self._later = np.array([self.turns[one.id] for one in self.facts.arrivals], np.int64)
        return self.free & (self._later > self.turns[claim.id])

    def all_undone(self, claim: Claim) -> Plane:
        """The room with all undone, where anything is."""
        return np.where(self.rows, self.most + self.prey.free_sums(self.facts.power(claim)), -1)

    def could(self, unit: Unit) -> bool:
        """A quick no for a gang: a member would not fit on any node with all undone."""
        facts = self.facts
        reach = self.most + self.prey.free_sums(facts.power(unit[0]))
        return all((facts.shape(claim).fits(reach) & facts.matches(claim)).any() for claim in unit)

    def undone(self, unit: Unit) -> tuple[Plane, Flags]:
        """The room without those behind, and the nodes where they are."""
        facts, nodes = self.facts, len(self.facts.names)
        later = self.later(unit[0])
        rows = np.zeros(nodes, np.bool_)
        rows[facts.at[later]] = True
        power = facts.power(unit[0])
        room = facts.room_for(unit) + self.prey.free_sums(power)
        room = room + scatter(facts.at[later], facts.brings[:, later], nodes)
        if facts.victims:
            behind = [facts.arrivals[index] for index in np.flatnonzero(later).tolist()]
            ids = {one.id for one in behind} | facts.gangmates(behind)
            lawful = self.prey.lawful(power)
            back = np.array([facts.takers[one.id] in ids for one in facts.victims], np.bool_)
            back &= self.prey.taken >= 0
            if not facts.snapshot.terms.shares:
                back[back] = ~lawful[self.prey.taken[back]]
            room = room - scatter(facts.falls[back], facts.frees[:, back], nodes)
        return room, rows

    def message(self, claim: Claim) -> str:
        later = np.flatnonzero(self.later(claim)).tolist()
        first = min(self.facts.arrivals[index].id for index in later)
        return f"waits while {first}, behind it, took room that would have served it"


def turns(facts: Facts, *, late: bool = False) -> dict[str, int]:
    """The turn of every pending task; a gang's members share theirs. `late`: room is given once it has come."""
    coming = _Coming(facts) if late else None
    queues: dict[int, dict[str, list[_Line]]] = {}
    tiers = facts.snapshot.tiers
    for claim in facts.pending.values():
        queue = queues.setdefault(tiers[claim.tier].rank, {}).setdefault(claim.role, [])
        queue.append((-claim.priority, claim.since_us, claim.id))
    shares = _Shares(facts)
    gangs = {claim.id: unit for unit in facts.gangs() for claim in unit}
    found: dict[str, int] = {}
    for rank in sorted(queues, reverse=True):
        heads = {role: iter(sorted(lines)) for role, lines in queues[rank].items()}
        heap = [(shares.of(role), next(lines), role) for role, lines in heads.items()]
        heapq.heapify(heap)
        while heap:
            share, line, role = heap[0]
            if shares.of(role) != share:
                heapq.heapreplace(heap, (shares.of(role), line, role))
                continue
            if line[2] not in found:
                unit = gangs.get(line[2]) or (facts.pending[line[2]],)
                turn = len(found)
                found.update((claim.id, turn) for claim in unit)
                for given in coming.give(unit) if coming is not None else [unit]:
                    for claim in given:
                        if claim.id in facts.placed:
                            shares.give(claim)
            following = next(heads[role], None)
            if following is None:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, (shares.of(role), following, role))
    return found


class _Coming:
    """The room that has come by a turn: a unit's victims go when it has its turn, and not before."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._room = facts.before.copy()
        self._victims: dict[str, list[int]] = {}
        for index, victim in enumerate(facts.victims):
            self._victims.setdefault(facts.takers[victim.id], []).append(index)
        self._left: list[Unit] = []

    def give(self, unit: Unit) -> list[Unit]:
        """A unit has its turn: all those, in their order, that by now fit where the plan has them."""
        facts, room = self._facts, self._room
        if unit[0].id not in facts.placed:
            return []
        rows = {facts.placed[claim.id] for claim in unit if claim.id in facts.placed}
        for index in (index for claim in unit for index in self._victims.get(claim.id, ())):
            room[:, facts.falls[index]] += facts.frees[:, index]
        self._left.append(unit)
        given = []
        for one in self._left:
            if one is unit or not rows.isdisjoint(facts.placed.get(claim.id, -1) for claim in one):
                for claim in one:
                    room[:, facts.placed.get(claim.id, 0)] -= facts.shape(claim).vector * (claim.id in facts.placed)
                asks = [(claim, facts.placed[claim.id]) for claim in one if claim.id in facts.placed]
                if all(room[resource, row] >= 0 for claim, row in asks for resource, _ in facts.shape(claim).asks):
                    given.append(one)
                    continue
                for claim, row in asks:
                    room[:, row] += facts.shape(claim).vector
        self._left = [one for one in self._left if one not in given]
        return given


class _Shares:
    """Dominant shares over weights, as integers that only compare with each other: exact."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        names = facts.snapshot.axis()
        sizes = facts.capacity[:, facts.up].sum(axis=1).tolist()
        whole = math.lcm(*(size for size in sizes if size))
        self._parts = {name: whole // size for name, size in zip(names, sizes, strict=True) if size}
        weights = {
            claim.role: Fraction(str(facts.snapshot.role(claim.role).weight)) for claim in facts.pending.values()
        }
        common = math.lcm(*(weight.numerator for weight in weights.values()))
        self._by = {role: common // weight.numerator * weight.denominator for role, weight in weights.items()}
        self._held: dict[str, dict[str, int]] = {}
        self._known: dict[str, int] = {}

    def of(self, role: str) -> int:
        """How much of the cluster a role has."""
        share = self._known.get(role)
        if share is None:
            held = self._mine(role)
            largest = max((held.get(name, 0) * part for name, part in self._parts.items()), default=0)
            share = self._known[role] = largest * self._by[role]
        return share

    def give(self, claim: Claim) -> None:
        """One more task has room."""
        held = self._mine(claim.role)
        for name, amount in claim.request.items():
            held[name] = held.get(name, 0) + amount
        self._known.pop(claim.role, None)

    def _mine(self, role: str) -> dict[str, int]:
        if role not in self._held:
            self._held[role] = dict(self._facts.snapshot.held(role))
        return self._held[role]
