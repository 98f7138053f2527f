"""The scheduler as a process: its threads, its leadership, its lock. Real threads; nothing waits by the clock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from priority.backend.memory import MemoryBackend
from priority.errors import Deposed, Unavailable
from priority.queue.memory import MemoryQueue
from priority.service.access import SYSTEM
from priority.service.build import Service, assemble
from priority.service.clock import SystemClock
from priority.service.jobs import Submission
from priority.service.loop import Loop
from priority.service.parts import Parts
from priority.service.settings import Settings
from priority.store import open_store

from .world import ROOT, node, spec

Eventually = Callable[..., Any]


def service(state: Path, **settings: Any) -> Service:
    state.mkdir(exist_ok=True)
    store = open_store(f"sqlite:///{state}/p.db")
    store.upgrade()
    clock = SystemClock()
    parts = Parts(
        store,
        MemoryQueue(["prod", "devel", "opportunistic"]),
        MemoryBackend(clock, [node("n1")]),
        Settings(state=state, **settings),
        clock,
    )
    made = assemble(parts)
    made.roles.apply(SYSTEM, {"physics": _role()})
    return made


def _role() -> Any:
    from priority.role import RoleSpec

    return RoleSpec.model_validate({"quota": {"prod": {"cpus": 4}}})


class Running:
    """A loop in a thread of its own."""

    def __init__(self, parts: Parts) -> None:
        self.loop = Loop(parts)
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.loop.run()
        except BaseException as error:
            self.error = error

    def end(self) -> None:
        self.loop.end()
        self.join()

    def join(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()


def test_a_job_runs_without_anybody_moving_anything(tmp_path: Path, eventually: Eventually) -> None:
    made = service(tmp_path)
    running = Running(made.parts)
    (answer,) = made.jobs.submit([Submission(ROOT, (spec("physics/prod/a"),))])
    uid = answer.jobs[0].uid  # type: ignore[union-attr]
    eventually(lambda: any(event.kind == "task.running" for event in made.jobs.events(ROOT, 0, 100, uid)))
    made.jobs.kill(ROOT, uid)
    eventually(lambda: made.jobs.get(ROOT, uid).state == "ended")
    running.end()
    assert running.error is None
    made.parts.store.close()


def test_a_restart_does_not_wait_for_the_dead_one_s_lease(tmp_path: Path, eventually: Eventually) -> None:
    made = service(tmp_path, leader_lease_s=3600.0)
    first = Loop(made.parts)
    # it led, and died without a word: the lock is free, its name is in the file, its lease lasts
    with made.parts.store.write() as writer:
        assert writer.lead(first.scheduler.holder, made.parts.clock.now_us(), 3_600_000_000)
    (tmp_path / "scheduler.lock").write_text(first.scheduler.holder)
    running = Running(made.parts)
    eventually(lambda: running.loop.scheduler.epoch is not None)
    running.end()
    assert running.error is None
    made.parts.store.close()


def test_a_second_one_stands_by_until_the_first_leaves(tmp_path: Path, eventually: Eventually) -> None:
    made = service(tmp_path, leader_lease_s=3600.0)
    first = Running(made.parts)
    eventually(lambda: first.loop.scheduler.epoch is not None)
    other = service(tmp_path, leader_lease_s=3600.0)
    second = Running(other.parts)
    first.end()
    eventually(lambda: second.loop.scheduler.epoch is not None)
    assert second.loop.scheduler.epoch == (first.loop.scheduler.epoch or 0) + 1
    second.end()
    assert (first.error, second.error) == (None, None)
    made.parts.store.close()
    other.parts.store.close()


def test_a_deposed_one_ends(tmp_path: Path, eventually: Eventually) -> None:
    made = service(tmp_path)
    running = Running(made.parts)
    eventually(lambda: running.loop.scheduler.epoch is not None)
    with made.parts.store.write() as writer:
        writer.resign(running.loop.scheduler.holder)
        writer.lead("usurper", made.parts.clock.now_us(), 3_600_000_000)
    made.jobs.submit([Submission(ROOT, (spec("physics/prod/a"),))])
    running.join()
    assert isinstance(running.error, Deposed)
    assert made.jobs.get(ROOT, "physics/prod/a").active == 1
    assert made.parts.backend.launched == []  # type: ignore[attr-defined]
    made.parts.store.close()


def test_a_database_that_is_away_for_a_while_is_waited_for(
    tmp_path: Path, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = service(tmp_path)
    running = Running(made.parts)
    eventually(lambda: running.loop.scheduler.epoch is not None)
    store = made.parts.store
    write = store.write
    tries = []

    def away(epoch: int | None = None) -> Any:
        if epoch is not None and len(tries) < 2:
            tries.append(epoch)
            raise Unavailable("the database does not answer")
        return write(epoch)

    monkeypatch.setattr(store, "write", away)
    (answer,) = made.jobs.submit([Submission(ROOT, (spec("physics/prod/a"),))])
    uid = answer.jobs[0].uid  # type: ignore[union-attr]
    eventually(lambda: any(event.kind == "task.running" for event in made.jobs.events(ROOT, 0, 100, uid)))
    assert len(tries) == 2
    running.end()
    assert running.error is None
    store.close()
