"""A recording decided again: byte for byte the same, or, by another policy, what would have been otherwise.

With another policy there are two answers. *In the same rounds*: each is decided alone, from what was recorded before
it, and what the other policy did in one is not carried into the next; a task counts as a victim once, however often it
is named. *From there on*: the recording as a trace (see `retrace`), simulated under the recorded rules and under the
others, so that what differs between these two is the policy's doing.
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
from priority.retrace import Retrace, cluster_of
from priority.simulate import Simulation
from priority.snapshot import Snapshot
from priority.tally import Tally
from priority.trace import Work


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
    """What one policy decided in the same rounds."""

    started: set[str] = field(default_factory=set)
    victims: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Tier, and work lost in milli-cores times microseconds."""

    def see(self, snapshot: Snapshot, plan: Mapping[str, Any]) -> None:
        """One round, decided from this snapshot."""
        self.started.update(placed["task"] for placed in plan["launch"])
        for taken in plan["preempt"]:
            victim = snapshot.task(taken["task"])
            if victim is not None:
                self.victims.setdefault(victim.id, (victim.tier, work_lost(victim, snapshot.now_us)))

    def report(self) -> dict[str, Any]:
        """Plain JSON."""
        tiers = Counter(tier for tier, _ in self.victims.values())
        return {
            "started": len(self.started),
            "victims": len(self.victims),
            "victims_by_tier": {tier: tiers[tier] for tier in sorted(tiers)},
            "lost_cpu_s": sum(lost for _, lost in self.victims.values()) / 1e9,
        }


class Compared:
    """Two policies over the same recording: play it, then ask."""

    def __init__(self, rules: Mapping[str, Any]) -> None:
        self._rules = rules
        self._recorded, self._other = Side(), Side()
        self._mine, self._theirs = Stage(), Stage(rules)
        self._retrace = Retrace()
        self._rounds = self._otherwise = 0

    def play(self, lines: Iterable[Mapping[str, Any]]) -> Iterator[int]:
        """The rounds of one file, the oldest file first; each one's number, once it has been decided by both."""
        self._mine, self._theirs = Stage(), Stage(self._rules)
        for line in lines:
            snapshot = self._mine.play(line)
            self._recorded.see(snapshot, line["plan"])
            self._retrace.see(line, snapshot)
            snapshot = self._theirs.play(line)
            plan = make_plan(snapshot).document()
            self._other.see(snapshot, plan)
            self._rounds += 1
            self._otherwise += any(plan[name] != line["plan"][name] for name in ("launch", "preempt", "reserve"))
            yield int(line.get("round", 0))

    def report(self) -> dict[str, Any]:
        """Plain JSON, side by side."""
        works = self._retrace.works()
        mine, theirs = (_onward(stage, works) for stage in (self._mine, self._theirs))
        return {
            "rounds": self._rounds,
            "decided_otherwise": self._otherwise,
            "same_rounds": {"recorded": self._recorded.report(), "policy": self._other.report()},
            "from_there_on": {
                "tasks": sum(work.instances for work in works),
                "cut": self._retrace.cut,
                "guessed": self._retrace.guessed,
                "recorded": mine,
                "policy": theirs,
            },
        }


def _onward(stage: Stage, works: list[Work]) -> dict[str, Any]:
    report = Tally(Simulation(cluster_of(stage), works).run()).report()
    return {
        "waits": {"all": report["waits"]["all"], **report["waits"]["tiers"]},
        "victims": report["preemptions"]["total"],
        "victims_by_tier": report["preemptions"]["by_tier"],
        "lost_cpu_s": report["work"]["lost_cpu_s"],
        "makespan_s": report["makespan_s"],
    }
