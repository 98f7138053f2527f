"""Questions to a master and its agents beside the scheduler API: which agents there are, and what a task has put out.

The master's `/slaves` and the agents' v1 API (READ_FILE): Mesos documentation, "HTTP endpoints", "Operator API".
What they answer is shown or used as a bound, never as a proof.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from priority.backend.mesos_line import REDIRECTS, Lost, Masters, client, redirected
from priority.offers import Piece, Pot, amounts_of, at_most, read_pieces, read_start, unreservable
from priority.resources import AMOUNT_MAX, NAME, THOUSANDTHS, Resources, total

ANSWER_S = 10.0
KEEP_S = 2.0
"""What the master said of its agents is not asked for again so soon."""


Machine = tuple[str, str]
"""A host's name and its address."""


@dataclass(frozen=True, slots=True)
class AgentFacts:
    """An agent as its master sees it."""

    id: str
    host: str
    port: int
    address: str
    """Of its own API."""
    active: bool
    attributes: dict[str, str]
    whole: Resources
    used: Resources
    offered: Resources
    roles: dict[str, Resources]
    """By role, what is held by it, offered to it or kept for it."""
    draining: bool
    """Mesos ends all tasks there, or has done so, and offers it to nobody."""
    idle: dict[str, list[Piece]]
    """By role, what a framework has kept for it and no task holds."""

    @property
    def machine(self) -> Machine:
        """As maintenance names it."""
        return self.host, httpx.URL(self.address).host

    def others(self, role: str) -> Resources:
        """What roles other than this have of it."""
        return total(amounts for name, amounts in self.roles.items() if name != role)


