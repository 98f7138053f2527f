"""The rounds of a scheduler on disk: the same plans again, whatever happens to process and disk."""

from __future__ import annotations

import logging
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from priority.backend.memory import Play
from priority.orders import Launch
from priority.records import Page
from priority.replay import decide_again
from priority.service.jobs import Submission
from priority.service.record import FOLDER, Recorder, Torn, read_rounds, recorded
from priority.task import State

from .test_loop import Running, service
from .world import ROOT, World, node, spec

Eventually = Callable[..., Any]

MIB = 2**20


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """Every whole line of every file, and each file readable alone."""
    found: list[dict[str, Any]] = []
    for path in recorded(folder):
        lines = list(read_rounds(path.read_bytes()))
        assert lines and not isinstance(lines[0], Torn) and "snapshot" in lines[0]
        found.extend(line for line in lines if not isinstance(line, Torn))
    return found


def busy(recorder: Recorder, seed: int = 0, jobs: int = 40) -> World:
    """A cluster in which much happens, and is recorded."""
    chance = random.Random(seed)

    def play(_: Launch) -> Play:
        return Play(run_s=chance.choice((1.0, 3.0, 20.0)), exit_code=chance.choice((0, 0, 1)))

    world = World([node(f"n{i}", 4, rack=f"r{i % 2}") for i in range(3)], play=play, seed=seed)
    world.options["recorder"] = recorder
    world.die()
    world.new_scheduler()
    for number in range(jobs):
        key = chance.choice(("physics/prod/p", "web/prod/w", "chem/devel/c", "physics/opportunistic/o"))
        instances = chance.randint(1, 3)
        try:
            world.submit(spec(f"{key}{number}", instances=instances, cpus=chance.choice((1, 2))))
        except Exception as error:  # over its quota: that is an answer too
            assert "quota" in str(error)
        world.move(chance.choice((0.0, 0.5, 2.0)))
        if number == jobs // 2:
            world.die()
            world.new_scheduler()  # another leader has a memory of its own
    return world


def test_every_plan_is_recorded_and_decided_again_byte_for_byte(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "rounds", MIB)
    world = busy(recorder)
    recorder.close()
    lines = lines_of(tmp_path / "rounds")
    assert [line["round"] for line in lines] == list(range(1, len(lines) + 1))
    assert len(lines) > world.scheduler.plans > 10, "this leader's, and those of the one before"
    assert any(line["plan"]["preempt"] for line in lines)
    assert sum("snapshot" in line for line in lines) == 2, "one for each leader; the rest is what changed"
    assert all(again.same for again in decide_again(lines))
    assert (tmp_path / "rounds").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in recorded(tmp_path / "rounds")} == {0o600}


def test_cut_at_any_byte_what_was_whole_is_read(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, MIB)
    busy(recorder, jobs=8)
    recorder.close()
    (path,) = recorded(tmp_path)
    data = path.read_bytes()
    whole = list(read_rounds(data))
    lengths = []
    for size in range(0, len(data) + 1, 1 if len(data) < 6_000 else len(data) // 6_000):
        found = list(read_rounds(data[:size]))
        torn = [line for line in found if isinstance(line, Torn)]
        lines = [line for line in found if not isinstance(line, Torn)]
        assert lines == whole[: len(lines)]
        assert len(torn) <= 1 and sum(one.at + one.left for one in torn) in (0, size)
        assert torn or size == 0 or lines
        lengths.append(len(lines))
    assert lengths == sorted(lengths) and lengths[-1] <= len(whole)


def test_a_byte_that_is_otherwise_is_noticed(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, MIB)
    busy(recorder, jobs=6)
    recorder.close()
    (path,) = recorded(tmp_path)
    data = path.read_bytes()
    whole = list(read_rounds(data))
    chance = random.Random(1)
    for _ in range(100):
        at = chance.randrange(20, len(data))
        bad = data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]
        lines = [line for line in read_rounds(bad) if not isinstance(line, Torn)]
        assert lines == whole[: len(lines)]


