"""Jepsen's Chronos test with real processes: cron jobs each minute, while scheduler, API, Valkey and the database are
killed. That is PostgreSQL's server with all its processes, started again at once; of SQLite, which has no server, every
part that has the file open, in one moment.

What ran is read from what the tasks themselves wrote. One minute of it is in the suite, on SQLite;
`PRIORITY_TEST_CRON_MINUTES=30` is the real thing, on both: a minute of kills, a minute of quiet, and so on.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from chronos import Row, Run, complaints, targets, unmet
from postgres import Postgres, own_server
from whole import ROLES, Service

from priority.face.client import Client

MINUTES = int(os.environ.get("PRIORITY_TEST_CRON_MINUTES", "1"))
LATE_S = 60.0
NEEDS_S = 20.0
"""For the supervisor to start a scheduler again, and that to lead and look, on a busy machine."""

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(400 + 60 * MINUTES)]

WITNESS = """
say() { echo "$1 $NAME $PRIORITY_TICK $PRIORITY_ATTEMPT $(date +%s.%N)" >> "$WITNESS"; }
say start
sleep $DURATION
say end
"""
VICTIMS = ("prio-scheduler", "prio-api", "prio-valkey", "valkey-server", "valkey")


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


class Nemesis:
    """Kills for a minute and lets be for a minute; `able` are the spans in which nothing hinders the scheduler."""

    def __init__(self, service: Service, chance: random.Random, server: Postgres | None) -> None:
        self.killed: list[str] = []
        self.able: list[tuple[float, float]] = []
        self._service, self._chance, self._server = service, chance, server

    def run(self, until_s: float) -> None:
        begin_s = time.time()
        while (now_s := time.time()) < until_s:
            if int((now_s - begin_s) // 60) % 2 == 1:
                end_s = min(until_s, now_s + 60)
                self.able.append((now_s + NEEDS_S, end_s))
                threading.Event().wait(end_s - now_s)
                continue
            parts = {name: pid for name, pid in self._service.parts().items() if name in VICTIMS}
            name = self._chance.choice([*sorted(parts), "database"])
            if name == "database":
                self._kill_database()
            else:
                _kill(parts[name])
            self.killed.append(name)
            threading.Event().wait(self._chance.uniform(1, 8))

    def _kill_database(self) -> None:
        if self._server is None:
            for pid in self._service.parts().values():
                if _has_open(pid, self._service.state / "priority.db"):
                    _kill(pid)
            return
        self._server.kill()
        self._server.start()


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _has_open(pid: int, file: Path) -> bool:
    links = Path(f"/proc/{pid}/fd")
    with suppress(OSError):
        for link in links.iterdir():
            with suppress(OSError):
                if link.readlink() == file:
                    return True
    return False


def submit(client: Client, chance: random.Random, witness: Path) -> dict[str, dict[str, Any]]:
    made = {}
    for number in range(6):
        name = f"c{number}"
        env = {"WITNESS": str(witness), "NAME": name, "DURATION": str(chance.randint(0, 9))}
        spec = {"role": "physics", "tier": "prod", "name": name, "command": ["/bin/bash", "-c", WITNESS], "env": env}
        kept = client.submit_cron({**spec, "schedule": "* * * * *", "resources": {"cpus": 0.1}})
        made[name] = {"from": seconds(kept["changed"]), "duration": int(env["DURATION"])}
    return made


def read(witness: Path) -> dict[str, list[Run]]:
    """Of each cron job the runs: a first attempt that began, and the end of whichever attempt ended."""
    begun: dict[tuple[str, str], float] = {}
    ended: dict[tuple[str, str], float] = {}
    found: dict[str, list[Run]] = {}
    for line in witness.read_text().splitlines() if witness.exists() else ():
        what, name, tick, attempt, at = line.split()
        if what == "start" and attempt == "1":
            assert (name, tick) not in begun, f"{name} began twice for {tick}"
            begun[name, tick] = float(at)
        elif what == "end":
            ended.setdefault((name, tick), float(at))
    for (name, tick), at_s in begun.items():
        found.setdefault(name, []).append(Run(at_s, ended.get((name, tick)), seconds(tick)))
    return found


def ended(witness: Path, name: str, last_s: float) -> int:
    """How many runs have, of ticks until then."""
    return sum(run.end_s is not None and (run.tick_s or 0) <= last_s for run in read(witness).get(name, []))


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest) -> Iterator[Postgres | None]:
    """A PostgreSQL of the test's own, as it is killed; None for SQLite."""
    if request.param == "sqlite":
        yield None
        return
    if not ("PRIORITY_TEST_CRON_MINUTES" in os.environ or "PRIORITY_TEST_ALL" in os.environ):
        pytest.skip("a minute more: only with `make test-all` or PRIORITY_TEST_CRON_MINUTES")
    with own_server() as found:
        yield found


def test_every_tick_has_its_run(
    server: Postgres | None, start_service: Callable[..., Service], eventually: Callable[..., object]
) -> None:
    seed = int(os.environ.get("PRIORITY_TEST_SEED") or random.SystemRandom().randrange(10**6))
    print(f"seed {seed}: run again with PRIORITY_TEST_SEED={seed}")
    chance = random.Random(seed)
    where = {} if server is None else {"database": server.create()}
    service = start_service(agents=2, agent_cpus=20, cron_on_time_s=LATE_S, **where)
    witness = service.state / "witness"
    with service.client() as client:
        client.apply_roles(ROLES)
        made = submit(client, chance, witness)
        last_s = time.time() // 60 * 60 + 60 * MINUTES
        nemesis = Nemesis(service, chance, server)
        nemesis.run(last_s + 10)
        print(f"killed: {nemesis.killed}")

    def history(name: str) -> list[dict[str, Any]]:
        with service.client() as client:
            items = client.cron_history(f"physics/prod/{name}", limit=1000)["items"]
        return [dict(one) for one in items if seconds(one["tick"]) <= last_s]

    for name, facts in made.items():
        ticks = [float(at) for at in range(int(facts["from"] // 60 * 60) + 60, int(last_s) + 1, 60)]
        eventually(lambda: len(history(name)) >= len(ticks), f"a row for each tick of {name}", within_s=120)  # noqa: B023
        started = sum(one["outcome"] == "started" for one in history(name))
        eventually(lambda: ended(witness, name, last_s) >= started, f"the end of the runs of {name}", within_s=120)  # noqa: B023
        runs = [run for run in read(witness).get(name, []) if (run.tick_s or 0) <= last_s]
        rows = [Row(seconds(one["tick"]), one["outcome"]) for one in history(name)]
        # one that came back late may meet the run before it: then it is skipped, and says so
        due = [row.tick_s for row in rows if row.outcome == "started"]
        assert unmet(targets(due, LATE_S, facts["duration"], last_s + 1000), runs) == [], name
        assert complaints(ticks, rows, runs, late_s=LATE_S, able=nemesis.able, needs_s=NEEDS_S) == [], name
