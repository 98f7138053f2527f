"""Forks parts, each a process of its own, watches them, and brings back those that die.

The supervisor imports everything once and forks its parts from there, so that a part is back within milliseconds of its
death; it has no threads and no connections of its own that a fork could break. What it supervises is `up`'s to say.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from priority.errors import PriorityError, Unavailable

READY_S = 30.0
"""So long at most until a part says that it is ready."""
STOP_S = 8.0
"""So long a part has to stop when asked; then it is killed."""
BACKOFF_S = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
"""Before a part that died is started again: the first is for one that had lived longer than `SETTLED_S`."""
SETTLED_S = 5.0

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_ASKS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""They ask us to stop: an operator, a Ctrl-C, a terminal that is closed."""

Ready = Callable[[str], None]
Say = Callable[[str], None]


class AskedToStop(Exception):
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
        # Until the child has its own handlers: ours would swallow what ends it, and write it into our pipe.
        signal.pthread_sigmask(signal.SIG_BLOCK, _ASKS)
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            self._child(part, parent, writing)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASKS)
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

    def await_ready(self, part: Part) -> str:
        """What the part said when it was ready. `Unavailable` if it does not say it in time."""
        deadline = time.monotonic() + READY_S
        while part.ready is None:
            if self._stopping:
                raise AskedToStop
            if time.monotonic() > deadline:
                raise Unavailable(f"{part.name} was not ready within {READY_S:.0f} s; what it wrote says why")
            self.turn(0.5)
        return part.ready

    def run(self) -> None:
        """Until SIGTERM, SIGINT or SIGHUP (under nohup that one is ignored)."""
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
                self._stopping |= any(number in _ASKS for number in os.read(self._wake, 64))
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
            for number in (*_ASKS, signal.SIGCHLD):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASKS)
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
    for number in _ASKS:
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    selector.register(reading, selectors.EVENT_READ, None)
    return reading
