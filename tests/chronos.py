"""Chronos' own question, as Jepsen asked it: did a run begin in every window? And our stricter one.

A target is a window `[t, t + epsilon + forgiveness]`; a run is what a task itself wrote down. Each target needs a
complete run of its own that began inside. Points to intervals is a convex matching, so the greedy one is the largest:
walk the runs by their start and give each to the open window that closes first.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

FORGIVENESS_S = 5.0


@dataclass(frozen=True)
class Run:
    """By the witness: it began, and ended if it did. `tick_s` is what it was told that it is for; first attempts only
    are runs, a retry belongs to the same tick.
    """

    start_s: float
    end_s: float | None
    tick_s: float | None = None


@dataclass(frozen=True)
class Target:
    start_s: float
    end_s: float


def targets(ticks_s: Iterable[float], epsilon_s: float, duration_s: float, read_s: float) -> list[Target]:
    """Those that must have been met when the runs were read: until epsilon and duration before that."""
    cutoff = read_s - epsilon_s - duration_s
    return [Target(at, at + epsilon_s + FORGIVENESS_S) for at in ticks_s if at < cutoff]


def unmet(wanted: Sequence[Target], runs: Iterable[Run]) -> list[Target]:
    """Chronos' mode: the targets without a run, in whole seconds; none if there is a solution at all."""
    waiting = sorted(wanted, key=lambda one: one.start_s, reverse=True)
    open_: list[tuple[int, int, Target]] = []
    left: list[Target] = []
    for run in sorted((run for run in runs if run.end_s is not None), key=lambda one: one.start_s):
        at = int(run.start_s)
        while waiting and int(waiting[-1].start_s) <= at:
            target = waiting.pop()
            heapq.heappush(open_, (int(target.end_s), id(target), target))
        while open_ and open_[0][0] < at:
            left.append(heapq.heappop(open_)[2])
        if open_:
            heapq.heappop(open_)
    return left + [target for _, _, target in open_] + waiting


@dataclass(frozen=True)
class Row:
    """What the service wrote down of a tick."""

    tick_s: float
    outcome: str


def complaints(
    ticks_s: Sequence[float],
    rows: Sequence[Row],
    runs: Sequence[Run],
    *,
    late_s: float,
    able: Sequence[tuple[float, float]],
    needs_s: float,
) -> list[str]:
    """Our mode, to the millisecond and without forgiveness. One row for each tick; one run for each row that says so
    and none for another; none before its time; and a miss only if the service was never able to act, for `needs_s` at
    a stretch, within `late_s` of the tick. `able` are the spans in which it was.
    """
    found = []
    if sorted(row.tick_s for row in rows) != sorted(ticks_s):
        there = [row.tick_s for row in rows]
        lost = [at for at in ticks_s if at not in there]
        found.append(f"rows do not fit: lost {lost}, extra {[at for at in there if at not in ticks_s]}")
    began: dict[float | None, list[Run]] = {}
    for run in runs:
        began.setdefault(run.tick_s, []).append(run)
        if run.tick_s is None or run.start_s < run.tick_s:
            found.append(f"{run} was before its time")
    by_tick = {row.tick_s: row.outcome for row in rows}
    for tick_s, some in began.items():
        if by_tick.get(tick_s if tick_s is not None else -1.0) != "started":
            found.append(f"{some} for a tick that is {by_tick.get(tick_s or -1.0)}")
        if len(some) > 1:
            found.append(f"{some} are two runs of one tick")
    for tick_s, outcome in by_tick.items():
        if outcome == "started" and tick_s not in began:
            found.append(f"{tick_s} was started, but no run said so")
        spans = ((max(low, tick_s), min(high, tick_s + late_s)) for low, high in able)
        if outcome == "missed" and any(high - low >= needs_s for low, high in spans):
            found.append(f"{tick_s} was missed although there was time")
    return found
