"""The names that a node's agent begins with, and what becomes of the file that they are made from."""

from __future__ import annotations

from pathlib import Path

import pytest

from priority.backend import starts
from priority.backend.starts import Starts
from priority.incarnation import began_later


def test_each_is_later_than_all_before_whatever_the_clock_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    for now_s in (1_800_000_000, 1_700_000_000, 0, 1_800_000_001):
        monkeypatch.setattr(starts.time, "time_ns", lambda now_s=now_s: now_s * 10**9)
        given += [Starts(tmp_path).next(), Starts(tmp_path).next()]
    for at, name in enumerate(given):
        assert [began_later(name, other) for other in given[:at]] == [True] * at
    assert (tmp_path / "starts").stat().st_mode & 0o777 == 0o600


def test_a_folder_from_an_older_copy_goes_on_behind_what_it_gave_since(tmp_path: Path) -> None:
    first = Starts(tmp_path).next()
    copy = (tmp_path / "starts").read_bytes()
    since = Starts(tmp_path).next()
    (tmp_path / "starts").write_bytes(copy)
    assert began_later(Starts(tmp_path).next(), since) and began_later(since, first)


@pytest.mark.parametrize("found", [b"", b"\0" * 30, b"0011223344556677 12", b"0011223344556677 -1\n", b"x" * 10_000])
def test_what_is_not_understood_makes_another_home(tmp_path: Path, found: bytes) -> None:
    first = Starts(tmp_path).next()
    (tmp_path / "starts").write_bytes(found)
    second = Starts(tmp_path).next()
    assert began_later(second, first) is None
    assert began_later(Starts(tmp_path).next(), second) is True


def test_where_nothing_can_be_kept_no_order_is_claimed(tmp_path: Path) -> None:
    nowhere = Starts(tmp_path / "gone")
    assert began_later(nowhere.next(), nowhere.next()) is None


def test_who_died_while_writing_is_no_obstacle(tmp_path: Path) -> None:
    first = Starts(tmp_path).next()
    (tmp_path / "starts.new").write_bytes(b"half")
    assert began_later(Starts(tmp_path).next(), first) is True
