"""What a job may ask of a Mesos cluster, and what an operator may do with one; on a real Mesos."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_of_mesos import MesosCluster
from real import Mesos

from priority.errors import Unavailable
from priority.orders import LogRequest, TaskSeen
from priority.service.mesos import mesos_cluster
from priority.service.settings import Settings

pytestmark = [pytest.mark.mesos, pytest.mark.timeout(200)]

TIMES = {"silent_s": 60.0, "lease_s": 3600.0, "lease_margin_s": 1.0}
STAYS = "sleep 1000"
MESOS = {
    "resources": "cpus:8;mem:4096;disk:1000;ports:[31000-31009]",
    "agent": {"hostname": "n1", "executor_shutdown_grace_period": "1secs"},
}


@pytest.fixture
def cluster(mesos: Mesos, tmp_path: Path) -> Iterator[MesosCluster]:
    made = MesosCluster(mesos, tmp_path, **TIMES)
    try:
        made.ready()
        yield made
    finally:
        made.close()


def output(cluster: MesosCluster, task: str) -> str:
    request = LogRequest(node="n1", task=task, stream="stdout", offset=0, limit=1000, wait_s=0)
    return str(cluster.backend.logs(request).data.decode())


def begins(cluster: MesosCluster) -> bool:
    task = cluster.launch("sleep 0.1")
    wanted = ("started", "refused")
    found: Any = cluster.wait(lambda one: isinstance(one, TaskSeen) and one.task == task and one.kind in wanted)
    return bool(found.kind == "started")


def is_back(operator: Any) -> bool:
    """Mesos takes an agent back when the drain has ended: a while after the last task has."""
    try:
        operator.reactivate("n1")
    except Unavailable as error:
        assert "DRAINING" in str(error)
        return False
    return True


def test_ports_are_a_resource_and_reach_the_task(cluster: MesosCluster) -> None:
    task = cluster.launch("echo $PRIORITY_PORTS $PRIORITY_PORT_0 $PRIORITY_PORT_1", resources={"cpus": 1, "ports": 2})
    assert cluster.ended(task).exit_code == 0
    ports, first, second = output(cluster, task).split()
    assert ports == f"{first},{second}" and 31000 <= int(first) < int(second) <= 31009


def test_files_are_fetched_first(cluster: MesosCluster, tmp_path: Path) -> None:
    (tmp_path / "word.txt").write_text("fetched\n")
    task = cluster.launch("cat word.txt", mesos={"uris": [{"uri": str(tmp_path / "word.txt")}]})
    assert cluster.ended(task).exit_code == 0
    assert output(cluster, task) == "fetched\n"


def test_a_program_and_its_arguments_are_taken_as_they_are(cluster: MesosCluster) -> None:
    task = cluster.launch(["/bin/echo", "a b", "$HOME", "'"], env={"X": "$Y `z`"})
    assert cluster.ended(task).exit_code == 0
    assert output(cluster, task) == "a b $HOME '\n"


def test_mesos_ends_what_runs_too_long(cluster: MesosCluster) -> None:
    task = cluster.launch(STAYS, max_runtime=0.3)
    assert cluster.ended(task).cause.code == "runtime"


def test_failed_health_checks_end_a_task_as_failed(cluster: MesosCluster) -> None:
    check = {"command": "false", "interval": 0.1, "grace": 0, "failures": 2}
    task = cluster.launch(STAYS, mesos={"health_check": check}, kill_grace=1)
    ended = cluster.ended(task)
    assert not ended.stopped and ended.cause.code == "unhealthy"


def test_an_image_that_the_agent_cannot_run_is_said(cluster: MesosCluster) -> None:
    """There are no images here: it is passed on, and Mesos' own words come back."""
    task = cluster.launch("true", mesos={"container": {"image": "library/none", "runtime": "docker"}})
    assert cluster.ended(task).cause is not None


@pytest.mark.parametrize("way", ["fails", "is stopped"])
def test_a_gang_may_be_a_task_group(
    cluster: MesosCluster, mesos: Mesos, tmp_path: Path, eventually: Callable[..., Any], way: str
) -> None:
    """It takes what its tasks ask and no more, is read as others are, and ends together."""
    command = f"echo $PRIORITY_TASK_ID; until test -e {tmp_path}/$PRIORITY_TASK_ID; do sleep 0.1; done; exit 3"
    asked = {"cpus": 2, "mem": 64, "disk": 2}
    spec: dict[str, Any] = {"instances": 3, "gang": True, "kill_grace": 1, "resources": asked, "mesos": {"group": True}}
    launches = [cluster.make(command, **spec) for _ in range(3)]
    cluster.backend.launch(launches)
    tasks = [one.task for one in launches]
    for task in tasks:
        cluster.seen(task, "started")
    used = mesos.get("/slaves")["slaves"][0]["used_resources"]
    assert (used["cpus"], used["mem"], used["disk"]) == (6, 192, 6)
    eventually(lambda: [output(cluster, task) for task in tasks] == [f"{task}\n" for task in tasks], "the output")
    if way == "fails":
        (tmp_path / tasks[1]).touch()
    else:
        cluster.stop(tasks[1], notice_s=1)
    ended = {task: cluster.ended(task) for task in tasks}
    first = ended.pop(tasks[1])
    assert first.stopped if way == "is stopped" else first.exit_code == 3
    for one in ended.values():  # they failed by no fault of their own, and so begin anew
        assert one.stopped or (one.cause is not None and one.cause.code == "vanished")
    assert output(cluster, tasks[2]) == f"{tasks[2]}\n"


def test_an_operator_looks_weighs_limits_and_drains(
    cluster: MesosCluster, mesos: Mesos, tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    task = cluster.run(STAYS)
    database = f"sqlite:///{tmp_path / 'priority.db'}"
    settings = Settings(state=tmp_path, database=database, mesos_master=mesos.url, mesos_role="contract")
    operator = mesos_cluster(settings)
    try:
        (view,) = operator.agents()
        assert (view.node, view.facts.active, view.facts.whole["cpus"]) == ("n1", True, 8000)
        assert view.others["cpus"] == 1000  # the database, by which it knows what is ours, has no such task
        assert operator.weight(2.5) == operator.weight() == 2.5
        assert operator.quota({"cpus": 6, "mem": 1000})["limits"] == {"cpus": 6, "mem": 1000}
        operator.quota({})
        operator.drain("n1", 1.0)
        ended = cluster.ended(task)
        assert ended.stopped  # though not by us: it begins anew
        eventually(lambda: not operator.agents()[0].facts.offered, "nothing to be offered")
        eventually(lambda: is_back(operator), "the drain to end")
        eventually(lambda: begins(cluster), "a task to be taken")  # an agent drops some until it knows
        eventually(lambda: not operator.agents()[0].facts.used.get("cpus"), "no task to be left")
        assert operator.unreserve("n1") == 1
        assert not operator.agents()[0].facts.idle.get("contract")
    finally:
        operator.close()
