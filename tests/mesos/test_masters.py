"""The leading master of three dies: found again through ZooKeeper, a list and redirects; no task is touched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_of_mesos import MesosCluster
from elected import Elected
from real import NoMesos

from priority.backend.mesos import MesosBackend
from priority.backend.mesos_line import leader_in_zookeeper

pytestmark = [pytest.mark.mesos, pytest.mark.slow, pytest.mark.timeout(280)]

CALM = {"silent_s": 60.0, "lease_s": 3600.0, "lease_margin_s": 1.0}


@pytest.fixture
def elected(mesos_there: Path, tmp_path: Path) -> Iterator[Elected]:
    try:
        made = Elected(tmp_path / "mesos")
    except NoMesos as error:
        pytest.skip(str(error))
    yield made
    made.close()


class Following(MesosCluster):
    """By way of `where`."""

    def __init__(self, mesos: Any, state: Path, where: str) -> None:
        self._where = where
        super().__init__(mesos, state, **CALM)

    def fresh(self) -> MesosBackend:
        return MesosBackend(self._where, self._store, role="contract", failover_s=100.0)


@pytest.mark.parametrize("way", ["zk", "listed"])
def test_no_task_is_lost_or_begun_again_when_the_leader_dies(elected: Elected, tmp_path: Path, way: str) -> None:
    if way == "zk":
        pytest.importorskip("kazoo", reason="zk:// needs the extra mesos (kazoo)")
        assert leader_in_zookeeper(elected.zk) == elected.url
    witness = tmp_path / "witness"
    command = f"echo $PRIORITY_TASK_ID >> {witness}; sleep 1000"
    cluster = Following(elected, tmp_path, getattr(elected, way))
    try:
        cluster.ready()
        tasks = [cluster.run(command) for _ in range(2)]
        killed = elected.kill_leader()
        tasks.append(cluster.launch(command))  # while nobody leads
        cluster.seen(tasks[-1], "started")
        assert elected.leader() != killed
        assert sorted(witness.read_text().split()) == sorted(tasks)
        assert [cluster.kinds(task) for task in tasks] == [{"started"}] * 3
        elected.start_master(killed)  # it follows now
        for task in tasks:
            cluster.stop(task, notice_s=1)
            assert cluster.ended(task).stopped
    finally:
        cluster.close()
