"""`priority user|token|node|audit ...`."""

from __future__ import annotations

from typing import Annotated

import typer

from priority.errors import Invalid
from priority.face import complete, shell
from priority.face.shell import Json

user = shell.group("Users.")
token = shell.group("Tokens: what opens the API.")
node = shell.group("Nodes: what runs tasks.")
audit = shell.group("Who changed what.")

NodeName = Annotated[str, typer.Argument(help="The node.", metavar="NODE", autocompletion=complete.nodes)]


@user.command("list")
def list_users(json: Json = False) -> None:
    """List users and their grants (yourself, if you are no admin)."""
    with shell.client() as client:
        items = client.users()["items"]
    if json:
        return shell.write_json(items)
    from priority.face import show_admin, terminal

    return terminal.out(show_admin.users(items))


@user.command("create")
def create_user(
    name: Annotated[str, typer.Argument(help="The user.", metavar="USER")],
    admin: Annotated[bool, typer.Option("--admin", help="A cluster admin: may do everything.")] = False,
    json: Json = False,
) -> None:
    """Make a user. What they may do in a role is written in the role: see `priority roles show`."""
    with shell.client() as client:
        made = client.create_user(name, admin=admin)
    if json:
        return shell.write_json(made)
    return shell.write(f"{name} is a user now; give them a token: priority token create --user {name}")


@user.command("me")
def me(json: Json = False) -> None:
    """Say whose token this is, and what they may do."""
    with shell.client() as client:
        found = client.me()
    if json:
        return shell.write_json(found)
    from priority.face import show_admin, terminal

    return terminal.out(show_admin.users([found]))


@token.command("create")
def create_token(
    of: Annotated[
        str | None, typer.Option("--user", help="For whom.", show_default="yourself", autocompletion=complete.users)
    ] = None,
    label: Annotated[str, typer.Option(help="What it is for.")] = "",
    expires: Annotated[str | None, typer.Option(help="After so long, such as 30d.", show_default="never")] = None,
    json: Json = False,
) -> None:
    """Make a token and print its secret: this once, it is kept nowhere."""
    from priority.job import duration_s

    try:
        expires_s = None if expires is None else duration_s(expires)
    except ValueError as error:
        raise Invalid("--expires", str(error)) from None
    with shell.client() as client:
        made = client.create_token(of, label=label, expires_s=expires_s)
    if json:
        return shell.write_json(made)
    shell.warn(f"priority: token {made['id']} of {made['user']}; its user sets PRIORITY_TOKEN to this secret:")
    return shell.write(made["secret"])


@token.command("list")
def list_tokens(
    of: Annotated[str | None, typer.Option("--user", help="Only of this user.", autocompletion=complete.users)] = None,
    json: Json = False,
) -> None:
    """List tokens: yours, or everyone's if you are an admin."""
    with shell.client() as client:
        items = client.tokens(of)["items"]
    if json:
        return shell.write_json(items)
    from priority.face import show_admin, terminal

    return terminal.out(show_admin.tokens(items))


@token.command("revoke")
def revoke(
    id: Annotated[str, typer.Argument(help="The token's id.", metavar="TOKEN", autocompletion=complete.tokens)],
    json: Json = False,
) -> None:
    """Make a token open nothing from now on."""
    with shell.client() as client:
        gone = client.revoke_token(id)
    if json:
        return shell.write_json(gone)
    return shell.write(f"token {id} of {gone['user']} is revoked")


@node.command("list")
def list_nodes(json: Json = False) -> None:
    """List nodes: what they have, what tasks hold of it."""
    with shell.client() as client:
        items = client.nodes()["items"]
    if json:
        return shell.write_json(items)
    from priority.face import show

    return show.out(show.nodes(items))


@node.command("drain")
def drain(name: NodeName, json: Json = False) -> None:
    """Place no new tasks on a node; what runs there goes on."""
    with shell.client() as client:
        found = client.drain(name)
    return shell.write_json(found) if json else shell.write(f"{name} takes no new tasks; {found['tasks']} go on")


@node.command("undrain")
def undrain(name: NodeName, json: Json = False) -> None:
    """Place tasks on a node again."""
    with shell.client() as client:
        found = client.undrain(name)
    return shell.write_json(found) if json else shell.write(f"{name} takes tasks again")


@node.command("forget")
def forget(name: NodeName, json: Json = False) -> None:
    """Drop a node that is down and will not come back."""
    with shell.client() as client:
        client.forget(name)
    return shell.write_json({"name": name, "forgotten": True}) if json else shell.write(f"{name} is forgotten")


@audit.command("list")
def list_audit(
    *,
    role: Annotated[str | None, typer.Option(help="Of this role.", autocompletion=complete.roles)] = None,
    user: Annotated[str | None, typer.Option(help="What this user changed.", autocompletion=complete.users)] = None,
    action: Annotated[
        str | None, typer.Option(help="Such as quota.set; or a kind: role, quota, job, node, user, token.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Not older: 2h, 7d, or a time such as 2026-08-23T12:00:00Z.", metavar="WHEN")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 50,
    json: Json = False,
) -> None:
    """List changes, newest first: who, what, before and after. What was the same before and after is not shown."""
    from itertools import islice

    with shell.client() as client:
        found = client.all_audits(role=role, user=user, action=action, since=since, limit=min(limit, 1000))
        items = list(islice(found, limit))
    if json:
        return shell.write_json(items)
    from priority.face import show_admin

    return show_admin.audits(items)
