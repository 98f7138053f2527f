"""`priority up`: every part of the service on one machine, each a process of its own, brought back when it dies.

The supervisor does nothing but fork, watch and stop. It imports everything once and forks its parts from there, so
that a part is back within milliseconds of its death; it has no threads and no connections of its own that a fork
could break. It keeps the API's listening socket: while the API is being brought back, callers wait instead of being
refused.

Who dies, and what follows:
- a part: it is forked again, with back-off while it keeps dying.
- the supervisor, by SIGTERM or SIGINT: the parts are asked to stop one after the other, the API first.
- the supervisor, by SIGKILL: the kernel sends each part SIGTERM (PR_SET_PDEATHSIG). The API, the scheduler and the
  server's keeper share the lock on the state folder, so that the next `up` waits until they have gone.
- tasks: they belong to their node's warden, not to us; the agents of the next `up` take them over.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import json
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from priority.errors import Conflict, PriorityError, Unavailable
from priority.service.settings import Settings

READY_S = 30.0
"""So long at most until the database is ready, and until the API answers."""
STOP_S = 8.0
"""So long a part has to stop when asked; then it is killed."""
TAKEOVER_S = 15.0
"""So long the parts of a supervisor that was killed have to go."""
BACKOFF_S = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
"""Before a part that died is started again: the first is for one that had lived longer than `SETTLED_S`."""
SETTLED_S = 5.0

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15

Ready = Callable[[str], None]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Api:
    """What the API does for us; given by the caller, since it is a layer above."""

    listen: Callable[[Settings], socket.socket]
    """Its address: `Conflict` if that is taken."""
    serve: Callable[[Settings, socket.socket, Ready], int]
    """Answers there until it is told to stop."""
    warm: Callable[[], None]
    """Imports what it needs."""


class _AskedToStop(Exception):
    """While we were still starting."""


@dataclass
class Part:
    """One process: `run` is called in it, and may say that it is ready."""

    name: str
    run: Callable[[Ready], int]
    keeps_lock: bool = True
    pid: int = 0
    pidfd: int = -1
    started_s: float = 0.0
    deaths: int = 0
    due_s: float | None = None
    """When it is to be started again."""
    ready: str | None = None
    _pipe: int = field(default=-1, repr=False)


class Supervisor:
    """Forks parts, brings them back, stops them in order."""

    def __init__(self, folder: Path, say: Say, lock: int = -1, only_api: Sequence[int] = ()) -> None:
        """`lock` is a file descriptor that parts keep or close as they say; `only_api` ones that only the API keeps."""
        self._folder = folder
        self.parts: list[Part] = []
        self.say = say
        self._lock = lock
        self._only_api = only_api
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._wake = _signals(self._selector)

    def start(self, part: Part) -> None:
        """Fork it."""
        reading, writing = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        gc.freeze()  # what is shared with the child stays shared
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            self._child(part, parent, writing)
        os.close(writing)
        gc.unfreeze()
        part.pid, part.pidfd, part.due_s, part.ready = pid, os.pidfd_open(pid), None, None
        part.started_s = time.monotonic()
        part._pipe = reading
        self._selector.register(part.pidfd, selectors.EVENT_READ, part)
        self._selector.register(reading, selectors.EVENT_READ, part)
        if part not in self.parts:
            self.parts.append(part)
        self._write_down()

    def await_ready(self, part: Part, within_s: float = READY_S) -> str:
        """What the part said when it was ready. `Unavailable` if it does not say it in time."""
        deadline = time.monotonic() + within_s
        while part.ready is None:
            if self._stopping:
                raise _AskedToStop
            if time.monotonic() > deadline:
                raise Unavailable(f"{part.name} was not ready within {within_s:.0f} s; what it wrote says why")
            self.turn(0.5)
        return part.ready

    def run(self) -> None:
        """Until SIGTERM or SIGINT."""
        while not self._stopping:
            self.turn(None)

    def turn(self, timeout_s: float | None) -> None:
        """Wait for something to happen, and deal with it."""
        due = [part.due_s for part in self.parts if part.due_s is not None]
        if due:
            soonest = max(0.0, min(due) - time.monotonic())
            timeout_s = soonest if timeout_s is None else min(soonest, timeout_s)
        for key, _ in self._selector.select(timeout_s):
            if key.data is None:
                self._stopping |= any(number in (signal.SIGTERM, signal.SIGINT) for number in os.read(self._wake, 64))
            elif key.fd == key.data.pidfd:
                self._buried(key.data)
            elif key.fd == key.data._pipe:  # else it was let go with the part, a moment ago
                self._heard(key.data)
        if self._stopping:
            return
        for part in self.parts:
            if part.due_s is not None and part.due_s <= time.monotonic():
                self.start(part)

    def stop(self) -> None:
        """Ask each part to stop, in the order in which they stand, those of one name's kind together."""
        self._stopping = True
        kinds: dict[str, list[Part]] = {}
        for part in self.parts:
            kinds.setdefault(part.name.split("-")[0], []).append(part)
        for kind in ("api", "scheduler", "agent", "valkey"):
            self._stop(kinds.pop(kind, []))
        for rest in kinds.values():
            self._stop(rest)

    def _stop(self, parts: Sequence[Part]) -> None:
        alive = [part for part in parts if part.pid]
        for part in alive:
            signal.pidfd_send_signal(part.pidfd, signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        while any(part.pid for part in alive) and time.monotonic() < deadline:
            self.turn(max(0.0, deadline - time.monotonic()))
        for part in alive:
            if part.pid:
                self.say(f"{part.name} does not stop and is killed")
                signal.pidfd_send_signal(part.pidfd, signal.SIGKILL)
        while any(part.pid for part in alive):
            self.turn(1.0)

    def _buried(self, part: Part) -> None:
        _, status = os.waitpid(part.pid, 0)
        self._selector.unregister(part.pidfd)
        os.close(part.pidfd)
        self._drop_pipe(part)
        pid, part.pid, part.pidfd = part.pid, 0, -1
        if self._stopping:
            return
        part.deaths = 0 if time.monotonic() - part.started_s > SETTLED_S else part.deaths + 1
        pause = BACKOFF_S[min(part.deaths, len(BACKOFF_S) - 1)]
        part.due_s = time.monotonic() + pause
        how = os.waitstatus_to_exitcode(status)
        why = f"was killed by {signal.Signals(-how).name}" if how < 0 else f"ended with status {how}"
        self.say(f"{part.name} (pid {pid}) {why}; it is started again" + (f" in {pause} s" if pause else ""))

    def _heard(self, part: Part) -> None:
        said = os.read(part._pipe, 4096)
        if said:
            part.ready = said.decode(errors="replace")
        self._drop_pipe(part)
        self._write_down()

    def _write_down(self) -> None:
        """`up.json`: the pid of each part, for operators and tests; of Valkey the server's own."""
        pids = {part.name: part.pid for part in self.parts}
        for part in self.parts:
            if part.name == "valkey" and part.ready:
                pids["valkey"] = int(part.ready.split()[0])
        fresh = self._folder / ".up.json"
        fresh.write_text(json.dumps({"pid": os.getpid(), "parts": pids}), encoding="utf-8")
        fresh.replace(self._folder / "up.json")

    def _drop_pipe(self, part: Part) -> None:
        if part._pipe >= 0:
            self._selector.unregister(part._pipe)
            os.close(part._pipe)
            part._pipe = -1

    def _child(self, part: Part, parent: int, writing: int) -> None:
        """In the new process; never returns."""
        status = 70
        try:
            os.setsid()  # a Ctrl-C at the terminal is for the supervisor alone
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            name_process(f"prio-{part.name}")
            _die_with(parent)
            self._forget(part)

            def ready(text: str) -> None:
                with suppress(OSError):
                    os.write(writing, text.encode()[:4096] or b"ready")
                    os.close(writing)

            status = part.run(ready)
        except PriorityError as error:
            sys.stderr.write(f"priority {part.name}: {error}\n")
            status = error.exit_status
        except (KeyboardInterrupt, SystemExit) as error:
            status = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _forget(self, part: Part) -> None:
        """Close what is the supervisor's, so that nobody keeps alive what should end with it."""
        self._selector.close()
        os.close(self._wake)
        for other in self.parts:
            for number in (other.pidfd, other._pipe):
                if number >= 0:
                    with suppress(OSError):
                        os.close(number)
        if part.name != "api":
            for number in self._only_api:
                os.close(number)
        if self._lock >= 0 and not part.keeps_lock:
            os.close(self._lock)


def name_process(name: str) -> None:
    """For `ps` and `top`: at most 15 characters are kept."""
    _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()[:15]))


