"""A moment as users write it."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

from fastapi import Query

from priority.errors import Invalid
from priority.job import duration_s
from priority.reading import read_time

Since = Annotated[str | None, Query(max_length=40, description="A time (RFC 3339), or how long ago: `30m`, `2h`, `7d`")]


def since_us(text: str | None, now_us: int) -> int | None:
    """A time, or how long ago; None: not said."""
    if text is None:
        return None
    with suppress(ValueError):
        return now_us - round(duration_s(text) * 1e6)
    try:
        return read_time(text, "since")
    except Invalid:
        problem = 'must be a time such as "2026-08-23T12:00:00Z", or how long ago, such as "2h" or "7d"'
        raise Invalid("since", problem) from None
