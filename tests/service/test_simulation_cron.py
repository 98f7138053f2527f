"""The seeded world of `test_simulation`, with cron jobs in it: submitted, changed, suspended, started by hand and
deleted, while the scheduler dies. Whatever happens, each scheduled time has one row.

Hours may pass in which nobody was there, and the clock is set forward and back.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from priority.cron import CronSpec, parse_spec
from priority.crontab import CronQuery, CronState
from priority.errors import Deposed, PriorityError
from priority.records import Page
from priority.service.forgetting import Forgetting
from priority.service.ticker import Ticker

from .checkers import Checkers
from .test_simulation import Simulation
from .world import ADA, BEN, ROOT, Crash

SEEDS = int(os.environ.get("PRIORITY_SIM_SEEDS", "240")) // 5
GROUPS = 4
REFUSED = ("quota-exceeded", "conflict", "not-found", "invalid", "unavailable")


class CronSimulation(Simulation):
    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        world = self.world
        world.clock.move(60 - world.clock.now_us() % 60_000_000 / 1e6)
        # loose: one that was `allow` and is not any more may still have two runs
        self.checkers = Checkers(world, loose=True)
        self.ticker = self.new_ticker()
        settle, new_scheduler = world.settle, world.new_scheduler
        self.due: dict[str, set[int]] = {}
        """Of each cron job (by key) the moments that must have a row: counted here, and by the schedule alone."""
        self.since: dict[str, tuple[CronSpec, int]] = {}
        """What each says, and until when its moments have been counted."""

        def settled(rounds: int = 100) -> None:
            while self.ticker.step() == 0:
                pass
            settle(rounds)

        def taken_over(*args: Any, **options: Any) -> Any:
            found = new_scheduler(*args, **options)
            self.new_ticker()
            return found

        world.settle = settled  # type: ignore[method-assign]
        world.new_scheduler = taken_over  # type: ignore[method-assign]
        self.acts += [*[self.submit_cron] * 4, *[self.turn] * 2, self.start, self.delete_cron]
        self.acts += [*[self.leap] * 2, *[self.set_clock] * 2]
        self.acts += [self.die_in_a_tick, self.forget, *[self.wait_minutes] * 6]

    def new_ticker(self, fail_at: Callable[[str], None] = lambda _: None) -> Ticker:
        self.ticker = Ticker(self.world.parts, lambda: self.world.scheduler.epoch, fail_at=fail_at)
        return self.ticker

    # --- acts ---

    @contextmanager
    def asked(self) -> Iterator[None]:
        """A user's request, which may be refused."""
        try:
            yield
        except PriorityError as error:
            assert error.code in REFUSED, error

    def submit_cron(self) -> None:
        number = self.chance.randrange(4)
        actor, role, tier = ((ADA, "physics", "devel"), (BEN, "physics", "prod"), (BEN, "chem", "opportunistic"))[
            number % 3
        ]
        fields = {
            "schedule": self.chance.choice(("* * * * *", "*/2 * * * *", "*/5 * * * *", "7,9,30 * * * *", "@hourly")),
            "collision": self.chance.choice(("cancel_new", "kill_existing", "allow")),
            "missed": self.chance.choice(("skip", "run_latest", {"policy": "run_all", "limit": 3})),
            "suspend": self.chance.random() < 0.1,
            "resources": {"cpus": self.chance.choice((0.5, 1))},
            "instances": self.chance.choice((1, 2)),
            "kill_grace": 1,
            "preempt": {"notice": 2},  # a stop that was lost is sent again so much later, and `heal` waits 30 s
        }
        spec = parse_spec({"role": role, "tier": tier, "name": f"c{number}", "command": "true"} | fields)
        assert isinstance(spec, CronSpec)
        with self.asked():
            self.count()
            kept = self.world.service.crons.submit(actor, spec)
            if kept.changed:
                self.since[spec.key] = (spec, self.world.clock.now_us())

    def turn(self) -> None:
        for key in self.some():
            act = self.chance.choice((self.world.service.crons.suspend, self.world.service.crons.resume))
            with self.asked():
                act(ROOT, key)

    def start(self) -> None:
        for key in self.some():
            with self.asked():
                self.world.service.crons.start(ROOT, key)

    def delete_cron(self) -> None:
        for key in self.some():
            self.count()
            with self.asked():
                self.world.service.crons.delete(ROOT, key)
                del self.since[key]

    def some(self) -> list[str]:
        return [self.chance.choice(sorted(self.since))] if self.since else []

    def wait_minutes(self) -> None:
        self.world.move(self.chance.choice((20.0, 60.0, 119.0, 300.0)))

    def leap(self) -> None:
        """Nobody was there."""
        self.world.clock.move(self.chance.choice((61.0, 150.0, 1000.0, 4000.0)))

    def set_clock(self) -> None:
        """Forward or back, and no time passes."""
        self.count()  # what has come by the clock as it was
        self.world.set_clock(self.chance.choice((-4000.0, -3600.0, -90.0, -10.0, -0.5, 10.0, 150.0, 3600.0)))

    def die_in_a_tick(self) -> None:
        point = self.chance.choice(("tick-written", "tick-committed"))

        def fail(here: str) -> None:
            if here == point:
                self.new_ticker()
                raise Crash(point)

        self.new_ticker(fail)

    def forget(self) -> None:
        """Nothing here is old enough."""
        with suppress(Deposed):
            Forgetting(self.world.parts, lambda: self.world.scheduler.epoch).step()

    # --- the checker ---

    def count(self) -> None:
        """What has come since the last time, by each schedule alone."""
        now_us = self.world.clock.now_us()
        for key, (spec, until_us) in self.since.items():
            while (next_us := spec.next(until_us)) is not None and next_us <= now_us:
                self.due.setdefault(key, set()).add(next_us)
                until_us = next_us  # noqa: PLW2901  where counting goes on
            self.since[key] = (spec, until_us)

    def rows(self) -> None:
        """One row for each moment that has come, and none else but by hand. (Two there cannot be.)"""
        self.count()
        self.safely(self.world.settle)
        self.safely(self.world.settle)
        for key, due in self.due.items():
            ticks, after = self.world.service.crons.history(ROOT, key, Page(1_000_000))
            assert after is None
            there = [tick.tick_us for tick in ticks if tick.by is None]
            by_hand = {tick.tick_us for tick in ticks if tick.by is not None}
            assert len(there) == len(set(there))
            lost = sorted(due - set(there) - by_hand)
            assert lost == [], f"{key}: no row for {lost}"
            extra = sorted(set(there) - due)
            assert extra == [], f"{key}: rows for {extra}"

    def heal(self) -> None:
        self.new_ticker()
        self.rows()
        for cron in self._crons():
            self.world.service.crons.delete(ROOT, cron)
        self.since.clear()
        super().heal()
        self.rows()

    def _crons(self) -> list[str]:
        with self.world.store.read() as reader:
            return [cron.spec.key for cron in reader.crons(CronQuery(), 1000)[0] if cron.state is not CronState.DELETED]


def _seeds(group: int) -> list[int]:
    if "PRIORITY_SIM_SEED" in os.environ:
        return [int(os.environ["PRIORITY_SIM_SEED"])] if group == 0 else []
    return list(range(group, SEEDS, GROUPS))


@pytest.mark.parametrize("group", range(GROUPS))
def test_each_moment_has_its_row_and_everything_ends(group: int) -> None:
    for seed in _seeds(group):
        try:
            CronSimulation(seed).run()
        except Exception as error:
            error.add_note(f"repeat it with PRIORITY_SIM_SEED={seed}")
            raise
