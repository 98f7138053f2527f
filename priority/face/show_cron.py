"""For people: cron jobs and their ticks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.markup import escape
from rich.text import Text

from priority.face.terminal import age, amounts, out, prose, state, table
from priority.reading import read_time
from priority.schedule import show_local

if TYPE_CHECKING:
    from priority.face import views_cron as views

_STYLES = {"started": "green", "waiting": "yellow", "skipped": "cyan", "missed": "red"}


def crons(items: Iterable[views.CronSummary]) -> RenderableType:
    """One line each."""
    rows = [
        (
            one["key"],
            one["user"],
            state(one["state"]),
            one["schedule"],
            one["timezone"],
            _next(one),
            _last(one["last"]),
            len(one["runs"]) or None,
            amounts(one["resources"]),
        )
        for one in items
    ]
    columns = ("CRON", "USER", "STATE", "SCHEDULE", "ZONE", "NEXT", "LAST", ">RUNNING", "EACH")
    return table(columns, rows, "no cron jobs", spare=("EACH", "USER", "ZONE", "LAST"), quiet=("RUNNING", "LAST"))


def _next(one: views.CronSummary) -> str | None:
    """By the clock that its schedule means."""
    return show_local(read_time(one["next"], "next"), one["timezone"]) if one["next"] else None


def _last(tick: views.TickView | None) -> Text | None:
    if tick is None:
        return None
    return Text(f"{tick['outcome']} {age(tick['tick'])} ago", _STYLES.get(tick["outcome"], ""))


def cron(view: views.CronView, its_ticks: Sequence[views.TickView]) -> None:
    """All about one."""
    spec = view["spec"]
    command = spec["command"] if isinstance(spec["command"], str) else " ".join(spec["command"])
    many = f"{view['instances']} instance{'' if view['instances'] == 1 else 's'}"
    prose(f"[bold]{escape(view['key'])}[/] by {escape(view['user'])}: {view['state']} ({view['uid']})")
    out(escape(command))
    missed = spec["missed"]
    late = missed["policy"]
    if late != "skip":
        late += f" (deadline {missed['deadline']:g} s" + (f", limit {missed['limit']})" if late == "run_all" else ")")
    rules = f"collision {view['collision']}, missed {late}"
    prose(f"{escape(view['schedule'])} in {view['timezone']}, {rules}; {many} of {escape(amounts(view['resources']))}")
    if view["runs"]:
        prose(f"goes on: {', '.join(view['runs'])}")
    _coming(view)
    out("")
    out(ticks(its_ticks))


def _coming(view: views.CronView) -> None:
    if view["local"]:
        prose(f"next: {', '.join(view['local'])}")
    elif view["state"] == "suspended":
        prose(f"suspended: its ticks are skipped until `priority cron resume {escape(view['key'])}`")
    else:
        prose("next: never")


def submitted(kept: Iterable[views.CronSubmitted]) -> None:
    """What each submission came to, and when it will run."""
    for view in kept:
        became = "submitted" if view["made"] else "changed" if view["altered"] else "is so already"
        prose(f"{escape(view['key'])} {became} ({view['uid']})")
        _coming(view)


def ticks(items: Sequence[views.TickView]) -> RenderableType:
    """One line each."""
    rows = [
        (
            one["tick"],
            Text(one["outcome"], _STYLES.get(one["outcome"], "")),
            one["job"],
            None if one["by"] is None else f"started by {one['by']}",
            (one["reason"] or {}).get("message"),
        )
        for one in items
    ]
    columns = ("TICK", "OUTCOME", "RUN", "BY", "REASON")
    return table(columns, rows, "no ticks yet", spare=("RUN",), quiet=("BY", "REASON", "RUN"))
