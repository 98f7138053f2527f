"""What a task is allowed, apart from room: constraints, limits of its job, ceilings of its role and user.

Limits and ceilings count what dies (victims of this round too) until it is gone, and what this round launches
or reserves from the moment that it does: nothing that a round decides is over a limit or a ceiling at any time
while it is carried out. A limit that a task of this round brought also binds the job's tasks placed
after it with the same value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import numpy.typing as npt

from priority.claim import Claim
from priority.constraint import HOST, Constraint
from priority.planes import Planes
from priority.resources import Resources
from priority.snapshot import Snapshot

Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class OverCeiling:
    """The first ceiling, by owner and resource, that a unit would be over; amounts in held units."""

    role: str
    tier: str
    user: str | None
    resource: str
    ceiling: int
    held: int
    ask: int


@dataclass(slots=True)
class _Spread:
    """Where a job's tasks are: those that were there, those of this round, and the limits that these brought."""

    here: list[int]
    brought: Counter[tuple[str, int, int]] = field(default_factory=Counter)


class Rules:
    """The rules of one round. `N` nodes, by name; masks are `[N]`, True where a task may go."""

    def __init__(self, snapshot: Snapshot, planes: Planes) -> None:
        self._snapshot, self._planes = snapshot, planes
        self.up: Mask = planes.up()
        self._cached = planes.cached
        self._spreads: dict[tuple[str, str], _Spread | None] = dict.fromkeys(snapshot.limited())
        self._ceilings: dict[tuple[str, str, str], list[tuple[tuple[str, ...], Mapping[str, int]]]] = {}
        self._given: dict[tuple[str, ...], Resources] = {}
        self._nothing = not any(role.quota or role.users for role in snapshot.roles().values())
        """No role has any quota."""

    def remember(self, key: str, make: Callable[[], Codes]) -> Codes:
        """What follows from the nodes alone, until one of them changes."""
        found = self._cached.get(key)
        if found is None:
            found = self._cached[key] = make()
        return cast("Codes", found)

    # --- one task, one node: what never changes in a round ---

    def matches(self, claim: Claim) -> Mask:
        """Nodes, whatever their state, that meet the constraints as far as one node alone can tell."""
        key = "matches", claim.constraints
        mask = cast("Mask | None", self._cached.get(key))
        if mask is None:
            mask = np.ones(len(self.up), np.bool_)
            for one in claim.constraints:
                mask &= self._allowed(one)
            mask.flags.writeable = False
            self._cached[key] = mask
        return mask

    def may_take(self, claim: Claim) -> Mask:
        """The same, of nodes that are up."""
        key = "up", claim.constraints
        mask = cast("Mask | None", self._cached.get(key))
        if mask is None:
            mask = self.up & self.matches(claim)
            mask.flags.writeable = False
            self._cached[key] = mask
        return mask

    def meets(self, one: Constraint) -> Mask:
        """Nodes, whatever their state, that meet this one."""
        return self._allowed(one)

    def values(self, attribute: str, nodes: Mask) -> Counter[str]:
        """What these nodes have there: value -> how many of them; those without the attribute are in none."""
        codes, values = self._coded(attribute)
        names = list(values)
        return Counter(names[code] for code in codes[nodes].tolist() if code >= 0)

    def _allowed(self, one: Constraint) -> Mask:
        codes, values = self._coded(one.attribute)
        table = np.ones(len(values) + 1, np.bool_)  # the last: nodes without the attribute, whose code is -1
        if one.outside is not None:
            table[[values[value] for value in one.outside if value in values]] = False
        else:
            table[-1] = False
            if one.within is not None:
                table[:] = False
                table[[values[value] for value in one.within if value in values]] = True
        return table[codes]

    def _coded(self, attribute: str) -> tuple[Codes, dict[str, int]]:
        key = "codes", attribute
        coded = cast("tuple[Codes, dict[str, int]] | None", self._cached.get(key))
        if coded is None:
            values: dict[str, int] = {}
            codes = np.full(len(self.up), -1, np.intp)
            for row, name in enumerate(self._planes.names):
                node = self._snapshot.node(name)
                value = None if node is None else name if attribute == HOST else node.attribute(attribute)
                if value is not None:
                    codes[row] = values.setdefault(value, len(values))
            coded = codes, values
            self._cached[key] = coded
        return coded

    # --- limits ---

    @property
    def limited(self) -> bool:
        """Whether a limit may hold back anybody in this round."""
        return bool(self._spreads)

    def open(self, claim: Claim) -> Mask | None:
        """Nodes where one more task of the job is within its limits; None: everywhere."""
        spread = self._spread(claim)
        if spread is None:
            return None
        own = {(one.attribute, one.limit) for one in claim.constraints if one.limit is not None}
        if not own and not spread.brought:
            return None
        mask = np.ones(len(self.up), np.bool_)
        for attribute, limit in own:
            codes, count = self._count_by_value(spread, attribute)
            mask &= (count[codes + 1] < limit) | (codes < 0)
        for attribute, limit, code in spread.brought:
            codes, count = self._count_by_value(spread, attribute)
            if count[code + 1] >= limit:
                mask &= codes != code
        return mask

    def limits(self, claim: Claim) -> list[Constraint]:
        """The limits that bind a task: its own, and those that tasks of its job brought in this round."""
        spread = self._spread(claim)
        brought = {(attribute, limit) for attribute, limit, _ in spread.brought} if spread is not None else set()
        own = {(one.attribute, one.limit) for one in claim.constraints if one.limit is not None}
        return [Constraint(attribute, limit=limit) for attribute, limit in sorted(own | brought)]

    def _count_by_value(self, spread: _Spread, attribute: str) -> tuple[Codes, Codes]:
        """Each node's value of the attribute as a code (-1: none), and how many of a job there are by code + 1."""
        codes, values = self._coded(attribute)
        return codes, np.bincount(codes[spread.here] + 1, minlength=len(values) + 1)

    def _brings(self, claim: Claim, node: int) -> Counter[tuple[str, int, int]]:
        limits = ((one.attribute, one.limit) for one in claim.constraints if one.limit is not None)
        return Counter((attribute, limit, int(self._coded(attribute)[0][node])) for attribute, limit in limits)

    def job(self, claim: Claim) -> str | None:
        """The task's job, if a limit may hold back a task of it in this round."""
        return claim.job if (claim.role, claim.job) in self._spreads else None

    def _spread(self, claim: Claim) -> _Spread | None:
        key = claim.role, claim.job
        if key not in self._spreads:
            return None
        spread = self._spreads[key]
        if spread is None:
            rows = self._planes.rows()
            here = [rows[one.node] for one in self._snapshot.tasks_of(*key) if one.node is not None]
            spread = self._spreads[key] = _Spread(here)
        return spread

    # --- ceilings ---

    def over(self, claims: Iterable[Claim]) -> OverCeiling | None:
        """The ceiling that these tasks together would be over, None if none."""
        if self._nothing:
            return None
        asks: dict[tuple[str, ...], Resources] = {}
        quotas: dict[tuple[str, ...], Mapping[str, int]] = {}
        for claim in claims:
            for key, quota in self._ceilings_of(claim):
                quotas[key] = quota
                _add(asks.setdefault(key, {}), claim.request, 1)
        for key, ask in asks.items():
            held, given = self._snapshot.held(*key), self._given.get(key, {})
            for name in sorted(ask):
                if name in quotas[key] and ask[name]:
                    use = held.get(name, 0) + given.get(name, 0)
                    if use + ask[name] > quotas[key][name]:
                        user = key[2] if len(key) > 2 else None
                        return OverCeiling(key[0], key[1], user, name, quotas[key][name], use, ask[name])
        return None

    def _ceilings_of(self, claim: Claim) -> list[tuple[tuple[str, ...], Mapping[str, int]]]:
        owner = claim.role, claim.tier, claim.user
        found = self._ceilings.get(owner)
        if found is None:
            found = self._ceilings[owner] = []
            if self._snapshot.tiers[claim.tier].preemptible:
                role = self._snapshot.role(claim.role)
                if claim.tier in role.quota:
                    found.append((owner[:2], role.quota[claim.tier]))
                if claim.tier in role.users.get(claim.user, {}):
                    found.append((owner, role.users[claim.user][claim.tier]))
        return found

    # --- what this round gives ---

    @property
    def counts(self) -> bool:
        """Whether there is anything to count for `give`."""
        return bool(self._spreads) or not self._nothing

    def give(self, claim: Claim, node: int) -> None:
        """Count a task of this round on a node."""
        if not self.counts:
            return
        self._count(claim, 1)
        spread = self._spread(claim)
        if spread is not None:
            spread.here.append(node)
            spread.brought.update(self._brings(claim, node))

    def take_back(self, claim: Claim, node: int) -> None:
        """The inverse of `give`."""
        if not self.counts:
            return
        self._count(claim, -1)
        spread = self._spread(claim)
        if spread is not None:
            spread.here.remove(node)
            spread.brought -= self._brings(claim, node)

    def _count(self, claim: Claim, sign: int) -> None:
        for key, _ in self._ceilings_of(claim):
            _add(self._given.setdefault(key, {}), claim.request, sign)


def _add(total: Resources, vector: Mapping[str, int], sign: int) -> None:
    for name, amount in vector.items():
        total[name] = total.get(name, 0) + sign * amount
