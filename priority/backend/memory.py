"""A simulated cluster: the twin of the local backend, with time moved by hand and faults on request.

Nothing happens by itself but what is due by the clock: move the clock to `next_us()` and call
`advance()`. Reports wait in line for `listen` (from a thread) or `poll` (by hand). `violations` is the
witness: what the real world would have shown of an engine that errs (two attempts of an instance at
once, a node with more on it than it has).
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from signal import SIGKILL, Signals
from threading import RLock
from typing import Literal

from priority.backend.line import Line
from priority.backend.simulated import (
    KIND,
    NEVER,
    UNFAULTY,
    Faults,
    Play,
    SimulatedNode,
    SimulatedTask,
    instance_of,
    refusal,
)
from priority.errors import NotFound, Unavailable
from priority.incarnation import name_of
from priority.node import Node, Shares
from priority.orders import Delivery, Launch, LogChunk, LogRequest, NodeGone, NodeSeen, NodeSilent, Stop, TaskSeen
from priority.ports import Clock
from priority.reason import Reason
from priority.resources import shortfall, total

__all__ = ["Faults", "MemoryBackend", "Play"]


class MemoryBackend:
    """Passes the same contract as `LocalBackend`. All methods may be called from any thread."""

    def __init__(
        self,
        clock: Clock,
        nodes: Sequence[Node] = (),
        play: Callable[[Launch], Play] = lambda _launch: Play(),
        *,
        faults: Faults = UNFAULTY,
        rng: random.Random | None = None,
        silent_s: float = 5.0,
        lease_s: float = 60.0,
        lease_margin_s: float = 10.0,
        resend_s: float = 5.0,
    ) -> None:
        self.faults = faults
        self.play = play
        self.violations: list[str] = []
        self.launched: list[Launch] = []
        """Every launch that reached its node, refused and repeated ones too."""
        self.stops: list[Stop] = []
        """Every stop that reached its node."""
        self._clock = clock
        self._rng = rng or random.Random(0)
        self._silent_us, self._lease_us, self._gone_us = (
            round(seconds * 1e6) for seconds in (silent_s, lease_s, lease_s + lease_margin_s)
        )
        self._resend_us = round(resend_s * 1e6)
        self._lock = RLock()
        self._nodes: dict[str, SimulatedNode] = {}
        self._contacts: Counter[str] = Counter()
        """How often contact with a node was made or lost: what was due after an earlier loss is void."""
        self._homes: Counter[str] = Counter()
        """How often a machine of this name began anew."""
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._line = Line()
        self._output: dict[tuple[str, str], bytes] = {}
        for node in nodes:
            self.start_node(node)

    # --- the port ------------------------------------------------------------------------------------------

    def launch(self, batch: Sequence[Launch]) -> None:
        """See `ports.Backend`."""
        with self._lock:
            for one in batch:
                self._send(lambda one=one: self._take_launch(one))  # type: ignore[misc]

    def stop(self, batch: Sequence[Stop]) -> None:
        """See `ports.Backend`."""
        with self._lock:
            for one in batch:
                self._send(lambda one=one: self._take_stop(one))  # type: ignore[misc]

    def listen(self, deliver: Callable[[Delivery], None]) -> None:
        """See `ports.Backend`. Beginning again stands for a crash: what was not acknowledged comes again."""
        self._line.begin_again()
        self.inquire([name for name, node in self._nodes.items() if node.reachable])
        while (delivery := self._line.take(wait=True)) is not None:
            deliver(delivery)

    def poll(self) -> Delivery | None:
        """What is there to deliver at once, if anything: `listen` for tests that move everything by hand."""
        return self._line.take(wait=False)

    def acknowledge(self, delivery: Delivery) -> None:
        """See `ports.Backend`."""
        self._line.acknowledge(delivery)
        with self._lock:
            for report in delivery.reports:
                if isinstance(report, TaskSeen) and report.kind == "ended" and report.node in self._nodes:
                    self._nodes[report.node].acknowledged.add(report.task)

    def inquire(self, nodes: Collection[str]) -> None:
        """See `ports.Backend`. A node that is not there begins to be silent now."""
        with self._lock:
            for name in nodes:
                node = self._nodes.get(name)
                if node is not None:
                    if node.reachable:
                        self._say_all(node)
                elif self._contacts[name] == 0:
                    self._fall_silent(name)

    def heard(self) -> dict[str, int]:
        """See `ports.Backend`. Who can be reached is heard of all the time."""
        with self._lock:
            return {name: self._clock.now_us() for name, node in self._nodes.items() if node.reachable}

    def shares(self) -> dict[str, Shares]:
        """See `ports.Backend`. Every node is ours alone."""
        return {}

    def logs(self, request: LogRequest) -> LogChunk:
        """See `ports.Backend`; never waits."""
        with self._lock:
            node = self._nodes.get(request.node)
            if node is None or not node.reachable:
                raise Unavailable(f"node {request.node} does not answer; try again", node=request.node)
            task = node.tasks.get(request.task)
            if task is None:
                raise NotFound(f"node {request.node} has no task {request.task}")
            output = self._output.get((request.task, request.stream), b"")
            offset = max(0, len(output) + request.offset) if request.offset < 0 else min(request.offset, len(output))
            data = output[offset : offset + request.limit]
            return LogChunk(offset, data, not task.runs and offset + len(data) == len(output))

    def close(self) -> None:
        """See `ports.Backend`."""
        self._line.close()

    # --- moving the world ----------------------------------------------------------------------------------

    def next_us(self) -> int | None:
        """When the next thing is due, None if nothing is."""
        with self._lock:
            return self._due[0][0] if self._due else None

    def advance(self) -> None:
        """Let everything happen that is due by now."""
        with self._lock:
            while self._due and self._due[0][0] <= self._clock.now_us():
                heapq.heappop(self._due)[2]()

    def set_clock(self, seconds: float) -> None:
        """The clock was set forward, or back: what is due is so after as long as before, as nodes count by another."""
        with self._lock:
            self._due = [(due_us + round(seconds * 1e6), count, act) for due_us, count, act in self._due]

    def finish(self, task: str, exit_code: int = 0, *, cause: Reason | None = None) -> None:
        """A task ends by itself now (with `cause`: it broke a limit)."""
        with self._lock:
            node = next(node for node in self._nodes.values() if task in node.tasks)
            self._end(node, task, exit_code=exit_code, cause=cause)

    def write(self, task: str, data: bytes, stream: Literal["stdout", "stderr"] = "stdout") -> None:
        """A task puts out something."""
        with self._lock:
            self._output[task, stream] = self._output.get((task, stream), b"") + data

    def running(self, node: str | None = None) -> set[str]:
        """The tasks that run, on one node or at all."""
        with self._lock:
            nodes = self._nodes.values() if node is None else [self._nodes[node]]
            return {name for one in nodes for name, task in one.tasks.items() if task.runs}

    # --- faults --------------------------------------------------------------------------------------------

    def start_node(self, node: Node) -> None:
        """A machine begins, or begins anew with nothing left of what it had."""
        with self._lock:
            self._contacts[node.name] += 1
            self._homes[node.name] += 1  # nothing is left of its disk either
            self._nodes[node.name] = started = SimulatedNode(node, self._incarnation(node.name))
            self._say_all(started)

    def restart_agent(self, name: str) -> None:
        """The agent dies and comes back as a new incarnation; its tasks go on."""
        with self._lock:
            node = self._nodes[name]
            node.agent = self._incarnation(name)
            if node.reachable:
                self._say_all(node)

    def kill_node(self, name: str) -> None:
        """The machine dies, and all on it."""
        with self._lock:
            del self._nodes[name]
            self._fall_silent(name)

    def cut(self, name: str) -> None:
        """No message goes in or out; its tasks go on until its lease has run out."""
        with self._lock:
            node = self._nodes[name]
            node.reachable = False
            self._fall_silent(name)
            contact = self._contacts[name]
            self._later(self._lease_us, lambda: self._expire(node) if self._contacts[name] == contact else None)

    def heal(self, name: str) -> None:
        """It is back: the same incarnation, or a new one if its lease had run out."""
        with self._lock:
            node = self._nodes[name]
            node.reachable = True
            self._contacts[name] += 1
            if node.expired:
                node.expired = False
                node.agent = self._incarnation(name)
            self._say_all(node)

    def lose_reports(self) -> None:
        """Redis was emptied: what was not delivered is gone. Nodes tell what matters again."""
        with self._lock:
            self._line.lose()
            for node in self._nodes.values():
                if node.reachable:
                    self._say_all(node)

    # --- what a node does ----------------------------------------------------------------------------------

    def _take_launch(self, launch: Launch) -> None:
        node = self._nodes.get(launch.node)
        if node is None or not node.reachable:
            return
        self.launched.append(launch)
        if launch.task in node.tasks:
            self._repeat(node, node.tasks[launch.task])
            return
        if why := refusal(node, launch):
            self._say(node, self._seen(node, launch.task, "refused", cause=why))
            return
        node.epoch = max(node.epoch, launch.epoch)
        task = node.tasks[launch.task] = SimulatedTask(launch, self.play(launch))
        if not task.play.starts:
            self._end(node, launch.task, cause=Reason("exec", "the command cannot be executed"))
            return
        self._witness(node, launch)
        task.start = self._seen(node, launch.task, "started")
        self._say(node, task.start)
        if task.play.run_s is not None:
            self._later(
                round(task.play.run_s * 1e6), lambda: self._end(node, launch.task, exit_code=task.play.exit_code)
            )

    def _take_stop(self, stop: Stop) -> None:
        node = self._nodes.get(stop.node)
        if node is None or not node.reachable or stop.epoch < node.epoch:
            return
        self.stops.append(stop)
        node.epoch = stop.epoch
        task = node.tasks.get(stop.task)
        if task is None:
            node.never.add(stop.task)
            self._say(node, self._seen(node, stop.task, "refused", cause=NEVER))
        elif not task.runs:
            self._repeat(node, task)
        elif not task.stopped:
            task.stopped = True
            notice_us, obeys_s = round(stop.notice_s * 1e6), task.play.obeys_s
            if obeys_s is not None and obeys_s * 1e6 <= notice_us:
                after_us, signal = round(obeys_s * 1e6), Signals["SIG" + stop.signal]
            else:
                after_us, signal = notice_us, SIGKILL
            if after_us:
                self._later(after_us, lambda: self._end(node, stop.task, signal=signal))
            else:
                self._end(node, stop.task, signal=signal)

    def _end(
        self,
        node: SimulatedNode,
        name: str,
        *,
        exit_code: int | None = None,
        signal: int | None = None,
        cause: Reason | None = None,
    ) -> None:
        task = node.tasks.get(name)
        if task is None or not task.runs or self._nodes.get(node.node.name) is not node:
            return
        task.end = self._seen(
            node, name, "ended", exit_code=exit_code, signal=signal, stopped=task.stopped, cause=cause
        )
        self._say(node, task.end)
        self._tell_again(node, task)

    def _tell_again(self, node: SimulatedNode, task: SimulatedTask) -> None:
        def again() -> None:
            if task.launch.task not in node.acknowledged and self._nodes.get(node.node.name) is node:
                self._repeat(node, task)
                self._later(self._resend_us, again)

        self._later(self._resend_us, again)

    def _expire(self, node: SimulatedNode) -> None:
        node.expired = True
        node.agent = ""
        for name, task in node.tasks.items():
            if task.runs:
                self._end(node, name, signal=SIGKILL, cause=Reason("lease", "its node lost touch with the service"))

    def _repeat(self, node: SimulatedNode, task: SimulatedTask) -> None:
        for report in (task.start, task.end):
            if report is not None:
                self._say(node, report)

    def _say_all(self, node: SimulatedNode) -> None:
        self._line.put(NodeSeen(node=node.node, agent=node.agent, tasks=node.held(), at_us=self._clock.now_us()))
        for name in node.held():
            self._repeat(node, node.tasks[name])

    def _say(self, node: SimulatedNode, report: TaskSeen) -> None:
        def arrive() -> None:
            if node.reachable:
                self._line.put(report)

        self._send(arrive)

    def _witness(self, node: SimulatedNode, launch: Launch) -> None:
        """Say what the world would show: before this launch runs."""
        instance = instance_of(launch.task)
        for other in self._nodes.values():
            for name, task in other.tasks.items():
                if task.runs and task.launch is not launch and instance_of(name) == instance:
                    self.violations.append(f"{name} still ran when {launch.task} began")
        short = shortfall(
            total(task.launch.spec.resources for task in node.tasks.values() if task.runs), node.node.capacity
        )
        if short:
            self.violations.append(f"{launch.task} made node {node.node.name} hold too much: {short}")

    # --- time and messages ---------------------------------------------------------------------------------

    def _send(self, arrive: Callable[[], None]) -> None:
        faults = self.faults
        if faults.lose and self._rng.random() < faults.lose:
            return
        for _ in range(2 if faults.twice and self._rng.random() < faults.twice else 1):
            if faults.late_s:
                self._later(round(self._rng.random() * faults.late_s * 1e6), arrive)
            else:
                arrive()

    def _later(self, after_us: int, act: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._due, (self._clock.now_us() + after_us, self._count, act))

    def _fall_silent(self, name: str) -> None:
        self._contacts[name] += 1
        contact = self._contacts[name]

        def say(report: type[NodeSilent] | type[NodeGone]) -> None:
            if self._contacts[name] == contact:
                self._line.put(report(node=name, at_us=self._clock.now_us()))

        self._later(self._silent_us, lambda: say(NodeSilent))
        self._later(self._gone_us, lambda: say(NodeGone))

    def _seen(self, node: SimulatedNode, task: str, kind: KIND, **facts: object) -> TaskSeen:
        return TaskSeen(task=task, node=node.node.name, kind=kind, at_us=self._clock.now_us(), **facts)  # type: ignore[arg-type]

    def _incarnation(self, name: str) -> str:
        self._count += 1
        home = f"{name.encode().hex()}x{self._homes[name]}"
        return name_of(home, self._count, "0")
