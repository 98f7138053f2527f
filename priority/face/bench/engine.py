"""`priority bench engine`: how long the engine takes to decide, at datacentre scale, on seeded clusters.

Decision time only: the snapshot is kept up event by event, as the scheduler does it, and what is timed is `make_plan`
(where the round's own events are part of the figure, they are timed too). Processor time of one process, the median of
the runs. Between two runs a task comes and goes, so that no run finds the world as the last one left it.

The goals are those of a prototype, and what others publish of the same shapes is in README.md.
"""

from __future__ import annotations

import gc
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import orjson
from rich.console import Console
from rich.table import Table

from priority.certify import certify
from priority.claim import Claim
from priority.face.bench import worlds
from priority.face.bench.figures import Figure, figure
from priority.face.bench.worlds import task
from priority.plan import Plan, make_plan
from priority.snapshot import Snapshot

RUNS, LONG_MS, SHORT_MS = 5, 5_000.0, 100.0
"""So many runs of a measure; fewer once they took so long together, and up to four times as many if they are short."""

Size = tuple[int, int]
SIZES: tuple[Size, ...] = ((1_000, 0), (10_000, 1))
FULL: tuple[Size, ...] = (*SIZES, (100_000, 2))
"""Nodes, and which column of the goals; ten tasks a node."""

PLACE_GOALS: dict[int, tuple[float | None, ...]] = {
    1: (None, 2, 10),
    100: (None, 13, 80),
    1_000: (30, 80, 800),
    10_000: (300, 350, 400),
}
CHECK_GOAL = 0.1
"""To certify a plan is to take no larger part of the time in which it is made."""

STORM_GOALS: dict[int, tuple[float, ...]] = {10: (70, 70, 300), 1_000: (300, 1_000, 9_000)}


def measure(*, full: bool = False) -> Iterator[Figure]:
    """Every figure, as it is measured."""
    for nodes, column in FULL if full else SIZES:
        yield from placing(nodes, column)
        yield from searches(nodes, column)
        yield from storms(nodes, column)
        yield from mixed(nodes, column)
        if column:
            yield memory(nodes, column)
    yield from hosts_of_one()
    yield many_jobs()
    yield preemptors()
    yield reclaim()


def run(*, json: bool = False, full: bool = False) -> int:
    """Measure and print: a JSON object a line, or a table. The exit status: 1 if a goal was missed."""
    missed = 0
    console = Console(stderr=json)
    table = Table("measure", "size", "value", "goal", box=None, header_style="bold")
    with console.status("making clusters") as status:
        for one in measure(full=full):
            missed += one.met is False
            status.update(f"after {one.measure}, {one.size}: {one.value:g} {one.unit}")
            if json:
                print(orjson.dumps(one.plain()).decode(), flush=True)  # noqa: T201 - this is the output
                continue
            style = {True: "green", False: "red", None: "default"}[one.met]
            goal = "" if one.goal is None else f"{one.goal:g}"
            table.add_row(one.measure, one.size, f"[{style}]{one.value:g} {one.unit}", goal)
    if not json:
        console.print(table)
    return 1 if missed else 0


def size_of(nodes: int) -> str:
    """As it is printed."""
    return f"{nodes:,} nodes, {10 * nodes:,} tasks"


def decide(snapshot: Snapshot, runs: int = RUNS) -> tuple[list[float], Plan]:
    """Milliseconds of processor time that a plan takes, some times over, and the plan."""
    times: list[float] = []
    plan = make_plan(snapshot)  # once outside of the figure, for what is made on first use
    gc.collect()
    while sum(times) < LONG_MS and (len(times) < runs or (len(times) < 4 * RUNS and sum(times) < SHORT_MS)):
        _come_and_go(snapshot)
        times.append(timed(lambda: make_plan(snapshot)))
    return times, plan


def timed(act: Callable[[], object]) -> float:
    """Milliseconds of processor time."""
    began = time.process_time()
    kept = act()
    taken = 1000 * (time.process_time() - began)
    del kept
    return taken


def _come_and_go(snapshot: Snapshot) -> None:
    """A task runs somewhere and ends: the next plan must look at the snapshot anew."""
    name = next(snapshot.nodes()).name
    snapshot.put_task(task("bench", "devel", {"cpus": 1}, node=name))
    snapshot.drop_task("bench")


