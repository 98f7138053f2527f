"""The herd: every task that could be a victim, in columns, the least important first; and who may take whom.

P may take V's room if and only if
    1. V's tier is preemptible and P's tier has a higher rank, whatever the roles and priorities; or
    2. same tier, same role, and P's priority is strictly higher.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from priority.claim import RUNS, Claim
from priority.resources import Resources
from priority.snapshot import Plane
from priority.tier import Tier

Flags = npt.NDArray[np.bool_]
Picks = npt.NDArray[np.intp]
"""Places in the herd, ascending."""


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


class Herd:
    """`K` tasks ordered by (tier rank, priority, work lost, id): a later one is the more important."""

    def __init__(
        self,
        claims: Iterable[Claim],
        *,
        rows: Mapping[str, int],
        vector: Callable[[Resources], Plane],
        width: int,
        tiers: Mapping[str, Tier],
        now_us: int,
    ) -> None:
        lines = [
            (tiers[claim.tier].rank, claim.priority, work_lost(claim, now_us), claim.id, claim)
            for claim in claims
            if claim.state in RUNS
        ]
        lines.sort(key=lambda line: line[:4])
        self._tiers = tiers
        self.claims: Sequence[Claim] = [line[4] for line in lines]
        self.rank: Plane = np.array([line[0] for line in lines], np.int64)
        self.priority: Plane = np.array([line[1] for line in lines], np.int64)
        self.work: Sequence[int] = [line[2] for line in lines]
        ranks = {work: place for place, work in enumerate(sorted(set(self.work)))}
        self.work_rank: Plane = np.array([ranks[work] for work in self.work], np.int64)
        """The work lost as its place among all the values: compares alike, and fits 64 bits."""
        self.node: Picks = np.array([rows[claim.node] for claim in self.claims if claim.node is not None], np.intp)
        self.request: Plane = np.zeros((len(lines), width), np.int64)
        for place, claim in enumerate(self.claims):
            self.request[place] = vector(claim.request)
        self.alive: Flags = np.ones(len(lines), np.bool_)
        """Not a victim yet."""
        names = {name: code for code, name in enumerate(sorted(tiers))}
        roles: dict[str, int] = {}
        for claim in self.claims:
            roles.setdefault(claim.role, len(roles))
        self._tier_codes, self._role_codes = names, roles
        self._tier: Picks = np.array([names[claim.tier] for claim in self.claims], np.intp)
        self._role: Picks = np.array([roles[claim.role] for claim in self.claims], np.intp)
        soft = [tiers[claim.tier].preemptible for claim in self.claims]
        self._soft: Flags = np.array(soft, np.bool_)
        self._lawful: dict[tuple[str, str, int], Flags] = {}

    def importance(self, victim: int) -> tuple[int, int, int, int]:
        """Sorts the most important first."""
        return -int(self.rank[victim]), -int(self.priority[victim]), -self.work[victim], victim

    def cost(self, victims: Sequence[int]) -> tuple[int, int, int, int]:
        """What the contract compares of a set of victims: highest rank, highest priority, how many, work lost."""
        rank = max(int(self.rank[victim]) for victim in victims)
        priority = max(int(self.priority[victim]) for victim in victims)
        return rank, priority, len(victims), sum(self.work[victim] for victim in victims)

    def lawful(self, claim: Claim) -> Flags:
        """`[K]`: whom this task may take, by either rule; says nothing of who is taken already."""
        key = claim.tier, claim.role, claim.priority
        flags = self._lawful.get(key)
        if flags is None:
            flags = self._soft & (self.rank < self._tiers[claim.tier].rank)
            same = (self._tier == self._tier_codes[claim.tier]) & (self._role == self._role_codes.get(claim.role, -1))
            flags |= same & (self.priority < claim.priority)
            self._lawful[key] = flags
        return flags
