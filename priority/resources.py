"""Amounts of resources, in whole units: milli-cores, MiB, milli-devices, counts.

A vector of amounts is a plain `dict[str, int]`; a name that is absent is 0, and zeros are dropped at
the door. Integers only, so that sums are exact and a plan is the same on every machine.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

from priority.errors import Invalid

Resources = dict[str, int]

THOUSANDTHS = frozenset({"cpus", "gpus"})
"""Named by users in whole devices, to the thousandth; held in thousandths."""

MEBIBYTES = frozenset({"mem", "disk"})
"""Named by users in MiB or with a unit; held in MiB."""

AMOUNT_MAX = 10**12
"""No single amount is larger (in held units), so that a sum over millions of tasks fits 64 bits."""

MISSPELT = {
    "cpu": "cpus",
    "core": "cpus",
    "cores": "cpus",
    "gpu": "gpus",
    "memory": "mem",
    "ram": "mem",
    "storage": "disk",
}
"""What users write for the four: taken for resources of their own, they would limit nothing and wait for ever."""

NAME_MAX = 63

NAME = re.compile(r"[a-z][a-z0-9_.-]{0,62}", re.ASCII)
"""What a resource may be called."""

_BYTES = {
    "anyOf": [
        {"type": "integer", "minimum": 0, "maximum": AMOUNT_MAX},
        {"type": "string", "pattern": r"^[0-9]{1,15}(\.[0-9]{1,9})?\s?(KiB|MiB|GiB|TiB)$"},
    ],
}
_DEVICES = {"type": "number", "minimum": 0, "maximum": AMOUNT_MAX / 1000}
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "cpus": {**_DEVICES, "description": "Cores, to the thousandth"},
        "mem": {**_BYTES, "description": "Memory: whole MiB, or with a unit such as 4GiB"},
        "disk": {**_BYTES, "description": "Disk: whole MiB, or with a unit such as 100GiB"},
        "gpus": {**_DEVICES, "description": "GPUs, to the thousandth"},
    },
    "propertyNames": {"pattern": "^[a-z][a-z0-9_.-]{0,62}$"},
    "additionalProperties": {
        "type": "integer", "minimum": 0, "maximum": AMOUNT_MAX, "description": "Any other resource is a count"
    },
}  # fmt: skip
"""Of a mapping of resources to amounts, as JSON schema."""

_UNITS_KIB = {"KiB": 1, "MiB": 2**10, "GiB": 2**20, "TiB": 2**30}
_NEARLY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s?([kmgt])(?:i?b)?", re.ASCII | re.IGNORECASE)
_WITH_UNIT = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,9}))?\s?(KiB|MiB|GiB|TiB)", re.ASCII)


def parse(amounts: Any, field: str, *, zeros: bool = False) -> Resources:
    """Read a user's mapping of resource names to amounts. Zeros are dropped, unless they say something (`zeros`: in a
    quota, where none at all is allowed is not the same as no limit); `Invalid` names the field.
    """
    if not isinstance(amounts, Mapping):
        raise Invalid(field, 'must be a mapping of resource names to amounts, such as {"cpus": 2, "mem": "4GiB"}')
    parsed: Resources = {}
    for name, amount in amounts.items():
        if not isinstance(name, str) or len(name) > NAME_MAX or not _is_name(name):
            raise Invalid(field, f"{name!r} is not a resource name (lower case letters, digits, '_', '-', '.')")
        value = parse_amount(name, amount, f"{field}.{name}")
        if value or zeros:
            parsed[name] = value
    return parsed


@lru_cache(maxsize=1024)  # there are few, and a pattern takes as long as the rest of `parse`
def _is_name(name: str) -> bool:
    return NAME.fullmatch(name) is not None


def check_names(names: Iterable[str], field: str) -> None:
    """`Invalid` for a name that must be meant for another, such as `cpu`. Any other name is a count of that name."""
    for name in names:
        if name in MISSPELT:
            raise Invalid(f"{field}.{name}", f"is not a resource that any node has: write {MISSPELT[name]}")


def parse_amount(name: str, amount: Any, field: str) -> int:
    """One amount in held units. Booleans, negatives, NaN, infinities and finer parts than we keep are refused."""
    if isinstance(amount, bool) or not isinstance(amount, int | float | str):
        raise Invalid(field, f"must be a number, not {_show(amount)}")
    value: int
    if isinstance(amount, str):
        if name not in MEBIBYTES:
            check_names([name], field.removesuffix(f".{name}"))
            raise Invalid(field, f"must be a number, not {_show(amount)}{_as_number(amount)}")
        value = _parse_bytes(amount, field)
    elif isinstance(amount, float) and not math.isfinite(amount):
        raise Invalid(field, f"must be a finite number, not {amount}")
    elif abs(amount) > AMOUNT_MAX:
        raise Invalid(field, f"is too large: {_show(amount)}; at most {show_amount(name, AMOUNT_MAX)}")
    elif name in THOUSANDTHS:
        value = _whole(amount * 1000, amount, field, "to the thousandth")
    else:
        value = _whole(amount, amount, field, "a whole number" + (" of MiB" if name in MEBIBYTES else ""))
    if value < 0:
        raise Invalid(field, f"must not be negative, but is {amount}")
    if value > AMOUNT_MAX:
        raise Invalid(field, f"is too large: {_show(amount)}; at most {show_amount(name, AMOUNT_MAX)}")
    return value


def plain(amounts: Mapping[str, int]) -> dict[str, int | float]:
    """Held units back to the users' own: cores, MiB, devices, counts. The inverse of `parse`."""
    return {name: plain_amount(name, amount) for name, amount in sorted(amounts.items())}


