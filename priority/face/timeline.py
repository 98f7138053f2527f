"""The demo's picture: nodes as rows of cpus, what has happened as lines, what was checked as ticks.

Knows nothing of the service but its answers; on something that is not a terminal it prints the lines alone.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from priority.face import views

TIER_STYLES: Mapping[str, str] = {
    "prod": "bold white on dark_green",
    "devel": "black on steel_blue1",
    "opportunistic": "black on grey62",
}
DYING_STYLE = "bold white on red3"
FREE_STYLE = "grey50"
CELL = 8
"""Characters that one cpu is wide."""
LINES_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Box:
    """One task as the picture shows it: a label as wide as its cpus."""

    label: str
    tier: str
    cpus: int
    dying: bool


@dataclass(slots=True)
class Row:
    """One node: how many cpus it has and what is on them."""

    name: str
    cpus: int
    boxes: list[Box] = field(default_factory=list)


def rows(nodes: Sequence[views.NodeView], tasks: Sequence[tuple[views.JobSummary, views.TaskView]]) -> list[Row]:
    """Place what the service says where it says it: `tasks` are those that are not over, each with its job."""
    by_node = {node["name"]: Row(node["name"], int(node["capacity"].get("cpus", 0))) for node in nodes}
    for job, task in sorted(tasks, key=lambda pair: (pair[1]["since"], pair[1]["id"])):
        if task["node"] in by_node and task["state"] in ("starting", "running", "preempting", "killing"):
            label = f"{job['name']}·{task['instance']}"
            dying = task["state"] in ("preempting", "killing")
            box = Box(label, job["tier"], max(1, int(job["resources"].get("cpus", 1))), dying)
            by_node[task["node"]].boxes.append(box)
    return [by_node[name] for name in sorted(by_node)]


def draw(rows: Sequence[Row]) -> Table:
    """The nodes as a picture."""
    table = Table.grid(padding=(0, 1))
    for row in rows:
        line = Text()
        for box in row.boxes:
            width = CELL * box.cpus - 1
            line.append(box.label[:width].center(width), DYING_STYLE if box.dying else TIER_STYLES.get(box.tier, ""))
            line.append(" ")
        free = max(0, row.cpus - sum(box.cpus for box in row.boxes))
        line.append(("·" * (CELL - 1) + " ") * free, FREE_STYLE)
        table.add_row(Text(row.name, "bold"), line)
    return table


def legend() -> Text:
    """What the colours mean."""
    line = Text("   ")
    for tier, style in TIER_STYLES.items():
        line.append(f" {tier} ", style)
        line.append("  ")
    line.append(" told to stop ", DYING_STYLE)
    line.append("   · free cpu", FREE_STYLE)
    return line


class Timeline(AbstractContextManager["Timeline"]):
    """What the person looks at. Thread-safe: the story adds lines while a thread brings new rows."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._rows: list[Row] = []
        self._waiting: dict[str, int] = {}
        self._lines: list[Text] = []
        self._lock = threading.Lock()
        self._live = Live(console=console, refresh_per_second=12, transient=True) if console.is_terminal else None

    def __enter__(self) -> Timeline:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            # The picture goes, the story stays on the screen.
            self._console.print(Rule(self._title, style="grey50"))
            self._console.print(Group(*self._lines))

    def show(self, rows: list[Row], waiting: dict[str, int]) -> None:
        """The cluster as it is now; `waiting`: name of a job -> how many of its tasks are pending."""
        with self._lock:
            self._rows, self._waiting = rows, waiting
        self._refresh()

    def say(self, at_s: float, text: str, style: str = "") -> None:
        """One line of the story, `at_s` seconds after it began."""
        line = Text(f"{at_s:6.1f} s  ", "grey50")
        line.append_text(Text.from_markup(text, style=style))
        with self._lock:
            self._lines.append(line)
        if self._live is None:
            self._console.print(line, soft_wrap=True)
        self._refresh()

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.update(self._picture())

    def _picture(self) -> RenderableType:
        with self._lock:
            waiting = ", ".join(f"{name} {count}" for name, count in sorted(self._waiting.items()) if count)
            return Panel(
                Group(
                    draw(self._rows),
                    legend(),
                    Text(f"   waiting: {waiting or 'nothing'}", "yellow" if waiting else FREE_STYLE),
                    Rule(style="grey35"),
                    *self._lines[-LINES_SHOWN:],
                ),
                title=f"[bold]{self._title}",
                border_style="grey50",
                width=min(self._console.width, 100),
            )
