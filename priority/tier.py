"""Tiers: what a task's work is worth to the house. Data, not code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tier:
    """A rank (higher goes first and may take from lower) and whether its tasks may be preempted.

    The quota of a tier that is not preemptible is a guarantee, checked at admission; that of a
    preemptible one is a ceiling on what holds room at once, checked when a task is placed.
    """

    name: str
    rank: int
    preemptible: bool


PROD = Tier("prod", rank=2, preemptible=False)
DEVEL = Tier("devel", rank=1, preemptible=True)
OPPORTUNISTIC = Tier("opportunistic", rank=0, preemptible=True)

DEFAULT_TIERS: Mapping[str, Tier] = {tier.name: tier for tier in (PROD, DEVEL, OPPORTUNISTIC)}
