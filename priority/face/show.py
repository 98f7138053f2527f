"""For people: the answers of the API as tables and lines.

On a terminal there are colours (unless NO_COLOR is set) and lines as wide as the window; in a pipe plain columns,
never cut.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from priority import resources

if TYPE_CHECKING:
    from priority.face import views

STATE_STYLES = {
    "active": "green", "running": "green", "finished": "blue", "pending": "yellow", "starting": "cyan",
    "preempting": "magenta", "killing": "magenta", "preempted": "magenta", "killed": "red", "failed": "bold red",
    "lost": "red", "ended": "blue", "up": "green", "draining": "yellow", "down": "red",
}  # fmt: skip

_PIPE_WIDTH = 10_000


def console(*, error: bool = False) -> Console:
    """Standard output, or error; wide enough not to cut anything when nobody looks at it directly."""
    stream = sys.stderr if error else sys.stdout
    return Console(file=stream, highlight=False, width=None if stream.isatty() else _PIPE_WIDTH)


def out(what: RenderableType) -> None:
    """Show it."""
    console().print(what, soft_wrap=isinstance(what, str))


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], empty: str = "nothing") -> RenderableType:
    """Plain columns; those whose name begins with `>` are numbers and stand right."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        made.add_column(name.lstrip(">"), justify="right" if name.startswith(">") else "left", overflow="fold")
    for row in rows:
        made.add_row(*(_cell(value) for value in row))
    return made if made.row_count else empty


def _cell(value: Any) -> RenderableType:
    if isinstance(value, Text):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    return Text("-" if value is None or value == "" else str(value))


def state(name: str) -> Text:
    """A state in its colour."""
    return Text(name, STATE_STYLES.get(name, ""))


def age(moment: str | None, now: datetime | None = None) -> str:
    """How long ago: `4s`, `3m`, `2h`, `5d`; `-` for never."""
    if moment is None:
        return "-"
    past = (now or datetime.now(UTC)) - datetime.fromisoformat(moment)
    return span(past.total_seconds())


def span(seconds: float) -> str:
    """A length of time, short."""
    seconds = max(0.0, seconds)
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def amounts(plain: dict[str, Any] | None, none: str = "-") -> str:
    """`cpus 2, mem 4GiB`."""
    return none if plain is None else resources.show(resources.parse(plain, "amounts")) if plain else "nothing"


def jobs(items: Iterable[views.JobSummary]) -> RenderableType:
    """One line a job."""
    rows: list[tuple[Any, ...]] = [
        (
            job["key"],
            job["user"],
            state(job["state"]),
            job["active"],
            job["finished"],
            job["failed"],
            job["killed"],
            amounts(dict(job["resources"])),
            age(job["submitted"]),
            job["uid"],
        )
        for job in items
    ]
    columns: tuple[str, ...] = ("JOB", "USER", "STATE", ">ACTIVE", ">DONE", ">FAILED", ">KILLED", "EACH", ">AGE", "UID")
    if console().width < 110:  # the name is enough to say which
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return table(columns, rows, "no jobs")


def tasks(items: Iterable[views.TaskView]) -> RenderableType:
    """One line an attempt."""
    rows = [
        (
            task["instance"],
            task["attempt"],
            state(task["state"]),
            task["node"],
            age(task["ended"] or task["started"] or task["since"]),
            _ended(task),
            None if task["cpu_s"] is None else f"{task['cpu_s']:.1f}s",
            None if task["peak_mem_mib"] is None else f"{task['peak_mem_mib']}MiB",
            (task["reason"] or {}).get("message", ""),
        )
        for task in items
    ]
    return table((">INSTANCE", ">ATTEMPT", "STATE", "NODE", ">AGE", "EXIT", ">CPU", ">MEM", "REASON"), rows, "no tasks")


def _ended(task: views.TaskView) -> str:
    if task["signal"] is not None:
        return f"signal {task['signal']}"
    return "" if task["exit_code"] is None else str(task["exit_code"])


def job(view: views.JobView, its_tasks: Sequence[views.TaskView], more: bool) -> None:
    """A job and its tasks."""
    spec = view["spec"]
    command = spec["command"] if isinstance(spec["command"], str) else " ".join(spec["command"])
    head = (
        f"[bold]{escape(view['key'])}[/] by {escape(view['user'])}, submitted {age(view['submitted'])} ago "
        f"({view['uid']})\n{escape(command)}\n"
        f"{view['instances']} instances of {escape(amounts(dict(view['resources'])))}, priority {view['priority']}: "
        f"{view['active']} active, {view['finished']} finished, {view['failed']} failed, {view['killed']} killed"
    )
    out(head)
    out(tasks(its_tasks))
    if more:
        out("... and more; --all shows every attempt")