def plain_amount(name: str, amount: int) -> int | float:
    """One held amount in the users' unit: an integer wherever it is whole."""
    if name in THOUSANDTHS:
        return amount // 1000 if amount % 1000 == 0 else amount / 1000
    return amount


def written_amounts(amounts: Mapping[str, int]) -> dict[str, int | float | str]:
    """As a person would write them in a file: `{"cpus": 2, "mem": "4GiB"}`. `parse` reads it back."""
    return {
        name: show_amount(name, amount) if name in MEBIBYTES else plain_amount(name, amount)
        for name, amount in sorted(amounts.items())
    }


def show(amounts: Mapping[str, int]) -> str:
    """For people: `cpus 2, mem 4GiB`; `nothing` when empty."""
    return ", ".join(f"{name} {show_amount(name, amount)}" for name, amount in sorted(amounts.items())) or "nothing"


def show_amount(name: str, amount: int) -> str:
    """For people: `2`, `0.5`, `4GiB`, `100MiB`."""
    if name not in MEBIBYTES:
        return str(plain_amount(name, amount))
    for unit, mebibytes in (("TiB", 2**20), ("GiB", 2**10)):
        if amount >= mebibytes and amount % mebibytes == 0:
            return f"{amount // mebibytes}{unit}"
    return f"{amount}MiB"


def total(vectors: Iterable[Mapping[str, int]]) -> Resources:
    """The sum, resource by resource."""
    summed: Resources = {}
    for vector in vectors:
        for name, amount in vector.items():
            summed[name] = summed.get(name, 0) + amount
    return summed


def times(vector: Mapping[str, int], factor: int) -> Resources:
    """Each amount `factor` times."""
    return {name: amount * factor for name, amount in vector.items()}


def minus(left: Mapping[str, int], right: Mapping[str, int]) -> Resources:
    """`left - right`, resource by resource; may be negative."""
    return {name: left.get(name, 0) - right.get(name, 0) for name in left.keys() | right.keys()}


def positive(amounts: Mapping[str, int]) -> Resources:
    """Only what is more than nothing."""
    return {name: amount for name, amount in amounts.items() if amount > 0}


def shortfall(ask: Mapping[str, int], room: Mapping[str, int]) -> Resources:
    """By how much `ask` exceeds `room`, only where it does. Empty means it fits."""
    return {name: amount - room.get(name, 0) for name, amount in ask.items() if amount > room.get(name, 0)}


def _as_number(text: str) -> str:
    """What to write instead of a text that looks like a number. (YAML 1.1 wants a dot and a sign: `1.0e+3`.)"""
    try:
        number = float(text)
    except ValueError:
        return ""
    if "e" not in text.lower() or not math.isfinite(number):
        return ", which is text here: write it without quotes"
    written = format(Decimal(repr(number)), "f").removesuffix(".0")
    return ", which is text in YAML" + (f": write {written}" if len(written) <= len(str(AMOUNT_MAX)) else "")


def _parse_bytes(amount: str, field: str) -> int:
    match = _WITH_UNIT.fullmatch(amount.strip())
    if match is None:
        near = _NEARLY.fullmatch(amount.strip())
        meant = f'; did you mean "{near[1]}{near[2].upper()}iB"?' if near else ""
        raise Invalid(field, f'must be a number of MiB or a string such as "16GiB", not {_show(amount)}{meant}')
    whole, fraction, unit = match[1], match[2] or "", match[3]
    scaled = int(whole + fraction) * _UNITS_KIB[unit]
    whole_mib: int = 2**10 * int(10 ** len(fraction))
    value, rest = divmod(scaled, whole_mib)
    if rest:
        raise Invalid(field, f"must be whole MiB, but {amount} is not")
    return value


def _whole(value: float, given: float, field: str, unit: str) -> int:
    nearest = round(value)
    # 0.29 * 1000 is not exactly 290 in floating point: what differs in the last bits only is meant. A whole number of
    # MiB or a count has no such excuse, and comes here as it was given.
    noise = abs(value) * 1e-12 if value is not given else 0.0
    if abs(value - nearest) > noise:
        raise Invalid(field, f"must be {unit}, but is {given}")
    return nearest


def _show(value: Any) -> str:
    if isinstance(value, int) and abs(value) > AMOUNT_MAX**3:
        return "a number of very many digits"
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
