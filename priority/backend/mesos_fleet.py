"""The agents of a Mesos cluster as nodes: whom the master vouches for, what is offered there, who is launched on it.

Offers are held while they may be of use. A launch is sent with the next offer of its agent that has room for it; with
`reserving` that room is reserved for our role in the same call, so that it comes back to us, and to nobody else, when
the task has died: a victim's room reaches its preemptor also where another framework takes every offer it gets.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from priority.backend import mesos_tasks as calls
from priority.backend.mesos_known import Agent, Known, Phase, Send, Tell, Times, mesos_id, now_us, twin_of
from priority.node import MAINTENANCE, REVOCABLE, Node, NodeState
from priority.offers import Piece, merged, read_offer, reserve, unreservable
from priority.orders import Launch, NodeGone, NodeSeen, NodeSilent
from priority.tier import DEFAULT_TIERS

DOUBT_S = 15.0
"""So long without an offer of it, the master is asked who has the room that we believe in."""
LOOK_S = 2.0
"""Between two such questions."""
AGAIN_S = 10.0
"""The same, where an agent is drained, or is to go down."""
SOON_S = 60.0
"""So long before its agent goes down a node takes no new task."""
LIMIT = 10
"""So many times longer room that is nobody's is waited for, if it is not offered to us."""
SPELL_S = 0.2
"""A node's changed capacity is told no more often."""
SETTLE_S = 1.0
"""For the offers of an agent that was just found, before its node is told of."""
AWAIT_S = 5.0
"""At most, for all agents of before to be there again."""
REFUSE_S = 3600.0
"""Offers that are declined come again after so long, or when we revive them."""


