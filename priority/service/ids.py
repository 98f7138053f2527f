"""New ids: chance is an argument, so that a simulation can be repeated from its seed."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable

NewId = Callable[[int], str]
"""now_us -> a new id. Without a dash, so that a task's id (`UID-INSTANCE-ATTEMPT`) can be taken apart again."""

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
_TIME_DIGITS = 11
_CHANCE_BITS = 50


def new_id(now_us: int) -> str:
    """Twenty-one letters and digits: eleven of time, so that ids sort by age, and fifty bits of chance."""
    return _encode(now_us, secrets.randbits(_CHANCE_BITS))


def seeded(chance: random.Random) -> NewId:
    """The same, with chance from a seed."""
    return lambda now_us: _encode(now_us, chance.getrandbits(_CHANCE_BITS))


def _encode(now_us: int, chance: int) -> str:
    number = (now_us << _CHANCE_BITS) | chance
    digits = []
    for _ in range(_TIME_DIGITS + _CHANCE_BITS // 5):
        number, digit = divmod(number, 32)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
