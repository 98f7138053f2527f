"""`priority bench mesos`: what a scheduler costs that has a thousand agents and nothing to do.

The master is none: this process says what a thousand agents would, through the same HTTP API, and keeps it at that. The
scheduler is a real one, a process of a whole service.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson

from priority.face.bench.figures import Figure, figure, world

AGENTS = 1000
HEARTBEAT_S = 15.0
CALM_S = 10.0
"""After all nodes are known, until it is measured."""
IDLE_S = 30.0
ROLE = "bench"
_AMOUNTS = {"cpus": 8.0, "mem": 16384.0, "disk": 10000.0}


def run(agents: int = AGENTS, calm_s: float = CALM_S, idle_s: float = IDLE_S) -> Iterator[Figure]:
    """Memory, and the share of a core that is used while nothing happens."""
    size = f"{agents} agents"
    with _master(agents) as url:
        settings = {"PRIORITY_BACKEND": "mesos", "PRIORITY_MESOS_MASTER": url, "PRIORITY_MESOS_ROLE": ROLE}
        with world(agents, 1, idle=True, settings=settings) as service:
            pid = service.pid("scheduler")
            time.sleep(calm_s)
            before, began = _cpu_s(pid), time.monotonic()
            time.sleep(idle_s)
            share = (_cpu_s(pid) - before) / (time.monotonic() - began) * 100
            memory = _memory_mib(pid)
    yield figure("mesos scheduler, idle", size, [share], "% of a core", 2.0)
    yield figure("mesos scheduler, memory", size, [memory], "MiB", 200.0)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


@contextmanager
def _master(agents: int) -> Iterator[str]:
    """What says that there are so many; its URL."""
    closed = threading.Event()
    offers = _framed({"type": "OFFERS", "offers": {"offers": [_offer(number) for number in range(agents)]}})
    known = orjson.dumps({"slaves": [_agent(number) for number in range(agents)]})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._say(200, known if self.path == "/slaves" else b"{}")

        def do_POST(self) -> None:
            body = orjson.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if body["type"] == "SUBSCRIBE":
                self._stream()
            elif self.path == "/api/v1":
                self._say(200, b"{}")
            else:
                self._say(202, b"")

        def _say(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _stream(self) -> None:
            self.send_response(200)
            self.send_header("Mesos-Stream-Id", "1")
            self.send_header("Connection", "close")
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(_framed({"type": "SUBSCRIBED", "subscribed": {"framework_id": {"value": "bench"}}}))
                self.wfile.write(offers)
                while not closed.wait(HEARTBEAT_S):
                    self.wfile.write(_framed({"type": "HEARTBEAT"}))

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        closed.set()
        server.shutdown()
        server.server_close()


def _framed(event: Any) -> bytes:
    record = orjson.dumps(event)
    return b"%d\n%s" % (len(record), record)


def _offer(number: int) -> dict[str, Any]:
    resources = [
        {"name": name, "type": "SCALAR", "scalar": {"value": value}, "allocation_info": {"role": ROLE}}
        for name, value in _AMOUNTS.items()
    ]
    rack = {"name": "rack", "type": "TEXT", "text": {"value": f"r{number % 40}"}}
    return {
        "id": {"value": f"o{number}"}, "agent_id": {"value": f"a{number}"}, "hostname": f"h{number}",
        "attributes": [rack], "resources": resources,
    }  # fmt: skip


def _agent(number: int) -> dict[str, Any]:
    return {
        "id": f"a{number}", "hostname": f"h{number}", "port": 5051, "pid": "slave(1)@127.0.0.1:5051", "active": True,
        "attributes": {"rack": f"r{number % 40}"}, "resources": _AMOUNTS, "offered_resources": _AMOUNTS,
    }  # fmt: skip
