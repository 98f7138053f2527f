"""What policy says of victims, for `certify`: its own code, not the engine's `mercy`.

Whom it spares whatever else the plan does; what it makes dearer; and whether the victims of a plan keep its settings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from priority.claim import RUNS, Claim
from priority.facts import Facts
from priority.policy import HOUR_US, WORK
from priority.snapshot import Snapshot

STEPS_MAX = 2_000
"""So many sets of victims are tried, branch by branch, to see whether one is within the budgets."""

Cost = tuple[int, int, int, int]
Owner = tuple[str, str]
"""(role, job) or (role, tier)."""

DEARER = 2**52
"""Added to the rank of who is young: more than any two ranks differ by."""

Found = Iterator[tuple[str, str]]
"""(task, message)."""


def ran_us(snapshot: Snapshot, claim: Claim) -> int:
    """For how long a task has run; by a clock that was set back since, for no time."""
    return max(0, snapshot.now_us - claim.since_us)


def times_taken(snapshot: Snapshot, claim: Claim) -> int:
    """How often a task was preempted in the last hour."""
    return sum(at_us > snapshot.now_us - HOUR_US for at_us in claim.preempted_us)


def rank_of(snapshot: Snapshot, claim: Claim) -> int:
    """What its importance begins with: the rank of its tier, and more than any if it is young."""
    rank, least_us = snapshot.tiers[claim.tier].rank, snapshot.terms.young_s.get(claim.tier, 0)
    return rank + (DEARER if ran_us(snapshot, claim) < least_us else 0)


# --- the checks ------------------------------------------------------------------------------------------------------


def min_run(facts: Facts) -> Found:
    """No victim has run for less than its tier's tasks run at least."""
    snapshot, least = facts.snapshot, facts.snapshot.terms.min_run_s
    for victim in facts.victims if least else ():
        short_us = least.get(victim.tier, 0) - ran_us(snapshot, victim)
        if short_us > 0:
            yield victim.id, f"is killed {short_us / 1e6:g} s before its tier's tasks may be"


def too_often(facts: Facts) -> Found:
    """No victim was preempted as often in the last hour as its tier's tasks may be."""
    snapshot, most = facts.snapshot, facts.snapshot.terms.preempted_per_hour
    for victim in facts.victims if most else ():
        times = times_taken(snapshot, victim)
        if victim.tier in most and times >= most[victim.tier]:
            yield victim.id, f"is killed though it was {times} times in the last hour, and may be {most[victim.tier]}"


def disruption(facts: Facts) -> Found:
    """Of no job with victims more tasks are gone than may be at a time."""
    terms = facts.snapshot.terms
    if not (terms.gone_at_once or terms.own_gone_at_once):
        return
    budgets = Budgets(facts)
    for job, victims in _grouped((one.role, one.job, one) for one in facts.victims).items():
        left = budgets.of_job(victims[0])
        if left is not None and left < 0:
            yield victims[0].id, f"is killed though {-left} more tasks of job {job[1]} than may be are gone then"


def budget(facts: Facts) -> Found:
    """No role loses or destroys more work in an hour than its tasks of a tier may."""
    terms = facts.snapshot.terms
    if not (terms.loses_per_hour or terms.destroys_per_hour):
        return
    budgets = Budgets(facts)
    for (role, tier), victims in _grouped((one.role, one.tier, one) for one in facts.victims).items():
        if tier in terms.loses_per_hour and budgets.to_lose((role, tier)) < 0:
            yield victims[0].id, f"is killed though {role}/{tier} loses more work than it may in an hour"
    takers = [(facts.pending[facts.takers[one.id]], one) for one in facts.victims]
    for (role, tier), victims in _grouped((claim.role, claim.tier, one) for claim, one in takers).items():
        if tier in terms.destroys_per_hour and budgets.to_destroy((role, tier)) < 0:
            yield victims[0].id, f"is killed though {role}/{tier} destroys more work than it may in an hour"


def _grouped(rows: Iterable[tuple[str, str, Claim]]) -> dict[Owner, list[Claim]]:
    found: dict[Owner, list[Claim]] = {}
    for one, other, claim in rows:
        found.setdefault((one, other), []).append(claim)
    return found


# --- budgets ---------------------------------------------------------------------------------------------------------


def spent(snapshot: Snapshot, claim: Claim) -> int:
    """The work that is lost with a task, as budgets count it."""
    return claim.request.get("cpus", 0) * max(0, ran_us(snapshot, claim)) // WORK