def test_files_are_rotated_by_size_and_the_oldest_forgotten(tmp_path: Path) -> None:
    limit = 40_000
    recorder = Recorder(tmp_path, limit)
    busy(recorder, jobs=150)
    recorder.close()
    files = recorded(tmp_path)
    assert len(files) > 1
    assert sum(path.stat().st_size for path in files) <= limit
    lines = lines_of(tmp_path)
    assert lines[0]["round"] > 1, "the first ones are forgotten"
    assert [line["round"] for line in lines] == list(range(lines[0]["round"], lines[-1]["round"] + 1))
    assert all(again.same for path in files for again in decide_again(list(read_rounds(path.read_bytes()))))  # type: ignore[arg-type]


def test_what_cannot_be_kept_up_with_is_left_out_and_begins_anew(tmp_path: Path) -> None:
    class Slow(Recorder):
        def _run(self) -> None:
            """The thread comes to nothing until the end."""
            self._news.acquire()
            self._news.wait_for(lambda: self._closed)
            self._news.release()
            super()._run()

    recorder = Slow(tmp_path, MIB, backlog=3)
    busy(recorder, jobs=20)
    recorder.close()
    lines = lines_of(tmp_path)
    assert [line["round"] for line in lines] == [1, 2, 3]
    again = Recorder(tmp_path / "again", MIB, backlog=3)
    world = busy(again, jobs=4)
    with again._news:
        again._lost = True  # as if the backlog had been full
    while again._waiting:
        pass
    world.submit(spec("chem/devel/late"))
    world.settle()
    again.close()
    lines = lines_of(tmp_path / "again")
    assert sum("snapshot" in line for line in lines) >= 2 and all(one.same for one in decide_again(lines))


def test_a_disk_that_refuses_does_not_disturb_the_scheduler(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocked = tmp_path / "rounds"
    blocked.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        recorder = Recorder(blocked, MIB)
        busy(recorder, jobs=10)
        recorder.close()
    assert "rounds are not recorded" in caplog.text
    blocked.unlink()
    healed = Recorder(blocked, MIB)
    busy(healed, jobs=5)
    healed.close()
    assert lines_of(blocked)


def test_a_scheduler_records_if_the_setting_says_so(tmp_path: Path, eventually: Eventually) -> None:
    made = service(tmp_path / "on", record_mib=1)
    running = Running(made.parts)
    (answer,) = made.jobs.submit([Submission(ROOT, (spec("physics/prod/a"),))])
    uid = answer.jobs[0].uid  # type: ignore[union-attr]
    eventually(lambda: made.jobs.tasks(ROOT, uid, Page(10))[0][0].state is State.RUNNING)
    running.end()
    lines = lines_of(tmp_path / "on" / FOLDER)
    assert [placed["task"] for line in lines for placed in line["plan"]["launch"]] == [f"{uid}-0-1"]
    assert all(again.same for again in decide_again(lines))
    off = service(tmp_path / "off")
    Running(off.parts).end()
    assert not (tmp_path / "off" / FOLDER).exists()


WRITER = """
import sys
from pathlib import Path
from priority.claim import Claim
from priority.node import Node
from priority.plan import make_plan
from priority.recording import Watched
from priority.service.record import Recorder
recorder, snapshot = Recorder(Path(sys.argv[1]), 2**20), Watched()
snapshot.put_node(Node("n", {"cpus": 4000}))
for number in range(100_000):
    snapshot.put_task(Claim(f"t{number}", "j", "r", "u", "devel", 0, {"cpus": 1000}))
    if number > 50:
        snapshot.drop_task(f"t{number - 50}")
    recorder.take(snapshot, make_plan(snapshot))
    if number == 5:
        print("going", flush=True)
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "rounds")], stdout=subprocess.PIPE) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("pause_s", [0.0, 0.05, 0.2])
def test_killed_in_the_middle(tmp_path: Path, writer: subprocess.Popen[bytes], pause_s: float) -> None:
    assert writer.stdout is not None and writer.stdout.readline() == b"going\n"
    deadline = time.monotonic() + 60
    while not recorded(tmp_path / "rounds") or not recorded(tmp_path / "rounds")[0].stat().st_size:
        assert time.monotonic() < deadline
        select.select([], [], [], 0.01)
    select.select([], [], [], pause_s)
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait(60)
    lines = lines_of(tmp_path / "rounds")
    assert [line["round"] for line in lines] == list(range(1, len(lines) + 1))
    assert all(again.same for again in decide_again(lines))
