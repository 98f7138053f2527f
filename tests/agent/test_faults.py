"""Deaths, silence and repetition: nothing is lost, nothing runs twice."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster, kill, lives

from priority.backend import agent as backend_agent
from priority.backend import belt, proc
from priority.errors import Unavailable
from priority.incarnation import began_later
from priority.orders import LogRequest, NodeGone, NodeSeen, NodeSilent, TaskSeen
from priority.queue.embedded import Server, serve
from priority.wire.connection import connect
from priority.wire.names import BEATS, REPORTS

MARK = 'echo "$PRIORITY_TASK_ID" >> $PRIORITY_SANDBOX/../../ran; '
"""The witness: one line for each time that a task really ran."""


def ran(cluster: Cluster, node: str = "n1") -> list[str]:
    path = cluster.state / "nodes" / node / "ran"
    return path.read_text().split() if path.exists() else []


class StandInBond:
    """A warden that answers at once what has an answer, while `tell` is set."""

    tell: Callable[[dict[str, Any]], None] | None = None

    def send(self, message: dict[str, Any], wait_s: float = 0.0) -> bool:
        if self.tell is not None and message["do"] in ("well", "lease"):
            self.tell({"well": True})
        return True


class TestTheAgentDies:
    def test_its_tasks_go_on_and_their_ends_are_exact(self, cluster: Cluster) -> None:
        agent, first = cluster._agents[0], cluster.incarnation()
        task = cluster.run(MARK + "while ! test -e go; do sleep 0.01; done; exit 42")
        agent.end(signal.SIGKILL)
        cluster.agent()
        seen = cluster.wait(lambda one: isinstance(one, NodeSeen) and one.agent != first)
        assert isinstance(seen, NodeSeen) and task in seen.tasks
        (cluster.sandbox(task) / "go").touch()
        assert cluster.ended(task).exit_code == 42
        assert ran(cluster) == [task]

    def test_an_end_while_it_was_dead_is_told_when_it_is_back(self, cluster: Cluster, eventually: Any) -> None:
        task = cluster.run(MARK + "while ! test -e go; do sleep 0.01; done; exit 9")
        other = cluster.run("sleep 1000")  # so that the warden has a reason to stay
        agent = cluster._agents[0]
        warden = agent.warden()
        agent.end(signal.SIGKILL)
        (cluster.sandbox(task) / "go").touch()
        eventually(lambda: (agent.folder / "journal").read_text().count('"end"') == 1, "the end in the journal")
        cluster.agent()
        ended = cluster.ended(task)
        assert (ended.exit_code, ended.cause) == (9, None)
        assert agent.warden() == warden and ran(cluster) == [task]
        cluster.stop(other, notice_s=0)
        cluster.ended(other)

    def test_sigterm_leaves_the_tasks_to_the_next_agent(self, cluster: Cluster) -> None:
        task = cluster.run("while ! test -e go; do sleep 0.01; done; exit 4")
        assert cluster._agents[0].end() == 0
        since = len(cluster.heard)
        cluster.agent()
        assert task in cluster.node_seen(since=since).tasks
        (cluster.sandbox(task) / "go").touch()
        assert cluster.ended(task).exit_code == 4

    def test_sigterm_may_end_the_tasks_too(self, make_cluster: Callable[..., Cluster], eventually: Any) -> None:
        cluster = make_cluster()
        agent = cluster.ready(stop_tasks=True)
        task = cluster.run("sleep 1000")
        warden = agent.warden()
        assert agent.end() == 0
        ended = cluster.ended(task)
        assert ended.cause is not None and ended.cause.code == "lease" and ended.signal == signal.SIGTERM
        eventually(lambda: not lives(warden), "the warden to leave")

    def test_a_warden_without_tasks_leaves_with_its_agent(self, cluster: Cluster, eventually: Any) -> None:
        cluster.ended(cluster.launch("true"))
        warden = cluster._agents[0].warden()
        cluster._agents[0].end()
        eventually(lambda: not lives(warden), "the warden to leave")

    def test_a_second_agent_of_a_node_does_not_start(self, cluster: Cluster) -> None:
        assert cluster.agent().process.wait(60) == 1

    def test_nor_one_of_its_name_elsewhere(self, cluster: Cluster, tmp_path: Path) -> None:
        from cluster import AgentProcess

        other = AgentProcess(cluster.url, tmp_path / "elsewhere", "n1", {"heartbeat_s": 0.5})
        assert other.process.wait(60) == 1
        assert cluster.ended(cluster.launch("exit 1")).exit_code == 1


class TestTheWardenDies:
    @pytest.mark.parametrize("with_agent", [False, True], ids=["alone", "with its agent"])
    def test_what_it_left_is_killed_and_only_then_told(
        self, cluster: Cluster, eventually: Any, with_agent: bool
    ) -> None:
        daemon = "env -i setsid sh -c 'sh -c \"echo \\$\\$ > pid; exec sleep 1000\" &' & "
        task = cluster.run(MARK + daemon + "sleep 1000")
        path = cluster.sandbox(task) / "pid"
        pid = int(eventually(lambda: path.exists() and path.read_text().strip()))
        agent = cluster._agents[0]
        left = proc.below([agent.warden()]) - {agent.warden()}
        if with_agent:
            agent.end(signal.SIGKILL)
        kill(agent.warden())
        if with_agent:
            cluster.ready()  # what is launched below is for this incarnation
        ended = cluster.ended(task)
        assert ended.cause is not None and ended.cause.code == "vanished" and ended.exit_code is None
        assert pid in left and not any(map(lives, left))
        assert cluster.ended(cluster.launch("exit 2")).exit_code == 2
        assert ran(cluster) == [task]

    def test_one_that_hangs_makes_its_node_silent(self, cluster: Cluster) -> None:
        task = cluster.run("while ! test -e go; do sleep 0.01; done; exit 42")
        warden = cluster._agents[0].warden()
        kill(warden, signal.SIGSTOP)
        try:
            cluster.wait(lambda one: isinstance(one, NodeSilent))
            since = len(cluster.heard)
        finally:
            kill(warden, signal.SIGCONT)
        assert task in cluster.node_seen(since=since).tasks
        (cluster.sandbox(task) / "go").touch()
        assert cluster.ended(task).exit_code == 42


class TestRedis:
    @pytest.fixture
    def server(self, tmp_path: Path) -> Any:
        with serve(tmp_path / "redis") as server:
            yield server

    def test_a_restart_in_the_middle(
        self, make_cluster: Callable[..., Cluster], server: Server, capfd: pytest.CaptureFixture[str]
    ) -> None:
        cluster = make_cluster(server.url)
        cluster.ready()
        ends = cluster.run(MARK + "while ! test -e go; do sleep 0.01; done; exit 6")
        stays = cluster.run(MARK + "sleep 1000")
        server.kill()
        (cluster.sandbox(ends) / "go").touch()
        since = len(cluster.heard)
        server.start()
        seen = cluster.node_seen(since=since)
        assert stays in seen.tasks
        assert cluster.ended(ends).exit_code == 6
        again = cluster.make(MARK + "exit 8")
        end = time.monotonic() + 30
        while not cluster.kinds(again.task) and time.monotonic() < end:
            cluster.backend.launch([again])  # as a scheduler does that hears nothing
            time.sleep(0.2)
        assert cluster.ended(again.task).exit_code == 8
        assert ran(cluster) == [ends, stays, again.task]
        said = capfd.readouterr().err
        assert said.index("node n1: Redis does not answer") < said.index("node n1: Redis answers again")

    def test_an_emptied_redis(self, cluster: Cluster) -> None:
        task = cluster.run(MARK + "while ! test -e go; do sleep 0.01; done; exit 6")
        since = len(cluster.heard)
        client = connect(cluster.url)
        client.flushall()
        assert task in cluster.node_seen(since=since).tasks
        (cluster.sandbox(task) / "go").touch()
        assert cluster.ended(task).exit_code == 6
        assert cluster.ended(cluster.launch("exit 1")).exit_code == 1
        client.close()

    def test_an_end_is_told_until_it_is_acknowledged(self, cluster: Cluster) -> None:
        cluster.acknowledge = False
        task = cluster.launch("exit 5")
        cluster.ended(task)
        client = connect(cluster.url)
        client.delete(REPORTS)  # all that was said is lost
        cluster.acknowledge = True
        since = len(cluster.heard)
        assert cluster.ended(task, since).exit_code == 5  # of itself, after some seconds
        since = len(cluster.heard)
        cluster.backend.inquire(["n1"])
        assert task not in cluster.node_seen(since=since).tasks
        client.close()

    def test_a_new_scheduler_hears_all_that_matters(self, cluster: Cluster) -> None:
        runs = cluster.run("sleep 1000")
        cluster.acknowledge = False
        ends = cluster.launch("exit 5")
        cluster.ended(ends)
        cluster.restart_scheduler()
        assert cluster.node_seen().tasks >= {runs, ends}
        assert cluster.ended(ends).exit_code == 5

    def test_lies_from_redis_do_no_harm(self, cluster: Cluster) -> None:
        from rq import Queue
        from rq.serializers import JSONSerializer

        client = connect(cluster.url)
        queue = Queue(belt.queue_name("n1"), connection=client, serializer=JSONSerializer)
        witness = cluster.state / "harm"
        spec = {"job": "x", "argv": ["touch", str(witness)], "env": {}, "mem_mib": 0, "disk_mib": 0, "grace_s": 1}
        order = {"agent": cluster.incarnation(), "epoch": 1, "instance": 0, "attempt": 1, "spec": 0}
        lies: list[Any] = [
            {"specs": [spec], "launch": [{**order, "task": "../../evil"}]},
            {"specs": [spec], "launch": [{**order, "task": "a", "spec": 7}]},
            {"specs": [{**spec, "argv": []}], "launch": [{**order, "task": "b"}]},
            {"specs": [{**spec, "grace_s": "x"}], "launch": [{**order, "task": "c"}]},
            {"stop": [{"task": "a", "epoch": 1, "signal": "STOP", "notice_s": 1}]},
            [],
            None,
        ]
        for lie in lies:
            queue.enqueue(belt.TAKE, lie)
        queue.enqueue("os.system", f"touch {witness}")
        queue.enqueue("no.such.thing")
        client.hset("rq:job:raw", mapping={"data": b"\xff not zlib"})
        client.rpush(queue.key, "raw", "missing")
        for ask in (b"\xff", b"[", b"3", b'{"logs": {"reply": "../x"}}', b'{"ack": 7}', b'{"ack": [7, "../x"]}'):
            client.rpush("priority:ask:n1", ask)
        for entry in ({"x": "y"}, {"node": "../x", "reports": "[]"}, {"node": "n1", "reports": "[7, {}]"}):
            client.xadd(REPORTS, entry)
        client.hset(BEATS, b"\xff", b"1")
        assert cluster.ended(cluster.launch("exit 3")).exit_code == 3
        assert not witness.exists()
        client.close()


class TestNeverTwice:
    def test_a_launch_sent_twice(self, cluster: Cluster) -> None:
        launch = cluster.make(MARK + "sleep 0.2")
        for _ in range(3):
            cluster.backend.launch([launch, launch])
        cluster.ended(launch.task)
        cluster.ended(cluster.launch("true"))
        assert ran(cluster) == [launch.task]

    def test_a_launch_that_comes_late(self, cluster: Cluster) -> None:
        launch = cluster.make(MARK + "exit 1")
        cluster.backend.launch([launch])
        cluster.ended(launch.task)
        since = len(cluster.heard)
        cluster.backend.launch([launch])
        late = cluster.wait(lambda one: isinstance(one, TaskSeen) and one.task == launch.task, since)
        assert isinstance(late, TaskSeen) and late.kind in ("ended", "refused")
        assert ran(cluster) == [launch.task]

    def test_late_even_after_all_processes_were_new(self, cluster: Cluster) -> None:
        launch = cluster.make(MARK + "exit 1")
        cluster.backend.launch([launch])
        cluster.ended(launch.task)
        cluster._agents[0].end()
        cluster.ready()
        since = len(cluster.heard)
        cluster.backend.launch([cluster.make(launch.spec.command, task=launch.task)])
        cluster.wait(lambda one: isinstance(one, TaskSeen) and one.task == launch.task, since)
        cluster.ended(cluster.launch("true"))
        assert ran(cluster) == [launch.task]

    def test_what_was_sent_to_another_incarnation_is_refused(self, cluster: Cluster) -> None:
        old = cluster.make(MARK)
        cluster._agents[0].end(signal.SIGKILL)
        cluster.ready()
        cluster.backend.launch([old])
        refused = cluster.seen(old.task, "refused")
        assert refused.cause is not None and refused.cause.code == "incarnation"
        assert began_later(cluster.incarnation(), old.agent)
        assert ran(cluster) == []

    def test_a_deposed_leader_is_not_obeyed(self, cluster: Cluster) -> None:
        cluster.epoch = 5
        task = cluster.run("sleep 1000")
        cluster.epoch = 4
        launch = cluster.make(MARK)
        cluster.backend.launch([launch])
        refused = cluster.seen(launch.task, "refused")
        assert refused.cause is not None and refused.cause.code == "epoch"
        cluster.stop(task, notice_s=0)
        cluster._agents[0].end(signal.SIGKILL)  # the highest epoch outlives agent
        cluster.ready()
        cluster.stop(task, notice_s=0)
        cluster.epoch = 5
        cluster.ended(cluster.launch("true"))
        assert "ended" not in cluster.kinds(task) and ran(cluster) == []


class TestTheLease:
    def test_silent_then_gone_and_by_then_all_are_dead(self, make_cluster: Callable[..., Cluster]) -> None:
        cluster = make_cluster(silent_s=0.5, lease_s=3.0, lease_margin_s=1.0)
        agent = cluster.ready()
        task = cluster.run("sh -c 'trap \"\" TERM; sleep 1000; sleep 1000' & sleep 1000")
        family = proc.below([agent.warden()]) - {agent.warden()}
        cut_s = time.monotonic()
        agent.end(signal.SIGKILL)
        cluster.wait(lambda one: isinstance(one, NodeSilent))
        alive = all(map(lives, family))
        assert alive or time.monotonic() - cut_s > 2.0, "silence alone ends nothing"
        cluster.wait(lambda one: isinstance(one, NodeGone))
        assert not any(map(lives, family))
        since = len(cluster.heard)
        cluster.agent()
        assert task in cluster.node_seen(since=since).tasks
        ended = cluster.ended(task)
        assert ended.cause is not None and ended.cause.code == "lease"

    def test_a_stopped_agent_wakes_as_another(
        self, make_cluster: Callable[..., Cluster], eventually: Callable[..., Any]
    ) -> None:
        cluster = make_cluster(silent_s=0.5, lease_s=1.5, lease_margin_s=1.0)
        agent = cluster.ready()
        first = cluster.incarnation()
        task = cluster.run("sleep 1000")
        agent.process.send_signal(signal.SIGSTOP)
        threads = Path(f"/proc/{agent.process.pid}/task")
        eventually(
            lambda: all((one / "stat").read_text().rpartition(")")[2].split()[0] == "T" for one in threads.iterdir()),
            "every thread to be stopped",
        )
        late = cluster.make(MARK)  # sent while it does not listen: waits in its queue
        cluster.backend.launch([late])
        cluster.wait(lambda one: isinstance(one, NodeGone))
        cluster.backend.launch([late])
        since = len(cluster.heard)
        agent.process.send_signal(signal.SIGCONT)
        ended = cluster.ended(task)
        assert ended.cause is not None and ended.cause.code == "lease"
        cluster.wait(lambda one: isinstance(one, NodeSeen) and one.agent != first, since)
        cluster.ended(cluster.launch("true"))
        assert late.task not in ran(cluster)

    def test_silence_ends(self, make_cluster: Callable[..., Cluster]) -> None:
        cluster = make_cluster(silent_s=0.5)
        agent = cluster.ready()
        task = cluster.run("sleep 1000")
        agent.process.send_signal(signal.SIGSTOP)
        cluster.wait(lambda one: isinstance(one, NodeSilent))
        since = len(cluster.heard)
        agent.process.send_signal(signal.SIGCONT)
        assert task in cluster.node_seen(since=since).tasks
        assert "ended" not in cluster.kinds(task)

    def test_while_redis_is_away_the_warden_is_not_thought_to_hang(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        clock = [1000.0]
        monkeypatch.setattr(backend_agent, "now_s", lambda: clock[0])
        bond = StandInBond()
        agent = backend_agent.Agent("n1", {}, {}, "redis://127.0.0.1:1", tmp_path, 1.0, 60.0, bond)  # type: ignore[arg-type]
        bond.tell = agent._heed
        agent._sure.set()  # as after a beat that Redis took
        for _ in range(20):
            agent._beat()
            clock[0] += 1.0
        assert "the warden does not answer" not in caplog.text
        bond.tell = None  # now it hangs
        for _ in range(6):
            agent._beat()
            clock[0] += 1.0
        assert "the warden does not answer" in caplog.text

    def test_a_redis_that_is_away_longer_than_the_lease(
        self, make_cluster: Callable[..., Cluster], tmp_path: Path
    ) -> None:
        with serve(tmp_path / "redis") as server:
            cluster = make_cluster(server.url, silent_s=0.5, lease_s=4.0, lease_margin_s=1.0)
            cluster.ready()
            task = cluster.run("while ! test -e go; do sleep 0.01; done; exit 6")
            server.kill()
            time.sleep(6)  # what is tested is that nothing happens in a time
            since = len(cluster.heard)
            server.start()
            assert task in cluster.node_seen(since=since).tasks
            (cluster.sandbox(task) / "go").touch()
            assert cluster.ended(task).exit_code == 6
            assert not any(isinstance(one, NodeGone) for one in cluster.heard)

    def test_a_node_that_was_never_heard_of(
        self, make_cluster: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("priority.backend.local.LOG_GRACE_S", 0.2)
        cluster = make_cluster(silent_s=0.3, lease_s=0.5, lease_margin_s=0.2)
        cluster.backend.inquire(["n9"])
        cluster.wait(lambda one: isinstance(one, NodeSilent) and one.node == "n9")
        cluster.wait(lambda one: isinstance(one, NodeGone) and one.node == "n9")
        with pytest.raises(Unavailable):
            cluster.backend.logs(LogRequest(node="n9", task="a", stream="stdout", offset=0, limit=1, wait_s=0))


class TestHousekeeping:
    def test_old_sandboxes_go(self, make_cluster: Callable[..., Cluster], eventually: Any) -> None:
        cluster = make_cluster()
        cluster.ready(ended_keep_s=0)
        launch = cluster.make(MARK + "mkdir -p a/b; touch a/b/c")
        cluster.backend.launch([launch])
        cluster.ended(launch.task)
        eventually(lambda: not cluster.sandbox(launch.task).exists(), "the sandbox to go")
        since = len(cluster.heard)
        cluster.backend.launch([launch])  # but its name is known for longer
        cluster.wait(lambda one: isinstance(one, TaskSeen) and one.task == launch.task, since)
        assert ran(cluster) == [launch.task]

    def test_a_full_disk_starts_nothing_it_cannot_remember(self, cluster: Cluster) -> None:
        (cluster._agents[0].folder / "sandboxes").rename(cluster.state / "away")
        launch = cluster.make(MARK)
        cluster.backend.launch([launch])
        refused = cluster.seen(launch.task, "refused")
        assert refused.cause is not None and refused.cause.code == "sandbox"
        assert ran(cluster) == []

    def test_nothing_is_left_in_redis(self, cluster: Cluster, eventually: Any) -> None:
        for _ in range(5):
            cluster.ended(cluster.launch("true"))
        client = connect(cluster.url)
        eventually(lambda: client.xlen(REPORTS) == 0 and not client.keys("rq:job:*"), "streams and jobs to go")
        client.close()
