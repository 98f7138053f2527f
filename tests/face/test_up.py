"""`priority up`: real processes, killed and stopped, on a folder of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from priority.errors import PriorityError, Unavailable
from priority.face.client import Client
from priority.service.settings import Settings

Eventually = Callable[..., Any]
READY_S = 120.0


class Up:
    """One `priority up`, and how to ask it."""

    def __init__(self, state: Path) -> None:
        self.state = state
        given = {name: value for name, value in os.environ.items() if not name.startswith("PRIORITY_")}
        self.environment = given | {
            "PRIORITY_STATE": str(state), "PRIORITY_PORT": "0", "PRIORITY_AGENTS": "1", "PRIORITY_AGENT_CPUS": "2",
            "PRIORITY_CONFIG": os.devnull, "PRIORITY_LEASE_S": "90",
        }  # fmt: skip
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        with (self.state / "log").open("ab") as log:
            command = [sys.executable, "-m", "priority", "up"]
            self.process = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        return self.process

    def client(self) -> Client:
        return Client.find(Settings(state=self.state, url="", token=""))

    def parts(self) -> dict[str, int]:
        document = json.loads((self.state / "up.json").read_text())
        return {name: int(pid) for name, pid in document["parts"].items() if document["pid"] == self.process.pid}

    def well(self) -> bool:
        """All parts are there, and the node is up."""
        assert self.process.poll() is None, self.log()
        try:
            with self.client() as client:
                return set(self.parts()) >= {"api", "scheduler", "valkey", "agent-node-1"} and any(
                    node["state"] == "up" for node in client.nodes()["items"]
                )
        except (PriorityError, OSError, ValueError):
            return False

    def log(self) -> str:
        return (self.state / "log").read_text()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=60)


@pytest.fixture
def up(tmp_path: Path, eventually: Eventually) -> Iterator[Up]:
    made = Up(tmp_path)
    eventually(made.well, "the service", READY_S)
    yield made
    if made.process.poll() is None:
        # What a test left running ends before its folder goes.
        with made.client() as client:
            for job in client.all_jobs(state="active"):
                client.kill(job["uid"])
        made.stop()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def job(name: str, command: str) -> dict[str, Any]:
    return {"role": "physics", "tier": "devel", "name": name, "command": command, "kill_grace": 1}


def test_parts_are_brought_back_work_goes_on_and_a_second_start_finds_it(up: Up, eventually: Eventually) -> None:
    with up.client() as client:
        client.apply_roles({"physics": {}})
        long = client.submit(job("long", "sleep 300"))["uid"]
        eventually(lambda: [task["state"] for task in client.all_tasks(long)] == ["running"])
    # 1. each part alone
    for name in ("api", "scheduler", "valkey", "agent-node-1"):
        before = up.parts()[name]
        os.kill(before, signal.SIGKILL)
        eventually(lambda name=name, before=before: up.parts().get(name, before) != before and up.well(), name, READY_S)
    with up.client() as client:
        done = client.submit(job("after", "true"))["uid"]
        assert client.wait(done, timeout_s=60)[0]["finished"] == 1
        assert [(task["attempt"], task["state"]) for task in client.all_tasks(long)] == [(1, "running")]
    # 2. another on the same folder is refused, and harms nothing
    second = subprocess.run(
        [sys.executable, "-m", "priority", "up"], env=up.environment, capture_output=True, text=True, check=False
    )
    assert second.returncode == 5 and f"pid {up.process.pid}" in second.stderr
    # 3. a clean stop leaves no part behind; the next start goes on with the same task
    parts = up.parts()
    assert up.stop() == 0
    assert "tasks that run go on for 90 s (setting lease_s)" in up.log()
    assert not [name for name, pid in parts.items() if alive(pid)]
    with pytest.raises(Unavailable, match="nothing runs on the state folder"):
        up.client()
    up.start()
    eventually(up.well, "the second start", READY_S)
    with up.client() as client:
        assert client.job(done)["finished"] == 1
        eventually(lambda: [task["state"] for task in client.all_tasks(long)] == ["running"], "the task", READY_S)
        assert [task["attempt"] for task in client.all_tasks(long)] == [1]


def test_parts_end_with_a_supervisor_that_was_killed(up: Up, eventually: Eventually) -> None:
    parts = up.parts()
    up.process.kill()
    up.process.wait()
    up.start()  # waits until they have gone
    eventually(up.well, "the next start", READY_S)
    assert not [name for name, pid in parts.items() if alive(pid)]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["scheduler"], ["scheduler of sqlite:///", "redis unix://", "Ctrl-C stops it; what runs goes on"]),
        (
            ["agent", "--name", "n7", "--cpus", "2"],
            ["node n7: cpus 2, disk 32GiB, mem 8GiB", "Ctrl-C stops it", "60 s"],
        ),
        (["api", "--port", "0"], ["api http://127.0.0.1:", "Ctrl-C stops it"]),
    ],
)
def test_a_part_alone_says_what_it_is_and_how_it_stops(tmp_path: Path, command: list[str], says: list[str]) -> None:
    given = {name: value for name, value in os.environ.items() if not name.startswith("PRIORITY_")}
    environment = {**given, "PRIORITY_STATE": str(tmp_path), "PRIORITY_CONFIG": os.devnull}
    priority = [sys.executable, "-m", "priority"]
    subprocess.run([*priority, "db", "upgrade"], env=environment, check=True, capture_output=True)
    process = subprocess.Popen(
        [*priority, *command], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        said = ""
        while not all(words in said for words in says) and (line := process.stdout.readline()):
            said += line
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert all(words in said for words in says), said


@pytest.mark.parametrize("ignored", [False, True], ids=["a terminal is closed", "nohup"])
def test_a_hang_up_stops_it_cleanly_or_is_ignored(tmp_path: Path, ignored: bool, eventually: Eventually) -> None:
    begin = 'trap \'\' HUP; exec "$0" "$@"' if ignored else 'exec "$0" "$@"'
    process = subprocess.Popen(["/bin/sh", "-c", begin, sys.executable, "-c", SUPERVISED, str(tmp_path), "waits"])
    try:
        eventually(lambda: lines(tmp_path / "started"))
        process.send_signal(signal.SIGHUP)
        if ignored:
            os.kill(int(lines(tmp_path / "started")[0]), signal.SIGKILL)
            eventually(lambda: len(lines(tmp_path / "started")) == 2, "the part to be brought back")
            process.terminate()
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()
    assert not alive(int(lines(tmp_path / "started")[-1]))


def test_secrets_are_the_owners_alone(up: Up) -> None:
    assert up.state.stat().st_mode & 0o777 == 0o700
    assert (up.state / "admin.token").stat().st_mode & 0o777 == 0o600
    assert "pri_" not in up.log()
    for pid in up.parts().values():
        assert b"pri_" not in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_port_in_use_is_said_at_once(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        environment = {**os.environ, "PRIORITY_STATE": str(tmp_path), "PRIORITY_CONFIG": os.devnull}
        done = subprocess.run(
            [sys.executable, "-m", "priority", "up", "--port", port],
            env=environment, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
    assert done.returncode == 5 and "--port" in done.stderr and "Traceback" not in done.stderr


def test_a_database_of_no_kind_is_no_valid_input(tmp_path: Path) -> None:
    given = {"PRIORITY_STATE": str(tmp_path), "PRIORITY_CONFIG": os.devnull, "PRIORITY_DATABASE": "mysql://x"}
    done = subprocess.run(
        [sys.executable, "-m", "priority", "up", "--port", "0"],
        env={**os.environ, **given}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2 and "database: is of the kind 'mysql'" in done.stderr


SUPERVISED = """
import os, sys, time
from pathlib import Path


