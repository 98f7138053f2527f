"""Policy beyond the law: settings per tier, none of which does anything unless it is set. See `docs/policy.md`.

In a snapshot they stand under `policy`, by name and then by tier: `{"min_run_s": {"devel": 60}}`. A tier that a setting
does not name has its default, which is what the law alone says. The service has settings of the same names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from priority.errors import Invalid
from priority.printable import printable

HOUR_US = 3_600_000_000
"""What "per hour" means: the hour before `now`."""

WORK = 1_000_000
"""So much work (milli-cores times microseconds) is a thousandth of a cpu-second, in which budgets are counted: a
task's work is rounded down to whole ones.
"""

_MOST = 1e12

PerTier = Mapping[str, int]

POLICY: Mapping[str, tuple[Any, str]] = {
    "min_run_s": ({}, "Seconds that a task of the tier has run before it may be a victim at all"),
    "young_s": ({}, "Seconds for which a task of the tier is a victim only where none that ran longer will do"),
    "preempted_per_hour": ({}, "How often one task of the tier may be a victim in an hour"),
    "gone_at_once": ({}, "How many tasks of one job of the tier may be gone at a time by preemption"),
    "own_gone_at_once": ({}, "The least that a job of the tier may set for itself (preempt.at_once); without it, none"),
    "destroys_per_hour": ({}, "cpu-seconds of work that one role's tasks of the tier may destroy in an hour"),
    "loses_per_hour": ({}, "cpu-seconds of work that one role's tasks of the tier may lose in an hour"),
    "holds_after_s": ({}, "Seconds after which a task of the tier that waits keeps a node from smaller ones"),
    "backoff_s": (
        {},
        "Seconds that a task of the tier waits at least after it has failed, twice as long each time more",
    ),
    "holds_at_once": ({}, "How many tasks of the tier keep a node at a time, the oldest first; 1 if not given"),
}
"""Settings of the engine by name: (default, what it does), each a value by tier. A name that is not here is refused."""

_SECONDS = frozenset({"min_run_s", "young_s", "holds_after_s", "backoff_s"})
_WORK = frozenset({"destroys_per_hour", "loses_per_hour"})
COUNTS = POLICY.keys() - _SECONDS - _WORK
"""Settings of which a value is a whole number."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings, checked, in the engine's units: microseconds, numbers, thousandths of a cpu-second."""

    min_run_s: PerTier = field(default_factory=dict)
    young_s: PerTier = field(default_factory=dict)
    preempted_per_hour: PerTier = field(default_factory=dict)
    gone_at_once: PerTier = field(default_factory=dict)
    own_gone_at_once: PerTier = field(default_factory=dict)
    destroys_per_hour: PerTier = field(default_factory=dict)
    loses_per_hour: PerTier = field(default_factory=dict)
    holds_after_s: PerTier = field(default_factory=dict)
    holds_at_once: PerTier = field(default_factory=dict)
    backoff_s: PerTier = field(default_factory=dict)

    @property
    def spares(self) -> bool:
        """Whether any setting says who may be a victim, or who rather not."""
        hard = self.min_run_s or self.preempted_per_hour
        return bool(hard or self.young_s or self.shares)

    @property
    def shares(self) -> bool:
        """Whether any setting is a budget that the victims of one plan share."""
        jobs = self.gone_at_once or self.own_gone_at_once
        return bool(jobs or self.destroys_per_hour or self.loses_per_hour)

    def at_once(self, tier: str, own: int | None) -> int | None:
        """How many tasks of a job of a tier may be gone at a time, if it has set `own` for itself; None: any number."""
        least = self.own_gone_at_once.get(tier)
        return self.gone_at_once.get(tier) if own is None or least is None else max(own, least)


NONE = Policy()


