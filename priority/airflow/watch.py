"""A job followed to its end: its output line by line, and what becomes of its attempts.

A preempted task is no end: its next attempt is followed in turn. Output that cannot be read (its node is gone) is said
and left out; it is not what the job's fate hangs on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from priority.errors import PriorityError, Unavailable

if TYPE_CHECKING:
    from priority.face import views
    from priority.face.client import Client

FOLLOWED = 8
"""Of so many instances the output is followed; of the others it is in the service."""

WAIT_S = 2.0
"""So long one request waits for news, and so long a stop may go unnoticed."""

_PIECE = 2**18
Name = Literal["stdout", "stderr"]
_STREAMS: tuple[Name, ...] = ("stdout", "stderr")

Say = Callable[[str], None]


class _Stream:
    """How far one stream of one attempt was read, and the begin of a line whose end has not come."""

    def __init__(self, offset: int = 0) -> None:
        self.offset = offset
        self.rest = b""
        self.ended = False

    def feed(self, data: bytes) -> list[str]:
        *lines, self.rest = (self.rest + data).split(b"\n")
        return [line.decode(errors="replace") for line in lines]

    def last(self) -> list[str]:
        rest, self.rest = self.rest, b""
        return [rest.decode(errors="replace")] if rest else []


class Watch:
    """`say` gets each line of output, `note` each line about the job. `seen` is what `state` of an earlier one gave, so
    that nothing is said twice.
    """

    def __init__(self, client: Client, uid: str, say: Say, note: Say, seen: Mapping[str, Any] | None = None) -> None:
        self._client = client
        self._uid = uid
        self._say = say
        self._note = note
        self._streams: dict[tuple[str, Name], _Stream] = {}
        self._labels: dict[str, str] = {}
        self._states: dict[str, str] = dict((seen or {}).get("states", {}))
        for key, offset in (seen or {}).get("offsets", {}).items():
            task, _, stream = key.rpartition("/")
            self._streams[task, "stderr" if stream == "stderr" else "stdout"] = _Stream(int(offset))

    @property
    def state(self) -> dict[str, Any]:
        """How far it is, as JSON. A line whose end has not come is read again."""
        offsets = {
            f"{task}/{name}": stream.offset - len(stream.rest)
            for (task, name), stream in self._streams.items()
            if not stream.ended
        }
        return {"offsets": offsets, "states": self._states}

    def follow(self, for_s: float | None = None) -> views.JobView | None:
        """Until the job has ended; None if it has not within `for_s`."""
        deadline = None if for_s is None else time.monotonic() + for_s
        while True:
            # The job is asked for before its output is read: what it wrote before it ended is then there.
            job = self._client.job(self._uid)
            self._look_at_tasks(many=job["instances"] > 1)
            left_s = WAIT_S if deadline is None else min(WAIT_S, deadline - time.monotonic())
            ended = job["state"] != "active"
            self._read(0.0 if ended else max(0.0, left_s))
            if ended:
                return job
            if left_s <= 0:
                return None

    def _look_at_tasks(self, *, many: bool) -> None:
        for task in self._client.tasks(self._uid, current=True, limit=FOLLOWED)["items"]:
            name, state = task["id"], task["state"]
            if name not in self._labels:
                self._labels[name] = f"[{task['instance']}] " if many else ""
                for stream in _STREAMS:
                    self._streams.setdefault((name, stream), _Stream())
            if self._states.get(name) != state:
                self._states[name] = state
                self._note(self._line_of(task))

    @staticmethod
    def _line_of(task: views.TaskView) -> str:
        reason = (task["reason"] or {}).get("message", "")
        where = f" on {task['node']}" if task["node"] else ""
        return f"task {task['id']} is {task['state']}{where}" + (f": {reason}" if reason else "")

    def _read(self, wait_s: float) -> None:
        """All there is; if that is nothing, what comes within `wait_s`."""
        waiting = [key for key, stream in self._streams.items() if not stream.ended]
        news = [self._piece(*key, 0.0) for key in waiting]
        if any(news) or not wait_s:
            return
        waiting = [key for key in waiting if not self._streams[key].ended]
        if waiting:
            self._piece(*waiting[-2 if len(waiting) > 1 else -1], wait_s)
        else:
            self._await_end(wait_s)

    def _piece(self, task: str, name: Name, wait_s: float) -> bool:
        stream = self._streams[task, name]
        try:
            chunk = self._client.log_chunk(task, stream=name, offset=stream.offset, limit=_PIECE, wait_s=wait_s)
        except PriorityError as error:
            stream.ended = True
            self._note(f"output of {task} cannot be read: {error}")
            return True
        if chunk.offset > stream.offset:
            self._note(f"{chunk.offset - stream.offset} bytes of {name} of {task} are no longer kept")
        stream.offset = chunk.offset + len(chunk.data)
        lines = stream.feed(chunk.data)
        if chunk.ended and not chunk.data:
            stream.ended = True
            lines += stream.last()
        label = self._labels.get(task, "") + ("" if name == "stdout" else "stderr: ")
        for line in lines:
            self._say(label + line)
        return bool(chunk.data) or stream.ended

    def _await_end(self, wait_s: float) -> None:
        """Everything was read, but what the nodes say has not been written down yet, or a next attempt is to come."""
        try:
            self._client.wait(self._uid, timeout_s=wait_s)
        except Unavailable:
            return


def last_line(client: Client, uid: str) -> str:
    """The last line that instance 0 wrote to stdout; empty if it wrote none."""
    data = client.logs(uid, instance=0, offset=-65_536, limit=65_536)[1]
    lines = [line for line in data.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def failure(client: Client, job: views.JobView) -> str:
    """Why a job that has ended was no success, with the numbers; empty if it was one."""
    if job["finished"] == job["instances"]:
        return ""
    ends = {"finished": job["finished"], "failed": job["failed"], "killed": job["killed"]}
    parts = [f"{count} {state}" for state, count in ends.items() if count]
    text = f"job {job['key']} ({job['uid']}): of {job['instances']} instances {', '.join(parts)}"
    for task in client.tasks(job["uid"], state=["failed", "killed", "preempted", "lost"], limit=3)["items"]:
        reason = (task["reason"] or {}).get("message", "")
        text += f"; task {task['id']} {task['state']}" + (f": {reason}" if reason else "")
    return text
