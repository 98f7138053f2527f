"""A simulation as a picture: cpus in use and tasks waiting, by tier, and preemptions, over time; SVG or HTML.

Written by hand rather than with a plotting library: three charts of stacked areas are not worth thirty megabytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from priority.tally import Series

WIDTH, HEIGHT = 960, 190
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 26, 26
COLOURS = {"prod": "#2e9e44", "devel": "#2f7ed8", "opportunistic": "#9a9a9a"}
OTHERS = ("#c0561f", "#7b4fb5", "#b0a01c", "#1c9aa0", "#c23b78")

_STYLE = """
svg, body { font: 13px system-ui, sans-serif; color: #222; background: #fff; fill: #222 }
.axis { stroke: #bbb; stroke-width: 1 } .grid { stroke: #e6e6e6 } .title { font-weight: 600 } .tick { fill: #666 }
table { border-collapse: collapse; margin: 0 0 1.5em } td, th { padding: 2px 14px 2px 0; text-align: right }
td:first-child, th:first-child { text-align: left }
@media (prefers-color-scheme: dark) {
svg, body { color: #ddd; background: #16181c; fill: #ddd } .axis { stroke: #666 } .grid { stroke: #2c2f36 }
.tick { fill: #999 } a { color: #7ab7ff } }
"""


def colours(tiers: Sequence[str]) -> dict[str, str]:
    """Each tier's own, whatever others there are."""
    strange = [name for name in tiers if name not in COLOURS]
    return {name: COLOURS.get(name) or OTHERS[strange.index(name) % len(OTHERS)] for name in tiers}


def svg(series: Series, cpus: float) -> str:
    """The three charts below each other."""
    charts = [
        _areas("cpus in use", series.edges, series.used, cpus),
        _areas("tasks waiting", series.edges, series.waiting, 0.0),
        _bars("preemptions", series.edges, series.preempted),
    ]
    groups = [f'<g transform="translate(0 {index * HEIGHT})">{chart}</g>' for index, chart in enumerate(charts)]
    high = HEIGHT * len(charts)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {high}" role="img">'
    return f"{head}<style>{_STYLE}</style>{''.join(groups)}</svg>\n"


def page(
    title: str, series: Series, cpus: float, tables: Sequence[tuple[Sequence[str], Sequence[Sequence[str]]]]
) -> str:
    """A page of its own, that needs nothing else: the charts and the report's tables."""
    parts = [f"<h1>{escape(title)}</h1>", svg(series, cpus)]
    for head, rows in tables:
        cells = "".join(f"<th>{escape(name.lstrip('>'))}</th>" for name in head)
        lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        parts.append(f"<table><tr>{cells}</tr>{lines}</table>")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE} body {{ max-width: {WIDTH}px; margin: 2em auto; padding: 0 1em }}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _areas(title: str, edges: Sequence[float], lines: Mapping[str, Sequence[float]], limit: float) -> str:
    """Stacked, the last of them at the bottom; `limit` is drawn as a line."""
    steps = len(edges) - 1
    top = max([limit, *(sum(line[step] for line in lines.values()) for step in range(steps))])
    scale = _nice(top)
    parts = [_frame(title, edges, scale)]
    below = [0.0] * steps
    tints = colours(list(lines))
    for name in reversed(list(lines)):
        above = [low + value for low, value in zip(below, lines[name], strict=True)]
        points = _outline(edges, above, scale) + list(reversed(_outline(edges, below, scale)))
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polygon points="{path}" fill="{tints[name]}"><title>{escape(name)}</title></polygon>')
        below = above
    if limit:
        y = _y(limit, scale)
        parts.append(
            f'<line class="axis" stroke-dasharray="5 4" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
    x = WIDTH - RIGHT
    for name in reversed(list(lines)):
        x -= 12 + 8 * len(name)
        parts.append(f'<text x="{x + 14}" y="16">{escape(name)}</text>')
        parts.append(f'<rect x="{x}" y="7" width="10" height="10" fill="{tints[name]}"/>')
        x -= 10
    return "".join(parts)


def _bars(title: str, edges: Sequence[float], values: Sequence[int]) -> str:
    scale = _nice(max(values, default=0))
    parts = [_frame(title, edges, scale)]
    for step, value in enumerate(values):
        if value:
            left, right, y = _x(edges, edges[step]), _x(edges, edges[step + 1]), _y(value, scale)
            size = f'width="{max(1.0, right - left):.1f}" height="{HEIGHT - BOTTOM - y:.1f}"'
            parts.append(f'<rect x="{left:.1f}" y="{y:.1f}" {size} fill="#c0392b"/>')
    return "".join(parts)


def _outline(edges: Sequence[float], values: Sequence[float], scale: float) -> list[tuple[float, float]]:
    points = []
    for step, value in enumerate(values):
        y = _y(value, scale)
        points += [(_x(edges, edges[step]), y), (_x(edges, edges[step + 1]), y)]
    return points


def _frame(title: str, edges: Sequence[float], scale: float) -> str:
    parts = [f'<text class="title" x="{LEFT}" y="16">{escape(title)}</text>']
    for part in (0.0, 0.5, 1.0):
        y = _y(part * scale, scale)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{part * scale:,g}</text>')
    size, unit = next((size, unit) for size, unit in _UNITS if edges[-1] >= 3 * size or size == 1)
    step = _nice(edges[-1] / size / 8) * size
    moment = 0.0
    while moment <= edges[-1]:
        x = _x(edges, moment)
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{moment / size:g} {unit}</text>'
        )
        moment += step
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>')
    return "".join(parts)


_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def _nice(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, ... that is not below."""
    size = 1.0
    while True:
        for factor in (1, 2, 5):
            if factor * size >= value:
                return factor * size
        size *= 10


def _x(edges: Sequence[float], moment: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * moment / max(edges[-1], 1e-9)


def _y(value: float, scale: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / scale
