"""New ids: chance is an argument, so that a simulation can be repeated from its seed."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from functools import lru_cache

NewId = Callable[[int], str]
"""now_us -> a new id. Without a dash, so that a task's id (`UID-INSTANCE-ATTEMPT`) can be taken apart again."""

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [high + low for high in _DIGITS for low in _DIGITS]
_TIME_DIGITS = 11
_CHANCE_BITS = 50


def new_id(now_us: int) -> str:
    """Twenty-one letters and digits: eleven of time, so that ids sort by age, and fifty bits of chance."""
    return _encode(now_us, secrets.randbits(_CHANCE_BITS))


def is_id(text: str) -> bool:
    """Whether it could be one of these."""
    return len(text) == _TIME_DIGITS + _CHANCE_BITS // 5 and set(text) <= set(_DIGITS)


def seeded(chance: random.Random) -> NewId:
    """The same, with chance from a seed."""
    return lambda now_us: _encode(now_us, chance.getrandbits(_CHANCE_BITS))


def _encode(now_us: int, chance: int) -> str:
    pairs = _PAIRS  # written out: thousands of jobs come in one request
    return (
        f"{_time(now_us)}{pairs[chance >> 40]}{pairs[chance >> 30 & 1023]}{pairs[chance >> 20 & 1023]}"
        f"{pairs[chance >> 10 & 1023]}{pairs[chance & 1023]}"
    )


@lru_cache(maxsize=16)  # the jobs of one transaction have theirs in common
def _time(now_us: int) -> str:
    return "".join(_PAIRS[now_us >> shift & 1023] for shift in range(50, -10, -10))[-_TIME_DIGITS:]