def read(value: Any, tiers: Mapping[str, Any], path: str = "policy") -> Policy:
    """Check settings as they stand in a document; `Invalid` names the path of what is wrong."""
    if not isinstance(value, Mapping):
        raise Invalid(path, "must be a JSON object")
    if not value:
        return NONE
    for name in value:
        if name not in POLICY:
            raise Invalid(f"{path}.{name}", f"is not a setting; there are: {', '.join(sorted(POLICY))}")
    found = {one.name: _by_tier(one.name, value[one.name], tiers, path) for one in fields(Policy) if one.name in value}
    return Policy(**found)


def _by_tier(name: str, value: Any, tiers: Mapping[str, Any], path: str) -> PerTier:
    if not isinstance(value, Mapping):
        raise Invalid(f"{path}.{name}", 'must be an object with a value by tier, such as {"devel": 60}')
    for tier in value:
        if tier not in tiers:
            known = ", ".join(sorted(tiers)) or "none"
            raise Invalid(f"{path}.{name}.{_short(tier)}", f"is not a tier; there are {known}")
    return {tier: _amount(name, one, f"{path}.{name}.{tier}") for tier, one in value.items()}


def _short(key: Any) -> str:
    """A key of a user's in an error: on one line."""
    return printable(str(key)[:60])


def _amount(name: str, value: Any, path: str) -> int:
    """In the engine's units."""
    whole = name in COUNTS
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise Invalid(path, f"must be a {'whole ' if whole else ''}number")
    least = 1 if name == "own_gone_at_once" else 0
    if not least <= value <= _MOST:  # false for NaN and the infinities as well
        raise Invalid(path, f"must be from {least} to {_MOST:g}")
    return int(value) if whole else round(value * (1e6 if name in _SECONDS else 1e3))


@dataclass(frozen=True, slots=True)
class Past:
    """What happened before a round that budgets count, beside what its tasks say of themselves."""

    gone: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """By (role, job): tasks that were preempted, are on no node any more, and have not started again."""
    destroyed: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """By (role, tier): the work that they destroyed within the hour, in thousandths of a cpu-second."""
    lost: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """By (role, tier): the work that they lost."""

    def document(self) -> dict[str, Any]:
        """Plain JSON, work in cpu-seconds; empty parts are left out."""
        parts = (("gone", self.gone, 1), ("destroyed", self.destroyed, 1e3), ("lost", self.lost, 1e3))
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for name, amounts, unit in parts:
            for (role, other), amount in sorted(amounts.items()):
                if amount:
                    shown = amount if unit == 1 else amount / unit
                    found.setdefault(name, {}).setdefault(role, {})[other] = shown
        return found


NOTHING = Past()


def read_past(value: Any, tiers: Mapping[str, Any], path: str = "history") -> Past:
    """The inverse of `Past.document`; `Invalid` names the path of what is wrong."""
    if not isinstance(value, Mapping):
        raise Invalid(path, "must be a JSON object")
    names = tuple(one.name for one in fields(Past))
    for name in value:
        if name not in names:
            raise Invalid(f"{path}.{name}", f"is not known; there are {', '.join(names)}")
    return Past(*(_past(name, value.get(name, {}), tiers, f"{path}.{name}") for name in names))


def _past(name: str, value: Any, tiers: Mapping[str, Any], path: str) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    if not isinstance(value, Mapping):
        raise Invalid(path, "must be an object by role")
    for role, amounts in value.items():
        if not isinstance(amounts, Mapping):
            raise Invalid(f"{path}.{role}", f"must be an object by {'job' if name == 'gone' else 'tier'}")
        for other, amount in amounts.items():
            place = f"{path}.{role}.{other}"
            if name != "gone" and other not in tiers:
                raise Invalid(place, f"is not a tier; there are {', '.join(sorted(tiers)) or 'none'}")
            if isinstance(amount, bool) or not isinstance(amount, int if name == "gone" else int | float):
                raise Invalid(place, f"must be a {'whole ' if name == 'gone' else ''}number")
            if not 0 <= amount <= _MOST:
                raise Invalid(place, f"must be from 0 to {_MOST:g}")
            found[role, other] = int(amount) if name == "gone" else round(amount * 1e3)
    return found
