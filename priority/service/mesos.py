"""What an operator does with the Mesos cluster that our tasks run on: look, drain, weight, quota.

Asked of the leading master itself, by Mesos' operator API and under our principal: what Mesos lets that one do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from priority.backend.mesos import STANDING
from priority.backend.mesos_known import mesos_id
from priority.backend.mesos_line import Lost, Masters
from priority.backend.mesos_operator import AgentFacts, Operator
from priority.backend.mesos_tasks import duration
from priority.errors import Invalid, NotFound, PriorityError, Unavailable
from priority.ports import Store
from priority.resources import Resources, minus, plain, positive, total
from priority.service.settings import Settings
from priority.store import open_store
from priority.task import PLACED


@dataclass(frozen=True, slots=True)
class AgentView:
    """An agent of the cluster: who holds what of it. Held units."""

    node: str
    facts: AgentFacts
    ours: Resources

    @property
    def others(self) -> Resources:
        """What other frameworks hold."""
        return positive(minus(self.facts.used, self.ours))

    def plain(self) -> dict[str, Any]:
        """As JSON, in the users' units."""
        return {
            "node": self.node,
            "agent": self.facts.id,
            "host": self.facts.host,
            "active": self.facts.active,
            "capacity": plain(self.facts.whole),
            "ours": plain(self.ours),
            "others": plain(self.others),
            "offered": plain(self.facts.offered),
        }


