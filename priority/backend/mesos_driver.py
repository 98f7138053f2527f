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
from priority.backend.mesos_fleet import DOUBT_S, LIMIT, SPELL_S, Fleet, standing
from priority.backend.mesos_known import Ack, Agent, Facts, Known, Phase, now_us, value_of
from priority.mesos_status import Means, Status, how_it_ended, read_status
from priority.ports import Launch, NodeRecord, Stop, TaskSeen
from priority.reason import Reason
from priority.resources import Resources, minus, positive, shortfall, total

REMEMBERED = 100_000
"""So many ended tasks, and so many that must never start, are remembered."""
ASK_S = 5.0
"""Between two questions about a task of which nothing is known."""
LATE_S = 30.0
"""After the master says that a task has ended, so long for its agent's own word, which says how."""

_PRESENT = frozenset({Means.COMING, Means.RUNS})
_EVENTS = frozenset({"OFFERS", "RESCIND", "UPDATE", "FAILURE", "HEARTBEAT", "INVERSE_OFFERS"})
_NEVER = Reason("unknown", "it is not there, and will never start")


class Driver(Fleet):
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

    def _add(self, known: Known) -> None:
        known.since_s = self._now()
        self.known[known.task] = known
        self._impatient |= known.replace_s is not None
        if known.phase is Phase.UNSURE:
            self._asking.add(known.task)

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
        self._add(known)
        self._wait_for_room(known, agent)
        return agent

    def _wait_for_room(self, known: Known, agent: Agent) -> None:
        known.phase = Phase.WAITING
        agent.room.wanted[known.task] = known.request
        self._waiting += 1
        self._asking.discard(known.task)

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

    def _refuse(self, task: str, node: str, why: Reason, ack: Ack | None = None) -> None:
        self._tell(TaskSeen(task=task, node=node, kind="refused", at_us=now_us(), cause=why), ack)

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
            self._refuse(one.task, one.node, _NEVER)
            return
        if known is None:
            agent = self.nodes.get(one.node)
            known = Known(one.task, one.node, agent.id if agent is not None else "", {}, Phase.UNSURE)
            self._add(known)
        if known.phase is Phase.WAITING:
            self._drop_waiting(known)
            self._forget(known)
            self._refuse(one.task, one.node, _NEVER)
        elif known.phase is Phase.ENDED:
            self._say_again(known)
        else:
            known.stopping, known.resendable, known.notice_s = True, False, one.notice_s
            self._send(calls.kill(one.task, known.agent or None, one.notice_s))
            if known.phase is Phase.UNSURE:
                self._ask([known])

    def _drop_waiting(self, known: Known) -> None:
        self.agents[known.agent].room.wanted.pop(known.task, None)
        self._waiting -= 1

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
        elif kind == "UPDATE":
            self._update(read_status(body.get("status")))
        elif kind == "FAILURE" and "executor_id" not in body:
            agent = self.agents.get(value_of(body.get("agent_id")))
            if agent is not None:
                self._fell_silent(agent)

    def _update(self, status: Status) -> None:
        ack = (status.task, status.agent, status.uuid) if status.agent and status.uuid else None
        known = self.known.get(status.task)
        agent = self.agents.get(status.agent or (known.agent if known is not None else ""))
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
        asked = known.stopping if status.state != "TASK_FINISHED" else known.reached
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
            why = _NEVER if status.answer else Reason("dropped", status.message or f"Mesos says {status.state}")
            self._refuse(known.task, known.node, why, ack)

    def _ack(self, ack: Ack | None) -> None:
        """What says nothing that would have to be kept."""
        if ack is not None:
            self._send(calls.acknowledge(*ack))

    def tick(self) -> float:
        """What time brings; the seconds until it should be called again."""
        with self.lock:
            now = self._now()
            self._tick_nodes(now)
            self._tick_tasks(now)
            if self._tell_dirty(now):
                return SPELL_S
            return 0.5

    def _tick_tasks(self, now: float) -> None:
        if self._look_again_s is not None and now >= self._look_again_s and self.connected_s is not None:
            self._look_again_s = None
            self._send(calls.reconcile([]))
        due = [one for one in self._asking_now() if now - one.asked_s >= ASK_S]
        self._ask(due)
        if self.connected_s is not None and now >= self._reconcile_s:
            self._reconcile_s = now + self._times.reconcile_s
            self._ask([one for one in self.known.values() if one.phase in (Phase.RUNS, Phase.UNSURE)])
        if self._waiting and self.connected_s is not None:
            for known in [one for one in self.known.values() if one.phase is Phase.WAITING]:
                if now - known.since_s >= LIMIT * self._times.room_s:
                    self._give_up(known, "Mesos never offered its room")
        for known in [one for one in self.known.values() if one.replace_s is not None] if self._impatient else ():
            agent = self.agents.get(known.agent)
            lost_s = agent.silent_s if agent is not None and not agent.up and self.connected_s is not None else None
            if known.phase is not Phase.ENDED and lost_s is not None and now - lost_s >= (known.replace_s or 0.0):
                self._replace(known)
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
                if facts.id in ours and not agent.up and (agent.silent_s or 0.0) < asked_s:
                    self._came(agent)
                if agent.offered_s < asked_s:
                    self._judge(agent, asked_s, facts.others)
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

    def _give_up(self, known: Known, why: str) -> None:
        """The room does not come."""
        self._drop_waiting(known)
        self._forget(known)
        agent = self.agents.get(known.agent)
        if agent is not None:
            self._soil(agent)
        self.counts["rooms_lost"] += 1
        message = f"{why} on node {known.node}, for longer than {self._times.room_s:g} s"
        self._refuse(known.task, known.node, Reason("no-offer", message, {"node": known.node}))
