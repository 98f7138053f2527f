"""The only place that picks concrete parts."""

from __future__ import annotations

import gc
import logging
import signal
from dataclasses import dataclass

from priority.errors import Deposed
from priority.ports import Backend, Store
from priority.queue import embedded
from priority.records import User
from priority.service import explain, metrics, overview, risk
from priority.service.crons import Crons
from priority.service.jobs import Jobs
from priority.service.largest import Largest
from priority.service.loop import Loop
from priority.service.nodes import Nodes
from priority.service.parts import Parts
from priority.service.preemptions import Preemptions
from priority.service.roles import Roles
from priority.service.settings import Settings
from priority.service.users import Users
from priority.service.whatif import WhatIf
from priority.store import open_store
from priority.tier import DEFAULT_TIERS

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Service:
    """Every verb, over one set of parts."""

    parts: Parts
    jobs: Jobs
    roles: Roles
    users: Users
    nodes: Nodes
    preemptions: Preemptions
    whatif: WhatIf
    largest: Largest
    crons: Crons

    def explain(self, actor: User, ref: str) -> explain.Explanation:
        """See `priority.service.explain.explain`."""
        return explain.explain(self.parts, actor, ref)

    def risk(self, actor: User, ref: str) -> risk.Risk:
        """See `priority.service.risk.risk`."""
        return risk.risk(self.parts, actor, ref)

    def overview(self, actor: User) -> overview.Overview:
        """See `priority.service.overview.overview`."""
        return overview.overview(self.parts, actor)

    def metrics(self) -> metrics.Metrics:
        """See `priority.service.metrics.metrics`."""
        return metrics.metrics(self.parts)

    def close(self) -> None:
        """Let go of every part."""
        self.parts.close()


def assemble(parts: Parts) -> Service:
    """The verbs over these parts."""
    return Service(
        parts,
        Jobs(parts),
        Roles(parts),
        Users(parts),
        Nodes(parts),
        Preemptions(parts),
        WhatIf(parts),
        Largest(parts),
        Crons(parts),
    )


def build(settings: Settings, *, consumer: str = "api") -> Service:
    """Over the store, queue and backend that the settings name. Does not upgrade the database.

    `consumer` is who listens: only a scheduler does, under its own name.
    """
    from priority.queue import RedisQueue

    store = open_store(settings.database_url, ahead=True)
    tiers = [tier.name for tier in sorted(DEFAULT_TIERS.values(), key=lambda tier: -tier.rank)]
    url = redis_url(settings)
    queue = RedisQueue(url, tiers, consumer=consumer)
    return assemble(Parts(store, queue, _backend(settings, store, url, consumer), settings))


def _backend(settings: Settings, store: Store, url: str, consumer: str) -> Backend:
    if settings.backend == "mesos":
        from priority.backend.mesos import MesosBackend
        from priority.backend.mesos_known import Times

        return MesosBackend(
            settings.mesos_master,
            store,
            role=settings.mesos_role,
            user=settings.mesos_user,
            principal=settings.mesos_principal,
            secret=settings.mesos_secret,
            failover_s=settings.mesos_failover_s,
            reserve=settings.mesos_reserve,
            times=Times(
                room_s=settings.mesos_room_s,
                hold_s=settings.mesos_hold_s,
                silent_s=settings.silent_s,
                gone_s=settings.lease_s + settings.lease_margin_s,
            ),
        )
    from priority.backend.local import LocalBackend

    return LocalBackend(
        url,
        silent_s=settings.silent_s,
        lease_s=settings.lease_s,
        lease_margin_s=settings.lease_margin_s,
        consumer=consumer,
    )


def redis_url(settings: Settings) -> str:
    """The Redis that the settings name, or the embedded one of the state folder."""
    return settings.redis or embedded.url(settings.state)


GARBAGE = (20_000, 20, 50)
"""When the scheduler's garbage is looked for. It holds a million objects and makes no cycles to speak of: with Python's
own figures (700, 10, 10) every tenth millisecond of a flood of jobs went into looking through what stays.
"""


def run_scheduler(settings: Settings) -> int:
    """Lead and schedule until SIGTERM or SIGINT; the exit status (0: asked to stop, 7: another leads now)."""
    gc.set_threshold(*GARBAGE)
    service = build(settings, consumer="leader")
    loop = Loop(service.parts)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: loop.end())
    try:
        loop.run()
    except Deposed as error:
        log.warning("%s", error)
        return Deposed.exit_status
    finally:
        service.close()
    return 0
