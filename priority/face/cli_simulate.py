"""`priority simulate`: a workload in virtual time, decided by the engine that decides for real."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from priority.errors import Invalid, Malformed
from priority.face import shell
from priority.face.shell import Json

if TYPE_CHECKING:
    from priority.history import Cluster, History
    from priority.tally import Tally
    from priority.trace import Work

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""A head and its rows; columns whose name begins with `>` are numbers."""

_WORK_S = 3_600.0


def simulate(
    trace: Annotated[
        Path, typer.Argument(help="Jobs: JSON lines or SWF, gzip if it ends in .gz; - for standard input.")
    ],
    *,
    nodes: Annotated[Path, typer.Option(help="The nodes, in YAML.", metavar="FILE")],
    policy: Annotated[
        Path | None, typer.Option(help="Tiers, roles and settings, in YAML; a roles file will do.", metavar="FILE")
    ] = None,
    queue: Annotated[
        list[str] | None, typer.Option(help="SWF: the tier of a queue, such as 1=prod.", metavar="QUEUE=TIER")
    ] = None,
    tier: Annotated[str, typer.Option(help="SWF: the tier of any other queue.")] = "devel",
    every: Annotated[float, typer.Option(help="Seconds between rounds, at least; 0: at each event.", min=0)] = 0.0,
    plot: Annotated[Path | None, typer.Option(help="Write a picture: .html or .svg.", metavar="FILE")] = None,
    generate: Annotated[
        bool, typer.Option("--generate", help="Do not simulate: write a made-up trace for these nodes to TRACE.")
    ] = False,
    jobs: Annotated[int, typer.Option(help="With --generate: how many jobs.", min=1)] = 100_000,
    days: Annotated[float, typer.Option(help="With --generate: over how many days.", min=0.001)] = 30.0,
    load: Annotated[float, typer.Option(help="With --generate: of what the nodes can do.", min=0.001)] = 0.9,
    seed: Annotated[int, typer.Option(help="With --generate: the same seed, the same trace.", min=0)] = 1,
    json: Json = False,
) -> None:
    """Run the engine over a workload in virtual time: waits, utilisation, preemptions, work lost, fairness.

    A line of TRACE is a job: {"submit": 90, "runtime": "1h", "role": "physics", "tier": "devel", "user": "ada",
    "resources": {"cpus": 2}, "instances": 10}; also id, priority, gang, constraints, preempt, max_runtime, failures (so
    many attempts fail), max_failures and backoff. Or it is a line of the Standard Workload Format.

    A node of the nodes file is {name: n, count: 1000, capacity: {cpus: 32, mem: 128GiB}, attributes: {rack: [r1, r2]}}:
    n0001 to n1000, in racks by turns.
    """
    _check_plot(plot)
    from priority.face.traces import Faulty, generated, read_cluster, read_trace, write_trace

    cluster = read_cluster(nodes, policy)
    if generate:
        works = list(generated(cluster.nodes, seed=seed, jobs=jobs, days=days, load=load))
        write_trace(trace, works)
        return _written(trace, works, cluster, days, json)
    queues = _queues(queue, tier, cluster.tiers)
    try:
        found, left_out = read_trace(trace, cluster, queues, tier)
    except Faulty as error:
        for line in error.faults[:-1]:
            shell.warn(line)
        raise Malformed(error.faults[-1]) from None
    began = time.process_time()
    tally = _tally(_run(cluster, found, round(every * 1e6)))
    took_s = time.process_time() - began
    report = tally.report() | {"left_out": left_out}
    tables = list(_tables(report))
    if plot is not None:
        _draw(plot, trace.name, tally, tables)
    if json:
        return shell.write_json(report)
    return _show(report, tables, took_s)


def _written(path: Path, works: Sequence[Work], cluster: Cluster, days: float, json: bool) -> None:
    """What was made up, and how much that is: the load that was asked for may be out of reach of so few jobs."""
    asked = sum(work.runtime_us * work.request.get("cpus", 0) for work in works)
    there = sum(node.capacity.get("cpus", 0) for node in cluster.nodes) * days * 86_400e6
    load = asked / there if there else 0.0
    if json:
        return shell.write_json({"jobs": len(works), "load": round(load, 4)})
    return shell.write(f"{len(works)} jobs written to {path}; they ask for {_percent(load)} of what the cpus can do")


def _check_plot(plot: Path | None) -> None:
    if plot is not None and plot.suffix not in (".html", ".svg"):
        raise Invalid("--plot", f"must end in .html or .svg, not {plot.suffix or 'in nothing'}")


