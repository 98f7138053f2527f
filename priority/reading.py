"""Reading a snapshot from plain JSON, and writing it back. Every malformed document is an `Invalid` with a path.

Where the contract leaves it open, this is what holds:

- `now`, `nodes` and `tasks` are needed; `tiers`, `roles` and `policy` may be left out. A field that is not
  known is refused by name, so that a misspelt one is never silently ignored. `null` stands for "none" where a
  name is optional (`node`, `gang`, `for`) and is refused elsewhere.
- Of a task, `id`, `job`, `role`, `tier`, `request`, `state` and `since` are needed. Without `user` it is nobody's
  (the empty name); the others have the defaults that the contract shows. Of a node `name` and `capacity` are.
- `for` stands only at a dying task, and may name a task that is not pending (any more): then it keeps nothing.
- `since` may lie after `now` (clocks differ): no work is lost then. Digits finer than a microsecond are cut off;
  a leap second is the second after it.
- An attribute `host` other than the node's name is refused: it would be a second truth.
- `preempted`, `at_once`, `until` of a task and `history` are what settings of policy look at: see `priority.policy`.
- A zero in a quota is kept (nothing may hold that resource), while a zero in a request or capacity says nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from priority import constraint, policy, resources
from priority.claim import DYING, PENDING, STATES, Claim
from priority.constraint import HOST
from priority.errors import Invalid
from priority.node import Node, NodeState
from priority.policy import NOTHING, Past
from priority.printable import printable
from priority.resources import Resources
from priority.tier import DEFAULT_TIERS, Tier

INTEGER_MAX = 10**15
"""No rank and no priority is farther from zero."""

WEIGHT_MAX = 1e9

Quotas = Mapping[str, Resources]
"""Tier -> resource -> amount in held units. A resource that is not named is not limited; zero is zero."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,18}))?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII
)
_TASK_NEEDS = ("id", "job", "role", "tier", "request", "state", "since")
_TASK_MAY = ("user", "priority", "node", "constraints", "gang", "for", "preempted", "at_once", "until")


@dataclass(frozen=True, slots=True)
class RoleRules:
    """What the engine knows of a role: its weight, its quotas, and those of its users inside it."""

    weight: float = 1.0
    quota: Quotas = field(default_factory=dict)
    users: Mapping[str, Quotas] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """A whole snapshot document, checked: ids and names once each, every tier and node known."""

    now_us: int
    tiers: Mapping[str, Tier]
    nodes: tuple[Node, ...]
    roles: Mapping[str, RoleRules]
    tasks: tuple[Claim, ...]
    policy: Mapping[str, Any]
    past: Past = NOTHING


def read(document: Any) -> Reading:
    """Check a snapshot document. `Invalid` names the path of what is wrong."""
    try:
        return _read(document)
    except Invalid as error:  # names in it are the user's, and the message is one line that any terminal can show
        raise Invalid(printable(error.field), printable(error.problem)) from None


def _read(document: Any) -> Reading:
    if not isinstance(document, Mapping):
        raise Invalid("snapshot", f"must be one JSON object, not {_kind(document)}")
    _fields(document, "", ("now", "nodes", "tasks"), ("tiers", "roles", "policy", "history"))
    now_us = read_time(document["now"], "now")
    tiers = _tiers(document["tiers"]) if "tiers" in document else DEFAULT_TIERS
    nodes = tuple(_node(item, f"nodes[{i}]") for i, item in enumerate(_list(document["nodes"], "nodes")))
    _once([node.name for node in nodes], lambda i: f"nodes[{i}].name")
    roles = _roles(document.get("roles", {}), tiers)
    known = {node.name for node in nodes}
    tasks = tuple(_task(item, f"tasks[{i}]", tiers, known) for i, item in enumerate(_list(document["tasks"], "tasks")))
    _once([task.id for task in tasks], lambda i: f"tasks[{i}].id")
    settings = document.get("policy", {})
    policy.read(settings, tiers)
    past = policy.read_past(document["history"], tiers) if "history" in document else NOTHING
    return Reading(now_us, tiers, nodes, roles, tasks, dict(settings), past)


