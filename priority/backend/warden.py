"""The warden: the parent of all tasks of a node, and of all that they leave behind.

It is a process of its own beside the agent, so that the agent may die, be restarted or be upgraded while tasks run,
and their exit statuses are still exact. It knows no Redis; it does what its agent passes on, over a unix socket, and
says what became of it. Only the standard library is imported, there is one thread and no waiting but poll(2).

What it decides by itself:

- *The lease.* The agent says until when (CLOCK_BOOTTIME) the scheduler cannot hold this node dead. When that passes
  without a renewal every task is killed, and the incarnation of the agent is void: it starts nothing any more,
  because others may be starting it elsewhere. This is looked at before anything that was received.
- *Limits, notices, ends*, see `limits` and `custody`.
- *Never twice.* A task id is run once, ever: see `journal`.

    agent -> warden                                   warden -> agent
    {"do": "hello", "agent"}                          {"void": agent}
    {"do": "lease", "agent", "until_s"}               {"seen": [tasks], "reports": [...]}
    {"do": "parcel", "specs", "launch", "stop"}       {"reports": [...]}
    {"do": "seen"} {"do": "ack", "tasks"}             {"old": [tasks]}: their sandboxes may go
    {"do": "end", "grace_s"}
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import json
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from priority.backend import proc
from priority.backend.custody import Custody, cause, now_s, report, send
from priority.backend.journal import Journal
from priority.backend.limits import Looker
from priority.backend.messages import Halt, Order, Unreadable, line, read_parcel

CHUNK = 16
"""Tasks started in one go, before ends and messages are looked at again."""
LINE_MAX = 256 * 2**20
OUT_MAX = 32 * 2**20
"""Bytes that wait for an agent that does not read; then it is cut off, and asks for all when it is back."""
TELL_AGAIN_S = (5.0, 60.0)
"""An end that is not acknowledged is told again after so long at first, then twice as long each time, up to so long."""
NOT_FOR_US = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
KILL_AGAIN_S = 0.005
REMEMBER_S = 3600.0
"""How long the id of a task is kept at least after its end was acknowledged: longer than anything waits in Redis."""


class Warden:
    """All of it. `folder` is the node's: socket, journal, sandboxes."""

    def __init__(self, folder: Path, log_limit: int, ended_keep_s: float) -> None:
        self.folder = folder
        self.tasks: dict[str, Custody] = {}
        self._keep_s = ended_keep_s
        self._journal = Journal(folder / "journal")
        self._looker = Looker(log_limit)
        self._orders: deque[Order] = deque()
        self._mains: dict[int, Custody] = {}
        self._marks: dict[int, Custody] = {}
        self._orphans: dict[int, Custody] = {}
        self._incarnation = ""
        self._lease_until_s: float | None = None
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_count = 0
        self._entries: list[dict[str, Any]] = []
        self._reports: list[dict[str, Any]] = []
        self._again: dict[str, tuple[float, float]] = {}
        self._old: deque[tuple[float, str]] = deque()
        self._ending = False
        self._null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self._poll = select.poll()
        self._agent: Peer | None = None

    # --- the loop ------------------------------------------------------------------------------------------

    def run(self, listener: socket.socket) -> None:
        """Until there is neither a task nor an agent."""
        signals, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in NOT_FOR_US:
            # It ends when its work does. Not SIG_IGN: what is ignored here would be ignored by every task.
            signal.signal(number, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        proc.become_subreaper()
        self._recover()
        self._later(self._looker.next_s, self._look)
        self._later(1.0, self._tick)
        self._poll.register(listener, select.POLLIN)
        self._poll.register(signals, select.POLLIN)
        had_agent = False
        while not had_agent or self._agent is not None or self.tasks or self._orders:
            self._check_lease()
            self._start_some()
            self._fire()
            self._flush()
            for fd, events in self._poll.poll(self._pause_ms()):
                self._check_lease()
                if fd == listener.fileno():
                    self._accept(listener)
                    had_agent = True
                elif fd == signals:
                    with contextlib.suppress(BlockingIOError):
                        os.read(signals, 4096)
                    self._reap()
                elif self._agent is not None and fd == self._agent.fd:
                    self._converse(self._agent, events)

    def _pause_ms(self) -> int:
        if self._orders or self._reports:
            return 0
        due = self._timers[0][0]
        if self._lease_until_s is not None:
            due = min(due, self._lease_until_s)
        return max(0, round((due - now_s()) * 1000 + 0.5))

    def _later(self, after_s: float, act: Callable[[], None]) -> None:
        self._timer_count += 1
        heapq.heappush(self._timers, (now_s() + after_s, self._timer_count, act))

    def _fire(self) -> None:
        while self._timers and self._timers[0][0] <= now_s():
            heapq.heappop(self._timers)[2]()

    # --- the agent -----------------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        """A new agent takes the place of the old one."""
        connection, _ = listener.accept()
        self._drop_agent()
        self._agent = Peer(connection, self._poll)

    def _drop_agent(self) -> None:
        if self._agent is not None:
            self._agent.close()
            self._agent = None

    def _converse(self, agent: Peer, events: int) -> None:
        try:
            if events & select.POLLOUT:
                agent.flush()
            for message in agent.receive() if events & ~select.POLLOUT else ():
                self._obey(message)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            if not isinstance(error, OSError):
                print(f"warden: the agent is not understood: {error!r}", file=sys.stderr, flush=True)  # noqa: T201
            self._drop_agent()

    def _obey(self, message: dict[str, Any]) -> None:
        what = message["do"]
        if what == "parcel":
            self._take(*read_parcel(message))
        elif what == "lease":
            if message["agent"] == self._incarnation:
                self._lease_until_s = message["until_s"]
        elif what == "ack":
            self._acknowledge(message["tasks"])
        elif what == "seen":
            self._say_all()
        elif what == "hello":
            self._hello(message["agent"])
        elif what == "end":
            self._end_all(message["grace_s"])
        else:
            raise Unreadable(f"do: {what!r} is not known")

    def _hello(self, agent: str) -> None:
        if agent == self._memory.void:
            self._send({"void": agent})
            return
        self._incarnation = agent
        if not self.tasks:
            self._lease_until_s = None
        self._say_all()

    def _say_all(self) -> None:
        self._flush()
        held = [*self.tasks, *(order.task for order in self._orders), *self._memory.ended]
        reports = [custody.started for custody in self.tasks.values() if custody.started is not None]
        self._send({"seen": held, "agent": self._incarnation, "reports": [*reports, *self._memory.ended.values()]})

    def _send(self, message: dict[str, Any]) -> None:
        if self._agent is not None:
            try:
                self._agent.send(line(message))
            except OSError:
                self._drop_agent()

    def _acknowledge(self, tasks: list[str]) -> None:
        known = [task for task in tasks if task in self._memory.ended]
        if known:
            at = time.time()
            self._entries.append({"do": "ack", "tasks": known, "at": at})
            self._flush()
            for task in known:
                self._again.pop(task, None)
                self._old.append((at, task))

    # --- orders --------------------------------------------------------------------------------------------

    def _take(self, orders: list[Order], halts: list[Halt]) -> None:
        for order in orders:
            if self._known(order.task):
                continue
            if order.agent != self._incarnation:
                self._refuse(order.task, "incarnation", "it was sent to another incarnation of this node's agent")
            elif order.epoch < self._memory.epoch:
                self._refuse(order.task, "epoch", "a newer leader has spoken")
            else:
                self._heed(order.epoch)
                self._orders.append(order)
        for halt in halts:
            if halt.epoch >= self._memory.epoch:
                self._heed(halt.epoch)
                self._halt(halt)

    def _heed(self, epoch: int) -> None:
        if epoch > self._memory.epoch:
            self._entries.append({"do": "epoch", "epoch": epoch})
            self._flush()

    def _known(self, task: str) -> bool:
        """Whether it was ever seen here; then what is known of it is said again."""
        if task in self.tasks:
            if (started := self.tasks[task].started) is not None:
                self._reports.append(started)
        elif task in self._memory.ended:
            self._reports.append(self._memory.ended[task])
        elif task in self._memory.done:
            self._refuse(task, "ended", "it has ended here, and its end was acknowledged")
        else:
            return any(order.task == task for order in self._orders)
        return True

    def _refuse(self, task: str, code: str, message: str) -> None:
        self._reports.append(report(task, "refused", cause=cause(code, message)))

    def _never(self, task: str, code: str, message: str) -> None:
        """It has not run and never will: a proof, so it is written down before it is said."""
        refusal = report(task, "refused", cause=cause(code, message))
        self._entries += [
            {"do": "end", "task": task, "report": refusal},
            {"do": "ack", "tasks": [task], "at": time.time()},
        ]
        self._reports.append(refusal)

    def _halt(self, halt: Halt) -> None:
        custody = self.tasks.get(halt.task)
        if custody is None:
            waiting = [order for order in self._orders if order.task == halt.task]
            if waiting:
                self._orders.remove(waiting[0])
                self._never(halt.task, "unknown", "it was stopped before it was started")
            elif not self._known(halt.task):
                self._never(halt.task, "unknown", "this node does not have it, and will never start it")
            return
        first, custody.stopped = not custody.stopped, True
        self._wind_up(custody, halt.notice_s, getattr(signal, "SIG" + halt.signal) if first else None)

    def _wind_up(self, custody: Custody, notice_s: float, number: int | None) -> None:
        """Tell it to end, and see that it is over in time; of several such times the first counts."""
        kill_at_s = now_s() + notice_s
        if number is not None and not custody.killing:
            self._find_orphans()
            custody.signal(number)
        if custody.kill_at_s is None or kill_at_s < custody.kill_at_s:
            custody.kill_at_s = kill_at_s
            self._later(notice_s, lambda: self._time_is_up(custody))

    def _time_is_up(self, custody: Custody) -> None:
        if self.tasks.get(custody.task) is custody and custody.kill_at_s is not None and now_s() >= custody.kill_at_s:
            self._kill(custody)

    # --- starting ------------------------------------------------------------------------------------------

    def _start_some(self) -> None:
        if not self._orders:
            return
        orders = [self._orders.popleft() for _ in range(min(CHUNK, len(self._orders)))]
        fresh = [Custody(one.task, proc.new_mark(), self.folder / "sandboxes" / one.task, one) for one in orders]
        try:
            self._write([{"do": "launch", "task": custody.task, "mark": custody.mark} for custody in fresh])
        except OSError as error:
            for custody in fresh:
                self._refuse(custody.task, "journal", f"the node cannot write its journal: {error.strerror}")
            return
        for custody in fresh:
            self._start(custody)

    def _start(self, custody: Custody) -> None:
        order = custody.order
        assert order is not None
        try:
            fault = custody.start(self._null)
        except OSError as error:
            self._never(custody.task, "sandbox", f"the node cannot make a sandbox: {error.strerror}")
            return
        if fault is not None:
            self._note_end(report(custody.task, "ended", stopped=False, cause=cause("exec", fault)))
            return
        self.tasks[custody.task] = self._mains[custody.pid] = self._marks[custody.mark] = custody
        self._reports.append(custody.started or {})
        if order.max_runtime_s is not None:
            self._later(order.max_runtime_s, lambda: self._too_long(custody))

    def _too_long(self, custody: Custody) -> None:
        order = custody.order
        if self.tasks.get(custody.task) is custody and order is not None:
            limit_s = order.max_runtime_s or 0.0
            self._break_off(custody, cause("runtime", f"ran for {limit_s:g} s, its max_runtime", limit_s=limit_s))

    def _break_off(self, custody: Custody, why: dict[str, Any], far: bool = False) -> None:
        """It broke a limit; if it is being stopped anyway, that remains the reason."""
        if custody.order is None or custody.status is not None:
            return
        if custody.cause is None and not custody.stopped:
            custody.cause = why
            self._wind_up(custody, custody.order.grace_s, signal.SIGTERM)
        if far:
            self._kill(custody)

    def _look(self) -> None:
        self._find_orphans()
        for breach in self._looker.look(self.tasks.values()):
            self._break_off(breach.custody, breach.why, breach.far)
        self._later(self._looker.next_s, self._look)

    # --- ends ----------------------------------------------------------------------------------------------

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if (custody := self._mains.pop(pid, None)) is not None:
                custody.status = status
                custody.used(usage, main=True)
            elif (custody := self._orphans.pop(pid, None)) is not None:
                custody.orphans.discard(pid)
                custody.used(usage, main=False)
        self._settle()

    def _settle(self) -> None:
        """Tasks whose main process has ended: nothing left? then they have ended; else the rest must go."""
        self._find_orphans()
        for custody in [one for one in self.tasks.values() if one.status is not None]:
            if not custody.orphans:
                self._ended(custody)
            elif custody.kill_at_s is None and not custody.killing:
                self._kill(custody)

    def _find_orphans(self) -> None:
        """Our children that are not main processes: whose are they? One that is nobody's is killed."""
        for pid in proc.children(os.getpid()):
            if pid in self._mains or pid in self._orphans:
                continue
            owner = self._marks.get(proc.mark_of(pid) or 0) or self.tasks.get(proc.task_of(pid) or "")
            if owner is None:
                send(pid, signal.SIGKILL)
            else:
                self._orphans[pid] = owner
                owner.orphans.add(pid)
                if owner.killing:
                    send(pid, signal.SIGKILL)

    def _kill(self, custody: Custody) -> None:
        """SIGKILL all of it, and again until nothing is left."""
        if self.tasks.get(custody.task) is not custody:
            return
        if custody.order is not None:
            self._find_orphans()
        custody.kill()
        if custody.order is None and not custody.kin():
            self._ended(custody)
        else:
            self._later(KILL_AGAIN_S, lambda: self._kill(custody))

    def _ended(self, custody: Custody) -> None:
        self.tasks.pop(custody.task, None)
        self._marks.pop(custody.mark, None)
        self._note_end(custody.end())

    def _note_end(self, ended: dict[str, Any]) -> None:
        self._entries.append({"do": "end", "task": ended["task"], "report": ended})
        self._reports.append(ended)
        self._again[ended["task"]] = (now_s() + TELL_AGAIN_S[0], TELL_AGAIN_S[0])

    def _end_all(self, grace_s: float) -> None:
        """The node is shut down."""
        self._ending = True
        while self._orders:
            self._never(self._orders.popleft().task, "unknown", "its node was shut down before it was started")
        for custody in list(self.tasks.values()):
            custody.cause = custody.cause or cause("lease", "its node was shut down")
            self._wind_up(custody, grace_s, signal.SIGTERM)

    # --- the lease -----------------------------------------------------------------------------------------

    def _check_lease(self) -> None:
        if self._lease_until_s is None or now_s() < self._lease_until_s:
            return
        self._lease_until_s = None
        void, self._incarnation = self._incarnation, ""
        with contextlib.suppress(OSError):
            self._write([{"do": "void", "agent": void}])
        while self._orders:
            self._refuse(self._orders.popleft().task, "incarnation", "its node lost touch with the service")
        for custody in list(self.tasks.values()):
            custody.cause = custody.cause or cause("lease", "its node lost touch with the service")
            self._kill(custody)
        self._send({"void": void})

    # --- the journal ---------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """What a former warden left running is killed; only then is it said to have ended."""
        self._memory = self._journal.open()
        self._old.extend((at, task) for task, at in self._memory.done.items())
        for task in self._memory.ended:
            self._again[task] = (0.0, TELL_AGAIN_S[0])
        for task, mark in self._memory.running.items():
            self.tasks[task] = self._marks[mark] = Custody(task, mark, self.folder / "sandboxes" / task)
        for custody in list(self.tasks.values()):
            self._kill(custody)

    def _write(self, entries: list[dict[str, Any]]) -> None:
        self._journal.write(entries)
        for entry in entries:
            self._memory.apply(entry)

    def _flush(self) -> None:
        """Write down what has happened, then say it. What a full disk does not take is said all the same, and kept in
        memory: it would come as `vanished` if this process died as well.
        """
        if self._entries:
            entries, self._entries = self._entries, []
            try:
                self._write(entries)
            except OSError:
                for entry in entries:
                    self._memory.apply(entry)
        if self._reports:
            reports, self._reports = self._reports, []
            self._send({"reports": reports})

    def _tick(self) -> None:
        """Each second: what was not acknowledged is told again; what is old is forgotten."""
        now = now_s()
        for task, (due_s, pause_s) in list(self._again.items()):
            if due_s <= now and task in self._memory.ended:
                self._reports.append(self._memory.ended[task])
                longer_s = min(pause_s * 2, TELL_AGAIN_S[1])
                self._again[task] = (now + longer_s, longer_s)
        self._forget()
        if self._journal.long:
            with contextlib.suppress(OSError):
                self._journal.compact(self._memory)
        self._later(1.0, self._tick)

    def _forget(self) -> None:
        now = time.time()
        old: list[str] = []
        while self._agent is not None and self._old and self._old[0][0] < now - self._keep_s and len(old) < 1000:
            old.append(self._old.popleft()[1])
        if old:
            self._send({"old": old})
        longest_s = max(self._keep_s, REMEMBER_S)
        if self._memory.done and next(iter(self._memory.done.values())) < now - longest_s:
            gone = [task for task, at in self._memory.done.items() if at < now - longest_s]
            self._entries.append({"do": "forget", "tasks": gone})


class Peer:
    """The connection to the agent: lines, never blocking."""

    def __init__(self, connection: socket.socket, poll: select.poll) -> None:
        connection.setblocking(False)
        self.fd = connection.fileno()
        self._connection = connection
        self._poll = poll
        self._in = bytearray()
        self._out = bytearray()
        poll.register(self.fd, select.POLLIN)

    def receive(self) -> list[dict[str, Any]]:
        """The messages that are complete. ConnectionResetError when the other end is gone."""
        try:
            data = self._connection.recv(2**20)
        except BlockingIOError:
            return []
        if not data or len(self._in) > LINE_MAX:
            raise ConnectionResetError
        self._in += data
        *lines, rest = self._in.split(b"\n")
        self._in = bytearray(rest)
        return [json.loads(one) for one in lines]

    def send(self, data: bytes) -> None:
        """Now or later. ConnectionResetError if too much waits."""
        self._out += data
        if len(self._out) > OUT_MAX:
            raise ConnectionResetError
        self.flush()

    def flush(self) -> None:
        """As much as the other end takes now."""
        with contextlib.suppress(BlockingIOError):
            while self._out:
                sent = self._connection.send(self._out)
                del self._out[:sent]
        self._poll.modify(self.fd, select.POLLIN | (select.POLLOUT if self._out else 0))

    def close(self) -> None:
        """For good."""
        self._poll.unregister(self.fd)
        self._connection.close()


def main() -> None:
    """`python -m priority.backend.warden FOLDER LOG_LIMIT ENDED_KEEP_S`: says `ready` when its socket is there."""
    folder = Path(sys.argv[1])
    # Held for life: a second warden waits here until the first is gone.
    lock = os.open(folder / "warden.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    path = folder / "warden.sock"
    path.unlink(missing_ok=True)
    here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(f"/proc/self/fd/{here}/warden.sock")  # the path itself may be too long for a socket
        listener.listen(4)
        print("ready", flush=True)  # noqa: T201
        sys.stdout.close()
        Warden(folder, int(sys.argv[2]), float(sys.argv[3])).run(listener)


if __name__ == "__main__":
    main()