def _queues(given: Sequence[str] | None, tier: str, tiers: Mapping[str, Any]) -> dict[int, str]:
    found = {}
    known = ", ".join(tiers)
    if tier not in tiers:
        raise Invalid("--tier", f"{tier!r} is not a tier; there are {known}")
    for one in given or []:
        name, equals, value = one.partition("=")
        if not equals or not name.lstrip("-").isdigit():
            raise Invalid("--queue", f"must be QUEUE=TIER such as 1=prod, not {one!r}")
        if value not in tiers:
            raise Invalid("--queue", f"{value!r} is not a tier; there are {known}")
        found[int(name)] = value
    return found


def _run(cluster: Cluster, works: Sequence[Work], every_us: int) -> History:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from priority.face import show
    from priority.simulate import Simulation

    simulation = Simulation(cluster, works, every_us=every_us)
    console = show.console(error=True)
    columns = (
        TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TextColumn("tasks"), TimeElapsedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        line = bar.add_task("simulating", total=simulation.total)
        return simulation.run(lambda settled: bar.update(line, completed=settled))


def _tally(history: History) -> Tally:
    from priority.tally import Tally

    return Tally(history)


def _draw(path: Path, title: str, tally: Tally, tables: Sequence[Table]) -> None:
    from priority.face import plot

    series = tally.series()
    text = plot.svg(series, tally.cpus) if path.suffix == ".svg" else plot.page(title, series, tally.cpus, tables)
    path.write_text(text, encoding="utf-8")


def _tables(report: Mapping[str, Any]) -> list[Table]:
    waits, fairness = report["waits"], report["fairness"]
    lines = [("all", waits["all"]), *waits["tiers"].items(), *waits["tiers_roles"].items()]
    head = ("WAIT OF", ">TASKS", ">MEAN", ">MEDIAN", ">P95", ">MAX", ">NEVER")
    rows = [
        (
            name,
            f"{one['tasks']}",
            *(_span(one[key]) for key in ("mean_s", "median_s", "p95_s", "max_s")),
            f"{one['never']}",
        )
        for name, one in lines
    ]
    used = [
        (name, _amount(name, report["capacity"][name]), _percent(one["held"]), _percent(one["useful"]))
        for name, one in report["utilisation"].items()
    ]
    lost, gained = report["preemptions"]["lost_cpu_s_by_role"], report["preemptions"]["destroyed_cpu_s_by_role"]
    roles = [
        (
            name, f"{one['weight']:g}", _percent(one["share"]), _hours(one["work"]), _hours(lost.get(name, 0)),
            _hours(gained.get(name, 0)),
        )
        for name, one in fairness["roles"].items()
    ]  # fmt: skip
    return [
        (head, rows),
        (("RESOURCE", ">OF ALL NODES", ">HELD", ">USEFUL"), used),
        (("ROLE", ">WEIGHT", ">SHARE", ">DONE CPU-H", ">LOST CPU-H", ">MADE OTHERS LOSE"), roles),
    ]


def _show(report: Mapping[str, Any], tables: Sequence[Table], took_s: float) -> None:
    from priority.face import show

    out = report["outcomes"]
    preempted, work, fair = report["preemptions"], report["work"], report["fairness"]
    ends = ", ".join(f"{count} {name}" for name, count in out.items() if count)
    shell.write(
        f"{report['jobs']} jobs of {report['tasks']} tasks on {report['nodes']} nodes: {ends or 'nothing to do'}"
    )
    if out["refused"]:
        shell.write("refused: more than the quota of their role or user, in a tier where a quota is a guarantee")
    if report["left_out"]:
        shell.write(f"{report['left_out']} lines of the trace were left out: they tell of nothing that ran")
    for head, rows in tables:
        shell.write("")
        show.out(show.table(head, rows))
    shell.write("")
    by_tier = ", ".join(f"{count} {tier}" for tier, count in preempted["by_tier"].items())
    shell.write(f"preemptions {preempted['total']}" + (f" ({by_tier})" if by_tier else ""))
    shell.write(
        f"work done {_hours(work['done_cpu_s'])} cpu-h, lost to preemption {_hours(work['lost_cpu_s'])}, "
        f"failed {_hours(work['failed_cpu_s'])}, held during notice {_hours(work['notice_cpu_s'])}"
    )
    shell.write(
        f"fairness (Jain) of shares {_index(fair['jain_shares'])}, while contended {_index(fair['jain_contended'])}"
    )
    shell.write(f"makespan {_span(report['makespan_s'])}; {report['rounds']} rounds, {took_s:.1f} s of cpu time")


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f}{unit}"
    return f"{seconds:.3g}s"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _hours(cpu_s: float) -> str:
    return f"{cpu_s / _WORK_S:,.1f}"


def _index(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _amount(name: str, value: float) -> str:
    from priority.face import show
    from priority.resources import MEBIBYTES

    return show.amount(name, value) if name in MEBIBYTES else f"{value:,g}"
