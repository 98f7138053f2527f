"""The contract by brute force, for one pending unit on a tiny cluster: every placement with every set of victims.

Shares nothing with the engine but the nouns. Exponential, so: a few nodes, about a dozen running tasks.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, combinations, product

from priority.claim import Claim
from priority.snapshot import Snapshot

Cost = tuple[tuple[bool, int], int, int, int]


def best(snapshot: Snapshot) -> tuple[str, Cost | None]:
    """("launch" | "reserve" | "kill" | "wait", the least cost of the victims) for the only pending unit."""
    unit = sorted(snapshot.pending(), key=lambda claim: claim.id)
    nodes = sorted(node.name for node in snapshot.nodes() if node.state == "up")
    places = [place for place in product(nodes, repeat=len(unit)) if allowed(snapshot, unit, place)]
    if any(fits(snapshot, unit, place, set(), now=True) for place in places):
        return "launch", None
    if any(fits(snapshot, unit, place, set(), now=False) for place in places):
        return "reserve", None
    costs = [cost for place in places for cost in kills(snapshot, unit, place)]
    return ("kill", min(costs)) if costs else ("wait", None)


def kills(snapshot: Snapshot, unit: list[Claim], place: tuple[str, ...]) -> list[Cost]:
    """What each set of lawful victims that makes room for this placement costs."""
    prey = [
        victim
        for victim in snapshot.tasks()
        if victim.state in ("running", "starting")
        and not spared(snapshot, victim)
        and any(
            may_take(snapshot, claim, victim) for claim, node in zip(unit, place, strict=True) if node == victim.node
        )
    ]
    sets = chain.from_iterable(combinations(prey, count) for count in range(1, len(prey) + 1))
    return [
        cost(snapshot, victims)
        for victims in sets
        if fits(snapshot, unit, place, {victim.id for victim in victims}, now=False)
        and affordable(snapshot, unit[0], victims)
    ]


# --- policy: of units whose members are of one role and tier ---------------------------------------------------------


def setting(snapshot: Snapshot, name: str, claim: Claim, default: float) -> float:
    found: float = snapshot.policy.get(name, {}).get(claim.tier, default)
    return found


def ran_s(snapshot: Snapshot, claim: Claim) -> float:
    return (snapshot.now_us - claim.since_us) / 1e6


def spared(snapshot: Snapshot, claim: Claim) -> bool:
    lately = [at_us for at_us in claim.preempted_us if snapshot.now_us - at_us < 3_600_000_000]
    often = len(lately) >= setting(snapshot, "preempted_per_hour", claim, 1e9)
    return often or ran_s(snapshot, claim) < setting(snapshot, "min_run_s", claim, 0)


def affordable(snapshot: Snapshot, taker: Claim, victims: tuple[Claim, ...]) -> bool:
    """Within all budgets: gone of a job, lost by a role's tier, destroyed by that of the taker."""
    for victim in victims:
        job = [one for one in snapshot.tasks_of(victim.role, victim.job) if one.node is not None]
        least = setting(snapshot, "own_gone_at_once", victim, 0)
        usual = setting(snapshot, "gone_at_once", victim, 1e9)
        running = [one for one in job if one.state in ("running", "starting") and up(snapshot, one)]
        limits = [
            max(one.at_once, least) if one.at_once and least else usual for one in running if one.tier == victim.tier
        ]
        gone = [one for one in job if one.state == "preempting" or one in victims]
        if len(gone) + snapshot.past.gone.get((victim.role, victim.job), 0) > min(limits):
            return False
        lost = [one for one in victims if (one.role, one.tier) == (victim.role, victim.tier)]
        before = snapshot.past.lost.get((victim.role, victim.tier), 0) / 1e3
        if work_s(snapshot, lost) + before > setting(snapshot, "loses_per_hour", victim, 1e18):
            return False
    before = snapshot.past.destroyed.get((taker.role, taker.tier), 0) / 1e3
    return work_s(snapshot, victims) + before <= setting(snapshot, "destroys_per_hour", taker, 1e18)


def up(snapshot: Snapshot, claim: Claim) -> bool:
    node = snapshot.node(claim.node or "")
    return node is not None and node.state == "up"


def work_s(snapshot: Snapshot, claims: Iterable[Claim]) -> float:
    return sum(one.request.get("cpus", 0) / 1000 * max(0, ran_s(snapshot, one)) for one in claims)


def may_take(snapshot: Snapshot, claim: Claim, victim: Claim) -> bool:
    mine, theirs = snapshot.tiers[claim.tier], snapshot.tiers[victim.tier]
    if theirs.preemptible and mine.rank > theirs.rank:
        return True
    return claim.tier == victim.tier and claim.role == victim.role and claim.priority > victim.priority


def cost(snapshot: Snapshot, victims: tuple[Claim, ...]) -> Cost:
    work = [one.request.get("cpus", 0) * (snapshot.now_us - one.since_us) for one in victims]
    young = [ran_s(snapshot, one) < setting(snapshot, "young_s", one, 0) for one in victims]
    ranks = [(late, snapshot.tiers[one.tier].rank) for late, one in zip(young, victims, strict=True)]
    return max(ranks), max(one.priority for one in victims), len(victims), sum(work)


def fits(snapshot: Snapshot, unit: list[Claim], place: tuple[str, ...], killed: set[str], *, now: bool) -> bool:
    """Room on every node for what arrives: beside all that holds room, or once the dying and victims are gone."""
    for node in set(place):
        here = [claim for claim, where in zip(unit, place, strict=True) if where == node]
        stays = [one for one in snapshot.tasks_on(node) if one.id not in killed]
        if not now:
            stays = [one for one in stays if one.state in ("running", "starting")]
        for name in {name for claim in here for name in claim.request}:
            capacity = snapshot.node(node).capacity.get(name, 0)  # type: ignore[union-attr]
            if sum(one.request.get(name, 0) for one in [*here, *stays]) > capacity:
                return False
    return True


def allowed(snapshot: Snapshot, unit: list[Claim], place: tuple[str, ...]) -> bool:
    """Constraints, limits and ceilings."""
    after = [(one, one.node) for one in snapshot.tasks() if one.node is not None]
    after += list(zip(unit, place, strict=True))
    for claim, name in zip(unit, place, strict=True):
        for one in claim.constraints:
            value = attribute(snapshot, name, one.attribute)
            same = [c for c, n in after if (c.role, c.job) == (claim.role, claim.job)]
            same = [c for c, n in after if c in same and attribute(snapshot, n, one.attribute) == value]
            if one.within is not None and value not in one.within:
                return False
            if one.outside is not None and value in one.outside:
                return False
            if one.limit is not None and (value is None or len(same) > one.limit):
                return False
        rules = snapshot.role(claim.role)
        holders = [c for c, n in after if snapshot.node(n).state != "down" and c.tier == claim.tier]  # type: ignore[union-attr]
        for user, quota in [(None, rules.quota), *((claim.user, rules.users.get(claim.user, {})) for _ in "1")]:
            if not snapshot.tiers[claim.tier].preemptible or claim.tier not in quota:
                continue
            mine = [c for c in holders if c.role == claim.role and user in (None, c.user)]
            for resource, most in quota[claim.tier].items():
                if claim.request.get(resource) and sum(c.request.get(resource, 0) for c in mine) > most:
                    return False
    return True


def attribute(snapshot: Snapshot, node: str, name: str) -> str | None:
    return node if name == "host" else snapshot.node(node).attributes.get(name)  # type: ignore[union-attr]
