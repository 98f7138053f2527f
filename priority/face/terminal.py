"""How things look on a terminal and in a pipe: tables that fit the window, times and amounts in few letters.

On a terminal there are colours (unless NO_COLOR is set) and lines as wide as the window: a table that is wider leaves
out the columns that matter least. In a pipe it has every column, and nothing is cut.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from priority import resources

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


def console(*, error: bool = False) -> Console:
    """Standard output, or error; wide enough not to cut anything when nobody looks at it directly."""
    stream = sys.stderr if error else sys.stdout
    return Console(file=stream, highlight=False, width=None if stream.isatty() else _PIPE_WIDTH)


def out(what: RenderableType) -> None:
    """Show it. Text is never broken into lines, so that it can be copied as it is."""
    screen = console()
    if is_terminal() or isinstance(what, str):
        return screen.print(what, soft_wrap=isinstance(what, str))
    with screen.capture() as captured:
        screen.print(what)
    for line in captured.get().splitlines():  # without the blanks that fill a table's last column
        screen.print(Text(line.rstrip()), soft_wrap=True)
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
    kept = [list(row) for row in rows]
    if not kept:
        return empty
    places = {name.lstrip(">"): place for place, name in enumerate(columns)}
    shown = set(places)
    if is_terminal():
        shown -= {name for name in quiet if all(_is_nothing(row[places[name]]) for row in kept)}
    window = console()
    for name in (*spare, None):
        made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for column in columns:
            if column.lstrip(">") in shown:
                justify: Any = "right" if column.startswith(">") else "left"
                made.add_column(column.lstrip(">"), justify=justify, overflow="fold")
        for row in kept:
            made.add_row(*(_cell(row[place]) for column, place in places.items() if column in shown))
        # What a line is about stays in one piece, unless it would take half of the window.
        made.columns[0].no_wrap = max(len(str(row[0])) for row in kept) <= window.width // 2
        if name is None or _width(window, made) <= window.width:
            break
        shown.discard(name)
    return made


def _width(window: Console, made: Table) -> int:
    return Measurement.get(window, window.options.update_width(_PIPE_WIDTH), made).maximum


def _is_nothing(value: Any) -> bool:
    return value is None or value == 0 or str(value) in ("", "0", "-")


def _cell(value: Any) -> RenderableType:
    if isinstance(value, Text):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    return Text("-" if value is None or value == "" else str(value))


def state(name: str) -> Text:
    """A state in its colour."""
    return Text(name, STATE_STYLES.get(name, ""))


def many(number: int, of: str) -> Text:
    """How many are in a state, in its colour; a zero is there, but says nothing."""
    return Text(str(number), STATE_STYLES.get(of, "") if number else "dim")


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


def amounts(plain: Mapping[str, Any] | None, none: str = "-") -> str:
    """`cpus 2, mem 4GiB`."""
    return none if plain is None else resources.show(_held(plain)) if plain else "nothing"


def amount(name: str, plain: float | None) -> str:
    """One amount in the users' unit, as people read it: `2`, `4GiB`."""
    if plain is None:
        return "-"
    sign = "-" if plain < 0 else ""
    return sign + resources.show_amount(name, resources.parse_amount(name, abs(plain), name))


def _held(plain: Mapping[str, Any]) -> resources.Resources:
    return resources.parse(dict(plain), "amounts", zeros=True)
