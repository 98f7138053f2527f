"""The snapshot's upkeep: whatever has happened to it, it is as one made anew from what there is now.

A hypothesis state machine keeps three: one that is told each event as it comes, one that is told only what has come of
many (bulk), and at each look one made from nothing. All that can be asked of them is the same, and so is the plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from priority import stock
from priority.claim import DYING, PENDING, STATES, Claim
from priority.constraint import Constraint
from priority.node import Node, NodeState
from priority.plan import make_plan
from priority.reading import canonical
from priority.snapshot import Snapshot

NODES, TASKS = [f"n{index}" for index in range(4)], [f"t{index}" for index in range(8)]
ROLES, USERS, JOBS = ["a", "b"], ["u", "v"], ["x", "y"]
TIERS = ["prod", "devel", "opportunistic"]
RESOURCES = ["cpus", "mem", "gpus", "fpgas", "aaa"]

amounts = st.dictionaries(st.sampled_from(RESOURCES), st.integers(1, 4), max_size=3)
nodes = st.builds(
    Node,
    name=st.sampled_from(NODES),
    capacity=st.dictionaries(st.sampled_from(RESOURCES), st.integers(1, 9), max_size=4),
    attributes=st.dictionaries(st.just("rack"), st.sampled_from(["r1", "r2"])),
    state=st.sampled_from([NodeState.UP, NodeState.UP, NodeState.DRAINING, NodeState.DOWN]),
)
LIMITED = Constraint("rack", limit=1)
SEVERAL = canonical((Constraint("host", limit=2), Constraint("rack", within=frozenset(["r1"]))))
constraints = st.sampled_from([(), (), (LIMITED,), SEVERAL])
claims = st.builds(
    Claim,
    id=st.sampled_from(TASKS),
    job=st.sampled_from(JOBS),
    role=st.sampled_from(ROLES),
    user=st.sampled_from(USERS),
    tier=st.sampled_from(TIERS),
    priority=st.integers(-1, 2),
    request=amounts,
    since_us=st.integers(0, 3),
    constraints=constraints,
    gang=st.sampled_from([None, None, "g"]),
)
places = st.tuples(st.sampled_from(STATES), st.sampled_from(NODES), st.sampled_from([None, *TASKS]))


PHASES = (Phase.generate, Phase.shrink)  # to explain a failure takes minutes


class Upkeep(RuleBasedStateMachine):
    few = stock.FEW

    def __init__(self) -> None:
        super().__init__()
        self._former, stock.FEW = stock.FEW, self.few
        self.one, self.bulk = Snapshot(now_us=10), Snapshot(now_us=10)
        self.nodes: dict[str, Node] = {}
        self.dropped: set[str] = set()
        self.claims: dict[str, Claim] = {}
        self.told: dict[str, Claim] = {}
        """What the bulk one has been told of tasks."""

    # --- events ---

    @rule(node=nodes)
    def put_node(self, node: Node) -> None:
        self.one.put_node(node)
        self.nodes[node.name] = node
        self.dropped.discard(node.name)

    @precondition(lambda self: self.nodes.keys() - self.dropped)
    @rule(data=st.data())
    def drop_node(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.nodes.keys() - self.dropped)))
        self.one.drop_node(name)
        self.dropped.add(name)
        self.nodes[name] = replace(self.nodes[name], state=NodeState.DOWN)
        self._forget()

    @rule(claim=claims, place=places)
    def put_task(self, claim: Claim, place: tuple[str, str, str | None]) -> None:
        claim = self._placed(claim, *place)
        self.one.put_task(claim)
        self.claims[claim.id] = claim
        self._forget()

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), place=places, since_us=st.integers(0, 9))
    def move_task(self, data: st.DataObject, place: tuple[str, str, str | None], since_us: int) -> None:
        claim = self.claims[data.draw(st.sampled_from(sorted(self.claims)))]
        moved = self._placed(replace(claim, since_us=since_us), *place)
        self.one.move_task(claim.id, state=moved.state, node=moved.node, since_us=since_us, kept_for=moved.kept_for)
        self.claims[claim.id] = moved
        self._forget()

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def drop_task(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(sorted(self.claims)))
        self.one.drop_task(id)
        del self.claims[id]
        self._forget()

    @rule(role=st.sampled_from(ROLES), weight=st.sampled_from([0.5, 1.0, 2.0]), quota=amounts, user=amounts)
    def put_role(self, role: str, weight: float, quota: dict[str, int], user: dict[str, int]) -> None:
        for snapshot in (self.one, self.bulk):
            snapshot.put_role(role, weight, {"devel": quota}, {"u": {"devel": user}})

    @rule(role=st.sampled_from(ROLES))
    def drop_role(self, role: str) -> None:
        for snapshot in (self.one, self.bulk):
            snapshot.drop_role(role)

    def _placed(self, claim: Claim, state: str, node: str, kept_for: str | None) -> Claim:
        if state == PENDING or node not in self.nodes:
            return replace(claim, state=PENDING, node=None, kept_for=None)
        return replace(claim, state=state, node=node, kept_for=kept_for if state in DYING else None)

    def _forget(self) -> None:
        """A node that was dropped is gone with the last task on it."""
        for name in self.dropped - {claim.node for claim in self.claims.values()}:
            del self.nodes[name]
            self.dropped.discard(name)

    # --- looking ---

    @rule()
    def look(self) -> None:
        """At times only: in between the bulk one is told nothing, and rows are not settled."""
        self._tell_bulk()
        anew = Snapshot(now_us=10)
        for node in self.nodes.values():
            anew.put_node(node)
        for name, rules in self.one.roles().items():
            anew.put_role(name, rules.weight, rules.quota, rules.users)
        for claim in self.claims.values():
            anew.put_task(claim)
        expected = everything(anew)
        assert everything(self.one) == expected
        assert everything(self.bulk) == expected
        assert plan(self.one) == plan(self.bulk) == plan(anew)
        assert everything(self.one) == expected  # planning has changed nothing

    def teardown(self) -> None:
        try:
            self.look()
        finally:
            stock.FEW = self._former

    def _tell_bulk(self) -> None:
        bulk = self.bulk
        for id in self.told.keys() - self.claims.keys():
            bulk.drop_task(id)
        for node in self.nodes.values():
            if bulk.node(node.name) != node:
                bulk.put_node(node)
        for id, claim in self.claims.items():
            if self.told.get(id) != claim:
                bulk.put_task(claim)
        for node in [*bulk.nodes()]:
            if node.name not in self.nodes or (node.name in self.dropped and node.name not in bulk._dropped):
                bulk.drop_node(node.name)
        self.told = dict(self.claims)

    @invariant()
    def the_same_tasks(self) -> None:
        assert {claim.id: claim for claim in self.one.tasks()} == self.claims
        assert {node.name: node for node in self.one.nodes()} == self.nodes


def plan(snapshot: Snapshot) -> Mapping[str, Any]:
    document = make_plan(snapshot).document()
    return document | {"wait": [(one["task"], one["reason"]["code"]) for one in document["wait"]]}


def everything(snapshot: Snapshot) -> dict[str, Any]:
    """All that can be asked, in an order of its own, without what is zero."""
    document = snapshot.document()
    document["nodes"].sort(key=lambda one: one["name"])
    document["tasks"].sort(key=lambda one: one["id"])
    document["roles"] = {name: document["roles"][name] for name in sorted(document["roles"])}
    names = [node.name for node in snapshot.nodes()]
    owners = [
        (role, *rest)
        for role in ROLES
        for rest in [(), *((tier,) for tier in TIERS), *((tier, user) for tier in TIERS for user in USERS)]
    ]
    return {
        "document": document,
        "pending": sorted(claim.id for claim in snapshot.pending()),
        "dying": sorted(claim.id for claim in snapshot.dying()),
        "on": {name: sorted(claim.id for claim in snapshot.tasks_on(name)) for name in names},
        "of": {key: sorted(claim.id for claim in snapshot.tasks_of(*key)) for key in _jobs()},
        "held": {owner: _some(snapshot.held(*owner)) for owner in owners},
        "size": _some(snapshot.size()),
        "limited": sorted(snapshot.limited()),
        "planes": _planes(snapshot),
        "stock": _stock(snapshot),
        "levels": _levels(snapshot),
    }


def _jobs() -> list[tuple[str, str]]:
    return [(role, job) for role in ROLES for job in JOBS]


def _some(amounts: Mapping[str, int]) -> dict[str, int]:
    return {name: amount for name, amount in sorted(amounts.items()) if amount}


def _planes(snapshot: Snapshot) -> dict[str, Any]:
    settled, axis = snapshot.settled(), snapshot.axis()
    assert list(settled.names) == sorted(settled.names)
    assert list(axis) == sorted(axis)
    planes = [plane.tolist() for plane in settled.copies()]
    return {
        name: [bool(settled.up()[row]), *(_some(dict(zip(axis, plane[row], strict=True))) for plane in planes)]
        for row, name in enumerate(settled.names)
    }


def _stock(snapshot: Snapshot) -> dict[str, Any]:
    settled, axis = snapshot.settled(), snapshot.axis()
    stock = settled.stock
    codes = {code: owner for owner, code in stock.owners.items()}
    found = {
        claim.id: (
            settled.names[stock.row[place]],
            int(stock.rank[place]),
            int(stock.priority[place]),
            int(stock.since[place]),
            codes[int(stock.owner[place])],
            _some(dict(zip(axis, stock.request[place].tolist(), strict=False))),
            bool(stock.live[place]),
            int(stock.soft[place]),
        )
        for place, claim in enumerate(stock.claims)
        if claim is not None
    }
    for id, row in found.items():  # made anew it would be wrong in the same way, so against the task itself
        claim = snapshot.task(id)
        assert claim is not None
        rank = snapshot.tiers[claim.tier].rank
        told = claim.node, rank, claim.priority, claim.since_us, (claim.tier, claim.role), _some(claim.request)
        assert row[:6] == told
    return found


def _levels(snapshot: Snapshot) -> dict[tuple[int, int], dict[str, dict[str, int]]]:
    settled, axis = snapshot.settled(), snapshot.axis()
    found = {}
    for level, plane in (settled.stock.levels or {}).items():
        rows = {
            name: _some(dict(zip(axis, plane[row].tolist(), strict=False))) for row, name in enumerate(settled.names)
        }
        held = {name: some for name, some in rows.items() if some}
        if held:
            found[level] = held
    return found


class UpkeepAtOnce(Upkeep):
    """With all that came brought into the columns at once, however little it is."""

    few = 0


TestUpkeepAtOnce = UpkeepAtOnce.TestCase
TestUpkeepAtOnce.settings = settings(
    derandomize=True, deadline=None, database=None, max_examples=60, stateful_step_count=30, phases=PHASES
)

TestUpkeep = Upkeep.TestCase
TestUpkeep.settings = settings(
    derandomize=True, deadline=None, database=None, max_examples=100, stateful_step_count=30, phases=PHASES
)
