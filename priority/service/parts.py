"""What every verb and the scheduler are made of; `build` fills it in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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

    def ring_all(self) -> None:
        """Tell the scheduler that roles or nodes have changed."""
        self.queue.ring(max(self.tiers.values(), key=lambda tier: tier.rank).name, (ALL,))
