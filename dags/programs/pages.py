"""Pictures and pages from what `toy.py` wrote. SVG by hand: a plotting library would be larger than all the rest.

pages.py plots FOLDER      one SVG for each histogram
pages.py report FOLDER     report.html; status 1 if the verdict is bad
pages.py quota FILE.json FILE.html
"""

from __future__ import annotations

import json
import os
import sys
from html import escape
from pathlib import Path

WIDTH, HEIGHT, LEFT, TOP = 460, 220, 46, 24
RANGES = {"pt": (0.0, 4.0, "pt (GeV/c)"), "eta": (-1.8, 1.8, "eta"), "multiplicity": (0.0, 60.0, "tracks in an event")}
STYLE = """
body { font: 15px system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0 } td, th { padding: 3px 16px 3px 0; text-align: left }
.good { color: #1a7f37 } .bad { color: #c62828 } figure { display: inline-block; margin: 0 1em 1em 0 }
svg { font: 12px system-ui, sans-serif; max-width: 100% }
"""


def save(path: Path, text: str) -> None:
    half = path.with_name(f".{path.name}.{os.getpid()}")
    half.write_text(text, encoding="utf-8")
    half.replace(path)


def load(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def steps(values: list[float], top: float) -> str:
    """A histogram's outline, as the points of a line."""
    wide, high = (WIDTH - LEFT - 10) / len(values), HEIGHT - TOP - 30
    points = []
    for index, value in enumerate(values):
        y = TOP + high * (1 - value / top)
        points += [f"{LEFT + index * wide:.1f},{y:.1f}", f"{LEFT + (index + 1) * wide:.1f},{y:.1f}"]
    return " ".join(points)


def chart(name: str, truth: list[float], seen: list[float]) -> str:
    low, high, label = RANGES[name]
    top, foot = max([1.0, *truth, *seen]) * 1.05, HEIGHT - 30
    lines = f'<polyline points="{steps(truth, top)}" fill="none" stroke="#2f7ed8" stroke-width="1.5"/>'
    if any(seen):
        lines += f'<polyline points="{steps(seen, top)}" fill="none" stroke="#c0561f" stroke-dasharray="4 2"/>'
    ticks = "".join(
        f'<text x="{LEFT + (WIDTH - LEFT - 10) * part / 4:.0f}" y="{foot + 16}" text-anchor="middle">'
        f"{low + (high - low) * part / 4:g}</text>"
        for part in range(5)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img">'
        f'<text x="{LEFT}" y="14" font-weight="600">{escape(label)}</text>{lines}'
        f'<path d="M{LEFT} {TOP}V{foot}H{WIDTH - 10}" fill="none" stroke="#888"/>{ticks}'
        f'<text x="{LEFT - 4}" y="{TOP + 10}" text-anchor="end">{top:.0f}</text></svg>\n'
    )


def plots(folder: Path) -> None:
    truth, seen = load(folder / "qa.json")["histograms"], load(folder / "reco.json").get("histograms", {})
    for name, values in truth.items():
        save(folder / f"{name}.svg", chart(name, values, seen.get(name, [])))
        print(f"plotted {name}")


def table(head: list[str], rows: list[list[object]]) -> str:
    cells = "".join(f"<th>{escape(one)}</th>" for one in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(str(one))}</td>" for one in row) + "</tr>" for row in rows)
    return f"<table><tr>{cells}</tr>{lines}</table>"


def page(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body><h1>{escape(title)}</h1>{body}</body></html>\n"
    )


def report(folder: Path) -> None:
    """The last product: everything that is there, and whether it is good."""
    verdict = load(folder / "verdict.json") or {"good": False, "findings": ["there is no verdict"], "jobs": []}
    compared, used = load(folder / "compare.json"), load(folder / "resources.json").get("resources", {})
    good = bool(verdict["good"]) and all(one["good"] for one in compared.values())
    parts = [f'<p class="{"good" if good else "bad"}"><b>{"Passed" if good else "Failed"}</b></p>']
    parts += [f'<p class="bad">{escape(str(one))}</p>' for one in verdict["findings"]]
    parts += [f"<figure>{path.read_text(encoding='utf-8')}</figure>" for path in sorted(folder.glob("*.svg"))]
    if compared:
        rows = [[name, one["chi2_per_bin"], one["efficiency"], one["good"]] for name, one in compared.items()]
        parts.append("<h2>Reconstructed against simulated</h2>")
        parts.append(table(["shape", "chi2 per bin", "efficiency", "good"], rows))
    if used:
        parts.append("<h2>Resources of the simulation</h2>")
        parts.append(table(["what", "amount"], [[name, round(value, 3)] for name, value in used.items()]))
    rows = [[one["job"], one["state"], one["lines"]] for one in verdict["jobs"]]
    parts.append("<h2>Jobs and their logs</h2>" + table(["job", "ended", "lines read"], rows))
    save(folder / "report.html", page("Release validation", "".join(parts)))
    print(f"report: {folder / 'report.html'}")
    if not good:
        sys.exit("the validation has failed")


def quota(source: Path, out: Path) -> None:
    lines = load(source)["items"]
    rows = [[one["role"], one["tier"], one["user"] or "", one["quota"] or "no limit", one["use"]] for one in lines]
    save(out, page("Quotas and their use", table(["role", "tier", "user", "quota", "use"], rows)))
    print(f"{len(rows)} quotas: {out}")


if __name__ == "__main__":
    verb, *paths = sys.argv[1:]
    {"plots": plots, "report": report, "quota": quota}[verb](*map(Path, paths))
