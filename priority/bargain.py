"""Whether a task's victims are the least important that would do, with the rest of the plan as it is.

Victims are compared by (highest tier rank, highest priority, how many, work lost); the rank of what policy calls young
is higher than all others. Looked at for single tasks, on their own node and on every node without victims; not where
another unit has victims, nor if others hang on these: two units can each be the reason of the other's choice, and
irreducible goes first.

    1. by rank, by priority: all that are less important than the worst victim together make room nowhere. Exact
    2. one victim: no other one makes room alone and loses less. Exact
    3. several: fewer, or as many with less work. Nodes where the sums of the largest requests and of the least work
       do not rule it out are searched, all sets of the right size at once, up to `market.SETS_MAX`. Of nodes without
       victims see `rivals`

For a gang whose members have the same rights all sets are tried where there are few, and if nobody else has victims.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

import numpy as np

from priority.claim import Claim
from priority.facts import Facts, Unit
from priority.market import Cost, Market, Search
from priority.packing import Packing, alike
from priority.prey import Prey, work_of
from priority.rivals import Rivals
from priority.shape import Flags, Picks, scatter
from priority.snapshot import Plane
from priority.terms import rank_of

PREY_MAX, PLACES_MAX = 10, 300
"""Cheaper victims for a gang are looked for among so many, and over so many ways to place it."""


class Takers:
    """Units with victims: single tasks in columns, gangs as they are."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        of: dict[str, list[int]] = {}
        gangs: dict[str, list[int]] = {}
        for index, victim in enumerate(facts.victims):
            claim = facts.pending[facts.takers[victim.id]]
            mine = of.setdefault(claim.id, []) if claim.gang is None else gangs.setdefault(claim.gang, [])
            mine.append(index)
        self.claims: list[Claim] = [facts.pending[id] for id in of]
        self.victims: list[list[int]] = list(of.values())
        """By single task: places of its victims among those of the plan."""
        members = {unit[0].gang: unit for unit in facts.gangs()} if gangs else {}
        self.gangs: list[tuple[Unit, list[Claim]]] = [
            (members[gang], [facts.victims[index] for index in mine]) for gang, mine in gangs.items()
        ]
        self.at: Picks = np.array([facts.placed[claim.id] for claim in self.claims], np.intp)
        self.brings: Plane = facts.vectors(self.claims)
        owner = np.full(len(facts.victims), -1, np.intp)
        for taker, mine in enumerate(self.victims):
            owner[mine] = taker
        self.owner: Picks = owner
        """By victim of the plan: its taker here, -1 if that is a gang."""
        single = owner >= 0
        self.frees: Plane = scatter(owner[single], facts.frees[:, single], len(self.claims))
        """`[R, T]`: the room of its victims."""
        others: Flags = facts.asks[:, self.at] > (self.brings > 0)
        without = facts.open[:, self.at] + self.brings - self.frees
        self.hung: Flags = np.asarray((others & (without < 0)).any(axis=0))
        """Whether something else on its node needs its victims."""

    def names(self, taker: int) -> str:
        """Its victims, for people."""
        return ", ".join(sorted(self.facts.victims[index].id for index in self.victims[taker]))

    def cost(self, taker: int) -> Cost:
        """Of its victims."""
        return cost_of(self.facts, [self.facts.victims[index] for index in self.victims[taker]])

    def alone(self) -> Flags:
        """Whether nobody else has victims on its node."""
        facts = self.facts
        count = np.bincount(facts.falls, minlength=len(facts.names))
        mine = np.array([len(victims) for victims in self.victims], np.int64)
        return np.asarray(count[self.at] == mine)


def cheaper(takers: Takers, prey: Prey, packing: Packing) -> Iterator[tuple[str, str]]:
    """(task, message) of those for whom others would do that are less important."""
    facts = takers.facts
    search = Search()
    looked = np.flatnonzero(takers.alone() & ~takers.hung).tolist()
    costs = {taker: takers.cost(taker) for taker in looked}
    found: dict[int, int] = {}
    if looked:
        for taker, row in _at_home(takers, prey, looked, costs, search):
            found.setdefault(taker, row)
        for taker, row in _elsewhere(takers, prey, looked, costs, search):
            found.setdefault(taker, row)
    for taker, row in sorted(found.items()):
        if facts.snapshot.terms.shares and not _affordable(takers, prey, taker, costs[taker]):
            continue
        yield takers.claims[taker].id, f"kills {takers.names(taker)} though less on {facts.names[row]} would do"
    if len(takers.gangs) == 1 and not takers.claims and not facts.snapshot.terms.shares:
        yield from _gang(facts, prey, packing, *takers.gangs[0])


def _affordable(takers: Takers, prey: Prey, taker: int, bound: Cost) -> bool:
    """Whether less would do, for a single task, within the budgets that policy sets."""
    facts, claim = takers.facts, takers.claims[taker]
    victims = [facts.victims[index] for index in takers.victims[taker]]
    nodes = facts.may_be(claim) & True
    nodes[facts.falls] = False
    nodes[takers.at[taker]] = True
    room = facts.room_for((claim,)).copy()
    room[:, takers.at[taker]] += takers.brings[:, taker] - takers.frees[:, taker]
    return prey.affordable(claim, nodes, victims, bound, room)


