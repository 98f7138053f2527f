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
    {"do": "hello", "agent", "until_s"}               {"void": agent}
    {"do": "lease", "agent", "until_s"}               {"well": true}
    {"do": "well"}                                    {"well": true}
    {"do": "seen"}                                    {"seen": [tasks], "at_us", "agent", "reports"}
    {"do": "parcel", "specs", "launch", "stop"}       {"reports": [...]}
    {"do": "ack", "tasks"}                            {"old": [tasks]}: their sandboxes may go
    {"do": "end", "grace_s"}
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from priority.backend import proc
from priority.backend.custody import now_s
from priority.backend.household import Household
from priority.backend.ledger import Ledger
from priority.backend.messages import Halt, Order, Unreadable, line, read_parcel
from priority.backend.peer import Peer
from priority.backend.timers import Timers

NOT_FOR_US = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
TICK_S = 1.0
LOST_TOUCH = "its node lost touch with the service"


class Warden:
    """The loop, the agent and the lease. `folder` is the node's: socket, journal, sandboxes."""

    def __init__(self, folder: Path, log_limit: int, ended_keep_s: float) -> None:
        self._timers = Timers()
        self._ledger = Ledger(folder / "journal", ended_keep_s, self._send)
        self._house = Household(folder, self._ledger, self._timers, log_limit)
        self._poll = select.poll()
        self._agent: Peer | None = None
        self._incarnation = ""
        self._lease_until_s: float | None = None
        """None: there is no incarnation that could start anything, and nothing runs."""

    # --- the loop ------------------------------------------------------------------------------------------

    def run(self, listener: socket.socket) -> None:
        """Until there is neither a task nor an agent."""
        signals = _listen_for_signals()
        proc.become_subreaper()
        self._house.recover()
        self._timers.later(TICK_S, self._tick)
        self._poll.register(listener, select.POLLIN)
        self._poll.register(signals, select.POLLIN)
        had_agent = False
        while not had_agent or self._agent is not None or not self._house.empty:
            self._check_lease()
            self._house.start_some()
            self._timers.fire()
            self._ledger.flush()
            for fd, events in self._poll.poll(self._pause_ms()):
                self._check_lease()
                if fd == listener.fileno():
                    self._accept(listener)
                    had_agent = True
                elif fd == signals:
                    with contextlib.suppress(BlockingIOError):
                        os.read(signals, 4096)
                    self._house.reap()
                elif self._agent is not None and fd == self._agent.fd:
                    self._converse(self._agent, events)
        self._ledger.flush()

    def _pause_ms(self) -> int:
        if self._house.orders or self._ledger.pending:
            return 0
        due_s = self._timers.next_s
        if self._lease_until_s is not None:
            due_s = min(due_s, self._lease_until_s)
        return max(0, round((due_s - now_s()) * 1000 + 0.5))

    def _tick(self) -> None:
        self._ledger.tick(self._agent is not None)
        self._timers.later(TICK_S, self._tick)

    def _check_lease(self) -> None:
        if self._lease_until_s is None or now_s() < self._lease_until_s:
            return
        self._lease_until_s = None
        void, self._incarnation = self._incarnation, ""
        self._ledger.void(void)
        self._house.kill_all(LOST_TOUCH)
        self._ledger.flush()
        self._send({"void": void})

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

    def _send(self, message: dict[str, Any]) -> None:
        if self._agent is not None:
            try:
                self._agent.send(line(message))
            except OSError:
                self._drop_agent()

    def _converse(self, agent: Peer, events: int) -> None:
        try:
            if events & select.POLLOUT:
                agent.flush()
            for message in agent.receive() if events & ~select.POLLOUT else ():
                self._obey(message)
        except OSError:
            self._drop_agent()
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            print(f"warden: the agent is not understood: {error!r}", file=sys.stderr, flush=True)  # noqa: T201
            self._drop_agent()

    def _obey(self, message: dict[str, Any]) -> None:
        what = message["do"]
        if what == "parcel":
            self._take(*read_parcel(message))
        elif what == "lease":
            if message["agent"] == self._incarnation:
                self._lease_until_s = message["until_s"]
            self._send({"well": True})
        elif what == "well":
            self._send({"well": True})
        elif what == "ack":
            self._ledger.acknowledged(message["tasks"])
        elif what == "seen":
            self._say_all()
        elif what == "hello":
            self._hello(message["agent"], message["until_s"])
        elif what == "end":
            self._house.end_all(message["grace_s"])
        else:
            raise Unreadable(f"do: {what!r} is not known")

    def _hello(self, agent: str, until_s: float) -> None:
        if agent == self._ledger.memory.void:
            self._send({"void": agent})
            return
        self._incarnation = agent
        self._lease_until_s = until_s
        self._say_all()

    def _say_all(self) -> None:
        self._ledger.flush()
        ended = self._ledger.memory.ended
        reports = [custody.started for custody in self._house.tasks.values() if custody.started is not None]
        self._send(
            {
                "seen": [*self._house.held, *ended],
                "at_us": time.time_ns() // 1000,  # now, not when it is passed on: what starts after this is not named
                "agent": self._incarnation,
                "reports": [*reports, *ended.values()],
            }
        )

    def _take(self, orders: list[Order], halts: list[Halt]) -> None:
        for order in orders:
            if self._house.repeat(order.task) or self._ledger.repeat(order.task):
                continue
            void = order.agent == self._ledger.memory.void
            if not self._incarnation and not void:
                continue  # we do not know yet who our agent is; a refusal would be taken for a proof
            if void or order.agent != self._incarnation:
                self._ledger.refuse(order.task, "incarnation", "it was sent to another incarnation of its node's agent")
            elif order.epoch < self._ledger.memory.epoch:
                self._ledger.refuse(order.task, "epoch", "a newer leader has spoken")
            else:
                self._ledger.heed(order.epoch)
                self._house.orders.append(order)
        for halt in halts:
            if halt.epoch >= self._ledger.memory.epoch:
                self._ledger.heed(halt.epoch)
                self._house.halt(halt)


def _listen_for_signals() -> int:
    """A descriptor that becomes readable when a child dies."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    for number in (signal.SIGCHLD, *NOT_FOR_US):
        # It ends when its work does. Not SIG_IGN: what is ignored here would be ignored by every task.
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return reading


def main() -> None:
    """`python -m priority.backend.warden FOLDER LOG_LIMIT ENDED_KEEP_S`: says `ready` when its socket is there."""
    folder = Path(sys.argv[1])
    # Held for life: a second warden waits here until the first is gone.
    lock = os.open(folder / "warden.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.ftruncate(lock, 0)
    os.write(lock, b"%d\n" % os.getpid())
    (folder / "warden.sock").unlink(missing_ok=True)
    here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(f"/proc/self/fd/{here}/warden.sock")  # the path itself may be too long for a socket
        listener.listen(4)
        print("ready", flush=True)  # noqa: T201
        sys.stdout.close()
        Warden(folder, int(sys.argv[2]), float(sys.argv[3])).run(listener)


if __name__ == "__main__":
    main()
