"""A verdict from logs: which jobs were no success, and which lines of their output tell of an error."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from priority.airflow.watch import failure

if TYPE_CHECKING:
    from priority.face.client import Client

ERRORS = [
    r"\b(ERROR|FATAL|CRITICAL)\b",
    r"segmentation (violation|fault)",
    r"\bTraceback \(most recent call last\)",
    r"std::bad_alloc|Out of memory",
    r"\bnan\b",
]
"""What in a log is an error, whatever the exit status says."""

FINDINGS_MAX = 100
_PIECE = 2**20


def scan(client: Client, labels: Mapping[str, str], patterns: Sequence[str] = ERRORS) -> dict[str, Any]:
    """`{"good", "findings", "jobs": [{"job", "state", "lines"}]}` of all jobs that bear the labels."""
    searches = [re.compile(pattern) for pattern in patterns]
    first, *others = labels.items()
    jobs, findings, seen = [], [], set()
    for short in client.all_jobs(label="=".join(first)):
        job = client.job(short["uid"])
        if any(job["spec"].get("labels", {}).get(name) != value for name, value in others):
            continue
        # The newest come first: what a retry has made good is not held against the run.
        which = tuple(job["spec"]["labels"].get(name) for name in ("airflow.dag", "airflow.task", "airflow.map"))
        if any(which) and which in seen:
            continue
        seen.add(which)
        if why := failure(client, job):
            findings.append(why)
        lines = 0
        for task in client.all_tasks(job["uid"], current=True):
            for stream in _STREAMS:
                for number, line in enumerate(_lines(client, task["id"], stream), 1):
                    lines += 1
                    if any(search.search(line) for search in searches):
                        findings.append(
                            f"{job['key']}, {stream} of instance {task['instance']}, line {number}: {line[:200]}"
                        )
        jobs.append({"job": job["key"], "state": "failed" if why else "finished", "lines": lines})
    jobs.sort(key=lambda one: str(one["job"]))
    return {"good": not findings, "findings": findings[:FINDINGS_MAX], "jobs": jobs}


_STREAMS: tuple[Literal["stdout", "stderr"], ...] = ("stdout", "stderr")


def _lines(client: Client, task: str, stream: Literal["stdout", "stderr"]) -> list[str]:
    data, offset = bytearray(), 0
    while True:
        chunk = client.log_chunk(task, stream=stream, offset=offset, limit=_PIECE)
        if not chunk.data:
            return data.decode(errors="replace").splitlines()
        data += chunk.data
        offset = chunk.offset + len(chunk.data)