folder = Path(sys.argv[1])
def work(ready):
    with (folder / "started").open("a") as log:
        log.write(f"{os.getpid()}\\n")
    ready("yes")
    if sys.argv[2] == "dies":
        return 3
    import signal
    if sys.argv[2] == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (folder / "deaf").touch()
    while True:
        signal.pause()

from priority.service import supervisor as watch
watch.STOP_S = 0.3
Part, Supervisor = watch.Part, watch.Supervisor
said = lambda line: (folder / "said").open("a").write(line + "\\n")
supervisor = Supervisor(folder, said)
supervisor.start(Part("work", work))
try:
    supervisor.run()
finally:
    supervisor.stop()
"""


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    begun: list[subprocess.Popen[bytes]] = []

    def begin(how: str) -> subprocess.Popen[bytes]:
        begun.append(subprocess.Popen([sys.executable, "-c", SUPERVISED, str(tmp_path), how], start_new_session=True))
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.wait()


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_a_part_that_keeps_dying_is_brought_back_ever_more_slowly(
    supervised: Callable[[str], subprocess.Popen[bytes]], tmp_path: Path, eventually: Eventually
) -> None:
    process = supervised("dies")
    eventually(lambda: len(lines(tmp_path / "started")) >= 3)
    said = lines(tmp_path / "said")
    assert "ended with status 3; it is started again in 0.1 s" in said[0]
    assert "again in 0.5 s" in said[1]
    process.terminate()
    assert process.wait(timeout=60) == 0


def test_a_part_that_does_not_stop_is_killed(
    supervised: Callable[[str], subprocess.Popen[bytes]], tmp_path: Path, eventually: Eventually
) -> None:
    process = supervised("stubborn")
    eventually((tmp_path / "deaf").exists)
    process.terminate()
    assert process.wait(timeout=60) == 0
    assert "does not stop and is killed" in lines(tmp_path / "said")[-1]
    assert not alive(int(lines(tmp_path / "started")[0]))


def test_a_part_ends_when_its_supervisor_is_killed(
    supervised: Callable[[str], subprocess.Popen[bytes]], tmp_path: Path, eventually: Eventually
) -> None:
    process = supervised("waits")
    eventually(lambda: lines(tmp_path / "started"))
    process.kill()
    process.wait()
    part = int(lines(tmp_path / "started")[0])
    eventually(lambda: not alive(part))
