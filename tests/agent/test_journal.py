"""What a journal says after a death at any byte."""

from __future__ import annotations

from pathlib import Path

from priority.backend.journal import Journal

ENTRIES = [
    {"do": "epoch", "epoch": 7},
    {"do": "launch", "task": "a", "mark": 11},
    {"do": "launch", "task": "b", "mark": 12},
    {"do": "end", "task": "a", "report": {"exit_code": 3}},
    {"do": "ack", "tasks": ["a"], "at": 5.0},
    {"do": "launch", "task": "c", "mark": 13},
    {"do": "end", "task": "c", "report": {"exit_code": 0}},
    {"do": "void", "agent": "x"},
]


def test_all_of_it_comes_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.open()
    journal.write(ENTRIES[:4])
    journal.write(ENTRIES[4:])
    for _ in range(2):  # the second time from the compact file
        memory = Journal(tmp_path / "journal").open()
        assert memory.running == {"b": 12}
        assert memory.ended == {"c": {"exit_code": 0}}
        assert memory.done == {"a": 5.0}
        assert (memory.epoch, memory.void) == (7, "x")


def test_a_torn_end_loses_only_itself(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.open()
    journal.write(ENTRIES)
    whole = (tmp_path / "journal").read_bytes()
    for length in range(0, len(whole), 5):
        torn = tmp_path / "torn"
        torn.write_bytes(whole[:length])
        memory = Journal(torn).open()
        lines = whole[:length].count(b"\n")
        assert set(memory.running) | set(memory.ended) | set(memory.done) <= {"a", "b", "c"}
        assert len(memory.running) + len(memory.ended) + len(memory.done) >= min(max(lines - 3, 0), 1)
        assert Journal(torn).open() == memory


def test_what_is_written_after_a_torn_line_is_read(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b'{"do":"launch","task":"a","mark":1}\n{"do":"lau')
    journal = Journal(path)
    journal.open()
    journal.write([{"do": "launch", "task": "b", "mark": 2}])
    assert Journal(path).open().running == {"a": 1, "b": 2}
