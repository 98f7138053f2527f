"""Rounds on record: what each was decided from and what was decided, so that it can be decided again, byte for byte.

A recording is JSON lines, one round each. The first holds a whole snapshot document (see `reading`); each later one
only what has changed since the round before it, and what is gone:

    {"round": 1, "snapshot": {"now": ..., "nodes": [...], "tiers": ..., "tasks": [...], ...}, "plan": {...}}
    {"round": 2, "changes": {"now": ..., "tasks": [...]}, "gone": {"tasks": {"a-1": "..."}}, "plan": {...}}

Of a task that is gone it tells when (as of the last look at the clock: rounds are made only while somebody waits).

`Watched` notes what changes, at the price of a set's insertion; `Script` writes lines; `Stage` reads them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from priority import reading
from priority.claim import Claim
from priority.errors import Invalid
from priority.node import Node
from priority.plan import Plan
from priority.policy import NOTHING, Past
from priority.reading import Quotas, Reading, RoleRules
from priority.snapshot import Snapshot
from priority.tier import DEFAULT_TIERS, Tier

_V = TypeVar("_V")


@dataclass(frozen=True, slots=True)
class Changes:
    """What is otherwise than at the round before; None: it is gone. `whole`: all there is, from nothing."""

    now_us: int
    tiers: Mapping[str, Tier]
    policy: Mapping[str, Any]
    nodes: Mapping[str, Node | None]
    roles: Mapping[str, RoleRules | None]
    tasks: Mapping[str, Claim | None]
    gone_us: Mapping[str, int]
    """When each task went that is gone."""
    whole: bool
    past: Past = NOTHING


class Watched(Snapshot):
    """A snapshot that knows what has changed since it was last asked."""

    def __init__(
        self, tiers: Mapping[str, Tier] = DEFAULT_TIERS, policy: Mapping[str, Any] | None = None, now_us: int = 0
    ) -> None:
        super().__init__(tiers, policy, now_us)
        self._touched_nodes: set[str] = set()
        self._touched_roles: set[str] = set()
        self._touched_tasks: set[str] = set()
        self._gone_us: dict[str, int] = {}
        self._whole = True

    def put_node(self, node: Node) -> None:
        """See Snapshot."""
        self._touched_nodes.add(node.name)
        super().put_node(node)

    def drop_node(self, name: str) -> None:
        """See Snapshot."""
        self._touched_nodes.add(name)
        super().drop_node(name)

    def put_role(
        self,
        name: str,
        weight: float = 1.0,
        quota: Quotas | None = None,
        users: Mapping[str, Quotas] | None = None,
    ) -> None:
        """See Snapshot."""
        self._touched_roles.add(name)
        super().put_role(name, weight, quota, users)

    def drop_role(self, name: str) -> None:
        """See Snapshot."""
        self._touched_roles.add(name)
        super().drop_role(name)

    def put_task(self, claim: Claim) -> None:
        """See Snapshot."""
        self._touched_tasks.add(claim.id)
        super().put_task(claim)

    def drop_task(self, id: str) -> None:
        """See Snapshot."""
        claim = self.task(id)
        super().drop_task(id)
        self._touched_tasks.add(id)
        self._gone_us[id] = self.now_us
        if claim is not None and claim.node is not None and self.node(claim.node) is None:
            self._touched_nodes.add(claim.node)  # a node that was dropped, and forgotten with its last task

    def all_anew(self) -> None:
        """The next changes are everything: whoever keeps the record has lost some."""
        self._whole = True
        self._forget()

    def _forget(self) -> None:
        self._touched_nodes, self._touched_roles, self._touched_tasks = set(), set(), set()
        self._gone_us = {}

    def changes(self) -> Changes:
        """Since the last call; the first tells everything."""
        whole, self._whole = self._whole, False
        if whole:
            self._touched_nodes = {node.name for node in self.nodes()}
            self._touched_roles = set(self.roles())
            self._touched_tasks = {claim.id for claim in self.tasks()}
        roles = self.roles()
        tasks = {id: self.task(id) for id in self._touched_tasks}
        found = Changes(
            self.now_us,
            self.tiers,
            self.policy,
            {name: self.node(name) for name in self._touched_nodes},
            {name: roles.get(name) for name in self._touched_roles},
            tasks,
            {id: self._gone_us.get(id, self.now_us) for id, claim in tasks.items() if claim is None},
            whole,
            self.past,
        )
        self._forget()
        return found


class Script:
    """Keeps up a copy of what has been told, so that a recording can begin anew at any round."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._roles: dict[str, RoleRules] = {}
        self._tasks: dict[str, Claim] = {}
        self._rules: tuple[Any, Any] = (None, None)
        self._past: Past = NOTHING

    def line(self, number: int, changes: Changes, plan: Plan, *, first: bool) -> dict[str, Any]:
        """One round, as plain JSON; `first`: of its recording, so with the whole snapshot."""
        if changes.whole:
            self._nodes, self._roles, self._tasks = {}, {}, {}
        _merge(self._nodes, changes.nodes)
        _merge(self._roles, changes.roles)
        _merge(self._tasks, changes.tasks)
        rules = (dict(changes.tiers), dict(changes.policy))
        first = first or changes.whole or rules != self._rules
        self._rules = rules
        aged, self._past = changes.past != self._past, changes.past
        if first:
            whole = self._document(changes, self._nodes, self._roles, self._tasks)
            return {"round": number, "snapshot": whole, "plan": plan.document()}
        nodes, no_nodes = _split(changes.nodes)
        roles, no_roles = _split(changes.roles)
        tasks, no_tasks = _split(changes.tasks)
        part = self._document(changes, nodes, roles, tasks)
        kept = {name: part[name] for name in ("now", "nodes", "roles", "tasks") if part[name]}
        if aged:
            kept["history"] = changes.past.document()
        when = {id: reading.show_time(changes.gone_us[id]) for id in no_tasks}
        gone = {name: names for name, names in (("nodes", no_nodes), ("roles", no_roles), ("tasks", when)) if names}
        return {"round": number, "changes": kept, "gone": gone, "plan": plan.document()}

    @staticmethod
    def _document(
        changes: Changes, nodes: Mapping[str, Node], roles: Mapping[str, RoleRules], tasks: Mapping[str, Claim]
    ) -> dict[str, Any]:
        parts = tuple(nodes.values()), dict(roles), tuple(tasks.values())
        return reading.write(Reading(changes.now_us, changes.tiers, *parts, changes.policy, changes.past))


