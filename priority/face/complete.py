"""What the shell's Tab offers: jobs, roles, nodes, users, as the service knows them just now.

It asks briefly and says nothing when there is no answer: a Tab must neither hang nor print an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import typer

from priority.errors import PriorityError

if TYPE_CHECKING:
    from priority.face.client import Client

WAIT_S = 0.7
"""For each answer; then there is nothing to offer."""
JOBS_MAX = 500

Offers = list[tuple[str, str]]
"""What may stand there, and what it is (shown by zsh and fish)."""


def active_jobs(ctx: typer.Context, incomplete: str) -> Offers:
    """Jobs that can be killed, restarted or scaled."""
    return _offer(ctx, incomplete, lambda client: _jobs(client, incomplete, "active"))


def jobs(ctx: typer.Context, incomplete: str) -> Offers:
    """Jobs that can be looked at: the active ones, and the latest of the others."""

    def find(client: Client) -> Iterable[tuple[str, str]]:
        yield from _jobs(client, incomplete, "active")
        yield from _jobs(client, incomplete, "ended")

    return _offer(ctx, incomplete, find)


def crons(ctx: typer.Context, incomplete: str) -> Offers:
    """Cron jobs."""
    return _offer(ctx, incomplete, lambda client: [(one["key"], one["schedule"]) for one in client.crons()["items"]])


def roles(ctx: typer.Context, incomplete: str) -> Offers:
    """Roles in which one has a grant."""
    return _offer(
        ctx, incomplete, lambda client: [(one["name"], one["description"]) for one in client.roles()["items"]]
    )


def nodes(ctx: typer.Context, incomplete: str) -> Offers:
    """Nodes."""
    return _offer(ctx, incomplete, lambda client: [(one["name"], one["state"]) for one in client.nodes()["items"]])


def users(ctx: typer.Context, incomplete: str) -> Offers:
    """Users (for who is no cluster admin, themselves)."""
    return _offer(ctx, incomplete, lambda client: [(one["name"], "") for one in client.users()["items"]])


def tokens(ctx: typer.Context, incomplete: str) -> Offers:
    """Tokens that are still good for something."""

    def find(client: Client) -> Iterable[tuple[str, str]]:
        for one in client.tokens()["items"]:
            if not one["revoked"]:
                yield one["id"], f"{one['user']} {one['label']}"

    return _offer(ctx, incomplete, find)


def tiers(ctx: typer.Context, incomplete: str) -> Offers:
    """Tiers: these are known here."""
    from priority.tier import DEFAULT_TIERS

    del ctx
    return [(name, "") for name in DEFAULT_TIERS if name.startswith(incomplete)]


def streams(ctx: typer.Context, incomplete: str) -> Offers:
    """What a task writes to."""
    del ctx
    return [(name, "") for name in ("stdout", "stderr", "both") if name.startswith(incomplete)]


def _jobs(client: Client, incomplete: str, state: str) -> Iterable[tuple[str, str]]:
    """By `role/tier/name` as far as that is there."""
    role, tier, *_ = [*incomplete.split("/")[:-1], None, None]
    page = client.jobs(role=[role] if role else None, tier=tier, state=state, limit=JOBS_MAX)
    for one in page["items"]:
        yield one["key"], f"{one['running']} of {one['instances']} running" if state == "active" else "ended"


def _offer(ctx: typer.Context, incomplete: str, find: Callable[[Client], Iterable[tuple[str, str]]]) -> Offers:
    from pydantic import ValidationError
    from yaml import YAMLError

    from priority.face.client import Client
    from priority.service.settings import Settings

    given = {name: ctx.find_root().params.get(name) for name in ("state", "url")}
    found: dict[str, str] = {}
    try:
        settings = Settings(**{name: value for name, value in given.items() if value})
        with Client.find(settings, timeout_s=WAIT_S, retry_s=0.0) as client:
            for value, what in find(client):
                if value.startswith(incomplete):
                    found.setdefault(value, what)
    except (PriorityError, OSError, ValidationError, YAMLError):
        return []
    return list(found.items())
