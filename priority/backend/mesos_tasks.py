"""A launch as Mesos wants it: TaskInfo and FrameworkInfo in JSON (mesos.proto)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from priority.job import GROUP_LEAST, OnMesos
from priority.offers import Piece, Pot, numbers
from priority.orders import Launch

BASE_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
_BEGIN = (
    'HOME="${MESOS_SANDBOX:-$PWD}"; PRIORITY_SANDBOX="$HOME"; TMPDIR="$HOME"; export HOME PRIORITY_SANDBOX TMPDIR; '
)
"""Where the sandbox is only the agent knows."""

CAPABILITIES = (
    *("MULTI_ROLE", "PARTITION_AWARE", "TASK_KILLING_STATE", "GPU_RESOURCES", "RESERVATION_REFINEMENT"),
    "REVOCABLE_RESOURCES",
)


def framework(
    *, user: str, role: str, principal: str | None, failover_s: float, id: str | None, host: str
) -> dict[str, Any]:
    """FrameworkInfo."""
    info: dict[str, Any] = {
        "user": user,
        "name": "priority",
        "roles": [role],
        "checkpoint": True,
        "failover_timeout": failover_s,
        "hostname": host,
        "capabilities": [{"type": one} for one in CAPABILITIES],
    }
    if principal:
        info["principal"] = principal
    if id:
        info["id"] = {"value": id}
    return info


def task_info(launch: Launch, agent: str, pieces: Sequence[Piece]) -> dict[str, Any]:
    """TaskInfo with these resources, on the agent that offered them."""
    return task_infos(agent, [(launch, pieces)])[0]


def task_infos(agent: str, launches: Iterable[tuple[Launch, Sequence[Piece]]]) -> list[dict[str, Any]]:
    """Many at once: what tasks have in common is made once, and is one object in all of them."""
    where = {"value": agent}
    drafts: dict[tuple[str, int], dict[str, Any]] = {}
    amounts: dict[tuple[str, int, int], dict[str, Any]] = {}
    infos = []
    for launch, pieces in launches:
        key = launch.job, id(launch.spec)
        draft = drafts.get(key)
        if draft is None:
            draft = drafts[key] = _draft(launch)
        info = {
            **draft,
            "task_id": {"value": launch.task},
            "agent_id": where,
            "resources": [_plain(piece, amounts) for piece in pieces],
        }
        environment = {"variables": draft["command"]["environment"]["variables"] + _variables(launch, pieces)}
        info["command"] = {**draft["command"], "environment": environment}
        if "health_check" in info:
            command = {**info["health_check"]["command"], "environment": environment}
            info["health_check"] = {**info["health_check"], "command": command}
        infos.append(info)
    return infos


def _plain(piece: Piece, amounts: dict[tuple[str, int, int], dict[str, Any]]) -> dict[str, Any]:
    if piece.ranges is not None:
        return piece.plain()
    key = piece.name, piece.amount, id(piece.template)
    found = amounts.get(key)
    if found is None:
        found = amounts[key] = piece.plain()
    return found


def _draft(launch: Launch) -> dict[str, Any]:
    """What all tasks of a job have in common."""
    spec = launch.spec
    own = {"PRIORITY_JOB": launch.job}
    env = {name: value for name, value in (BASE_ENV | dict(spec.env)).items() if not _ours(name)} | own
    info: dict[str, Any] = {
        "name": launch.job,
        "command": {
            "shell": False,
            "value": "/bin/sh",
            "arguments": ["sh", "-c", _BEGIN + 'exec "$@"', "priority", *spec.argv],
            "environment": {"variables": [{"name": name, "value": value} for name, value in env.items()]},
        },
        "kill_policy": {"grace_period": duration(spec.kill_grace)},
        "labels": {"labels": [{"key": "priority.job", "value": launch.job}]},
    }
    if spec.max_runtime is not None:
        info["max_completion_time"] = duration(spec.max_runtime)
    if spec.mesos is not None:
        _add_extras(info, spec.mesos)
    return info


_OURS = frozenset(("PRIORITY_JOB", "PRIORITY_TASK_ID", "PRIORITY_INSTANCE", "PRIORITY_ATTEMPT", "PRIORITY_PORTS"))


def _ours(name: str) -> bool:
    """Whether only we say what this variable is."""
    return name in _OURS or name.startswith("PRIORITY_PORT_")


def _add_extras(info: dict[str, Any], extras: OnMesos) -> None:
    info["command"]["uris"] = [
        {"value": one.uri, "extract": one.extract, "executable": one.executable, "cache": one.cache}
        for one in extras.uris
    ]
    if extras.container is not None:
        image = extras.container.image
        if extras.container.runtime == "docker":
            info["container"] = {"type": "DOCKER", "docker": {"image": image, "network": "HOST"}}
        else:
            docker = {"type": "DOCKER", "docker": {"name": image}}
            info["container"] = {"type": "MESOS", "mesos": {"image": docker}}
    check = extras.health_check
    if check is not None:
        info["health_check"] = {
            "type": "COMMAND",
            "command": {"shell": True, "value": check.command},
            "delay_seconds": check.delay,
            "interval_seconds": check.interval,
            "timeout_seconds": check.within,
            "grace_period_seconds": check.grace,
            "consecutive_failures": check.failures,
        }


def duration(seconds: float) -> dict[str, int]:
    """DurationInfo."""
    return {"nanoseconds": round(seconds * 1e9)}


def _variables(launch: Launch, pieces: Sequence[Piece]) -> list[dict[str, str]]:
    """What one task is told of itself."""
    found = [
        {"name": "PRIORITY_TASK_ID", "value": launch.task},
        {"name": "PRIORITY_INSTANCE", "value": str(launch.instance)},
        {"name": "PRIORITY_ATTEMPT", "value": str(launch.attempt)},
    ]
    ports = [str(port) for port in numbers(pieces)]
    if ports:
        found += [{"name": f"PRIORITY_PORT_{index}", "value": port} for index, port in enumerate(ports)]
        found.append({"name": "PRIORITY_PORTS", "value": ",".join(ports)})
    return found


# --- calls -------------------------------------------------------------------------------------------------


def kill(task: str, agent: str | None, notice_s: float) -> dict[str, Any]:
    """KILL with its own notice."""
    body: dict[str, Any] = {"task_id": {"value": task}, "kill_policy": {"grace_period": duration(notice_s)}}
    return {"type": "KILL", "kill": body | _agent(agent)}


def reconcile(tasks: Iterable[tuple[str, str | None]]) -> dict[str, Any]:
    """RECONCILE of these (task, agent); of none: of all that the master knows of."""
    return {
        "type": "RECONCILE",
        "reconcile": {"tasks": [{"task_id": {"value": task}} | _agent(agent) for task, agent in tasks]},
    }


def acknowledge(task: str, agent: str, uuid: str) -> dict[str, Any]:
    """ACKNOWLEDGE."""
    return {"type": "ACKNOWLEDGE", "acknowledge": {"task_id": {"value": task}, **_agent(agent), "uuid": uuid}}


AGENT = "for agent"
"""In a call, for whoever sends it: the agent that it is about, where the call itself does not say."""


def accept(agent: str, offers: Sequence[str], operations: Sequence[dict[str, Any]], refuse_s: float) -> dict[str, Any]:
    """ACCEPT of all these offers, which are of one agent; without operations it declines them."""
    body = {
        "offer_ids": [{"value": id} for id in offers],
        "operations": list(operations),
        "filters": {"refuse_seconds": refuse_s},
    }
    return {"type": "ACCEPT", "accept": body, AGENT: agent}


def answer(kind: str, inverse: Sequence[str], refuse_s: float) -> dict[str, Any]:
    """ACCEPT_INVERSE_OFFERS or DECLINE_INVERSE_OFFERS."""
    body = {"inverse_offer_ids": [{"value": id} for id in inverse], "filters": {"refuse_seconds": refuse_s}}
    return {"type": kind, kind.lower(): body}


def operation(kind: str, resources: Iterable[Piece]) -> dict[str, Any]:
    """RESERVE or UNRESERVE."""
    return {"type": kind, kind.lower(): {"resources": [piece.plain() for piece in resources]}}


def launch_operation(infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """LAUNCH of many tasks."""
    return {"type": "LAUNCH", "launch": {"task_infos": list(infos)}}


EXECUTOR = {name: least // 2 for name, least in GROUP_LEAST.items()}
"""What Mesos wants its executor of task groups to hold, at the least (0.01 cpus, 32 MiB of memory, some disk)."""


def group_operation(framework: str, agent: str, launches: Sequence[tuple[Launch, Sequence[Piece]]]) -> dict[str, Any]:
    """LAUNCH_GROUP. The group's executor lives in the room of its first task, and so the whole takes what was planned.
    It is named after that task, as no other will be; a task's own name is that of the executor it has for itself.
    """
    (first, pieces), rest = launches[0], launches[1:]
    pot = Pot(pieces)
    taken = pot.take(EXECUTOR)
    if taken is None:
        raise ValueError(f"task {first.task} has no room for the executor of its group")
    executor = {
        "type": "DEFAULT",
        "framework_id": {"value": framework},
        "executor_id": {"value": f"group-{first.task}"},
        "resources": [piece.plain() for piece in taken],
    }
    infos = task_infos(agent, [(first, pot.rest), *rest])
    return {"type": "LAUNCH_GROUP", "launch_group": {"executor": executor, "task_group": {"tasks": infos}}}


def _agent(agent: str | None) -> dict[str, Any]:
    return {"agent_id": {"value": agent}} if agent else {}
