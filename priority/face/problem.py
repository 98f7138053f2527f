"""Errors on the wire: RFC 9457 problem details, both ways.

`document` is what the API answers, `rebuild` makes of it the same error again in a client, so that a caller
catches `QuotaExceeded` whether the verbs run in its own process or behind HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from priority.errors import Invalid, Malformed, PriorityError

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:priority:problem:"

_OWN = frozenset({"type", "title", "status", "detail", "code", "instance"})
"""Members with a meaning of their own: a detail never overwrites one."""


def document(error: PriorityError, status: int | None = None) -> dict[str, Any]:
    """The problem details of an error; its `details` become members beside the standard ones."""
    own = {
        "type": TYPE_PREFIX + error.code,
        "title": error.title,
        "status": status or error.status,
        "detail": error.message,
        "code": error.code,
    }
    return own | {name: value for name, value in error.details.items() if name not in _OWN}


def rebuild(status: int, problem: Any) -> PriorityError:
    """The error behind an answer. What is not a problem of ours becomes one of the same status."""
    if not isinstance(problem, Mapping) or not isinstance(problem.get("code"), str):
        return _of_status(status)(f"the server answered {status} without saying why; does the URL lead to its API?")
    details = {str(name): value for name, value in problem.items() if name not in _OWN}
    kind = _KINDS.get(problem["code"]) or _of_status(status)
    if issubclass(kind, Invalid):
        named = {name: str(details.pop(name, "")) for name in ("field", "problem")}
        return kind(**named, **{name: value for name, value in details.items() if name.isidentifier()})
    message = str(problem.get("detail") or problem.get("title") or status)
    return kind(message, **{name: value for name, value in details.items() if name != "message"})


def _descendants(kind: type[PriorityError]) -> Iterator[type[PriorityError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _descendants(child)


_KINDS = {kind.code: kind for kind in _descendants(PriorityError)}


def _of_status(status: int) -> type[PriorityError]:
    for kind in _KINDS.values():
        if kind.status == status and kind is not Invalid:
            return kind
    return Malformed if 400 <= status < 500 else PriorityError
