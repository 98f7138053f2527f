"""What runs on room that is guaranteed to others, who do not use it now.

A quota of a tier that is not preemptible is a guarantee, but nothing stands empty for it: what its role does not use,
tasks of preemptible tiers run on, of whatever role, and give back by preemption. Nobody's task is the one that
borrows: of a tier, what it and those above it hold beyond the room that nobody is guaranteed is borrowed, since lower
tiers give way first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from priority.resources import Resources, total
from priority.tier import Tier

Owner = tuple[str, str]
"""(role, tier)."""


@dataclass(frozen=True, slots=True)
class Borrowed:
    """So much of what a tier holds, and of whose idle guarantees: each (role, tier), the most first, and how much."""

    amounts: Resources
    lenders: tuple[tuple[Owner, Resources], ...]


def borrowed(
    tier: str,
    tiers: Mapping[str, Tier],
    size: Mapping[str, int],
    guarantees: Mapping[Owner, Resources],
    held: Mapping[Owner, Resources],
) -> Borrowed | None:
    """What a preemptible tier runs on that is others'; None: nothing. `size` is the cluster's, `held` of every tier."""
    idle: dict[Owner, Resources] = {}
    promised: Resources = {}
    for owner, quota in guarantees.items():
        if not tiers[owner[1]].preemptible:
            mine = held.get(owner, {})
            idle[owner] = {name: amount - mine.get(name, 0) for name, amount in quota.items()}
            idle[owner] = {name: amount for name, amount in idle[owner].items() if amount > 0}
            promised = total([promised, idle[owner]])
    firm = total(use for (_, name), use in held.items() if not tiers[name].preemptible)
    soft = total(
        use for (_, name), use in held.items() if tiers[name].preemptible and tiers[name].rank >= tiers[tier].rank
    )
    open_ = {name: max(0, size.get(name, 0) - firm.get(name, 0) - amount) for name, amount in promised.items()}
    amounts = {name: soft.get(name, 0) - room for name, room in open_.items() if soft.get(name, 0) > room}
    if not amounts:
        return None
    lenders = [(owner, {name: some[name] for name in amounts if name in some}) for owner, some in idle.items()]
    ordered = sorted(
        ((owner, some) for owner, some in lenders if some), key=lambda one: (-max(one[1].values()), one[0])
    )
    return Borrowed(amounts, tuple(ordered))
