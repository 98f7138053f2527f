"""What a task gets, and how it ends: real processes, which write down themselves what happened to them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster, lives

from priority.job import filled, parse_spec
from priority.orders import LogRequest
from priority.queue.embedded import Server
from priority.resources import plain
from priority.service.settings import Settings


@pytest.fixture(scope="module")
def cluster(valkey_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One node for all tests here: tasks do not disturb each other, and that is a part of what is tested."""
    made = Cluster(valkey_server.url + "?db=1", tmp_path_factory.mktemp("nodes"))
    made.ready()
    yield made
    made.close()


def pid_in(path: Path, eventually: Callable[..., Any]) -> int:
    """What a task wrote into a file, once it did."""
    return int(eventually(lambda: path.exists() and path.read_text().strip(), f"{path.name}"))


class TestWhatATaskGets:
    def test_exit_status_output_and_use(self, cluster: Cluster) -> None:
        task = cluster.launch("echo out; echo err >&2; exit 3")
        ended = cluster.ended(task)
        assert (ended.exit_code, ended.signal, ended.stopped, ended.cause) == (3, None, False, None)
        assert ended.cpu_s is not None and 0 < ended.cpu_s < 5
        assert ended.peak_mem_mib is not None and ended.peak_mem_mib > 0
        assert (cluster.sandbox(task) / "stdout").read_text() == "out\n"
        assert (cluster.sandbox(task) / "stderr").read_text() == "err\n"

    def test_a_clean_environment_in_its_sandbox(self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
        given = {"MINE": "yes", "PRIORITY_TASK_ID": "forged", "LANG": "de_CH.UTF-8"}
        task = cluster.launch(["/usr/bin/env"], env=given)
        cluster.ended(task)
        box = cluster.sandbox(task)
        env = dict(line.split("=", 1) for line in (box / "stdout").read_text().splitlines())
        assert env.pop("PATH")
        assert env == {
            "HOME": str(box),
            "TMPDIR": str(box),
            "LANG": "de_CH.UTF-8",
            "MINE": "yes",
            "PRIORITY_JOB": "r/prod/x",
            "PRIORITY_TASK_ID": task,
            "PRIORITY_INSTANCE": task.split("-")[1],
            "PRIORITY_ATTEMPT": "1",
            "PRIORITY_SANDBOX": str(box),
        }

    def test_its_own_session_no_input_default_signals(self, cluster: Cluster) -> None:
        script = (
            'test "$(pwd)" = "$PRIORITY_SANDBOX" && ! read line && ps -o sid= -p $$ | grep -qw $$ '
            '&& grep -E "^Sig(Blk|Ign):" /proc/self/status'
        )
        task = cluster.launch(["/bin/bash", "-c", script])
        assert cluster.ended(task).exit_code == 0
        blocked, ignored = (int(mask, 16) for mask in (cluster.sandbox(task) / "stdout").read_text().split()[1::2])
        of_libc = 1 << 31 | 1 << 32  # signals 32 and 33, which no program can set
        assert (blocked & ~of_libc, ignored & ~of_libc) == (0, 0)

    def test_killed_by_a_signal_is_told_as_that(self, cluster: Cluster) -> None:
        ended = cluster.ended(cluster.launch("kill -USR1 $$"))
        assert (ended.exit_code, ended.signal, ended.stopped) == (None, signal.SIGUSR1, False)

    def test_a_command_that_cannot_be_executed(self, cluster: Cluster) -> None:
        for command, why in ((["no-such-program"], "No such file"), (["/etc/passwd"], "Permission denied")):
            ended = cluster.ended(cluster.launch(command))
            assert ended.cause is not None and ended.cause.code == "exec"
            assert command[0] in ended.cause.message and why in ended.cause.message

    def test_cpu_seconds_of_all_its_processes(self, cluster: Cluster) -> None:
        burn = "python3 -c 'import time\nwhile time.process_time() < 0.3: pass'"
        ended = cluster.ended(cluster.launch(f"({burn}) & {burn}; wait"))
        assert ended.cpu_s is not None and ended.cpu_s >= 0.55

    def test_peak_memory(self, cluster: Cluster) -> None:
        hold = "x = bytearray(100 * 2**20); x[::4096] = b'1' * len(x[::4096])"
        ended = cluster.ended(cluster.launch(["python3", "-c", hold]))
        assert ended.peak_mem_mib is not None and 100 <= ended.peak_mem_mib < 200


class TestStops:
    def test_notice_then_a_checkpoint(self, cluster: Cluster) -> None:
        task = cluster.run("trap 'echo saved > checkpoint; exit 7' TERM; echo ready; while :; do sleep 0.05; done")
        cluster.backend.logs(
            LogRequest(node="n1", task=task, stream="stdout", offset=0, limit=10, wait_s=10)
        )  # the trap is set
        cluster.stop(task)
        ended = cluster.ended(task)
        assert (ended.exit_code, ended.stopped) == (7, True)
        assert (cluster.sandbox(task) / "checkpoint").read_text() == "saved\n"

    def test_the_signal_of_its_choice(self, cluster: Cluster) -> None:
        task = cluster.run(["sleep", "1000"])
        cluster.stop(task, signal="INT")
        assert cluster.ended(task).signal == signal.SIGINT

    def test_who_ignores_the_notice_is_killed_after_it(self, cluster: Cluster) -> None:
        task = cluster.run("trap '' TERM; echo ready; while :; do sleep 0.05; done")
        cluster.backend.logs(LogRequest(node="n1", task=task, stream="stdout", offset=0, limit=10, wait_s=10))
        cluster.stop(task, notice_s=0.5)
        ended = cluster.ended(task)
        assert (ended.signal, ended.stopped) == (signal.SIGKILL, True)

    def test_children_have_their_notice_though_the_shell_dies_at_once(self, cluster: Cluster) -> None:
        child = "import signal,time,sys\nsignal.signal(15, lambda *_: None)\nopen('up','w')\n"
        child += "signal.pause()\ntime.sleep(0.3)\nopen('saved','w')"
        task = cluster.run(f'python3 -c "{child}"; true')
        box = cluster.sandbox(task)
        while not (box / "up").exists():
            os.sched_yield()
        cluster.stop(task, notice_s=10)
        cluster.ended(task)
        assert (box / "saved").exists()

    def test_an_earlier_end_of_the_notice_counts(self, cluster: Cluster) -> None:
        task = cluster.run("trap '' TERM; echo ready; while :; do sleep 0.05; done")
        cluster.backend.logs(LogRequest(node="n1", task=task, stream="stdout", offset=0, limit=10, wait_s=10))
        cluster.stop(task, notice_s=1000)
        cluster.stop(task, notice_s=0)
        assert cluster.ended(task).signal == signal.SIGKILL

    def test_stop_of_what_was_never_there_is_a_proof(self, cluster: Cluster) -> None:
        launch = cluster.make("touch $PRIORITY_SANDBOX/../../ran")
        cluster.stop(launch.task)
        refused = cluster.seen(launch.task, "refused")
        assert refused.cause is not None and refused.cause.code == "unknown"
        since = len(cluster.heard)
        cluster.backend.launch([launch])
        cluster.seen(launch.task, "refused", since)
        cluster.ended(cluster.launch("true"))
        assert not cluster.sandbox(launch.task).exists()


class TestNothingEscapes:
    """A task has ended only when nothing of it is left."""

    @pytest.mark.parametrize("how", ["by itself", "stopped"])
    @pytest.mark.parametrize(
        ("name", "command"),
        [
            ("background child", "sh -c 'echo $$ > pid; exec sleep 1000' &"),
            ("daemon", "setsid sh -c 'setsid sh -c \"echo \\$\\$ > pid; exec sleep 1000\" &' &"),
            (
                "env -i daemon",
                "env -i setsid sh -c 'env -i /usr/bin/setsid sh -c \"echo \\$\\$ > pid; exec sleep 1000\" &' &",
            ),
            (
                "deaf daemon",
                'env -i setsid sh -c \'trap "" TERM HUP INT; sh -c "echo \\$\\$ > pid; sleep 1000; sleep 1000" &\' &',
            ),
        ],
    )
    def test_daemons(self, cluster: Cluster, eventually: Callable[..., Any], name: str, command: str, how: str) -> None:
        wait = "while ! test -s pid; do sleep 0.01; done; "
        task = cluster.run(command + " " + wait + ("exit 5" if how == "by itself" else "sleep 1000"))
        pid = pid_in(cluster.sandbox(task) / "pid", eventually)
        if how == "stopped":
            cluster.stop(task, notice_s=0.3)
        ended = cluster.ended(task)
        assert not lives(pid)
        if how == "by itself":
            assert (ended.exit_code, ended.stopped) == (5, False)

    def test_another_task_is_left_alone(self, cluster: Cluster, eventually: Callable[..., Any]) -> None:
        daemon = "env -i setsid sh -c 'sh -c \"echo \\$\\$ > pid; exec sleep 1000\" &' & sleep 1000"
        spared, stopped = cluster.run(daemon), cluster.run(daemon)
        pid = pid_in(cluster.sandbox(spared) / "pid", eventually)
        gone = pid_in(cluster.sandbox(stopped) / "pid", eventually)
        cluster.stop(stopped, notice_s=0.2)
        cluster.ended(stopped)
        assert not lives(gone) and lives(pid)

    def test_a_fork_bomb(self, cluster: Cluster, eventually: Callable[..., Any]) -> None:
        # Each process that sees fewer than 50 brothers makes another, for ever, and none heeds TERM.
        bomb = (
            "import os, signal, time\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "while True:\n"
            "    fd = os.open('pids', os.O_CREAT | os.O_APPEND | os.O_WRONLY)\n"
            "    os.write(fd, b'%d\\n' % os.getpid())\n"
            "    if os.fstat(fd).st_size > 4096 * 4: time.sleep(1000)\n"
            "    os.close(fd)\n"
            "    if os.fork() == 0: os.setsid()\n"
            "    else: time.sleep(0.05)\n"
        )
        task = cluster.run(["python3", "-c", bomb])
        pids = cluster.sandbox(task) / "pids"
        eventually(lambda: pids.exists() and len(set(pids.read_text().split())) > 50, "the bomb")
        cluster.stop(task, notice_s=0)
        cluster.ended(task)
        assert not [pid for pid in set(pids.read_text().split()) if lives(int(pid))]


class TestLimits:
    def test_memory(self, cluster: Cluster) -> None:
        # Over its limit, and not so far that it is killed at once.
        hog = "import time; x = b'1' * (70 * 2**20); time.sleep(1000)"
        ended = cluster.ended(cluster.launch(["python3", "-c", hog], resources={"mem": 64}))
        assert ended.cause is not None and ended.cause.code == "mem" and not ended.stopped
        assert "64 MiB" in ended.cause.message and ended.cause.details["asked_mib"] == 64
        assert ended.signal == signal.SIGTERM

    def test_memory_of_a_job_that_names_none(self, cluster: Cluster) -> None:
        asked = parse_spec({"role": "r", "tier": "devel", "name": "x", "command": "true"})
        amounts = plain(filled(asked, Settings().job_limits).resources)
        hog = "import time; x = b'1' * (140 * 2**20); time.sleep(1000)"
        ended = cluster.ended(cluster.launch(["python3", "-c", hog], resources=amounts))
        assert ended.cause is not None and ended.cause.code == "mem" and not ended.stopped
        assert ended.cause.message.startswith("over its memory: used 1")
        assert ended.cause.message.endswith("but has 128 MiB; a job gets more by resources: {mem: ...}")

    def test_memory_of_all_its_processes_together(self, cluster: Cluster) -> None:
        hold = "x = bytearray(b'1' * (40 * 2**20)); import time; time.sleep(1000)"
        command = f'for i in 1 2 3; do python3 -c "{hold}" & done; wait'
        ended = cluster.ended(cluster.launch(command, resources={"mem": 80}))
        assert ended.cause is not None and ended.cause.code == "mem"

    def test_a_deaf_hog_far_over_its_limit_gets_no_grace(self, cluster: Cluster) -> None:
        hog = "import signal,time\nsignal.signal(15, signal.SIG_IGN)\n"
        hog += "x = bytearray(b'1' * (200 * 2**20))\ntime.sleep(1000)"
        ended = cluster.ended(cluster.launch(["python3", "-c", hog], resources={"mem": 32}, kill_grace=1000))
        assert ended.cause is not None and ended.cause.code == "mem" and ended.signal == signal.SIGKILL

    def test_disk(self, cluster: Cluster) -> None:
        fill = "mkdir deep; while :; do head -c 1048576 /dev/zero >> deep/big; sleep 0.02; done"
        ended = cluster.ended(cluster.launch(fill, resources={"disk": 8}))
        assert ended.cause is not None and ended.cause.code == "disk" and "8 MiB" in ended.cause.message

    def test_runtime(self, cluster: Cluster) -> None:
        ended = cluster.ended(cluster.launch("sleep 1000", max_runtime=0.3))
        assert ended.cause is not None and ended.cause.code == "runtime" and not ended.stopped

    def test_what_was_not_asked_for_is_not_limited(self, cluster: Cluster) -> None:
        hold = "x = bytearray(b'1' * (50 * 2**20)); import time; time.sleep(1.2); open('f','wb').write(x)"
        assert cluster.ended(cluster.launch(["python3", "-c", hold])).exit_code == 0


class TestOutput:
    def read(self, cluster: Cluster, task: str, offset: int, limit: int = 1000, wait_s: float = 0) -> Any:
        return cluster.backend.logs(
            LogRequest(node="n1", task=task, stream="stdout", offset=offset, limit=limit, wait_s=wait_s)
        )

    def test_waiting_for_what_comes(self, cluster: Cluster) -> None:
        task = cluster.run("echo one; while ! test -e go; do sleep 0.01; done; echo two")
        assert self.read(cluster, task, 0, wait_s=10).data == b"one\n"
        nothing = self.read(cluster, task, 4, wait_s=0.1)
        assert (nothing.data, nothing.ended) == (b"", False)
        (cluster.sandbox(task) / "go").touch()
        chunk = self.read(cluster, task, 4, wait_s=20)
        assert (chunk.offset, chunk.data) == (4, b"two\n")
        cluster.ended(task)
        end = self.read(cluster, task, 8, wait_s=20)
        assert (end.offset, end.data, end.ended) == (8, b"", True)

    def test_the_newest_is_kept_and_offsets_count_all(self, make_cluster: Callable[..., Cluster]) -> None:
        limit = 2**20
        cluster = make_cluster()
        cluster.ready(log_limit=limit)
        lines = 1_000_000
        task = cluster.launch(f"seq -f '%09.0f' {lines}; sleep 3; echo done")
        cluster.ended(task)
        path = cluster.sandbox(task) / "stdout"
        assert path.stat().st_blocks * 512 <= limit
        first = self.read(cluster, task, 0, limit=10_000)
        assert first.offset > 0
        start = -first.offset % 10
        number = int(first.data[start : start + 9])
        assert first.offset + start == (number - 1) * 10  # the offset counts what is no longer kept
        tail = self.read(cluster, task, -15)
        assert tail.data == b"%09d\ndone\n" % lines and tail.ended
        assert tail.offset == lines * 10 + 5 - 15

    def test_what_was_written_just_before_the_end_is_cut_too(self, make_cluster: Callable[..., Cluster]) -> None:
        limit = 2**20
        cluster = make_cluster()
        cluster.ready(log_limit=limit)
        task = cluster.launch("head -c 20000000 /dev/zero")  # over before it is looked at
        cluster.ended(task)
        assert (cluster.sandbox(task) / "stdout").stat().st_blocks * 512 <= limit
        tail = self.read(cluster, task, -10)
        assert (tail.offset, tail.data, tail.ended) == (20_000_000 - 10, bytes(10), True)

    def test_an_output_that_became_a_link_is_not_followed(self, cluster: Cluster) -> None:
        from priority.errors import NotFound

        task = cluster.launch("rm stdout; ln -s /etc/passwd stdout")
        cluster.ended(task)
        with pytest.raises(NotFound):
            self.read(cluster, task, 0)
