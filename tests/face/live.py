"""A real API on a loopback port, over a database in a file and a cluster in memory; its scheduler runs in a thread."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from priority.backend.memory import MemoryBackend
from priority.face import api
from priority.face.client import Client
from priority.node import Node
from priority.queue.memory import MemoryQueue
from priority.resources import parse
from priority.role import RoleSpec
from priority.service.access import SYSTEM
from priority.service.build import Service, assemble
from priority.service.clock import SystemClock
from priority.service.loop import Loop
from priority.service.parts import Parts
from priority.service.settings import Settings
from priority.store import open_store
from priority.tier import DEFAULT_TIERS

ROLES = {
    "physics": {
        "quota": {"prod": {"cpus": 8}, "devel": {"cpus": 100}},
        "users": {"ada": {"quota": {"devel": {"cpus": 50}}}, "ben": {"grants": ["submit", "admin"]}},
    },
    "chem": {"quota": {"prod": {"cpus": 8}}, "users": {"cleo": {"grants": ["submit", "admin"]}}},
}
TIERS = [tier.name for tier in sorted(DEFAULT_TIERS.values(), key=lambda tier: -tier.rank)]
NOBODY = "nil"


@dataclass
class Live:
    """Where it is, who may do what, and the parts behind it."""

    url: str
    app: FastAPI
    service: Service
    backend: MemoryBackend
    queue: MemoryQueue
    tokens: dict[str, str]
    """User -> secret. `root` is a cluster admin, `ben` admin and `ada` member of physics, `cleo` admin of chem, `nil`
    has no grant at all."""
    clients: list[Client] = field(default_factory=list)

    def client(self, user: str = "root", **options: Any) -> Client:
        made = Client(self.url, self.tokens.get(user, user), **options)
        self.clients.append(made)
        return made


def spec(name: str, **fields: Any) -> dict[str, Any]:
    """A job of physics, `tier/name`; one that no node ever has room for, unless `cpus` says otherwise."""
    tier, _, name = name.rpartition("/")
    resources = {"cpus": fields.pop("cpus", 1)}
    role = fields.pop("role", "physics")
    return {"role": role, "tier": tier or "devel", "name": name, "command": "true", "resources": resources, **fields}


def parts_in(state: Path, nodes: int = 2, **settings: Any) -> Parts:
    """A database in `state`, a queue and a cluster in memory."""
    store = open_store(f"sqlite:///{state / 'priority.db'}")
    store.upgrade()
    clock = SystemClock()
    many = [Node(f"n{number}", parse({"cpus": 4, "mem": "8GiB"}, "")) for number in range(1, nodes + 1)]
    return Parts(
        store, MemoryQueue(TIERS), MemoryBackend(clock, many), Settings(**{"state": state, "sweep_s": 60.0} | settings)
    )


def people(service: Service) -> dict[str, str]:
    """Roles and users as in `ROLES`; user -> secret."""
    service.roles.apply(SYSTEM, {name: RoleSpec.model_validate(role) for name, role in ROLES.items()})
    service.users.create(SYSTEM, "root", admin=True)
    service.users.create(SYSTEM, NOBODY)
    return {name: service.users.create_token(SYSTEM, name)[1] for name in ("root", "ada", "ben", "cleo", NOBODY)}


def _wait_for_nodes(parts: Parts, within_s: float = 60.0) -> None:
    """The scheduler writes them down in its first round, which may come after a test's first request."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        with parts.store.read() as reader:
            if any(True for _ in reader.nodes()):
                return
        time.sleep(0.005)
    raise AssertionError(f"no node was known within {within_s:g} s")


@contextmanager
def serving(parts: Parts, *, scheduler: bool = True) -> Iterator[Live]:
    """Until the `with` ends: the API in one thread, the scheduler in another."""
    service = assemble(parts)
    tokens = people(service)
    app = api.create(service, parts.settings)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", ws="none", log_level="warning", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    threads = [threading.Thread(target=server.run, kwargs={"sockets": [listener]})]
    # The scheduler closes the queue it listens to when it ends; the API's is the same one here.
    loop = Loop(replace(parts)) if scheduler else None
    if loop is not None:
        threads.append(threading.Thread(target=loop.run))
    for thread in threads:
        thread.start()
    host, port = listener.getsockname()
    assert isinstance(parts.backend, MemoryBackend) and isinstance(parts.queue, MemoryQueue)
    live = Live(f"http://{host}:{port}", app, service, parts.backend, parts.queue, tokens)
    try:
        live.client().health()
        if loop is not None:
            _wait_for_nodes(parts)
        yield live
    finally:
        for client in live.clients:
            client.close()
        server.should_exit = True
        if loop is not None:
            loop.end()
        for thread in threads:
            thread.join(timeout=60)
            assert not thread.is_alive()
        listener.close()
        parts.close()
