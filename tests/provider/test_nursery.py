"""The nursery without Airflow: what it forks has the output, environment, folder and mark of the job that asked."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from priority.airflow.nursery import ALONE_S, kept, until_alone

MARK = 10**12 + 7

SERVER = """
import os, resource, socket
from priority.airflow import nursery, run

def cold(path):
    print(path, os.getcwd(), os.environ["WHO"], resource.getrlimit(resource.RLIMIT_RTTIME)[0], flush=True)
    return 7

run.cold = cold
listener = socket.socket(socket.AF_UNIX)
listener.bind(nursery.address(os.getppid(), 'b'))
listener.listen()
print("ready", flush=True)
nursery.serve(listener, lambda: True)
"""
JOB = f"""
import resource, sys
from pathlib import Path
from priority.airflow import nursery
resource.setrlimit(resource.RLIMIT_RTTIME, ({MARK}, resource.getrlimit(resource.RLIMIT_RTTIME)[1]))
status = nursery.ask(Path("order.json"), sys.argv[1])
sys.exit(99 if status is None else status)
"""


@pytest.fixture
def nursery() -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield
        process.kill()


def ask(folder: Path, breed: str = "b") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "WHO": "me"}
    return subprocess.run(
        [sys.executable, "-c", JOB, breed], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_it_runs_as_the_job(tmp_path: Path, nursery: None) -> None:
    done = ask(tmp_path)
    assert (done.returncode, done.stdout) == (7, f"order.json {tmp_path} me {MARK}\n"), done.stderr


def test_one_of_another_breed_is_none(tmp_path: Path, nursery: None) -> None:
    assert ask(tmp_path, "c").returncode == 99


def test_it_ends_when_its_executor_has_gone(tmp_path: Path) -> None:
    now = 0.0
    file = kept(tmp_path, "b")
    wanted = until_alone(file, lambda: now)
    file.touch()
    now = 0.9 * ALONE_S
    assert wanted()
    now = 1.8 * ALONE_S
    assert wanted()
    now = 2.0 * ALONE_S
    assert not wanted()
    os.utime(file, (1, 1))
    assert wanted()
    file.unlink()
    assert wanted()


def test_without_one_a_task_begins_cold(tmp_path: Path) -> None:
    assert ask(tmp_path).returncode == 99
