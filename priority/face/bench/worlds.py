"""Seeded clusters for `priority bench engine`: the same tasks on the same nodes each time."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

from priority.claim import Claim
from priority.node import Node
from priority.plan import make_plan
from priority.resources import Resources
from priority.snapshot import Snapshot

NOW_US = 1_800_000_000_000_000
HOUR_US = 3_600_000_000
RACKS = 40
ROLES = 20
ROLE = [f"r{index}" for index in range(ROLES)]


def cluster(nodes: int, capacity: Resources) -> Snapshot:
    """So many nodes that are alike, in racks."""
    snapshot = Snapshot(now_us=NOW_US)
    for index in range(nodes):
        snapshot.put_node(Node(f"n{index:06d}", capacity, {"rack": f"r{index % RACKS}"}))
    return snapshot


def task(
    id: str, tier: str, request: Resources, *, role: str = "r0", age_us: int = 0, job: str = "", **more: object
) -> Claim:
    """A pending task; it runs if `node` is given."""
    state = "running" if "node" in more else "pending"
    return Claim(id, job or f"j{id}", role, "u", tier, request=request, state=state, since_us=NOW_US - age_us, **more)  # type: ignore[arg-type]


def half_full(nodes: int, seed: int = 1) -> Snapshot:
    """Nodes of 64 cpus and 256 GiB with ten tasks each, a good half of their room free; ten tasks are a job."""
    dice = random.Random(seed)
    snapshot = cluster(nodes, {"cpus": 64_000, "mem": 262_144})
    requests = [{"cpus": 1000 * cpus, "mem": 1024 * mem} for cpus in (1, 2, 3) for mem in (2, 6, 12)]
    for node in range(nodes):
        name, job = f"n{node:06d}", f"j{node:06d}"
        for index in range(10 * node, 10 * node + 10):
            request, age, role = dice.choice(requests), dice.randrange(HOUR_US), dice.choice(ROLE)
            more = {"node": name, "priority": index % 3}
            snapshot.put_task(task(f"v{index:07d}", "devel", request, role=role, age_us=age, job=job, **more))
    return snapshot


def full(nodes: int, seed: int = 2) -> Snapshot:
    """Nodes of 64 cpus and 256 GiB, each full of ten devel tasks (a job) of several sizes, priorities and ages."""
    dice = random.Random(seed)
    snapshot = cluster(nodes, {"cpus": 64_000, "mem": 262_144})
    sizes = [(cpus, 4096 * cpus) for cpus in (4, 4, 5, 6, 6, 6, 7, 8, 8, 10)]
    requests: list[Resources] = [{"cpus": 1000 * cpus, "mem": mem} for cpus, mem in sizes]
    for node in range(nodes):
        name, job = f"n{node:06d}", f"j{node:06d}"
        for index in range(10 * node, 10 * node + 10):
            request, age, role = requests[index % 10], dice.randrange(HOUR_US), dice.choice(ROLE)
            more = {"node": name, "priority": dice.randrange(3)}
            snapshot.put_task(task(f"v{index:07d}", "devel", request, role=role, age_us=age, job=job, **more))
    return snapshot


def shapes(count: int, seed: int = 3) -> list[Resources]:
    """So many requests, none twice, of about two cpus and eight GiB."""
    dice = random.Random(seed)
    found: dict[tuple[int, int], Resources] = {}
    while len(found) < count:
        request = {
            "cpus": dice.randrange(1000, 3001, 10 if count > 100 else 100),
            "mem": dice.randrange(4096, 12289, 64),
        }
        found.setdefault((request["cpus"], request["mem"]), request)
    return list(found.values())


def wave(count: int, requests: list[Resources], tier: str = "prod", seed: int = 4) -> Iterator[Claim]:
    """So many pending tasks, of these requests in turn, of several roles and ages."""
    dice = random.Random(seed)
    for index in range(count):
        role, age = f"r{dice.randrange(ROLES)}", dice.randrange(HOUR_US)
        yield task(f"p{index:07d}", tier, requests[index % len(requests)], role=role, age_us=age)


def resident(nodes: int) -> float:
    """MiB of memory that this process has in use once it has a full cluster in a snapshot and has made a plan."""
    snapshot = full(nodes)
    snapshot.put_task(task("p", "prod", {"cpus": 30_000, "mem": 122_880}))
    make_plan(snapshot)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
