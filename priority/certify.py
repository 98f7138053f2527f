"""`certify`: does a Plan satisfy the contract? Checked from the Snapshot and the Plan alone, one property at a time.

It shares the nouns and the Snapshot with the engine, and nothing else, and costs a small part of what making the plan
cost: everything is counted in columns, and tasks that are alike to every rule are one case.

| property | what is checked |
|---|---|
| once, legal, fits, allowed, irreducible, kept | exact, for every task, node and victim |
| min-run, too-often, disruption, budget | settings of policy: exact, for every victim |
| held | exact: nothing is placed on a node that one keeps which has waited for long |
| needless-kill | exact for single tasks; gangs as `packing` |
| needless-wait | exact for single tasks; gangs as `packing` |
| order | exact for single tasks: the first in the pending order of all that are alike; gangs as `packing` |
| cheapest | see `bargain`: exact by rank, by priority and for one victim; several while its effort lasts |

Where victims share budgets that policy sets, needless-wait and cheapest hold a plan only against sets of victims within
these that are found in time, and gangs and order only against room without any.

A bound never makes a good plan bad: what is beyond it is passed over. `packing` counts places for gangs whose members
are alike, and else searches with a fixed effort. That a plan is the same whatever the order of the snapshot's lists
cannot be seen in one plan: tests make it twice. Each docstring says what the contract's words leave open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property

import numpy as np

from priority import bargain, overtaking, terms
from priority.claim import RUNS, Claim
from priority.facts import Decisions, Facts, Violation
from priority.packing import Packing
from priority.prey import Prey
from priority.shape import nearest
from priority.snapshot import Plane, Snapshot

__all__ = ["CHECKS", "HARM", "Violation", "certify"]

Found = Iterator[tuple[str, str]]
"""(task, message)."""


class Case:
    """One plan before the checks."""

    def __init__(self, snapshot: Snapshot, plan: Decisions) -> None:
        self.facts = Facts(snapshot, plan)
        self.packing = Packing(self.facts)
        self._prey: Prey | None = None

    @cached_property
    def takers(self) -> bargain.Takers:
        """The units with victims."""
        return bargain.Takers(self.facts)

    @property
    def prey(self) -> Prey:
        """Who may be a victim; made when it is first asked for."""
        if self._prey is None:
            self._prey = Prey(self.facts)
        return self._prey


HARM = frozenset(
    {"once", "legal", "fits", "allowed", "irreducible", "needless-kill", "min-run", "too-often", "disruption", "budget"}
)
"""What does harm if it is broken. The others are about who is served, and how well."""


def certify(snapshot: Snapshot, plan: Decisions, only: Collection[str] | None = None) -> list[Violation]:
    """Every violation, property by property; empty if the plan is good. Later properties need the earlier ones.

    Of tasks that are alike and break the same property in the same way, one is named. With `only`, these properties
    are looked at, and the two first ones in any case.
    """
    case = Case(snapshot, plan)
    found = [Violation("once", task, message) for task, message in once(case, plan)]
    found += [Violation("legal", task, message) for task, message in legal(case, plan)]
    if found:
        return found
    checks = {name: check for name, check in CHECKS.items() if only is None or name in only}
    return [Violation(name, task, message) for name, check in checks.items() for task, message in check(case)]


def once(case: Case, plan: Decisions) -> Found:
    """Every pending task is in exactly one of launch, reserve, wait; nothing else is; nodes are known."""
    facts = case.facts
    apart = facts.placed.keys().isdisjoint(facts.waiting)
    if apart and len(facts.placed) + len(facts.waiting) == len(facts.pending) == facts.listed:
        return  # those are pending, and go to nodes that there are; as many are named: each once
    listed = [one.task for part in (plan.launch, plan.reserve, plan.wait) for one in part]
    for id in listed:
        if id not in facts.pending:
            yield id, "is not a pending task of the snapshot"
    for one in [*plan.launch, *plan.reserve]:
        if one.node not in facts.row:
            yield one.task, f"goes to {one.node}, which is no node of the snapshot"
    times = Counter(listed)
    for id in facts.pending:
        if times[id] != 1:
            yield id, f"is in {times[id]} of launch, reserve and wait"


def legal(case: Case, plan: Decisions) -> Found:
    """A victim runs or starts on that node, is named once, and its `for` is reserved there and may take it."""
    facts = case.facts
    named: set[str] = set()
    for one in plan.preempt:
        victim = facts.snapshot.task(one.task)
        taker = facts.pending.get(one.preemptor)
        if victim is None or victim.state not in RUNS or victim.node != one.node:
            yield one.task, f"does not run on {one.node}"
        elif one.task in named:
            yield one.task, "is a victim twice"
        elif taker is None or facts.reserved.get(one.preemptor) != facts.row.get(one.node, -1):
            yield one.task, f"is killed for {one.preemptor}, which is not reserved on {one.node}"
        elif not facts.lawful(taker, victim):
            yield one.task, f"is killed for {one.preemptor}, which may not take it"
        named.add(one.task)


def fits(case: Case) -> Found:
    """Of what arrivals ask for: room is enough once the dying and victims are gone, and for launches even now."""
    facts = case.facts
    rows = np.unique(facts.at)
    for room, asks, when in (
        (facts.after, facts.asks, "when all have come"),
        (facts.now_after, facts.now_asks, "by what is launched now"),
    ):
        for resource, place in np.argwhere((room[:, rows] < 0) & (asks[:, rows] > 0)).tolist():
            row = int(rows[place])
            name = facts.snapshot.axis()[resource]
            first = min(id for id, at in facts.placed.items() if at == row)
            yield first, f"{facts.names[row]} is over its {name} by {-int(room[resource, row])} {when}"


def allowed(case: Case) -> Found:
    """Nodes are up and match; limits, ceilings (the dying and victims count) and whole gangs."""
    facts = case.facts
    astray = np.flatnonzero(~facts.up[facts.at]).tolist()
    bound = [(index, claim) for index, claim in enumerate(facts.arrivals) if claim.constraints]
    astray += [index for index, claim in bound if not facts.matches(claim)[facts.at[index]]]
    for index in sorted({*astray}):
        name = facts.names[facts.at[index]]
        yield facts.arrivals[index].id, f"may not be on {name}: it is not up or does not meet the constraints"
    yield from _limits(facts, [(claim, int(facts.at[index])) for index, claim in bound])
    yield from _ceilings(facts)
    for unit in facts.gangs():
        lists = {"launch" if c.id in facts.launched else "reserve" if c.id in facts.reserved else "wait" for c in unit}
        if len(lists) > 1:
            yield unit[0].id, f"its gang is in {' and '.join(sorted(lists))}"


def _limits(facts: Facts, bound: Sequence[tuple[Claim, int]]) -> Found:
    spreads: dict[tuple[str, str, str], Plane] = {}
    for claim, row in bound:
        for one in claim.constraints:
            if one.limit is None:
                continue
            key = claim.role, claim.job, one.attribute
            if key not in spreads:
                spreads[key] = facts.spread(claim, one.attribute)
            if spreads[key][facts.coded(one.attribute)[0][row] + 1] > one.limit:
                yield claim.id, f"its job has more than {one.limit} tasks on one {one.attribute}"


def _ceilings(facts: Facts) -> Found:
    asked: dict[tuple[str, ...], set[str]] = {}
    first: dict[tuple[str, ...], Claim] = {}
    if not any(role.quota or role.users for role in facts.snapshot.roles().values()):
        return
    for claim in facts.arrivals:
        for key, _ in facts.ceilings(claim):
            first.setdefault(key, claim)
            asked.setdefault(key, set()).update(name for name, amount in claim.request.items() if amount)
    for key, claim in first.items():
        quota = dict(facts.ceilings(claim))[key]
        for name in sorted(asked[key] & quota.keys()):
            if facts.snapshot.held(*key).get(name, 0) + facts.given[key].get(name, 0) > quota[name]:
                yield claim.id, f"{' '.join(key)} is over its ceiling of {name}"


def irreducible(case: Case) -> Found:
    """Without any one victim something that arrives on its node no longer fits."""
    facts = case.facts
    if facts.victims:
        short = (facts.after[:, facts.falls] < facts.frees) & (facts.asks[:, facts.falls] > 0)
        for index in np.flatnonzero(~short.any(axis=0)).tolist():
            yield facts.victims[index].id, "is killed for nothing: all that arrives fits without"


def needless_kill(case: Case) -> Found:
    """A unit with victims has no place, free or coming, without them, unless others hang on these victims."""
    facts = case.facts
    takers = case.takers
    if not takers.claims and not takers.gangs:
        return
    stays = facts.open[:, takers.at] - takers.frees  # with itself, without its victims
    fits_here = ((stays >= 0) | (takers.brings == 0)).all(axis=0)
    for index in np.flatnonzero(fits_here & ~takers.hung).tolist():
        yield takers.claims[index].id, f"kills {takers.names(index)} beside room for it"
    place = {claim.id: index for index, claim in enumerate(takers.claims)}
    kinds = facts.fitting(facts.kinds(takers.claims), lambda _: facts.open, lambda _: None)
    near = nearest([facts.shape(kind[0]) for kind in kinds], facts.open)
    for kind in kinds:
        mine = facts.shape(kind[0]).fits(facts.open[:, near]) & facts.matches(kind[0])[near]
        for claim in kind:
            there = near[mine & (near != facts.placed[claim.id])]
            if not len(there) or takers.hung[place[claim.id]] or facts.over_ceiling((claim,)):
                continue
            within = facts.within_limits(claim)
            if within is None or within[there].any():
                yield claim.id, f"kills {takers.names(place[claim.id])} beside room for it"
    for unit, victims in takers.gangs:
        room = bargain.without(facts, unit, victims)
        if room is not None and not facts.over_ceiling(unit) and case.packing.packs(unit, [room] * len(unit)):
            yield unit[0].id, f"kills {', '.join(one.id for one in victims)} beside room for it"


def needless_wait(case: Case) -> Found:
    """A waiting unit has no place, free or coming, even if all that it may take were gone, by the rules for it."""
    facts = case.facts
    waiting = [facts.pending[id] for id in facts.waiting]

    def reach(claim: Claim) -> Plane:
        return facts.room_for((claim,)) + case.prey.sums(facts.power(claim))

    for claim, *_ in facts.fitting(facts.kinds(waiting), reach, facts.finds):
        rows = facts.shape(claim).fits(reach(claim)) & facts.may_be(claim)
        if rows.any() and not facts.over_ceiling((claim,)) and case.prey.affordable(claim, rows):
            yield claim.id, f"waits ({facts.waiting[claim.id].code}) though there is room for it"
    for unit in facts.gangs():
        if any(claim.id not in facts.waiting for claim in unit) or facts.over_ceiling(unit):
            continue
        room = facts.room_for(unit)
        if case.packing.packs(unit, [room + case.prey.free_sums(facts.power(claim)) for claim in unit]):
            yield unit[0].id, f"waits ({facts.waiting[unit[0].id].code}) though there is room for it"


def order(case: Case) -> Found:
    """See `overtaking`."""
    if case.facts.waiting and case.facts.placed:
        yield from overtaking.overtaken(case.facts, case.prey, case.packing)


def cheapest(case: Case) -> Found:
    """See `bargain`."""
    if case.facts.victims:
        yield from bargain.cheaper(case.takers, case.prey, case.packing)


def kept(case: Case) -> Found:
    """A single task whose room is kept by `for` is launched, or reserved there if it fits beside others so kept."""
    facts = case.facts
    rows: dict[str, list[int]] = {}
    on: dict[int, list[Claim]] = {}
    for claim, row in facts.kept:
        rows.setdefault(claim.id, []).append(row)
        on.setdefault(row, []).append(claim)
    for claim, row in facts.kept:
        if claim.gang is not None or claim.id in facts.launched or facts.reserved.get(claim.id) in rows[claim.id]:
            continue
        room = facts.before[:, row].copy()
        for rival in on[row]:
            if facts.placed.get(rival.id) == row:
                room -= facts.shape(rival).vector
        if any(room[resource] < amount for resource, amount in facts.shape(claim).asks):
            continue
        if facts.may_be(claim)[row] and not facts.over_ceiling((claim,)):
            yield claim.id, f"does not get the room that was kept for it on {facts.names[row]}"


def held(case: Case) -> Found:
    """Nothing is placed on a node that one of its tier or a higher one keeps which has waited for long, and waits."""
    facts = case.facts
    for claim, row in zip(facts.arrivals, facts.at.tolist(), strict=True) if facts.closed else ():
        if row in facts.closed and row in facts.closed_to(claim):
            yield claim.id, f"takes room on {facts.names[row]}, which {facts.closed[row].id} keeps"


CHECKS: dict[str, Callable[[Case], Found]] = {
    "fits": fits,
    "allowed": allowed,
    "irreducible": irreducible,
    "needless-kill": needless_kill,
    "needless-wait": needless_wait,
    "order": order,
    "cheapest": cheapest,
    "kept": kept,
    "min-run": lambda case: terms.min_run(case.facts),
    "too-often": lambda case: terms.too_often(case.facts),
    "disruption": lambda case: terms.disruption(case.facts),
    "budget": lambda case: terms.budget(case.facts),
    "held": held,
}