def _die_with(parent: int) -> None:
    """SIGTERM when the parent dies, however it dies (prctl(2), PR_SET_PDEATHSIG)."""
    _prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM))
    if os.getppid() != parent:  # it died before we asked
        os._exit(0)


def _prctl(option: int, value: object) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _signals(selector: selectors.BaseSelector) -> int:
    """Signals as something to read, so that the loop waits for them and everything else at one place."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    os.set_blocking(reading, False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    selector.register(reading, selectors.EVENT_READ, None)
    return reading


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
        except _AskedToStop:
            pass
        finally:
            say("stopping")
            supervisor.stop()
    say("stopped")
    return 0


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
    agents = [_agent(settings, number) for number in range(1, settings.agents + 1)]
    for part in agents:
        supervisor.start(part)
    scheduler = Part("scheduler", lambda ready: _scheduler(settings, ready))
    supervisor.start(scheduler)
    served = Part("api", lambda ready: api.serve(settings, listener, ready))
    supervisor.start(served)
    url = supervisor.await_ready(served)
    say(f"  database   {_hide_password(settings.database_url)}")
    if valkey is None or valkey.ready is None:
        say(f"  redis      {_hide_password(settings.redis)}")
    else:
        pid, url_of_valkey = valkey.ready.split(" ", 1)
        say(f"  valkey     {url_of_valkey} (pid {pid})")
    say(f"  scheduler  pid {scheduler.pid}")
    if agents:
        names = [part.name.removeprefix("agent-") for part in (agents[0], agents[-1])]
        each = f"each {settings.agent_cpus:g} cpus, {settings.agent_mem} of memory, {settings.agent_disk} of disk"
        say(f"  agents     {len(agents)}: {' to '.join(names)}, {each}")
    say(f"  api        {url} (pid {served.pid})")


def _hide_password(url: str) -> str:
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
        """Until it is done; `Unavailable` with what it said if it failed."""
        with os.fdopen(self._reading, "rb") as pipe:
            said = pipe.read().decode(errors="replace")
        _, status = os.waitpid(self._pid, 0)
        if status:
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

    given = {"cpus": cpus or settings.agent_cpus, "mem": mem or settings.agent_mem, "disk": disk or settings.agent_disk}
    capacity = resources.parse({**given, **(more or {})}, "capacity")
    ready("started")
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