class MesosCluster:
    """The verbs. `Unavailable` if no master answers, or it refuses."""

    def __init__(self, operator: Operator, store: Store, role: str) -> None:
        self._operator = operator
        self._store = store
        self._role = role

    def close(self) -> None:
        """Let go of connections."""
        self._operator.close()
        self._store.close()

    def agents(self) -> list[AgentView]:
        """Every agent that is registered, by the name of its node."""
        found = self._agents()
        with self._store.read() as reader:
            names = {record.agent: record.node.name for record in reader.nodes()}
            placed = [
                task for task in reader.active_tasks() if task.state in PLACED and mesos_id(task.agent or "") in found
            ]
            jobs = reader.jobs_of({task.job for task in placed})
        held: dict[str, list[Resources]] = {}
        for task in placed:
            held.setdefault(mesos_id(task.agent or ""), []).append(dict(jobs[task.job].spec.resources))
        views = [AgentView(names.get(id, one.host), one, total(held.get(id, []))) for id, one in found.items()]
        return sorted(views, key=lambda view: view.node)

    def standing(self) -> dict[str, Any]:
        """What the driver of the leading scheduler has counted."""
        return noted(self._store)

    def drain(self, node: str, grace_s: float) -> None:
        """Mesos ends all tasks there, of every framework, and offers it to nobody until `reactivate`."""
        self._call("DRAIN_AGENT", agent_id={"value": self._agent(node)}, max_grace_period=duration(grace_s))

    def reactivate(self, node: str) -> None:
        """After a drain: it takes part again."""
        self._call("REACTIVATE_AGENT", agent_id={"value": self._agent(node)})

    def maintenance(self) -> list[Any]:
        """Of each machine with a window: when it begins (microseconds), how long it is, how far it is, and who has said
        that it has left.
        """
        status = (
            (self._ask({"type": "GET_MAINTENANCE_STATUS"}) or {}).get("get_maintenance_status", {}).get("status", {})
        )
        down = [one.get("hostname") for one in status.get("down_machines", [])]
        said = {one["id"].get("hostname"): one.get("statuses", []) for one in status.get("draining_machines", [])}
        found = []
        for window, machine in self._windows():
            host = machine.get("hostname", machine.get("ip", ""))
            length = window["unavailability"].get("duration")
            found.append({
                "host": host,
                "start_us": int(window["unavailability"]["start"]["nanoseconds"]) // 1000,
                "duration_s": None if length is None else int(length["nanoseconds"]) / 1e9,
                "state": "down" if host in down else "announced",
                "frameworks": {one["framework_id"]["value"]: one["status"].lower() for one in said.get(host, [])},
            })  # fmt: skip
        return found

    def announce(self, node: str, start_us: int, duration_s: float | None) -> None:
        """A machine goes down then: Mesos tells all frameworks, and ours leave it in time. Other windows stay."""
        machine = self._machine(node)
        unavailability: dict[str, Any] = {"start": {"nanoseconds": start_us * 1000}}
        if duration_s is not None:
            unavailability["duration"] = duration(duration_s)
        self._schedule([*self._others(machine), {"machine_ids": [machine], "unavailability": unavailability}])

    def call_off(self, node: str) -> None:
        """It does not go down after all."""
        self._schedule(self._others(self._machine(node)))

    def down(self, node: str) -> None:
        """Now it goes down, and its agent with it. `Unavailable` if no window was announced for it."""
        self._call("START_MAINTENANCE", machines=[self._machine(node)])

    def up(self, node: str) -> None:
        """It may come back: its agent is taken again when it is started. The window is over."""
        self._call("STOP_MAINTENANCE", machines=[self._machine(node)])

    def _windows(self) -> list[tuple[Any, Any]]:
        try:
            return [(window, machine) for window in self._operator.windows() for machine in window["machine_ids"]]
        except Lost as error:
            raise Unavailable(f"Mesos refuses, or does not answer: {error}") from None

    def _others(self, machine: Any) -> list[Any]:
        """Every window, of a machine each, but for this one's."""
        return [{**window, "machine_ids": [one]} for window, one in self._windows() if one != machine]

    def _schedule(self, windows: list[Any]) -> None:
        self._call("UPDATE_MAINTENANCE_SCHEDULE", schedule={"windows": windows})

    def _machine(self, node: str) -> Any:
        """Of a node, a host or an agent's id; one that is down is known by its window alone."""
        agents = self._agents()
        with self._store.read() as reader:
            ids = {record.node.name: record.agent for record in reader.nodes()}
        mine = {one.machine for one in agents.values() if node in (one.id, one.host) or one.id == ids.get(node)}
        if len(mine) == 1:
            ((host, ip),) = mine
            return {"hostname": host, "ip": ip}
        named = [machine for _, machine in self._windows() if machine.get("hostname") == node]
        if mine or len(named) != 1:
            raise NotFound(
                f"{'several machines are' if mine else 'no machine is'} called {node}; `priority mesos agents`"
            )
        return named[0]

    def gone(self, node: str) -> None:
        """It will never come back: Mesos then says so of each task that was there, which is the proof we wait for."""
        self._call("MARK_AGENT_GONE", agent_id={"value": self._agent(node)})

    def unreserve(self, node: str | None = None) -> int:
        """Give back what is kept for our role and no task holds, on a node or on all: on how many there was any."""
        wanted = None if node is None else self._agent(node)
        count = 0
        for id, facts in self._agents().items():
            pieces = facts.idle.get(self._role, [])
            if pieces and wanted in (None, id):
                resources = [piece.plain() for piece in pieces]
                self._call("UNRESERVE_RESOURCES", agent_id={"value": id}, resources=resources)
                count += 1
        return count

    def weight(self, weight: float | None = None) -> float:
        """Of our role, against others'; given one, it is set first."""
        if weight is not None:
            self._call("UPDATE_WEIGHTS", weight_infos=[{"role": self._role, "weight": weight}])
        infos = (self._ask({"type": "GET_WEIGHTS"}) or {}).get("get_weights", {}).get("weight_infos", [])
        return next((float(one["weight"]) for one in infos if one.get("role") == self._role), 1.0)

    def quota(self, limits: Mapping[str, float] | None = None, guarantees: Mapping[str, float] | None = None) -> Any:
        """Of our role: what Mesos guarantees it and what it is limited to; what is given is set first."""
        if limits is not None or guarantees is not None:
            config = {
                "role": self._role,
                "limits": {name: {"value": value} for name, value in (limits or {}).items()},
                "guarantees": {name: {"value": value} for name, value in (guarantees or {}).items()},
            }
            self._call("UPDATE_QUOTA", force=True, quota_configs=[config])
        status = (self._ask({"type": "GET_QUOTA"}) or {}).get("get_quota", {}).get("status", {})
        mine: dict[str, Any] = next((one for one in status.get("configs", []) if one.get("role") == self._role), {})
        return {
            "role": self._role,
            **{
                kind: {name: amount["value"] for name, amount in mine.get(kind, {}).items()}
                for kind in ("limits", "guarantees")
            },
        }

    def _agents(self) -> dict[str, AgentFacts]:
        try:
            return self._operator.agents(fresh=True)
        except Lost as error:
            raise Unavailable(f"Mesos does not answer: {error}") from None

    def _agent(self, node: str) -> str:
        """By the node's name, the host's, or its own id."""
        with self._store.read() as reader:
            named = {record.node.name: record.agent for record in reader.nodes()}
        if node in named:
            return mesos_id(named[node])
        found = [one.id for one in self._agents().values() if node in (one.id, one.host)]
        if len(found) != 1:
            raise NotFound(f"{'several agents are' if found else 'no agent is'} called {node}; `priority mesos agents`")
        return found[0]

    def _call(self, kind: str, **body: Any) -> None:
        self._ask({"type": kind, kind.lower(): body})

    def _ask(self, body: dict[str, Any]) -> Any:
        try:
            return self._operator.call(body)
        except Lost as error:
            raise Unavailable(f"Mesos refuses, or does not answer: {error}") from None


def noted(store: Store) -> dict[str, Any]:
    """What the scheduler that is on the cluster, or was last, has written down of itself."""
    with store.read() as reader:
        note = reader.note(STANDING)
    return dict(json.loads(note)) if note else {}


def contact(store: Store) -> str:
    """`ok`, or what is wrong between the leading scheduler and its master."""
    return "ok" if noted(store).get("connected") else "the master does not answer: what runs goes on, nothing begins"


def mesos_cluster(settings: Settings) -> MesosCluster:
    """Of these settings; if they name none, the one that our scheduler is on. `Invalid` if that is not known."""
    auth = (settings.mesos_principal, settings.mesos_secret) if settings.mesos_secret else None
    store = open_store(settings.database_url)
    try:
        master, role = settings.mesos_master, settings.mesos_role
        if not master and (last := noted(store)):
            master, role = last.get("masters", ""), last.get("role", role)
        if not master:
            raise Invalid("mesos_master", "is not set: name the Mesos master, such as http://HOST:5050")
        return MesosCluster(Operator(Masters(master), auth), store, role)
    except PriorityError:
        store.close()
        raise
