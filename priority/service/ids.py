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


def seeded(chance: random.Random) -> NewId:
    """The same, with chance from a seed."""
    return lambda now_us: _encode(now_us, chance.getrandbits(_CHANCE_BITS))


def _encode(now_us: int, chance: int) -> str:
    return _time(now_us) + _digits(chance, _CHANCE_BITS // 5)


@lru_cache(maxsize=16)  # the jobs of one transaction have theirs in common
def _time(now_us: int) -> str:
    return _digits(now_us, _TIME_DIGITS)


def _digits(number: int, count: int) -> str:
    pairs = [_PAIRS[number >> shift & 1023] for shift in range(10 * ((count - 1) // 2), -10, -10)]
    return "".join(pairs)[-count:]
