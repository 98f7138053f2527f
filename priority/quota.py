"""May this role, and this user in it, have that much more?

Pure: the caller says what is held already and what the quota is, in one transaction, and does what
the answer allows in the same one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from priority.resources import Resources, minus, plain, show_amount


@dataclass(frozen=True, slots=True)
class Admitted:
    """There is room in the quota."""


@dataclass(frozen=True, slots=True)
class Refused:
    """There is not: every number that a user needs to see why, in held units."""

    owner: str
    """Whose quota it is: `role physics, tier prod` or `user ada of role physics, tier prod`."""
    quota: Resources
    use: Resources
    ask: Resources
    short: Resources
    """By how much use + ask exceeds the quota, only where it does."""

    @property
    def message(self) -> str:
        """One line with the numbers of each resource that is short."""
        parts = [
            f"{name}: quota {show_amount(name, self.quota[name])}, in use {show_amount(name, self.use.get(name, 0))}, "
            f"asked {show_amount(name, self.ask.get(name, 0))}, short by {show_amount(name, amount)}"
            for name, amount in sorted(self.short.items())
        ]
        return f"the quota of {self.owner} does not allow it: " + "; ".join(parts)

    def plain(self) -> dict[str, object]:
        """The same in plain JSON, users' units."""
        numbers = {"quota": self.quota, "use": self.use, "ask": self.ask, "short": self.short}
        return {"owner": self.owner, **{name: plain(vector) for name, vector in numbers.items()}}


def admit(
    ask: Mapping[str, int], use: Mapping[str, int], quota: Mapping[str, int] | None, owner: str
) -> Admitted | Refused:
    """Whether `use + ask <= quota` in each resource that `ask` asks for and `quota` names.

    A resource that a quota does not name is not limited; no quota at all (None) limits nothing: whether
    a role without any prod quota may run prod is the caller's rule (see `service.jobs`). What is not asked
    for is not looked at, so that a use over a lowered quota never blocks work on something else.
    """
    if quota is None:
        return Admitted()
    short = {
        name: use.get(name, 0) + ask[name] - limit
        for name, limit in quota.items()
        if ask.get(name, 0) > 0 and use.get(name, 0) + ask[name] > limit
    }
    return Refused(owner, dict(quota), dict(use), dict(ask), short) if short else Admitted()


def lowered_below_use(new: Mapping[str, int] | None, use: Mapping[str, int]) -> Resources:
    """By how much `use` exceeds a new quota, where it does: a change that is refused unless forced."""
    if new is None:
        return {}
    return {name: amount for name, amount in minus(use, new).items() if name in new and amount > 0}


def largest(reserve: Mapping[str, int], running: Mapping[str, int]) -> Resources:
    """What a cron job takes of a guarantee: of each resource what is kept for its runs or what they hold, if more."""
    return {name: max(reserve.get(name, 0), running.get(name, 0)) for name in [*reserve, *running]}


def beyond(reserve: Mapping[str, int], running: Mapping[str, int]) -> Resources:
    """What is kept for a cron job's runs and not held by one just now."""
    return {name: kept - running.get(name, 0) for name, kept in reserve.items() if kept > running.get(name, 0)}


def oversold(guarantees: Mapping[str, Mapping[str, int]], capacity: Mapping[str, int]) -> list[str]:
    """Warnings, one for each resource of which the roles' guarantees add up to more than the cluster has."""
    sums: Resources = {}
    for quota in guarantees.values():
        for name, amount in quota.items():
            sums[name] = sums.get(name, 0) + amount
    return [
        f"the prod quotas add up to {show_amount(name, amount)} {name}, but the cluster has "
        f"{show_amount(name, capacity.get(name, 0))}: "
        f"{show_amount(name, amount - capacity.get(name, 0))} too many are promised"
        for name, amount in sorted(sums.items())
        if amount > capacity.get(name, 0)
    ]
