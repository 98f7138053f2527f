"""The herd: every task that could be a victim, in columns; and who may take whom.

P may take V's room if and only if
    1. V's tier is preemptible and P's tier has a higher rank, whatever the roles and priorities; or
    2. same tier, same role, and P's priority is strictly higher.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from priority.claim import Claim
from priority.stock import HARD, Codes, Flags, Picks, Plane, Stock
from priority.tier import Tier

__all__ = ["OLDER", "Flags", "Herd", "Picks", "Plane", "rule", "work_lost"]


OLDER = 2**52
"""Added to the rank of what policy calls young: more than any two ranks differ by."""


def law_rank(rank: int) -> int:
    """The tier's rank of what may have been made dearer by `OLDER`."""
    return rank - OLDER if rank > OLDER // 2 else rank


def rule(preemptor: Claim, victim: Claim, tiers: Mapping[str, Tier]) -> int | None:
    """Which rule lets P take V's room, 1 or 2; None: neither does."""
    mine, theirs = tiers[preemptor.tier], tiers[victim.tier]
    if theirs.preemptible and mine.rank > theirs.rank:
        return 1
    if mine.name == theirs.name and preemptor.role == victim.role and preemptor.priority > victim.priority:
        return 2
    return None


def work_lost(claim: Claim, now_us: int) -> int:
    """What killing it throws away: milli-cores times microseconds since it started, exact; never negative."""
    return claim.request.get("cpus", 0) * max(0, now_us - claim.since_us)


@dataclass(frozen=True, slots=True)
class Beast:
    """One of the herd, with all that is compared."""

    place: int
    soft: int
    """The rank of its tier, `HARD` if that is not preemptible."""
    rank: int
    priority: int
    work: int
    id: str
    owner: tuple[str, str]
    """Tier and role."""
    request: list[int]


