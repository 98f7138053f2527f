"""`priority up`: every part of the service on one machine, each a process of its own, brought back when it dies.

It keeps the API's listening socket: while the API is being brought back, callers wait instead of being refused.

Who dies, and what follows:
- a part: it is forked again, with back-off while it keeps dying (`supervisor`).
- the supervisor, by SIGTERM or SIGINT: the parts are asked to stop one after the other, the API first.
- the supervisor, by SIGKILL: the kernel sends each part SIGTERM (PR_SET_PDEATHSIG). The API, the scheduler and the
  server's keeper share the lock on the state folder, so that the next `up` waits until they have gone.
- tasks: they belong to their node's warden, not to us; the agents of the next `up` take them over.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from priority.errors import Conflict, Malformed, PriorityError, Unavailable
from priority.service.settings import Settings
from priority.service.supervisor import AskedToStop, Part, Ready, Say, Supervisor

TAKEOVER_S = 15.0
"""So long the parts of a supervisor that was killed have to go."""


@dataclass(frozen=True)
class Api:
    """What the API does for us; given by the caller, since it is a layer above."""

    listen: Callable[[Settings], socket.socket]
    """Its address: `Conflict` if that is taken."""
    serve: Callable[[Settings, socket.socket, Ready], int]
    """Answers there until it is told to stop."""
    warm: Callable[[], None]
    """Imports what it needs."""


# --- the state folder


@contextmanager
def hold(state: Path) -> Iterator[int]:
    """The state folder, made if need be (0700) and locked. `Conflict` names who has it."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    state.chmod(0o700)
    number = os.open(state / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _take(number, state)
        os.ftruncate(number, 0)
        os.pwrite(number, f"{os.getpid()}\n".encode(), 0)
        yield number
    finally:
        os.close(number)


def _take(number: int, state: Path) -> None:
    deadline = time.monotonic() + TAKEOVER_S
    while True:
        try:
            return fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(number, 32, 0).decode(errors="replace").strip()
        if holder.isdigit() and _lives(int(holder)):
            raise Conflict(
                f"`priority up` (pid {holder}) runs already on the state folder {state}; "
                "stop it, or choose another folder with --state"
            )
        # Its supervisor is dead: its parts are on their way out, and a lock has no way to be waited for with a limit.
        if time.monotonic() > deadline:
            raise Conflict(f"parts of a `priority up` that was killed do not go; end them: fuser {state / 'up.lock'}")
        time.sleep(0.05)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


# --- the whole


def up(settings: Settings, api: Api, say: Say, afterwards: Callable[[], None] = lambda: None) -> int:
    """Start everything, say where it is, then call `afterwards`; watch over it until SIGTERM or SIGINT. The exit
    status.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # no threads at a fork, and none are of use here
    with hold(settings.state) as lock, api.listen(settings) as listener:
        supervisor = Supervisor(settings.state, say, lock, [listener.fileno()])
        try:
            _start_all(supervisor, settings, listener, api)
            afterwards()
            supervisor.run()
        except AskedToStop:
            pass
        finally:
            say("stopping")
            supervisor.stop()
    say("stopped" + (f"; {outlive(settings)}" if settings.agents or settings.backend == "mesos" else ""))
    return 0


def outlive(settings: Settings) -> str:
    """What becomes of tasks when this machine's part of it stops."""
    if settings.backend == "mesos":
        return f"tasks that run on Mesos go on for {settings.mesos_failover_s:g} s (setting mesos_failover_s)"
    return (
        f"tasks that run go on for {settings.lease_s:g} s (setting lease_s): started again by then it takes them over, "
        "later they have been ended and begin anew"
    )


def _start_all(supervisor: Supervisor, settings: Settings, listener: socket.socket, api: Api) -> None:
    """1. Valkey, and the database beside it. 2. Agents: they introduce themselves while 3. the others start."""
    say = supervisor.say
    valkey = None
    if not settings.redis:
        valkey = Part("valkey", lambda ready: _keep_valkey(settings, ready))
        supervisor.start(valkey)
    making_ready = _Once(lambda: prepare(settings))
    _warm()
    api.warm()
    making_ready.wait()
    if valkey is not None:
        supervisor.await_ready(valkey)
    local = settings.agents if settings.backend == "local" else 0
    agents = [_agent(settings, number) for number in range(1, local + 1)]
    for part in agents:
        supervisor.start(part)
    scheduler = Part("scheduler", lambda ready: _scheduler(settings, ready))
    supervisor.start(scheduler)
    served = Part("api", lambda ready: api.serve(settings, listener, ready))
    supervisor.start(served)
    url = supervisor.await_ready(served)
    say(f"  database   {hide_password(settings.database_url)}")
    if valkey is None or valkey.ready is None:
        say(f"  redis      {hide_password(settings.redis)}")
    else:
        pid, url_of_valkey = valkey.ready.split(" ", 1)
        say(f"  valkey     {url_of_valkey} (pid {pid})")
    say(f"  scheduler  pid {scheduler.pid}")
    if agents:
        names = [part.name.removeprefix("agent-") for part in (agents[0], agents[-1])]
        memory = settings.memory_of(settings.agent_cpus)
        each = f"each {settings.agent_cpus:g} cpus, {memory} of memory, {settings.agent_disk} of disk"
        say(f"  agents     {len(agents)}: {' to '.join(names)}, {each}")
    if settings.backend == "mesos":
        say(f"  mesos      {hide_password(settings.mesos_master)}, role {settings.mesos_role}")
    say(f"  api        {url} (pid {served.pid})")


def hide_password(url: str) -> str:
    """A URL that may be shown."""
    head, at, tail = url.rpartition("@")
    return f"{head.split('://')[0]}://...@{tail}" if at else url


def upgrade(settings: Settings) -> None:
    """The database at its newest version."""
    from priority.store import open_store

    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = open_store(settings.database_url)
    try:
        store.upgrade()
    finally:
        store.close()


def prepare(settings: Settings) -> None:
    """The database at its newest version, and the admin's token in the state folder."""
    upgrade(settings)
    first_token(settings)


def first_token(settings: Settings, *, only_if_none: bool = False) -> Path | None:
    """The file of the admin's token in the state folder, made if need be. With `only_if_none` nothing is made if the
    database has an admin already, so that an API whose folder does not last makes no token at each start; then None.
    """
    from priority.service.build import build
    from priority.service.users import TOKEN_FILE

    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    service = build(settings)
    try:
        if only_if_none and service.users.has_admin():
            return None
        service.users.bootstrap(settings.state)
    finally:
        service.close()
    return settings.state / TOKEN_FILE


class _Once:
    """Something done in a process of its own, so that no connection of it is there when we fork."""

    def __init__(self, do: Callable[[], None]) -> None:
        self._reading, writing = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._reading)
            _do_once(do, writing)
        os.close(writing)

    def wait(self) -> None:
        """Until it is done. If it failed, what it said, as an error of the same exit status; else `Unavailable`."""
        with os.fdopen(self._reading, "rb") as pipe:
            said = pipe.read().decode(errors="replace")
        _, status = os.waitpid(self._pid, 0)
        if status:
            for kind in (Malformed, Conflict):
                if said and os.waitstatus_to_exitcode(status) == kind.exit_status:
                    raise kind(said)
            raise Unavailable(said or "the database could not be made ready; what was written above says why")


