"""What is known of tasks and agents of a Mesos cluster: the nouns of `mesos_fleet` and `mesos_driver`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from priority.mesos_status import Status
from priority.node import Node
from priority.offers import Room
from priority.orders import Launch, Report, TaskSeen
from priority.resources import Resources

Ack = tuple[str, str, str]
"""(task, agent, uuid)."""
Send = Callable[[dict[str, Any]], None]
Tell = Callable[[Report, Ack | None], None]


UNSAID = -1

_REVOCABLE = "/revocable"


def twin_of(id: str) -> str:
    """An agent's room that may be taken back is a node of its own, as of an agent with this id; and back again."""
    return id.removesuffix(_REVOCABLE) if id.endswith(_REVOCABLE) else id + _REVOCABLE


def mesos_id(id: str) -> str:
    """As Mesos calls it."""
    return id.removesuffix(_REVOCABLE)


class Phase(Enum):
    """How far we know a task to be."""

    WAITING = "waiting"
    """For an offer of its agent: not sent."""
    SENT = "sent"
    UNSURE = "unsure"
    """It may have been sent, and may be running."""
    RUNS = "runs"
    ENDED = "ended"


@dataclass(slots=True)
class Known:
    """A task that is not proved dead, or whose end is not acknowledged."""

    task: str
    node: str
    agent: str
    request: Resources
    phase: Phase
    launch: Launch | None = None
    started: TaskSeen | None = None
    ended: TaskSeen | None = None
    ack: Ack | None = None
    """Of its end."""
    since_s: float = 0.0
    """When its phase began."""
    asked_s: float = 0.0
    """When the master was last asked for it."""
    stopping: bool = False
    """We have asked for its end."""
    notice_s: float = 0.0
    """Of the kill that asks for it."""
    resendable: bool = True
    """Whether it may be sent again under its name, once the master says that it does not have it."""
    reached: bool = False
    """Its executor has been told so, and said it (TASK_KILLING)."""
    replace_s: float | None = None
    """So long after its agent was lost its job waits for no proof."""
    runtime_s: float | None = None
    """It runs no longer than this."""
    leaving: bool = False
    """It was told to go, since its agent goes down."""
    answered: Status | None = None
    """The master says that it has ended; the agent has not said how."""


@dataclass(slots=True)
class Agent:
    """An agent of the cluster, which is a node of ours."""

    id: str
    node: str
    host: str = ""
    port: int = 0
    attributes: dict[str, str] = field(default_factory=dict)
    room: Room = field(default_factory=Room)
    up: bool = False
    """Whether the master vouches for it."""
    silent_s: float | None = None
    """Since when it is not, if it was awaited."""
    told_silent: bool = False
    told: Node | None = None
    """As it was last told of."""
    told_s: float = 0.0
    dirty: bool = False
    settle_s: float = 0.0
    doubt_s: float | None = None
    """Since when what is believed of its room is in doubt."""
    asked_s: float = 0.0
    """When the master was last asked about it, as far as it has answered."""
    offered_s: float = 0.0
    """When its last offer came or went."""
    idle_s: float | None = None
    """Since when its offers are of no use."""
    declined: bool = False
    """We gave its offers back, and asked for none of it until we revive them."""
    revocable: bool = False
    """Its room may be taken back at any time."""
    draining: bool = False
    """Mesos drains it: it ends all tasks there and offers it to nobody."""
    leaves_us: int | None = None
    """When it goes down for maintenance."""
    inverse: list[str] = field(default_factory=list)
    """Offers to leave it that we have not answered."""


@dataclass(frozen=True, slots=True)
class Facts:
    """An agent as the master sees it. Held units."""

    id: str
    host: str
    port: int
    attributes: dict[str, str]
    whole: Resources
    others: Resources
    """What is held by, offered to, or kept for roles that are not ours."""
    draining: bool = False
    leaves_us: int | None = None
    """When it goes down for maintenance; `UNSAID`: the master does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How long things take; seconds."""

    room_s: float = 30.0
    """For an offer with the room that a task was placed on, before the master is asked who has it."""
    hold_s: float = 300.0
    """That an offer is held without use."""
    silent_s: float = 5.0
    gone_s: float = 70.0
    reconcile_s: float = 600.0
    """Between two questions about every task."""


def value_of(document: Any) -> str:
    """An id as Mesos writes them. ValueError if it is none."""
    value = document.get("value") if isinstance(document, dict) else None
    if not isinstance(value, str):
        raise ValueError("an id is missing")
    return value


def now_us() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000
