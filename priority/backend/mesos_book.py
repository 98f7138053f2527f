"""The tasks of a Mesos cluster that are ours: known from before they are sent until their end is acknowledged.

A node's `NodeSeen` names every one that is not proved dead, also where its agent cannot be reached.
"""

from __future__ import annotations

from collections.abc import Iterable

from priority.backend.mesos_fleet import Fleet
from priority.backend.mesos_known import Ack, Agent, Known, Phase, now_us
from priority.orders import TaskSeen
from priority.reason import Reason

REMEMBERED = 100_000
"""So many ended tasks, and so many that must never start, are remembered."""


class Book(Fleet):
    """The part of `mesos_driver.Driver` that keeps tasks. Whoever calls holds `lock`, but for `committed`."""

    def _add(self, known: Known) -> None:
        known.since_s = self._now()
        self.known[known.task] = known
        self._impatient |= known.replace_s is not None
        if known.phase is Phase.UNSURE:
            self._asking.add(known.task)

    def _wait_for_room(self, known: Known, agent: Agent) -> None:
        known.phase = Phase.WAITING
        agent.room.wanted[known.task] = known.request
        self._waiting += 1
        self._asking.discard(known.task)

    def _withdraw(self, known: Known) -> None:
        """One that waits for room is not to be sent any more."""
        self.agents[known.agent].room.wanted.pop(known.task, None)
        self._waiting -= 1
        self._forget(known)

    def _forget(self, known: Known, *, never: bool = True) -> None:
        """It is proved not to run. `never`: nor will it, whatever comes."""
        self.known.pop(known.task, None)
        self._asking.discard(known.task)
        agent = self.agents.get(known.agent)
        if agent is not None:
            self._release(agent, known.task)
        if never:
            self._never[known.task] = None
            while len(self._never) > REMEMBERED:
                self._never.popitem(last=False)

    def _say_again(self, known: Known) -> None:
        if known.started is not None:
            self._tell(known.started, None)
        if known.ended is not None:
            self._tell(known.ended, known.ack)

    def _refuse(self, task: str, node: str, why: Reason, ack: Ack | None = None) -> None:
        """Tell that it does not run there and never will."""
        self._tell(TaskSeen(task=task, node=node, kind="refused", at_us=now_us(), cause=why), ack)

    def committed(self, ends: Iterable[str]) -> None:
        """The service has written down these ends."""
        with self.lock:
            for task in ends:
                known = self.known.get(task)
                if known is not None and known.phase is Phase.ENDED:
                    del self.known[task]
                    known.launch = None
                    self._done[task] = known
                    while len(self._done) > REMEMBERED:
                        self._done.popitem(last=False)

    def ended(self, task: str) -> Known | None:
        """A task whose end was acknowledged, if it is remembered."""
        return self._done.get(task)

    def _give_up(self, known: Known, why: str) -> None:
        """The room does not come."""
        self._withdraw(known)
        agent = self.agents.get(known.agent)
        if agent is not None:
            self._soil(agent)
        self.counts["rooms_lost"] += 1
        message = f"{why} on {known.node}, for longer than {self._times.room_s:g} s"
        self._refuse(known.task, known.node, Reason("no-offer", message, {"node": known.node}))