# --- the table


def placing(nodes: int, column: int) -> Iterator[Figure]:
    """Very many tasks, of one request to ten thousand, on a cluster with room for all."""
    count = 100_000 if nodes > 1_000 else 10_000
    for kinds, goals in PLACE_GOALS.items():
        if goals[column] is None:
            continue
        snapshot = worlds.half_full(nodes)
        for claim in worlds.wave(count, worlds.shapes(kinds)):
            snapshot.put_task(claim)
        runs, plan = decide(snapshot)
        _expect(len(plan.launch) == count, "not all were placed")
        yield figure(f"place {count:,} tasks of {kinds:,} shapes", size_of(nodes), runs, "ms", goals[column])


def searches(nodes: int, column: int) -> Iterator[Figure]:
    """One prod task on a cluster full of devel: one victim, and several."""
    snapshot = worlds.full(nodes)
    for what, cpus, goals in (("one victim", 4, (0.15, 0.5, 10)), ("3-6 victims", 30, (0.5, 3, 35))):
        snapshot.put_task(task("p", "prod", {"cpus": 1000 * cpus, "mem": 4096 * cpus}))
        runs, plan = decide(snapshot, 4 * RUNS)
        _expect(len(plan.reserve) == 1, "nothing was displaced")
        yield figure(f"preemption search, {what}", size_of(nodes), runs, "ms", goals[column])
        yield _checked(f"a search, {what}", nodes, runs, _certifying(snapshot, plan))
        snapshot.drop_task("p")


def storms(nodes: int, column: int) -> Iterator[Figure]:
    """A thousand prod tasks at once on a cluster full of devel."""
    for kinds, goals in STORM_GOALS.items():
        snapshot = worlds.full(nodes)
        for claim in worlds.wave(1_000, worlds.shapes(kinds)):
            snapshot.put_task(claim)
        runs, plan = decide(snapshot)
        _expect(not plan.wait, "some found no room")
        _expect(not certify(snapshot, plan), "the plan is not as it must be")
        what = f"1,000 prod tasks on a cluster full of devel, {kinds:,} shapes"
        yield figure(what, size_of(nodes), runs, "ms", goals[column])
        times = _certifying(snapshot, plan)
        if kinds == 1_000 and column:
            yield figure("certify a plan of 1,000 preemptions", size_of(nodes), times, "ms", (0, 10, 100)[column])
        yield _checked(f"1,000 prod tasks, {kinds:,} shapes", nodes, runs, times)


def _certifying(snapshot: Snapshot, plan: Plan, runs: int = RUNS) -> list[float]:
    """Milliseconds that it takes to certify a plan, some times over."""
    return [timed(lambda: certify(snapshot, plan)) for _ in range(runs)]


def _checked(what: str, nodes: int, made: list[float], checked: list[float]) -> Figure:
    """What part of the time in which a plan is made it takes to certify it, too."""
    part = statistics.median(checked) / statistics.median(made)
    return figure(f"certify / make the plan, {what}", size_of(nodes), [part], "", CHECK_GOAL)


