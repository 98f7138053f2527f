"""Agents of a Mesos cluster that go down: for maintenance at a moment that is announced, or drained by an operator.

Mesos documentation, "Maintenance Primitives": a schedule names machines and when they go down. Offers from there then
carry that moment, and frameworks that have something there get inverse offers, by which they are asked to leave. What
a task must do to be gone in time is decided here: it gets its job's own notice, and begins anew elsewhere. An inverse
offer is accepted when nothing of ours is there any more, and declined, for a while, as long as it is too early to go.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from priority.backend import mesos_tasks as calls
from priority.backend.mesos_book import Book
from priority.backend.mesos_fleet import SOON_S
from priority.backend.mesos_known import UNSAID, Agent, Facts, Known, Phase, mesos_id, value_of
from priority.node import NodeState
from priority.offers import read_start
from priority.reason import Reason

MARGIN_S = 10.0
"""Tasks are to be gone so long before their agent goes down."""
ASK_AGAIN_S = (5.0, 60.0)
"""An inverse offer that is declined may come again after as long as it is too early, within these bounds."""


class Leaving(Book):
    """The part of `mesos_driver.Driver` that is about agents that go down. Whoever calls holds `lock`."""

    def _inverse_offers(self, body: dict[str, Any]) -> None:
        for document in body.get("inverse_offers", []):
            agent = self.agents.get(value_of(document.get("agent_id")))
            id = value_of(document.get("id"))
            if agent is None:
                self._send(calls.answer("ACCEPT_INVERSE_OFFERS", [id], ASK_AGAIN_S[0]))
                continue
            agent.inverse.append(id)
            agent.leaves_us = read_start(document.get("unavailability")) or agent.leaves_us
            self._soil(agent)

    def _rescind_inverse(self, id: str) -> None:
        """The schedule has changed: the master is asked how."""
        self._curious = True
        for agent in self.agents.values():
            if id in agent.inverse:
                agent.inverse.remove(id)

    def _heed(self, agent: Agent, facts: Facts) -> None:
        """What the master says of an agent's future."""
        if agent.draining and not facts.draining:
            agent.room.believed = agent.room.free(facts.others)  # it will be offered again
        agent.draining = facts.draining
        if facts.leaves_us != UNSAID:
            agent.leaves_us = facts.leaves_us

    def _tick_leaving(self) -> None:
        agents = [one for one in self.agents.values() if one.draining or one.leaves_us is not None or one.inverse]
        # what runs on its revocable room is on the agent too
        if not agents:
            return
        on: dict[str, list[Known]] = {mesos_id(agent.id): [] for agent in agents}
        for known in self.known.values():
            id = mesos_id(known.agent)
            if id in on and known.phase is not Phase.ENDED:
                on[id].append(known)
        for agent in agents:
            if not agent.revocable:
                for known in on[agent.id]:
                    self._see_off(agent, known)
                self._answer(agent, on[agent.id])
            told = agent.told is not None and agent.told.state is NodeState.DRAINING
            if told != self._goes(agent):
                self._soil(agent)

    def _see_off(self, agent: Agent, known: Known) -> None:
        """One task of an agent that goes down."""
        left_s = float("inf") if agent.leaves_us is None else (agent.leaves_us - self._wall()) / 1e6
        if known.phase is Phase.WAITING:
            if agent.draining or left_s <= SOON_S or left_s < (known.runtime_s or 0.0):
                self._withdraw(known)
                message = f"node {known.node} goes down"
                self._refuse(known.task, known.node, Reason("maintenance", message, {"node": known.node}))
            return
        if known.stopping or known.leaving or left_s > known.notice_s + MARGIN_S:
            return
        if known.started is not None and known.runtime_s is not None and agent.leaves_us is not None:
            end_us = known.started.at_us + round(known.runtime_s * 1e6)
            if end_us <= agent.leaves_us:
                return
        known.leaving, known.resendable = True, False
        self.counts["sent_away"] += 1
        self._send(calls.kill(known.task, mesos_id(known.agent) or None, known.notice_s))

    def _answer(self, agent: Agent, tasks: Sequence[Known]) -> None:
        """Nothing is said while tasks are on their way out: the offer to leave stands."""
        if not agent.inverse or self.connected_s is None:
            return
        if not tasks:
            self._send(calls.answer("ACCEPT_INVERSE_OFFERS", agent.inverse, ASK_AGAIN_S[0]))
            self.counts["inverse_accepted"] += len(agent.inverse)
            agent.inverse = []
        elif not self._goes(agent):
            early_s = (agent.leaves_us - self._wall()) / 1e6 - SOON_S if agent.leaves_us is not None else 0.0
            refuse_s = min(max(early_s, ASK_AGAIN_S[0]), ASK_AGAIN_S[1])
            self._send(calls.answer("DECLINE_INVERSE_OFFERS", agent.inverse, refuse_s))
            self.counts["inverse_declined"] += len(agent.inverse)
            agent.inverse = []
