"""Maintenance and drains by Mesos' operator API: tasks leave in time, the node says so, and comes back. Real Mesos."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.mesos, pytest.mark.timeout(280)]

Eventually = Callable[..., Any]
WITHIN_S = 60.0
ROLES = {"physics": {"quota": {"prod": {"cpus": 100}}}}
FIRST, SECOND = "agent0.test", "agent1.test"


def job(name: str, **fields: Any) -> dict[str, Any]:
    spec = {"role": "physics", "tier": "devel", "name": name, "command": "trap 'exit 3' TERM; sleep 1000 & wait"}
    return {**spec, "kill_grace": 1, "preempt": {"notice": 2}, "resources": {"cpus": 1}, **fields}


def cli(service: Any, *arguments: str) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "priority", *arguments]
    done = subprocess.run(command, env=service.environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def on(client: Any, ref: str) -> list[str]:
    return sorted(task["node"] for task in client.all_tasks(ref, current=True) if task["state"] == "running")


def nodes(client: Any) -> dict[str, Any]:
    return {one["name"]: one for one in client.nodes()["items"]}


def test_a_machine_goes_down_and_comes_back(
    make_mesos: Callable[..., Any], make_service: Callable[..., Any], eventually: Eventually
) -> None:
    resources = "cpus:4;mem:4096;disk:1000;ports:[31000-31009]"
    mesos = make_mesos(agents=2, separate=True, resources=resources)
    service = make_service(mesos, silent_s=2, lease_s=4, lease_margin_s=1)

    def mesos_cli(verb: str, *options: str) -> Any:
        return json.loads(cli(service, "mesos", verb, *options, "--json"))

    with service.client() as client:
        client.apply_roles(ROLES)
        eventually(lambda: [one["state"] for one in nodes(client).values()] == ["up"] * 2, "both nodes", WITHIN_S)
        fill = client.submit(job("fill", instances=4, constraints=[{"attribute": "host", "limit": 2}]))["uid"]
        eventually(lambda: on(client, fill) == [FIRST] * 2 + [SECOND] * 2, "two on each", WITHIN_S)

        # who has what
        shared = nodes(client)[FIRST]["shared"]
        assert (shared["capacity"]["cpus"], shared["ours"]["cpus"]) == (4, 2) and not shared["others"].get("cpus")
        assert "OTHERS'" in cli(service, "node", "list")

        # long before: what may still run then is not placed there any more, what is short is, and nobody is sent away
        mesos_cli("announce", FIRST, "--in", "20m", "--for", "10m")
        eventually(lambda: "maintenance" in nodes(client)[FIRST]["attributes"], "the window to be known", WITHIN_S)
        assert nodes(client)[FIRST]["state"] == "up"
        here = {"constraints": [{"attribute": "host", "in": [FIRST]}]}
        long_one = client.submit(job("long", max_runtime=3600, **here))["uid"]
        short = client.submit(job("short", command="true", max_runtime=60, **here))["uid"]
        assert client.wait(short, timeout_s=WITHIN_S)[0]["finished"] == 1
        assert [task["state"] for task in client.all_tasks(long_one)] == ["pending"]
        client.kill(long_one)
        (window,) = mesos_cli("maintenance")
        assert (window["host"], window["state"], window["duration_s"]) == (FIRST, "announced", 600)
        assert on(client, fill) == [FIRST] * 2 + [SECOND] * 2

        # shortly before: they leave with their notice, without a failure of theirs, and Mesos is told
        mesos_cli("announce", FIRST, "--in", "5s")
        eventually(lambda: nodes(client)[FIRST]["state"] == "draining", "it to drain", WITHIN_S)
        eventually(lambda: FIRST not in on(client, fill), "them to leave", WITHIN_S)
        assert client.job(fill)["failed"] == 0

        def accepted() -> bool:
            (window,) = mesos_cli("maintenance")
            return list(window["frameworks"].values()) == ["accept"]

        eventually(accepted, "the offer to leave to be accepted", WITHIN_S)

        # down and up again
        pid = mesos.pid("agent-0")
        mesos_cli("down", FIRST)
        assert mesos.ended(pid, WITHIN_S)
        eventually(lambda: nodes(client)[FIRST]["state"] in ("down", "silent"), "it to be down", WITHIN_S)
        assert mesos_cli("maintenance")[0]["state"] == "down"
        mesos_cli("up", FIRST)
        mesos.restart()
        eventually(lambda: nodes(client)[FIRST]["state"] == "up", "it to come back", WITHIN_S)
        assert "maintenance" not in nodes(client)[FIRST]["attributes"] and not mesos_cli("maintenance")
        client.kill(fill)


def test_a_drain_is_shown_and_ends(
    make_mesos: Callable[..., Any], make_service: Callable[..., Any], eventually: Eventually
) -> None:
    mesos = make_mesos(resources="cpus:4;mem:4096;disk:1000;ports:[]")
    service = make_service(mesos)
    with service.client() as client:
        client.apply_roles(ROLES)
        eventually(lambda: [one["state"] for one in nodes(client).values()] == ["up"], "the node", WITHIN_S)
        fill = client.submit(job("fill", command="sleep 1000"))["uid"]
        eventually(lambda: on(client, fill) == [FIRST], "it to run", WITHIN_S)
        cli(service, "mesos", "drain", FIRST, "--grace", "1s")
        eventually(lambda: nodes(client)[FIRST]["state"] == "draining", "it to drain", WITHIN_S)
        eventually(lambda: not on(client, fill), "it to leave", WITHIN_S)
        cli(service, "mesos", "reactivate", FIRST)
        eventually(lambda: on(client, fill) == [FIRST], "it to begin anew", WITHIN_S)
        assert nodes(client)[FIRST]["state"] == "up"
        client.kill(fill)
