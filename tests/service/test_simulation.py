"""A seeded world with faults: first everything goes wrong and nothing bad may happen; then all heals, and all must end.

One number is the whole run: `PRIORITY_SIM_SEED=17 pytest tests/service/test_simulation.py` repeats the one that
failed, `PRIORITY_SIM_SEEDS=10000` runs more of them.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest

from priority.backend.memory import Faults, Play
from priority.certify import certify
from priority.errors import Deposed, PriorityError
from priority.job import JobState
from priority.orders import Launch
from priority.plan import Plan
from priority.records import JobQuery, Page
from priority.service.access import SYSTEM
from priority.snapshot import Snapshot
from priority.task import State

from .checkers import Checkers
from .world import ADA, BEN, EVE, KIND, ROOT, Crash, World, node, spec

SEEDS = int(os.environ.get("PRIORITY_SIM_SEEDS", "240"))
GROUPS = 12
POINTS = (
    "reported",
    "reports-committed",
    "decided",
    "plan-written",
    "plan-committed",
    "stopped",
    "mid-launch",
    "acted",
)
NODES = ("n1", "n2", "n3")
STEPS = 40
CERTIFY_EVERY = 4
SMALL_WINDOW_EVERY = 3


def certified(snapshot: Snapshot, plan: Plan) -> None:
    """Each plan of the run is what a plan must be, by an independent check."""
    assert certify(snapshot, plan) == []


class Simulation:
    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.healing = False
        # each run has its own mix of troubles, so that no fault always hides another
        faults = Faults(
            lose=self.chance.choice((0.0, 0.0, 0.2)),
            twice=self.chance.choice((0.0, 0.3)),
            late_s=self.chance.choice((0.0, 0.0, 3.0)),
        )
        self.world = World(
            [node(name, 4, rack=f"r{index % 2}") for index, name in enumerate(NODES)],
            play=self.play,
            faults=faults,
            seed=seed,
            sweep_s=20.0,
            leader_lease_s=60.0,
        )
        if seed % SMALL_WINDOW_EVERY == 0:
            self.world.options["window"] = 2
            self.world.die()
            self.world.new_scheduler()
        self.checkers = Checkers(self.world)
        if seed % CERTIFY_EVERY == 0:
            self.world.options["check"] = certified
            self.world.scheduler._check = certified
        self.cut: set[str] = set()
        self.dead: set[str] = set()
        self.names = 0
        acts: list[Callable[[], object]] = [
            *[self.submit] * 8,
            *[self.finish] * 5,
            *[self.wait] * 5,
            *[self.kill] * 2,
            self.restart,
            self.scale,
            self.drain,
        ]
        troubles: list[Callable[[], object]] = [
            self.crash,
            self.meddle,
            self.cut_or_heal,
            self.kill_or_start_node,
            self.restart_agent,
            self.redis,
        ]
        self.acts = acts + self.chance.sample(troubles, self.chance.randint(0, len(troubles))) * 2

    def run(self) -> None:
        for _ in range(STEPS):
            self.safely(self.chance.choice(self.acts))
            self.safely(self.world.settle)
            self.checkers.check()
        self.heal()

    # --- what goes right ---

    def play(self, _launch: Launch) -> Play:
        return Play(
            run_s=self.chance.choice((None, 0.5, 5.0, 20.0)) if not self.healing else 1.0,
            exit_code=self.chance.choice((0, 0, 1)) if not self.healing else 0,
            obeys_s=self.chance.choice((0.0, 0.5, None)),
            starts=self.healing or self.chance.random() > 0.05,
        )

    def submit(self) -> None:
        self.names += 1
        actor, role = self.chance.choice(((ADA, "physics"), (BEN, "physics"), (BEN, "chem"), (EVE, "web")))
        fields: dict[str, object] = {
            "instances": self.chance.choice((1, 1, 2, 4)),
            "cpus": self.chance.choice((0.5, 1, 2, 3)),
            "priority": self.chance.choice((0, 0, 5)),
            "max_failures": self.chance.choice((1, 3, -1)),
            "gang": self.chance.random() < 0.2,
            "preempt": {"action": self.chance.choice(("requeue", "requeue", "end")), "notice": 2},
            "kill_grace": 1,
            "backoff": {"initial": self.chance.choice((0, 2)), "limit": 4},
        }
        if fields["gang"]:
            fields["cpus"] = self.chance.choice((0.5, 1, 2))  # so that the whole cluster can hold it
        elif self.chance.random() < 0.2:
            fields["constraints"] = [{"attribute": "rack", "limit": 2}]
        tier = self.chance.choice(("prod", "devel", "opportunistic"))
        try:
            self.world.submit(spec(f"{role}/{tier}/j{self.names}", **fields), actor=actor)
        except PriorityError as error:
            assert error.code == "quota-exceeded", error

    def finish(self) -> None:
        running = sorted(self.world.backend.running())
        if running:
            self.world.backend.finish(self.chance.choice(running), self.chance.choice((0, 0, 1)))

    def wait(self) -> None:
        self.world.move(self.chance.choice((0.1, 1.0, 6.0, 80.0)))

    def kill(self) -> None:
        self._change(lambda uid, some: self.world.service.jobs.kill(ROOT, uid, some))

    def restart(self) -> None:
        self._change(lambda uid, some: self.world.service.jobs.restart(ROOT, uid, some))

    def scale(self) -> None:
        self._change(lambda uid, _: self.world.service.jobs.scale(ROOT, uid, self.chance.randint(1, 5)))

    def _change(self, act: Callable[[str, set[int] | None], object]) -> None:
        jobs, _ = self.world.service.jobs.list(ROOT, JobQuery(state=JobState.ACTIVE), Page(1000))
        if jobs:
            job = self.chance.choice(jobs)
            some = {self.chance.randrange(job.spec.instances)} if self.chance.random() < 0.5 else None
            try:
                act(job.uid, some)
            except PriorityError as error:
                assert error.code in ("quota-exceeded", "conflict"), error

    def drain(self) -> None:
        views = self.world.service.nodes.list(ROOT)
        if not views:
            return
        view = self.chance.choice(views)
        act = self.world.service.nodes.undrain if view.record.drained else self.world.service.nodes.drain
        act(ROOT, view.record.node.name)

    # --- what goes wrong ---

    def safely(self, act: Callable[[], object]) -> None:
        """The scheduler's process may die in it; then another one takes over, at once or when the lease is over."""
        try:
            act()
        except (Crash, Deposed):
            if self.chance.random() < 0.5:
                self.world.die()
            else:
                self.world.clock.move(61.0)
            self.world.new_scheduler()

    def crash(self) -> None:
        """At the next time that it comes to a certain point."""
        point = self.chance.choice(POINTS)

        def fail_at(here: str) -> None:
            if here == point:
                raise Crash(point)

        self.world.scheduler._fail_at = fail_at

    def meddle(self) -> None:
        """A user is in between, where memory and truth differ: not a fault, but where faults are found."""
        point = self.chance.choice(("decided", "reports-committed", "plan-committed"))
        act = self.chance.choice((self.kill, self.restart, self.scale))

        def change(here: str) -> None:
            if here == point:
                self.world.scheduler._fail_at = lambda _: None
                act()

        self.world.scheduler._fail_at = change

    def cut_or_heal(self) -> None:
        name = self.chance.choice(NODES)
        if name in self.cut:
            self.cut.discard(name)
            self.world.backend.heal(name)
        elif name not in self.dead:
            self.cut.add(name)
            self.world.backend.cut(name)

    def kill_or_start_node(self) -> None:
        name = self.chance.choice(NODES)
        if name in self.dead:
            self.dead.discard(name)
            self.world.backend.start_node(node(name, 4, rack=f"r{NODES.index(name) % 2}"))
        elif name not in self.cut:
            self.dead.add(name)
            self.world.backend.kill_node(name)

    def restart_agent(self) -> None:
        name = self.chance.choice(NODES)
        if name not in self.dead | self.cut:
            self.world.backend.restart_agent(name)

    def redis(self) -> None:
        self.world.queue.down = not self.world.queue.down
        self.world.queue.lose()
        self.world.backend.lose_reports()

    # --- and then ---

    def heal(self) -> None:
        world = self.world
        self.healing = True
        world.backend.faults = KIND
        world.queue.down = False
        for name in sorted(self.dead):
            world.backend.start_node(node(name, 4, rack=f"r{NODES.index(name) % 2}"))
        for name in sorted(self.cut):
            world.backend.heal(name)
        for view in world.service.nodes.list(SYSTEM):
            world.service.nodes.undrain(SYSTEM, view.record.node.name)
        world.scheduler._fail_at = lambda _: None
        self.safely(world.settle)
        dying = self._dying()
        self.safely(lambda: world.move(30.0))
        assert not dying & self._dying(), "what was to end was never stopped"
        self.checkers.check()
        for _ in range(60):
            if not self._active():
                break
            for task in sorted(world.backend.running()):
                world.backend.finish(task)
            world.move(5.0)
        self.checkers.check()
        stuck = {job.spec.key: world.states(job) for job in self._active()}
        assert stuck == {}, f"{stuck}"
        assert world.store_usage() == {}
        assert world.backend.running() == set()

    def _dying(self) -> set[str]:
        with self.world.store.read() as reader:
            return {task.id for task in reader.active_tasks() if task.state in (State.PREEMPTING, State.KILLING)}

    def _active(self) -> list[object]:
        return list(self.world.service.jobs.list(ROOT, JobQuery(state=JobState.ACTIVE), Page(1000))[0])


def _seeds(group: int) -> list[int]:
    if "PRIORITY_SIM_SEED" in os.environ:
        return [int(os.environ["PRIORITY_SIM_SEED"])] if group == 0 else []
    return list(range(group, SEEDS, GROUPS))


@pytest.mark.parametrize("group", range(GROUPS))
def test_nothing_bad_happens_and_everything_ends(group: int) -> None:
    for seed in _seeds(group):
        try:
            Simulation(seed).run()
        except Exception as error:
            error.add_note(f"repeat it with PRIORITY_SIM_SEED={seed}")
            raise
