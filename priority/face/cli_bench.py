"""`priority bench ...`."""

from __future__ import annotations

from typing import Annotated

import typer

from priority.face import shell
from priority.face.shell import Json

bench = shell.group("Measure it, on services of its own.")


@bench.command("service")
def service(json: Json = False) -> None:
    """Submissions, tasks a second, preemption: each figure with its goal, the median of its runs."""
    from priority.face.bench.service import run

    raise typer.Exit(run(json=json))


@bench.command("cron")
def cron(json: Json = False) -> None:
    """Cron jobs: 10,000 that are due together, and how late runs begin (in real time: some minutes)."""
    from priority.face.bench.cron import measure
    from priority.face.bench.service import run

    raise typer.Exit(run(measure(), json=json))


@bench.command("engine")
def engine(
    json: Json = False,
    full: Annotated[bool, typer.Option("--full", help="Also 100,000 nodes and a million tasks: many minutes.")] = False,
) -> None:
    """How long the engine takes to decide, at up to 10,000 nodes: each figure with its goal, the median of its runs."""
    from priority.face.bench.engine import run

    raise typer.Exit(run(json=json, full=full))


@bench.command("mesos")
def mesos(
    json: Json = False,
    master: Annotated[
        str | None, typer.Option("--mesos-master", help="Of a cluster to launch tasks on.", metavar="URL")
    ] = None,
    tasks: Annotated[int, typer.Option(min=1, help="How many are launched there.")] = 100,
) -> None:
    """The Mesos driver alone, and on a cluster beside bare loops that launch or kill and relaunch the same tasks."""
    from priority.face.bench.mesos import run as measure
    from priority.face.bench.service import run

    settings = shell.settings(mesos_master=master)
    raise typer.Exit(run(measure(settings.mesos_master, tasks), json=json))
