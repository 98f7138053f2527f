"""The Jepsen Chronos model over the service in memory: jobs that must run in their windows, while the scheduler, Redis
and the database fail at random. What a run is, its witness says: the task itself.

Chronos' intervals of seconds are minutes here, as cron knows no less; the clock is moved by hand. One number is the
whole run: `PRIORITY_SIM_SEED=17` repeats one, `PRIORITY_SIM_SEEDS=6000` does a hundred.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from chronos import Row, Run, Target, complaints, targets, unmet

from priority.backend.memory import Play
from priority.cron import CronSpec, Outcome, parse_spec
from priority.errors import Deposed, PriorityError, Unavailable
from priority.orders import Launch
from priority.records import Page
from priority.service.ticker import Ticker

from .checkers import Checkers
from .world import ROOT, Crash, World, node

SEEDS = max(1, int(os.environ.get("PRIORITY_SIM_SEEDS", "240")) // 60)
ONE = os.environ.get("PRIORITY_SIM_SEED")
LATE_S = 60.0
NEEDS_S = 5.0
"""To act: a look each second, and a sweep if nobody was told."""

STEP_S = 10.0
"""The longest step of this simulation; what is admitted in one may be found by the sweep of the next."""

# --- the checker itself --------------------------------------------------------------------------------------------

WINDOWS = targets([0, 60, 120], 10, 5, 10_000)


def runs(*starts: float, endless: tuple[float, ...] = ()) -> list[Run]:
    return [Run(at, at + 1) for at in starts] + [Run(at, None) for at in endless]


@pytest.mark.parametrize(
    ("found", "left"),
    [
        (runs(3, 65, 127, 180), []),
        (runs(3, 127, 180), [1]),
        (runs(3, 65, 127, endless=(61,)), []),
        (runs(3, 127, endless=(65,)), [1]),
        (runs(15.9, 75.9, 120), []),
        (runs(16, 65, 127), [0]),
        (runs(), [0, 1, 2]),
        (runs(3, 4, 5), [1, 2]),
    ],
)
def test_chronos_own_cases(found: list[Run], left: list[int]) -> None:
    assert sorted(unmet(WINDOWS, found), key=lambda one: one.start_s) == [WINDOWS[index] for index in left]


def test_only_what_must_have_run_by_then_is_asked_for() -> None:
    assert len(targets([0, 60, 120], 10, 5, 1000)) == 3
    assert targets([0, 60, 120], 10, 5, 60 + 10 + 5) == WINDOWS[:1]


def test_the_greedy_one_is_the_largest() -> None:
    chance = random.Random(1)
    for _ in range(300):
        wanted = [
            Target(at, at + chance.randint(0, 6)) for at in (chance.randint(0, 12) for _ in range(chance.randint(0, 4)))
        ]
        found = runs(*(chance.randint(0, 15) for _ in range(chance.randint(0, 4))))
        best = max(
            sum(target.start_s <= run.start_s <= target.end_s for target, run in zip(wanted, order, strict=False))
            for order in itertools.permutations([*found, *runs(*[-1] * len(wanted))], len(wanted))
        )
        assert len(wanted) - len(unmet(wanted, found)) == best


@pytest.mark.parametrize(
    ("rows", "began", "said"),
    [
        ([(0, "started"), (60, "started")], [0, 60], ""),
        ([(0, "started")], [0], "lost"),
        ([(0, "started"), (60, "started"), (60, "started")], [0, 60], "do not fit"),
        ([(0, "started"), (60, "started")], [0], "no run said so"),
        ([(0, "started"), (60, "skipped")], [0, 60], "for a tick that is skipped"),
        ([(0, "started"), (60, "started")], [0, 60, 60], "two runs of one tick"),
        ([(0, "started"), (60, "missed")], [0], "although there was time"),
    ],
)
def test_the_strict_one_sees(rows: list[tuple[float, str]], began: list[float], said: str) -> None:
    found = complaints(
        [0, 60],
        [Row(*row) for row in rows],
        [Run(at + 1, at + 2, at) for at in began],
        late_s=10,
        able=[(0, 100)],
        needs_s=5,
    )
    assert (said in " ".join(found)) if said else found == []
    assert complaints([60], [Row(60, "missed")], [], late_s=10, able=[(0, 64), (66, 99)], needs_s=5) == []
    assert complaints([60], [Row(60, "started")], [Run(59.9, 61, 60)], late_s=9, able=[], needs_s=5)


# --- the model -----------------------------------------------------------------------------------------------------


class Model:
    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.witness: dict[str, list[tuple[int, float, str]]] = {}
        self.duration: dict[str, float] = {}
        self.world = World([node("n1", 64)], play=self.play, seed=seed, leader_lease_s=30.0, cron_on_time_s=LATE_S)
        self.world.clock.move(-(self.world.clock.now_us() % 60_000_000) / 1e6 + 60)
        self.begin_s = self.now_s()
        self.specs: dict[str, CronSpec] = {}
        self.able: list[tuple[float, float]] = []
        self._able_since: float | None = self.begin_s
        self.database = True
        self.dead = False
        self.heal_at = 0.0
        self.ticker = self.new_ticker()
        write, read = self.world.store.write, self.world.store.read
        self.world.store.write = self.failing(write)  # type: ignore[method-assign]
        self.world.store.read = self.failing(read)  # type: ignore[method-assign]

    def now_s(self) -> float:
        return self.world.clock.now_us() / 1e6

    def failing(self, honest: Callable[..., Any]) -> Callable[..., Any]:
        @contextmanager
        def opened(*args: Any, **more: Any) -> Iterator[Any]:
            if not self.database:
                raise Unavailable("the database does not answer")
            with honest(*args, **more) as session:
                yield session

        return opened

    def play(self, launch: Launch) -> Play:
        """The witness: it is asked for when the task begins."""
        key = launch.spec.key
        self.witness.setdefault(key, []).append((launch.attempt, self.now_s(), launch.spec.env["PRIORITY_TICK"]))
        return Play(run_s=self.duration[key])

    def new_ticker(self, fail_at: Callable[[str], None] = lambda _: None) -> Ticker:
        self.ticker = Ticker(self.world.parts, lambda: self.world.scheduler.epoch, fail_at=fail_at)
        return self.ticker

    def submit(self) -> None:
        number = len(self.specs)
        every = self.chance.choice((1, 2, 3, 5, 7))
        key = f"web/prod/c{number}"
        fields = {"role": "web", "tier": "prod", "name": f"c{number}", "command": "true"}
        spec = parse_spec(fields | {"schedule": f"*/{every} * * * *" if every > 1 else "* * * * *"})
        assert isinstance(spec, CronSpec)
        self.duration[key] = self.chance.uniform(0, 9)
        try:
            self.world.service.crons.submit(ROOT, spec)
        except Unavailable:
            return  # nothing has happened: it fails at once
        self.specs[key] = spec.model_copy(update={"start": self.world.clock.now_us() + 1})

    def run(self) -> None:
        for _ in range(3):
            self.submit()
        until = self.now_s() + 25 * 60
        while self.now_s() < until:
            if self.chance.random() < 0.04 and len(self.specs) < 8:
                self.submit()
            if self.chance.random() < 0.06:
                self.trouble()
            self.step(self.chance.choice((0.3, 1.0, 2.0, STEP_S)))
        self.heal()
        for _ in range(30):
            self.step(4.0)
        self.step(0.0)
        Checkers(self.world).check()
        self.check()

    def trouble(self) -> None:
        kind = self.chance.choice(("crash", "crash", "scheduler", "database", "redis"))
        lasts = self.chance.choice((3.0, 20.0, 90.0, 200.0))
        if kind == "redis":
            self.world.queue.lose()
            self.world.queue.down = self.chance.random() < 0.5
        elif kind == "database":
            self.database = False
        elif kind == "scheduler":
            self.dead = True
        else:
            point = self.chance.choice(("tick-written", "tick-committed"))

            def fail(at: str) -> None:
                if at == point:
                    raise Crash

            self.new_ticker(fail)
            return
        if kind != "redis":
            self.cannot()
        self.heal_at = self.now_s() + lasts

    def cannot(self) -> None:
        if self._able_since is not None:
            self.able.append((self._able_since, self.now_s()))
        self._able_since = None

    def heal(self) -> None:
        self.world.queue.down = False
        self.database = True
        if self.dead:
            self.dead = False
            self.take_over()
        if self._able_since is None:
            self._able_since = self.now_s()

    def take_over(self) -> None:
        self.world.die()
        self.world.new_scheduler()
        self.new_ticker()

    def step(self, seconds: float) -> None:
        if self.now_s() >= self.heal_at:
            self.heal()
        if not self.dead:
            try:
                while self.ticker.step() == 0:
                    pass
                self.world.settle()
            except Crash:
                self.take_over()
            except (Unavailable, Deposed):
                pass
        # A step that begins while it cannot act lasts no longer than the trouble.
        left = self.heal_at - self.now_s()
        self.world.clock.move(min(seconds, left) if left > 0 else seconds)

    def check(self) -> None:
        self.cannot()
        read_s = self.now_s()
        for key, spec in self.specs.items():
            began = self.witness.get(key, [])
            assert [attempt for attempt, _, _ in began] == [1] * len(began), "nobody kills runs in this model"
            found = [Run(at, at + self.duration[key], self.tick_s(tick)) for _, at, tick in began]
            ticks, at_us = [], spec.start or 0
            while (next_us := spec.next(at_us)) is not None and next_us <= self.world.clock.now_us():
                at_us = next_us
                ticks.append(next_us / 1e6)
            rows, _ = self.world.service.crons.history(ROOT, key, Page(10_000))
            told = [Row(row.tick_us / 1e6, row.outcome.value) for row in rows]
            missed = {row.tick_s for row in told if row.outcome in ("missed", "skipped")}
            # Chronos' own mode: in each window in which there was time to act
            fair = [at for at in ticks if at not in missed and self.was_able(at)]
            wanted = targets(fair, LATE_S, self.duration[key], read_s)
            # Where nobody could write down that a run had ended, the next tick meets it: as far as was known.
            for row in rows:
                if row.outcome is Outcome.SKIPPED:
                    assert row.reason is not None and row.reason.code == "collision", row
                    met = self.world.service.jobs.get(ROOT, row.reason.details["job"])
                    assert met.ended_us is None or met.ended_us >= row.at_us, row
            assert unmet(wanted, found) == [], key
            assert complaints(ticks, told, found, late_s=LATE_S, able=self.able, needs_s=NEEDS_S + 2 * STEP_S) == [], (
                key
            )

    def was_able(self, tick_s: float) -> bool:
        spans = ((max(low, tick_s), min(high, tick_s + LATE_S)) for low, high in self.able)
        return any(high - low >= NEEDS_S + 2 * STEP_S for low, high in spans)

    @staticmethod
    def tick_s(tick: str) -> float:
        from datetime import datetime

        return datetime.fromisoformat(tick).timestamp()


@pytest.mark.parametrize("group", range(2 if ONE is None else 1))
def test_every_window_has_its_run(group: int) -> None:
    seeds = [int(ONE)] if ONE is not None else range(group, SEEDS, 2)
    for seed in seeds:
        model = Model(seed)
        try:
            model.run()
        except (AssertionError, PriorityError) as error:
            raise AssertionError(f"PRIORITY_SIM_SEED={seed}: {error}") from error