def explanation(found: views.ExplanationView) -> None:
    """The one line first."""
    out(f"[bold]{escape(found['summary'])}[/]")
    rows = [
        (
            f"{line['instance']}" + (f" and {line['alike'] - 1} alike" if line["alike"] > 1 else ""),
            line["attempt"],
            state(line["state"]),
            line["message"],
        )
        for line in found["lines"]
    ]
    if rows:
        out(table(("INSTANCE", ">ATTEMPT", "STATE", "WHY"), rows))


def nodes(items: Iterable[views.NodeView]) -> RenderableType:
    """One line a node."""
    rows = [
        (
            node["name"],
            state(node["state"]),
            node["tasks"],
            amounts(dict(node["held"])),
            amounts(dict(node["free"])),
            age(node["seen"]),
            ", ".join(f"{name}={value}" for name, value in sorted(node["attributes"].items())),
        )
        for node in items
    ]
    return table(("NODE", "STATE", ">TASKS", "HELD", "FREE", ">SEEN", "ATTRIBUTES"), rows, "no nodes")


def quotas(view: views.QuotaView) -> None:
    """One line a quota, and the warnings."""
    rows = [
        (
            line["role"],
            line["tier"],
            line["user"] or "",
            amounts(line["quota"], "no quota"),
            amounts(line["use"]),
            amounts(line["holding"]),
        )
        for line in view["items"]
    ]
    out(table(("ROLE", "TIER", "USER", "QUOTA", "IN USE", "ON NODES"), rows, "no quotas"))
    for warning in view["warnings"]:
        console(error=True).print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)


def roles(items: Iterable[views.RoleView]) -> RenderableType:
    """One line a role."""
    rows = [
        (
            role["name"],
            role["weight"],
            "; ".join(f"{tier}: {amounts(dict(quota))}" for tier, quota in sorted(role["quota"].items())),
            ", ".join(sorted(role["users"])),
            role["description"],
        )
        for role in items
    ]
    return table(("ROLE", ">WEIGHT", "QUOTA", "USERS", "DESCRIPTION"), rows, "no roles")


def changes(found: views.Changes) -> None:
    """A diff: what comes is green, what goes is red."""
    for change in found["changes"]:
        path = escape(change["path"])
        before, after = escape(_value(change["before"])), escape(_value(change["after"]))
        if change["before"] is None:
            out(f"[green]+ {path}: {after}[/]")
        elif change["after"] is None:
            out(f"[red]- {path}: {before}[/]")
        else:
            out(f"[yellow]~ {path}: {before} -> {after}[/]")
    count = len(found["changes"])
    done = "made" if found["applied"] else "to make"
    out(f"{count} change{'' if count == 1 else 's'} {done}" if count else "nothing to change")


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {one}" for name, one in value.items()) or "nothing"
    if isinstance(value, list):
        return ", ".join(str(one) for one in value) or "nothing"
    return "nothing" if value in (None, "") else str(value)


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
            token["expires"] or "never",
            _standing(token),
        )
        for token in items
    ]
    return table(("TOKEN", "USER", "LABEL", ">AGE", "EXPIRES", "STATE"), rows, "no tokens")


def audits(items: Iterable[views.AuditView]) -> RenderableType:
    """One line a change."""
    rows = [
        (row["at"][:19].replace("T", " "), row["who"], row["action"], row["subject"], _change(row)) for row in items
    ]
    return table(("WHEN", "WHO", "WHAT", "OF", "CHANGE"), rows, "no changes")


def _change(row: views.AuditView) -> str:
    if row["before"] is None and row["after"] is None:
        return ""
    return f"{_short(row['before'])} -> {_short(row['after'])}"


def _short(value: Any) -> str:
    text = _value(value)
    return text if len(text) <= 60 else text[:57] + "..."


def health(found: views.Health) -> None:
    """The whole, then part by part."""
    style = "green" if found["status"] == "ok" else "yellow"
    out(f"[{style}]{found['status']}[/] (priority {found['version']})")
    out(table(("PART", "STATE"), list(found["parts"].items())))
