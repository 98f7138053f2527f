"""What a history comes to: waits, utilisation, preemptions, work lost, fairness; and the same over time, for a picture.

- A wait is from when a task came until its first attempt was launched. The median of an even number is the mean of
  the two in the middle; the 95th percentile is the smallest wait that 95 % are not above (nearest rank).
- Utilisation is what attempts held, from launch until they were gone, over what the nodes have, from the first
  submission to the last end; `useful` counts only attempts that finished.
- Work lost is cpu-seconds from a victim's start to its preemption. Work failed is that of attempts that failed.
- Fairness is Jain's index (Jain, Chiu and Hawe 1984), `(sum x)^2 / (n sum x^2)`, 1 where all are equal. `shares`: over
  each role's dominant share of the whole time over its weight; it also tells of who asked for little. `contended`: over
  the roles that have tasks waiting, averaged over the times when two or more have. None where there are none.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from priority import resources
from priority.history import History, Outcome, Wait
from priority.node import NodeState

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

BUCKETS = 400
"""The steps of what is told over time."""


def jain(shares: Iterable[float]) -> float | None:
    """1: all have the same; 1/n: one has all. None of nobody, or if nobody has anything."""
    values = np.array(list(shares), np.float64)
    square = float((values**2).sum())
    return None if not square else round(float(values.sum()) ** 2 / (len(values) * square), 6)


def spread(waits_us: Sequence[int]) -> dict[str, Any]:
    """How many, mean, median, 95th percentile and longest, in seconds; None where there are none."""
    ordered = sorted(waits_us)
    many = len(ordered)
    if not many:
        return {"tasks": 0, "mean_s": None, "median_s": None, "p95_s": None, "max_s": None}
    middle = (ordered[(many - 1) // 2] + ordered[many // 2]) / 2
    p95 = ordered[math.ceil(0.95 * many) - 1]
    found = {"mean_s": sum(ordered) / many, "median_s": middle, "p95_s": p95, "max_s": ordered[-1]}
    return {"tasks": many, **{name: round(value / 1e6, 6) for name, value in found.items()}}


def means(starts: Floats, ends: Floats, amounts: Floats, edges: Floats) -> Floats:
    """The mean, in each step between two edges, of what intervals hold together. Exact but for rounding."""

    def integral(moments: Floats) -> Floats:
        order = np.argsort(moments, kind="stable")
        at, amount = moments[order], amounts[order]
        sums, areas = np.concatenate([[0.0], np.cumsum(amount)]), np.concatenate([[0.0], np.cumsum(amount * at)])
        upto = np.searchsorted(at, edges)
        return np.asarray(sums[upto] * edges - areas[upto])

    return np.diff(integral(starts) - integral(ends)) / np.maximum(np.diff(edges), 1e-9)


@dataclass(frozen=True, slots=True)
class Series:
    """Over time: `BUCKETS + 1` edges, in seconds since the trace began; of the others one value for each step."""

    edges: list[float]
    used: dict[str, list[float]]
    """By tier: cpus held, of all that there are."""
    waiting: dict[str, list[float]]
    """By tier: how many tasks waited."""
    preempted: list[int]
    """How many were preempted."""


class Tally:
    """Over a history that is complete."""

    def __init__(self, history: History) -> None:
        self.history = history
        works, cluster = history.works, history.cluster
        self._tiers = sorted({work.tier for work in works}, key=lambda name: (-cluster.tiers[name].rank, name))
        self._roles = sorted({work.role for work in works})
        nodes = [node for node in cluster.nodes if node.state != NodeState.DOWN]
        self._capacity = resources.total(node.capacity for node in nodes)
        self._axis = sorted(name for name, amount in self._capacity.items() if amount)
        self._tier: Codes = np.array([self._tiers.index(work.tier) for work in works], np.intp)
        codes = {name: code for code, name in enumerate(self._roles)}
        self._role: Codes = np.array([codes[work.role] for work in works], np.intp)
        self._request = np.array([[work.request.get(name, 0) for name in self._axis] for work in works], np.float64)
        self._request = self._request.reshape(len(works), len(self._axis))
        self._work: Codes = np.array([one.work for one in history.attempts], np.intp)
        self._start = np.array([one.start_us for one in history.attempts], np.float64)
        self._end = np.array([one.end_us for one in history.attempts], np.float64)
        self._done = np.array([one.outcome is Outcome.FINISHED for one in history.attempts], np.bool_)
        self.begin_us = min((work.submit_us for work in works), default=0)
        last = max((one.end_us for one in history.attempts), default=self.begin_us)
        self.end_us = max(last, max((work.submit_us for work in works), default=0))

    # --- as one document ---

    def report(self) -> dict[str, Any]:
        """Plain JSON, the same for the same history."""
        history = self.history
        outcomes = Counter(history.outcomes.values())
        return {
            "jobs": len(history.works),
            "tasks": sum(outcomes.values()),
            "nodes": len(history.cluster.nodes),
            "capacity": resources.plain(self._capacity),
            "makespan_s": (self.end_us - self.begin_us) / 1e6,
            "rounds": history.rounds,
            "outcomes": {outcome.value: outcomes[outcome] for outcome in Outcome},
            "attempts": len(history.attempts),
            "waits": self._waits(),
            "utilisation": self._utilisation(),
            "preemptions": self._preemptions(),
            "work": self._worked(),
            "fairness": self._fairness(),
        }

    def _waits(self) -> dict[str, Any]:
        works = self.history.works
        groups: dict[str, dict[str, list[int]]] = {"tiers": {}, "roles": {}, "tiers_roles": {}}
        never: Counter[tuple[str, str]] = Counter()
        every: list[int] = []
        for wait in self.history.waits:
            if not wait.first:
                continue
            work = works[wait.work]
            names = (("tiers", work.tier), ("roles", work.role), ("tiers_roles", f"{work.tier}/{work.role}"))
            for kind, name in names:
                mine = groups[kind].setdefault(name, [])
                if wait.until_us is None:
                    never[kind, name] += 1
                else:
                    mine.append(wait.until_us - wait.from_us)
            if wait.until_us is not None:
                every.append(wait.until_us - wait.from_us)
        order = {name: place for place, name in enumerate(self._tiers)}

        def turn(name: str) -> tuple[int, str]:
            return order.get(name.split("/", maxsplit=1)[0], 0), name

        found: dict[str, Any] = {"all": {**spread(every), "never": sum(never.values()) // len(groups)}}
        for kind, members in groups.items():
            found[kind] = {
                name: {**spread(members[name]), "never": never[kind, name]} for name in sorted(members, key=turn)
            }
        return found

    def _utilisation(self) -> dict[str, Any]:
        seconds = max(1.0, float(self.end_us - self.begin_us))
        held = self._request[self._work] * (self._end - self._start)[:, np.newaxis]
        total, useful = held.sum(axis=0), held[self._done].sum(axis=0)
        return {
            name: {
                "held": round(float(total[column]) / (self._capacity[name] * seconds), 6),
                "useful": round(float(useful[column]) / (self._capacity[name] * seconds), 6),
            }
            for column, name in enumerate(self._axis)
        }

    def _preemptions(self) -> dict[str, Any]:
        works, losses = self.history.works, self.history.losses
        times = Counter(one.task for one in self.history.attempts if one.outcome is Outcome.PREEMPTED)
        tiers = Counter(works[loss.victim].tier for loss in losses)
        lost: Counter[str] = Counter()
        gained: Counter[str] = Counter()
        for loss in losses:
            lost[works[loss.victim].role] += loss.lost
            gained[works[loss.preemptor].role] += loss.lost
        return {
            "total": len(losses),
            "tasks": len(times),
            "most_of_one_task": max(times.values(), default=0),
            "by_tier": {name: tiers[name] for name in self._tiers if tiers[name]},
            "lost_cpu_s_by_role": {name: lost[name] / 1e9 for name in sorted(lost)},
            "destroyed_cpu_s_by_role": {name: gained[name] / 1e9 for name in sorted(gained)},
        }

    def _worked(self) -> dict[str, Any]:
        """In cpu-seconds."""
        sums = dict.fromkeys(Outcome, 0)
        for one in self.history.attempts:
            cpus = self.history.works[one.work].request.get("cpus", 0)
            sums[one.outcome] += cpus * (one.end_us - one.start_us)
        lost = sum(loss.lost for loss in self.history.losses)
        done, failed = sums[Outcome.FINISHED], sums[Outcome.FAILED]
        return {
            "done_cpu_s": done / 1e9,
            "lost_cpu_s": lost / 1e9,
            "failed_cpu_s": failed / 1e9,
            "notice_cpu_s": (sums[Outcome.PREEMPTED] - lost) / 1e9,
        }

    # --- fairness ---

    def _fairness(self) -> dict[str, Any]:
        span = max(1.0, float(self.end_us - self.begin_us))
        edges = np.array([self.begin_us, self.begin_us + span], np.float64)
        shares = {role: float(self._shares(role, edges)[0]) for role in self._roles}
        weights = {role: self._weight(role) for role in self._roles}
        return {
            "jain_shares": jain(shares[role] / weights[role] for role in self._roles),
            "jain_contended": self._contended(),
            "roles": {
                role: {"share": round(shares[role], 6), "weight": weights[role], "work": self._done_by(role)}
                for role in self._roles
            },
        }

    def _weight(self, role: str) -> float:
        rules = self.history.cluster.roles.get(role)
        return 1.0 if rules is None else rules.weight

    def _done_by(self, role: str) -> float:
        """Cpu-seconds of attempts that finished."""
        if "cpus" not in self._axis:
            return 0.0
        mine = self._done & (self._role[self._work] == self._roles.index(role))
        cpus = self._request[self._work[mine], self._axis.index("cpus")]
        return round(float((cpus * (self._end - self._start)[mine]).sum()) / 1e9, 6)

    def _shares(self, role: str, edges: Floats) -> Floats:
        """Its dominant share in each step."""
        mine = self._role[self._work] == self._roles.index(role)
        start, end, request = self._start[mine], self._end[mine], self._request[self._work[mine]]
        lines = [
            means(start, end, request[:, column], edges) / self._capacity[name]
            for column, name in enumerate(self._axis)
        ]
        return np.max(lines, axis=0) if lines else np.zeros(len(edges) - 1)

    def _contended(self) -> float | None:
        edges = self._edges()
        works = self.history.works
        waits: dict[str, list[Wait]] = {role: [] for role in self._roles}
        for wait in self.history.waits:
            waits[works[wait.work].role].append(wait)
        pending = {role: self._queue(waits[role], edges) for role in self._roles}
        crowded = [role for role in self._roles if pending[role].any()]
        if len(crowded) < 2:
            return None
        shares = np.array([self._shares(role, edges) / self._weight(role) for role in crowded])
        wait_now = np.array([pending[role] > 0 for role in crowded])
        found = [
            index
            for step in np.flatnonzero(wait_now.sum(axis=0) > 1)
            if (index := jain(shares[wait_now[:, step], step])) is not None
        ]
        return round(sum(found) / len(found), 6) if found else None

    # --- over time ---

    def series(self) -> Series:
        """For a picture."""
        edges = self._edges()
        used, waiting = {}, {}
        cpus = np.zeros(len(self._work))
        if "cpus" in self._axis:
            cpus = self._request[self._work, self._axis.index("cpus")]
        for code, tier in enumerate(self._tiers):
            mine = self._tier[self._work] == code
            used[tier] = (means(self._start[mine], self._end[mine], cpus[mine], edges) / 1000).round(3).tolist()
            waits = [wait for wait in self.history.waits if self._tier[wait.work] == code]
            waiting[tier] = self._queue(waits, edges).round(3).tolist()
        at = np.array([loss.at_us for loss in self.history.losses], np.float64)
        preempted = np.histogram(at, edges)[0].tolist()
        return Series(((edges - self.begin_us) / 1e6).round(3).tolist(), used, waiting, preempted)

    @property
    def cpus(self) -> float:
        """What all the nodes have."""
        return self._capacity.get("cpus", 0) / 1000

    @property
    def tiers(self) -> Sequence[str]:
        """Of the trace, the highest first."""
        return self._tiers

    def _edges(self) -> Floats:
        return np.linspace(self.begin_us, max(self.end_us, self.begin_us + 1), BUCKETS + 1)

    def _queue(self, waits: Sequence[Wait], edges: Floats) -> Floats:
        start = np.array([wait.from_us for wait in waits], np.float64)
        end = np.array([self.end_us if wait.until_us is None else wait.until_us for wait in waits], np.float64)
        return np.maximum(means(start, np.maximum(start, end), np.ones(len(waits)), edges).round(9), 0.0)


def side_by_side(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """The numbers of two reports that differ, by path."""
    found: list[tuple[str, Any, Any]] = []
    for name in dict.fromkeys([*mine, *theirs]):
        left, right = mine.get(name), theirs.get(name)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            found.extend((f"{name}.{path}", one, other) for path, one, other in side_by_side(left, right))
        elif left != right:
            found.append((name, left, right))
    return found
