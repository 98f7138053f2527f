"""`priority cron ...`. A cron job is submitted like any other, by `priority submit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from priority.face import complete, shell
from priority.face.cli_job import Why
from priority.face.shell import Json, OnlyJson

if TYPE_CHECKING:
    from priority.face import views_cron

cron = shell.group("Cron jobs: jobs with a schedule (`priority submit` makes them).")

Key = Annotated[
    str, typer.Argument(help="The cron job: role/tier/name.", metavar="CRON", autocompletion=complete.crons)
]


@cron.command("list")
def list_crons(
    *,
    role: Annotated[str | None, typer.Option(help="Of this role.", autocompletion=complete.roles)] = None,
    tier: Annotated[
        str | None, typer.Option(help="prod, devel or opportunistic.", autocompletion=complete.tiers)
    ] = None,
    user: Annotated[str | None, typer.Option(help="Of this user.", autocompletion=complete.users)] = None,
    state: Annotated[str | None, typer.Option(help="active, suspended, ended or deleted.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 100,
    json: Json = False,
) -> None:
    """List cron jobs, newest first: when each runs next, and what became of its last tick."""
    from itertools import islice

    with shell.client() as client:
        found = client.all_crons(role=role, tier=tier, user=user, state=state, limit=min(limit, 1000))
        items = list(islice(found, limit))
    if json:
        return shell.write_json(items)
    from priority.face import show_cron, terminal

    return terminal.out(show_cron.crons(items))


@cron.command("show")
def show(key: Key, json: Json = False) -> None:
    """Show a cron job: what it says, its next five ticks, and the last of its history."""
    with shell.client() as client:
        view = client.cron(key)
        ticks = client.cron_history(key, limit=5)["items"]
    if json:
        return shell.write_json({**view, "history": ticks})
    from priority.face import show_cron

    return show_cron.cron(view, ticks)


@cron.command("start")
def start(key: Key, why: Why = "", json: Json = False) -> None:
    """Run it now, beside its schedule, also while it is suspended.

    If a run of it goes on, this is refused (status 5); with `collision: kill_existing` it begins once that is dead, and
    with `allow` at once.
    """
    with shell.client() as client:
        view = client.start_cron(key, why)
    if json:
        return shell.write_json(view)
    started = view["started"]
    if started["job"]:
        return shell.write(f"{key} started ({started['job']})")
    return shell.write(f"{key} waits: {(started['reason'] or {}).get('message', '')}")


@cron.command("suspend")
def suspend(key: Key, why: Why = "", json: Json = False) -> None:
    """Skip its ticks until it is resumed. A run that goes on is left alone."""
    with shell.client() as client:
        view = client.suspend_cron(key, why)
    return shell.write_json(view) if json else shell.write(f"{key} is suspended")


@cron.command("resume")
def resume(key: Key, why: Why = "", json: Json = False) -> None:
    """Run its ticks again, from the next one on."""
    with shell.client() as client:
        view = client.resume_cron(key, why)
    if json:
        return shell.write_json(view)
    return shell.write(f"{key} runs next: {view['local'][0] if view['local'] else 'never'}")


@cron.command("history")
def history(
    key: Key,
    outcome: Annotated[str | None, typer.Option(help="Only started, waiting, skipped or missed ones.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 100,
    json: Json = False,
) -> None:
    """Show what became of each tick, newest first: started, skipped or missed, and why."""
    items: list[views_cron.TickView] = []
    with shell.client() as client:
        after = None
        while len(items) < limit:
            page = client.cron_history(key, outcome=outcome, limit=min(limit - len(items), 1000), after=after)
            items += page["items"]
            after = page["next"]
            if after is None:
                break
    if json:
        return shell.write_json(items)
    from priority.face import show_cron, terminal

    return terminal.out(show_cron.ticks(items))


@cron.command("delete")
def delete(key: Key, json: Json = False) -> None:
    """Delete a cron job. A run that goes on is left alone (`priority kill` ends it); the history stays."""
    with shell.client() as client:
        client.delete_cron(key)
    if json:
        return shell.write_json({"deleted": key})
    return shell.write(f"{key} is deleted")


@cron.command("schema")
def schema(json: OnlyJson = False) -> None:
    """Print the JSON schema of a cron job: every field there is."""
    del json
    from priority.cron import CronSpec

    return shell.write_json(CronSpec.model_json_schema())
