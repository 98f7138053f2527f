"""A whole service in memory, moved by hand: store, queue, cluster, verbs and a scheduler, on one clock."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from typing import Any

from priority.backend.memory import Faults, MemoryBackend, Play
from priority.errors import PriorityError
from priority.job import Job, JobSpec, parse_spec
from priority.node import Node
from priority.orders import Launch
from priority.queue.memory import MemoryQueue
from priority.records import Event, Page, User
from priority.resources import parse as parse_amounts
from priority.role import RoleSpec
from priority.service.access import SYSTEM
from priority.service.build import assemble
from priority.service.clock import HandClock
from priority.service.ids import seeded
from priority.service.jobs import Accepted, Submission
from priority.service.parts import Parts
from priority.service.scheduler import Scheduler
from priority.service.settings import Settings
from priority.store import SqlStore, open_store
from priority.task import State, Task
from priority.tier import DEFAULT_TIERS

ADA = User("ada", grants={"physics": frozenset({"submit"})})
BEN = User("ben", grants={"physics": frozenset({"submit", "admin"}), "chem": frozenset({"submit"})})
EVE = User("eve", grants={"web": frozenset({"submit"})})
ROOT = User("root", admin=True)

ROLES = {
    "physics": {"quota": {"prod": {"cpus": 8}}, "users": {"ada": {}, "ben": {"grants": ["submit", "admin"]}}},
    "chem": {"users": {"ben": {}}},
    "web": {"quota": {"prod": {"cpus": 100}}, "users": {"eve": {}}},
}

TIERS = sorted(DEFAULT_TIERS.values(), key=lambda tier: -tier.rank)


def node(name: str, cpus: float = 4, **attributes: str) -> Node:
    return Node(name, parse_amounts({"cpus": cpus, "mem": "64GiB"}, "capacity"), attributes)


def spec(key: str, **fields: Any) -> JobSpec:
    """`role/tier/name` and whatever is not as usual; `cpus` for short."""
    role, tier, name = key.split("/")
    fields = {"command": "true", "resources": {"cpus": fields.pop("cpus", 1)}, "max_failures": 3} | fields
    return parse_spec({"role": role, "tier": tier, "name": name, **fields})


KIND = Faults()
"""No faults."""


class Crash(BaseException):
    """The process dies here."""


@functools.cache
def _migrated() -> bytes:
    """An empty database in memory at its newest version: migrating one anew for each test would be most of its time."""
    store = open_store("sqlite://")
    store.upgrade()
    image: bytes = store._database._writer.serialize()  # type: ignore[attr-defined]
    store.close()
    return image


def new_store(url: str) -> SqlStore:
    store = open_store(url)
    if url == "sqlite://":
        store._database._writer.deserialize(_migrated())  # type: ignore[attr-defined]
    else:
        store.upgrade()
    return store


class World:
    def __init__(
        self,
        nodes: Sequence[Node] = (),
        *,
        roles: dict[str, Any] | None = None,
        play: Callable[[Launch], Play] = lambda _: Play(),
        faults: Faults = KIND,
        seed: int = 0,
        url: str = "sqlite://",
        **settings: Any,
    ) -> None:
        self.chance = random.Random(seed)
        self.clock = HandClock()
        # Worlds count cores alone, unless a test is about memory.
        usual = {"lease_s": 60.0, "resend_s": 5.0, "sweep_s": 5.0, "mem_default_mib": 0}
        self.settings = Settings(**(usual | settings))
        self.store = new_store(url)
        self.queue = MemoryQueue([tier.name for tier in TIERS])
        self.backend = MemoryBackend(self.clock, nodes, play, faults=faults, rng=self.chance)
        self.parts = Parts(
            self.store, self.queue, self.backend, self.settings, self.clock, seeded(random.Random(seed)), DEFAULT_TIERS
        )
        self.service = assemble(self.parts)
        desired = {name: RoleSpec.model_validate(role) for name, role in (ROLES if roles is None else roles).items()}
        self.service.roles.apply(SYSTEM, desired)
        self.leaders = 0
        self.was_set_back = False
        self.highest_us = 0
        """What the clock showed before it was set back."""
        self.options: dict[str, Any] = {}
        """Of every scheduler that is made from now on."""
        self.scheduler = self.new_scheduler()

    def new_scheduler(self, fail_at: Callable[[str], None] | None = None, **options: Any) -> Scheduler:
        """Another process; it leads from now on. What was delivered to a dead one comes again."""
        self.leaders += 1
        if fail_at is not None:
            options["fail_at"] = fail_at
        scheduler = Scheduler(self.parts, holder=f"s{self.leaders}", **(self.options | options))
        self.queue._return_delivered()
        self.backend._line.begin_again()
        if not scheduler.lead():
            assert self.was_set_back  # whose lease seemed to last for longer than a lease has one lease more
            self.clock.move(self.settings.leader_lease_s + 1.0)
            assert scheduler.lead()
        self.scheduler = scheduler
        return scheduler

    def die(self) -> None:
        """The scheduler's process is gone and its lease over."""
        with self.store.write() as writer:
            writer.resign(self.scheduler.holder)

    # --- moving ---

    def feed(self) -> bool:
        """Give the scheduler all that has come; whether there was anything."""
        self.backend.advance()
        came = False
        if calls := self.queue.take():
            self.scheduler.call(calls)
            came = True
        while (delivery := self.backend.poll()) is not None:
            self.scheduler.report(delivery)
            came = True
        return came

    def round(self) -> float:
        self.feed()
        return self.scheduler.step()

    def settle(self, rounds: int = 100) -> None:
        """Until nothing comes any more at this moment."""
        quiet = 0
        for _ in range(rounds):
            came = self.feed()
            self.scheduler.step()
            mirror = self.scheduler.mirror
            quiet = 0 if came or (mirror.changed and mirror.waiting()) else quiet + 1
            if quiet == 2:  # what the first quiet round has sent may have been answered
                return
        raise AssertionError("it does not come to rest")

    def move(self, seconds: float) -> None:
        """Let time pass, in steps that miss nothing that is due."""
        end_us = self.clock.now_us() + round(seconds * 1e6)
        self.settle()
        while self.clock.now_us() < end_us:
            due = [end_us]
            if (next_us := self.backend.next_us()) is not None:
                due.append(max(next_us, self.clock.now_us() + 1))
            due.append(self.clock.now_us() + max(1, round(self.scheduler._pause_s() * 1e6)))
            self.clock.move((min(due) - self.clock.now_us()) / 1e6)
            self.settle()

    def set_clock(self, seconds: float) -> None:
        """The clock is set forward, or back if negative; no time passes."""
        if seconds < 0:
            self.was_set_back = True
            self.highest_us = max(self.highest_us, self.clock.now_us())
        self.clock.move(seconds)
        self.backend.set_clock(seconds)

    # --- asking ---

    def submit(self, *specs: JobSpec, actor: User = ROOT, key: str | None = None) -> Job:
        answer = self.service.jobs.submit([Submission(actor, tuple(specs), key)])[0]
        if isinstance(answer, PriorityError):
            raise answer
        assert isinstance(answer, Accepted)
        return answer.jobs[0]

    def job(self, job: Job) -> Job:
        return self.service.jobs.get(ROOT, job.uid)

    def tasks(self, job: Job) -> list[Task]:
        return self.service.jobs.tasks(ROOT, job.uid, Page(10_000))[0]

    def states(self, job: Job) -> list[str]:
        """`instance.attempt state`, for tables."""
        return [f"{task.instance}.{task.attempt} {task.state}" for task in self.tasks(job)]

    def count(self, job: Job, state: State) -> int:
        return sum(task.state is state for task in self.tasks(job))

    def events(self, kind: str | None = None) -> list[Event]:
        return [event for event in self.service.jobs.events(ROOT, 0, 100_000) if kind in (None, event.kind)]

    def store_usage(self) -> dict[tuple[str, str, str], dict[str, int]]:
        """What is charged to whom, without the zeros."""
        with self.store.read() as reader:
            usage = reader.usage()
        plain = {owner: {name: amount for name, amount in use.items() if amount} for owner, use in usage.items()}
        return {owner: use for owner, use in plain.items() if use}

    def node_states(self) -> dict[str, str]:
        return {view.record.node.name: str(view.record.node.state) for view in self.service.nodes.list(ROOT)}
