"""Users and the scheduler at the same time, in real threads over one database file: the truth stays whole."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from priority.backend.memory import MemoryBackend, Play
from priority.errors import PriorityError
from priority.job import JobState
from priority.orders import Launch
from priority.records import JobQuery, Page
from priority.service.access import SYSTEM
from priority.service.clock import SystemClock
from priority.service.loop import Loop
from priority.service.parts import Parts

from .checkers import Checkers
from .world import ROOT, World, node, spec

USERS = 6
ACTS = 25


def play(launch: Launch) -> Play:
    return Play(run_s=(None, 0.0, 0.01, 0.05)[launch.instance % 4], exit_code=launch.attempt % 2, obeys_s=0.01)


def in_real_time(tmp_path: Path) -> World:
    """A world whose clock nobody moves."""
    world = World(url=f"sqlite:///{tmp_path}/p.db")
    clock = SystemClock()
    backend = MemoryBackend(clock, [node("n1"), node("n2")], play)
    settings = world.settings.model_copy(update={"state": tmp_path, "sweep_s": 0.2, "resend_s": 0.5})
    parts = Parts(world.store, world.queue, backend, settings, clock)
    world.clock, world.backend, world.parts = clock, backend, parts  # type: ignore[assignment]
    world.die()
    from priority.service.build import assemble

    world.service = assemble(parts)
    return world


def disturb(world: World, chance: random.Random, uid: str) -> None:
    jobs = world.service.jobs
    act = chance.choice((jobs.kill, jobs.restart, None))
    if act is not None:
        act(ROOT, uid)
    else:
        jobs.scale(ROOT, uid, chance.randint(1, 8))


def meddle(world: World, user: int) -> None:
    chance = random.Random(user)
    jobs = world.service.jobs
    for number in range(ACTS):
        tier = chance.choice(("prod", "devel", "devel", "opportunistic"))
        try:
            world.submit(
                spec(
                    f"physics/{tier}/u{user}-{number}",
                    instances=chance.randint(1, 6),
                    cpus=chance.choice((0.5, 1, 2)),
                    max_failures=chance.choice((1, 2)),
                    backoff={"initial": 0.01},
                    preempt={"action": chance.choice(("requeue", "end"))},
                )
            )
            active, _ = jobs.list(ROOT, JobQuery(state=JobState.ACTIVE), Page(100))
            if active:
                disturb(world, chance, chance.choice(active).uid)
        except PriorityError as error:
            assert error.code in ("quota-exceeded", "conflict"), error


def test_users_and_the_scheduler_at_the_same_time(tmp_path: Path, eventually: Callable[..., Any]) -> None:
    world = in_real_time(tmp_path)
    loop = Loop(world.parts)
    errors: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    over = threading.Event()

    def tick() -> None:
        while not over.wait(0.002):
            world.backend.advance()

    threads = [guarded(loop.run), guarded(tick)]
    users = [guarded(lambda user=user: meddle(world, user)) for user in range(USERS)]  # type: ignore[misc]
    for thread in users:
        thread.join()
    Checkers(world).check()
    for job in world.service.jobs.list(SYSTEM, JobQuery(state=JobState.ACTIVE), Page(1000))[0]:
        world.service.jobs.kill(SYSTEM, job.uid)
    eventually(lambda: errors or not world.service.jobs.list(SYSTEM, JobQuery(state=JobState.ACTIVE), Page(1000))[0])
    assert errors == []
    loop.end()
    over.set()
    for thread in threads:
        thread.join()
    assert errors == []
    Checkers(world).check()
    assert world.store_usage() == {}
    assert world.backend.running() == set()
    world.store.close()
