"""`priority preemptions` and `priority risk`: what the engine has done, and what it would do next."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import typer

from priority.errors import Invalid
from priority.face import complete, shell
from priority.face.cli_job import Ref
from priority.face.shell import Json


def preemptions(
    *,
    role: Annotated[
        str | None, typer.Option(help="Of this role, on either side.", autocompletion=complete.roles)
    ] = None,
    of_job: Annotated[
        str | None,
        typer.Option("--job", help="Of this job, on either side.", metavar="JOB", autocompletion=complete.jobs),
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Not older: 2h, 7d, or a time such as 2026-08-23T12:00:00Z.", metavar="WHEN")
    ] = None,
    unstarted: Annotated[
        bool, typer.Option("--unstarted", help="Only those for which nobody has started: in vain, or not yet.")
    ] = False,
    totals: Annotated[bool, typer.Option("--totals", help="What roles took of each other, both ways.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 50,
    json: Json = False,
) -> None:
    """List preemptions, newest first: who gave way to whom, by which rule, at what cost, and what came of it.

    The cost, in cpu-seconds, is what the victim held: its requested cpus x the time since its start. What came of it:
    whether the one for whom room was made has started; if not, why.
    """
    with shell.client() as client:
        if totals:
            if of_job is not None or unstarted:
                raise Invalid("--totals", "goes by role; it does not go with --job or --unstarted")
            summed = client.preemption_totals(role=role, since=since)
        else:
            started = False if unstarted else None
            query = {"role": role, "job": of_job, "since": since, "started": started, "limit": min(limit, 1000)}
            items = list(islice(client.all_preemptions(**query), limit))
    if json:
        return shell.write_json(summed if totals else items)
    from priority.face import show, show_plan

    return show_plan.totals(summed) if totals else show.out(show_plan.preemptions(items))


def risk(
    ref: Ref,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many tasks.")] = 50,
    json: Json = False,
) -> None:
    """Say which of a job's tasks would be the next victims, in that order, and what would be lost.

    The order is the engine's: the lowest tier, then the lowest priority, then the least work lost. CHEAPER ONES says
    how many tasks of the cluster would go before it. Which it is in the end also depends on where room is needed.
    """
    with shell.client() as client:
        found = client.risk(ref, limit=limit)
    if json:
        return shell.write_json(found)
    from priority.face import show_plan

    return show_plan.risk(found)
