"""What is said to nodes, and what they say: plain values that go through `ports.Backend`.

Orders may come twice and are sent again until they are seen done; reports may come twice, late and out of order. Times
are microseconds since the epoch; amounts are in held units (see `priority.resources`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from priority.job import JobSpec
from priority.node import Node
from priority.reason import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Start this attempt. Sent again it changes nothing: an agent knows a task id for ever."""

    task: str
    job: str
    """`role/tier/name`."""
    node: str
    agent: str
    """Another incarnation refuses it."""
    epoch: int
    """Of the leader who sends it; an agent obeys none lower than the highest it has seen."""
    instance: int
    attempt: int
    spec: JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """End this attempt: `signal`, then `notice_s` seconds, then SIGKILL of everything it started. Idempotent."""

    task: str
    node: str
    epoch: int
    signal: str
    notice_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSeen:
    """A node's agent began (or was found) and says all it has: what it does not name it does not run and never will,
    if that was sent to another incarnation.
    """

    node: Node
    agent: str
    tasks: frozenset[str]
    """Running or ended and not yet acknowledged."""
    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeGone:
    """A node's lease has run out, and its agent's own (shorter) one with it: nothing runs there any more."""

    node: str
    at_us: int
    heard_us: int = 0
    """When it was last heard of, by its own clock; 0: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSilent:
    """No word from a node for a while: place nothing there, but believe nothing dead."""

    node: str
    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSeen:
    """What a node says of a task. May come twice, late and out of order."""

    task: str
    node: str
    kind: Literal["started", "ended", "refused"]
    at_us: int
    exit_code: int | None = None
    signal: int | None = None
    stopped: bool = False
    """Of `ended`: our signal had been sent before it ended."""
    cause: Reason | None = None
    """Of `ended` by a limit (codes `mem`, `disk`, `runtime`), by the agent itself (`lease`), a command that could not
    be started (`exec`) or a death nobody saw (`vanished`: proved dead, exit status not known); of `refused`: why.
    """
    cpu_s: float | None = None
    peak_mem_mib: int | None = None


Report = NodeSeen | NodeGone | NodeSilent | TaskSeen


@dataclass(frozen=True, slots=True)
class Delivery:
    """Reports and what `Backend.acknowledge` needs for them."""

    reports: tuple[Report, ...]
    token: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRequest:
    """At most `limit` bytes from `offset` (negative: that many before the end), waiting up to `wait_s` for any."""

    node: str
    task: str
    stream: Literal["stdout", "stderr"]
    offset: int
    limit: int
    wait_s: float


@dataclass(frozen=True, slots=True)
class LogChunk:
    """A piece of a task's output. `offset` counts bytes since the task began, also those no longer kept."""

    offset: int
    data: bytes
    ended: bool
    """Whether nothing will follow."""
    started: bool = True
    """False: the task was never placed on a node, so there is no output, and none was lost."""
