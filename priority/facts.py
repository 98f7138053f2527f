"""What follows from a snapshot and a plan, recomputed from nothing but the two, in columns.

Nothing here is shared with the code that makes plans: a mistake there cannot hide a mistake here. What is shared is
the Snapshot: its tasks, nodes, roles and planes, whose upkeep has tests of its own. Planes are `[R, N]` in held units,
nodes by name. The words are the contract's: the room `after` is what is free once the dying and the victims are gone
and everything launched and reserved is there; `open` is that less what is kept by `for` for others that wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from priority.claim import RUNS, Claim
from priority.constraint import HOST, Constraint
from priority.keeping import kept_nodes
from priority.shape import Flags, Picks, Shape, anywhere, more, scatter
from priority.snapshot import Plane, Snapshot

Unit = tuple[Claim, ...]
"""One pending task, or the pending members of a gang by id."""

Power = tuple[str, str, int]
"""(tier, role, priority): those with the same may take the same victims."""

Limit = tuple[str, int, int]
"""(attribute, at most, code of the value): a limit that a task of the plan brings where it goes."""


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


@dataclass(frozen=True, slots=True)
class Violation:
    """A property of the contract that a plan breaks, at which task, and how."""

    property: str
    task: str
    message: str


class Facts:
    """Indexes over one snapshot and one plan. Entries that make no sense are left out here; `certify` reports them."""

    def __init__(self, snapshot: Snapshot, plan: Decisions) -> None:
        self.snapshot = snapshot
        planes = snapshot.settled()
        capacity, holds, leaves = planes.copies()
        self.names: tuple[str, ...] = planes.names
        self.row: Mapping[str, int] = planes.rows()
        self.up: Flags = planes.up()
        self._axis = {name: column for column, name in enumerate(snapshot.axis())}
        self.capacity: Plane = capacity.T
        self.now: Plane = np.ascontiguousarray((capacity - holds).T)
        """Free at this moment, before anything of the plan."""
        self._leaves: Plane = np.ascontiguousarray(leaves.T)
        self._shapes: dict[object, Shape] = {}
        self._lines: dict[int, list[int]] = {}
        self._with_users = {name for name, role in snapshot.roles().items() if role.users}
        self._masks: dict[tuple[Constraint, ...], Flags] = {}
        self._codes: dict[str, tuple[Picks, dict[str | None, int]]] = {}
        self.pending = {claim.id: claim for claim in snapshot.pending()}
        self.launched = self._spots(plan.launch)
        self.reserved = self._spots(plan.reserve)
        self.placed = {**self.launched, **self.reserved}
        """By task: the row of its node."""
        self.waiting = {one.task: one.reason for one in plan.wait if one.task in self.pending}
        self.listed = len(plan.launch) + len(plan.reserve) + len(plan.wait)
        self.takers: dict[str, str] = {
            one.task: one.preemptor
            for one in plan.preempt
            if (claim := snapshot.task(one.task)) is not None and claim.state in RUNS
        }
        """By victim: for whom."""
        self._settle()

    def _spots(self, placements: Iterable[Any]) -> dict[str, int]:
        row, pending = self.row, self.pending
        return {one.task: row[one.node] for one in placements if one.task in pending and one.node in row}

    def _settle(self) -> None:
        """The room that the plan leaves."""
        nodes = len(self.names)
        self.arrivals: list[Claim] = [self.pending[id] for id in self.placed]
        self.at: Picks = np.fromiter(self.placed.values(), np.intp, len(self.placed))
        """By arrival: its row."""
        self.brings: Plane = self.vectors(self.arrivals)
        """By arrival: what it asks for, `[R, A]`."""
        now: Flags = np.arange(len(self.arrivals)) < len(self.launched)
        self.victims: list[Claim] = [claim for id in self.takers if (claim := self.snapshot.task(id)) is not None]
        self.falls: Picks = np.array([self.row.get(one.node or "", 0) for one in self.victims], np.intp)
        """By victim: its row."""
        self.frees: Plane = self.vectors(self.victims)
        self.asks: Plane = scatter(self.at, (self.brings > 0).astype(np.int64), nodes)
        """How many arrivals ask for each resource on each node."""
        self.before: Plane = self.now + self._leaves
        """Free once the dying are gone, before anything of the plan."""
        self.after: Plane = more(more(self.before.copy(), self.falls, self.frees), self.at, -self.brings)
        self.now_after: Plane = more(self.now.copy(), self.at[now], -self.brings[:, now])
        self.now_asks: Plane = scatter(self.at[now], (self.brings[:, now] > 0).astype(np.int64), nodes)
        self.kept: list[tuple[Claim, int]] = sorted(self._kept(), key=lambda pair: (pair[0].id, pair[1]))
        self.keepers = {claim.id for claim, _ in self.kept if claim.id in self.waiting}
        self.open: Plane = self.open_to(())
        self.holders: dict[int, Claim] = self._holders()
        """By row: the task that keeps the node, as things are before the plan."""
        self.closed = {row: claim for row, claim in self.holders.items() if claim.id in self.waiting}
        """The same of those that the plan leaves waiting."""
        self._given: dict[tuple[str, ...], dict[str, int]] | None = None
        self._limited: set[tuple[str, str]] | None = None
        self._brought: dict[tuple[str, str], list[tuple[Claim, int]]] | None = None

    def _holders(self) -> dict[int, Claim]:
        if not self.snapshot.terms.holds_after_s:
            return {}
        return {self.row[name]: claim for name, claim in kept_nodes(self.snapshot).items()}

    def closed_to(self, claim: Claim) -> list[int]:
        """Nodes that others keep from a task of their tier or a lower one; not where room is kept for it by `for`."""
        rank = self.snapshot.tiers[claim.tier].rank
        rows = [row for row, one in self.closed.items() if one.id != claim.id]
        rows = [row for row in rows if self.snapshot.tiers[self.closed[row].tier].rank >= rank]
        return [row for row in rows if (claim.id, row) not in {(one.id, at) for one, at in self.kept}]

    def _kept(self) -> list[tuple[Claim, int]]:
        pairs = {
            (claim.kept_for, self.row[claim.node])
            for claim in self.snapshot.dying()
            if claim.kept_for in self.pending and claim.node is not None
        }
        return [(self.pending[id], row) for id, row in pairs if id is not None]

    # --- units ---

    def gangs(self) -> list[Unit]:
        """Every gang, by the ids of its members."""
        found: dict[str, list[Claim]] = {}
        for claim in self.pending.values() if self.snapshot.gangs() else ():
            if claim.gang is not None:
                found.setdefault(claim.gang, []).append(claim)
        return [tuple(sorted(members, key=lambda one: one.id)) for members in found.values()]

    def gangmates(self, claims: Iterable[Claim]) -> set[str]:
        """All members of their gangs."""
        gangs = {claim.gang for claim in claims if claim.gang is not None}
        return {claim.id for claim in self.pending.values() if claim.gang in gangs} if gangs else set()

    def kinds(self, claims: Iterable[Claim]) -> Iterator[list[Claim]]:
        """Single tasks, those together that are alike to every rule but the order among themselves."""
        found: dict[object, list[Claim]] = {}
        for claim in claims:
            if claim.gang is None:
                found.setdefault(self._kind(claim), []).append(claim)
        return iter(found.values())

    def fitting(
        self, kinds: Iterable[list[Claim]], room: Callable[[Claim], Plane], same: Callable[[Claim], object]
    ) -> list[list[Claim]]:
        """Kinds that find room on a node that they match; `room` is asked once for all for whom it is the `same`."""
        groups: dict[object, list[list[Claim]]] = {}
        for kind in kinds:
            groups.setdefault((same(kind[0]), kind[0].constraints), []).append(kind)
        found = []
        for some in groups.values():
            claim = some[0][0]
            mask, plane = self.matches(claim), room(claim)
            flags = anywhere([self.shape(kind[0]) for kind in some], plane if mask.all() else plane[:, mask])
            found += [some[index] for index in np.flatnonzero(flags).tolist()]
        return found

    def _kind(self, claim: Claim) -> object:
        shape = self.shape(claim)
        user = job = None
        if claim.role in self._with_users and claim.user in self.snapshot.role(claim.role).users:
            user = claim.user
        if self.limited and (claim.role, claim.job) in self.limited:
            job = claim.job
        keeper = claim.id if claim.id in self.keepers or (self.closed and self._special(claim)) else None
        return claim.tier, claim.role, claim.priority, id(shape), claim.constraints, user, job, keeper

    def _special(self, claim: Claim) -> bool:
        """Whether it may go where others of its kind may not."""
        return any(one.id == claim.id for one in self.closed.values()) or any(
            one.id == claim.id for one, _ in self.kept
        )

    # --- room ---

    def shape(self, claim: Claim) -> Shape:
        """The same object for equal requests."""
        known = self._shapes.get(id(claim.request))  # requests live as long as the snapshot does not change
        if known is None:
            row = self._line(claim.request)
            asks = tuple((resource, amount) for resource, amount in enumerate(row) if amount)
            known = self._shapes.get(asks)
            if known is None:
                known = self._shapes[asks] = Shape(np.array(row, np.int64), asks)
            self._shapes[id(claim.request)] = known
        return known

    def vectors(self, claims: Sequence[Claim]) -> Plane:
        """What each asks for, `[R, A]`."""
        if not claims:
            return np.zeros((len(self._axis), 0), np.int64)
        ids = [id(claim.request) for claim in claims]
        requests = {key: claim.request for key, claim in dict(zip(ids, claims, strict=True)).items()}
        code = {key: place for place, key in enumerate(requests)}
        lines = np.array([self._line(request) for request in requests.values()], np.int64)
        return lines.T[:, [code[key] for key in ids]]

    def _line(self, request: Mapping[str, int]) -> list[int]:
        line = self._lines.get(id(request))  # requests live as long as the snapshot does not change
        if line is None:
            line = self._lines[id(request)] = [0] * len(self._axis)
            for name, amount in request.items():
                line[self._axis[name]] = amount
        return line

    def open_to(self, unit: Iterable[Claim]) -> Plane:
        """The room after, less what is kept by `for` for others that wait, where that fits.

        Of several for whom not all fit on a node it is not said who comes first: what any of them may have is not open.
        """
        mine = {claim.id for claim in unit}
        rows: dict[int, list[Plane]] = {}
        for claim, row in self.kept:
            if claim.id in self.keepers and claim.id not in mine and self.matches(claim)[row]:
                rows.setdefault(row, []).append(self.shape(claim).vector)
        if not rows:
            return self.after
        room = self.after.copy()
        for row, asks in rows.items():
            orders = ([first, *asks[:place], *asks[place + 1 :]] for place, first in enumerate(asks))
            room[:, row] -= np.max([_held(self.after[:, row], order) for order in orders], axis=0)
        return room

    def room_for(self, unit: Iterable[Claim]) -> Plane:
        """The same as `open_to`, known already for whom nothing is kept."""
        return self.open_to(unit) if any(claim.id in self.keepers for claim in unit) else self.open

    # --- constraints and limits ---

    def coded(self, attribute: str) -> tuple[Picks, Mapping[str | None, int]]:
        """Each node's value as a code (-1: none), and the code of each value."""
        known = self._codes.get(attribute)
        if known is None:
            values: dict[str | None, int] = {None: -1}
            if attribute == HOST:
                values.update(self.row)
                known = np.arange(len(self.names)), values
            else:
                nodes = (self.snapshot.node(name) for name in self.names)
                given = (None if node is None else node.attributes.get(attribute) for node in nodes)
                codes = [values.setdefault(value, len(values) - 1) for value in given]
                known = np.array(codes, np.intp), values
            self._codes[attribute] = known
        return known

    def matches(self, claim: Claim) -> Flags:
        """Nodes that are up and meet the constraints as far as each alone can tell."""
        mask = self._masks.get(claim.constraints)
        if mask is None:
            mask = self.up.copy()
            for one in claim.constraints:
                codes, values = self.coded(one.attribute)
                if one.within is not None:
                    mask &= np.isin(codes, [values[value] for value in one.within if value in values])
                elif one.outside is not None:
                    mask &= ~np.isin(codes, [values[value] for value in one.outside if value in values])
                else:
                    mask &= codes >= 0
            self._masks[claim.constraints] = mask
        return mask

    @property
    def limited(self) -> set[tuple[str, str]]:
        """Jobs, by role and name, of which a pending task has a limit."""
        if self._limited is None:
            known: dict[int, bool] = {}
            found: set[tuple[str, str]] = set()
            for claim in self.pending.values():
                if claim.constraints:
                    key = id(claim.constraints)
                    if key not in known:
                        known[key] = any(one.limit is not None for one in claim.constraints)
                    if known[key]:
                        found.add((claim.role, claim.job))
            self._limited = found
        return self._limited

    def mates(self, claim: Claim) -> list[tuple[Claim, int]]:
        """Tasks of its job that the plan places, and where."""
        if self._brought is None:
            self._brought = {}
            for one in self.arrivals:
                if (one.role, one.job) in self.limited:
                    self._brought.setdefault((one.role, one.job), []).append((one, self.placed[one.id]))
        return self._brought.get((claim.role, claim.job), [])

    def spread(self, claim: Claim, attribute: str, without: frozenset[str] = frozenset()) -> Plane:
        """How many tasks of its job there are, or will be, by the value of an attribute (one more than its code)."""
        codes, values = self.coded(attribute)
        rows = [row for one, row in self.mates(claim) if one.id not in without]
        tasks = self.snapshot.tasks_of(claim.role, claim.job)
        rows += [self.row[one.node] for one in tasks if one.node is not None and one.id not in without]
        return np.bincount(codes[np.array(rows, np.intp)] + 1, minlength=len(values))

    def within_limits(self, claim: Claim, without: frozenset[str] = frozenset()) -> Flags | None:
        """Where one more task of the job may go: by its own limits and those of others in the plan, and by what others
        keep; None: anywhere.
        """
        shut = self.closed_to(claim) if self.closed else []
        if (claim.role, claim.job) not in self.limited:
            if not shut:
                return None
            mask = np.ones(len(self.names), np.bool_)
            mask[shut] = False
            return mask
        out = without | {claim.id}
        counts: dict[str, Plane] = {}

        def full(attribute: str, limit: int) -> Flags:
            """By value (one more than its code): whether so many are there."""
            if attribute not in counts:
                counts[attribute] = self.spread(claim, attribute, out)
            return np.asarray(counts[attribute] >= limit)

        mask = np.ones(len(self.names), np.bool_)
        mask[shut] = False
        for one in claim.constraints:
            if one.limit is not None:
                codes, _ = self.coded(one.attribute)
                mask &= ~full(one.attribute, one.limit)[codes + 1] | (codes < 0)
        for attribute, limit, code in self.brought(claim, out):
            if full(attribute, limit)[code + 1]:
                mask &= self.coded(attribute)[0] != code
        return mask

    def brought(self, claim: Claim, out: frozenset[str]) -> set[Limit]:
        """Limits that other tasks of its job bring to where the plan places them."""
        return {
            (one.attribute, one.limit, int(self.coded(one.attribute)[0][row]))
            for mate, row in self.mates(claim)
            if mate.id not in out
            for one in mate.constraints
            if one.limit is not None and self.coded(one.attribute)[0][row] >= 0
        }

    def may_be(self, claim: Claim, without: frozenset[str] = frozenset()) -> Flags:
        """Nodes that are up, meet the constraints and are within the limits."""
        within = self.within_limits(claim, without)
        return self.matches(claim) if within is None else self.matches(claim) & within

    # --- ceilings ---

    def ceilings(self, claim: Claim) -> Iterator[tuple[tuple[str, ...], Mapping[str, int]]]:
        """The ceilings that bind a task, by whose they are: its role's in the tier, its user's in the role."""
        if self.snapshot.tiers[claim.tier].preemptible:
            role = self.snapshot.role(claim.role)
            if claim.tier in role.quota:
                yield (claim.role, claim.tier), role.quota[claim.tier]
            if claim.tier in role.users.get(claim.user, {}):
                yield (claim.role, claim.tier, claim.user), role.users[claim.user][claim.tier]

    def over_ceiling(self, unit: Unit) -> bool:
        """Whether a unit, given room on top of the plan (once, if it has some already), would be over a ceiling."""
        for claim in unit:
            for key, quota in self.ceilings(claim):
                more = [one for one in unit if one.id not in self.placed and _owns(key, one)]
                held, given = self.snapshot.held(*key), self.given.get(key, {})
                for name, amount in claim.request.items():
                    total = held.get(name, 0) + given.get(name, 0) + sum(one.request.get(name, 0) for one in more)
                    if amount and name in quota and total > quota[name]:
                        return True
        return False

    @property
    def given(self) -> dict[tuple[str, ...], dict[str, int]]:
        """What the plan gives to whom there is a ceiling for."""
        if self._given is None:
            self._given = {}
            for claim in self.arrivals:
                for key, _ in self.ceilings(claim):
                    sums = self._given.setdefault(key, {})
                    for name, amount in claim.request.items():
                        sums[name] = sums.get(name, 0) + amount
        return self._given

    # --- the law ---

    def lawful(self, preemptor: Claim, victim: Claim) -> bool:
        """The two sentences of the law."""
        mine, theirs = self.snapshot.tiers[preemptor.tier], self.snapshot.tiers[victim.tier]
        by_tier = theirs.preemptible and theirs.rank < mine.rank
        inside = preemptor.tier == victim.tier and preemptor.role == victim.role
        return by_tier or (inside and victim.priority < preemptor.priority)

    @staticmethod
    def power(claim: Claim) -> Power:
        """What decides whom it may take."""
        return claim.tier, claim.role, claim.priority

    def finds(self, claim: Claim) -> object:
        """Those of whom this is the same find the same room, whatever they may take counted in."""
        return self.power(claim), claim.id if claim.id in self.keepers else None


def _owns(key: tuple[str, ...], claim: Claim) -> bool:
    return key == (claim.role, claim.tier, claim.user)[: len(key)]


def _held(room: Plane, asks: Iterable[Plane]) -> Plane:
    """What is held, one after the other, as far as it fits."""
    held = np.zeros_like(room)
    for ask in asks:
        if ((room - held >= ask) | (ask == 0)).all():
            held += ask
    return held
