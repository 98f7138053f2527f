"""`priority replay`: rounds on record, decided again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from priority.errors import Invalid, Malformed
from priority.face import shell
from priority.face.shell import Json

DIFFS_MAX = 5
"""So many rounds that differ are shown in full."""


def replay(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Recordings; without any, those of the state folder.", metavar="FILE...")
    ] = None,
    *,
    policy: Annotated[
        Path | None, typer.Option(help="Decide by these tiers, roles and settings, and compare.", metavar="FILE")
    ] = None,
    json: Json = False,
) -> None:
    """Make each recorded decision again; status 1 and a diff if one is not the same, byte for byte.

    The scheduler records its rounds if the setting record_mib says how much may be kept.

    With --policy, side by side: what that policy would have decided in each of the rounds; and what would have come of
    it, by simulating what was recorded under the recorded rules and under that policy.
    """
    found = files or _of_state()
    if policy is not None:
        return _compare(found, policy, json)
    rounds, differing = 0, []
    for path in found:
        from priority.replay import decide_again

        for again in _named(path, decide_again(_lines(path))):
            rounds += 1
            if again.same:
                continue
            differing.append({"file": str(path), "round": again.number})
            if len(differing) <= DIFFS_MAX and not json:
                shell.write(f"{path}: round {again.number} is decided otherwise:")
                for line in again.diff():
                    shell.write(f"  {line}")
    if json:
        shell.write_json({"rounds": rounds, "same": rounds - len(differing), "differing": differing})
    else:
        shell.write(f"{rounds} rounds decided again: {rounds - len(differing)} the same, {len(differing)} otherwise")
    if differing:
        raise typer.Exit(1)
    return None


def _of_state() -> list[Path]:
    from priority.service.record import FOLDER, recorded

    folder = shell.settings().state / FOLDER
    found = recorded(folder)
    if not found:
        raise Invalid(
            "FILE",
            f"nothing is recorded in {folder}; start the service with PRIORITY_RECORD_MIB=100 or so, or name a file",
        )
    return found


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    from priority.service.record import Torn, read_rounds

    try:
        data = path.read_bytes()
    except OSError as error:
        raise Malformed(f"{path}: cannot be read: {error.strerror}") from None
    for line in read_rounds(data):
        if isinstance(line, Torn):
            shell.warn(f"{path}: the last {line.left} bytes are torn or damaged, and are skipped")
        else:
            yield line


def _named(path: Path, items: Iterator[Any]) -> Iterator[Any]:
    """The same; an error gets the file's name."""
    number = 0
    try:
        for item in items:
            number += 1
            yield item
    except Invalid as error:
        raise Malformed(f"{path}: line {number + 1}: {error.message}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise Malformed(f"{path}: line {number + 1}: is no record of a round ({error!r})") from None


def _compare(files: Sequence[Path], policy: Path, json: bool) -> None:
    from priority.face.traces import read_policy
    from priority.replay import Compared

    compared = Compared(read_policy(policy, partial=True))
    for path in files:
        for _ in _named(path, compared.play(_lines(path))):
            pass
    report = compared.report()
    if json:
        return shell.write_json(report)
    return _show(report, policy.name)


_WAITS = (
    ("tasks", "started"), ("mean_s", "mean wait"), ("median_s", "median wait"), ("p95_s", "p95 wait"),
    ("max_s", "longest wait"), ("never", "never started"),
)  # fmt: skip


def _show(report: dict[str, Any], name: str) -> None:
    from priority.face import show

    same, on = report["same_rounds"], report["from_there_on"]
    shell.write(f"{report['rounds']} rounds, {report['decided_otherwise']} decided otherwise by {name}\n")
    rows: list[tuple[str, ...]] = [("started", *(str(same[side]["started"]) for side in ("recorded", "policy")))]
    show.out(show.table(("IN THE SAME ROUNDS", ">RECORDED", f">{name}"), rows + _losses(same)))
    rows = []
    for group in dict.fromkeys([*on["recorded"]["waits"], *on["policy"]["waits"]]):
        left, right = on["recorded"]["waits"].get(group, {}), on["policy"]["waits"].get(group, {})
        for key, label in _WAITS:
            seconds = key.endswith("_s")
            rows.append((f"{group}: {label}", _cell(left.get(key), seconds), _cell(right.get(key), seconds)))
    shell.write("")
    show.out(show.table(("SIMULATED FROM THERE ON", ">RECORDED RULES", f">{name}"), rows + _losses(on)))
    supposed = f"{on['cut']} still ran when the recording ended, {on['guessed']} had not run in it"
    shell.write(f"\n{on['tasks']} tasks were simulated; {supposed}: how long these run is supposed")


def _losses(sides: dict[str, Any]) -> list[tuple[str, ...]]:
    both = sides["recorded"], sides["policy"]
    tiers = sorted({*both[0]["victims_by_tier"], *both[1]["victims_by_tier"]})
    return [
        ("victims", *(str(side["victims"]) for side in both)),
        *((f"victims of {tier}", *(str(side["victims_by_tier"].get(tier, 0)) for side in both)) for tier in tiers),
        ("work lost, cpu-h", *(f"{side['lost_cpu_s'] / 3600:,.2f}" for side in both)),
    ]


def _cell(value: Any, seconds: bool) -> str:
    if value is None:
        return "-"
    return f"{value:,.3g} s" if seconds else str(value)
