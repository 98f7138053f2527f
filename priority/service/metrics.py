"""What an operator's monitoring asks for, as it is at this moment: nothing is counted here that dies with a process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from priority.node import NodeState
from priority.reason import Reason
from priority.records import NodeRecord, PreemptionQuery, PreemptionSum
from priority.resources import Resources, total
from priority.service.parts import Parts

HOUR_US = 3_600 * 10**6


@dataclass(frozen=True, slots=True)
class Wait:
    """How many instances of a tier wait for room, by the code of why, and when the first of them began to."""

    codes: dict[str, int]
    since_us: int


@dataclass(frozen=True, slots=True)
class Metrics:
    """Amounts are held units. Preemptions are those of the last hour: the ledger forgets."""

    now_us: int
    nodes: dict[NodeState, int]
    """What is drained counts as draining."""
    capacity: Resources
    """Of nodes that take work."""
    held: dict[tuple[str, str], Resources]
    """(role, tier) -> what its tasks that are on a node hold."""
    quota: dict[tuple[str, str], Resources]
    waits: dict[str, Wait]
    preemptions: list[PreemptionSum]
    last_event: int
    epoch: int
    """So often a scheduler took the lead."""
    led: bool


def metrics(parts: Parts) -> Metrics:
    """In one transaction that reads."""
    now_us = parts.clock.now_us()
    with parts.store.read() as reader:
        records, leader, roles = reader.nodes(), reader.leader(), reader.roles()
        holding, waiting = reader.holding(), reader.waiting()
        preemptions = reader.preemption_sums(PreemptionQuery(since_us=now_us - HOUR_US))
        last_event = reader.last_event()
    states = [_state(one) for one in records]
    taking = [one.node.capacity for one, state in zip(records, states, strict=True) if state is NodeState.UP]
    held: dict[tuple[str, str], list[Resources]] = {}
    for (role, tier, _), amounts in holding.items():
        held.setdefault((role, tier), []).append(amounts)
    return Metrics(
        now_us=now_us,
        nodes={state: Counter(states)[state] for state in NodeState},
        capacity=total(taking),
        held={owner: total(amounts) for owner, amounts in held.items()},
        quota={(name, tier): dict(amounts) for name, role in roles.items() for tier, amounts in role.quota.items()},
        waits=_waits(parts.tiers, now_us, waiting),
        preemptions=preemptions,
        last_event=last_event,
        epoch=leader[1] if leader is not None else 0,
        led=leader is not None and now_us < leader[2],
    )


def _state(record: NodeRecord) -> NodeState:
    up = record.node.state is NodeState.UP
    return NodeState.DRAINING if up and record.drained else record.node.state


def _waits(
    tiers: Iterable[str], now_us: int, waiting: Iterable[tuple[str, str, int, int, Reason | None]]
) -> dict[str, Wait]:
    """Every tier is there, also where nothing waits."""
    found = {tier: Wait({}, now_us) for tier in tiers}
    for _, tier, many, since_us, why in waiting:
        before = found.setdefault(tier, Wait({}, since_us))
        code = why.code if why is not None else "new"
        codes = {**before.codes, code: before.codes.get(code, 0) + many}
        found[tier] = Wait(codes, min(before.since_us, since_us))
    return found
