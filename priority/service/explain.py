"""Why a job waits, or why it was killed: the stored facts in words, the sum of them first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from priority.ports import User
from priority.service.parts import Parts


@dataclass(frozen=True, slots=True)
class Line:
    """About one task, or about several that are alike."""

    task: str
    instance: int
    attempt: int
    state: str
    message: str
    alike: int = 1
    """How many tasks of the job this is true of."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """The reason with its numbers, in plain JSON."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """`summary` is one line that a person understands."""

    job: str
    """`role/tier/name`."""
    uid: str
    summary: str
    lines: tuple[Line, ...]


def explain(parts: Parts, actor: User, ref: str) -> Explanation:
    """Of a job (uid or `role/tier/name`) or of one task (its id): why it waits, runs or ended, by whom, at what cost.
    `NotFound` if there is none or no grant.
    """
    raise NotImplementedError
