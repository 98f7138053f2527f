"""The demo's picture: each cpu of each node a line through time, and below it the story with its ticks.

Knows nothing of the service but its answers; on something that is not a terminal it prints the lines alone.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from io import StringIO
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.rule import Rule
from rich.text import Text

if TYPE_CHECKING:
    from priority.face import views

TIER_STYLES: Mapping[str, str] = {"prod": "green3", "devel": "dodger_blue1", "opportunistic": "grey58"}
DYING, FREE = "red1", "grey30"
COLUMN_S = 0.3
"""So much time is one character."""
COLUMNS_MAX = 62
NAME, LABEL = 8, 10
LINES_MAX = 12


@dataclass(frozen=True, slots=True)
class Box:
    """One task as the picture shows it."""

    task: str
    label: str
    cpus: int
    style: str


@dataclass(slots=True)
class Lanes:
    """One node: a lane for each cpu, what is on it now, and what was, a colour for each column of time."""

    cpus: int
    now: list[Box | None] = field(default_factory=list)
    past: list[list[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.now = [None] * self.cpus
        self.past = [[] for _ in range(self.cpus)]

    def put(self, boxes: Sequence[Box]) -> None:
        """What is there now: a task keeps the lanes that it has."""
        here = {box.task: box for box in boxes}
        self.now = [here.get(box.task) if box else None for box in self.now]
        seated = {box.task for box in self.now if box}
        for box in boxes:
            if box.task not in seated:
                for lane in [lane for lane, other in enumerate(self.now) if other is None][: box.cpus]:
                    self.now[lane] = box

    def tick(self) -> None:
        """One column of time is over."""
        for lane, box in enumerate(self.now):
            self.past[lane].append(box.style if box else FREE)


def boxes_by_node(tasks: Sequence[tuple[views.JobSummary, views.TaskView]]) -> dict[str, list[Box]]:
    """Where the service says that its tasks are, in a fixed order."""
    found: dict[str, list[Box]] = {}
    for job, task in sorted(tasks, key=lambda pair: (pair[1]["since"], pair[1]["id"])):
        if task["node"] and task["state"] in ("starting", "running", "preempting", "killing"):
            style = TIER_STYLES.get(job["tier"], "white") if task["state"] in ("starting", "running") else DYING
            box = Box(task["id"], f"{job['name']}·{task['instance']}", max(1, int(job["resources"]["cpus"])), style)
            found.setdefault(task["node"], []).append(box)
    return found


def draw(nodes: Mapping[str, Lanes], columns: int) -> Group:
    """Every cpu as a line: its past from left to right, `columns` of it, then what is on it now."""
    lines = []
    for name, lanes in sorted(nodes.items()):
        for lane, past in enumerate(lanes.past):
            line = Text(f"{name:<{NAME}}"[:NAME] if lane == 0 else " " * NAME, "bold", no_wrap=True)
            shown = past[-columns:]
            for style, run in groupby(shown):
                line.append(("·" if style == FREE else "■") * len(list(run)), style)
            line.append(" " * (columns - len(shown) + 1))
            box = lanes.now[lane]
            first = box is not None and lanes.now.index(box) == lane
            line.append((box.label if first else "┊")[:LABEL] if box else "", f"bold {box.style}" if box else "")
            lines.append(line)
    return Group(*lines)


def legend(waiting: Mapping[str, int]) -> Text:
    """What the colours mean, and who waits."""
    line = Text(" " * NAME, no_wrap=True, overflow="ellipsis")
    for name, style in {**TIER_STYLES, "told to stop": DYING}.items():
        line.append("■ ", style)
        line.append(f"{name}   ", "grey62")
    waits = ", ".join(f"{name} {count}" for name, count in sorted(waiting.items()) if count)
    return line.append(f"waiting: {waits or 'nothing'}", "yellow" if waits else "grey62")


class Timeline(AbstractContextManager["Timeline"]):
    """What the person looks at. Thread-safe: the story adds lines while a thread brings new rows."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._nodes: dict[str, Lanes] = {}
        self._waiting: Mapping[str, int] = {}
        self._columns = 0
        self._lines: list[Text] = []
        self._lock = threading.Lock()
        self._live = Live(console=console, refresh_per_second=8, transient=True) if console.is_terminal else None

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

    def show(
        self, at_s: float, cpus: Mapping[str, int], boxes: Mapping[str, list[Box]], waiting: Mapping[str, int]
    ) -> None:
        """The cluster as it is `at_s` seconds after the story began; `cpus`: of each node; `waiting`: name of a job ->
        how many of its tasks are pending.
        """
        with self._lock:
            self._waiting = waiting
            for name, count in cpus.items():
                self._nodes.setdefault(name, Lanes(count)).put(boxes.get(name, []))
            while self._columns < at_s / COLUMN_S:
                self._columns += 1
                for lanes in self._nodes.values():
                    lanes.tick()
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

    def save(self, path: Path) -> None:
        """The picture as it is now, as SVG."""
        paper = Console(width=100, height=40, record=True, force_terminal=True, file=StringIO())
        self._console, screen = paper, self._console
        paper.print(self._picture())
        self._console = screen
        svg = paper.export_svg(title="priority demo")
        # The picture is to be seen without fetching fonts from anywhere.
        path.write_text(re.sub(r"@font-face {.*?}", "", svg, flags=re.DOTALL), encoding="utf-8")

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.update(self._picture())

    def _picture(self) -> RenderableType:
        with self._lock:
            width = min(self._console.width, 100)
            lanes = sum(node.cpus for node in self._nodes.values())
            shown = max(2, min(LINES_MAX, self._console.height - lanes - 5))
            lines = [line.copy() for line in self._lines[-shown:]]
            for line in lines:
                line.no_wrap, line.overflow = True, "ellipsis"
            return Panel(
                Group(
                    draw(self._nodes, min(COLUMNS_MAX, width - NAME - LABEL - 6)),
                    legend(self._waiting),
                    Rule(style="grey35"),
                    *lines,
                ),
                title=f"[bold]{self._title}",
                border_style="grey50",
                width=width,
            )
