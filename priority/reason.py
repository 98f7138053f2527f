"""Every "no" is a value that a user can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Reason:
    """A stable `code` for machines, one line `message` for people, and the numbers behind it in plain JSON."""

    code: str
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """One flat JSON object: code, message and the numbers."""
        return {"code": self.code, "message": self.message, **self.details}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Reason:
        """The inverse of `plain`."""
        details = {name: value for name, value in document.items() if name not in ("code", "message")}
        return cls(str(document["code"]), str(document["message"]), details)