def write(reading: Reading) -> dict[str, Any]:
    """The inverse of `read`: plain JSON, lists by name and by id."""
    nodes = sorted(reading.nodes, key=lambda node: node.name)
    tiers = sorted(reading.tiers.values(), key=lambda tier: tier.name)
    past = reading.past.document()
    return {
        "now": show_time(reading.now_us),
        "nodes": [_plain_node(node) for node in nodes],
        "tiers": {tier.name: {"rank": tier.rank, "preemptible": tier.preemptible} for tier in tiers},
        "roles": {name: _plain_role(reading.roles[name]) for name in sorted(reading.roles)},
        "tasks": [_plain_task(task) for task in sorted(reading.tasks, key=lambda task: task.id)],
        "policy": dict(sorted(reading.policy.items())),
        **({"history": past} if past else {}),
    }


def read_time(value: Any, path: str) -> int:
    """An RFC 3339 time as microseconds since the epoch."""
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Invalid(path, 'must be an RFC 3339 time such as "2026-08-23T12:00:00Z"')
    year, month, day, hour, minute, second = (int(match[i]) for i in range(1, 7))
    digits = (match[7] or "").rstrip("0")
    if len(digits) > 6:  # cut off, two tasks that differ by less would trade places
        raise Invalid(path, "must be no finer than microseconds: at most 6 digits after the point")
    micros = int(digits.ljust(6, "0"))
    leap = second == 60
    try:
        offset = timedelta() if match[8] else timedelta(hours=int(match[10]), minutes=int(match[11]))
        if match[11] and int(match[11]) > 59:
            raise ValueError("minutes of the offset")
        zone = timezone(-offset if match[9] == "-" else offset)
        moment = datetime(year, month, day, hour, minute, 59 if leap else second, micros, tzinfo=zone)
        moment = moment.astimezone(UTC) + timedelta(seconds=leap)
    except (ValueError, OverflowError):
        raise Invalid(path, f"is not a time that there is: {value!r}") from None
    return (moment - _EPOCH) // timedelta(microseconds=1)


def show_time(time_us: int) -> str:
    """Microseconds since the epoch as an RFC 3339 time in UTC."""
    return (_EPOCH + timedelta(microseconds=time_us)).replace(tzinfo=None).isoformat() + "Z"


def _node(item: Any, path: str) -> Node:
    _mapping(item, path)
    _fields(item, path, ("name", "capacity"), ("attributes", "state"))
    name = _name(item["name"], f"{path}.name")
    attributes = _mapping(item.get("attributes", {}), f"{path}.attributes")
    for key, value in attributes.items():
        _name(key, f"{path}.attributes")
        _text(value, f"{path}.attributes.{key}")
    if attributes.get(HOST, name) != name:
        raise Invalid(f"{path}.attributes.{HOST}", "is always the node's name")
    state = _one_of(item.get("state", "up"), f"{path}.state", [one.value for one in NodeState])
    return Node(name, resources.parse(item["capacity"], f"{path}.capacity"), dict(attributes), NodeState(state))


def _task(item: Any, path: str, tiers: Mapping[str, Tier], nodes: set[str]) -> Claim:
    _mapping(item, path)
    _fields(item, path, _TASK_NEEDS, _TASK_MAY)
    state = _one_of(item["state"], f"{path}.state", STATES)
    tier = _text(item["tier"], f"{path}.tier")
    if tier not in tiers:
        raise Invalid(f"{path}.tier", f"{tier!r} is not a tier; there are {', '.join(sorted(tiers)) or 'none'}")
    kept_for = _optional(item.get("for"), f"{path}.for")
    if kept_for is not None and state not in DYING:
        raise Invalid(f"{path}.for", f"is only for a task that is preempting or killing, and this one is {state}")
    return Claim(
        id=_name(item["id"], f"{path}.id"),
        job=_name(item["job"], f"{path}.job"),
        role=_name(item["role"], f"{path}.role"),
        user=_text(item.get("user", ""), f"{path}.user"),
        tier=tier,
        priority=_integer(item.get("priority", 0), f"{path}.priority"),
        request=resources.parse(item["request"], f"{path}.request"),
        state=state,
        node=_place(item.get("node"), f"{path}.node", state, nodes),
        since_us=read_time(item["since"], f"{path}.since"),
        constraints=_constraints(item.get("constraints", []), f"{path}.constraints"),
        gang=_optional(item.get("gang"), f"{path}.gang"),
        kept_for=kept_for,
        preempted_us=_times(item.get("preempted", []), f"{path}.preempted"),
        at_once=None if item.get("at_once") is None else _at_least(item["at_once"], f"{path}.at_once", 1),
        until_us=None if item.get("until") is None else read_time(item["until"], f"{path}.until"),
    )


