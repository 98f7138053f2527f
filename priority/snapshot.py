"""The cluster, kept up event by event: all that one scheduling round decides from. See `planes` and `stock`.

What holds room, decided where the contract leaves it open:

- The tasks of a `down` node hold nothing: no room, no part of a ceiling, no share. They still count for a `limit`,
  which counts a job's tasks "until they are gone", and nobody knows whether these are.
- A role's share skips a resource of which no node that is up has any.
- A role that was never put has weight 1 and no quota. A node that is dropped while tasks are on it stays as a
  `down` one until the last of them is gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

from priority import policy as policies
from priority import reading, roll
from priority.claim import DYING, PENDING, Claim
from priority.constraint import Constraint
from priority.errors import Invalid
from priority.node import Node, NodeState
from priority.planes import Planes
from priority.policy import NOTHING, POLICY, Past
from priority.reading import Quotas, Reading, RoleRules
from priority.resources import Resources
from priority.stock import Plane
from priority.tier import DEFAULT_TIERS, Tier

__all__ = ["POLICY", "Claim", "Plane", "RoleRules", "Snapshot"]

Kind = tuple[tuple[tuple[str, int], ...], tuple[Constraint, ...]]
"""A request, sorted, and constraints."""

_NOBODY = RoleRules()

_Group = tuple[str, ...] | dict[str, None]
"""Tasks of jobs of one name, or of a node: where they are few, which is nearly everywhere, in a third of the memory of
a dict.
"""

_FEW = 16

GONE_MAX = 4_096
"""What so many tasks held that are gone is discounted at a time, if nobody asks before."""

ALIKE_MAX = 10_000
"""So many attributes and capacities of nodes are known at a time: of more, some are kept more than once."""


class Snapshot:
    """Nodes, roles and every task that has not ended. One change costs microseconds, whatever the size.

    To drop or move what is not there is a `KeyError`: the owner has lost an event.
    Not safe for threads: one owner applies events and asks for plans. Planning never changes it.
    """

    def __init__(
        self,
        tiers: Mapping[str, Tier] = DEFAULT_TIERS,
        policy: Mapping[str, Any] | None = None,
        now_us: int = 0,
    ) -> None:
        self.now_us = now_us
        """Microseconds since the epoch: the only clock of a round."""
        self.tiers: Mapping[str, Tier] = dict(tiers)
        self.policy: Mapping[str, Any] = dict(policy or {})
        self.terms = policies.read(self.policy, self.tiers)
        """The same, checked, in the engine's units."""
        self.past: Past = NOTHING
        self._nodes: dict[str, Node] = {}
        self._dropped: set[str] = set()
        self._roles: dict[str, RoleRules] = {}
        self._apart: dict[str, Claim] = {}
        """Tasks that hold no room: they wait, or their node is down. The others are in the stock."""
        self._pending: dict[str, Claim] = {}
        self._stranded: dict[str, dict[str, None]] = {}
        """Tasks of nodes that are down, by node. Those of the others are in the stock."""
        self._jobs: dict[str, _Group] | None = None
        """Tasks by the name of their job, whosever it is; None until somebody asks: most clusters have no limits."""
        self._alike: dict[object, Any] = {}
        """Attributes and capacities of nodes, those that are equal once."""
        self._dying: dict[str, Claim] = {}
        self._preempted: dict[str, Claim] = {}
        self._held: dict[tuple[str, ...], Resources] = {}
        self._gone: list[roll.Kind] = []
        """What those had in common with others that are gone and still counted in these two."""
        self._holdings: dict[tuple[str, str, str], tuple[Resources, ...]] = {}
        """Of each (role, tier, user) the three of these that its tasks count in."""
        self._limited: Counter[tuple[str, str]] = Counter()
        self._kinds: dict[Kind, dict[str, Claim]] = {}
        self._last: tuple[Resources, tuple[Constraint, ...], dict[str, Claim]] | None = None
        """Request, constraints and kind of the last one that came and waits."""
        self._gangs = 0
        self._size: Resources = {}
        self._planes = Planes(self.tiers)

    # --- from and to plain JSON ---

    @classmethod
    def parse(cls, document: Any) -> Snapshot:
        """Read a snapshot document; see `priority.reading` for what is refused. `Invalid` names the path."""
        read = reading.read(document)
        snapshot = cls(read.tiers, read.policy, read.now_us)
        for node in read.nodes:
            snapshot.put_node(node)
        for name, rules in read.roles.items():
            snapshot.put_role(name, rules.weight, rules.quota, rules.users)
        for claim in read.tasks:
            snapshot.put_task(claim)
        snapshot.put_past(read.past)
        return snapshot

    def document(self) -> dict[str, Any]:
        """Back to plain JSON; `parse` of it is the same snapshot."""
        nodes, tasks = tuple(self.nodes()), tuple(self.tasks())
        return reading.write(Reading(self.now_us, self.tiers, nodes, self._roles, tasks, self.policy, self.past))

    # --- events ---

    def put_node(self, node: Node) -> None:
        """Insert a node, or replace the one of that name with all that it holds."""
        self._dropped.discard(node.name)
        self._set_node(node)

    def drop_node(self, name: str) -> None:
        """Forget a node; while tasks are on it, it stays as a down one."""
        node = self._nodes[name]
        if self._anybody(name):
            self._set_node(replace(node, state=NodeState.DOWN))
            self._dropped.add(name)
        else:
            self._forget_node(name)

    def put_role(
        self,
        name: str,
        weight: float = 1.0,
        quota: Quotas | None = None,
        users: Mapping[str, Quotas] | None = None,
    ) -> None:
        """Set a role's weight (> 0), its quotas by tier, and those of its users; all that it had before is replaced."""
        if isinstance(weight, bool) or not 0 < weight <= reading.WEIGHT_MAX:
            raise Invalid(f"roles.{name}.weight", f"must be greater than 0, and at most {reading.WEIGHT_MAX:g}")
        self._roles[name] = RoleRules(weight, dict(quota or {}), dict(users or {}))

    def drop_role(self, name: str) -> None:
        """Back to weight 1 and no quota; its tasks stay."""
        self._roles.pop(name, None)

    def put_past(self, past: Past) -> None:
        """What the budgets of policy count from before, all anew."""
        self.past = past

    def put_task(self, claim: Claim) -> None:
        """Insert a task, or replace the one of that id. `Invalid` if its tier or its node is not known."""
        if claim.tier not in self.tiers:
            raise Invalid("tier", f"{claim.tier!r} is not a tier; there are {', '.join(sorted(self.tiers))}")
        if (claim.state == PENDING) != (claim.node is None) or (
            claim.node is not None and claim.node not in self._nodes
        ):
            raise Invalid("node", f"task {claim.id} is {claim.state} and on node {claim.node!r}")
        if claim.id in self._apart or self._planes.stock.place(claim.id) >= 0:
            self._replace(claim)
        if len(claim.constraints) > 1:
            claim = replace(claim, constraints=reading.canonical(claim.constraints))
        if self._jobs is not None:
            self._jobs[claim.job] = _with(self._jobs.get(claim.job, ()), claim.id)
        if claim.node is None:
            self._apart[claim.id] = claim
            self._pending[claim.id] = claim
            self._alike_to(claim)[claim.id] = claim
            self._gangs += claim.gang is not None
            if claim.constraints and _limits(claim):
                self._limited[claim.role, claim.job] += 1
            return
        if claim.state in DYING:
            self._dying[claim.id] = claim
        if claim.preempted_us:
            self._preempted[claim.id] = claim
        self._hold(claim, 1)

    def _alike_to(self, claim: Claim) -> dict[str, Claim]:
        """The pending tasks of its kind: mostly the one that came before it is one of them."""
        last = self._last
        if last is not None and last[0] is claim.request and last[1] == claim.constraints:
            return last[2]
        self._planes.columns(claim.request)
        found = self._kinds.setdefault(_kind(claim), {})
        self._last = claim.request, claim.constraints, found
        return found

    def _replace(self, claim: Claim) -> None:
        """Drop a task that comes again at once: a dropped node on which it is alone is not forgotten meanwhile."""
        stays = self._dropped & {claim.node}
        self._dropped -= stays
        self.drop_task(claim.id)
        self._dropped |= stays

    def move_task(
        self,
        id: str,
        *,
        state: str,
        node: str | None = None,
        since_us: int | None = None,
        kept_for: str | None = None,
    ) -> None:
        """A task's new state. Without `node` it stays on its own (pending: leaves it); so does its `since_us`."""
        claim = self._known(id)
        where = None if state == PENDING else node if node is not None else claim.node
        since = claim.since_us if since_us is None else since_us
        self.put_task(claim.moved(state, where, since, kept_for))

    def drop_task(self, id: str) -> None:
        """Forget a task that has ended: it holds nothing any more."""
        claim = self._apart.get(id)
        if claim is None:
            self._leave(id)
            return
        if self._jobs is not None:
            self._leave_job(claim.job, claim.id)
        if claim.node is None:
            del self._apart[id], self._pending[id]
            self._waits_no_more(claim)
            return
        self._dying.pop(id, None)
        self._preempted.pop(id, None)
        self._hold(claim, -1)
        self._leave_node(claim.node)

    def _leave(self, id: str) -> None:
        """One that holds room; to make a claim of it would cost more than all the rest."""
        job, row, kind = self._planes.release(id)
        self._gone.append(kind)
        if len(self._gone) == GONE_MAX:
            self._discount()
        if self._jobs is not None:
            self._leave_job(job, id)
        if self._dying:
            self._dying.pop(id, None)
        if self._preempted:
            self._preempted.pop(id, None)
        if self._dropped:
            self._leave_node(self._planes.stock.nodes[row])

    def _leave_job(self, job: str, id: str) -> None:
        assert self._jobs is not None
        others = self._jobs[job] = _without(self._jobs[job], id)
        if not others:
            del self._jobs[job]

    def _leave_node(self, node: str) -> None:
        """One is no longer on a node; that was dropped while there was somebody."""
        if node in self._dropped and not self._anybody(node):
            self._forget_node(node)

    def _anybody(self, node: str) -> bool:
        return bool(self._stranded.get(node) or self._planes.places_on(node))

    def _waits_no_more(self, claim: Claim) -> None:
        kind = _kind(claim)
        del self._kinds[kind][claim.id]
        if not self._kinds[kind]:
            del self._kinds[kind]
            self._last = None
        self._gangs -= claim.gang is not None
        if claim.constraints and _limits(claim):
            self._limited[claim.role, claim.job] -= 1
            if not self._limited[claim.role, claim.job]:
                del self._limited[claim.role, claim.job]

    # --- questions ---

    def task(self, id: str) -> Claim | None:
        """One task, None if there is none of that id."""
        claim = self._apart.get(id)
        return self._planes.stock.claim(id) if claim is None else claim

    def _known(self, id: str) -> Claim:
        claim = self.task(id)
        if claim is None:
            raise KeyError(id)
        return claim

    def tasks(self) -> Iterator[Claim]:
        """Every task, in no fixed order."""
        yield from self._apart.values()
        yield from (claim for claim in self._planes.stock.claims if claim is not None)

    def pending(self) -> Iterator[Claim]:
        """Every task that waits for a node, in no fixed order."""
        return iter(self._pending.values())

    def dying(self) -> Iterator[Claim]:
        """Every task on its way out, in no fixed order."""
        return iter(self._dying.values())

    def preempted(self) -> Iterator[Claim]:
        """Every task on a node that was preempted lately, in no fixed order."""
        return iter(self._preempted.values())

    def tasks_on(self, node: str) -> Iterator[Claim]:
        """Every task on a node, in no fixed order."""
        return map(self._known, self.ids_on(node))

    def ids_on(self, node: str) -> Iterator[str]:
        """The ids of the same."""
        there = self._planes.places_on(node)
        return iter([*map(self._planes.stock.id, there), *self._stranded.get(node, ())])

    def tasks_of(self, role: str, job: str) -> Iterator[Claim]:
        """Every task of a job, in no fixed order."""
        if self._jobs is None:
            self._jobs = {}
            for id, name in chain(((one.id, one.job) for one in self._apart.values()), self._planes.stock.jobs()):
                self._jobs[name] = _with(self._jobs.get(name, ()), id)
        return (claim for claim in map(self._known, self._jobs.get(job, ())) if claim.role == role)

    def node(self, name: str) -> Node | None:
        """One node, None if there is none of that name."""
        return self._nodes.get(name)

    def nodes(self) -> Iterator[Node]:
        """Every node, in no fixed order."""
        return iter(self._nodes.values())

    def role(self, name: str) -> RoleRules:
        """A role's weight and quotas; weight 1 and none if it was never put."""
        return self._roles.get(name, _NOBODY)

    def roles(self) -> Mapping[str, RoleRules]:
        """Every role that was put."""
        return self._roles

    def held(self, role: str, tier: str | None = None, user: str | None = None) -> Mapping[str, int]:
        """What a role's tasks hold: of all tiers, of one, or of one user in it (dying ones until they are gone)."""
        if self._gone:
            self._discount()
        key = tuple(part for part in (role, tier, user) if part is not None)
        return self._held.get(key, {})

    def size(self) -> Mapping[str, int]:
        """What all nodes that are up have together."""
        return self._size

    def waiting(self) -> int:
        """How many tasks wait for a node."""
        return len(self._pending)

    def kinds(self) -> Mapping[Kind, dict[str, Claim]]:
        """Pending tasks by what they ask for and their constraints, and then by id; to be read only."""
        return self._kinds

    def gangs(self) -> int:
        """How many pending tasks are of gangs."""
        return self._gangs

    def limited(self) -> Collection[tuple[str, str]]:
        """Jobs (role, job) with a pending task that brings a limit."""
        return self._limited.keys()

    # --- planes, for the engine ---

    def axis(self) -> tuple[str, ...]:
        """The resources that any node or task was ever seen with, by name: the last axis of every plane."""
        return self._planes.axis()

    def settled(self) -> Planes:
        """The planes themselves, to be read only: rows by node name and columns by resource name."""
        self._planes.settle()
        return self._planes

    def planes(self) -> tuple[Plane, Plane, Plane]:
        """Copies, nodes by name and resources by name: capacity, what all hold, what the dying ones of them hold."""
        capacity, holds, leaves = self.settled().copies()
        return capacity.copy(), holds, leaves

    # --- upkeep ---

    def _set_node(self, node: Node) -> None:
        name = node.name
        claims = list(self.tasks_on(name))
        for claim in claims:
            self._hold(claim, -1)
        former = self._nodes.get(name)
        if former is not None and former.state == NodeState.UP:
            _add(self._size, former.capacity, -1)
        if node.state == NodeState.UP:
            _add(self._size, node.capacity, 1)
        self._nodes[name] = self._sharing(node)
        self._planes.put_node(node)
        for claim in claims:
            self._hold(claim, 1)

    def _sharing(self, node: Node) -> Node:
        """The same, and what it has in common with others is kept once."""
        if len(self._alike) >= ALIKE_MAX:
            self._alike.clear()
        capacity, attributes = (
            self._alike.setdefault((*one.items(),), one) for one in (node.capacity, node.attributes)
        )
        if capacity is node.capacity and attributes is node.attributes:
            return node
        return replace(node, capacity=capacity, attributes=attributes)

    def _forget_node(self, name: str) -> None:
        self._dropped.discard(name)
        node = self._nodes.pop(name)
        if node.state == NodeState.UP:
            _add(self._size, node.capacity, -1)
        self._stranded.pop(name, None)
        self._planes.forget_node(name)

    def _hold(self, claim: Claim, sign: int) -> None:
        node = claim.node
        if node is None:
            return
        if self._nodes[node].state is NodeState.DOWN:
            self._planes.columns(claim.request)
            if sign > 0:
                self._apart[claim.id] = claim
                self._stranded.setdefault(node, {})[claim.id] = None
            else:
                self._apart.pop(claim.id, None)
                self._stranded.get(node, {}).pop(claim.id, None)
            return
        self._count(claim.role, claim.tier, claim.user, claim.request, sign)
        if sign > 0:
            self._planes.hold(claim, node)
        else:
            self._planes.release(claim.id)

    def _discount(self) -> None:
        """What those that are gone held counts no longer: once for all that were alike."""
        gone = self._gone
        self._gone = []
        alike = {id(kind): kind for kind in gone}
        for key, times in Counter(map(id, gone)).items():
            tier, role, user, *_, request = alike[key]
            self._count(role, tier, user, request, -times)

    def _count(self, role: str, tier: str, user: str, request: Resources, sign: int) -> None:
        """What a task holds counts, or counts no longer, for its role, in its tier, and for its user."""
        owner = role, tier, user
        mine = self._holdings.get(owner)
        if mine is None:
            mine = self._holdings[owner] = tuple(self._held.setdefault(owner[:size], {}) for size in (1, 2, 3))
        of_role, of_tier, of_user = mine
        for name, amount in request.items():
            change = sign * amount
            of_role[name] = of_role.get(name, 0) + change
            of_tier[name] = of_tier.get(name, 0) + change
            of_user[name] = of_user.get(name, 0) + change


def _with(group: _Group, id: str) -> _Group:
    if isinstance(group, tuple):
        more = (*group, id)
        return more if len(more) <= _FEW else dict.fromkeys(more)
    group[id] = None
    return group


def _without(group: _Group, id: str) -> _Group:
    if isinstance(group, tuple):
        at = group.index(id)
        return group[:at] + group[at + 1 :]
    del group[id]
    return group


def _kind(claim: Claim) -> Kind:
    return tuple(sorted(claim.request.items())), claim.constraints


def _limits(claim: Claim) -> bool:
    return any(one.limit is not None for one in claim.constraints)


def _add(total: Resources, vector: Mapping[str, int], sign: int) -> None:
    for name, amount in vector.items():
        total[name] = total.get(name, 0) + sign * amount
