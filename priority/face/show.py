"""For people: what the API answers about work and about the cluster, as tables and lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.text import Text

from priority.face.terminal import age, amount, amounts, console, is_terminal, many, out, prose, span, state, table
from priority.task import ranges

if TYPE_CHECKING:
    from priority.face import views

__all__ = ["age", "amount", "amounts", "console", "is_terminal", "out", "prose", "span", "state", "table"]

COUNTS = ("pending", "starting", "running", "dying", "finished", "failed", "killed")
"""Where the instances of a job are: each is in exactly one."""
RARE = ("STARTING", "DYING", "FAILED", "KILLED")
WIDE = 120
"""In a narrower window, why tasks are where they are stands below the table, once for all that are alike."""


def warn(text: str) -> None:
    """A yellow line on standard error."""
    console(error=True).print(f"[yellow]warning:[/] {escape(text)}", soft_wrap=not is_terminal())


def jobs(items: Iterable[views.JobSummary], none: str = "no jobs") -> RenderableType:
    """One line a job, and how many of its instances are where; `none` where there is none."""
    rows = [
        (
            job["key"],
            job["user"],
            state(job["state"]),
            *_counts(job),
            amounts(job["resources"]),
            age(job["submitted"]),
            job["uid"],
        )
        for job in items
    ]
    counts = tuple(f">{name.upper()}" for name in COUNTS)
    columns = ("JOB", "USER", "STATE", *counts, "EACH", ">AGE", "UID")
    return table(columns, rows, none, spare=("UID", "STATE", "EACH", "USER", "AGE"), quiet=RARE)


def _counts(job: views.JobSummary) -> list[Text]:
    numbers: Mapping[str, Any] = dict(job)
    return [many(numbers[name], name) for name in COUNTS]


def tasks(items: Sequence[views.TaskView], *, each: bool = False) -> RenderableType:
    """One line an attempt, and why it is where it is. Those that are alike and were on no node share one, unless
    `each` is wanted: a thousand that wait for one reason are one thing to know.
    """
    rows = [_attempts(alike) for alike in (_each(items) if each else _alike(items))]
    columns = (">INSTANCE", ">ATTEMPT", "STATE", "NODE", ">AGE", "EXIT", ">CPU", ">MEM", "REASON")
    spare, quiet = ("MEM", "CPU", "AGE"), ("NODE", "EXIT", "CPU", "MEM", "REASON")
    if console().width >= WIDE or not rows:
        return table(columns, rows, "no tasks", spare=spare, quiet=quiet)
    short = table(columns[:-1], [row[:-1] for row in rows], spare=spare, quiet=quiet[:-1])
    return Group(short, *_reasons(items))


def _attempts(alike: Sequence[views.TaskView]) -> tuple[Any, ...]:
    task = alike[0]
    return (
        ranges(one["instance"] for one in alike),
        task["attempt"],
        state(task["state"]),
        task["node"],
        age(task["ended"] or task["started"] or task["since"]),
        _ended(task),
        None if task["cpu_s"] is None else f"{task['cpu_s']:.1f}s",
        None if task["peak_mem_mib"] is None else f"{task['peak_mem_mib']}MiB",
        _why(task),
    )


def _each(items: Iterable[views.TaskView]) -> list[list[views.TaskView]]:
    return [[task] for task in items]


def _alike(items: Iterable[views.TaskView]) -> list[list[views.TaskView]]:
    """In their order; those that share a line stand where the first of them stood, the oldest of them first."""
    lines: dict[object, list[views.TaskView]] = {}
    for task in items:
        key = (task["state"], task["attempt"], _why(task)) if task["node"] is None else task["id"]
        lines.setdefault(key, []).append(task)
    return [sorted(line, key=lambda task: task["since"]) for line in lines.values()]


def _why(task: views.TaskView) -> str:
    return str((task["reason"] or {}).get("message", ""))


def _reasons(items: Iterable[views.TaskView]) -> list[RenderableType]:
    """Why, each once."""
    alike: dict[str, list[int]] = {}
    for task in items:
        if _why(task):
            alike.setdefault(_why(task), []).append(task["instance"])
    lines = [Text(f"{ranges(who)}: ", "bold").append(why, "not bold") for why, who in alike.items()]
    return [Padding(Group(*lines), (1, 0, 0, 0))] if lines else []


def _ended(task: views.TaskView) -> str:
    if task["signal"] is not None:
        return f"signal {task['signal']}"
    return "" if task["exit_code"] is None else str(task["exit_code"])


def job(view: views.JobView, its_tasks: Sequence[views.TaskView], more: bool, *, each: bool = False) -> None:
    """A job and its tasks."""
    spec = view["spec"]
    command = spec["command"] if isinstance(spec["command"], str) else " ".join(spec["command"])
    many_of_it = f"{view['instances']} instance{'' if view['instances'] == 1 else 's'}"
    prose(f"[bold]{escape(view['key'])}[/] by {escape(view['user'])}, {age(view['submitted'])} ago ({view['uid']})")
    out(escape(command))
    if view["tick"]:
        prose(f"run of the cron job for {view['tick']}; `priority cron show {escape(view['key'])}` says more")
    prose(f"{many_of_it} of {escape(amounts(view['resources']))}, priority {view['priority']}: {_here(view)}")
    out("")
    out(tasks(its_tasks, each=each))
    if more:
        prose("... and more instances; --all shows every attempt of every one")


def _here(view: views.JobSummary) -> str:
    """`3 running, 2 finished`."""
    numbers: Mapping[str, Any] = dict(view)
    return ", ".join(f"{numbers[name]} {name}" for name in COUNTS if numbers[name])


def watched(view: views.JobSummary, its_tasks: Sequence[views.TaskView], height: int) -> RenderableType:
    """A job and its tasks for a window of this height: what moves first, what waits or has ended as far as it fits."""
    order = ("preempting", "killing", "starting", "running", "pending")
    place = {name: number for number, name in enumerate(order)}
    moving = sorted(its_tasks, key=lambda task: (place.get(task["state"], len(order)), task["instance"]))
    head = Text.assemble((view["key"], "bold"), f": {_here(view)}")
    return Group(head, "", tasks(moving[: max(1, height - 6)]))


def explanation(found: views.ExplanationView) -> None:
    """The one line first."""
    prose(f"[bold]{escape(found['summary'])}[/]")
    rows = [
        (
            line["instances"],
            line["attempts"],
            state(line["state"]),
            line["message"].removeprefix(f"{line['state']}: "),
        )
        for line in found["lines"]
    ]
    if rows:
        out("")
        out(table(("INSTANCES", ">ATTEMPTS", "STATE", "WHY"), rows))


def nodes(items: Sequence[views.NodeView]) -> RenderableType:
    """One line a node: of each resource what tasks hold, and what it has."""
    names = sorted({name for node in items for name in node["capacity"]})
    shared: Sequence[Kind] = ("capacity", "offered", "others") if any(node["shared"] for node in items) else ()
    rows = [
        (
            node["name"],
            state(node["state"]),
            node["tasks"],
            *(_share(node, name) for name in names),
            *(_of_all(node["shared"], kind) for kind in shared),
            age(node["seen"]),
            ", ".join(f"{name}={value}" for name, value in sorted(node["attributes"].items())),
        )
        for node in items
    ]
    columns = (
        "NODE",
        "STATE",
        ">TASKS",
        *(f">{name.upper()}" for name in names),
        *(_SHARED[kind] for kind in shared),
        ">SEEN",
        "ATTRIBUTES",
    )
    return table(columns, rows, "no nodes", spare=("SEEN", "ATTRIBUTES", "DISK"), quiet=("ATTRIBUTES",))


Kind = Literal["capacity", "offered", "others"]
_SHARED: Mapping[Kind, str] = {"capacity": "ALL OF IT", "offered": "OFFERED", "others": "OTHERS'"}


def _of_all(shared: views.Shared | None, kind: Kind) -> str:
    amounts = {} if shared is None else shared[kind]
    return ", ".join(f"{name} {amount(name, value)}" for name, value in sorted(amounts.items()) if name != "ports")


def _share(node: views.NodeView, name: str) -> str:
    held, has = node["held"].get(name, 0), node["capacity"].get(name)
    if has is None:
        return ""
    return f"{amount(name, held) if held else 0}/{amount(name, has)}"


def quotas(view: views.QuotaView, *, users: bool) -> None:
    """One line for each resource of a quota, and the warnings. Users without a part of their own only if `users`."""
    rows = []
    for line in view["items"]:
        if line["user"] and line["quota"] is None and not users:
            continue
        names = sorted({*(line["quota"] or {}), *line["use"], *line["holding"]})
        for name in names or [""]:
            rows.append((line["role"], line["tier"], line["user"], *_of_quota(line, name)))
    columns = ("ROLE", "TIER", "USER", "RESOURCE", ">QUOTA", ">RUNNING", ">WAITING", ">CRON", ">LEFT")
    out(table(columns, rows, "no quotas", quiet=("USER", "CRON"), spare=("WAITING",)))
    for warning in view["warnings"]:
        warn(warning)


def _of_quota(line: views.QuotaLine, name: str) -> tuple[Any, ...]:
    """RESOURCE, QUOTA, RUNNING, WAITING, CRON (kept for it), LEFT. A quota that does not name a resource does not limit
    it; without any a guarantee is nothing, and a ceiling is none.
    """
    quota, left = line["quota"], line["left"]
    if quota is None:
        limit = "none" if line["guarantee"] and line["user"] is None else "no limit"
    else:
        limit = amount(name, quota[name]) if name in quota else "no limit"
    taken = (_none_is_zero(name, line[which].get(name)) for which in ("holding", "waiting", "reserved"))
    rest = amount(name, left[name]) if left is not None and name in left else ""
    return (name, limit, *taken, Text(rest or "-", "red" if rest.startswith("-") else ""))


def _none_is_zero(name: str, value: float | None) -> str:
    return amount(name, value) if value else "0"
