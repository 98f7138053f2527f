"""`priority bench ...`."""

from __future__ import annotations

import typer

from priority.face import shell
from priority.face.shell import Json

bench = shell.group("Measure it, on services of its own.")


@bench.command("service")
def service(json: Json = False) -> None:
    """Submissions, tasks a second, preemption: each figure with its goal, the median of its runs."""
    from priority.face.bench_service import run

    raise typer.Exit(run(json=json))
