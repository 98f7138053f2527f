"""A whole service on a real Mesos: submitted through the API, seen by the tasks' own lines."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.mesos, pytest.mark.timeout(280)]

Eventually = Callable[..., Any]
ROLES = {"physics": {"quota": {"prod": {"cpus": 1000}}}}
WITHIN_S = 60.0


def job(tier: str, name: str, command: str, **fields: Any) -> dict[str, Any]:
    return {"role": "physics", "tier": tier, "name": name, "command": command, "kill_grace": 1, **fields}


def operate(service: Any, *arguments: str) -> Any:
    """What `priority mesos ...` prints, where nobody names the master but the scheduler."""
    command = [sys.executable, "-m", "priority", "mesos", *arguments]
    environment = {name: value for name, value in service.environment.items() if name != "PRIORITY_MESOS_MASTER"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


def counters(service: Any, launched: int) -> dict[str, Any] | None:
    """Once so many launches are counted."""
    found = dict(operate(service, "status"))
    return found if found.get("launched", 0) >= launched else None


def states(client: Any, ref: str, **query: Any) -> list[str]:
    return sorted(task["state"] for task in client.all_tasks(ref, **query))


def test_a_devel_job_runs_gives_way_to_prod_and_returns(
    make_mesos: Callable[..., Any], make_service: Callable[..., Any], eventually: Eventually
) -> None:
    mesos = make_mesos(resources="cpus:4;mem:4096;disk:1000;ports:[31000-31099]", agent={"attributes": "rack:r1"})
    service = make_service(mesos)
    with service.client() as client:
        client.apply_roles(ROLES)
        eventually(lambda: [one["state"] for one in client.nodes()["items"]] == ["up"], "the node", WITHIN_S)
        node = client.nodes()["items"][0]
        assert (node["name"], node["attributes"]["rack"], node["capacity"]["cpus"]) == ("agent0.test", "r1", 4)

        # it runs, its end and its output are seen
        done = client.submit(job("devel", "hello", "echo from $PRIORITY_JOB; exit 3"))["uid"]
        assert client.wait(done, timeout_s=WITHIN_S)[0]["failed"] == 1
        task = next(iter(client.all_tasks(done)))
        assert task["exit_code"] == 3
        assert client.logs(task["id"])[1] == b"from physics/devel/hello\n"

        # it is preempted: two of four give way, and return when there is room again
        devel = client.submit(
            job("devel", "fill", "trap 'exit 0' TERM; sleep 1000 & wait", instances=4, preempt={"notice": 1})
        )["uid"]
        eventually(lambda: states(client, devel) == ["running"] * 4, "four to run", WITHIN_S)
        prod = client.submit(job("prod", "now", "sleep 1", resources={"cpus": 2}))["uid"]
        assert client.wait(prod, timeout_s=WITHIN_S)[0]["finished"] == 1
        eventually(lambda: states(client, devel, current=True) == ["running"] * 4, "all four again", WITHIN_S)
        assert states(client, devel).count("preempted") == 2
        assert {one["outcome"] for one in client.all_preemptions()} == {"started"}
        counted = eventually(lambda: counters(service, launched=8), "the counters", WITHIN_S)
        assert counted["connected"] and counted["agents_up"] == 1 and counted["tasks"]["runs"] == 4
        assert counted["events.update"] >= 16 and counted["offers"] >= 2 and counted["offers_held"] >= 0
        assert operate(service, "weight", "2", "--json") == {"weight": 2}
        assert operate(service, "quota", "--limit", "cpus=100")["limits"] == {"cpus": 100}
        assert [one["ours"]["cpus"] for one in operate(service, "agents", "--json")] == [4]
        assert counted["round_trips"] >= 7 and counted["round_trip_ms"] > 0
        client.kill(devel)
        eventually(lambda: client.job(devel)["state"] == "ended", "it to end", WITHIN_S)
        assert client.health()["parts"]["mesos"] == "ok"
        mesos.close()
        eventually(lambda: client.health()["parts"]["mesos"] != "ok", "health to say that the master is away", WITHIN_S)
        assert client.health()["status"] == "degraded"
