"""What is known of a Mesos cluster, and what follows from each thing that is heard of it or asked of it.

No connection and no thread of its own: `mesos.MesosBackend` hands in events and launches, and takes away calls (`send`)
and reports (`tell`). One lock, held for memory only.

What makes it safe:
- a task is sent once, and known from before it is sent. Whatever may have been sent by a process that died, or on a
  stream that broke, is *unsure*: it is asked for by name (RECONCILE) and is neither sent again nor held dead before the
  master has answered;
- an update is acknowledged only when the service has committed what it says (`acknowledge`);
- a node's `NodeSeen` names every task that is not proved dead, also one whose agent cannot be reached.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from priority.backend import mesos_tasks as calls
from priority.backend.mesos_fleet import DOUBT_S, LIMIT, SPELL_S, standing
from priority.backend.mesos_known import Agent, Facts, Known, Phase, mesos_id, twin_of, value_of
from priority.backend.mesos_updates import ASK_S, NEVER, Updates
from priority.mesos_status import read_status
from priority.orders import Launch, Stop
from priority.reason import Reason
from priority.records import NodeRecord
from priority.resources import Resources, minus, positive, shortfall, total

LATE_S = 30.0
"""After the master says that a task has ended, so long for its agent's own word, which says how."""

_EVENTS = frozenset({"OFFERS", "RESCIND", "UPDATE", "FAILURE", "HEARTBEAT", "INVERSE_OFFERS", "RESCIND_INVERSE_OFFER"})


