"""A workload made up from a seed: for tests, for measuring, and to try a policy before there is a trace of one's own.

Three kinds of work share the cluster, as at a laboratory: *prod* comes in waves of jobs with several instances,
about a third of the load; *devel* is many short jobs of many users, by day more than by night; *opportunistic* fills
what is left with long jobs of one core, which nobody waits for. Run times are log-normal, as those of real traces are
(Feitelson, Workload Modeling, 2015, chapter 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from priority.resources import Resources
from priority.trace import Work

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class _Kind:
    tier: str
    jobs: float
    """Of all jobs."""
    roles: tuple[str, ...]
    users: int
    """Of each role."""
    minutes: float
    """The median run time."""
    spread: float
    """Of its logarithm."""
    cpus: tuple[int, ...]
    chances: tuple[float, ...]
    daily: float
    """How much more comes by day than by night, from 0 to 1."""


_KINDS = (
    _Kind("prod", 0.2, ("online", "reco", "services"), 2, 90.0, 1.0, (4, 8, 16), (0.5, 0.3, 0.2), 0.2),
    _Kind(
        "devel", 0.5, ("physics", "ci", "detector", "reco"), 12, 12.0, 1.5, (1, 2, 4, 8), (0.5, 0.25, 0.2, 0.05), 0.8
    ),
    _Kind("opportunistic", 0.3, ("simulation", "theory"), 3, 240.0, 0.8, (1, 2), (0.8, 0.2), 0.0),
)

_MEM_MIB_A_CPU = (1024, 2048, 4096)


def workload(seed: int, *, jobs: int, days: float, cpus: float, load: float) -> Iterator[Work]:
    """So many jobs of one instance each over so many days, in the order of their submission.

    Run times are stretched so that all of them together ask for `load` times what `cpus` cores could give in that
    time. The same arguments give the same works.
    """
    rng = np.random.default_rng(seed)
    which = rng.choice(len(_KINDS), size=jobs, p=[kind.jobs for kind in _KINDS])
    submit = np.zeros(jobs)
    runtime, wide, mem = np.zeros(jobs), np.zeros(jobs, np.int64), np.zeros(jobs, np.int64)
    role, user = np.zeros(jobs, np.int64), np.zeros(jobs, np.int64)
    for code, kind in enumerate(_KINDS):
        picks = np.flatnonzero(which == code)
        many = len(picks)
        submit[picks] = _moments(rng, many, days, kind.daily)
        runtime[picks] = 60 * kind.minutes * np.exp(rng.normal(0.0, kind.spread, many))
        wide[picks] = rng.choice(kind.cpus, size=many, p=kind.chances)
        mem[picks] = wide[picks] * rng.choice(_MEM_MIB_A_CPU, size=many)
        role[picks] = rng.integers(len(kind.roles), size=many)
        user[picks] = rng.integers(kind.users, size=many)
    asked = float((runtime * wide).sum())
    if asked:
        runtime *= load * cpus * days * DAY_S / asked
    requests: dict[tuple[int, int], Resources] = {}
    for number, index in enumerate(np.argsort(submit, kind="stable").tolist()):
        kind = _KINDS[which[index]]
        size = int(wide[index]), int(mem[index])
        name = kind.roles[role[index]]
        yield Work(
            id=f"j{number + 1}",
            submit_us=int(submit[index]) * 1_000_000,
            runtime_us=max(1, int(runtime[index])) * 1_000_000,
            role=name,
            user=f"{name}{user[index]}",
            tier=kind.tier,
            request=requests.setdefault(size, {"cpus": 1000 * size[0], "mem": size[1]}),
        )


def _moments(
    rng: np.random.Generator, many: int, days: float, daily: float
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Times in seconds, the more the nearer to noon."""
    found = np.zeros(0)
    while len(found) < many:
        times = rng.uniform(0.0, days * DAY_S, 2 * many + 16)
        chance = 1 - daily * (0.5 + 0.5 * np.cos(2 * np.pi * times / DAY_S))
        found = np.concatenate([found, times[rng.uniform(size=len(times)) < chance]])
    return found[:many]