def mixed(nodes: int, column: int) -> Iterator[Figure]:
    """A thousand tasks end, fifty groups of twenty come, and eight that must displace: events and plan together."""
    dice = random.Random(5)
    snapshot = worlds.full(nodes)
    times, plans, checks = [], list[float](), list[float]()
    for run in range(RUNS):
        running = sorted(claim.id for claim in snapshot.tasks() if claim.state == "running")
        ends = dice.sample(running, 1_000)
        requests = worlds.shapes(50, seed=run)
        comes = [
            task(f"c{run}-{index:04d}", "devel", requests[index // 20], role=f"r{index % worlds.ROLES}")
            for index in range(1_000)
        ]
        comes += [task(f"d{run}-{n}", "prod", {"cpus": 30_000 + 1000 * n, "mem": 131_072}) for n in range(8)]
        gc.collect()
        events = timed(lambda e=ends, c=comes: _bring(snapshot, e, c))  # type: ignore[misc]
        made: list[Plan] = []
        plans.append(timed(lambda m=made: m.append(make_plan(snapshot))))  # type: ignore[misc]
        times.append(events + plans[-1])
        checks += _certifying(snapshot, made[0], 1)
        for claim in [*snapshot.pending()]:
            snapshot.drop_task(claim.id)
    what = "mixed round: 1,000 ends, 50 groups of 20, 8 searches"
    yield figure(what, size_of(nodes), times, "ms", (7, 20, 50)[column])
    yield _checked("mixed round", nodes, plans, checks)


def _bring(snapshot: Snapshot, ends: list[str], comes: list[Claim]) -> None:
    for id in ends:
        snapshot.drop_task(id)
    for claim in comes:
        snapshot.put_task(claim)


def memory(nodes: int, column: int) -> Figure:
    """The resident memory of a process that has the cluster in a snapshot and has made a plan."""
    code = f"from priority.face.bench.worlds import resident; print(resident({nodes}))"
    value = float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    return figure("memory of the process", size_of(nodes), [value], "MiB", (0, 100, 300)[column])


# --- shapes that others have published


def hosts_of_one() -> Iterator[Figure]:
    """Aurora's: 10,000 hosts with one large task each, and tasks for which it must go, or must not."""
    for tier, what in (("devel", "eligible"), ("prod", "not eligible")):
        snapshot = worlds.cluster(10_000, {"cpus": 8_000, "mem": 16_384})
        for index in range(10_000):
            claim = task(f"v{index:05d}", tier, {"cpus": 6_250}, age_us=index * 1_000, node=f"n{index:06d}")
            snapshot.put_task(claim)
        sent = 0
        for count in (1, 10, 100, 1_000):
            for index in range(sent, count):
                snapshot.put_task(task(f"p{index:05d}", "prod", {"cpus": 6_250}, role="r1"))
            sent = count
            runs, plan = decide(snapshot)
            _expect(len(plan.preempt) == (count if tier == "devel" else 0), "other victims than expected")
            yield figure(f"{count:,} pending, victims {what}", "10,000 hosts of one 6.25-cpu task", runs, "ms")


def many_jobs() -> Figure:
    """Armada's: 32,000 jobs placed at once on 1,000 nodes."""
    snapshot = worlds.cluster(1_000, {"cpus": 32_000, "mem": 262_144})
    for claim in worlds.wave(32_000, [{"cpus": 1_000, "mem": 4_096}]):
        snapshot.put_task(claim)
    runs, plan = decide(snapshot)
    _expect(len(plan.launch) == 32_000, "not all were placed")
    return figure("32,000 jobs placed at once", "1,000 nodes of 32 cpus", runs, "ms")


def preemptors() -> Figure:
    """Kubernetes' PreemptionBasic: four small tasks a node, and as many preemptors as nodes."""
    snapshot = worlds.cluster(5_000, {"cpus": 4_000, "mem": 32_768})
    for index in range(20_000):
        claim = task(f"v{index:05d}", "devel", {"cpus": 900, "mem": 500}, age_us=index, node=f"n{index // 4:06d}")
        snapshot.put_task(claim)
    for index in range(5_000):
        snapshot.put_task(task(f"p{index:05d}", "prod", {"cpus": 3_000, "mem": 500}, role="r1"))
    runs, plan = decide(snapshot)
    _expect(len(plan.reserve) == 5_000, "not all found room")
    return figure("5,000 preemptors, 20,000 low-priority tasks", "5,000 nodes of 4 cpus", runs, "ms")


def reclaim() -> Figure:
    """KAI's: one role takes back half of a cluster of devices that another has filled."""
    snapshot = worlds.cluster(500, {"cpus": 64_000, "mem": 524_288, "gpus": 8_000})
    for index in range(4_000):
        claim = task(f"v{index:05d}", "devel", {"cpus": 1_000, "gpus": 1_000}, age_us=index, node=f"n{index // 8:06d}")
        snapshot.put_task(claim)
    for index in range(2_000):
        snapshot.put_task(task(f"p{index:05d}", "prod", {"cpus": 1_000, "gpus": 1_000}, role="r1"))
    runs, plan = decide(snapshot)
    _expect(len(plan.preempt) == 2_000, "not all found room")
    return figure("mass reclaim of half the cluster for one role", "500 nodes of 8 gpus", runs, "ms")


def _expect(met: bool, otherwise: str) -> None:
    if not met:
        raise RuntimeError(f"the bench measures something else than it says: {otherwise}")
