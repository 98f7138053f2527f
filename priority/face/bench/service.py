"""`priority bench service`: the embedded default, from outside, as its users meet it.

The goals are those that a tuned Slurm 22.05 was measured against on the same kind of machine (README.md has the table).
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import orjson
from rich.console import Console
from rich.table import Table

from priority.face.bench.figures import Figure, World, figure, timed, wait_for, world

SLEEP = "exec sleep 3600"
RING = 'echo x > "$BELL"; exec sleep 3600'
HELD = {"cpus": 10_000}
"""More than any node has: accepted, and waits."""


def measure() -> Iterator[Figure]:
    """Every figure, as it is measured."""
    with world(4, 4, idle=True) as here:
        yield from submissions(here)
    with world(10, 100) as here:
        yield from throughput(here)
        yield from storms(here)
        yield from storm_with_kill(here)
    with world(10, 16) as here:
        yield from preemption_latency(here)
    with world(2, 4) as here:
        yield from across_nodes(here)


def run(figures: Iterable[Figure] | None = None, *, json: bool = False) -> int:
    """Measure and print: a JSON object a line, or a table. The exit status: 1 if a goal was missed."""
    missed = 0
    console = Console()
    table = Table("measure", "size", "value", "goal", box=None, header_style="bold")
    for one in measure() if figures is None else figures:
        missed += one.met is False
        if json:
            print(orjson.dumps(one.plain()).decode(), flush=True)  # noqa: T201 - this is the output
            continue
        goal = "" if one.goal is None else f"{one.goal:g}"
        style = {True: "green", False: "red", None: ""}[one.met]
        table.add_row(one.measure, one.size, f"[{style}]{one.value:g} {one.unit}" if style else f"{one.value:g}", goal)
        console.print(f"[grey50]{one.measure}: {one.value:g} {one.unit}")
    if not json:
        console.print(table)
    return 1 if missed else 0


# --- submissions


def submissions(here: World) -> Iterator[Figure]:
    """How fast jobs are accepted."""
    held = {"role": "devel", "tier": "devel", "command": "true", "resources": HELD}
    for warm in range(50):
        here.client.submit({**held, "name": f"warm-{warm}"})
    runs = [1000 * timed(lambda n=n: here.client.submit({**held, "name": f"one-{n}"})) for n in range(500)]  # type: ignore[misc]
    yield figure("submit one job, 1 client, p50", "500 jobs", [statistics.median(runs)], "ms", 2)
    rates = [clients_together(here, 8, 500, f"many-{run}") for run in range(3)]
    yield figure("submissions one by one, 8 clients", "8 x 500 jobs", rates, "jobs/s", 2000)
    rates = [bulk(here, 20, f"bulk-{run}", held) for run in range(3)]
    yield figure("bulk submission", "20 x 1,000 jobs", rates, "jobs/s", 20_000)
    runs = [timed(lambda n=n: here.client.submit({**held, "name": f"wide-{n}", "instances": 10_000})) for n in range(5)]  # type: ignore[misc]
    yield figure("a job of 10,000 instances accepted", "10,000 tasks", runs, "s", 0.2)


def bulk(here: World, requests: int, name: str, held: dict[str, Any]) -> float:
    """Jobs a second in requests of 1,000."""
    batches = [[{**held, "name": f"{name}-{r}-{n}"} for n in range(1000)] for r in range(requests)]
    return requests * 1000 / timed(lambda: [here.client.submit_many(batch) for batch in batches])


def clients_together(here: World, clients: int, each: int, name: str) -> float:
    """Jobs a second of so many processes, each with one open connection and one request at a time."""
    gate = multiprocessing.get_context("fork").Barrier(clients + 1)
    context = multiprocessing.get_context("fork")
    token = (here.state / "admin.token").read_text().strip()
    crowd = [
        context.Process(target=_one_client, args=(here.client.url, token, f"{name}-{n}", each, gate), daemon=True)
        for n in range(clients)
    ]
    for one in crowd:
        one.start()
    gate.wait()
    began = time.perf_counter()
    for one in crowd:
        one.join()
    took = time.perf_counter() - began
    if any(one.exitcode for one in crowd):
        raise RuntimeError("a client of the bench failed")
    return clients * each / took


def _one_client(url: str, token: str, name: str, count: int, gate: Any) -> None:
    """Requests made beforehand, and no more done with an answer than must be: eight clients on the server's own two
    cores would else be measured with it.
    """
    at = urlsplit(url)
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: {at.netloc}\r\nAuthorization: Bearer {token}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: "
    bodies = [
        orjson.dumps({"role": "devel", "tier": "devel", "name": f"{name}-{n}", "command": "true", "resources": HELD})
        for n in range(count)
    ]
    requests = [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]
    with socket.create_connection((at.hostname, at.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        gate.wait()
        for request in requests:
            connection.sendall(request)
            if not _answer(connection).startswith(b"HTTP/1.1 201"):
                os._exit(1)
    os._exit(0)


def _answer(connection: socket.socket) -> bytes:
    """One whole response with a Content-Length."""
    got = b""
    while (end := got.find(b"\r\n\r\n")) < 0:
        got += connection.recv(65_536)
    length = int(got[:end].lower().split(b"content-length:")[1].split(b"\r\n")[0])
    while len(got) < end + 4 + length:
        got += connection.recv(65_536)
    return got


# --- throughput


def throughput(here: World) -> Iterator[Figure]:
    """Short jobs through the whole service."""
    rates = []
    for run in range(3):
        specs = [here.spec("devel", "devel", f"true-{run}-{n}", "true") for n in range(1000)]
        began = time.perf_counter()
        uids = [job["uid"] for job in here.client.submit_many(specs)["jobs"]]
        ended = here.client.wait(*uids)
        rates.append(1000 / (time.perf_counter() - began))
        if any(job["finished"] != 1 for job in ended):
            raise RuntimeError("a job of the bench did not finish")
    yield figure("1,000 jobs of true, first submit to last finished", "10 agents of 100 cpus", rates, "jobs/s", 200)


# --- preemption


def preemption_latency(here: World) -> Iterator[Figure]:
    """One prod job on a full cluster."""
    devel = here.client.submit(here.spec("devel", "devel", "fill", SLEEP, instances=160))["uid"]
    wait_for(lambda: here.running(devel) == 160)
    for cpus, goal in ((1, 40), (4, 50), (16, 80)):
        first_line, pending_again = [], []
        for run in range(20):
            one, two = _one_preemption(here, devel, cpus, f"p-{cpus}-{run}")
            first_line.append(1000 * one)
            pending_again.append(1000 * two)
        size = f"{cpus} cpus, 160 devel tasks on 10 agents of 16"
        yield figure("prod submit to its first output line, p50", size, first_line, "ms", goal)
        yield figure("prod submit to its first output line, p95", size, first_line, "ms", 100, at=0.95)
        yield figure("prod submit until the victims are pending again, p50", size, pending_again, "ms", goal)


def _one_preemption(here: World, devel: str, cpus: int, name: str) -> tuple[float, float]:
    asked = time.time()
    began = time.monotonic()
    job = here.client.submit(here.spec("physics", "prod", name, RING, cpus))
    first_line = here.rings(1)[0] - began
    again = [
        _seconds(task["since"])
        for task in here.client.all_tasks(devel, state=["pending"])
        if _seconds(task["since"]) >= asked
    ]
    if len(again) != cpus:
        raise RuntimeError(f"{cpus} victims were needed, {len(again)} tasks are pending again")
    here.client.kill(job["uid"])
    wait_for(lambda: here.running(devel) == 160)
    return first_line, max(again) - asked


def storms(here: World) -> Iterator[Figure]:
    """Many prod jobs at once on a full cluster."""
    for count, cpus, goal in ((500, 1, 5.0), (100, 4, 3.0)):
        took, killed = [], []
        for run in range(3):
            one, two = storm(here, count, cpus, f"storm-{cpus}-{run}")
            took.append(one)
            killed.append(float(two))
        size = f"{count} prod jobs of {cpus} cpus on 1,000 devel tasks"
        yield figure("storm: until all prod jobs run", size, took, "s", goal)
        yield figure("storm: devel tasks killed", size, killed, "tasks", count * cpus)


def storm(
    here: World, count: int, cpus: int, name: str, during: Callable[[World], None] | None = None
) -> tuple[float, int]:
    """Seconds until all prod jobs have written their first line, and how many devel tasks were preempted."""
    devel = here.client.submit(here.spec("devel", "devel", f"{name}-fill", SLEEP, instances=1000))["uid"]
    wait_for(lambda: here.running(devel) == 1000)
    specs = [here.spec("physics", "prod", f"{name}-{n}", RING, cpus) for n in range(count)]
    began = time.monotonic()
    jobs = here.client.submit_many(specs)["jobs"]
    if during is not None:
        during(here)
    took = max(here.rings(count)) - began
    killed = here.running(devel, "preempted") + here.running(devel, "preempting")
    for uid in [devel, *(job["uid"] for job in jobs)]:
        here.client.kill(uid)
    here.client.wait(devel, *(job["uid"] for job in jobs))
    return took, killed


def storm_with_kill(here: World) -> Iterator[Figure]:
    """The scheduler is killed in the middle; its supervisor starts another."""
    took, killed = storm(here, 500, 1, "kill9", during=_kill_scheduler)
    size = "500 prod jobs of 1 cpu, kill -9 of the scheduler after 0.3 s"
    yield figure("storm: until all prod jobs run, scheduler killed", size, [took], "s")
    yield figure("storm: devel tasks killed, scheduler killed", size, [float(killed)], "tasks", 500)


def _kill_scheduler(here: World) -> None:
    time.sleep(0.3)
    os.kill(here.pid("scheduler"), signal.SIGKILL)


def across_nodes(here: World) -> Iterator[Figure]:
    """One node holds {2, 1, 1} cpus of devel, the other {4}: one victim is enough for 4."""
    killed = []
    for run in range(3):
        first, second = sorted(node["name"] for node in here.client.nodes()["items"])
        uids = []
        for name, cpus, node in (("a", 2, first), ("b", 1, first), ("c", 1, first), ("d", 4, second)):
            at = [{"attribute": "host", "in": [node]}]
            spec = here.spec("devel", "devel", f"x-{run}-{name}", SLEEP, cpus, constraints=at)
            uids.append(here.client.submit(spec)["uid"])
        wait_for(lambda uids=uids: sum(here.running(uid) for uid in uids) == 4)  # type: ignore[misc]
        prod = here.client.submit(here.spec("physics", "prod", f"x-{run}", RING, 4))["uid"]
        here.rings(1)
        killed.append(float(sum(here.running(uid, "preempted") for uid in uids)))
        for uid in [*uids, prod]:
            here.client.kill(uid)
        here.client.wait(*uids, prod)
    yield figure("victims of a prod job of 4 cpus", "nodes with {2,1,1} and {4} cpus of devel", killed, "tasks", 1)


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