def _times(value: Any, path: str) -> tuple[int, ...]:
    return tuple(sorted(read_time(one, f"{path}[{index}]") for index, one in enumerate(_list(value, path))))


def _at_least(value: Any, path: str, least: int) -> int:
    number = _integer(value, path)
    if number < least:
        raise Invalid(path, f"must be at least {least}")
    return number


def _place(value: Any, path: str, state: str, nodes: set[str]) -> str | None:
    node = _optional(value, path)
    if state == PENDING and node is not None:
        raise Invalid(path, "a pending task has no node")
    if state != PENDING and node is None:
        raise Invalid(path, f"a task that is {state} needs the node that it is on")
    if node is not None and node not in nodes:
        raise Invalid(path, f"{node!r} is not one of the nodes")
    return node


def _constraints(value: Any, path: str) -> tuple[constraint.Constraint, ...]:
    parsed = constraint.parse(value, path)
    for index, one in enumerate(parsed):
        for text in (one.attribute, *(one.within or ()), *(one.outside or ())):
            _text(text, f"{path}[{index}]")
    return canonical(parsed)


def canonical(constraints: tuple[constraint.Constraint, ...]) -> tuple[constraint.Constraint, ...]:
    """The same constraints once each and in one order: no decision hangs on how a user listed them."""
    if len(constraints) < 2:
        return constraints
    return tuple(sorted(dict.fromkeys(constraints), key=lambda one: repr(sorted(one.plain().items()))))


def _tiers(value: Any) -> dict[str, Tier]:
    tiers = {}
    for name, item in _mapping(value, "tiers").items():
        path = f"tiers.{_name(name, 'tiers')}"
        _mapping(item, path)
        _fields(item, path, ("rank", "preemptible"), ())
        if not isinstance(item["preemptible"], bool):
            raise Invalid(f"{path}.preemptible", "must be true or false")
        tiers[name] = Tier(name, _integer(item["rank"], f"{path}.rank"), item["preemptible"])
    return tiers


def _roles(value: Any, tiers: Mapping[str, Tier]) -> dict[str, RoleRules]:
    roles = {}
    for name, item in _mapping(value, "roles").items():
        path = f"roles.{_name(name, 'roles')}"
        _mapping(item, path)
        _fields(item, path, (), ("weight", "quota", "users"))
        users = {}
        for user, one in _mapping(item.get("users", {}), f"{path}.users").items():
            place = f"{path}.users.{_text(user, f'{path}.users')}"
            _fields(_mapping(one, place), place, (), ("quota",))
            users[user] = _quotas(one.get("quota", {}), f"{place}.quota", tiers)
        quota = _quotas(item.get("quota", {}), f"{path}.quota", tiers)
        roles[name] = RoleRules(_weight(item.get("weight", 1.0), f"{path}.weight"), quota, users)
    return roles


def _quotas(value: Any, path: str, tiers: Mapping[str, Tier]) -> dict[str, Resources]:
    quotas = {}
    for tier, amounts in _mapping(value, path).items():
        place = f"{path}.{_text(tier, path)}"
        if tier not in tiers:
            raise Invalid(place, f"is not a tier; there are {', '.join(sorted(tiers)) or 'none'}")
        named = resources.parse(amounts, place)
        quotas[tier] = {name: named.get(name, 0) for name in amounts}
    return quotas