class Stage:
    """A recording, played line by line: `snapshot` is what the last line's round was decided from.

    `rules` (tiers, roles, policy, as in a snapshot document) stand in place of what was recorded, name by name.
    """

    def __init__(self, rules: Mapping[str, Any] | None = None) -> None:
        self.snapshot = Snapshot()
        self._rules = dict(rules or {})
        self._roles = set(self._rules.get("roles", ()))
        self._began = False

    def play(self, line: Any) -> Snapshot:
        """Apply one line. `Invalid` names what is wrong with it."""
        if not isinstance(line, Mapping) or not ("snapshot" in line or "changes" in line) or "plan" not in line:
            raise Invalid("line", "must be an object with round, plan, and snapshot or changes")
        if "snapshot" in line:
            self.snapshot = Snapshot.parse(self._overruled(line["snapshot"]))
            self._began = True
        elif not self._began:
            raise Invalid("snapshot", "is missing: the recording does not begin with a whole one")
        else:
            self._change(line["changes"], line.get("gone", {}))
        return self.snapshot

    def _overruled(self, document: Any) -> Any:
        if not isinstance(document, Mapping) or not self._rules:
            return document
        usual = {"tiers": _plain_tiers(DEFAULT_TIERS)}
        merged = {name: {**document.get(name, usual.get(name, {})), **rules} for name, rules in self._rules.items()}
        return {**document, **merged}

    def _change(self, changes: Mapping[str, Any], gone: Mapping[str, Any]) -> None:
        snapshot = self.snapshot
        given = {node["name"] for node in changes.get("nodes", ())}
        named = {task["node"] for task in changes.get("tasks", ()) if task["node"] is not None}
        # a part of a snapshot names nodes that are not in it
        stubs = [{"name": name, "capacity": {}} for name in sorted(named - given)]
        part = {
            "tasks": [],
            **changes,
            "nodes": [*changes.get("nodes", ()), *stubs],
            "tiers": _plain_tiers(snapshot.tiers),
        }
        parsed = Snapshot.parse(part)
        snapshot.now_us = parsed.now_us
        if "history" in changes:
            snapshot.put_past(parsed.past)
        for node in parsed.nodes():
            if node.name in given:
                snapshot.put_node(node)
        for name, rules in parsed.roles().items():
            if name not in self._roles:
                snapshot.put_role(name, rules.weight, rules.quota, rules.users)
        for id in gone.get("tasks", ()):
            if snapshot.task(id) is not None:
                snapshot.drop_task(id)
        for claim in parsed.tasks():
            snapshot.put_task(claim)
        for name in gone.get("roles", ()):
            if name not in self._roles:
                snapshot.drop_role(name)
        for name in gone.get("nodes", ()):
            if snapshot.node(name) is not None:
                snapshot.drop_node(name)


def as_bytes(plan: Any) -> str:
    """A plan document, as `priority plan` prints it: what has to be reproduced byte for byte."""
    return json.dumps(plan)


def _plain_tiers(tiers: Mapping[str, Tier]) -> dict[str, Any]:
    return {name: {"rank": tier.rank, "preemptible": tier.preemptible} for name, tier in tiers.items()}


def _merge(kept: dict[str, _V], changes: Mapping[str, _V | None]) -> None:
    for name, value in changes.items():
        if value is None:
            kept.pop(name, None)
        else:
            kept[name] = value


def _split(changes: Mapping[str, _V | None]) -> tuple[dict[str, _V], list[str]]:
    there = {name: value for name, value in changes.items() if value is not None}
    return there, sorted(changes.keys() - there.keys())
