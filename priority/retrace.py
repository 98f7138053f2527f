"""A recording as a trace: what came when and how long it ran, to be simulated under any policy.

What a recording cannot tell is supposed: what still ran when it ended (*cut*), or never ran in it (*guessed*), would
have run for as long as the others mostly did, if it has not run for longer already.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from statistics import median_low
from typing import Any

from priority.claim import DYING, PENDING, Claim
from priority.history import Cluster
from priority.reading import RoleRules, read_time
from priority.recording import Stage
from priority.snapshot import Snapshot
from priority.trace import Work

_ATTEMPT = re.compile(r"(.+-\d+)-(\d+)", re.ASCII)
"""A task's id: job, instance, attempt."""


@dataclass(slots=True)
class _Attempt:
    claim: Claim
    came_us: int
    started_us: int | None = None
    told_us: int | None = None
    """When it was seen on its way out."""
    gone_us: int | None = None

    def ran_us(self, end_us: int) -> int:
        """Until it was told to go, or ended, or the recording did."""
        upto = min(at for at in (self.told_us, self.gone_us, end_us) if at is not None)
        return 0 if self.started_us is None else max(0, upto - self.started_us)


@dataclass(slots=True)
class Retrace:
    """`see` every line of a recording, in their order, and what its round was decided from; then `works`."""

    end_us: int = 0
    cut: int = 0
    guessed: int = 0
    _attempts: dict[str, _Attempt] = field(default_factory=dict)

    def see(self, line: Mapping[str, Any], snapshot: Snapshot) -> None:
        """One round."""
        self.end_us = snapshot.now_us
        for id, when in line.get("gone", {}).get("tasks", {}).items():
            if id in self._attempts:
                self._attempts[id].gone_us = read_time(when, "gone")
        if "snapshot" in line:
            for id, attempt in self._attempts.items():
                if attempt.gone_us is None and snapshot.task(id) is None:
                    attempt.gone_us = self.end_us
        part = line["snapshot"] if "snapshot" in line else line["changes"]
        for task in part.get("tasks", ()):
            claim = snapshot.task(task["id"])
            if claim is not None:
                self._note(claim)
        for placed in line["plan"]["launch"]:
            launched = self._attempts.get(placed["task"])
            if launched is not None and launched.started_us is None:
                launched.started_us = self.end_us

    def _note(self, claim: Claim) -> None:
        attempt = self._attempts.setdefault(claim.id, _Attempt(claim, claim.since_us))
        attempt.claim = claim
        if claim.state != PENDING and attempt.started_us is None:
            attempt.started_us = claim.since_us
        if claim.state in DYING and attempt.told_us is None:
            attempt.told_us = self.end_us

    def works(self) -> list[Work]:
        """What came, in microseconds since the first of it."""
        chains: dict[str, list[_Attempt]] = {}
        for id in sorted(self._attempts, key=_in_order):
            match = _ATTEMPT.fullmatch(id)
            chains.setdefault(match[1] if match else id, []).append(self._attempts[id])
        begin_us = min((chain[0].came_us for chain in chains.values()), default=0)
        ran = [one.ran_us(self.end_us) for one in self._attempts.values() if one.gone_us and one.told_us is None]
        notices = [one.gone_us - one.told_us for one in self._attempts.values() if one.gone_us and one.told_us]
        usual_us, notice_us = (median_low(many) if many else 0 for many in (ran, notices))
        self.cut = self.guessed = 0
        works = [self._work(name, chain, begin_us, usual_us, notice_us) for name, chain in chains.items()]
        return _gangs(works, {name: chain[0].claim.gang for name, chain in chains.items()})

    def _work(self, name: str, chain: list[_Attempt], begin_us: int, usual_us: int, notice_us: int) -> Work:
        last, claim = chain[-1], chain[0].claim
        longest = max(one.ran_us(self.end_us) for one in chain)
        runtime_us = last.ran_us(self.end_us)
        if last.started_us is None or (last.told_us is not None and last.claim.state == "preempting"):
            runtime_us = max(longest, usual_us)
            self.guessed += 1
        elif last.gone_us is None:
            runtime_us = max(runtime_us, usual_us)
            self.cut += 1
        failures = sum(one.gone_us is not None and one.told_us is None for one in chain[:-1])
        return Work(
            id=name,
            submit_us=chain[0].came_us - begin_us,
            runtime_us=runtime_us,
            role=claim.role,
            user=claim.user,
            tier=claim.tier,
            request=claim.request,
            priority=claim.priority,
            constraints=claim.constraints,
            notice_us=notice_us,
            failures=failures,
            max_failures=-1,
            at_once=claim.at_once,
            job=claim.job,
        )


def _in_order(id: str) -> tuple[str, int]:
    match = _ATTEMPT.fullmatch(id)
    return (match[1], int(match[2])) if match else (id, 0)


def _gangs(works: Iterable[Work], gangs: Mapping[str, str | None]) -> list[Work]:
    """The members of a gang as one work, as long as the longest of them."""
    found: dict[str, Work] = {}
    for work in works:
        gang = gangs[work.id]
        if gang is None:
            found[work.id] = work
        elif gang not in found:
            found[gang] = replace(work, id=gang, gang=True)
        else:
            former = found[gang]
            longest = max(former.runtime_us, work.runtime_us)
            found[gang] = replace(former, instances=former.instances + 1, runtime_us=longest)
    return sorted(found.values(), key=lambda work: (work.submit_us, work.id))


def cluster_of(stage: Stage) -> Cluster:
    """What a recording ended with. Guarantees are left out: what was recorded had been admitted."""
    snapshot = stage.snapshot
    soft = {name for name, tier in snapshot.tiers.items() if tier.preemptible}

    def ceilings(rules: RoleRules) -> RoleRules:
        users = {user: {tier: one[tier] for tier in one if tier in soft} for user, one in rules.users.items()}
        return RoleRules(rules.weight, {tier: rules.quota[tier] for tier in rules.quota if tier in soft}, users)

    roles = {name: ceilings(rules) for name, rules in snapshot.roles().items()}
    return Cluster(tuple(snapshot.nodes()), snapshot.tiers, roles, snapshot.policy)
