"""Whom policy spares though the law would not, for the engine: made once a round, and only if there is such policy.

Three kinds of rule, from plain to shared:

    hard    not before it has run so long, not more often than so many times an hour: a task is no prey in this round
    young   a task that has run for less is dearer than any that has not: its rank counts as higher than all others
    shared  budgets: of a job, how many are gone at a time; of a role, how much work it loses and destroys in an hour.
            They hold over the whole plan, so they shrink with each victim and grow again when one is given back. A task
            that would break one by itself is no prey meanwhile; whether several together would, `affords` says
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from priority.claim import Claim
from priority.herd import OLDER, Herd
from priority.policy import HOUR_US, WORK, Policy
from priority.snapshot import Snapshot
from priority.stock import Flags, Picks, Plane

Owner = tuple[str, str]
"""(role, job) or (role, tier)."""


_NONE: Picks = np.zeros(0, np.intp)


@dataclass(frozen=True, slots=True)
class Cause:
    """So many tasks of a tier could give way, but for a setting."""

    setting: str
    tier: str
    count: int
    words: str


class Mercy:
    """`K` places, as the herd has them."""

    def __init__(self, snapshot: Snapshot, herd: Herd) -> None:
        self._snapshot, self._herd = snapshot, herd
        self.policy: Policy = snapshot.terms
        self._live: Flags = herd.alive.copy()
        self.too_young = self._since(self.policy.min_run_s)
        """May not be taken yet."""
        self.too_often = self._often()
        """Was taken too often lately."""
        self._free = self._live & ~self.too_young & ~self.too_often
        self.young = self._since(self.policy.young_s)
        self._jobs: dict[Owner, tuple[int, Picks]] = {}
        """Of jobs that have a limit: how many more of it may go, before this plan; and its places."""
        self._gone: Counter[Owner] = Counter()
        self._spent: Counter[Owner] = Counter()
        """By (role, tier): work lost in this plan."""
        self._owned: dict[Owner, Picks] = {}
        self.full: Flags = np.zeros(len(self._live), np.bool_)
        """Kept by a budget as it is now."""
        if self.policy.shares:
            self._count()
        herd.alive &= self.prey
        if self.young.any():
            herd.rank = herd.rank + OLDER * self.young

    def levels(self, nodes: int, width: int) -> dict[tuple[int, int], Plane]:
        """See `Stock.levels`, of those that are prey."""
        herd, found = self._herd, {}
        soft = self._live & (herd.tier_ranks == herd.soft_ranks)
        for rank in np.unique(herd.rank[soft]).tolist():
            of_rank = soft & (herd.rank == rank)
            for priority in np.unique(herd.priority[of_rank]).tolist():
                picks = np.flatnonzero(of_rank & (herd.priority == priority) & herd.alive)
                plane = found[rank, priority] = np.zeros((nodes, width), np.int64, order="F")
                for column in range(width):
                    np.add.at(plane[:, column], herd.node[picks], herd.request[picks, column])
        return found

    @property
    def prey(self) -> Flags:
        """Who may be a victim, by policy, as long as nothing is taken."""
        return self._free & ~self.full

    def _since(self, seconds: Mapping[str, int]) -> Flags:
        """Live tasks that have run for less than their tier's."""
        herd = self._herd
        found = np.zeros(len(self._live), np.bool_)
        for tier, least_us in seconds.items():
            found |= herd.of_tier(tier) & (herd.since + least_us > self._snapshot.now_us)
        return found & self._live

    def _often(self) -> Flags:
        found = np.zeros(len(self._live), np.bool_)
        limits, begin_us = self.policy.preempted_per_hour, self._snapshot.now_us - HOUR_US
        for tier, limit in limits.items():
            if limit == 0:
                found |= self._herd.of_tier(tier) & self._live
        for claim in self._snapshot.preempted() if limits else ():
            place = self._herd.place(claim.id)
            if place >= 0 and claim.tier in limits:
                found[place] = sum(at_us > begin_us for at_us in claim.preempted_us) >= limits[claim.tier]
        return found & self._live

    # --- budgets ---

    def _count(self) -> None:
        """What is left of each budget before the plan."""
        snapshot, policy = self._snapshot, self.policy
        gone = Counter(snapshot.past.gone)
        gone.update((claim.role, claim.job) for claim in snapshot.dying() if claim.state == "preempting")
        tiers = policy.gone_at_once.keys() | policy.own_gone_at_once.keys()
        of_job: dict[Owner, list[int]] = {}
        limits: dict[Owner, int] = {}
        for place in np.flatnonzero(self._live).tolist() if tiers else ():
            claim = self._herd.claims[place]
            limit = policy.at_once(claim.tier, claim.at_once) if claim.tier in tiers else None
            if limit is not None:
                job = claim.role, claim.job
                limits[job] = min(limit, limits.get(job, limit))
                of_job.setdefault(job, []).append(place)
        for job, places in of_job.items():
            self._jobs[job] = limits[job] - gone[job], np.array(places, np.intp)
            self._shut_job(job)
        for (tier, role), code in self._herd.owners.items():
            if tier in policy.loses_per_hour:
                mine = np.flatnonzero(self._live & (self._herd.owner == code))
                self._owned[role, tier] = mine
                self._shut_owner((role, tier))

    def _left_to_lose(self, owner: Owner) -> int:
        return self.policy.loses_per_hour[owner[1]] - self._snapshot.past.lost.get(owner, 0) - self._spent[owner]

    def work(self, place: int) -> int:
        """A task's, in thousandths of a cpu-second."""
        return self._herd.work(place) // WORK

    def _shut_job(self, job: Owner) -> Picks:
        """Keep a job's tasks, or let go of them, as its budget is now; the places for which that is new."""
        left, places = self._jobs[job]
        return self._set(places, np.full(len(places), left - self._gone[job] <= 0))

    def _shut_owner(self, owner: Owner) -> Picks:
        places = self._owned[owner]
        works = self._herd.works()
        mine = works[places] // WORK if works is not None else np.array([self.work(one) for one in places.tolist()])
        return self._set(places, np.asarray(mine > self._left_to_lose(owner), np.bool_))

    def _set(self, places: Picks, shut: Flags) -> Picks:
        """A place that two budgets keep is let go of only by both."""
        if self._jobs and self._owned:
            shut = np.array([self._shut(place) for place in places.tolist()] if len(places) else [], np.bool_)
        news: Picks = places[self.full[places] != shut]
        self.full[places] = shut
        return news

    def _shut(self, place: int) -> bool:
        claim = self._herd.claims[place]
        job, owner = (claim.role, claim.job), (claim.role, claim.tier)
        by_job = job in self._jobs and self._jobs[job][0] - self._gone[job] <= 0
        return by_job or (owner in self._owned and self.work(place) > self._left_to_lose(owner))

    def count(self, place: int, sign: int) -> list[int]:
        """A victim is taken (1) or given back (-1): whom else that keeps or lets go."""
        claim = self._herd.claims[place]
        job, owner = (claim.role, claim.job), (claim.role, claim.tier)
        news: list[int] = []
        if job in self._jobs:
            self._gone[job] += sign
            news += self._shut_job(job).tolist()
        if owner in self._owned:
            self._spent[owner] += sign * self.work(place)
            news += self._shut_owner(owner).tolist()
        return news

    def touched(self, place: int) -> list[int]:
        """Nodes where others share a budget with a task."""
        claim = self._herd.claims[place]
        if self.policy.destroys_per_hour:
            return list(range(int(self._herd.node.max(initial=0)) + 1))
        some = [
            self._jobs.get((claim.role, claim.job), (0, _NONE))[1],
            self._owned.get((claim.role, claim.tier), _NONE),
        ]
        found: list[int] = np.unique(self._herd.node[np.concatenate(some)]).tolist()
        return found

    def may(self, place: int) -> bool:
        """Whether somebody who is no victim may be one, as the budgets are now."""
        return bool(self._free[place] and not self.full[place])

    def affords(self, pairs: Iterable[tuple[Claim, int]], killed: Mapping[int, Claim]) -> bool:
        """Whether these victims, each with whom it is for, are within the budgets beside those that are killed."""
        if not self.policy.shares:
            return True
        jobs: Counter[Owner] = Counter()
        lost: Counter[Owner] = Counter()
        destroyed: Counter[Owner] = Counter()
        for taker, place in pairs:
            claim, work = self._herd.claims[place], self.work(place)
            jobs[claim.role, claim.job] += 1
            lost[claim.role, claim.tier] += work
            destroyed[taker.role, taker.tier] += work
        if any(job in self._jobs and count > self._jobs[job][0] - self._gone[job] for job, count in jobs.items()):
            return False
        if any(owner in self._owned and work > self._left_to_lose(owner) for owner, work in lost.items()):
            return False
        return all(work <= self.left_to_destroy(owner, killed) for owner, work in destroyed.items())

    def left_to_destroy(self, owner: Owner, killed: Mapping[int, Claim]) -> int:
        """How much more a role's tasks of a tier may destroy beside those that are killed."""
        limit = self.policy.destroys_per_hour.get(owner[1])
        if limit is None:
            return 2**62
        spent = sum(self.work(place) for place, taker in killed.items() if (taker.role, taker.tier) == owner)
        return limit - self._snapshot.past.destroyed.get(owner, 0) - spent

    def left_of(self, place: int) -> tuple[Owner, int] | None:
        """The job of a task and how many more of it may go; None: any number."""
        claim = self._herd.claims[place]
        job = claim.role, claim.job
        return (job, self._jobs[job][0] - self._gone[job]) if job in self._jobs else None

    def left_to(self, place: int) -> tuple[Owner, int] | None:
        """Whose work is lost with a task, and how much more of it may be; None: any amount."""
        claim = self._herd.claims[place]
        owner = claim.role, claim.tier
        return (owner, self._left_to_lose(owner)) if owner in self._owned else None

    # --- for people ---

    def keeps(self, place: int) -> str | None:
        """Why a task that runs is no victim as things are; None: policy lets it be one."""
        claim, policy = self._herd.claims[place], self.policy
        if self.too_young[place]:
            return f"not before it has run for {policy.min_run_s[claim.tier] / 1e6:g} s"
        if self.too_often[place]:
            return f"was preempted as often as it may be in an hour ({_times(policy.preempted_per_hour[claim.tier])})"
        left = self.left_of(place)
        if left is not None and left[1] <= 0:
            return "as many of its job are gone as may be at a time"
        return "its role has lost as much work as it may in an hour" if self.full[place] else None

    def causes(self, claim: Claim, could: Flags) -> list[Cause]:
        """Which settings keep tasks that the law lets it take; `could`: those of them that are no victims."""
        policy, left = self.policy, could & self._live
        found = []
        destroys = policy.destroys_per_hour.get(claim.tier)
        for setting, flags in (
            ("min_run_s", self.too_young),
            ("preempted_per_hour", self.too_often),
            ("gone_at_once", self._kept_by(self._jobs[job][1] for job in self._jobs)),
            ("loses_per_hour", self._kept_by(self._owned.values())),
            ("destroys_per_hour", np.full(len(left), destroys is not None)),
        ):
            for tier in sorted({tier for tier, _ in self._herd.owners}) if (flags & left).any() else ():
                count = int((flags & left & self._herd.of_tier(tier)).sum())
                if count:
                    found.append(Cause(setting, tier, count, _words(setting, tier, count, claim, policy)))
            left = left & ~flags
        return found

    def _kept_by(self, places: Iterable[Picks]) -> Flags:
        flags = np.zeros(len(self._live), np.bool_)
        for some in places:
            flags[some] = True
        return flags


def _words(setting: str, tier: str, count: int, claim: Claim, policy: Policy) -> str:
    who, have = (f"{count} tasks of {tier}", "have") if count > 1 else (f"1 task of {tier}", "has")
    why = {
        "min_run_s": f"{have} run for less than {policy.min_run_s.get(tier, 0) / 1e6:g} s",
        "preempted_per_hour": f"may be preempted at most {_times(policy.preempted_per_hour.get(tier, 0))} an hour",
        "gone_at_once": "only so many of one job may be gone at a time",
        "loses_per_hour": f"role and tier may lose at most {policy.loses_per_hour.get(tier, 0) / 1e3:g} cpu-s an hour",
        "destroys_per_hour": f"{claim.role}/{claim.tier} may destroy at most "
        f"{policy.destroys_per_hour.get(claim.tier, 0) / 1e3:g} cpu-s of work an hour",
    }
    return f"{who} could give way, but {why[setting]}"


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")
