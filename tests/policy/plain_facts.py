"""What follows from a snapshot and a plan, recomputed from nothing but the two: slow, plain and independent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, Protocol

from priority.claim import DYING, PENDING, RUNS, Claim
from priority.constraint import HOST
from priority.keeping import kept_nodes
from priority.node import Node, NodeState
from priority.snapshot import Snapshot

Amounts = dict[str, int]
Unit = tuple[Claim, ...]
"""One pending task, or the pending members of a gang."""


class Decisions(Protocol):
    """What a plan says; see `priority.plan.Plan`."""

    @property
    def launch(self) -> Sequence[Any]:
        """Of `task` and `node`."""

    @property
    def reserve(self) -> Sequence[Any]:
        """Of `task` and `node`."""

    @property
    def preempt(self) -> Sequence[Any]:
        """Of `task`, `node` and `preemptor`."""

    @property
    def wait(self) -> Sequence[Any]:
        """Of `task` and `reason`."""


def add(total: Amounts, vector: Mapping[str, int], sign: int = 1) -> None:
    """`total += sign * vector`."""
    for name, amount in vector.items():
        total[name] = total.get(name, 0) + sign * amount


def covers(room: Mapping[str, int], request: Mapping[str, int]) -> bool:
    """Whether there is room, looking only at what is asked for."""
    return all(room.get(name, 0) >= amount for name, amount in request.items() if amount)


class Facts:
    """Indexes over one snapshot and one plan. Entries that make no sense are left out here; `certify` reports them."""

    def __init__(self, snapshot: Snapshot, plan: Decisions) -> None:
        self.snapshot = snapshot
        self.claims = {claim.id: claim for claim in snapshot.tasks()}
        self.nodes: dict[str, Node] = {node.name: node for node in snapshot.nodes()}
        self.pending = {id: claim for id, claim in self.claims.items() if claim.state == PENDING}
        self.launched = {one.task: one.node for one in plan.launch if one.task in self.pending}
        self.reserved = {one.task: one.node for one in plan.reserve if one.task in self.pending}
        self.placed = {**self.launched, **self.reserved}
        self.victims = {one.task: one.preemptor for one in plan.preempt if one.task in self.claims}
        self.waiting = {one.task: one.reason for one in plan.wait if one.task in self.pending}
        self.on: dict[str, list[Claim]] = {name: [] for name in self.nodes}
        for claim in self.claims.values():
            if claim.node in self.on:
                self.on[claim.node].append(claim)
        self.arrivals: dict[str, list[Claim]] = {name: [] for name in self.nodes}
        for id, node in self.placed.items():
            if node in self.arrivals:
                self.arrivals[node].append(self.pending[id])
        self.room = {name: self._after(name) for name in self.nodes}

    def units(self) -> Iterator[Unit]:
        """Every single task and every gang, in no fixed order."""
        gangs: dict[str, list[Claim]] = {}
        for claim in self.pending.values():
            if claim.gang is None:
                yield (claim,)
            else:
                gangs.setdefault(claim.gang, []).append(claim)
        for members in gangs.values():
            yield tuple(sorted(members, key=lambda one: one.id))

    # --- room ---

    def free_now(self, node: str) -> Amounts:
        """Capacity less all that holds room, less what is launched."""
        room = dict(self.nodes[node].capacity)
        for claim in self.on[node]:
            add(room, claim.request, -1)
        for claim in self.arrivals[node]:
            if claim.id in self.launched:
                add(room, claim.request, -1)
        return room

    def _after(self, node: str) -> Amounts:
        room = dict(self.nodes[node].capacity)
        for claim in self.on[node]:
            if claim.state in RUNS and claim.id not in self.victims:
                add(room, claim.request, -1)
        for claim in self.arrivals[node]:
            add(room, claim.request, -1)
        return room

    def open_to(self, unit: Unit) -> dict[str, Amounts]:
        """Of each node: the room after, less what is kept there by `for` for others that wait, where that fits.

        Of several for whom not all fit, whoever comes first: the most that is held of each resource.
        """
        rooms = {name: dict(room) for name, room in self.room.items()}
        ids = {claim.id for claim in unit}
        for name, room in rooms.items():
            waits = [claim for claim, node in self.kept() if node == name and claim.id in self.waiting]
            waits = [claim for claim in waits if claim.id not in ids and self.matches(claim, name)]
            left = []
            for first in waits:
                left.append(dict(self.room[name]))
                for claim in [first, *sorted((one for one in waits if one is not first), key=lambda one: one.id)]:
                    if covers(left[-1], claim.request):
                        add(left[-1], claim.request, -1)
            for resource in {resource for one in left for resource in one}:
                room[resource] = min(one.get(resource, 0) for one in left)
        return rooms

    def asked(self, node: str, without: Iterable[Claim] = ()) -> set[str]:
        """The resources that arrivals on a node ask for, some of them left out."""
        out = {claim.id for claim in without}
        arrivals = (claim for claim in self.arrivals[node] if claim.id not in out)
        return {name for claim in arrivals for name, amount in claim.request.items() if amount}

    # --- the law and the rules ---

    def lawful(self, preemptor: Claim, victim: Claim) -> bool:
        """The two sentences of the law."""
        mine, theirs = self.snapshot.tiers[preemptor.tier], self.snapshot.tiers[victim.tier]
        by_tier = theirs.preemptible and theirs.rank < mine.rank
        inside = preemptor.tier == victim.tier and preemptor.role == victim.role
        return by_tier or (inside and victim.priority < preemptor.priority)

    def prey(self, preemptor: Claim, node: str) -> list[Claim]:
        """Who still runs on a node and may be taken by that task, by law and by policy."""
        runs = (claim for claim in self.on[node] if claim.state in RUNS and claim.id not in self.victims)
        return [claim for claim in runs if self.lawful(preemptor, claim) and not self.spared_by(claim)]

    def spared_by(self, claim: Claim) -> set[str]:
        """The properties by which a task is no victim, whatever the plan."""
        begin_us = self.snapshot.now_us - 3_600_000_000
        times = len([at_us for at_us in claim.preempted_us if at_us > begin_us])
        young = self._seconds(claim) < self._setting("min_run_s", claim, 0)
        often = times >= self._setting("preempted_per_hour", claim, 10**9)
        return {name for name, holds in (("min-run", young), ("too-often", often)) if holds}

    @property
    def budgets(self) -> bool:
        """Whether victims share any."""
        names = {"gone_at_once", "own_gone_at_once", "destroys_per_hour", "loses_per_hour"}
        return any(self.snapshot.policy.get(name) for name in names)

    def over_budget(self, victims: Mapping[str, str]) -> set[str]:
        """The properties that a plan with these victims (and for whom) breaks; those of the roles and jobs of them."""
        found = set()
        for id, taker_id in victims.items():
            victim, taker = self.claims[id], self.pending[taker_id]
            job = [one for one in self.claims.values() if (one.role, one.job) == (victim.role, victim.job)]
            gone = sum(one.state == "preempting" or one.id in victims for one in job)
            gone += self.snapshot.past.gone.get((victim.role, victim.job), 0)
            if gone > min((self._at_once(one) for one in job if self._could_run(one)), default=10**9):
                found.add("disruption")
            lost = [one for one in victims if self._owner(self.claims[one]) == self._owner(victim)]
            done = [one for one, by in victims.items() if self._owner(self.pending[by]) == self._owner(taker)]
            for some, past, name, owner in (
                (lost, self.snapshot.past.lost, "loses_per_hour", victim),
                (done, self.snapshot.past.destroyed, "destroys_per_hour", taker),
            ):
                work = sum(self._work(self.claims[one]) for one in some) + past.get(self._owner(owner), 0)
                if work > self._setting(name, owner, 10**18) * 1000:
                    found.add("budget")
        return found

    def _could_run(self, claim: Claim) -> bool:
        return claim.state in RUNS and claim.node is not None and self.nodes[claim.node].state == NodeState.UP

    def _at_once(self, claim: Claim) -> float:
        least = self._setting("own_gone_at_once", claim, 0)
        usual: float = self._setting("gone_at_once", claim, 10**9)
        return max(claim.at_once, least) if claim.at_once and least else usual

    @staticmethod
    def _owner(claim: Claim) -> tuple[str, str]:
        return claim.role, claim.tier

    def _work(self, claim: Claim) -> int:
        """In thousandths of a cpu-second, rounded down."""
        return claim.request.get("cpus", 0) * max(0, self.snapshot.now_us - claim.since_us) // 10**6

    def young(self, claim: Claim) -> bool:
        """Whether it has run for so short a time that it is dearer than any that has not."""
        return bool(self._seconds(claim) < self._setting("young_s", claim, 0))

    def _setting(self, name: str, claim: Claim, default: float) -> Any:
        return self.snapshot.policy.get(name, {}).get(claim.tier, default)

    def _seconds(self, claim: Claim) -> float:
        return (self.snapshot.now_us - claim.since_us) / 1e6

    def value(self, node: str, attribute: str) -> str | None:
        """An attribute of a node; its own name is the attribute `host`."""
        return node if attribute == HOST else self.nodes[node].attributes.get(attribute)

    def matches(self, claim: Claim, node: str) -> bool:
        """Whether the node is up and meets the constraints as far as it alone can tell."""
        if self.nodes[node].state != NodeState.UP:
            return False
        for one in claim.constraints:
            value = self.value(node, one.attribute)
            if one.within is not None and value not in one.within:
                return False
            if one.outside is not None and value in one.outside:
                return False
            if one.limit is not None and value is None:
                return False
        return True

    def spread(self, claim: Claim, attribute: str, value: str | None, without: Iterable[str] = ()) -> int:
        """How many tasks of the job are, or will be, on nodes with that value; dying ones and victims count."""
        out = set(without)
        count = 0
        for other in self.claims.values():
            node = self.placed.get(other.id, other.node)
            mine = (other.role, other.job) == (claim.role, claim.job) and other.id not in out
            if mine and node in self.nodes and self.value(node, attribute) == value:
                count += 1
        return count

    def within_limits(self, claim: Claim, node: str, without: Iterable[str] = ()) -> bool:
        """Whether one more task of the job may go there: by its own limits and those of others in the plan, and by what
        others keep.
        """
        if not self.open_to_rank(claim, node):
            return False
        out = {claim.id, *without}
        job = [other for other in self.pending.values() if (other.role, other.job) == (claim.role, claim.job)]
        brought = [other for other in job if other.id in self.placed and other.id not in out]
        for other in [claim, *brought]:
            for one in other.constraints:
                value = self.value(node, one.attribute)
                if one.limit is None or value is None:
                    continue
                if other is not claim and self.value(self.placed[other.id], one.attribute) != value:
                    continue
                if self.spread(claim, one.attribute, value, out) >= one.limit:
                    return False
        return True

    def open_to_rank(self, claim: Claim, node: str) -> bool:
        """Whether no task that waits keeps the node, which has waited for long and is of its tier or a higher one."""
        holder = kept_nodes(self.snapshot).get(node) if self.snapshot.policy.get("holds_after_s") else None
        if holder is None or holder.id == claim.id or holder.id not in self.waiting:
            return True
        rank = self.snapshot.tiers
        return rank[holder.tier].rank < rank[claim.tier].rank or (claim, node) in list(self.kept())

    def ceilings(self, claim: Claim) -> Iterator[tuple[str | None, Mapping[str, int]]]:
        """The ceilings that bind a task: its role's (None), its user's in the role."""
        role = self.snapshot.role(claim.role)
        if self.snapshot.tiers[claim.tier].preemptible:
            if claim.tier in role.quota:
                yield None, role.quota[claim.tier]
            if claim.tier in role.users.get(claim.user, {}):
                yield claim.user, role.users[claim.user][claim.tier]

    def under(
        self, claim: Claim, user: str | None, with_too: Iterable[Claim] = (), without: Iterable[str] = ()
    ) -> Amounts:
        """What a role's (a user's in it) tasks of a tier hold or are given by the plan; some more, some less."""
        out = set(without)
        total: Amounts = {}
        holders = [other for other in self.claims.values() if self.holds(other) or other.id in self.placed]
        for other in [*(other for other in holders if other.id not in out), *with_too]:
            if (other.role, other.tier) == (claim.role, claim.tier) and user in (None, other.user):
                add(total, other.request)
        return total

    def holds(self, claim: Claim) -> bool:
        """Whether a task holds room at this moment: it is on a node that is not down."""
        return claim.node is not None and self.nodes[claim.node].state != NodeState.DOWN

    def over_ceiling(self, unit: Unit) -> bool:
        """Whether a unit, given room on top of the plan (once, if it has some already), would be over a ceiling."""
        ids = {claim.id for claim in unit}
        for claim in unit:
            for user, quota in self.ceilings(claim):
                held = self.under(claim, user, unit, ids)
                if any(name in quota and held.get(name, 0) > quota[name] for name, n in claim.request.items() if n):
                    return True
        return False

    # --- the order ---

    def turns(self, *, late: bool = False) -> list[Unit]:
        """Every unit in pending order: shares grow as those that the plan gives room have had their turn.

        With `late`, a task has room only once the victims are known that its place needs: at the turn of whom they
        are killed for.
        """
        left = list(self.units())
        given: list[Unit] = []
        held: dict[str, Amounts] = {}
        for claim in self.claims.values():
            if self.holds(claim):
                add(held.setdefault(claim.role, {}), claim.request)
        size: Amounts = {}
        for node in self.nodes.values():
            if node.state == NodeState.UP:
                add(size, node.capacity)
        order = []
        while left:
            shares = {claim.role: self._share(held.get(claim.role, {}), size, claim.role) for u in left for claim in u}
            unit = min(left, key=lambda u: min(self._place(claim, shares[claim.role]) for claim in u))
            left.remove(unit)
            order.append(unit)
            for one in order if late else [unit]:
                if one not in given and one[0].id in self.placed and (not late or self._has_come(one, order, given)):
                    given.append(one)
                    for claim in one:
                        add(held.setdefault(claim.role, {}), claim.request)
        return order

    def _has_come(self, unit: Unit, turned: list[Unit], given: list[Unit]) -> bool:
        """Whether it fits beside those who were given room, with the victims of those who have had their turn."""
        takers = {claim.id for one in turned for claim in one}
        there = {claim.id for one in [*given, unit] for claim in one}
        for claim in (claim for claim in unit if claim.id in self.placed):
            node = self.placed[claim.id]
            room = dict(self.nodes[node].capacity)
            for other in self.on[node]:
                if other.state in RUNS and self.victims.get(other.id) not in takers:
                    add(room, other.request, -1)
            for other in self.arrivals[node]:
                if other.id in there:
                    add(room, other.request, -1)
            if any(room.get(name, 0) < 0 for name, amount in claim.request.items() if amount):
                return False
        return True

    def _share(self, held: Amounts, size: Amounts, role: str) -> Fraction:
        parts = [Fraction(held.get(name, 0), amount) for name, amount in size.items() if amount]
        return max(parts, default=Fraction(0)) / Fraction(str(self.snapshot.role(role).weight))

    def _place(self, claim: Claim, share: Fraction) -> tuple[int, Fraction, int, int, str]:
        return -self.snapshot.tiers[claim.tier].rank, share, -claim.priority, claim.since_us, claim.id

    def kept(self) -> Iterator[tuple[Claim, str]]:
        """Pending tasks, each with a node where a dying task's room is kept for it."""
        seen = set()
        for claim in self.claims.values():
            pair = claim.kept_for, claim.node
            if claim.state in DYING and claim.kept_for in self.pending and claim.node is not None and pair not in seen:
                seen.add(pair)
                yield self.pending[claim.kept_for], claim.node
