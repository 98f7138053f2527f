"""Times and amounts in few letters, for every face that people read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from priority import resources


def age(moment: str | None) -> str:
    """How long ago: `4s`, `3m`, `2h`, `5d`; `-` for never."""
    if moment is None:
        return "-"
    past = datetime.now(UTC) - datetime.fromisoformat(moment)
    return span(past.total_seconds())


def span(seconds: float) -> str:
    """A length of time, short."""
    seconds = max(0.0, seconds)
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def amounts(plain: Mapping[str, Any] | None) -> str:
    """`cpus 2, mem 4GiB`."""
    return "-" if plain is None else resources.show(_held(plain)) if plain else "nothing"


def amount(name: str, plain: float | None) -> str:
    """One amount in the users' unit, as people read it: `2`, `4GiB`."""
    if plain is None:
        return "-"
    sign = "-" if plain < 0 else ""
    return sign + resources.show_amount(name, resources.parse_amount(name, abs(plain), name))


def _held(plain: Mapping[str, Any]) -> resources.Resources:
    return resources.parse(dict(plain), "amounts", zeros=True)
