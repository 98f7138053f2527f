"""`priority role ...` and `priority quota ...`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from priority.errors import Conflict, Invalid, PriorityError
from priority.face import complete, shell
from priority.face.shell import Json, OnlyJson

if TYPE_CHECKING:
    from priority.face import views
    from priority.role import RoleSpec

role = shell.group("Roles: who shares the cluster, and how.")
quota = shell.group("Quotas: what each role may have.")

File = Annotated[Path, typer.Argument(help="The roles file (- for standard input).", metavar="FILE")]
Delete = Annotated[bool, typer.Option("--delete", help="Delete the roles that the file does not name.")]
Force = Annotated[
    bool, typer.Option("--force", help="Lower a quota below its use; delete a role that has active jobs.")
]
DEFAULT_FILE = Path("config/roles.yaml")


@role.command("list")
def list_roles(json: Json = False) -> None:
    """List the roles that you have a grant for."""
    with shell.client() as client:
        items = client.roles()["items"]
    if json:
        return shell.write_json(items)
    from priority.face import show_admin, terminal

    return terminal.out(show_admin.roles(items))


@role.command("show")
def show_role(
    name: Annotated[
        str | None, typer.Argument(help="Only this one.", metavar="ROLE", autocompletion=complete.roles)
    ] = None,
    json: Json = False,
) -> None:
    """Print roles as a roles file: edit it, and give it to `priority roles apply`."""
    with shell.client() as client:
        items = [client.role(name)] if name is not None else client.roles()["items"]
    if json:
        return shell.write_json(items[0] if name is not None else items)
    from priority.role import RoleSpec, dump_file

    specs = {
        one["name"]: RoleSpec.model_validate({field: value for field, value in one.items() if field != "name"})
        for one in items
    }
    return shell.write(dump_file(specs).rstrip())


@role.command("diff")
def diff(file: File = DEFAULT_FILE, delete: Delete = False, force: Force = False, json: Json = False) -> None:
    """Show what applying a roles file would change, and whether that would be refused.

    Status 0: it can be applied, or there is nothing to change. Status 5: `priority roles apply` would refuse it, such
    as a quota below its use or a role that still has jobs; each reason is said.
    """
    _apply(file, dry_run=True, delete=delete, force=force, json=json)


@role.command("apply")
def apply(
    file: File = DEFAULT_FILE,
    delete: Delete = False,
    force: Force = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    json: Json = False,
) -> None:
    """Make the roles be those of a file: all of it or nothing. Roles that it does not name stay, without --delete.

    Status 5: refused, such as a quota below its use; nothing was changed. With --dry-run as `priority roles diff`.
    """
    _apply(file, dry_run=dry_run, delete=delete, force=force, json=json)


def _apply(file: Path, *, dry_run: bool, delete: bool, force: bool, json: bool) -> None:
    roles = _read(file)
    with shell.client() as client:
        found = client.apply_roles(roles, dry_run=dry_run, delete=delete, force=force)
        unnamed = [] if delete or json else [one["name"] for one in client.roles()["items"] if one["name"] not in roles]
    if json:
        shell.write_json(found)
    else:
        from priority.face import show_admin

        show_admin.changes(found)
        if unnamed:
            shell.warn(f"priority: {file} does not name {', '.join(unnamed)}: unchanged (--delete deletes such roles)")
    if found["refused"]:
        raise typer.Exit(Conflict.exit_status)


@role.command("schema")
def schema(json: OnlyJson = False) -> None:
    """Print the JSON schema of a roles file: every field there is."""
    del json
    from priority.role import RolesFile

    shell.write_json(RolesFile.model_json_schema())


def _read(file: Path) -> dict[str, RoleSpec]:
    from priority.role import parse_file

    text = shell.read_text(file)
    try:
        return parse_file(text)
    except PriorityError as error:
        raise shell.in_file(file, error) from None


@quota.command("show")
def show_quota(
    name: Annotated[
        str | None, typer.Argument(help="Only of this role.", metavar="ROLE", autocompletion=complete.roles)
    ] = None,
    json: Json = False,
) -> None:
    """Show quotas, what runs and what waits of them, and what is left.

    A prod quota is a guarantee: what runs and what waits both count. A quota of devel or opportunistic is a ceiling on
    what is on nodes at once: what waits does not count. A job counts with what it asks for; without mem, with
    the default for each of its cpus (mem_default_mib).
    """
    with shell.client() as client:
        view = client.quota(name)
    if json:
        return shell.write_json(view)
    from priority.face import show

    return show.quotas(view, users=name is not None)


@quota.command("set")
def set_quota(
    name: Annotated[str, typer.Argument(help="The role.", metavar="ROLE", autocompletion=complete.roles)],
    tier: Annotated[
        str, typer.Argument(help="prod, devel or opportunistic.", metavar="TIER", autocompletion=complete.tiers)
    ],
    amounts: Annotated[
        list[str] | None, typer.Argument(help="The whole quota, such as cpus=16 mem=64GiB.", metavar="NAME=AMOUNT...")
    ] = None,
    *,
    user: Annotated[
        str | None, typer.Option(help="The part of this user of the role.", autocompletion=complete.users)
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take the quota away.")] = False,
    force: Force = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before a limit is dropped.")] = False,
    json: Json = False,
) -> None:
    """Replace a quota. A resource that is not named is not limited; if it was, that is said, and a terminal asked."""
    wanted = None if remove else _amounts(amounts or [])
    if remove and amounts:
        raise Invalid("--remove", "goes without amounts")
    with shell.client() as client:
        if wanted is not None:
            _say_dropped(client.role(name), tier, user, wanted, yes=yes)
        found = client.set_quota(name, tier, wanted, user=user, force=force)
    if json:
        return shell.write_json(found)
    from priority.face import show_admin

    return show_admin.changes(found)


def _say_dropped(role: views.RoleView, tier: str, user: str | None, wanted: Mapping[str, Any], *, yes: bool) -> None:
    """Whoever raises the cpus may not have meant to lift the limit of memory."""
    users: Mapping[str, Any] = role["users"]
    quotas: Any = role["quota"] if user is None else users.get(user, {}).get("quota", {})
    dropped = {name: value for name, value in quotas.get(tier, {}).items() if name not in wanted}
    if not dropped or yes:
        return
    from priority.face import terminal

    names, limits = " and ".join(dropped), terminal.amounts(dropped)
    shell.warn(f"priority: warning: {names} will not be limited any more ({limits} until now): name all that is to be")
    if _asks():
        typer.confirm("go on?", abort=True, err=True)


def _asks() -> bool:
    return sys.stdin.isatty()


def _amounts(given: list[str]) -> dict[str, Any]:
    if not given:
        raise Invalid("NAME=AMOUNT", "is missing, such as cpus=16 mem=64GiB; --remove takes a quota away")
    found: dict[str, Any] = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name or not value:
            raise Invalid("NAME=AMOUNT", f"must be such as cpus=16 or mem=64GiB, not {one!r}")
        if name in found:
            raise Invalid("NAME=AMOUNT", f"{name} is there twice: say once how much")
        try:
            found[name] = int(value)
        except ValueError:
            try:
                found[name] = float(value)
            except ValueError:
                found[name] = value
    from priority import resources

    # Read here already: what JSON cannot say (NaN, infinity) must not reach the wire.
    resources.check_names(resources.parse(found, "quota", zeros=True), "quota")
    return found
