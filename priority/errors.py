"""Every way in which we say no to a caller, in one file.

An error's docstring is its title. `code` is stable and for machines, `status` is what HTTP answers,
`exit_status` what the CLI ends with. A *refusal* by policy (quota, no room) is not an error of the
engine but a value with a reason; the error classes here carry such values to the door.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class PriorityError(Exception):
    """Something went wrong"""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, **details: Any) -> None:
        """`message` is one line that says what is wrong and what to do; `details` are plain JSON values."""
        super().__init__(message)
        self.message = message
        self.details: Mapping[str, Any] = details

    @property
    def title(self) -> str:
        """The class's docstring: the same words for each error of this kind."""
        return (self.__doc__ or self.code).strip()


class Invalid(PriorityError):
    """The request is not valid"""

    code = "invalid"
    status = 422
    exit_status = 2

    def __init__(self, field: str, problem: str, **details: Any) -> None:
        """`field` is a path such as `tasks[3].request.cpus`; `problem` says what is wrong and what would be right."""
        super().__init__(f"{field}: {problem}", field=field, problem=problem, **details)
        self.field = field
        self.problem = problem

    def faults(self) -> list[dict[str, str]]:
        """This one, and those that were found beside it (the detail `more`): field and problem of each."""
        return [{"field": self.field, "problem": self.problem}, *self.details.get("more", ())]


class Malformed(PriorityError):
    """The request cannot be read"""

    code = "malformed"
    status = 400
    exit_status = 2


class TooLarge(PriorityError):
    """The request is too large"""

    code = "too-large"
    status = 413
    exit_status = 2


class Unauthenticated(PriorityError):
    """A valid token is needed"""

    code = "unauthenticated"
    status = 401
    exit_status = 4


class NotFound(PriorityError):
    """There is no such thing, or you have no grant for it"""

    code = "not-found"
    status = 404
    exit_status = 3


class Conflict(PriorityError):
    """This does not fit what is already there"""

    code = "conflict"
    status = 409
    exit_status = 5


class QuotaExceeded(PriorityError):
    """The quota does not allow it"""

    code = "quota-exceeded"
    status = 403
    exit_status = 6


class Unavailable(PriorityError):
    """A part that is needed does not answer"""

    code = "unavailable"
    status = 503
    exit_status = 7


class Deposed(PriorityError):
    """Another scheduler leads now"""

    code = "deposed"
    status = 503
    exit_status = 7
