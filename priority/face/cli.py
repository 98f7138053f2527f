"""`priority`: the command line, a view of the same verbs as the API.

Here only the tree is put together. Each command imports what it needs when it runs, so that `priority --help` and
`priority plan` do not pay for the rest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from priority.face import (
    cli_admin,
    cli_bench,
    cli_cron,
    cli_job,
    cli_mesos,
    cli_plan,
    cli_replay,
    cli_role,
    cli_run,
    cli_simulate,
    cli_submit,
    shell,
)

app = typer.Typer(
    cls=shell.Group,
    name="priority",
    help="Production and development share one datacentre safely.",
    epilog=shell.EXIT_STATUSES,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings=shell.CONTEXT,
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"priority {version('priority')}")
        raise typer.Exit


@app.callback()
def options(
    state: Annotated[
        Path | None, typer.Option(help="State folder of the service; also PRIORITY_STATE.", metavar="FOLDER")
    ] = None,
    url: Annotated[str | None, typer.Option(help="Of the API; also PRIORITY_URL.")] = None,
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Production and development share one datacentre safely."""
    shell.give(state, url)


RUN, WORK, ADMIN = "Run it", "Work", "Look after it"
PLURAL = ("job", "role", "quota", "user", "token", "node")
"""Nouns that may be said of many: `priority roles diff` reads as well as `priority role diff`."""

for _info in cli_run.run.registered_commands:
    _panel = RUN if _info.name in ("up", "api", "scheduler", "agent", "demo") else ADMIN
    app.command(_info.name, rich_help_panel=WORK if _info.name == "plan" else _panel)(_info.callback)  # type: ignore[type-var]

for _name, _verb in (
    ("submit", cli_submit.submit),
    ("list", cli_job.list_jobs),
    ("status", cli_job.status),
    ("logs", cli_job.logs),
    ("explain", cli_job.explain),
    ("risk", cli_plan.risk),
    ("preemptions", cli_plan.preemptions),
    ("watch", cli_job.watch),
    ("kill", cli_job.kill),
    ("restart", cli_job.restart),
    ("scale", cli_job.scale),
    ("simulate", cli_simulate.simulate),
    ("replay", cli_replay.replay),
):
    app.command(_name, rich_help_panel=WORK)(_verb)

for _name, _noun, _where in (
    ("job", cli_job.job, WORK),
    ("cron", cli_cron.cron, WORK),
    ("role", cli_role.role, ADMIN),
    ("quota", cli_role.quota, ADMIN),
    ("user", cli_admin.user, ADMIN),
    ("token", cli_admin.token, ADMIN),
    ("node", cli_admin.node, ADMIN),
    ("audit", cli_admin.audit, ADMIN),
    ("mesos", cli_mesos.mesos, ADMIN),
    ("db", cli_run.db, RUN),
    ("bench", cli_bench.bench, RUN),
):
    app.add_typer(_noun, name=_name, rich_help_panel=_where)
    if _name in PLURAL:
        app.add_typer(_noun, name=f"{_name}s", hidden=True)

shell.let_flow(app)


def main() -> None:
    """What the `priority` script calls."""
    app()


if __name__ == "__main__":
    main()
