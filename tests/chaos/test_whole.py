"""The whole service from its one command: the demo, a second start, a killed scheduler in a storm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from postgres import Postgres
from whole import ROLES, Service

from priority.face.client import Client
from priority.face.demo import Failed, Line, Story, most_cpus_at_once, read_witness

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]

ROLES_FILE = Path(__file__).parents[2] / "config" / "roles.yaml"
SAY = 'echo "$0 $PRIORITY_INSTANCE $PRIORITY_ATTEMPT" >> "$WITNESS"; exec sleep 600'


def demo(roles: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "priority", "demo", "--no-airflow", "--roles", str(roles)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_demo_sees_every_step() -> None:
    told = demo(ROLES_FILE)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "All 15 checks were seen" in told.stdout


def test_the_demo_fails_where_a_step_cannot_be_seen(tmp_path: Path) -> None:
    roles = yaml.safe_load(ROLES_FILE.read_text())
    roles["roles"]["reco"]["quota"]["prod"] = {"cpus": 2}
    (tmp_path / "roles.yaml").write_text(yaml.safe_dump(roles))
    told = demo(tmp_path / "roles.yaml")
    assert told.returncode == 1
    assert "short by" in told.stdout + told.stderr


def test_the_demo_counts_cpus_by_the_witness_lines_alone(tmp_path: Path) -> None:
    lines = ["start reco/prod/run3 0 1 10", "start ci/devel/tests 0 1 12", "beat ci/devel/tests 0 1 15"]
    lines += ["end reco/prod/run3 0 1 20", "start reco/prod/run3 1 1 21", "end reco/prod/run3 1 1 29", "torn li"]
    (tmp_path / "witness").write_text("\n".join(lines))
    story = Story(tmp_path, None, None)  # type: ignore[arg-type]
    assert read_witness(story.witness)[0] == Line(10, "start", "reco/prod/run3", 0, 1)
    assert most_cpus_at_once(story) == 3


def test_the_demo_does_not_believe_what_it_does_not_see(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Nobody:
        def say(self, at_s: float, text: str, style: str = "") -> None: ...

    monkeypatch.setattr("priority.face.demo.STEP_TIMEOUT_S", 0.0)
    story = Story(tmp_path, None, Nobody())  # type: ignore[arg-type]
    with pytest.raises(Failed, match="never"):
        story.check("never", lambda: False)
    assert story.checks == 0


def test_a_second_start_on_the_same_folder_goes_on(
    start_service: Callable[..., Service], tmp_path: Path, eventually: Callable[..., object]
) -> None:
    witness = tmp_path / "witness"
    service = start_service(agents=1, agent_cpus=4)
    with service.client() as client:
        client.apply_roles(ROLES)
        spec = {"role": "devel", "tier": "devel", "name": "long", "env": {"WITNESS": str(witness)}}
        uid = client.submit({**spec, "command": ["/bin/sh", "-c", SAY, "long"], "instances": 2})["uid"]
        eventually(lambda: len(said(witness)) == 2, "both tasks to run")
    assert service.stop() == 0
    again = start_service(agents=1, agent_cpus=4)
    with again.client() as client:
        eventually(lambda: states(client, uid) == {"running": 2}, "the tasks to be found again")
        assert len(said(witness)) == 2, "nothing was started again"
        client.kill(uid)
        assert client.wait(uid, timeout_s=60)[0]["killed"] == 2


def test_a_second_up_on_a_folder_in_use_is_refused(start_service: Callable[..., Service], tmp_path: Path) -> None:
    service = start_service(agents=0)
    service.client().close()
    command = [sys.executable, "-m", "priority", "up"]
    told = subprocess.run(command, env=service.environment, capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 5
    assert str(service.process.pid) in told.stderr  # type: ignore[union-attr]


def test_a_scheduler_killed_in_a_storm(
    start_service: Callable[..., Service], tmp_path: Path, eventually: Callable[..., object]
) -> None:
    """60 devel tasks fill the nodes, 40 prod jobs arrive, the scheduler dies twice meanwhile: the same end."""
    witness = tmp_path / "witness"
    service = start_service(agents=3, agent_cpus=20)
    with service.client() as client:
        client.apply_roles(ROLES)
        env = {"WITNESS": str(witness)}
        spec = {"role": "devel", "tier": "devel", "name": "fill", "command": ["/bin/sh", "-c", SAY, "fill"], "env": env}
        devel = client.submit({**spec, "instances": 60})["uid"]
        eventually(lambda: states(client, devel) == {"running": 60}, "devel to fill the nodes")
        eventually(lambda: len(said(witness)) >= 60, "all to have said so")
        storm = [
            {"role": "physics", "tier": "prod", "name": f"p{n}", "command": ["/bin/sh", "-c", SAY, f"p{n}"], "env": env}
            for n in range(40)
        ]
        uids = [job["uid"] for job in client.submit_many(storm)["jobs"]]
        for _ in range(2):
            killed = service.parts()["prio-scheduler"]
            os.kill(killed, signal.SIGKILL)
            eventually(lambda: service.parts().get("prio-scheduler", killed) != killed, "the scheduler to be back")  # noqa: B023
        eventually(lambda: all(states(client, uid) == {"running": 1} for uid in uids), "all prod to run")
        found = states(client, devel)
        assert found == {"running": 20, "preempted": 40, "pending": 40}, "never one victim more"
        eventually(lambda: len(said(witness)) >= 100, "prod to have said so")
        lines = Counter(line.split()[0] for line in said(witness))
        assert lines == {"fill": 60, **{f"p{n}": 1 for n in range(40)}}, "nothing lost, nothing twice"
        for uid in [devel, *uids]:
            client.kill(uid)
        client.wait(devel, *uids, timeout_s=60)


def said(witness: Path) -> list[str]:
    """The lines of the tasks themselves."""
    return witness.read_text().splitlines() if witness.exists() else []


def states(client: Client, uid: str) -> Counter[str]:
    return Counter(task["state"] for task in client.all_tasks(uid))


@pytest.mark.postgres
def test_the_same_on_postgresql(
    start_service: Callable[..., Service],
    tmp_path: Path,
    postgres: Postgres,
    eventually: Callable[..., object],
) -> None:
    """prod takes the room of devel, which comes back when prod has ended."""
    witness = tmp_path / "witness"
    service = start_service(agents=1, agent_cpus=4, database=postgres.create())
    with service.client() as client:
        client.apply_roles(ROLES)
        env = {"WITNESS": str(witness)}
        fill = {"role": "devel", "tier": "devel", "name": "fill", "command": ["/bin/sh", "-c", SAY, "fill"], "env": env}
        devel = client.submit({**fill, "instances": 4})["uid"]
        eventually(lambda: states(client, devel) == {"running": 4}, "devel to fill the node")
        eventually(lambda: len(said(witness)) >= 4, "devel to have said so")
        say = ["/bin/sh", "-c", SAY, "prod"]
        asked = {
            "role": "physics",
            "tier": "prod",
            "name": "prod",
            "command": say,
            "resources": {"cpus": 3},
            "env": env,
        }
        prod = client.submit(asked)["uid"]
        eventually(lambda: states(client, prod) == {"running": 1}, "prod to run")
        eventually(lambda: len(said(witness)) >= 5, "prod to have said so")
        assert states(client, devel) == {"running": 1, "preempted": 3, "pending": 3}
        client.kill(prod)
        eventually(lambda: states(client, devel) == {"running": 4, "preempted": 3}, "the victims to come back")
        eventually(lambda: len(said(witness)) >= 8, "them to have said so")
        client.kill(devel)
        client.wait(devel, prod, timeout_s=60)
    lines = Counter(said(witness))
    assert set(lines.values()) == {1}, "no attempt was started twice"
    assert len(lines) == 4 + 1 + 3