class Driver(Updates):
    """See above. Every public method may be called from any thread."""

    def remember(self, nodes: Iterable[NodeRecord], tasks: Iterable[Known]) -> None:
        """From the database, before anything is heard: nodes, and tasks that were placed there by a leader that may
        have sent them.
        """
        with self.lock:
            capacities: dict[str, Resources] = {}
            for record in nodes:
                capacities[record.agent] = record.node.capacity
                if record.agent not in self.agents:
                    agent = self._new_agent(record.agent, record.node.name)
                    agent.attributes = dict(record.node.attributes)
            for known in tasks:
                if known.task in self.known or known.task in self._done:
                    continue
                agent = self.agents.get(known.agent) or self._new_agent(known.agent, known.node)
                self._add(known)
                agent.room.hold(known.task, known.request)
            for agent in self.agents.values():
                # As before: else the first plan would make room by killing where offers are on their way.
                capacity = capacities.get(agent.id, {})
                agent.room.believed = positive(minus(capacity, total(agent.room.tasks.values())))
            self._awaited = set(capacities)

    def launch(self, batch: Sequence[Launch]) -> None:
        """Send these as soon as there are offers for them."""
        with self.lock:
            touched = {}
            for one in batch:
                self._epoch = max(self._epoch, one.epoch)
                agent = self._launch(one)
                if agent is not None:
                    touched[agent.id] = agent
            self._serve_all(touched.values())

    def _launch(self, one: Launch) -> Agent | None:
        known = self.known.get(one.task) or self._done.get(one.task)
        if known is not None:
            known.launch = known.launch or one
            self._say_again(known)
            return None
        agent = self.nodes.get(one.node)
        why = self._refusal(one, agent)
        if why is not None:
            self._refuse(one.task, one.node, why)
            return None
        if agent is None:
            # Its node is not known yet: as soon as it is.
            agent = self._new_agent(one.agent, one.node)
        request = dict(one.spec.resources)
        replace_s = one.spec.mesos.replace_after if one.spec.mesos is not None else None
        known = Known(one.task, one.node, agent.id, request, Phase.WAITING, launch=one, replace_s=replace_s)
        known.notice_s, known.runtime_s = one.spec.preempt.notice, one.spec.max_runtime
        self._add(known)
        self._wait_for_room(known, agent)
        return agent

    def _refusal(self, one: Launch, agent: Agent | None) -> Reason | None:
        if one.task in self._never:
            return Reason("unknown", "it was stopped before it came, and will never start")
        if one.epoch < self._epoch:
            return Reason("epoch", "a newer leader has spoken", {"epoch": one.epoch, "highest": self._epoch})
        if agent is not None and agent.id != one.agent:
            return Reason("incarnation", f"it was sent to another agent of node {one.node}")
        if one.spec.resources.get("gpus", 0) % 1000:
            return Reason("gpus", "Mesos gives whole GPUs only")
        return None

    def stop(self, batch: Sequence[Stop]) -> None:
        """End these; one of which nothing is known is asked for."""
        with self.lock:
            for one in batch:
                if one.epoch >= self._epoch:
                    self._epoch = one.epoch
                    self._stop(one)

    def _stop(self, one: Stop) -> None:
        known = self.known.get(one.task)
        if known is None and one.task in self._done:
            self._say_again(self._done[one.task])
            return
        if known is None and one.task in self._never:
            self._refuse(one.task, one.node, NEVER)
            return
        if known is None:
            agent = self.nodes.get(one.node)
            known = Known(one.task, one.node, agent.id if agent is not None else "", {}, Phase.UNSURE)
            self._add(known)
        if known.phase is Phase.WAITING:
            self._withdraw(known)
            self._refuse(one.task, one.node, NEVER)
        elif known.phase is Phase.ENDED:
            self._say_again(known)
        else:
            known.stopping, known.resendable, known.notice_s = True, False, one.notice_s
            self._send(calls.kill(one.task, mesos_id(known.agent) or None, one.notice_s))
            if known.phase is Phase.UNSURE:
                self._ask([known])

    def standing(self) -> dict[str, Any]:
        """Counters and what is held just now: for operators."""
        with self.lock:
            phases = Counter(known.phase.value for known in self.known.values())
            trips = self.counts["round_trips"]
            return {
                **{name: count for name, count in sorted(self.counts.items()) if name != "round_trip_us"},
                "round_trip_ms": round(self.counts["round_trip_us"] / trips / 1000, 1) if trips else None,
                "offers_held": sum(len(agent.room.offers) for agent in self.agents.values()),
                "agents_up": sum(agent.up for agent in self.agents.values()),
                "tasks": dict(sorted(phases.items())),
                "connected": self.connected_s is not None,
            }

    def inquire(self, nodes: Collection[str]) -> None:
        """Say anew all that is known of these; one that is not known counts as silent from now on."""
        with self.lock:
            now = self._now()
            for name in nodes:
                agent = self.nodes.get(name)
                if agent is None or not agent.up:
                    self._expected[name] = now
                    continue
                self._say_node(agent)
                mine = [one for one in self.known.values() if one.node == name]
                for one in mine:
                    self._say_again(one)
                self._ask([one for one in mine if one.phase in (Phase.RUNS, Phase.UNSURE)])

    def event(self, event: dict[str, Any]) -> None:
        """One event of the stream. ValueError if it is not understood."""
        kind = event["type"]
        with self.lock:
            self.counts[f"events.{kind.lower() if kind in _EVENTS else 'other'}"] += 1
            body = event.get(kind.lower(), {})
            if not isinstance(body, dict):
                raise ValueError(f"the body of {kind} is no object")
            try:
                self._event(kind, body)
            except (KeyError, TypeError, AttributeError, OverflowError) as error:
                raise ValueError(f"{kind} is not understood: {error!r}") from None

    def _event(self, kind: str, body: dict[str, Any]) -> None:
        if kind == "OFFERS":
            self._offers(body)
        elif kind == "RESCIND":
            self._rescind(value_of(body.get("offer_id")))
        elif kind == "INVERSE_OFFERS":
            self._inverse_offers(body)
        elif kind == "RESCIND_INVERSE_OFFER":
            self._rescind_inverse(value_of(body.get("inverse_offer_id")))
        elif kind == "UPDATE":
            self._update(read_status(body.get("status")))
        elif kind == "FAILURE" and "executor_id" not in body:
            id = value_of(body.get("agent_id"))
            for agent in (self.agents.get(id), self.agents.get(twin_of(id))):
                if agent is not None:
                    self._fell_silent(agent)

    def tick(self) -> float:
        """What time brings; the seconds until it should be called again."""
        with self.lock:
            now = self._now()
            self._tick_nodes(now)
            self._tick_tasks(now)
            self._tick_leaving()
            if self._tell_dirty(now):
                return SPELL_S
            return 0.5

    def _tick_tasks(self, now: float) -> None:
        self._tick_reconcile(now)
        if self._waiting and self.connected_s is not None:
            self._tick_waiting(now)
        if self._impatient and self.connected_s is not None:
            self._tick_lost(now)
        self._tick_answered(now)

    def _tick_reconcile(self, now: float) -> None:
        """What we do not know of is asked for: all of it after a connection, again what nobody answered, and the rest
        regularly.
        """
        if self._look_again_s is not None and now >= self._look_again_s and self.connected_s is not None:
            self._look_again_s = None
            self._send(calls.reconcile([]))
        self._ask([one for one in self._asking_now() if now - one.asked_s >= ASK_S])
        if self.connected_s is not None and now >= self._reconcile_s:
            self._reconcile_s = now + self._times.reconcile_s
            self._ask([one for one in self.known.values() if one.phase in (Phase.RUNS, Phase.UNSURE)])

    def _tick_waiting(self, now: float) -> None:
        """Room that nobody refused, and nobody offered."""
        for known in [one for one in self.known.values() if one.phase is Phase.WAITING]:
            if now - known.since_s >= LIMIT * self._times.room_s:
                self._give_up(known, "Mesos never offered its room")

    def _tick_lost(self, now: float) -> None:
        """Tasks whose jobs wait no longer for an agent that is silent while the master is there to say so."""
        for known in [one for one in self.known.values() if one.replace_s is not None]:
            agent = self.agents.get(known.agent)
            if known.phase is Phase.ENDED or agent is None or agent.up or agent.silent_s is None:
                continue
            if now - agent.silent_s >= (known.replace_s or 0.0):
                self._replace(known)

    def _tick_answered(self, now: float) -> None:
        """Tasks whose end an answer of the master told, and no update of their agent after it."""
        for known in [one for one in self.known.values() if one.answered is not None]:
            if known.phase is not Phase.ENDED and now - known.asked_s >= LATE_S and known.answered is not None:
                self._ended(known, replace(known.answered, answer=False), None)

    def _replace(self, known: Known) -> None:
        """Its job does not wait for proof: another attempt may begin. Should this one come back, it is stopped."""
        self._forget(known)
        message = f"node {known.node} could not be reached for {known.replace_s:g} s, and its job waits no longer"
        self._refuse(known.task, known.node, Reason("unreachable", message, {"node": known.node}))

    def looked(self, asked_s: float, agents: Iterable[Facts] | None) -> None:
        """What the master says of the agents that it vouches for; it was asked then. None: it does not say.

        Who has the room that somebody waits for is so decided by what is, not by how long it takes: what is nobody's
        is on its way, and nobody else is to be killed for it.
        """
        with self.lock:
            self._blind = agents is None
            ours = {one.agent for one in self.known.values() if one.phase is not Phase.WAITING}
            for facts in agents or ():
                agent = self._meet(facts.id, facts.host, facts.port, facts.attributes)
                agent.room.whole = facts.whole
                self._heed(agent, facts)
                twin = self.agents.get(twin_of(facts.id))
                if twin is not None:
                    self._heed(twin, facts)
                    self._judge_twin(twin, asked_s)
                if facts.id in ours and not facts.draining and not agent.up and (agent.silent_s or 0.0) < asked_s:
                    self._came(agent)
                if agent.offered_s < asked_s:
                    self._judge(agent, asked_s, facts.others)
                self._soil(agent)

    def _judge_twin(self, agent: Agent, asked_s: float) -> None:
        """Of revocable room that we believe in and is not offered nobody says who has it: it was taken back."""
        if agent.offered_s >= asked_s or not self._doubts(agent, asked_s) or self._suppressed:
            return
        agent.room.believed, agent.doubt_s = {}, None
        for known in [self.known[task] for task in agent.room.wanted]:
            self._give_up(known, "revocable room was taken back")
        self._soil(agent)

    def _judge(self, agent: Agent, asked_s: float, others: Resources) -> None:
        """What of its room that we wait for is another's."""
        room = agent.room
        if self._doubts(agent, asked_s) and not self._suppressed:
            room.told(others)
            agent.asked_s = asked_s
            if asked_s - (agent.doubt_s or 0.0) >= LIMIT * DOUBT_S:
                room.believed = {}
            agent.doubt_s = agent.doubt_s if room.believed else None
        free = room.free(others)
        for task in sorted(room.wanted, key=lambda task: standing(self.known[task])):
            known = self.known[task]
            if not shortfall(known.request, free):
                free = positive(minus(free, known.request))
            elif known.since_s <= asked_s - self._times.room_s:
                self._give_up(known, "another framework holds its room")
                room.told(others)
