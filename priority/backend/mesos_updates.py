"""What status updates of tasks on a Mesos cluster come to (see `priority.mesos_status` for what each state means).

An update is acknowledged only when the service has committed what it says: its acknowledgement goes with the report.
One that says nothing which would have to be kept is acknowledged here.
"""

from __future__ import annotations

from dataclasses import replace

from priority.backend import mesos_tasks as calls
from priority.backend.mesos_known import Ack, Agent, Known, Phase, now_us
from priority.backend.mesos_leaving import Leaving
from priority.mesos_status import Means, Status, how_it_ended
from priority.orders import TaskSeen
from priority.reason import Reason

ASK_S = 5.0
"""Between two questions about a task of which nothing is known."""

NEVER = Reason("unknown", "it is not there, and will never start")
_PRESENT = frozenset({Means.COMING, Means.RUNS})


class Updates(Leaving):
    """The part of `mesos_driver.Driver` that hears of tasks. Whoever calls holds `lock`."""

    def _update(self, status: Status) -> None:
        ack = (status.task, status.agent, status.uuid) if status.agent and status.uuid else None
        known = self.known.get(status.task)
        agent = self.agents.get((known.agent if known is not None else "") or status.agent or "")
        if agent is not None and status.means in _PRESENT and not agent.up:
            self._came(agent)
            self._soil(agent)
        if known is None:
            self._update_of_other(status, ack, agent)
            return
        if status.means is Means.COMING:
            self._seen(known, Phase.SENT)
            self._ack(ack)
        elif status.means is Means.RUNS:
            self._runs(known, status, ack)
        elif status.means is Means.ENDED:
            self._ended(known, status, ack)
        elif status.means in (Means.GONE, Means.NEVER):
            self._gone(known, status, ack)
        else:
            self._ack(ack)
            if status.means is Means.SILENT and agent is not None:
                self._fell_silent(agent)

    def _update_of_other(self, status: Status, ack: Ack | None, agent: Agent | None) -> None:
        """Of a task that we do not know: it was acknowledged once, or is an orphan, which the service will stop."""
        if status.task in self._done or status.means is not Means.RUNS:
            if status.means is Means.ENDED and status.task not in self._done and ack is not None:
                node = agent.node if agent is not None else ack[1]
                known = Known(status.task, node, ack[1], {}, Phase.RUNS)
                self._add(known)
                self._ended(known, status, ack)
                return
            self._ack(ack)
            return
        id = status.agent or ""
        known = Known(status.task, agent.node if agent is not None else id, id, {}, Phase.RUNS)
        self._add(known)
        self._runs(known, status, ack)

    def _seen(self, known: Known, phase: Phase) -> None:
        """It is there."""
        self._asking.discard(known.task)
        if known.phase in (Phase.UNSURE, Phase.SENT) and known.phase is not phase:
            known.phase, known.since_s = phase, self._now()

    def _runs(self, known: Known, status: Status, ack: Ack | None) -> None:
        if known.phase is Phase.ENDED:
            self._ack(ack)
            return
        if known.phase is Phase.SENT and known.launch is not None:
            self.counts["round_trip_us"] += int((self._now() - known.since_s) * 1e6)
            self.counts["round_trips"] += 1
        self._seen(known, Phase.RUNS)
        known.reached |= status.state == "TASK_KILLING"
        if known.started is None:
            at_us = status.at_us or now_us()
            known.started = TaskSeen(task=known.task, node=known.node, kind="started", at_us=at_us)
            self._tell(known.started, ack)
        elif ack is not None:
            self._tell(known.started, ack)

    def _ended(self, known: Known, status: Status, ack: Ack | None) -> None:
        self._asking.discard(known.task)
        if known.phase is Phase.ENDED:
            known.ack = ack or known.ack
            self._say_again(known)
            return
        if status.state == "TASK_ERROR" and "duplicate ID" in status.message:
            # It was sent before, by whoever it was: that one counts, and this one nobody has ever taken.
            known.phase, known.resendable = Phase.UNSURE, False
            self._asking.add(known.task)
            self._ack(ack)
            return
        if status.answer:
            # Its agent keeps saying how until we acknowledge that.
            known.answered = known.answered or replace(status, at_us=status.at_us or now_us())
            known.asked_s = self._now()
            return
        # It may have ended by itself before our kill came; who is killed without being told has no say in it.
        asked = known.stopping or known.leaving if status.state != "TASK_FINISHED" else known.reached
        self._curious |= status.state == "TASK_KILLED" and not asked
        end = how_it_ended(status, asked=asked)
        known.phase, known.ack = Phase.ENDED, ack
        known.ended = TaskSeen(
            task=known.task,
            node=known.node,
            kind="ended",
            at_us=status.at_us or now_us(),
            exit_code=end.exit_code,
            signal=end.signal,
            stopped=end.stopped,
            cause=end.cause,
        )
        agent = self.agents.get(known.agent)
        if agent is not None:
            self._release(agent, known.task)
        self._tell(known.ended, ack)

    def _gone(self, known: Known, status: Status, ack: Ack | None) -> None:
        if known.phase is Phase.ENDED:
            self._ack(ack)
        elif known.phase is Phase.WAITING:
            self._ack(ack)  # an answer about what was never sent
        elif known.started is not None or (status.means is Means.GONE and not status.answer):
            self._ended(known, replace(status, means=Means.GONE, answer=False), ack)
        elif status.means is Means.GONE and known.phase is Phase.SENT and self._now() - known.since_s < ASK_S:
            self._ack(ack)  # asked for before the master had looked at our ACCEPT
        elif status.answer and status.means is Means.GONE and known.resendable and self._is_up(known.node):
            # The master does not have it, its agent is there, and nobody but us could send it: `NodeSeen` without it
            # proves it dead if it ran, and lets it be sent (again) if it was only placed.
            self._forget(known, never=False)
            agent = self.nodes[known.node]
            if known.launch is not None and agent.id == known.agent:
                self._add(known)
                self._wait_for_room(known, agent)
                self._serve_all([agent])
                return
            agent.told = None
            self._soil(agent)
        else:
            self._forget(known)
            why = NEVER if status.answer else Reason("dropped", status.message or f"Mesos says {status.state}")
            self._refuse(known.task, known.node, why, ack)

    def _ack(self, ack: Ack | None) -> None:
        """What says nothing that would have to be kept."""
        if ack is not None:
            self._send(calls.acknowledge(*ack))
