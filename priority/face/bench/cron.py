"""`priority bench cron`: how long ten thousand cron jobs that are due together take, and how late a run begins.

The first is measured on a ticker of its own, with a clock that is moved by hand; the second on a whole service, in real
time: it waits for two whole minutes.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from priority.cron import CronSpec
from priority.crontab import Cron
from priority.face.bench.figures import Figure, figure, wait_for, world
from priority.queue.memory import MemoryQueue
from priority.role import RoleSpec
from priority.service.access import SYSTEM
from priority.service.build import assemble
from priority.service.clock import HandClock
from priority.service.parts import Parts
from priority.service.reserve import template_of
from priority.service.settings import Settings
from priority.service.ticker import Ticker
from priority.store import open_store
from priority.tier import DEFAULT_TIERS

MANY = 10_000
JOBS, MINUTES = 50, 2


def measure() -> Iterator[Figure]:
    """Every figure, as it is measured."""
    for tier in ("devel", "prod"):
        for schedule, what in ((lambda _: "0 * * * *", "one schedule"), (_different, "schedules that differ")):
            runs = [due_together(tier, schedule) for _ in range(3)]
            yield figure(f"cron jobs due together, {tier}, {what}", f"{MANY:,} cron jobs", runs, "s", 2)
    yield figure("start minus scheduled time, p99", f"{JOBS} x {MINUTES} runs", [lateness()], "s", 1)


def _different(number: int) -> str:
    """All of them are due at midnight."""
    return f"0 0,{number % 23 + 1} 1-{number % 27 + 2},{number % 3 + 29} * *"


def due_together(tier: str, schedule: Callable[[int], str]) -> float:
    """From their minute until the last of them is admitted, on disk."""
    with tempfile.TemporaryDirectory(prefix="priority-bench-") as folder:
        store = open_store(f"sqlite:///{folder}/priority.db", ahead=True)
        store.upgrade()
        # a month begins, at midnight
        clock = HandClock(round(datetime.fromisoformat("2027-01-01T00:00:00+00:00").timestamp()) * 10**6)
        parts = Parts(store, MemoryQueue(list(DEFAULT_TIERS)), _Nothing(), Settings(state=Path(folder)), clock)
        assemble(parts).roles.apply(SYSTEM, {"bench": RoleSpec.model_validate({"quota": {"prod": {"cpus": 10**9}}})})
        with store.write() as writer:
            epoch = writer.lead("bench", clock.now_us(), 10**12)
            writer.put_crons([_cron(tier, number, schedule(number), clock.now_us()) for number in range(MANY)])
        ticker = Ticker(parts, lambda: epoch)
        began = time.perf_counter()
        while ticker.step() == 0:
            pass
        took_s = time.perf_counter() - began
        with store.read() as reader:
            assert len(reader.active_tasks()) == MANY
        store.close()
    return took_s


def _cron(tier: str, number: int, schedule: str, now_us: int) -> Cron:
    spec = CronSpec.model_validate(
        {"role": "bench", "tier": tier, "name": f"n{number}", "command": "true", "schedule": schedule}
    )
    cron = Cron(
        uid=f"c{number}", spec=spec, user="ada", created_us=now_us, changed_us=now_us, next_us=spec.next(now_us - 1)
    )
    return replace(cron, reserve=template_of(cron) if tier == "prod" else {})


class _Nothing:
    """A backend that is never asked."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


def lateness() -> float:
    """Without faults: of runs each minute, the p99 of when their process ran after their time."""
    with world(2, JOBS) as here:
        for number in range(JOBS):
            spec = here.spec("devel", "devel", f"c{number}", "true")
            here.client.submit_cron({**spec, "schedule": "* * * * *"})
        keys = [f"devel/devel/c{number}" for number in range(JOBS)]
        wait_for(lambda: all(len(_started(here.client, key)) >= MINUTES for key in keys), 60.0 * (MINUTES + 2))
        late = sorted(_late_s(here.client, tick) for key in keys for tick in _started(here.client, key)[-MINUTES:])
        for key in keys:
            here.client.delete_cron(key)
    return late[round(0.99 * (len(late) - 1))]


def _started(client: Any, key: str) -> list[dict[str, Any]]:
    items = client.cron_history(key, outcome="started")["items"]
    return [one for one in items if client.job(one["job"])["finished"]]


def _late_s(client: Any, tick: dict[str, Any]) -> float:
    (task,) = client.tasks(tick["job"])["items"]
    began = datetime.fromisoformat(task["started"] or task["ended"])
    return (began - datetime.fromisoformat(tick["tick"])).total_seconds()
