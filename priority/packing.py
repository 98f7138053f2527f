"""Whether a whole gang would find room: by counting where its members are alike, else by a search of fixed effort."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from priority.claim import Claim
from priority.facts import Facts, Unit
from priority.shape import Flags
from priority.snapshot import Plane

EFFORT_MAX = 20_000
"""So many placements of members are tried in the searches of one `certify`; a gang beyond is passed over."""


class Packing:
    """One for each `certify`: what its searches have cost is counted over all of them."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.effort = 0

    def packs(self, unit: Unit, rooms: Sequence[Plane], one_of: Flags | None = None) -> bool:
        """Whether all members find a node with room and within the rules, what the plan gives them undone.

        `rooms` is what each of them finds. With `one_of`, at least one of them on such a node. Exact by counting for
        members that are alike and have no limit; else exact while the effort lasts.
        """
        facts = self.facts
        ids = frozenset(claim.id for claim in unit)
        masks = [self._mask(claim, room, ids) for claim, room in zip(unit, rooms, strict=True)]
        if not all(mask.any() for mask in masks):
            return False
        if one_of is not None and not any((mask & one_of).any() for mask in masks):
            return False
        first = unit[0]
        counts = facts.shape(first).count(rooms[0], len(unit)) * masks[0]
        alike = all(_same(first, claim) for claim in unit)
        if alike and (counts.sum() < len(unit)):
            return False
        if alike and (first.role, first.job) not in facts.limited:
            return True
        return self._search(unit, rooms, [np.flatnonzero(mask).tolist() for mask in masks], one_of)

    def _mask(self, claim: Claim, room: Plane, ids: frozenset[str]) -> Flags:
        return self.facts.shape(claim).fits(room) & self.facts.may_be(claim, ids)

    def _search(self, unit: Unit, rooms: Sequence[Plane], rows: Sequence[list[int]], one_of: Flags | None) -> bool:
        facts = self.facts
        ids = frozenset(claim.id for claim in unit)
        vectors = [facts.shape(claim).vector for claim in unit]
        at: dict[int, int] = {}

        def fits(depth: int, row: int) -> bool:
            taken = sum((vectors[mate] for mate, where in at.items() if where == row), np.zeros_like(vectors[0]))
            left = rooms[depth][:, row] - taken
            return all(left[resource] >= amount for resource, amount in facts.shape(unit[depth]).asks)

        def rest(depth: int) -> bool:
            if depth == len(unit):
                return one_of is None or any(one_of[row] for row in at.values())
            for row in rows[depth]:
                self.effort += 1
                if self.effort > EFFORT_MAX:
                    return False
                if fits(depth, row) and self._within(unit, depth, row, at, ids):
                    at[depth] = row
                    if rest(depth + 1):
                        return True
                    del at[depth]
            return False

        return rest(0)

    def _within(self, unit: Unit, depth: int, row: int, at: dict[int, int], ids: frozenset[str]) -> bool:
        """Limits among the members that have a place so far; those of all others are in the rows already."""
        facts, claim = self.facts, unit[depth]
        if (claim.role, claim.job) not in facts.limited:
            return True
        mates = [mate for mate in at if (unit[mate].role, unit[mate].job) == (claim.role, claim.job)]
        for other in [depth, *mates]:
            for one in unit[other].constraints:
                if one.limit is None:
                    continue
                codes, _ = facts.coded(one.attribute)
                code = codes[row]
                if code < 0 or (other != depth and codes[at[other]] != code):
                    continue
                near = sum(bool(codes[at[mate]] == code) for mate in mates)
                if facts.spread(claim, one.attribute, ids)[code + 1] + near >= one.limit:
                    return False
        return True


def alike(unit: Unit) -> bool:
    """Whether all members may take the same victims."""
    return len({Facts.power(claim) for claim in unit}) == 1


def _same(one: Claim, other: Claim) -> bool:
    mine = one.request, one.constraints, one.role, one.job, one.tier, one.priority
    return mine == (other.request, other.constraints, other.role, other.job, other.tier, other.priority)
