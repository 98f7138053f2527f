"""What happens to the truth when processes die, wait and race, over the databases that processes can share."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from priority.errors import Deposed, Unavailable
from priority.store import SqlStore, open_store
from priority.store.turn import FileTurn, TurnTaken
from priority.task import State, Task, task_id

WRITER = """
import sys
from priority.store import open_store
from priority.task import State, Task, task_id

store = open_store(sys.argv[1])
number = 0
while True:
    number += 1
    job = f"w{number}"
    tasks = [
        Task(id=task_id(job, i, 1), job=job, instance=i, attempt=1, state=State.PENDING, since_us=number)
        for i in range(40)
    ]
    with store.write() as writer:
        writer.add_tasks(tasks)
        writer.charge({("r", "prod", "u"): {"cpus": 40}})
        writer.emit([(number, "task.pending", "r", job, task.id, {}) for task in tasks])
    print(number, flush=True)
"""


@pytest.fixture
def opened(url: str) -> Iterator[Callable[..., SqlStore]]:
    """Open the same database again, as another process would."""
    stores: list[SqlStore] = []

    def open_again(**limits: float) -> SqlStore:
        stores.append(open_store(url, **limits))
        return stores[-1]

    yield open_again
    for store in stores:
        store.close()


@pytest.mark.parametrize("acknowledged", [1, 7, 25])
def test_what_was_acknowledged_survives_a_kill_and_nothing_is_there_in_part(
    url: str, opened: Callable[..., SqlStore], acknowledged: int
) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(acknowledged):
        process.stdout.readline()
    process.kill()
    # Everything that it could still say before it died was committed too.
    last = acknowledged + len(process.stdout.read().splitlines())
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    store = opened()
    with store.write() as writer:
        # Taking the turn proves that the dead one's transaction is over.
        tasks = writer.active_tasks()
        events = writer.events(0, 10**6)
        usage = writer.usage()
    jobs = {task.job for task in tasks}
    assert len(jobs) in (last, last + 1)
    assert jobs == {f"w{number}" for number in range(1, len(jobs) + 1)}
    assert len(tasks) == len(jobs) * 40
    assert [event.id for event in events] == list(range(1, len(jobs) * 40 + 1))
    assert usage == {("r", "prod", "u"): {"cpus": len(jobs) * 40}}


def test_64_writers_take_the_last_units_one_by_one(opened: Callable[..., SqlStore]) -> None:
    stores = [opened(wait_s=60.0) for _ in range(4)]
    quota, holder = 40, ("physics", "prod", "ada")

    def submit(number: int) -> bool:
        with stores[number % 4].write() as writer:
            if writer.usage("physics").get(holder, {}).get("cpus", 0) + 1 > quota:
                return False
            writer.charge({holder: {"cpus": 1}})
            return True

    with ThreadPoolExecutor(64) as threads:
        admitted = sum(threads.map(submit, range(64)))
    assert admitted == quota
    with stores[0].read() as reader:
        assert reader.usage() == {holder: {"cpus": quota}}


def test_event_ids_are_seen_in_their_order(opened: Callable[..., SqlStore]) -> None:
    stores = [opened(wait_s=60.0) for _ in range(3)]
    done = threading.Event()

    def write(store: SqlStore) -> None:
        for number in range(60):
            with store.write() as writer:
                writer.emit([(number, "x", None, None, None, {})] * (1 + number % 3))

    def watch() -> list[int]:
        seen: list[int] = []
        while True:
            last_look = done.is_set()
            with stores[2].read() as reader:
                seen += [event.id for event in reader.events(seen[-1] if seen else 0, 1000)]
            if last_look:
                return seen

    with ThreadPoolExecutor(3) as threads:
        watching = threads.submit(watch)
        writing = [threads.submit(write, store) for store in stores[:2]]
        for future in writing:
            future.result()
        done.set()
        assert watching.result() == list(range(1, 241))


def test_a_reader_sees_one_moment_and_holds_up_nobody(opened: Callable[..., SqlStore]) -> None:
    store, other = opened(), opened()
    with store.read() as reader:
        assert reader.last_event() == 0
        with other.write() as writer:
            writer.emit([(1, "x", None, None, None, {})])
        assert reader.last_event() == 0
        assert reader.events(0, 10) == []
    with store.read() as reader:
        assert reader.last_event() == 1


def test_a_writer_that_waits_too_long_is_told_so_and_the_next_one_gets_through(opened: Callable[..., SqlStore]) -> None:
    slow, hasty = opened(), opened(wait_s=1.0)
    with slow.write() as writer:
        writer.put_user("ada", False)
        with pytest.raises(Unavailable, match="another writer"), hasty.write():
            pytest.fail("two writers at once")
        with hasty.read() as reader:
            assert reader.users() == []
    with hasty.write() as writer:
        assert [user.name for user in writer.users()] == ["ada"]


def test_a_leader_that_was_stopped_for_long_finds_itself_deposed(opened: Callable[..., SqlStore]) -> None:
    first, second = opened(), opened()
    with first.write() as writer:
        assert writer.lead("first", 0, 10) == 1
        writer.add_tasks([Task(id=task_id("j", 0, 1), job="j", instance=0, attempt=1, state=State.PENDING, since_us=1)])
    with second.write() as writer:
        assert writer.lead("second", 11, 10) == 2
    with pytest.raises(Deposed), first.write(epoch=1) as writer:
        writer.add_tasks([])
    with second.write(epoch=2) as writer:
        assert len(writer.active_tasks()) == 1


def test_two_that_would_lead_at_once(opened: Callable[..., SqlStore]) -> None:
    stores = [opened(wait_s=60.0) for _ in range(8)]

    def lead(number: int) -> int | None:
        with stores[number].write() as writer:
            return writer.lead(f"scheduler-{number}", 0, 10)

    with ThreadPoolExecutor(8) as threads:
        epochs = list(threads.map(lead, range(8)))
    assert sorted(epoch for epoch in epochs if epoch is not None) == [1]


# --- SQLite's turn


def test_a_turn_is_free_when_its_process_is_killed(tmp_path: Path) -> None:
    script = """
