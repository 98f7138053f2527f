"""What a job of an Airflow task is called, and the key by which the same attempt finds it again."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_NOT_NAME = re.compile(r"[^A-Za-z0-9_.-]+")
_STEM = 44
"""Characters of a job's name that people read; twelve more make it unlike any other."""


def digest(*parts: object) -> str:
    """Of all of them, in their order; no two lists of texts have the same one."""
    return hashlib.sha256("\0".join(f"{len(str(part))}:{part}" for part in parts).encode()).hexdigest()


def name_of(stem: str, key: str) -> str:
    """A valid job name."""
    clean = _NOT_NAME.sub("-", stem).strip("-._")[:_STEM] or "task"
    return f"{clean}-{key[:12]}"


class Identity:
    """One try of one task instance. When the run began is part of it: a run that was deleted and made anew under the
    same id must not find the jobs of the old one.
    """

    def __init__(self, context: Mapping[str, Any]) -> None:
        ti, run = context["ti"], context["dag_run"]
        self.labels = {
            "airflow.dag": ti.dag_id,
            "airflow.task": ti.task_id,
            "airflow.run": ti.run_id,
            "airflow.map": str(ti.map_index),
            "airflow.try": str(ti.try_number),
        }
        self.labels = {name: value[:255] for name, value in self.labels.items()}
        began = getattr(run, "start_date", None)
        self.key = digest(ti.dag_id, ti.task_id, ti.run_id, began, ti.map_index, ti.try_number)
        self.name = name_of(f"{ti.dag_id}.{ti.task_id}", self.key)
