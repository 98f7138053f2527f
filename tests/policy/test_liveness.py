"""Silent, gone, back: tables of (time, what Redis says) -> what is told."""

from __future__ import annotations

import pytest

from priority.backend.liveness import Liveness, Sign

SILENT, GONE, BACK = Sign.SILENT, Sign.GONE, Sign.BACK
AWAY = None
"""Redis does not answer."""

Rows = list[tuple[float, dict[str, str] | None]]


def told(rows: Rows, expected: tuple[str, ...] = ()) -> list[tuple[float, str, str]]:
    alive = Liveness(silent_s=5, gone_s=20, gap_s=3)
    alive.expect(expected, rows[0][0])
    found = []
    for at_s, beats in rows:
        if beats is AWAY:
            alive.outage()
            continue
        for sign, name in alive.observe({node: beat.encode() for node, beat in beats.items()}, at_s):
            found.append((at_s, sign.value, name))
    return found


def every(begin: int, end: int, beats: dict[str, str] | None) -> Rows:
    return [(float(at_s), beats) for at_s in range(begin, end)]


CASES = {
    "a new node is back at once": (every(0, 3, {"n": "a:1"}), [(0, "back", "n")]),
    "who beats is neither": ([(float(at_s), {"n": f"a:{at_s}"}) for at_s in range(40)], [(0, "back", "n")]),
    "who does not is silent, then gone": (
        every(0, 30, {"n": "a:1"}),
        [(0, "back", "n"), (5, "silent", "n"), (20, "gone", "n"), (21, "back", "n"), (26, "silent", "n")],
    ),
    "a field that vanished is silence too": (
        [*every(0, 2, {"n": "a:1"}), *every(2, 30, {})],
        [(0, "back", "n"), (5, "silent", "n"), (20, "gone", "n")],
    ),
    "a silent one that beats is back": (
        [*every(0, 7, {"n": "a:1"}), *every(7, 9, {"n": "a:2"})],
        [(0, "back", "n"), (5, "silent", "n"), (7, "back", "n")],
    ),
    "silence begins anew after an outage": (
        [*every(0, 4, {"n": "a:1"}), *every(4, 6, AWAY), *every(6, 27, {"n": "a:1"})],
        [(0, "back", "n"), (11, "silent", "n"), (26, "gone", "n")],
    ),
    "and after a time in which nobody looked": (
        [*every(0, 3, {"n": "a:1"}), *every(50, 71, {"n": "a:1"})],
        [(0, "back", "n"), (55, "silent", "n"), (70, "gone", "n")],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_signs(case: str) -> None:
    rows, wanted = CASES[case]
    assert told(rows) == wanted


def test_one_that_was_expected_and_never_came() -> None:
    assert told(every(0, 30, {}), expected=("n",)) == [(5, "silent", "n"), (20, "gone", "n")]


def test_one_that_was_expected_and_comes() -> None:
    rows: Rows = [*every(0, 8, {}), *every(8, 10, {"n": "a:1"})]
    assert told(rows, expected=("n",)) == [(5, "silent", "n"), (8, "back", "n")]
