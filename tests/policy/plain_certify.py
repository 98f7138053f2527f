"""The contract once more, slowly and in plain words: what `certify` is held against on small snapshots."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations

from plain_facts import Amounts, Decisions, Facts, Unit, add, covers

from priority.claim import RUNS, Claim
from priority.facts import Violation
from priority.keeping import kept_nodes
from priority.node import NodeState
from priority.snapshot import Snapshot

__all__ = ["CHECKS", "Violation", "certify"]

EFFORT_MAX = 20_000

PREY_MAX, PLACES_MAX = 10, 300
"""Cheaper victims for a gang are looked for among so many, and over so many ways to place it."""

Cost = tuple[tuple[bool, int], int, int, int]
"""(highest tier rank, the young above all others; highest priority; how many; work lost) of a set of victims."""


def certify(snapshot: Snapshot, plan: Decisions) -> list[Violation]:
    """Every violation, property by property; empty if the plan is good. Later properties need the earlier ones."""
    facts = Facts(snapshot, plan)
    found = [Violation("once", task, message) for task, message in once(facts, plan)]
    found += [Violation("legal", task, message) for task, message in legal(facts, plan)]
    if found:
        return found
    return [Violation(name, task, message) for name, check in CHECKS.items() for task, message in check(facts)]


Found = Iterator[tuple[str, str]]
"""(task, message)."""


def once(facts: Facts, plan: Decisions) -> Found:
    """Every pending task is in exactly one of launch, reserve, wait; nothing else is; nodes are known."""
    listed = [*plan.launch, *plan.reserve, *plan.wait]
    for one in listed:
        if one.task not in facts.pending:
            yield one.task, "is not a pending task of the snapshot"
    for one in [*plan.launch, *plan.reserve]:
        if one.node not in facts.nodes:
            yield one.task, f"goes to {one.node}, which is no node of the snapshot"
    names = [one.task for one in listed]
    for id in facts.pending:
        if names.count(id) != 1:
            yield id, f"is in {names.count(id)} of launch, reserve and wait"


def legal(facts: Facts, plan: Decisions) -> Found:
    """A victim runs or starts on that node, is named once, and its `for` is reserved there and may take it."""
    named: set[str] = set()
    for one in plan.preempt:
        victim = facts.claims.get(one.task)
        taker = facts.pending.get(one.preemptor)
        if victim is None or victim.state not in RUNS or victim.node != one.node:
            yield one.task, f"does not run on {one.node}"
        elif one.task in named:
            yield one.task, "is a victim twice"
        elif taker is None or facts.reserved.get(one.preemptor) != one.node:
            yield one.task, f"is killed for {one.preemptor}, which is not reserved on {one.node}"
        elif not facts.lawful(taker, victim):
            yield one.task, f"is killed for {one.preemptor}, which may not take it"
        named.add(one.task)


def fits(facts: Facts) -> Found:
    """Of what arrivals ask for: room is enough once the dying and victims are gone, and for launches even now."""
    for node, arrivals in facts.arrivals.items():
        for name in sorted(facts.asked(node)):
            if facts.room[node].get(name, 0) < 0:
                yield arrivals[0].id, f"{node} is over its {name} by {-facts.room[node][name]} when all have come"
        launches = [claim for claim in arrivals if claim.id in facts.launched]
        now = facts.free_now(node)
        for name in sorted({name for claim in launches for name, amount in claim.request.items() if amount}):
            if now.get(name, 0) < 0:
                yield launches[0].id, f"{node} is over its {name} by {-now[name]} by what is launched now"


def allowed(facts: Facts) -> Found:
    """Nodes are up and match; limits, ceilings (the dying and victims count) and whole gangs."""
    for id, node in facts.placed.items():
        claim = facts.pending[id]
        if not facts.matches(claim, node):
            yield id, f"may not be on {node}: it is not up or does not meet the constraints"
        for one in claim.constraints:
            value = facts.value(node, one.attribute)
            if one.limit is not None and facts.spread(claim, one.attribute, value) > one.limit:
                yield id, f"its job has more than {one.limit} tasks on one {one.attribute}"
        for user, quota in facts.ceilings(claim):
            held = facts.under(claim, user)
            for name in (name for name, amount in claim.request.items() if amount and name in quota):
                if held.get(name, 0) > quota[name]:
                    yield id, f"role {claim.role} is over its ceiling of {name}"
    for unit in facts.units():
        lists = {"launch" if c.id in facts.launched else "reserve" if c.id in facts.reserved else "wait" for c in unit}
        if len(lists) > 1:
            yield unit[0].id, f"its gang is in {' and '.join(sorted(lists))}"


def irreducible(facts: Facts) -> Found:
    """Without any one victim something that arrives on its node no longer fits."""
    for id in facts.victims:
        victim = facts.claims[id]
        assert victim.node is not None
        room = dict(facts.room[victim.node])
        add(room, victim.request, -1)
        if all(room.get(name, 0) >= 0 for name in facts.asked(victim.node)):
            yield id, "is killed for nothing: all that arrives fits without"


def needless_kill(facts: Facts) -> Found:
    """A unit with victims has no place, free or coming, without them, unless others hang on these victims."""
    for unit, victims in _takers(facts):
        room = _without(facts, unit, victims)
        if room is None or facts.over_ceiling(unit):
            continue
        if _pack(facts, unit, _plain(room)):
            yield unit[0].id, f"kills {', '.join(one.id for one in victims)} beside room for it"


def needless_wait(facts: Facts) -> Found:
    """A waiting unit has no place, free or coming, even if all that it may take were gone, by the rules for it."""
    for unit in facts.units():
        if any(claim.id not in facts.waiting for claim in unit) or facts.over_ceiling(unit):
            continue
        rooms = facts.open_to(unit)

        def room(claim: Claim, node: str, rooms: dict[str, Amounts] = rooms) -> Amounts:
            amounts = dict(rooms[node])
            for victim in facts.prey(claim, node) if not facts.budgets else ():
                add(amounts, victim.request)
            return amounts

        if _pack(facts, unit, room) or (unit[0].gang is None and facts.budgets and _affordable(facts, unit[0])):
            yield unit[0].id, f"waits ({facts.waiting[unit[0].id].code}) though there is room for it"


def _affordable(facts: Facts, claim: Claim) -> bool:
    """Whether victims within the budgets make room for a task on any node."""
    rooms = facts.open_to((claim,))
    for node in facts.nodes:
        if facts.matches(claim, node) and facts.within_limits(claim, node):
            prey = facts.prey(claim, node)
            for some in (some for count in range(1, len(prey) + 1) for some in combinations(prey, count)):
                here = dict(rooms[node])
                for victim in some:
                    add(here, victim.request)
                more = facts.victims | {one.id: claim.id for one in some}
                if covers(here, claim.request) and not facts.over_budget(more):
                    return True
    return False


def order(facts: Facts) -> Found:
    """Nothing waits that would fit if those behind it, and the victims that only they may take, were undone.

    Who stands in room that was kept for it by `for` stays. Gangs are looked at if their members have the same rights.
    A plan does not say when a task was given room: who waits does so in vain only by both orders that may have been.
    """
    early, late = (dict(_overtaken(facts, facts.turns(late=when))) for when in (False, True))
    for id, message in early.items():
        if id in late:
            yield id, message


def _overtaken(facts: Facts, turns: Sequence[Unit]) -> Found:
    behind: set[str] = {claim.id for unit in turns for claim in unit}
    kept = {(claim.id, node) for claim, node in facts.kept()}
    kept |= {(claim.id, node) for node, claim in kept_nodes(facts.snapshot).items()}
    for unit in turns:
        behind -= {claim.id for claim in unit}
        claim = unit[0]
        if claim.id not in facts.waiting or not _alike(unit) or facts.over_ceiling(unit):
            continue
        later = {
            node: [one for one in arrivals if one.id in behind and (one.id, node) not in kept]
            for node, arrivals in facts.arrivals.items()
        }
        gangs = {one.gang for some in later.values() for one in some if one.gang is not None}
        mates = {one.id for one in facts.pending.values() if one.gang in gangs}
        rooms = {node: _undone(facts, claim, node, later[node], mates) for node in facts.nodes}
        if any(later.values()) and _pack(facts, unit, _plain(rooms), later):
            first = min(one.id for arrivals in later.values() for one in arrivals)
            yield claim.id, f"waits while {first}, behind it, took room that would have served it"


def _alike(unit: Unit) -> bool:
    """Whether all members may take the same victims."""
    return len({(claim.tier, claim.role, claim.priority) for claim in unit}) == 1


def _undone(facts: Facts, claim: Claim, node: str, later: list[Claim], mates: set[str]) -> Amounts:
    room = facts.open_to((claim,))[node]
    ids = {one.id for one in later} | mates
    for one in later:
        add(room, one.request)
    for victim in facts.prey(claim, node) if not facts.budgets else ():
        add(room, victim.request)
    for victim in facts.on[node]:
        if facts.victims.get(victim.id) in ids and (facts.budgets or not facts.lawful(claim, victim)):
            add(room, victim.request, -1)
    return room


def cheapest(facts: Facts) -> Found:
    """A single task's victims are the least important that would do, on any node, with the rest of the plan as it is.

    Looked at only where no other unit has victims, on its own node and on the one compared: two units can each be
    the reason of the other's choice, and irreducible goes first. Passed over if there are too many sets to try.
    """
    on: dict[str, set[str]] = {}
    for unit, victims in _takers(facts):
        for victim in victims:
            on.setdefault(victim.node or "", set()).add(unit[0].id)
    for unit, victims in _takers(facts):
        if len(unit) > 1 or unit[0].gang is not None:
            continue
        claim = unit[0]
        mine = _cost(facts, victims)
        room = _without(facts, unit, victims)
        for node in facts.nodes if room is not None else ():
            if room is None or not facts.matches(claim, node) or not facts.within_limits(claim, node):
                continue
            if any(on.get(name, set()) - {claim.id} for name in (node, facts.placed[claim.id])):
                continue
            prey = [*facts.prey(claim, node), *(one for one in victims if one.node == node)]
            best = _cheapest_set(facts, claim, room[node], prey, mine, victims)
            if best is not None:
                yield claim.id, f"kills {[v.id for v in victims]} though {[v.id for v in best]} on {node} would do"
                break
    yield from _cheapest_gang(facts)


def _cheapest_gang(facts: Facts) -> Found:
    """The same for a gang whose members have the same rights, where there are few that it may take: all sets are tried.

    Looked at only if no other unit has victims.
    """
    takers = list(_takers(facts))
    if facts.budgets or len(takers) != 1 or takers[0][0][0].gang is None or not _alike(takers[0][0]):
        return
    unit, victims = takers[0]
    rooms = _without(facts, unit, victims)
    up = [name for name in facts.nodes if facts.matches(unit[0], name)]
    prey = sorted((one for name in facts.nodes for one in facts.prey(unit[0], name)), key=lambda one: one.id) + victims
    if rooms is None or len(prey) > PREY_MAX or len(up) ** len(unit) > PLACES_MAX:
        return
    mine = _cost(facts, victims)
    sets = (some for count in range(1, len(prey) + 1) for some in combinations(prey, count))
    for some in sets:
        if _cost(facts, some) < mine:
            more = {name: dict(room) for name, room in rooms.items()}
            for one in some:
                add(more[one.node or ""], one.request)
            if _pack(facts, unit, _plain(more)):
                yield unit[0].id, f"kills {[v.id for v in victims]} though {[v.id for v in some]} would do"
                return


def kept(facts: Facts) -> Found:
    """A single task whose room is kept by `for` is launched, or reserved there if it fits beside others so kept."""
    pairs = list(facts.kept())
    for claim, node in pairs:
        mine = [where for one, where in pairs if one.id == claim.id]
        if claim.gang is not None or claim.id in facts.launched or facts.reserved.get(claim.id) in mine:
            continue
        if facts.over_ceiling((claim,)) or not facts.matches(claim, node) or not facts.within_limits(claim, node):
            continue
        room = dict(facts.nodes[node].capacity)
        rivals = {one.id for one, where in pairs if where == node and facts.placed.get(one.id) == node}
        for other in facts.on[node]:
            add(room, other.request, -1 if other.state in RUNS else 0)
        for id in rivals:
            add(room, facts.pending[id].request, -1)
        if covers(room, claim.request):
            yield claim.id, f"does not get the room that was kept for it on {node}"


def _spared(name: str) -> Callable[[Facts], Found]:
    def check(facts: Facts) -> Found:
        for id in facts.victims:
            if name in facts.spared_by(facts.claims[id]):
                yield id, "is killed though policy spares it"

    return check


def held(facts: Facts) -> Found:
    """Nothing goes to a node that another keeps."""
    for id, node in facts.placed.items():
        if not facts.open_to_rank(facts.pending[id], node):
            yield id, f"takes room on {node}, which another keeps"


def _budgets(name: str) -> Callable[[Facts], Found]:
    def check(facts: Facts) -> Found:
        if name in facts.over_budget(facts.victims):
            yield min(facts.victims), "and others are killed beyond a budget"

    return check


CHECKS: dict[str, Callable[[Facts], Found]] = {
    "fits": fits,
    "allowed": allowed,
    "irreducible": irreducible,
    "needless-kill": needless_kill,
    "needless-wait": needless_wait,
    "order": order,
    "cheapest": cheapest,
    "kept": kept,
    "min-run": _spared("min-run"),
    "too-often": _spared("too-often"),
    "disruption": _budgets("disruption"),
    "budget": _budgets("budget"),
    "held": held,
}


def _takers(facts: Facts) -> Iterator[tuple[Unit, list[Claim]]]:
    for unit in facts.units():
        ids = {claim.id for claim in unit}
        victims = [facts.claims[id] for id, taker in facts.victims.items() if taker in ids]
        if victims:
            yield unit, victims


def _without(facts: Facts, unit: Unit, victims: list[Claim]) -> dict[str, Amounts] | None:
    """The room of every node as if the unit and its victims were not in the plan; None if others need these victims."""
    rooms = facts.open_to(unit)
    for claim in (one for one in unit if one.id in facts.placed):
        add(rooms[facts.placed[claim.id]], claim.request)
    for victim in victims:
        assert victim.node is not None
        add(rooms[victim.node], victim.request, -1)
    for node in {victim.node for victim in victims if victim.node is not None}:
        if any(rooms[node].get(name, 0) < 0 for name in facts.asked(node, unit)):
            return None
    return rooms


def _plain(rooms: dict[str, Amounts]) -> Callable[[Claim, str], Amounts]:
    return lambda _, node: rooms[node]


def _pack(
    facts: Facts,
    unit: Unit,
    room: Callable[[Claim, str], Amounts],
    one_of: Mapping[str, Sequence[Claim]] | None = None,
) -> bool:
    """Whether all members find a node with room and within the rules; exhaustive up to EFFORT_MAX steps.

    With `one_of`, at least one of them on a node for which it has something.
    """
    effort = 0
    nodes = [name for name, node in facts.nodes.items() if node.state == NodeState.UP]
    ids = [claim.id for claim in unit]

    def rest(depth: int, taken: dict[str, Amounts], at: dict[str, str]) -> bool:
        nonlocal effort
        if depth == len(unit):
            return one_of is None or any(one_of[node] for node in at.values())
        claim = unit[depth]
        for node in nodes:
            effort += 1
            if effort > EFFORT_MAX:
                return False
            here = dict(room(claim, node))
            add(here, taken.get(node, {}), -1)
            if covers(here, claim.request) and facts.matches(claim, node) and _within(facts, claim, node, at, ids):
                more = dict(taken.get(node, {}))
                add(more, claim.request)
                if rest(depth + 1, {**taken, node: more}, {**at, claim.id: node}):
                    return True
        return False

    return rest(0, {}, {})


def _within(facts: Facts, claim: Claim, node: str, at: dict[str, str], ids: list[str]) -> bool:
    """Limits, with the members of the unit that have a place so far and without the others."""
    if not facts.within_limits(claim, node, ids):
        return False
    placed = (facts.pending[id] for id in at)
    mates = [mate for mate in placed if (mate.role, mate.job) == (claim.role, claim.job)]
    limits = [(mate, one) for mate in [claim, *mates] for one in mate.constraints if one.limit is not None]
    for other, one in limits:
        value = facts.value(node, one.attribute)
        if other is not claim and facts.value(at[other.id], one.attribute) != value:
            continue
        near = sum(facts.value(at[mate.id], one.attribute) == value for mate in mates)
        if value is not None and facts.spread(claim, one.attribute, value, ids) + near >= (one.limit or 0):
            return False
    return True


def _cost(facts: Facts, victims: Sequence[Claim]) -> Cost:
    now_us = facts.snapshot.now_us
    return (
        max((facts.young(one), facts.snapshot.tiers[one.tier].rank) for one in victims),
        max(one.priority for one in victims),
        len(victims),
        sum(one.request.get("cpus", 0) * max(0, now_us - one.since_us) for one in victims),
    )


def _cheapest_set(
    facts: Facts, claim: Claim, room: Amounts, prey: Sequence[Claim], bound: Cost, mine: Sequence[Claim]
) -> Sequence[Claim] | None:
    """Victims in place of `mine` that make room and cost less than `bound`, by trying all; None: there are none."""
    effort = 0
    for count in range(1, len(prey) + 1):
        for victims in combinations(prey, count):
            effort += 1
            if effort > EFFORT_MAX:
                return None
            here = dict(room)
            for victim in victims:
                add(here, victim.request)
            if covers(here, claim.request) and _cost(facts, victims) < bound:
                others = {id: taker for id, taker in facts.victims.items() if facts.claims[id] not in mine}
                if not facts.budgets or not facts.over_budget(others | {one.id: claim.id for one in victims}):
                    return victims
    return None
