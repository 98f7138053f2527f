"""What an operator does with nodes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from priority.errors import Conflict
from priority.node import NodeState, Shares
from priority.ports import Writer
from priority.records import Audit, NodeRecord, User
from priority.resources import Resources, minus, positive
from priority.service.access import must_admin, no_such
from priority.service.guard import DAY_US, refusals
from priority.service.parts import Parts


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node and what is on it; held units."""

    record: NodeRecord
    held: Resources
    free: Resources
    tasks: int
    silent: bool = False
    """Up, but not heard of for `silent_s`: nothing new is placed there. Its tasks are given up with its lease."""
    shares: Shares | None = None
    """Who has what of it, where it is not ours alone."""

    @property
    def others(self) -> Resources:
        """What others' tasks hold there."""
        return {} if self.shares is None else positive(minus(self.shares.used, self.held))


NodeViews = list[NodeView]
NodeRecords = list[NodeRecord]


class Nodes:
    """The verbs. Every user may look; cluster admins may drain."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def list(self, actor: User) -> NodeViews:  # noqa: ARG002 - every verb says who asks
        """Every node ever seen and not forgotten, by name."""
        with self._parts.store.read() as reader:
            known = reader.nodes()
            on_nodes = reader.on_nodes()
        records, silent = self._heard(known)
        shares = self._parts.backend.shares()
        views = []
        for record in records:
            name = record.node.name
            count, held = on_nodes.get(name, (0, {}))
            free = minus(record.node.capacity, held)
            views.append(NodeView(record, held, free, count, name in silent, shares.get(name)))
        return views

    def standing(self) -> tuple[int, int, int]:
        """How many nodes there are, how many are up and heard of, how many are silent. What runs there is not read."""
        with self._parts.store.read() as reader:
            known = reader.nodes()
        records, silent = self._heard(known)
        states = [(record.node.state, record.node.name in silent) for record in records]
        return len(states), states.count((NodeState.UP, False)), sum(quiet for _, quiet in states)

    def _heard(self, records: Iterable[NodeRecord]) -> tuple[NodeRecords, Collection[str]]:
        """With when each was last heard of, and the names of those that are silent."""
        heard, now_us = self._parts.backend.heard(), self._parts.clock.now_us()
        # A node whose clock is ahead is not heard of in the future.
        seen = [replace(one, seen_us=max(one.seen_us, min(heard.get(one.node.name, 0), now_us))) for one in records]
        alive = [one.node.name for one in seen if one.node.state is not NodeState.DOWN]
        return seen, silent_nodes(self._parts, heard, alive, now_us)

    def led(self) -> bool:
        """Whether a scheduler leads: its lease has not run out. One that is frozen or dead renews nothing."""
        with self._parts.store.read() as reader:
            leader = reader.leader()
        return leader is not None and self._parts.clock.now_us() < leader[2]

    def refused(self) -> int:
        """How many plans the scheduler of this state folder has refused (see `guard`); 0 if none in the last day."""
        count, last_us = refusals(self._parts.settings.state)
        return count if self._parts.clock.now_us() - last_us < DAY_US else 0

    def drain(self, actor: User, name: str) -> NodeRecord:
        """Place nothing new there; what runs goes on. Cluster admins only."""
        return self._set_drained(actor, name, True)

    def undrain(self, actor: User, name: str) -> NodeRecord:
        """Place there again. Cluster admins only."""
        return self._set_drained(actor, name, False)

    def forget(self, actor: User, name: str) -> None:
        """Drop a node that is down and will not come back. `Conflict` while it is up or holds tasks."""
        must_admin(actor, f"node {name}")
        with self._parts.store.write() as writer:
            record = _find(writer, name)
            if record.node.state is not NodeState.DOWN or writer.active_tasks(node=name):
                raise Conflict(
                    f"node {name} is {record.node.state}; stop its agent and wait until it is down", node=name
                )
            writer.drop_node(name)
            self._write_down(writer, actor, "node.forget", name)
        self._parts.ring_all()

    def _set_drained(self, actor: User, name: str, drained: bool) -> NodeRecord:
        must_admin(actor, f"node {name}")
        with self._parts.store.write() as writer:
            record = _find(writer, name)
            if record.drained == drained:
                return record
            record = replace(record, drained=drained)
            writer.put_node(record)
            self._write_down(writer, actor, "node.drain" if drained else "node.undrain", name)
        self._parts.ring_all()
        return record

    def _write_down(self, writer: Writer, actor: User, action: str, name: str) -> None:
        now_us = self._parts.clock.now_us()
        writer.audit(Audit(0, now_us, actor.name, action, f"node:{name}", None, None, None))
        writer.emit([(now_us, action, None, None, None, {"node": name, "by": actor.name})])


def silent_nodes(parts: Parts, heard: Mapping[str, int], names: Iterable[str], now_us: int) -> set[str]:
    """Which of these nodes were not `heard` of for so long that the leader places nothing there, as far as a process
    can know that does not lead.
    """
    if not heard:  # it is the one who listens that is deaf
        return set()
    silent_us = round((parts.settings.silent_s + parts.settings.heartbeat_s) * 1e6)
    return {name for name in names if now_us - heard.get(name, 0) > silent_us}


def _find(writer: Writer, name: str) -> NodeRecord:
    for record in writer.nodes():
        if record.node.name == name:
            return record
    raise no_such(f"node {name}")
