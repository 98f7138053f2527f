"""A launch as Mesos wants it: TaskInfo and FrameworkInfo in JSON (mesos.proto)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from priority.job import OnMesos
from priority.offers import Piece, numbers
from priority.ports import Launch

BASE_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
_BEGIN = (
    'HOME="${MESOS_SANDBOX:-$PWD}"; PRIORITY_SANDBOX="$HOME"; TMPDIR="$HOME"; export HOME PRIORITY_SANDBOX TMPDIR; '
)
"""Where the sandbox is only the agent knows."""

CAPABILITIES = ("MULTI_ROLE", "PARTITION_AWARE", "TASK_KILLING_STATE", "GPU_RESOURCES", "RESERVATION_REFINEMENT")


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
    spec = launch.spec
    info: dict[str, Any] = {
        "name": launch.job,
        "task_id": {"value": launch.task},
        "agent_id": {"value": agent},
        "resources": [piece.plain() for piece in pieces],
        "command": _command(launch, pieces),
        "kill_policy": {"grace_period": duration(spec.kill_grace)},
        "labels": {"labels": [{"key": "priority.job", "value": launch.job}]},
    }
    if spec.max_runtime is not None:
        info["max_completion_time"] = duration(spec.max_runtime)
    if spec.mesos is not None:
        _add_extras(info, spec.mesos)
    return info


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
            "command": {"shell": True, "value": check.command, "environment": info["command"]["environment"]},
            "delay_seconds": check.delay,
            "interval_seconds": check.interval,
            "timeout_seconds": check.within,
            "grace_period_seconds": check.grace,
            "consecutive_failures": check.failures,
        }


def duration(seconds: float) -> dict[str, int]:
    """DurationInfo."""
    return {"nanoseconds": round(seconds * 1e9)}


def _command(launch: Launch, pieces: Sequence[Piece]) -> dict[str, Any]:
    ports = numbers(pieces)
    env = {
        **BASE_ENV,
        **launch.spec.env,
        **{f"PRIORITY_PORT_{index}": str(port) for index, port in enumerate(ports)},
        "PRIORITY_JOB": launch.job,
        "PRIORITY_TASK_ID": launch.task,
        "PRIORITY_INSTANCE": str(launch.instance),
        "PRIORITY_ATTEMPT": str(launch.attempt),
    }
    if ports:
        env["PRIORITY_PORTS"] = ",".join(map(str, ports))
    script = _BEGIN + 'exec "$@"'
    return {
        "shell": False,
        "value": "/bin/sh",
        "arguments": ["sh", "-c", script, "priority", *launch.spec.argv],
        "environment": {"variables": [{"name": name, "value": value} for name, value in env.items()]},
    }


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


def operation(kind: str, resources: Iterable[Piece]) -> dict[str, Any]:
    """RESERVE or UNRESERVE."""
    return {"type": kind, kind.lower(): {"resources": [piece.plain() for piece in resources]}}


def launch_operation(infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """LAUNCH of many tasks."""
    return {"type": "LAUNCH", "launch": {"task_infos": list(infos)}}


def _agent(agent: str | None) -> dict[str, Any]:
    return {"agent_id": {"value": agent}} if agent else {}