def _do_once(do: Callable[[], None], writing: int) -> None:
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        do()
        status = 0
    except PriorityError as error:
        os.write(writing, str(error).encode())
        status = error.exit_status
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _warm() -> None:
    """Import, once for all parts, what they will need."""
    import priority.backend.agent
    import priority.service.build  # noqa: F401


def _keep_valkey(settings: Settings, ready: Ready) -> int:
    from priority.queue.embedded import serve

    signal.signal(signal.SIGTERM, _leave)
    with serve(settings.state) as server:
        ready(f"{server.pid} {server.url}")
        server.wait()
    return 1


def _leave(*_: object) -> None:
    raise SystemExit(0)


def _scheduler(settings: Settings, ready: Ready) -> int:
    from priority.service.build import run_scheduler

    ready("started")
    return run_scheduler(settings)


def _agent(settings: Settings, number: int) -> Part:
    name = f"node-{number}"
    # A task must not keep the folder locked: what an agent starts may outlive us.
    return Part(f"agent-{name}", lambda ready: run_agent(settings, name, ready=ready), keeps_lock=False)


def run_agent(
    settings: Settings,
    name: str,
    *,
    cpus: float | None = None,
    mem: str | None = None,
    disk: str | None = None,
    more: dict[str, float] | None = None,
    attributes: dict[str, str] | None = None,
    ready: Ready = lambda _: None,
) -> int:
    """One agent, until SIGTERM; amounts that are not given are those of the settings."""
    from priority import resources
    from priority.backend import agent
    from priority.queue import embedded

    cpus = cpus or settings.agent_cpus
    given = {"cpus": cpus, "mem": mem or settings.memory_of(cpus), "disk": disk or settings.agent_disk}
    capacity = resources.parse({**given, **(more or {})}, "capacity")
    ready(resources.show(capacity))
    agent.run(
        name,
        capacity,
        attributes or {},
        settings.redis or embedded.url(settings.state),
        settings.state,
        heartbeat_s=settings.heartbeat_s,
        lease_s=settings.lease_s,
        log_limit=settings.log_limit,
        ended_keep_s=settings.ended_keep_s,
    )
    return 0
