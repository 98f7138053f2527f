"""For people: what the API answers about roles, users, tokens and changes, as tables and lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.markup import escape

from priority.errors import Invalid
from priority.face.terminal import age, amount, amounts, console, is_terminal, out, prose, table

if TYPE_CHECKING:
    from priority.face import views

FEW = 5
"""Of a longer list of values only the first are shown."""


def roles(items: Iterable[views.RoleView]) -> RenderableType:
    """One line a role."""
    between = "\n" if is_terminal() else "; "
    rows = [
        (
            role["name"],
            role["weight"],
            between.join(f"{tier}: {amounts(quota)}" for tier, quota in sorted(role["quota"].items())),
            ", ".join(sorted(role["users"])),
            role["description"],
        )
        for role in items
    ]
    return table(("ROLE", ">WEIGHT", "QUOTA", "USERS", "DESCRIPTION"), rows, "no roles", spare=("DESCRIPTION",))


def changes(found: views.Changes) -> None:
    """A diff: what comes is green, what goes is red; why it would be refused, and what it promises in vain."""
    for change in found["changes"]:
        for line in differences(change["before"], change["after"], change["path"]):
            _coloured(line)
    count = len(found["changes"])
    done = "made" if found["applied"] else "to make"
    prose(f"{count} change{'' if count == 1 else 's'} {done}" if count else "nothing to change")
    for reason in found.get("refused", ()):
        console(error=True).print(f"[red]would be refused:[/] {escape(reason)}", soft_wrap=not is_terminal())
    for warning in found.get("warnings", ()):
        console(error=True).print(f"[yellow]priority: warning:[/] {escape(warning)}", soft_wrap=not is_terminal())


def _coloured(line: str, indent: str = "") -> None:
    style = {"+": "green", "-": "red"}.get(line[:1], "yellow")
    prose(f"{indent}[{style}]{escape(line)}[/]")


def differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """What came (`+ path: value`), went (`-`) or became another (`~ path: before -> after`). What is empty is not
    there; amounts have their units.
    """
    left, right = dict(_leaves(before, path)), dict(_leaves(after, path))
    for name in sorted(left.keys() | right.keys()):
        mine, theirs = left.get(name), right.get(name)
        if mine == theirs:
            continue
        if mine is None:
            yield f"+ {name}: {theirs}" if name else f"+ {theirs}"
        elif theirs is None:
            yield f"- {name}: {mine}" if name else f"- {mine}"
        else:
            yield f"~ {name}: {mine} -> {theirs}"


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Each value that is no mapping, with its path. The amounts of one quota stay together."""
    if value is None or value in ("", [], {}):
        if value == {} and path and _is_amounts(path):
            yield path, "nothing"
        elif value == [] and path.endswith("/grants"):  # a user who is in the role, if only in name
            yield path, "none"
        return
    if not isinstance(value, Mapping):
        yield path, _value(value)
    elif _is_amounts(path):
        yield path, ", ".join(_amount(name, one) for name, one in sorted(value.items()))
    else:
        for name, one in value.items():
            yield from _leaves(one, f"{path}/{name}" if path else str(name))


def _is_amounts(path: str) -> bool:
    """Whether a quota, or what an instance holds, stands at this path: `.../quota/TIER`, `resources`."""
    parts = path.split("/")
    return parts[-1] == "resources" or (len(parts) > 1 and parts[-2] == "quota")


def _amount(name: str, value: Any) -> str:
    try:
        return f"{name} {amount(name, value)}"
    except Invalid:
        return f"{name} {value}"


def _value(value: Any) -> str:
    if isinstance(value, list):
        few = value if len(value) <= FEW else value[: FEW - 1]
        return ", ".join(str(one) for one in few) + (f" and {len(value) - len(few)} more" if few is not value else "")
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def users(items: Iterable[views.UserView]) -> RenderableType:
    """One line a user."""
    rows = [
        (
            user["name"],
            "yes" if user["admin"] else "",
            ", ".join(f"{role} ({', '.join(grants)})" for role, grants in user["grants"].items()),
        )
        for user in items
    ]
    return table(("USER", "ADMIN", "GRANTS"), rows, "no users")


def _standing(token: views.TokenView) -> str:
    if token["revoked"]:
        return "revoked"
    expires = token["expires"]
    return "expired" if expires and datetime.fromisoformat(expires) <= datetime.now(UTC) else "good"


def tokens(items: Iterable[views.TokenView]) -> RenderableType:
    """One line a token."""
    rows = [
        (
            token["id"],
            token["user"],
            token["label"],
            age(token["created"]),
            _minute(token["expires"]) if token["expires"] else "never",
            _standing(token),
        )
        for token in items
    ]
    columns = ("TOKEN", "USER", "LABEL", ">AGE", "EXPIRES", "STATE")
    return table(columns, rows, "no tokens", spare=("AGE",), quiet=("LABEL",))


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")


def audits(items: Iterable[views.AuditView]) -> None:
    """On a terminal each change with its parts on lines of their own, in a pipe one line each."""
    found = list(items)
    if not is_terminal():
        return out(table(("WHEN", "WHO", "WHAT", "OF", "CHANGE"), [_audit(row) for row in found], "no changes"))
    for row in found:
        when, who, what, of, _ = _audit(row)
        prose(f"[dim]{when}[/]  {escape(who)}  [bold]{what}[/]  {escape(of)}")
        for line in differences(row["before"], row["after"]):
            _coloured(line, "  ")
    if not found:
        out("no changes")
    return None


def _audit(row: views.AuditView) -> tuple[str, ...]:
    when = row["at"][:19].replace("T", " ") + "Z"
    return when, row["who"], row["action"], row["subject"], "; ".join(differences(row["before"], row["after"]))


def health(found: views.Health) -> None:
    """The whole, then part by part."""
    style = "green" if found["status"] == "ok" else "yellow"
    out(f"[{style}]{found['status']}[/] (priority {found['version']})")
    out(table(("PART", "STATE"), list(found["parts"].items())))
