"""Who runs where and who may take whom, for `certify`: columns over all that could be a victim, sums by node.

Its own code, not the engine's `herd`: what one of them has wrong the other has not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np

from priority.claim import Claim
from priority.facts import Facts, Power
from priority.policy import HOUR_US
from priority.shape import Flags, Picks, scatter
from priority.snapshot import Plane
from priority.stock import Codes, Level
from priority.terms import DEARER, Budgets, Cost

ROWS_MAX = 64
"""On so many nodes it is looked for victims within budgets."""


class Prey:
    """`K` places, of which those that `runs` hold a task that runs or starts on a node that is up. Made when needed."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self._tiers = facts.snapshot.tiers
        self._stock = stock = facts.snapshot.settled().stock
        size, width = stock.size, len(facts.snapshot.axis())
        self.claims: Sequence[Claim | None] = stock.claims
        self.runs: Flags = stock.live[:size]
        self.node: Picks = stock.row[:size]
        self.rank: Plane = stock.rank[:size]
        self.soft_rank: Plane = stock.soft[:size]
        """The rank of its tier; higher than any if that is not preemptible."""
        self.priority: Plane = stock.priority[:size]
        self.since: Plane = stock.since[:size]
        self.owner: Codes = stock.owner[:size]
        """Its (tier, role), as a code."""
        self.owners: Mapping[tuple[str, str], int] = stock.owners
        self.request: Plane = stock.request[:size, :width].T
        """`[R, K]`."""
        places = (stock.place(one.id) for one in facts.victims)
        taken = [place if place >= 0 and self.runs[place] else -1 for place in places]
        self.taken: Picks = np.array(taken, np.intp)
        """By victim: its place here (-1 if its node is not up)."""
        self.alive: Flags = self.runs.copy()
        """Runs on a node that is up, is no victim, and policy does not spare it."""
        self.alive[self.taken[self.taken >= 0]] = False
        if facts.snapshot.terms.spares:
            self.alive &= ~self._spared(stock.place)
            self.rank = self.rank + DEARER * self._within(facts.snapshot.terms.young_s)
        self._lawful: dict[Power, Flags] = {}
        self._sums: dict[Power, Plane] = {}
        self._flags: dict[int, Flags] = {}
        self._base: dict[int, Plane] = {}

    def on(self, nodes: Flags) -> Picks:
        """Places of those that are alive on some nodes; where these are few, what runs elsewhere is not looked at."""
        rows = np.flatnonzero(nodes)
        if len(rows) > ROWS_MAX:
            return np.flatnonzero(self.alive & nodes.take(self.node, mode="clip"))
        picks = np.array(sorted(place for row in rows.tolist() for place in self._stock.on(row)), np.intp)
        return picks[self.alive[picks]]

    def _within(self, least: Mapping[str, int]) -> Flags:
        """`[K]`: has not yet run as long as its tier's."""
        by_owner = np.zeros(len(self.owners) + 1, np.int64)
        for (tier, _), code in self.owners.items():
            by_owner[code] = least.get(tier, 0)
        return np.asarray(np.maximum(self.facts.snapshot.now_us - self.since, 0) < by_owner[self.owner])

    def _spared(self, place: Callable[[str], int]) -> Flags:
        """`[K]`: is no victim whatever the plan, by `terms.spared`."""
        snapshot = self.facts.snapshot
        flags = self._within(snapshot.terms.min_run_s)
        most = snapshot.terms.preempted_per_hour
        if most:
            never = [code for (tier, _), code in self.owners.items() if most.get(tier) == 0]
            flags |= np.isin(self.owner, never)
            for claim in snapshot.preempted():
                times = sum(at_us > snapshot.now_us - HOUR_US for at_us in claim.preempted_us)
                if times >= most.get(claim.tier, times + 1) and place(claim.id) >= 0:
                    flags[place(claim.id)] = True
        return flags

    @property
    def levels(self) -> Iterable[Level] | None:
        """Tier rank and priority of all that may be taken by a higher tier, where only these say whom to take first.

        None: policy spares some of them, or they are too many.
        """
        return None if self.facts.snapshot.terms.spares else self._stock.levels

    def held_by(self, level: Level) -> Plane:
        """`[R, N]`: what those of a level hold (the victims of the plan, too), to be read only."""
        levels = self._stock.levels
        assert levels is not None
        return levels[level].T[: len(self.request), : len(self.facts.names)]

    def of_levels(self, levels: Collection[Level]) -> Flags:
        """`[K]`: those of these levels (the victims of the plan, too)."""
        return self._stock.of_levels(levels) if levels else np.zeros(len(self.runs), np.bool_)

    @cached_property
    def cpus(self) -> int | None:
        """The resource in which work is counted; None: nobody has any."""
        axis = self.facts.snapshot.axis()
        return axis.index("cpus") if "cpus" in axis else None

    def work_of(self, picks: Picks) -> Plane:
        """Milli-cores times microseconds since the start, exact: objects where 64 bits would not do."""
        if self.cpus is None:
            return np.zeros(len(picks), np.int64)
        cpus, age = self.request[self.cpus].take(picks), self.facts.snapshot.now_us - self.since.take(picks)
        np.maximum(age, 0, out=age)
        if int(age.max(initial=0)) * int(cpus.max(initial=0)) < 2**52:
            small: Plane = age * cpus
            return small
        exact: Plane = age.astype(object) * cpus.astype(object)
        return exact

    def lawful(self, power: Power) -> Flags:
        """`[K]`: whom those of this power may take; says nothing of who is taken already."""
        flags = self._lawful.get(power)
        if flags is None:
            tier, role, priority = power
            flags = self.lower(tier)
            if (tier, role) in self.owners and priority > self._least:
                flags = flags | ((self.owner == self.owners[tier, role]) & (self.priority < priority))
            self._lawful[power] = flags
        return flags

    def lower(self, tier: str) -> Flags:
        """`[K]`: whom a tier may take whatever the roles and priorities."""
        rank = self._tiers[tier].rank
        if rank not in self._flags:
            self._flags[rank] = self.soft_rank < rank
        return self._flags[rank]

    def may_take(self, claims: Sequence[Claim], whose: Picks, items: Picks) -> Flags:
        """Of each item whether the claim that it is for may take it."""
        rank = np.array([self._tiers[claim.tier].rank for claim in claims], np.int64)[whose]
        owner = np.array([self.owners.get((claim.tier, claim.role), -1) for claim in claims], np.int64)[whose]
        priority = np.array([claim.priority for claim in claims], np.int64)[whose]
        inside = (self.owner[items] == owner) & (self.priority[items] < priority)
        return np.asarray((self.soft_rank[items] < rank) | inside)

    def sums(self, power: Power) -> Plane:
        """`[R, N]`: the room of all that is alive and that those of this power may take."""
        sums = self._sums.get(power)
        if sums is None:
            sums = self._sums_below(power[0])
            lawful, lower = self.lawful(power), self.lower(power[0])
            inside = np.flatnonzero(lawful & ~lower & self.alive) if lawful is not lower else ()
            if len(inside):
                sums = sums + scatter(self.node[inside], self.request[:, inside], len(self.facts.names))
            self._sums[power] = sums
        return sums

    def free_sums(self, power: Power) -> Plane:
        """The same where no budgets are shared; else none: whose turn it is to take of them is not looked at."""
        return np.zeros_like(self.facts.after) if self.facts.snapshot.terms.shares else self.sums(power)

    def affordable(
        self,
        claim: Claim,
        rows: Flags,
        back: Sequence[Claim] = (),
        bound: Cost | None = None,
        open_: Plane | None = None,
    ) -> bool:
        """Whether on some of these nodes victims within the budgets of policy make room (for less than the bound).

        `back` are victims of the plan that are prey again, and `open_` is the room without them.
        """
        if not self.facts.snapshot.terms.shares:
            return True
        facts, budgets = self.facts, Budgets(self.facts, back)
        flags = self.lawful(facts.power(claim)) & self.alive
        room = facts.room_for((claim,)) if open_ is None else open_
        for row in np.flatnonzero(rows).tolist()[:ROWS_MAX]:
            picks = np.flatnonzero(flags & (self.node == row)).tolist()
            prey = [one for place in picks if (one := self.claims[place]) is not None]
            prey += [one for one in back if facts.row.get(one.node or "") == row]
            lacks = {
                self._names[resource]: amount - int(room[resource, row]) for resource, amount in facts.shape(claim).asks
            }
            if budgets.room(claim, prey, lacks, bound):
                return True
        return False

    @cached_property
    def _names(self) -> Sequence[str]:
        return self.facts.snapshot.axis()

    @cached_property
    def _least(self) -> int:
        return int(self.priority[self.runs].min(initial=2**62))

    def _sums_below(self, tier: str) -> Plane:
        """The room of all that a tier may take whatever the roles and priorities."""
        rank = self._tiers[tier].rank
        if rank not in self._base:
            picks = np.flatnonzero(self.lower(tier) & self.alive)
            self._base[rank] = scatter(self.node[picks], self.request[:, picks], len(self.facts.names))
        return self._base[rank]


def work_of(claim: Claim, now_us: int) -> int:
    """What killing it throws away, exact."""
    return claim.request.get("cpus", 0) * max(0, now_us - claim.since_us)
