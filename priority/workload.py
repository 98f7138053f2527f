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
import numpy.typing as npt

from priority.resources import Resources
from priority.trace import Work

Floats = npt.NDArray[np.float64]

DAY_S = 86_400
_TRIES = 30


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

_MEM_PARTS = (4, 2, 1)


def workload(
    seed: int, *, jobs: int, days: float, cpus: float, load: float, widest: int = 16, mem_a_cpu: int = 4096
) -> Iterator[Work]:
    """So many jobs of one instance each over so many days, in the order of their submission.

    No job is wider than `widest` cores; each has a quarter, half or all of `mem_a_cpu` MiB for each of its cores. Run
    times are stretched so that all of them together ask for `load` times what `cpus` cores could give in that time, but
    none over a tenth of it (so that a load may be out of reach). The same arguments give the same works.
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
        mem[picks] = mem_a_cpu // rng.choice(_MEM_PARTS, size=many)
        role[picks] = rng.integers(len(kind.roles), size=many)
        user[picks] = rng.integers(kind.users, size=many)
    wide = np.minimum(wide, max(1, widest))
    mem = wide * mem
    runtime = _stretched(runtime, wide, load * cpus * days * DAY_S, days * DAY_S / 10)
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
            request=requests.setdefault(size, _request(*size)),
        )


def _request(cpus: int, mem: int) -> Resources:
    return {"cpus": 1000 * cpus, "mem": mem} if mem else {"cpus": 1000 * cpus}


def _stretched(runtime: Floats, wide: npt.NDArray[np.int64], goal: float, most: float) -> Floats:
    """Run times of the same shape that make `goal` cpu-seconds in all, none longer than `most`."""
    for _ in range(_TRIES):
        asked = float((runtime * wide).sum())
        if not asked:
            break
        runtime = np.minimum(runtime * goal / asked, most)
    return runtime


def _moments(rng: np.random.Generator, many: int, days: float, daily: float) -> Floats:
    """Times in seconds, the more the nearer to noon."""
    found = np.zeros(0)
    while len(found) < many:
        times = rng.uniform(0.0, days * DAY_S, 2 * many + 16)
        chance = 1 - daily * (0.5 + 0.5 * np.cos(2 * np.pi * times / DAY_S))
        found = np.concatenate([found, times[rng.uniform(size=len(times)) < chance]])
    return found[:many]
