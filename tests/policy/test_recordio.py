"""RecordIO, however it is cut, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from priority.recordio import Records


def framed(records: list[bytes]) -> bytes:
    return b"".join(b"%d\n%s" % (len(one), one) for one in records)


@given(records=st.lists(st.binary(max_size=20), max_size=6), cuts=st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_it_does_not_matter_where_the_stream_is_cut(records: list[bytes], cuts: list[int]) -> None:
    stream, reader, found, turn = framed(records), Records(), [], 0
    while stream:
        size = cuts[turn % len(cuts)]
        found += list(reader.feed(stream[:size]))
        stream, turn = stream[size:], turn + 1
    assert found == records and not reader.inside


@pytest.mark.parametrize(
    "data", [b"x\n{}", b"-1\n{}", b"\n{}", b"12345678901\n", b"9" * 11, b" 5\nhello", b"5_0\n", b"101\n", b"<html>\n"]
)
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        list(Records(limit=100).feed(data))


def test_a_record_that_is_cut_off_is_noticed() -> None:
    reader = Records()
    assert list(reader.feed(b"2\n{}5\nhe")) == [b"{}"]
    assert reader.inside