class Herd:
    """The stock of one round, and who of it is no victim yet. Places are the stock's: they say nothing of order.

    `key` orders victims by (tier rank, priority, work lost, id): a later one is the more important.
    """

    def __init__(self, stock: Stock, width: int, tiers: Mapping[str, Tier], now_us: int) -> None:
        size = stock.size
        self._stock, self._tiers, self._now_us = stock, tiers, now_us
        self.claims = cast("Sequence[Claim]", stock.claims)
        self.node: Picks = stock.row[:size]
        self.tier_ranks: Plane = stock.rank[:size]
        self.rank: Plane = self.tier_ranks
        """What is compared: that of its tier, and more if policy calls it young (see `mercy`)."""
        self.since: Plane = stock.since[:size]
        self.owner: Codes = stock.owner[:size]
        """Its (tier, role), as a code: see `owners`."""
        self.priority: Plane = stock.priority[:size]
        self.request: Plane = stock.request[:size, :width]
        self.alive: Flags = stock.live[:size].copy()
        """Not a victim yet."""
        self.soft_ranks: Plane = stock.soft[:size]
        """The rank of its tier, `HARD` if that is not preemptible."""
        self._live: Flags = stock.live[:size]
        self._lawful: dict[tuple[str, str, int], Flags] = {}
        self._works: Plane | bool | None = False
        """False: not asked for yet."""

    @property
    def owners(self) -> Mapping[tuple[str, str], int]:
        """The code of each (tier, role)."""
        return self._stock.owners

    def of_tier(self, tier: str) -> Flags:
        """`[K]`: those of a tier."""
        codes = [code for (name, _), code in self._stock.owners.items() if name == tier]
        return np.isin(self.owner, codes)

    def place(self, id: str) -> int:
        """A task's place; -1: it has none."""
        return self._stock.place(id)

    def key(self, victim: int) -> tuple[int, int, int, str]:
        """Sorts the least important first."""
        return int(self.rank[victim]), int(self.priority[victim]), self.work(victim), self._stock.id(victim)

    def beast(self, place: int) -> Beast:
        """One of them."""
        rank, priority, work, id = self.key(place)
        owner = self._stock.owner_at(place)
        return Beast(place, int(self.soft_ranks[place]), rank, priority, work, id, owner, self.request[place].tolist())

    def work(self, victim: int) -> int:
        """The work lost with it, exact."""
        stock = self._stock
        return stock.cpus.item(victim) * max(0, self._now_us - stock.since.item(victim))

    def works(self) -> Plane | None:
        """`[K]`: the work lost with each, if that fits 64 bits."""
        if self._works is False:
            self._works = self._stock.works(self._now_us)
        return None if isinstance(self._works, bool) else self._works

    def small(self) -> bool:
        """Whether the work lost with each fits 64 bits."""
        return self._stock.small(self._now_us)

    def works_of(self, picks: Picks) -> Plane:
        """The work lost with some of them, where it is `small`."""
        return self._stock.works_of(picks, self._now_us)

    def of_levels(self, levels: Collection[tuple[int, int]]) -> Flags:
        """See `Stock.of_levels`."""
        return self._stock.of_levels(levels)

    def front(self, levels: Collection[tuple[int, int]], *, anew: bool = False) -> tuple[Picks, int]:
        """Those of these levels with whom the least work is lost, and how much at least with any other."""
        fronts = [self._stock.front(level, self._now_us, anew=anew) for level in levels]
        return np.concatenate([places for places, _ in fronts]), min(least for _, least in fronts)

    def largest(self, column: int) -> int:
        """None of them asks for more of one resource."""
        return self._stock.largest(column)

    def needs(self, need: Plane) -> Plane:
        """`[K]`: of each its node's `need`. The next call writes over it."""
        return need.take(self.node, out=self._stock.scratch("needs"), mode="clip")

    def least(self, flags: Flags) -> int | None:
        """Of some the one with the least work lost; of equals the first by node, then by key. None of none."""
        works, picks = self.works(), np.flatnonzero(flags)
        if works is None:
            return min(map(int, picks), key=lambda one: (self.work(one), self.node[one], self.key(one)), default=None)
        if not len(picks):
            return None
        mine = works.take(picks)
        picks = picks[mine == mine.min()]
        if len(picks) > 1:
            nodes = self.node[picks]
            picks = picks[nodes == nodes.min()]
        return min(map(int, picks), key=self.key)

    def cost(self, victims: Sequence[int]) -> tuple[int, int, int, int]:
        """What the contract compares of a set of victims: highest rank, highest priority, how many, work lost."""
        rank = max(int(self.rank[victim]) for victim in victims)
        priority = max(int(self.priority[victim]) for victim in victims)
        return rank, priority, len(victims), sum(self.work(victim) for victim in victims)

    def lawful(self, claim: Claim) -> Flags:
        """`[K]`: whom this task may take, by either rule; says nothing of who is taken already."""
        key = claim.tier, claim.role, claim.priority
        flags = self._lawful.get(key)
        if flags is None:
            flags = self.soft_ranks < self._tiers[claim.tier].rank
            if self._stock.has_below(*key):
                owner = self._stock.owners[claim.tier, claim.role]
                flags |= (self._stock.owner[: len(flags)] == owner) & (self.priority < claim.priority)
            flags &= self._live
            self._lawful[key] = flags
        return flags

    def soft(self, victim: int) -> bool:
        """Whether its tier is preemptible."""
        return int(self.soft_ranks[victim]) != HARD

    def tier_rank(self, claim: Claim) -> int:
        """The rank of a task's tier."""
        return self._tiers[claim.tier].rank

    def own(self, claim: Claim) -> tuple[str, str, int] | None:
        """Tier, role and priority, if there are tasks of that role and tier that it may take; None: there are none."""
        key = claim.tier, claim.role, claim.priority
        return key if self._stock.has_below(*key) else None

    def may(self, claim: Claim, victim: int) -> bool:
        """Whether a task may take a single one."""
        return rule(claim, self.claims[victim], self._tiers) is not None