class Fleet:
    """The half of `mesos_driver.Driver` that is about agents. Whoever calls holds `lock`."""

    def __init__(
        self,
        send: Send,
        tell: Tell,
        look: Callable[[], None] = lambda: None,
        *,
        role: str,
        principal: str | None = None,
        reserving: bool = True,
        times: Times | None = None,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], int] = now_us,
    ) -> None:
        self.lock = threading.RLock()
        self.counts: Counter[str] = Counter()
        self.agents: dict[str, Agent] = {}
        self.nodes: dict[str, Agent] = {}
        """By node: the agent that is there now."""
        self.known: dict[str, Known] = {}
        self.connected_s: float | None = None
        self._lost_s: float | None = None
        self._send, self._tell, self._look, self._now, self._wall = send, tell, look, now, wall
        """`look` has the master asked what its agents have and others hold: the answer is for `looked`."""
        self._role, self._principal, self._reserving = role, principal, reserving
        self._times = times or Times()
        self._done: OrderedDict[str, Known] = OrderedDict()
        self._never: OrderedDict[str, None] = OrderedDict()
        self._expected: dict[str, float] = {}
        self._epoch = 0
        self._framework = ""
        self._waiting = 0
        self._impatient = False
        """Whether there is (or was) a task whose job waits for no proof."""
        self._awaited: set[str] = set()
        """Agents that were there when we were last, and are not yet: nodes are told of together, or the first plan
        would take for granted that there are no others.
        """
        self._look_again_s: float | None = None
        """When the master is to be asked for all that it knows of ours."""
        self._suppressed = False
        self._looked_s = 0.0
        self._curious = False
        """Whether something has happened that may come of an operator's doing."""
        self._blind = False
        """Whether the master did not say what its agents have, when it was last asked."""
        self._reconcile_s = 0.0
        self._dirty: set[str] = set()
        self._asking: set[str] = set()
        """Tasks about which the master is to be asked."""

    def _new_agent(self, id: str, node: str) -> Agent:
        agent = Agent(id, node, settle_s=self._now() + SETTLE_S)
        self.agents[id] = agent
        self.nodes.setdefault(node, agent)
        return agent

    def subscribed(self, framework: str = "") -> None:
        """A stream of this framework begins: every offer of the last is void, and what was sent on it is unsure."""
        with self.lock:
            self._framework = framework
            self.connected_s, self._lost_s = self._now(), None
            for agent in self.agents.values():
                agent.inverse, agent.declined = [], False
            self._suppressed = False
            self._reconcile_s = self.connected_s + self._times.reconcile_s
            for known in self.known.values():
                if known.phase is Phase.WAITING:  # nothing could come meanwhile
                    known.since_s = self.connected_s
            for agent in self.agents.values():
                agent.doubt_s = None
                if agent.room.believed:
                    self._doubt(agent)
                agent.settle_s = self.connected_s + SETTLE_S
            self._ask(self._asking_now())
            self._send(calls.reconcile([]))
            self._find_out(self.connected_s)

    def disconnected(self) -> None:
        """The stream has broken."""
        with self.lock:
            if self.connected_s is None:
                return
            self.connected_s, self._lost_s = None, self._now()
            for agent in self.agents.values():
                agent.room.give_back()
                agent.idle_s = None
            for known in self.known.values():
                if known.phase is Phase.SENT:
                    known.phase = Phase.UNSURE
                if known.phase in (Phase.UNSURE, Phase.RUNS):
                    self._asking.add(known.task)

    def _find_out(self, now: float) -> None:
        self._looked_s, self._curious = now, False
        self._look()

    def _wonders(self, now: float) -> bool:
        """Whether there is anything that only the master can tell."""
        if self._curious:
            return True
        if any(one.draining or one.leaves_us for one in self.agents.values()) and now - self._looked_s >= AGAIN_S:
            return True
        if any(
            one.up and ((one.room.whole is None and not one.revocable) or self._doubts(one, now))
            for one in self.agents.values()
        ):
            return True
        since_s = now - self._times.room_s
        waiting = (one for one in self.known.values() if one.phase is Phase.WAITING) if self._waiting else ()
        return any(one.since_s <= since_s for one in waiting)

    def _doubts(self, agent: Agent, now: float) -> bool:
        """Whether room that we believe in should have been offered by now."""
        return agent.doubt_s is not None and now - max(agent.doubt_s, agent.asked_s) >= DOUBT_S

    def _offers(self, body: dict[str, Any]) -> None:
        touched = {}
        for document in body.get("offers", []):
            offer = read_offer(document)
            agent = self._meet(offer.agent, offer.host, offer.port, dict(offer.attributes))
            agent.room.offered(offer)
            agent.settle_s, agent.offered_s, agent.declined = 0.0, self._now(), False
            agent.leaves_us = offer.leaves_us
            if not agent.room.believed:
                agent.doubt_s = None
            self._came(agent)
            self._soil(agent)
            touched[agent.id] = agent
            self.counts["offers"] += 1
            if offer.revocable:
                twin = self._twin(agent)
                twin.room.offered(replace(offer, pieces=offer.revocable))
                twin.settle_s, twin.offered_s, twin.leaves_us = 0.0, agent.offered_s, agent.leaves_us
                self._came(twin)
                self._soil(twin)
                touched[twin.id] = twin
        self._serve_all(touched.values())

    def _meet(self, id: str, host: str, port: int, attributes: dict[str, str]) -> Agent:
        agent = self.agents.get(id)
        if agent is None:
            agent = self._new_agent(id, self._name(host, port))
        agent.host, agent.port, agent.attributes = host, port or agent.port, attributes
        return agent

    def _twin(self, agent: Agent) -> Agent:
        """The node that its revocable room is: for the least tier alone (see `node.avoided`)."""
        id = twin_of(agent.id)
        twin = self.agents.get(id) or self._new_agent(id, f"{agent.node}.revocable")
        twin.host, twin.port, twin.revocable = agent.host, agent.port, True
        twin.attributes = {**agent.attributes, REVOCABLE: "true"}
        return twin

    def _name(self, host: str, port: int) -> str:
        """Of the node: the host's, unless another agent is there on the same host."""
        name = "".join(char if char.isalnum() or char in "_.-" else "-" for char in host)[:56] or "agent"
        other = self.nodes.get(name)
        if other is not None and other.up and other.port != port:
            return f"{name}-{port}"
        return name

    def _came(self, agent: Agent) -> None:
        """The master vouches for it."""
        before = self.nodes.get(agent.node)
        if before is not agent:
            self.nodes[agent.node] = agent
            agent.told = None
        self._expected.pop(agent.node, None)
        self._awaited.discard(agent.id)
        if not agent.up:
            if agent.silent_s is not None and self._look_again_s is None:
                self._look_again_s = self._now() + SETTLE_S  # who was replaced may have come back with it
            agent.up, agent.silent_s, agent.told_silent, agent.told = True, None, False, None
            mine = [one for one in self.known.values() if one.agent == agent.id]
            self._ask([one for one in mine if one.phase is Phase.UNSURE])
            for one in mine:
                if (
                    one.stopping or one.leaving
                ) and one.phase is not Phase.ENDED:  # what was sent while it was away is lost
                    self._send(calls.kill(one.task, mesos_id(one.agent), one.notice_s))

    def _rescind(self, id: str) -> None:
        for agent in self.agents.values():
            if agent.room.rescinded(id):
                self.counts["rescinded"] += 1
                agent.offered_s = self._now()
                self._curious = True
                self._soil(agent)

    def _serve_all(self, agents: Iterable[Agent]) -> None:
        short = False
        for agent in agents:
            self._serve(agent)
            short |= bool(agent.room.wanted) and (self._suppressed or agent.declined)
        if short and self.connected_s is not None:
            self._suppressed = False
            self.counts["revived"] += 1
            for agent in self.agents.values():
                agent.declined = False
                if agent.room.believed:
                    self._doubt(agent)
            self._send({"type": "REVIVE"})

    def _serve(self, agent: Agent) -> None:
        """Launch whatever the offers of this agent have room for."""
        room = agent.room
        if not room.wanted or not room.offers or self.connected_s is None:
            return
        order = sorted(room.wanted, key=lambda task: standing(self.known[task]))
        fresh: dict[int, Piece] = {}
        """Pieces that nobody has kept for us, by what they are once that is done."""
        served, rest = room.fill(order, lambda piece: self._kept(piece, fresh))
        rest += self._hold_gangs(room.wanted, served)
        if not served:
            return
        now = self._now()
        for task in served:
            self.known[task].phase, self.known[task].since_s = Phase.SENT, now
        room.hold_all({task: self.known[task].request for task in served})
        operations = self._operations(agent, served, fresh)
        self._waiting -= len(served)
        self.counts["launched"] += len(served)
        ids = room.used(rest)
        twin = self.agents.get(twin_of(agent.id))
        if twin is not None and twin.room.went(ids):
            self._doubt(twin)
        self._send(calls.accept(mesos_id(agent.id), ids, operations, 0.0))
        if room.believed and agent.doubt_s is None:
            self._doubt(agent)

    def _operations(
        self, agent: Agent, served: dict[str, tuple[Piece, ...]], fresh: dict[int, Piece]
    ) -> list[dict[str, Any]]:
        """What an ACCEPT is to do: keep for us what nobody kept, and launch on it."""
        operations = []
        kept = [piece for pieces in served.values() for piece in pieces if id(piece.template) in fresh]
        if kept:
            operations.append(calls.operation("RESERVE", merged(kept)))
        launches: list[tuple[Launch, Sequence[Piece]]] = []
        groups: dict[str, list[tuple[Launch, Sequence[Piece]]]] = {}
        for task, pieces in served.items():
            one = self.known[task].launch
            assert one is not None
            in_group = one.spec.mesos is not None and one.spec.mesos.group
            (groups.setdefault(one.job, []) if in_group else launches).append((one, pieces))
        where = mesos_id(agent.id)
        if launches:
            operations.append(calls.launch_operation(calls.task_infos(where, launches)))
        return operations + [calls.group_operation(self._framework, where, members) for members in groups.values()]

    def _hold_gangs(self, wanted: Iterable[str], served: dict[str, tuple[Piece, ...]]) -> list[Piece]:
        """The members of a gang that wait here go in one call or not yet: what those were given whom it now lacks."""
        gangs = {task: one.job for task in wanted if (one := self.known[task].launch) is not None and one.spec.gang}
        short = {job for task, job in gangs.items() if task not in served}
        held = [task for task in served if gangs.get(task) in short] if short else []
        return [piece for task in held for piece in served.pop(task)]

    def _kept(self, piece: Piece, fresh: dict[int, Piece]) -> Piece:
        """As it is given to a task: kept for our role, where that is wanted."""
        if not self._reserving or piece.reserved or "revocable" in piece.template:
            return piece
        made = reserve(piece, self._role, self._principal)
        fresh[id(made.template)] = made
        return made

    def _is_up(self, node: str) -> bool:
        agent = self.nodes.get(node)
        return agent is not None and agent.up

    def _ask(self, tasks: Collection[Known]) -> None:
        now = self._now()
        for known in tasks:
            known.asked_s = now
        if tasks and self.connected_s is not None:
            self._send(calls.reconcile([(one.task, mesos_id(one.agent) or None) for one in tasks]))

    def _asking_now(self) -> list[Known]:
        return [self.known[task] for task in self._asking if task in self.known]

    def _doubt(self, agent: Agent) -> None:
        """What we believe of its room is to be offered soon, or is another's."""
        agent.doubt_s = self._now()

    def _release(self, agent: Agent, task: str) -> None:
        """What it held is about to be offered."""
        agent.room.release(task)
        if not self._suppressed:
            self._doubt(agent)
        self._soil(agent)

    def _soil(self, agent: Agent) -> None:
        self._dirty.add(agent.id)

    def _fell_silent(self, agent: Agent) -> None:
        agent.room.offers = {}
        agent.room.believed = {}
        for known in self.known.values():
            if known.agent == agent.id and known.phase is Phase.SENT:
                known.phase = Phase.UNSURE
                self._asking.add(known.task)
        agent.up = False
        agent.silent_s = agent.silent_s or self._now()
        if self.nodes.get(agent.node) is agent and not agent.told_silent:
            agent.told_silent = True
            self._tell(NodeSilent(node=agent.node, at_us=now_us()), None)

    def _node(self, agent: Agent) -> Node:
        attributes = dict(agent.attributes)
        if agent.leaves_us is not None:
            attributes[MAINTENANCE] = datetime.fromtimestamp(agent.leaves_us / 1e6, UTC).isoformat()
        state = NodeState.DRAINING if self._goes(agent) else NodeState.UP
        return Node(agent.node, agent.room.capacity(), attributes, state)

    def _goes(self, agent: Agent) -> bool:
        """Whether it takes no new task, since it is drained or about to go down."""
        return agent.draining or (agent.leaves_us is not None and agent.leaves_us - self._wall() <= SOON_S * 1e6)

    def _say_node(self, agent: Agent) -> None:
        node = self._node(agent)
        tasks = frozenset(one.task for one in self.known.values() if one.node == agent.node)
        agent.told, agent.told_s = node, self._now()
        self._tell(NodeSeen(node=node, agent=agent.id, tasks=tasks, at_us=now_us()), None)

    def _tell_dirty(self, now: float) -> bool:
        if self._awaited and (self.connected_s is None or now - self.connected_s < AWAIT_S):
            return True
        self._awaited = set()
        left = set()
        for id in self._dirty:
            agent = self.agents[id]
            if not agent.up or self.nodes.get(agent.node) is not agent:
                continue
            if now < agent.settle_s or (agent.told is not None and now - agent.told_s < SPELL_S):
                left.add(id)
                continue
            if agent.room.whole is None and not self._blind and not agent.revocable:
                left.add(id)
                continue
            node = self._node(agent)
            if node != agent.told:
                self._say_node(agent)
        self._dirty = left
        return bool(left)

    def _tick_nodes(self, now: float) -> None:
        times = self._times
        for agent in list(self.agents.values()):
            if agent.silent_s is not None and self.nodes.get(agent.node) is agent:
                self._maybe_gone(agent.node, agent.silent_s, now)
            self._tick_hold(agent, now)
        if self.connected_s is not None and now - self._looked_s >= LOOK_S and self._wonders(now):
            self._find_out(now)
        if self.connected_s is not None:
            for name, asked_s in list(self._expected.items()):
                since = max(asked_s, self.connected_s)
                if now - since >= times.silent_s:
                    self._tell(NodeSilent(node=name, at_us=now_us()), None)
                    del self._expected[name]
                    agent = self.nodes.get(name) or self._new_agent(f"?{name}", name)
                    agent.silent_s, agent.told_silent = since, True
        elif self._lost_s is not None and now - self._lost_s >= times.silent_s:
            self._lost_s = None
            for agent in self.nodes.values():
                if agent.up:
                    self._expected[agent.node] = now
                    self._fell_silent(agent)
                    agent.silent_s = None  # it is we who hear nothing

    def _maybe_gone(self, node: str, since_s: float, now: float) -> None:
        """Nothing of ours is there any more, by the word of whoever proved it task by task."""
        if now - since_s < self._times.gone_s or any(one.node == node for one in self.known.values()):
            return
        agent = self.nodes.pop(node)
        self.agents.pop(agent.id, None)
        self._tell(NodeGone(node=node, at_us=now_us()), None)

    def _tick_hold(self, agent: Agent, now: float) -> None:
        """Offers of no use go back, reservations with them, so that other frameworks have the room."""
        room, twin = agent.room, self.agents.get(twin_of(agent.id))
        if not room.offers or room.wanted or self._waiting:
            agent.idle_s = None
            return
        agent.idle_s = agent.idle_s or now
        if now - agent.idle_s < self._times.hold_s:
            return
        agent.idle_s, agent.doubt_s = None, None
        kept = [piece for piece in room.pieces if unreservable(piece)]
        operations = [calls.operation("UNRESERVE", kept)] if kept else []
        ids = room.give_back()
        if twin is not None:
            twin.room.went(ids)
            twin.declined = not kept
        self.counts["declined"] += len(ids)
        agent.declined = not kept
        self._send(calls.accept(mesos_id(agent.id), ids, operations, 0.0 if kept else REFUSE_S))
        if not any(other.room.offers for other in self.agents.values()) and not kept:
            self._suppressed = True
            self.counts["suppressed"] += 1
            self._send({"type": "SUPPRESS"})

    def heard(self) -> dict[str, int]:
        """Nodes that the master vouches for: now."""
        with self.lock:
            if self.connected_s is None:
                return {}
            at_us = now_us()
            return {agent.node: at_us for agent in self.agents.values() if agent.up}


def standing(known: Known) -> tuple[int, int, float]:
    """Who is served first: by tier, priority, and who came first."""
    assert known.launch is not None
    spec = known.launch.spec
    tier = DEFAULT_TIERS.get(spec.tier)
    return -(tier.rank if tier is not None else 0), -spec.priority, known.since_s
