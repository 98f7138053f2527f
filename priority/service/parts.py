"""What every verb and the scheduler are made of; `build` fills it in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from priority.job import Job
from priority.ports import Backend, Clock, Queue, Store
from priority.service.clock import SystemClock
from priority.service.ids import NewId, new_id
from priority.service.settings import Settings
from priority.tier import DEFAULT_TIERS, Tier

ALL = "all"
"""Rung in place of a job's uid: roles or nodes have changed."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The outside world behind its ports, and the settings."""

    store: Store
    queue: Queue
    backend: Backend
    settings: Settings
    clock: Clock = field(default_factory=SystemClock)
    new_id: NewId = new_id
    tiers: Mapping[str, Tier] = field(default_factory=lambda: DEFAULT_TIERS)

    def close(self) -> None:
        """Let go of everything."""
        self.queue.close()
        self.backend.close()
        self.store.close()

    def ring(self, jobs: Iterable[Job], last_event: int | None) -> None:
        """After the commit: tell the scheduler and who watches events. Losing this costs latency, nothing else.

        One call for all, by the highest tier among them: what was committed together is decided together. Told apart,
        a lower tier might start, only to give way to a higher one of the same request a moment later.
        """
        of_tier: dict[str, list[str]] = {}
        for job in jobs:
            of_tier.setdefault(job.spec.tier, []).append(job.uid)
        if of_tier:
            ranked = sorted(of_tier, key=lambda tier: -self.tiers[tier].rank)
            self.queue.ring(ranked[0], [uid for tier in ranked for uid in of_tier[tier]], last_event)
        elif last_event is not None:
            self.queue.publish(last_event)

    def ring_all(self) -> None:
        """Tell the scheduler that roles or nodes have changed."""
        self.queue.ring(max(self.tiers.values(), key=lambda tier: tier.rank).name, (ALL,))
