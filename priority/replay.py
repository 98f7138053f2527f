"""A recording decided again: byte for byte the same, or, by another policy, what would have been otherwise.

With another policy each round is decided alone, from what was recorded before it: what the other policy did in one
round is not carried into the next one. So a task counts as started when the policy first starts it, and as a victim
once, however often it is named. A task that was started for real and by the other policy not yet is *left*: how much
longer it would have waited nobody knows. For a history of its own under a policy there is `simulate`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import unified_diff
from typing import Any

from priority.herd import work_lost
from priority.plan import make_plan
from priority.recording import Stage, as_bytes
from priority.snapshot import Snapshot
from priority.tally import spread


@dataclass(frozen=True, slots=True)
class Again:
    """One round, decided again."""

    number: int
    recorded: str
    made: str

    @property
    def same(self) -> bool:
        """Byte for byte."""
        return self.recorded == self.made

    def diff(self) -> list[str]:
        """What differs, a line for each entry of the plans."""
        recorded, made = (_entries(json.loads(text)) for text in (self.recorded, self.made))
        lines = list(unified_diff(recorded, made, "recorded", "decided again", lineterm="", n=1))
        return lines or ["the same entries, but not byte for byte"]


def decide_again(lines: Iterable[Mapping[str, Any]]) -> Iterator[Again]:
    """Each round of a recording, from its beginning. `Invalid` names what is wrong with a line."""
    stage = Stage()
    for line in lines:
        made = make_plan(stage.play(line))
        yield Again(int(line.get("round", 0)), as_bytes(line["plan"]), as_bytes(made.document()))


def _entries(plan: Mapping[str, Any]) -> list[str]:
    return [f"{name} {json.dumps(entry, sort_keys=True)}" for name in plan for entry in plan[name]]


@dataclass(slots=True)
class Side:
    """What one policy decided, over all rounds."""

    since: dict[str, int] = field(default_factory=dict)
    """When each task that was seen waiting began to."""
    started: dict[str, int] = field(default_factory=dict)
    victims: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Tier, and work lost in milli-cores times microseconds."""
    tiers: dict[str, str] = field(default_factory=dict)

    def see(self, snapshot: Snapshot, plan: Mapping[str, Any]) -> None:
        """One round, decided from this snapshot."""
        now_us = snapshot.now_us
        for claim in snapshot.pending():
            if claim.id not in self.since:
                self.since[claim.id] = claim.since_us
                self.tiers[claim.id] = claim.tier
        for placed in plan["launch"]:
            self.started.setdefault(placed["task"], now_us)
        for taken in plan["preempt"]:
            victim = snapshot.task(taken["task"])
            if victim is not None:
                self.victims.setdefault(victim.id, (victim.tier, work_lost(victim, now_us)))

    def report(self) -> dict[str, Any]:
        """Plain JSON."""
        waits: dict[str, list[int]] = {tier: [] for tier in sorted(set(self.tiers.values()))}
        left: Counter[str] = Counter()
        for id, since_us in self.since.items():
            if id in self.started:
                waits[self.tiers[id]].append(max(0, self.started[id] - since_us))
            else:
                left[self.tiers[id]] += 1
        tiers = Counter(tier for tier, _ in self.victims.values())
        every = [wait for many in waits.values() for wait in many]
        return {
            "waits": {
                "all": {**spread(every), "left": sum(left.values())},
                **{tier: {**spread(many), "left": left[tier]} for tier, many in waits.items()},
            },
            "victims": len(self.victims),
            "victims_by_tier": {tier: tiers[tier] for tier in sorted(tiers)},
            "lost_cpu_s": sum(lost for _, lost in self.victims.values()) / 1e9,
        }


@dataclass(slots=True)
class Compared:
    """Two policies over the same rounds."""

    recorded: Side = field(default_factory=Side)
    other: Side = field(default_factory=Side)
    rounds: int = 0
    otherwise: list[int] = field(default_factory=list)
    """The rounds that start or displace other tasks, or on other nodes."""

    def play(self, lines: Iterable[Mapping[str, Any]], rules: Mapping[str, Any]) -> Iterator[int]:
        """Each round's number, once it has been decided by both."""
        mine, theirs = Stage(), Stage(rules)
        for line in lines:
            self.recorded.see(mine.play(line), line["plan"])
            snapshot = theirs.play(line)
            plan = make_plan(snapshot).document()
            self.other.see(snapshot, plan)
            number = int(line.get("round", 0))
            self.rounds += 1
            if any(plan[name] != line["plan"][name] for name in ("launch", "preempt", "reserve")):
                self.otherwise.append(number)
            yield number

    def report(self) -> dict[str, Any]:
        """Plain JSON, side by side."""
        return {
            "rounds": self.rounds,
            "decided_otherwise": len(self.otherwise),
            "recorded": self.recorded.report(),
            "policy": self.other.report(),
        }
