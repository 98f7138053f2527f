"""What cron jobs take of a guaranteed quota: the largest of what is kept for their runs and what their runs hold.

A run that fits into what is kept takes nothing more, and gives nothing back when it ends. So the counter of use
(`Writer.charge`) always holds, for each cron job, `quota.largest(reserve, running)`; every change of either is told as
the difference of two such values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from priority.crontab import Cron, Key, Run
from priority.job import Job
from priority.ports import Writer
from priority.quota import largest
from priority.resources import Resources, minus, times, total

Deltas = dict[Key, Resources]
"""(role, tier, user) -> what to charge."""


def add(deltas: Deltas, owner: Key, amounts: Mapping[str, int]) -> None:
    """To what is to be charged to `owner`."""
    mine = deltas.setdefault(owner, {})
    for name, amount in amounts.items():
        mine[name] = mine.get(name, 0) + amount


def held_by(user: str, runs: Iterable[Run]) -> Resources:
    """What of these runs is this user's."""
    return total(run.holds for run in runs if run.user == user)


def given_back(writer: Writer, ended: Iterable[tuple[Job, int]]) -> Deltas:
    """What the end of so many instances of runs changes. To be asked before they are tallied."""
    gone: dict[Key, dict[str, list[Any]]] = {}
    for job, count in ended:
        spec = job.spec
        by_user = gone.setdefault((spec.role, spec.tier, spec.name), {})
        by_user.setdefault(job.user, []).append(times(spec.resources, count))
    crons, runs = writer.crons_of(gone.keys()), writer.cron_runs(gone.keys())
    deltas: Deltas = {}
    for key, by_user in gone.items():
        cron = crons.get(key)
        for user, amounts in by_user.items():
            reserve = cron.reserve if cron is not None and cron.user == user else {}
            before = held_by(user, runs.get(key, ()))
            after = minus(before, total(amounts))
            add(deltas, (key[0], key[1], user), difference(largest(reserve, before), largest(reserve, after)))
    return deltas


def difference(before: Resources, after: Resources) -> Resources:
    """What to charge when the one becomes the other."""
    return {name: after.get(name, 0) - before.get(name, 0) for name in [*before, *after]}


def template_of(cron: Cron) -> Resources:
    """What one whole run of it holds."""
    return times(cron.spec.resources, cron.spec.instances)