def _weight(value: Any, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Invalid(path, f"must be a number greater than 0, not {_kind(value)}")
    if not 0 < value <= WEIGHT_MAX:  # false for NaN and the infinities as well
        raise Invalid(path, f"must be greater than 0, and at most {WEIGHT_MAX:g}")
    return value


def _fields(item: Mapping[str, Any], path: str, needed: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    dot = f"{path}." if path else ""
    for name in item:
        if name not in needed and name not in allowed:
            known = ", ".join(dict.fromkeys((*needed, *allowed)))
            raise Invalid(f"{dot}{_text(name, path or 'snapshot')}", f"is not known; there are {known}")
    for name in needed:
        if name not in item:
            raise Invalid(f"{dot}{name}", "is missing")


def _mapping(value: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Invalid(path, f"must be a JSON object, not {_kind(value)}")
    return value


def _list(value: Any, path: str) -> list[Any]:
    if not isinstance(value, list):
        raise Invalid(path, f"must be a list, not {_kind(value)}")
    return value


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise Invalid(path, f"must be a string, not {_kind(value)}")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise Invalid(path, "holds half of a surrogate pair, which is no character")
    return value


def _name(value: Any, path: str) -> str:
    name = _text(value, path)
    if not name:
        raise Invalid(path, "must not be empty")
    if any(unicodedata.category(letter) == "Cc" for letter in name):
        raise Invalid(path, "must be a name without control characters, such as line ends")
    return name


def _optional(value: Any, path: str) -> str | None:
    return None if value is None else _name(value, path)


def _one_of(value: Any, path: str, known: Any) -> str:
    if not isinstance(value, str) or value not in known:
        raise Invalid(path, f"must be one of {', '.join(known)}")
    return value


def _integer(value: Any, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Invalid(path, f"must be a whole number, not {_kind(value)}")
    if abs(value) > INTEGER_MAX:
        raise Invalid(path, f"must be from -{INTEGER_MAX} to {INTEGER_MAX}")
    return value


def _once(names: list[str], path: Callable[[int], str]) -> None:
    seen: dict[str, int] = {}
    for index, name in enumerate(names):
        if name in seen:
            raise Invalid(path(index), f"{name!r} is there twice; first as {path(seen[name])}")
        seen[name] = index


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return "a number"
    return "a string" if isinstance(value, str) else "a list" if isinstance(value, list) else "an object"


def _plain_node(node: Node) -> dict[str, Any]:
    capacity, state = resources.plain(node.capacity), NodeState(node.state).value
    return {
        "name": node.name,
        "capacity": capacity,
        "attributes": dict(sorted(node.attributes.items())),
        "state": state,
    }


def _plain_role(role: RoleRules) -> dict[str, Any]:
    document: dict[str, Any] = {"weight": role.weight, "quota": _plain_quotas(role.quota)}
    if role.users:
        document["users"] = {user: {"quota": _plain_quotas(role.users[user])} for user in sorted(role.users)}
    return document


def _plain_quotas(quotas: Quotas) -> dict[str, Any]:
    return {tier: resources.plain(quotas[tier]) for tier in sorted(quotas)}


def _plain_task(task: Claim) -> dict[str, Any]:
    document = {
        "id": task.id,
        "job": task.job,
        "role": task.role,
        "user": task.user,
        "tier": task.tier,
        "priority": task.priority,
        "request": resources.plain(task.request),
        "state": task.state,
        "node": task.node,
        "since": show_time(task.since_us),
        "constraints": [one.plain() for one in task.constraints],
        "gang": task.gang,
    }
    if task.kept_for is not None:
        document["for"] = task.kept_for
    if task.preempted_us:
        document["preempted"] = [show_time(at_us) for at_us in task.preempted_us]
    if task.at_once is not None:
        document["at_once"] = task.at_once
    if task.until_us is not None:
        document["until"] = show_time(task.until_us)
    return document
