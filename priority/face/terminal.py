"""How things look on a terminal and in a pipe: tables that fit the window, times and amounts in few letters.

On a terminal there are colours (unless NO_COLOR is set) and lines as wide as the window: a table that is wider leaves
out the columns that matter least. In a pipe it has every column, and nothing is cut. Only a task's own output is shown
as it is; a user's text that is a terminal's escape does nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from priority.face.words import age, amount, amounts, span
from priority.printable import printable, printable_lines

__all__ = [
    "age", "amount", "amounts", "console", "is_terminal", "many", "out", "prose", "span", "state", "table",
]  # fmt: skip

STATE_STYLES = {
    "active": "green", "running": "green", "finished": "blue", "pending": "yellow", "starting": "cyan",
    "preempting": "magenta", "killing": "magenta", "preempted": "magenta", "killed": "red", "failed": "bold red",
    "lost": "red", "ended": "blue", "up": "green", "draining": "yellow", "down": "red", "dying": "magenta",
    "silent": "bold yellow",
}  # fmt: skip

_PIPE_WIDTH = 10_000


def is_terminal() -> bool:
    """Whether a person looks at standard output."""
    return sys.stdout.isatty()


class _Screen(Console):
    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control or text.isprintable() else Segment(printable_lines(text), style)


def console(*, error: bool = False) -> Console:
    """Standard output, or error; wide enough not to cut anything when nobody looks at it directly."""
    stream = sys.stderr if error else sys.stdout
    return _Screen(file=stream, highlight=False, width=None if stream.isatty() else _PIPE_WIDTH)


def out(what: RenderableType) -> None:
    """Show it. Text is never broken into lines, so that it can be copied as it is."""
    if isinstance(what, Lines):
        sys.stdout.write(f"{printable_lines(what.plain)}\n")
        return None
    screen = console()
    if is_terminal() or isinstance(what, str):
        return screen.print(what, soft_wrap=isinstance(what, str))
    with screen.capture() as captured:
        screen.print(what)
    for line in captured.get().splitlines():  # without the blanks that fill a table's last column
        sys.stdout.write(f"{line.rstrip()}\n")
    return None


def prose(text: str) -> None:
    """Show text with markup: on a terminal broken between words, in a pipe one line."""
    console().print(text, soft_wrap=not is_terminal())


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    empty: str = "nothing",
    *,
    spare: Sequence[str] = (),
    quiet: Sequence[str] = (),
) -> RenderableType:
    """Plain columns; those whose name begins with `>` are numbers and stand right. On a terminal those of `quiet` go
    when there is nothing in them, and those of `spare`, in that order, as long as the table is too wide.
    """
    kept = [[_cell(value) for value in row] for row in rows]
    if not kept:
        return empty
    names = [name.lstrip(">") for name in columns]
    held = {name: list(column) for name, column in zip(names, zip(*kept, strict=True), strict=True)}
    widths = {name: max(_length(name), *map(_length, column)) for name, column in held.items()}
    shown = set(names)
    if is_terminal():
        shown -= {name for name in quiet if all(map(_is_nothing, held[name]))}
    window = console().width
    for name in spare:
        if _whole(widths, shown) > window:
            shown.discard(name)
    left = [place for place, name in enumerate(names) if name in shown]
    columns, kept = [columns[place] for place in left], [[row[place] for place in left] for row in kept]
    if not is_terminal() and _whole(widths, shown) <= window:
        return _plain(columns, kept, widths)
    return _drawn(columns, kept, widths, window)


def _drawn(
    columns: Sequence[str], rows: Iterable[Sequence[Text]], widths: Mapping[str, int], window: int
) -> RenderableType:
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", overflow="fold")
    for row in rows:
        made.add_row(*row)
    # What a line is about stays in one piece, unless it would take half of the window.
    made.columns[0].no_wrap = widths[columns[0].lstrip(">")] <= window // 2
    return made


class Lines(Text):
    """A table that nobody looks at directly: laid out without `rich`, which takes half a millisecond a line."""


def _plain(columns: Sequence[str], rows: Iterable[Sequence[Text]], widths: Mapping[str, int]) -> RenderableType:
    laid = [[Text(name.lstrip(">")) for name in columns], *rows]
    right = [name.startswith(">") for name in columns]
    width = [widths[name.lstrip(">")] for name in columns]
    lines = []
    for row in laid:
        cells = [
            f"{' ' * (wide - _length(cell))}{cell.plain}" if right else f"{cell.plain}{' ' * (wide - _length(cell))}"
            for cell, wide, right in zip(row, width, right, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return Lines("\n".join(lines))


def _length(cell: Text | str) -> int:
    """Columns on a screen."""
    return cell_len(cell if isinstance(cell, str) else cell.plain)


def _whole(widths: Mapping[str, int], shown: Collection[str]) -> int:
    return sum(widths[name] + 2 for name in shown) - 2


def _is_nothing(cell: Text) -> bool:
    return cell.plain in ("", "0", "-")


def _cell(value: Any) -> Text:
    """On one line: a line break in it would break the table."""
    if isinstance(value, Text):
        return value
    text = f"{value:g}" if isinstance(value, float) else "-" if value is None or value == "" else str(value)
    return Text(printable(" ".join(text.split("\n"))))


def state(name: str) -> Text:
    """A state in its colour."""
    return Text(name, STATE_STYLES.get(name, ""))


def many(number: int, of: str) -> Text:
    """How many are in a state, in its colour; a zero is there, but says nothing."""
    return Text(str(number), STATE_STYLES.get(of, "") if number else "dim")
