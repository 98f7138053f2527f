"""JSON read strictly: what a lenient reader would let pass is refused, with the path to where it stands.

Refused: a name that is there twice in one object, NaN and the infinities, numbers that no amount could need, and
nesting that would exhaust the stack. The hooks of the standard parser do not know where they are, so each leaves
a mark in what it reads; only if there was one, the document is walked to find the first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from priority.errors import Invalid, Malformed
from priority.printable import printable

DIGITS_MAX = 400
"""No number is written with more digits."""


@dataclass(frozen=True, slots=True)
class _Mark:
    """Stands in the document for a value that is refused; `below`: the name in it that is there twice."""

    problem: str
    below: str | None = None


def read(text: str, what: str = "snapshot") -> Any:
    """The document. `Malformed` if it is not JSON, `Invalid` with the path of what is refused; `what` is the name of
    the whole.
    """
    marks: list[_Mark] = []

    def mark(problem: str, below: str | None = None) -> _Mark:
        marks.append(_Mark(problem, below))
        return marks[-1]

    def whole(digits: str) -> int | _Mark:
        return int(digits) if len(digits) <= DIGITS_MAX else mark("is a number of far too many digits")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _Mark:
        found = dict(pairs)
        if len(found) == len(pairs):
            return found
        names = [name for name, _ in pairs]
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        return mark("is there twice in one object", twice)

    try:
        document = json.loads(
            text,
            object_pairs_hook=unique,
            parse_constant=lambda name: mark(f"{name} is not a number that JSON knows"),
            parse_int=whole,
        )
    except RecursionError:
        raise Malformed(f"{what}: is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise Malformed(f"{what}: is not JSON: {error}") from None
    if marks:
        path, found = next(_marked(document))
        field = path if found.below is None else _join(path, found.below)
        raise Invalid(field or what, found.problem)
    return document


def _marked(document: Any) -> Iterator[tuple[str, _Mark]]:
    """Every mark with its path, in the order of the document; without recursion."""
    left: list[tuple[str, Any]] = [("", document)]
    while left:
        path, value = left.pop()
        if isinstance(value, _Mark):
            yield path, value
        elif isinstance(value, Mapping):
            left.extend((_join(path, name), one) for name, one in reversed(list(value.items())))
        elif isinstance(value, list):
            left.extend((f"{path}[{index}]", one) for index, one in reversed(list(enumerate(value))))


def _join(path: str, name: str) -> str:
    shown = printable(name)
    return f"{path}.{shown}" if path else shown