class Budgets:
    """What is left of each once the plan is carried out, some of its victims taken back if asked."""

    def __init__(self, facts: Facts, back: Sequence[Claim] = ()) -> None:
        self.facts, self._snapshot = facts, facts.snapshot
        out = {one.id for one in back}
        self._victims = [one for one in facts.victims if one.id not in out]
        self._jobs: dict[Owner, int | None] = {}
        self._gone = Counter((one.role, one.job) for one in self._victims)

    def of_job(self, claim: Claim) -> int | None:
        """How many more tasks of its job may go; None: any number."""
        job = claim.role, claim.job
        if job not in self._jobs:
            snapshot, facts = self._snapshot, self.facts
            terms = snapshot.terms
            tasks = list(snapshot.tasks_of(*job))
            there = [one for one in tasks if one.state in RUNS and facts.up[facts.row[one.node or ""]]]
            limits = [most for one in there if (most := terms.at_once(one.tier, one.at_once)) is not None]
            gone = snapshot.past.gone.get(job, 0) + sum(one.state == "preempting" for one in tasks) + self._gone[job]
            self._jobs[job] = min(limits) - gone if limits else None
        return self._jobs[job]

    def to_lose(self, owner: Owner) -> int:
        """How much more a role's tasks of a tier may lose."""
        lost = sum(spent(self._snapshot, one) for one in self._victims if (one.role, one.tier) == owner)
        return self._left(self._snapshot.terms.loses_per_hour.get(owner[1]), self._snapshot.past.lost, owner, lost)

    def to_destroy(self, owner: Owner) -> int:
        """How much more they may destroy."""
        facts = self.facts
        takers = ((facts.pending[facts.takers[one.id]], one) for one in self._victims)
        done = sum(spent(self._snapshot, one) for claim, one in takers if (claim.role, claim.tier) == owner)
        terms, past = self._snapshot.terms, self._snapshot.past
        return self._left(terms.destroys_per_hour.get(owner[1]), past.destroyed, owner, done)

    @staticmethod
    def _left(limit: int | None, past: Mapping[Owner, int], owner: Owner, now: int) -> int:
        return 2**62 if limit is None else limit - past.get(owner, 0) - now

    def room(self, taker: Claim, prey: Sequence[Claim], need: Mapping[str, int], bound: Cost | None = None) -> bool:
        """Whether some of the prey make room within the budgets, and cost less than the bound (if found in time)."""
        lacks = {name: lack for name, lack in need.items() if lack > 0}
        if not lacks:
            return True
        return _Sets(self, taker, prey, lacks, bound).found()

    def shares(self, taker: Claim, victim: Claim) -> list[tuple[object, int, int]]:
        """Budgets that a victim takes of: which, how much, and how much is left of it."""
        work, mine, its = spent(self._snapshot, victim), (taker.role, taker.tier), (victim.role, victim.tier)
        found: list[tuple[object, int, int]] = [
            (("destroys", mine), work, self.to_destroy(mine)),
            (("loses", its), work, self.to_lose(its)),
        ]
        job = self.of_job(victim)
        return found if job is None else [*found, (("job", victim.role, victim.job), 1, job)]


class _Sets:
    """All sets of prey, one after the other, those first that bring most; a branch ends where it cannot do."""

    def __init__(
        self, budgets: Budgets, taker: Claim, prey: Sequence[Claim], lacks: Mapping[str, int], bound: Cost | None
    ) -> None:
        self._names = list(lacks)
        snapshot = budgets.facts.snapshot
        brings = {one.id: [one.request.get(name, 0) for name in self._names] for one in prey}
        parts = list(lacks.values())

        def order(one: Claim) -> tuple[float, str]:
            return -sum(min(amount / lack, 1.0) for amount, lack in zip(brings[one.id], parts, strict=True)), one.id

        useful = sorted((one for one in prey if any(brings[one.id])), key=order)
        self._prey = [(one, brings[one.id], budgets.shares(taker, one), _cost(snapshot, one)) for one in useful]
        self._rest = [[0] * len(parts)]
        for _, amounts, _, _ in reversed(self._prey):
            self._rest.append([sum(pair) for pair in zip(self._rest[-1], amounts, strict=True)])
        self._rest.reverse()
        self._bound, self._need = bound, parts
        self._left: dict[object, int] = {key: most for _, _, shares, _ in self._prey for key, _, most in shares}
        self._steps = 0

    def found(self) -> bool:
        """Whether there is one."""
        return self._try(0, self._need, None)

    def _try(self, start: int, need: list[int], cost: Cost | None) -> bool:
        self._steps += 1
        if self._steps > STEPS_MAX or (cost is not None and self._bound is not None and cost >= self._bound):
            return False
        if max(need) <= 0:
            return True
        if start == len(self._prey) or any(lack > rest for lack, rest in zip(need, self._rest[start], strict=True)):
            return False
        _, amounts, shares, mine = self._prey[start]
        if all(self._left[key] >= amount for key, amount, _ in shares):
            for key, amount, _ in shares:
                self._left[key] -= amount
            less = [lack - amount for lack, amount in zip(need, amounts, strict=True)]
            done = self._try(start + 1, less, _sum(cost, mine))
            for key, amount, _ in shares:
                self._left[key] += amount
            if done:
                return True
        return self._try(start + 1, need, cost)


def _cost(snapshot: Snapshot, claim: Claim) -> Cost:
    work = claim.request.get("cpus", 0) * max(0, ran_us(snapshot, claim))
    return rank_of(snapshot, claim), claim.priority, 1, work


def _sum(cost: Cost | None, other: Cost) -> Cost:
    if cost is None:
        return other
    return max(cost[0], other[0]), max(cost[1], other[1]), cost[2] + other[2], cost[3] + other[3]