class Operator:
    """A client of the leading master and of agents."""

    def __init__(self, masters: Masters, auth: tuple[str, str] | None, *, answer_s: float = ANSWER_S) -> None:
        self._masters = masters
        self._client = client(auth, read_s=answer_s)
        self._agents: dict[str, AgentFacts] = {}
        self._agents_s = 0.0

    def close(self) -> None:
        """Let go of connections."""
        self._client.close()

    def get(self, path: str) -> Any:
        """The leading master's answer. `Lost` if there is none."""
        return self._ask("GET", path, None)

    def call(self, body: dict[str, Any]) -> Any:
        """A call of the operator API; None if its answer is empty."""
        return self._ask("POST", "/api/v1", body)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        errors = []
        for base in self._masters.candidates():
            for _ in range(REDIRECTS):
                try:
                    answer = self._client.request(
                        method, base + path, content=None if body is None else orjson.dumps(body), headers=_JSON
                    )
                    elsewhere = redirected(base, answer)
                    if elsewhere is not None:
                        base = elsewhere  # noqa: PLW2901  the next try of the same candidate
                        continue
                    if answer.status_code // 100 == 2:
                        return orjson.loads(answer.content) if answer.content else None
                    errors.append(f"{base}: {answer.status_code} {answer.text[:300]}")
                except (httpx.HTTPError, OSError, ValueError, RuntimeError) as error:
                    errors.append(f"{base}: {error or type(error).__name__}")
                break
        raise Lost("; ".join(errors) or "no master leads")

    def agents(self, *, fresh: bool = False) -> dict[str, AgentFacts]:
        """Every agent that is registered, by id. `Lost` if no master answers."""
        if fresh or time.monotonic() - self._agents_s > KEEP_S:
            found = self.get("/slaves")
            try:
                self._agents = {one.id: one for one in map(_agent, found["slaves"])}
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise Lost(f"the master's list of agents is not understood: {error!r}") from None
            self._agents_s = time.monotonic()
        return self._agents

    def maintenance(self) -> dict[Machine, int] | None:
        """When which machine is to go down; None: the master does not say. `Lost` if none answers."""
        try:
            found = {}
            for window in self.windows():
                for machine in window["machine_ids"]:
                    start_us = read_start(window["unavailability"])
                    if start_us is not None:
                        found[machine.get("hostname", ""), machine.get("ip", "")] = start_us
            return found
        except (Lost, KeyError, TypeError, ValueError, AttributeError):
            return None

    def windows(self) -> list[Any]:
        """Of the schedule of maintenance, as Mesos writes them. `Lost` if no master answers, or it may not say."""
        found = self.call({"type": "GET_MAINTENANCE_SCHEDULE"}) or {}
        return list(found.get("get_maintenance_schedule", {}).get("schedule", {}).get("windows", []))

    def sandbox(self, framework: str, task: str) -> str | None:
        """Where on its agent a member of a task group has its files, as far as the master remembers the task."""
        found = self.get(f"/tasks?framework_id={framework}&task_id={task}&limit=1")
        try:
            one = found["tasks"][0]
            container = one["statuses"][-1]["container_status"]["container_id"]
            if not container.get("parent"):  # its executor's, while it is not begun
                return None
            runs = f"/frameworks/{framework}/executors/{one['executor_id']}/runs"
            return f"{runs}/latest/containers/{container['value']}"
        except (KeyError, TypeError, IndexError, AttributeError):
            return None

    def read_file(self, agent: AgentFacts, path: str, offset: int, limit: int) -> tuple[int, bytes] | None:
        """(how long it is, data) of a file on an agent; None if there is none. `Lost` if the agent does not answer."""
        body = {"type": "READ_FILE", "read_file": {"path": path, "offset": offset, "length": limit}}
        try:
            answer = self._client.post(f"{agent.address}/api/v1", content=orjson.dumps(body), headers=_JSON)
            if answer.status_code in (400, 404):
                return None
            answer.raise_for_status()
            found = orjson.loads(answer.content)["read_file"]
            return int(found["size"]), base64.b64decode(found.get("data", ""))
        except (httpx.HTTPError, OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            raise Lost(f"agent {agent.host}: {error or type(error).__name__}") from None


_JSON = {"Accept": "application/json", "Content-Type": "application/json"}


def _agent(document: Any) -> AgentFacts:
    name, _, address = document["pid"].partition("@")
    return AgentFacts(
        id=str(document["id"]),
        host=str(document["hostname"]),
        port=int(document["port"]),
        address=f"http://{address}/{name}",
        active=bool(document["active"]),
        attributes={str(key): _plain(value) for key, value in document.get("attributes", {}).items()},
        whole=_amounts(document["resources"].items()),
        used=_amounts(document.get("used_resources", {}).items()),
        offered=_amounts(document.get("offered_resources", {}).items()),
        roles=_roles(document),
        draining=bool(document.get("deactivated") or document.get("drain_info")),
        idle=_idle(document),
    )


def _idle(document: Any) -> dict[str, list[Piece]]:
    used = list(read_pieces(document.get("used_resources_full", [])))
    found = {}
    for role, kept in document.get("reserved_resources_full", {}).items():
        held = [piece for piece in used if piece.role == role]
        pieces = [piece for piece in read_pieces(kept) if unreservable(piece)]
        pot = Pot(pieces)
        pot.take(at_most(amounts_of(held), pot.left))
        # Of what is numbered, such as ports, nobody says here which ones are free: it goes with the framework's offers.
        found[role] = [piece for piece in pot.rest if piece.ranges is None]
    return found


def _roles(document: Any) -> dict[str, Resources]:
    """Of whom what is: what is reserved is its role's, whoever has it just now."""
    found = {role: list(read_pieces(kept)) for role, kept in document.get("reserved_resources_full", {}).items()}
    for kind in ("used_resources_full", "offered_resources_full"):
        for one in document.get(kind, []):
            if not one.get("reservations") and one.get("role", "*") == "*":
                found.setdefault(one.get("allocation_info", {}).get("role", ""), []).extend(read_pieces([one]))
    return {role: amounts_of(pieces) for role, pieces in found.items()}


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _amounts(found: Iterable[tuple[str, Any]]) -> Resources:
    amounts: Resources = {}
    for name, value in found:
        if NAME.fullmatch(name) is None:
            continue
        if isinstance(value, int | float):
            amount = round(value * 1000) if name in THOUSANDTHS else int(value)
        elif isinstance(value, str) and value.startswith("["):
            pairs = [part.strip().split("-") for part in value.strip("[] ").split(",") if part.strip()]
            amount = sum(int(pair[-1]) - int(pair[0]) + 1 for pair in pairs)
        else:
            continue
        if 0 < amount <= AMOUNT_MAX:
            amounts[name] = amount
    return amounts
