"""100 agents full of devel work, then prod arrives, and the scheduler is killed in the middle of that."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.mesos, pytest.mark.slow, pytest.mark.timeout(1500)]

Eventually = Callable[..., Any]
ROLES = {"physics": {"quota": {"prod": {"cpus": 1000}}}, "devel": {}}
AGENTS = int(os.environ.get("PRIORITY_TEST_MESOS_AGENTS", "100"))
DEVEL, PROD = 8 * AGENTS, 2 * AGENTS
WITHIN_S = 400.0

WITNESS = 'echo "$PRIORITY_TASK_ID" >> "$WITNESS/lines"; '
STAYS = WITNESS + "trap 'exit 0' TERM; sleep 3000 & wait"


def job(role: str, tier: str, name: str, witness: Path, **fields: Any) -> dict[str, Any]:
    spec = {"role": role, "tier": tier, "name": name, "command": STAYS, "kill_grace": 1}
    return {**spec, "env": {"WITNESS": str(witness)}, "preempt": {"notice": 2}, **fields}


def count(client: Any, ref: str) -> Counter[str]:
    return Counter(task["state"] for task in client.all_tasks(ref))


@pytest.mark.parametrize("killed", [False, True], ids=["undisturbed", "scheduler-killed"])
def test_prod_takes_the_least_and_victims_return(
    make_mesos: Callable[..., Any],
    make_service: Callable[..., Any],
    eventually: Eventually,
    tmp_path: Path,
    killed: bool,
) -> None:
    witness = tmp_path / "witness"
    witness.mkdir()
    # Mesos' own times: under this load agents that are only slow would be taken for lost.
    calm = {"agent_ping_timeout": "15secs", "max_agent_ping_timeouts": "5"}
    mesos = make_mesos(agents=AGENTS, resources="cpus:2;mem:4096;disk:1000;ports:[]", master=calm)
    service = make_service(mesos, silent_s=20)
    with service.client() as client:
        client.apply_roles(ROLES)
        eventually(lambda: len(client.nodes()["items"]) == AGENTS, "the nodes", WITHIN_S)
        quarter = {"resources": {"cpus": 0.25}}
        devel = client.submit(job("devel", "devel", "fill", witness, instances=DEVEL, **quarter))["uid"]
        eventually(lambda: count(client, devel)["running"] == DEVEL, "the devel tasks", WITHIN_S)
        prod = client.submit(job("physics", "prod", "now", witness, instances=PROD, **quarter))["uid"]
        if killed:
            eventually(lambda: count(client, devel)["preempting"] + count(client, devel)["preempted"] >= 1, "victims")
            os.kill(service.parts()["prio-scheduler"], signal.SIGKILL)
        eventually(lambda: count(client, prod)["running"] == PROD, "the prod tasks", WITHIN_S)
        states = count(client, devel)
        assert (states["running"], states["preempted"]) == (DEVEL - PROD, PROD), states
        assert count(client, prod) == {"running": PROD}
        assert {one["outcome"] for one in client.all_preemptions()} == {"started"}
        client.kill(prod)
        eventually(lambda: count(client, devel)["running"] == DEVEL, "all victims again", WITHIN_S)
        lines = (witness / "lines").read_text().split()
        assert not [one for one, times in Counter(lines).items() if times > 1], "a task was started twice"
        assert len(lines) == DEVEL + 2 * PROD  # and the victims once more
        frameworks = mesos.get("/frameworks")
        assert len(frameworks["frameworks"]) == 1 and not frameworks["completed_frameworks"]
        client.kill(devel)
        eventually(lambda: client.job(devel)["state"] == "ended", "the end", WITHIN_S)