def cost_of(facts: Facts, victims: Iterable[Claim]) -> Cost:
    """What the contract compares."""
    snapshot, now_us = facts.snapshot, facts.snapshot.now_us
    rows = [(rank_of(snapshot, one), one.priority, work_of(one, now_us)) for one in victims]
    return max(row[0] for row in rows), max(row[1] for row in rows), len(rows), sum(row[2] for row in rows)


# --- on its own node -------------------------------------------------------------------------------------------------


def _at_home(
    takers: Takers, prey: Prey, looked: Sequence[int], costs: dict[int, Cost], search: Search
) -> Iterator[tuple[int, int]]:
    """All at once: what a task could have taken on its own node, its victims among it."""
    facts = takers.facts
    here = np.array(looked, np.intp)
    slot = np.full(len(facts.names), -1, np.intp)
    slot[takers.at[here]] = np.arange(len(here))
    chosen = np.zeros(len(takers.claims) + 1, np.bool_)  # the last: of those whose taker is not here
    chosen[here] = True
    mine = prey.taken[chosen[takers.owner]]
    items = np.concatenate([prey.on(slot >= 0), mine[mine >= 0]])
    whose = slot[prey.node[items]]
    items, whose = items[whose >= 0], whose[whose >= 0]
    may = prey.may_take([takers.claims[taker] for taker in looked], whose, items)
    items, whose = items[may], whose[may]
    asks = takers.brings[:, here] > 0
    need = np.where(asks, takers.frees[:, here] - facts.open[:, takers.at[here]], 0)
    bounds = [costs[taker] for taker in looked]
    for index in search.cheaper(Market(prey, items, whose, np.maximum(need, 0), bounds)):
        yield looked[index], int(takers.at[looked[index]])


# --- on nodes without victims ----------------------------------------------------------------------------------------


def _elsewhere(
    takers: Takers, prey: Prey, looked: Sequence[int], costs: dict[int, Cost], search: Search
) -> Iterator[tuple[int, int]]:
    """Kind by kind, against the dearest victims that any of a kind has."""
    facts = takers.facts
    clean = facts.up.copy()
    clean[facts.falls] = False
    groups: dict[object, list[tuple[Claim, Cost]]] = {}
    place = {takers.claims[taker].id: taker for taker in looked}
    for kind in facts.kinds(takers.claims[taker] for taker in looked):
        limited = (kind[0].role, kind[0].job) in facts.limited
        for some in [[one] for one in kind] if limited else [kind]:
            claim = max(some, key=lambda one: costs[place[one.id]])
            bound = costs[place[claim.id]]
            rank = facts.snapshot.tiers[claim.tier].rank
            power = rank if bound[0] < rank else facts.power(claim)  # below its tier roles and priorities are nothing
            groups.setdefault((power, claim.constraints, bound[:2]), []).append((claim, bound))
    for kinds in groups.values():
        claim, bound = kinds[0]
        rivals = Rivals(facts, prey, claim, clean & facts.matches(claim), bound)
        for claim, row in rivals.cheaper(kinds, search):
            yield place[claim.id], row


# --- gangs -----------------------------------------------------------------------------------------------------------


def without(facts: Facts, unit: Unit, victims: Sequence[Claim]) -> Plane | None:
    """The room as if the unit and its victims were not in the plan; None if others need these victims."""
    room, others = facts.room_for(unit).copy(), facts.asks.copy()
    for claim in (one for one in unit if one.id in facts.placed):
        vector = facts.shape(claim).vector
        room[:, facts.placed[claim.id]] += vector
        others[:, facts.placed[claim.id]] -= vector > 0
    rows = sorted({facts.row[victim.node or ""] for victim in victims})
    for victim in victims:
        room[:, facts.row[victim.node or ""]] -= facts.shape(victim).vector
    return None if ((room < 0) & (others > 0))[:, rows].any() else room


def _gang(facts: Facts, prey: Prey, packing: Packing, unit: Unit, victims: list[Claim]) -> Iterator[tuple[str, str]]:
    if not alike(unit):
        return
    room, claim = without(facts, unit, victims), unit[0]
    up = facts.matches(claim)
    picks = np.flatnonzero(prey.lawful(facts.power(claim)) & prey.alive)
    some = [claim for index in picks[: PREY_MAX + 1].tolist() if (claim := prey.claims[index]) is not None]
    some = sorted(some, key=lambda one: one.id) + victims
    if room is None or len(some) > PREY_MAX or int(up.sum()) ** len(unit) > PLACES_MAX:
        return
    mine = cost_of(facts, victims)
    for chosen in (set_ for count in range(1, len(some) + 1) for set_ in combinations(some, count)):
        if cost_of(facts, chosen) < mine:
            more = room.copy()
            for one in chosen:
                more[:, facts.row[one.node or ""]] += facts.shape(one).vector
            if packing.packs(unit, [more] * len(unit)):
                names = ", ".join(one.id for one in chosen)
                yield claim.id, f"kills {', '.join(sorted(v.id for v in victims))} though {names} would do"
                return