import sys, time
from pathlib import Path
from priority.store.turn import FileTurn
with FileTurn(Path(sys.argv[1])).take(9):
    print("taken", flush=True)
    sys.stdin.read()
"""
    path = tmp_path / "db"
    command = [sys.executable, "-c", script, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    turn = FileTurn(path)
    with pytest.raises(TurnTaken), turn.take(0.05):
        pytest.fail("two have the turn")
    # Stopped, it still has it.
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(TurnTaken), turn.take(0.05):
        pytest.fail("two have the turn")
    process.kill()
    process.wait()
    with turn.take(9):
        pass
    turn.close()
    process.stdin.close()
    process.stdout.close()


def test_whoever_waits_for_the_turn_is_not_overtaken(tmp_path: Path) -> None:
    greedy, patient = FileTurn(tmp_path / "db"), FileTurn(tmp_path / "db")
    taken = threading.Event()
    order: list[str] = []

    def wait() -> None:
        with patient.take(60):
            order.append("patient")
        taken.set()

    with greedy.take(60):
        thread = threading.Thread(target=wait)
        thread.start()
        while greedy._queue._try():  # until the other one has the queue
            greedy._queue.let_go()
    for _ in range(3):
        with greedy.take(60):
            order.append("greedy")
    assert taken.wait(60)
    thread.join()
    assert order[0] == "patient"
    greedy.close()
    patient.close()


def test_commits_are_on_disk_before_they_return(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/priority.db")
    writer: Any = store._database
    for connection in (writer._writer, writer._connect()):
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)
    store.close()


def test_a_file_that_is_no_database_is_said(tmp_path: Path) -> None:
    path = tmp_path / "priority.db"
    path.write_text("this is not a database, but long enough to look like a file with a header" * 20)
    with pytest.raises(Unavailable, match="not a database"):
        open_store(f"sqlite:///{path}")


# --- PostgreSQL comes and goes


@pytest.mark.postgres
def test_a_server_that_comes_back_is_found_again(own_postgres: Any) -> None:
    store = open_store(own_postgres.create(), wait_s=5.0)
    store.upgrade()
    with store.read(), ThreadPoolExecutor(4) as threads:
        # Several connections, all of which die.
        list(threads.map(lambda _: _last_event(store), range(4)))
    with pytest.raises(Unavailable), store.write() as writer:
        writer.put_user("ada", False)
        own_postgres.stop(signal.SIGQUIT)
    with pytest.raises(Unavailable), store.read():
        pytest.fail("there is no server")
    own_postgres.start()
    for _ in range(6):
        assert _last_event(store) == 0
    with store.write() as writer:
        assert writer.users() == []
    store.close()


@pytest.mark.postgres
def test_a_server_that_is_stopped_is_not_waited_for_for_ever(
    own_postgres: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("priority.store.postgres._MARGIN_S", 0.1)
    store = open_store(own_postgres.create(), wait_s=3.0)
    store.upgrade()
    with store.read() as reader:
        (pid,) = reader._session._cursor.connection.execute("SELECT pg_backend_pid()").fetchone()  # type: ignore[attr-defined]
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable, match="does not answer"):
            _last_event(store)
        # Another connection's server process is well.
        assert _last_event(store) == 0
    finally:
        os.kill(pid, signal.SIGCONT)
    store.close()


@pytest.mark.postgres
def test_a_writer_that_is_stopped_loses_the_lock(postgres: Any) -> None:
    url = postgres.cleaned()
    script = """
import sys
from priority.store import open_store
with open_store(sys.argv[1], wait_s=1.0).write() as writer:
    writer.put_user("half", False)
    print("in", flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", script, url]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGSTOP)
    store = open_store(url, wait_s=60.0)
    with store.write() as writer:
        assert writer.users() == []
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=120)
    assert b"Unavailable" in errors
    store.close()


def _last_event(store: SqlStore) -> int:
    with store.read() as reader:
        return reader.last_event()


def test_the_log_is_made_ahead_and_nothing_else(tmp_path: Path) -> None:
    """A server's first commits need not lengthen it; and what was not committed to make it is not there."""
    log = tmp_path / "p.db-wal"
    with closing(open_store(f"sqlite:///{tmp_path}/p.db", ahead=True)) as store:
        length = log.stat().st_size
        assert length >= 16 * 2**20
        store.upgrade()
        with store.write() as writer:
            writer.put_user("ada", admin=False)
        assert log.stat().st_size == length
        # another server finds it made; one that reads what a killed one has left finds only what was committed
        copied = tmp_path / "copy"
        copied.mkdir()
        for name in ("p.db", "p.db-wal"):
            (copied / name).write_bytes((tmp_path / name).read_bytes())
    with closing(open_store(f"sqlite:///{copied}/p.db", ahead=True)) as store, store.read() as reader:
        assert [user.name for user in reader.users()] == ["ada"]
    with closing(sqlite3.connect(copied / "p.db")) as connection:
        assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'ahead'").fetchall() == []
