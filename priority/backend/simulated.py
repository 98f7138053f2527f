"""A simulated node and its tasks: what they know, not what they do (that is `backend.memory`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from priority.node import Node
from priority.orders import Launch, TaskSeen
from priority.reason import Reason


@dataclass(frozen=True, slots=True)
class Play:
    """What a simulated task does once it runs."""

    run_s: float | None = None
    """Until it ends by itself; None: until `finish` or a stop."""
    exit_code: int = 0
    obeys_s: float | None = 0.0
    """From the stop signal to its end; None: only SIGKILL ends it."""
    starts: bool = True
    """False: its command cannot be executed."""


@dataclass(frozen=True, slots=True)
class Faults:
    """How unkind the world is. Messages are launches, stops and reports."""

    lose: float = 0.0
    """Probability that a message is lost. Of an end only the first telling can be: the node tells it again."""
    twice: float = 0.0
    """Probability that a message comes twice."""
    late_s: float = 0.0
    """A message takes up to so long, evenly distributed, so that messages overtake each other."""


@dataclass(slots=True)
class SimulatedTask:
    """One that has come to its node, and what was said of it."""

    launch: Launch
    play: Play
    start: TaskSeen | None = None
    end: TaskSeen | None = None
    stopped: bool = False

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.end is None


@dataclass(slots=True)
class SimulatedNode:
    """A machine and the present incarnation of its agent."""

    node: Node
    agent: str
    epoch: int = 0
    tasks: dict[str, SimulatedTask] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    never: set[str] = field(default_factory=set)
    """Stopped before they came: a launch that was overtaken by its stop never starts."""
    reachable: bool = True
    expired: bool = False

    def held(self) -> frozenset[str]:
        """What a `NodeSeen` names."""
        return frozenset(task for task in self.tasks if task not in self.acknowledged)


UNFAULTY = Faults()
KIND = Literal["started", "ended", "refused"]
NEVER = Reason("unknown", "this node does not have it, and will never start it")


def refusal(node: SimulatedNode, launch: Launch) -> Reason | None:
    """Why the node does not take it, if so."""
    if launch.task in node.never:
        return NEVER
    if launch.agent != node.agent:
        return Reason("incarnation", f"it was sent to another incarnation of the agent of node {node.node.name}")
    if launch.epoch < node.epoch:
        return Reason("epoch", "a newer leader has spoken", {"epoch": launch.epoch, "highest": node.epoch})
    return None


def instance_of(task: str) -> str:
    """What the attempts of one instance have in common."""
    return task.rsplit("-", 1)[0]
