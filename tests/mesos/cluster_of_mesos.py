"""The contract's cluster over a real Mesos: one agent, `n1`, which tests restart, cut off, replace and give up."""

from __future__ import annotations

import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "agent"))

from cluster import WAIT_S, Cluster
from real import Mesos

from priority.backend.mesos import NOTE, MesosBackend
from priority.backend.mesos_known import Times
from priority.orders import Delivery, LogRequest, TaskSeen
from priority.store import open_store


class MesosCluster(Cluster):
    """A framework of its own for each test, on a Mesos that may be others' too."""

    def __init__(self, mesos: Mesos, state: Path, **times: float) -> None:
        self.mesos = mesos
        self._store = open_store(f"sqlite:///{state / 'priority.db'}")
        self._store.upgrade()
        super().__init__(mesos.url, state, **times)

    def fresh(self) -> MesosBackend:
        times = Times(silent_s=self.times["silent_s"], gone_s=self.times["lease_s"] + self.times["lease_margin_s"])
        return MesosBackend(self.mesos.url, self._store, role="contract", failover_s=100.0, times=times)

    def _listen(self) -> None:
        self.backend: Any = self.fresh()
        self._thread = threading.Thread(target=self.backend.listen, args=(self._take,))
        self._thread.start()

    def _take(self, delivery: Delivery) -> None:
        if not self.acknowledge:
            # An agent says that a task has ended only when it knows that its start has been heard.
            ended = {one.task for one in delivery.reports if isinstance(one, TaskSeen) and one.kind == "ended"}
            self.backend.acknowledge(Delivery((), [ack for ack in delivery.token or () if ack[0] not in ended]))
        super()._take(delivery)

    # --- the agent -----------------------------------------------------------------------------------------

    def ready(self, name: str = "n1", **_options: Any) -> Any:
        return self.node_seen(name)

    def restart_agent(self) -> None:
        """Its process; it finds what it runs, under the same id."""
        self.mesos.kill("agent-0")
        self.mesos.restart()

    def replace_agent(self) -> None:
        """Another agent on the same machine: another id."""
        if not self.mesos.ended(self.mesos.pid("agent-0"), 5.0):
            self.mesos.kill("agent-0")
        shutil.rmtree(self.mesos.work / "agent-0" / "meta", ignore_errors=True)
        self.mesos.restart()

    def cut(self) -> None:
        self.mesos.signal("agent-0", signal.SIGSTOP)

    def heal(self) -> None:
        self.mesos.signal("agent-0", signal.SIGCONT)

    def give_up(self) -> None:
        """An operator says that it is gone for ever. Before that nothing on it is held dead."""
        self.mesos.operator("MARK_AGENT_GONE", agent_id={"value": self.incarnation()})

    # --- the rest --------------------------------------------------------------------------------------------

    def read(self, task: str, offset: int, limit: int, wait_s: float) -> Any:
        return self.backend.logs(
            LogRequest(node="n1", task=task, stream="stdout", offset=offset, limit=limit, wait_s=wait_s)
        )

    def out(self, task: str) -> None:
        """It is there when the last line is."""
        deadline = time.monotonic() + WAIT_S
        while not self.read(task, 0, 100, 10).data.endswith(b"ready\n"):
            assert time.monotonic() < deadline

    def close(self) -> None:
        self.backend.close()
        self._thread.join(10)
        assert not self._thread.is_alive(), "close did not end the listening thread"
        with self._store.read() as reader:
            framework = reader.note(NOTE)
        if framework:
            self.mesos.operator("TEARDOWN", framework_id={"value": framework})
            self.mesos.wait_until_idle()
        self._store.close()
