"""What a page's address asks for. A form sends its empty fields too: they ask for nothing."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TypeVar

from priority.errors import Invalid

_Word = TypeVar("_Word", bound=StrEnum)


def chosen(field: str, text: str, pattern: str) -> str | None:
    """What is in a field; `Invalid` unless it fits."""
    if text and re.fullmatch(pattern, text) is None:
        raise Invalid(field, "is not such a name")
    return text or None


def one_of(words: type[_Word], field: str, text: str) -> _Word | None:
    """One of these words; `Invalid` if it is none."""
    try:
        return words(text) if text else None
    except ValueError:
        raise Invalid(field, f"must be one of {', '.join(words)}") from None
