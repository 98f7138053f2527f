"""What every backend promises, against a real Mesos: the tests of `tests/contract/test_backend.py` as they stand there.

Two are said anew where Mesos differs: an agent keeps its id over a restart, and silence proves nothing, however long.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "contract"))

from cluster_of_mesos import MesosCluster
from real import Mesos
from test_backend import *  # noqa: F403  the tests themselves
from test_backend import FOREVER, SHORT, TIMES

from priority.orders import NodeGone, NodeSeen, NodeSilent

pytestmark = [pytest.mark.mesos, pytest.mark.timeout(200), pytest.mark.xdist_group("mesos")]

MESOS = {
    "separate": True,
    "resources": "cpus:100;mem:0;disk:0;ports:[]",
    "agent": {"hostname": "n1", "attributes": "rack:r1", "executor_shutdown_grace_period": "1secs"},
}


@pytest.fixture
def cluster(mesos: Mesos, tmp_path: Path) -> Iterator[MesosCluster]:
    yield from running_on(mesos, tmp_path, TIMES)


@pytest.fixture
def hasty_cluster(mesos: Mesos, tmp_path: Path) -> Iterator[MesosCluster]:
    yield from running_on(mesos, tmp_path, SHORT)


def running_on(mesos: Mesos, state: Path, times: dict[str, float]) -> Iterator[MesosCluster]:
    made = MesosCluster(mesos, state, **times)
    try:
        made.ready()
        yield made
    finally:
        made.close()


# What stops or replaces the agent hangs on how fast a busy machine brings it back.
test_a_short_silence_ends_nothing = pytest.mark.slow(test_a_short_silence_ends_nothing)  # noqa: F405


@pytest.mark.slow
def test_another_incarnation_refuses(cluster: Any) -> None:
    launch = cluster.make(FOREVER)
    since = len(cluster.heard)
    cluster.mesos.kill("agent-0")
    cluster.replace_agent()
    cluster.wait(lambda one: isinstance(one, NodeSeen) and one.agent != launch.agent, since)
    cluster.backend.launch([launch])
    assert cluster.seen(launch.task, "refused").cause.code == "incarnation"
    assert "started" not in cluster.kinds(launch.task)


@pytest.mark.slow
def test_an_agent_takes_its_tasks_over(cluster: Any) -> None:
    task = cluster.run(FOREVER)
    before, since = cluster.incarnation(), len(cluster.heard)
    cluster.restart_agent()
    whole = {"cpus": 100_000}  # less at first: what an agent offers is void while it is away
    taken = cluster.wait(lambda one: isinstance(one, NodeSeen) and one.node.capacity == whole, since)
    assert (taken.agent, taken.tasks) == (before, {task})
    cluster.stop(task)
    assert cluster.ended(task).stopped


@pytest.mark.slow
def test_silent_then_gone_then_back_with_the_proof(hasty_cluster: Any) -> None:
    cluster = hasty_cluster
    task = cluster.run(FOREVER)
    agent = cluster.incarnation()
    cluster.cut()
    cluster.wait(lambda one: isinstance(one, NodeSilent) and one.node == "n1")
    cluster.give_up()
    cluster.wait(lambda one: isinstance(one, NodeGone) and one.node == "n1")
    assert cluster.ended(task).cause.code == "vanished"
    assert "n1" not in cluster.backend.heard()
    since = len(cluster.heard)
    cluster.heal()
    cluster.replace_agent()
    cluster.wait(lambda one: isinstance(one, NodeSeen) and one.agent != agent, since)
