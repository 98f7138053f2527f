"""The cluster at a glance: how full it is and with what, what waits and why.

How much each tier holds is told to everyone, like what is held of each node; what waits, only of one's own roles.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from priority.job import Job
from priority.node import NodeState
from priority.reason import Reason
from priority.records import User
from priority.resources import Resources, total
from priority.service.access import visible_roles
from priority.service.parts import Parts

SHOWN = 12
"""So many of the jobs that wait are told one by one: of the highest tier first, there who has waited longest."""

Found = tuple[str, str, int, int, Reason | None]
"""See `ports.Reader.waiting`."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job of which `count` instances wait for room, since when, and why one of them does."""

    job: Job
    count: int
    since_us: int
    reason: Reason | None


@dataclass(slots=True)
class Cause:
    """Why some wait: a reason's `code`, one such `message`, and for how many instances and jobs it is so."""

    code: str
    message: str
    instances: int = 0
    jobs: int = 0


@dataclass(frozen=True, slots=True)
class Overview:
    """Held units. `capacity` is that of nodes that take work; `held` is by tier, highest first, each tier there."""

    capacity: Resources
    held: dict[str, Resources]
    jobs: int
    """So many jobs have instances that wait."""
    instances: int
    causes: list[Cause] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    last_event: int = 0


def overview(parts: Parts, actor: User) -> Overview:
    """As the actor may see it."""
    ranked = sorted(parts.tiers.values(), key=lambda tier: -tier.rank)
    place = {tier.name: number for number, tier in enumerate(ranked)}
    with parts.store.read() as reader:
        last_event = reader.last_event()
        holding = reader.holding()
        nodes = [one.node for one in reader.nodes() if one.node.state is NodeState.UP and not one.drained]
        found = reader.waiting(visible_roles(actor))
        found.sort(key=lambda one: (place.get(one[1], len(place)), one[3], one[0]))
        jobs = reader.jobs_of([one[0] for one in found[:SHOWN]])
    held = {tier: total(amounts for (_, its, _), amounts in holding.items() if its == tier) for tier in place}
    return Overview(
        capacity=total(node.capacity for node in nodes),
        held=held,
        jobs=len(found),
        instances=sum(one[2] for one in found),
        causes=_causes(found),
        waiting=[Waiting(jobs[uid], many, since, why) for uid, _, many, since, why in found[:SHOWN] if uid in jobs],
        last_event=last_event,
    )


def _causes(found: Iterable[Found]) -> list[Cause]:
    """The most frequent first."""
    causes: dict[str, Cause] = {}
    for _, _, many, _, why in found:
        reason = why or Reason("new", "not looked at yet")
        cause = causes.setdefault(reason.code, Cause(reason.code, reason.message))
        cause.instances += many
        cause.jobs += 1
    return sorted(causes.values(), key=lambda cause: (-cause.instances, cause.code))
