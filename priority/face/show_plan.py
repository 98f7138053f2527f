"""For people: what the engine would do and what it has done to whom, as tables and lines."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.markup import escape
from rich.text import Text

from priority.face.show import warn
from priority.face.terminal import age, amount, out, prose, span, state, table

if TYPE_CHECKING:
    from priority.face import views

STYLES = {
    "starts": "green", "starts-later": "cyan", "waits": "yellow", "refused": "red", "started": "green",
    "starting": "cyan", "waiting": "yellow", "killed": "red", "lost": "red", "stopped": "red", "preempted": "magenta",
    "failed": "bold red",
}  # fmt: skip

_WORDS = {"starts": "starts", "starts-later": "starts later", "waits": "waits"}


def _word(name: str) -> Text:
    return Text(_WORDS.get(name, name), STYLES.get(name, ""))


def forecast(found: views.ForecastView) -> None:
    """The one line first; then where, whom it would displace, and the quotas after."""
    prose(f"[bold]{escape(found['summary'])}[/]")
    if found["refusal"] is not None:
        return
    now = datetime.fromisoformat(found["at"])
    several = len(found["jobs"]) > 1
    places = [
        (
            one["job"] if several else "",
            one["instances"],
            _word(one["verdict"]),
            one["node"],
            _latest(one, now),
            (one["reason"] or {}).get("message", ""),
        )
        for one in found["places"]
    ]
    _part(table(("JOB", "INSTANCES", "", "NODE", "AT THE LATEST", "WHY"), places)
          if several
          else table(("INSTANCES", "", "NODE", "AT THE LATEST", "WHY"), [row[1:] for row in places]))  # fmt: skip
    if found["displaced"]:
        _part(_displaced(found["displaced"]))
    _part(_quotas(found["quota"]))
    for warning in found["warnings"]:
        warn(warning)


def _part(what: RenderableType) -> None:
    out("")
    out(what)


def _latest(one: views.PlaceView, now: datetime) -> str:
    if one["verdict"] == "starts":
        return "now"
    if one["until"] is None:
        return "not known"
    return f"in {span((datetime.fromisoformat(one['until']) - now).total_seconds())}"


def _displaced(items: Sequence[views.DisplacedView]) -> RenderableType:
    rows = [
        (
            f"{one['job']}[{one['instance']}]",
            one["user"],
            one["node"],
            f"{one['taker']}[{one['taker_instance']}]",
            one["rule"],
            f"{one['cpu_s_lost']:.1f}s",
            "yes" if one["comes_back"] else "no",
        )
        for one in items
    ]
    columns = ("DISPLACES", "USER", "NODE", "FOR", "BY", ">CPU LOST", "COMES BACK")
    return table(columns, rows, quiet=("USER",), spare=("COMES BACK", "BY"))


def _quotas(items: Sequence[views.QuotaAfter]) -> RenderableType:
    rows: list[tuple[Any, ...]] = []
    for line in items:
        names = sorted({*(line["quota"] or {}), *line["use_after"], *line["holding_after"]})
        for name in names:
            quota = line["quota"]
            limit = "none" if quota is None else amount(name, quota[name]) if name in quota else "no limit"
            used = _becomes(name, line["use"], line["use_after"])
            held = _becomes(name, line["holding"], line["holding_after"])
            rows.append((line["role"], line["tier"], line["user"], name, limit, used, held))
    columns = ("ROLE", "TIER", "USER", "RESOURCE", ">QUOTA", ">IN USE", ">RUNNING")
    return table(columns, rows, quiet=("USER",))


def _becomes(name: str, now: dict[str, float], then: dict[str, float]) -> str:
    before, after = (amount(name, some[name]) if some.get(name) else "0" for some in (now, then))
    return before if before == after else f"{before} -> {after}"


def preemptions(items: Sequence[views.PreemptionView]) -> RenderableType:
    """One line a preemption."""
    rows = [
        (
            age(one["at"]),
            _task(one["victim"]),
            _task(one["preemptor"]),
            one["preemptor"]["user"],
            one["rule"],
            one["node"],
            f"{one['cpu_s_lost']:.1f}s",
            _word(one["outcome"]),
            "" if one["outcome"] == "started" else one["message"],
        )
        for one in items
    ]
    columns = (">AGE", "GAVE WAY", "TO", "OF", "BY", "NODE", ">CPU LOST", "OUTCOME", "WHY")
    return table(columns, rows, "no preemptions", spare=("BY", "OF", "NODE", "AGE"), quiet=("WHY",))


def _task(side: views.SideView) -> str:
    """`role/tier/name[instance]`."""
    return f"{side['job']}[{side['task'].rsplit('-', 2)[1]}]"


def totals(found: views.PreemptionTotals) -> None:
    """Both ways by role, then who took of whom."""
    rows = [(one["role"], *_tally(one["took"]), *_tally(one["gave"])[:2]) for one in found["items"]]
    columns = ("ROLE", ">TOOK", ">CPU", ">STARTED", ">WAITING", ">IN VAIN", ">GAVE", ">CPU GIVEN")
    out(table(columns, rows, "no preemptions"))
    if found["pairs"]:
        pairs = [(one["preemptor"], one["victim"], *_tally(one["took"])) for one in found["pairs"]]
        _part(table(("PREEMPTOR", "VICTIM", ">TASKS", ">CPU", ">STARTED", ">WAITING", ">IN VAIN"), pairs))


def _tally(tally: views.TallyView) -> tuple[Any, ...]:
    return tally["tasks"], f"{tally['cpu_s']:.1f}s", tally["started"], tally["waiting"], tally["in_vain"]


def risk(found: views.RiskView) -> None:
    """Who may take them, then the tasks in order."""
    back = "a victim is tried again" if found["comes_back"] else "a victim ends"
    what = "task holds" if found["count"] == 1 else "tasks hold"
    takers = " or ".join(found["takers"])
    prose(f"[bold]{escape(found['job'])}[/]: {found['count']} {what} room; may be taken by {escape(takers)}; {back}")
    if found["waiting"]:
        prose(f"{found['waiting']} more wait and have nothing to lose")
    if not found["tasks"]:
        return
    rows = [
        (
            place,
            one["instance"],
            one["attempt"],
            state(one["state"]),
            one["node"],
            age(one["since"]),
            f"{one['cpu_s_lost']:.1f}s",
            one["cheaper"],
        )
        for place, one in enumerate(found["tasks"], 1)
    ]
    columns = (">NEXT", ">INSTANCE", ">ATTEMPT", "STATE", "NODE", ">AGE", ">CPU LOST", ">CHEAPER ONES")
    _part(table(columns, rows))
    for why, spared in groupby(found["tasks"], key=lambda one: one["spared"]):
        if why is not None:
            count = len(list(spared))
            prose(f"{count} of them {'is' if count == 1 else 'are'} spared now: {escape(why)}")
    left = found["count"] - len(found["tasks"])
    prose((f"... and {left} more; " if left else "") + f"{found['cpu_s_lost']:.1f} cpu-seconds would be lost in all")
