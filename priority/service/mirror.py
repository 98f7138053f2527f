"""The truth in the scheduler's memory: every task that has not ended, their jobs, the nodes, and the engine's Snapshot.

It is kept up change by change, always *after* the commit that made the change. A task is in the Snapshot when
the engine may look at it: once placed, always; while pending, when nothing but room is missing. What waits for
its former attempt to be proved dead or for its back-off stays outside, the latter on a heap of times. The
members of a gang enter together. Of very many that wait alike, the oldest are in it (see `window`).
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from priority import due
from priority.job import Job
from priority.node import NodeState
from priority.policy import NONE, Policy
from priority.ports import Reader
from priority.reason import Reason
from priority.records import NodeRecord, PreemptionRecord
from priority.role import RoleSpec
from priority.service.edges import Edges
from priority.service.recent import Recent, read_gone, read_recent
from priority.service.window import WINDOW, Window, kind_of
from priority.snapshot import Claim, Snapshot
from priority.task import ACTIVE, DYING, PLACED, State, Task, task_id
from priority.tier import Tier


@dataclass(frozen=True, slots=True)
class Truth:
    """All of it that a mirror shows, read at one moment."""

    tasks: Sequence[Task]
    """That have not ended."""
    jobs: Mapping[str, Job]
    """Theirs, but for those that were known."""
    nodes: Sequence[NodeRecord]
    roles: Mapping[str, RoleSpec]
    recent: Sequence[PreemptionRecord] = ()
    """Preemptions of the last hour, oldest first, for whom policy looks at them."""
    gone: Sequence[Task] = ()
    """Those that wait since they were preempted."""


def read_truth(reader: Reader, known: Collection[str] = (), *, policy: Policy = NONE, now_us: int = 0) -> Truth:
    """Everything; of jobs, only those (by uid) that are not `known`. With a `policy`, what that has to know."""
    tasks = reader.active_tasks()
    jobs = reader.jobs_of({task.job for task in tasks} - set(known))
    truth = Truth(tasks, jobs, reader.nodes(), reader.roles())
    if not policy.spares:
        return truth
    return replace(truth, recent=read_recent(reader, now_us), gone=read_gone(reader, tasks))


@dataclass(slots=True)
class _Gang:
    """The pending members of one job that start together."""

    pending: set[str] = field(default_factory=set)
    unready: set[str] = field(default_factory=set)


class Mirror:
    """Not safe for threads: the scheduler's round owns it. `put` and `drop` take what was committed."""

    def __init__(
        self,
        tiers: Mapping[str, Tier],
        window: int = WINDOW,
        snapshot: Snapshot | None = None,
        policy: Mapping[str, Any] | None = None,
    ) -> None:
        self.snapshot = Snapshot(tiers, policy) if snapshot is None else snapshot
        self._recent = Recent(self.snapshot.terms)
        self._until = bool(self.snapshot.terms.holds_after_s)
        self.tasks: dict[str, Task] = {}
        self.jobs: dict[str, Job] = {}
        """Of every task here."""
        self.nodes: dict[str, NodeRecord] = {}
        self.changed = False
        """Whether a plan may turn out otherwise than the last one."""
        self.refilled = False
        """Whether a task came into the Snapshot for another that has left it: one that the last plan has not seen."""
        self.untold = False
        """Whether somebody has come to wait of whom no plan says why: see `untold_reasons`."""
        self._edges = Edges(tiers)
        self._present: set[str] = set()
        """Nodes whose agent was heard by this leader and has not fallen silent since."""
        self._of_job: dict[str, set[str]] = {}
        self._later: list[tuple[int, str]] = []
        self._ready_us: dict[str, tuple[int, int]] = {}
        """Of a pending task with a back-off: until when the truth has it, and until when it is here (see `_ready`)."""
        self._gangs: dict[str, _Gang] = {}
        self._window = window
        self._windows: dict[Hashable, Window] = {}
        self._kinds: dict[str, Hashable] = {}
        self._roles: dict[str, RoleSpec] = {}
        self._gone: dict[str, Claim] = {}
        self._dead: dict[str, Task] = {}
        """Of those, the victims."""

    def frame(self, truth: Truth) -> None:
        """The nodes, roles and jobs there are; what is not among them any more is dropped. Tasks come after it."""
        self.jobs.update(truth.jobs)
        self._recent.add(truth.recent)
        for task in truth.gone:
            self._recent.gone(task, self.jobs[task.job].spec.role)
        self.put_roles(truth.roles)
        for record in truth.nodes:
            self.put_node(record)
        for name in self.nodes.keys() - {record.node.name for record in truth.nodes}:
            self.drop_node(name)

    # --- tasks ---

    def take(self, tasks: Iterable[Task], jobs: Mapping[str, Job]) -> None:
        """What was committed together, of these jobs among others."""
        ended = []
        for task in tasks:
            if task.state in ACTIVE:
                self.jobs.setdefault(task.job, jobs[task.job])
                self.put(task)
            else:
                ended.append(task.id)
        # last, since with its last task a job is forgotten, and a successor may just have come
        for id in ended:
            self.drop(id)

    def put(self, task: Task) -> None:
        """A task as it is now in the truth; one that has ended is dropped."""
        if task.state not in ACTIVE:
            self.drop(task.id)
            return
        before = self.tasks.get(task.id)
        self.tasks[task.id] = task
        self._of_job.setdefault(task.job, set()).add(task.id)
        if task.state in PLACED:
            self.refilled |= self._recent.back(task)  # what it gives back of a budget no plan has seen
            self._ready_us.pop(task.id, None)
            self._leave(task)
            self.snapshot.put_task(self.claim_of(task))
            # a start that is confirmed gives and takes nothing
            self.changed |= before is None or (before.state, task.state) != (State.STARTING, State.RUNNING)
            return
        ready_us = self._ready(task)
        if ready_us > self.snapshot.now_us:
            heapq.heappush(self._later, (ready_us, task.id))
        if before is None or _waits_alike(before, task) is False:
            self._admit(task)

    def drop(self, id: str) -> None:
        """A task has ended."""
        task = self.tasks.pop(id, None)
        if task is None:
            return
        self._ready_us.pop(id, None)
        self.changed = True
        self._leave(task)
        claim = self.snapshot.task(id)
        if claim is not None and self._awaited(claim):
            self._gone[id] = claim
        elif claim is not None:
            self.snapshot.drop_task(id)
        if task.state is State.PENDING:
            self.refilled |= self._recent.back(task)
        elif task.state is State.PREEMPTING and self._recent.keeps:
            if id in self._gone:
                self._dead[id] = task
            else:
                self._wait_again(task)
        tasks = self._of_job[task.job]
        tasks.discard(id)
        if not tasks:
            del self._of_job[task.job]
            self.jobs.pop(task.job, None)
            self._kinds.pop(task.job, None)

    def let_go(self) -> list[Claim]:
        """Tasks that have ended and stayed in the Snapshot for the plan that was just made (see `priority.handover`):
        now they leave it.
        """
        gone = list(self._gone.values())
        self._gone.clear()
        for claim in gone:
            self.snapshot.drop_task(claim.id)
            victim = self._dead.pop(claim.id, None)
            if victim is not None:
                self._wait_again(victim)
        return gone

    def _wait_again(self, victim: Task) -> None:
        """A victim is dead: its next attempt, if there is one, is gone until it has started."""
        next_one = self.tasks.get(task_id(victim.job, victim.instance, victim.attempt + 1))
        if next_one is not None and next_one.state is State.PENDING:
            self._recent.gone(next_one, self.jobs[victim.job].spec.role)

    def remember(self, records: Iterable[PreemptionRecord]) -> None:
        """Preemptions that were committed; before their tasks are put."""
        self._recent.add(records)

    def _awaited(self, claim: Claim) -> bool:
        """Whether it held room for a task that waits."""
        waits = self.tasks.get(claim.kept_for or "")
        return claim.state in DYING and waits is not None and waits.state is State.PENDING

    def sync_job(self, uid: str, truth: Iterable[Task]) -> list[Task]:
        """Make one job's tasks what they are in the truth; those that are new here or otherwise than they were."""
        named = {task.id: task for task in truth}
        for id in list(self._of_job.get(uid, ())):
            if id not in named:
                self.drop(id)
        changed = [task for task in named.values() if self.tasks.get(task.id) != task]
        for task in changed:
            self.put(task)
        return changed

    def jobs_with_tasks(self) -> Collection[str]:
        """The uids of every job here."""
        return self._of_job.keys()

    def tasks_of(self, uid: str) -> list[Task]:
        """A job's tasks that have not ended."""
        return [self.tasks[id] for id in self._of_job.get(uid, ())]

    def advance(self, now_us: int) -> None:
        """Time has passed: whose back-off is over may be placed."""
        self.snapshot.now_us = now_us
        past = self._recent.advance(now_us)
        if past is not None:
            self.snapshot.put_past(past)
        while self._later and self._later[0][0] <= now_us:
            task = self.tasks.get(heapq.heappop(self._later)[1])
            if task is not None and task.state is State.PENDING:
                self._admit(task)
        if self._edges.due(now_us):
            self._keep_away()

    def _keep_away(self) -> None:
        """Time has passed, or a node is to go down, or is not any more: who keeps away from where."""
        for claim in list(self.snapshot.pending()):
            task = self.tasks.get(claim.id)
            made = claim if task is None else self.claim_of(task)
            if set(made.constraints) != set(claim.constraints):
                self.snapshot.put_task(made)
                self.changed = True

    def next_us(self) -> int | None:
        """When the next back-off is over."""
        return self._later[0][0] if self._later else None

    def _ready(self, task: Task) -> int:
        """When its back-off is over. One that began later than now did so by a clock that was set back since: of that
        one, what is left is not known, and never more than all of it.
        """
        if not task.not_before_us:
            return 0
        truth_us, ready_us = self._ready_us.get(task.id, (-1, 0))
        if truth_us != task.not_before_us:
            ready_us = task.not_before_us - max(0, task.since_us - self.snapshot.now_us)
            self._ready_us[task.id] = task.not_before_us, ready_us
        return ready_us

    def step_back(self, back_us: int) -> None:
        """The clock was set back by so much: what is left of each back-off stays."""
        self._later = [(ready_us - back_us, id) for ready_us, id in self._later]
        self._ready_us = {id: (truth_us, ready_us - back_us) for id, (truth_us, ready_us) in self._ready_us.items()}

    def policy_us(self) -> int | None:
        """When policy alone may change what a plan would be; None: never."""
        if self.snapshot.terms == NONE:
            return None
        moments = due.next_us(self.snapshot), self._recent.next_us()
        return min((at_us for at_us in moments if at_us is not None), default=None)

    def waiting(self) -> bool:
        """Whether there is anything for the engine to decide."""
        return next(self.snapshot.pending(), None) is not None

    def refuse(self, ids: Iterable[str]) -> None:
        """The last plan found no room for these tasks."""
        for window in self._windows.values():
            window.refused_us = None
        for id in ids:
            task = self.tasks[id]
            its = self._windows.get(self._kinds.get(task.job))
            if its is not None and (its.refused_us is None or task.since_us < its.refused_us):
                its.refused_us = task.since_us

    def untold_reasons(self, reasons: Mapping[str, Reason]) -> Iterator[tuple[str, Reason]]:
        """Why those wait that no plan has looked at: as those do that are alike, which it gave these `reasons`.
        A task is named once, as soon as whoever asks has gone on to the next.
        """
        for window in self._windows.values():
            reason = next((reasons[id] for id in window.shown if id in reasons), None)
            while window.untold and reason is not None:
                id = window.untold[0]
                if id in window.hidden or (id in window.shown and id not in reasons):
                    yield id, reason
                window.untold.popleft()

    # --- nodes and roles ---

    def put_node(self, record: NodeRecord) -> None:
        """A node as it is now in the truth."""
        self.nodes[record.node.name] = record
        self._edges.put(record.node)
        self._show_node(record.node.name)

    def drop_node(self, name: str) -> None:
        """A node was forgotten."""
        if self.nodes.pop(name, None) is not None:
            self._present.discard(name)
            self._edges.drop(name)
            self.snapshot.drop_node(name)
            self.changed = True

    def hear(self, name: str) -> bool:
        """A node's agent was heard; whether it was not present before."""
        if name in self._present:
            return False
        self._present.add(name)
        self._show_node(name)
        return True

    def miss(self, name: str) -> bool:
        """A node has fallen silent; whether it was present before."""
        if name not in self._present:
            return False
        self._present.discard(name)
        self._show_node(name)
        return True

    def put_roles(self, roles: Mapping[str, RoleSpec]) -> None:
        """Every role there is, with its quotas."""
        for name in self._roles.keys() - roles.keys():
            self.snapshot.drop_role(name)
            self.changed = True
        for name, role in roles.items():
            if self._roles.get(name) != role:
                users = {user: member.quota for user, member in role.users.items() if member.quota}
                self.snapshot.put_role(name, role.weight, role.quota, users)
                self.changed = True
        self._roles = dict(roles)

    def _show_node(self, name: str) -> None:
        record = self.nodes.get(name)
        if record is None:
            return
        state = record.node.state
        if state is NodeState.UP and (record.drained or name not in self._present):
            state = NodeState.DRAINING
        node = replace(record.node, state=state)
        if self.snapshot.node(name) != node:
            self.snapshot.put_node(node)
            self.changed = True

    # --- what the engine sees ---

    def _admit(self, task: Task) -> None:
        ready = task.after is None and self._ready(task) <= self.snapshot.now_us
        if self.jobs[task.job].spec.gang:
            self._admit_member(task, ready)
        elif ready:
            self._admit_alone(task, self._window_of(task.job))

    def _admit_alone(self, task: Task, window: Window) -> None:
        if not window.enter(task):
            self.untold |= task.id in window.hidden
        elif window.hopeless(task) and not self._edges:  # who is alike may keep away from other nodes
            # The next plan sees it, but it needs none of its own: that was 1 ms for each job sent to a full cluster.
            self.snapshot.put_task(self.claim_of(task))
            window.untold.append(task.id)
            self.untold = True
        else:
            self._show([task.id])

    def _admit_member(self, task: Task, ready: bool) -> None:
        gang = self._gangs.setdefault(task.job, _Gang())
        gang.pending.add(task.id)
        was_whole = not gang.unready
        (gang.unready.discard if ready else gang.unready.add)(task.id)
        if gang.unready:
            if was_whole:
                self._hide(gang.pending)
        else:
            self._show([task.id] if was_whole else gang.pending)

    def _window_of(self, uid: str) -> Window:
        kind = self._kinds.get(uid)
        if kind is None:
            kind = self._kinds[uid] = kind_of(self.jobs[uid])
        window = self._windows.get(kind)
        if window is None:
            window = self._windows[kind] = Window(self._window)
        return window

    def _leave(self, task: Task) -> None:
        """It waits no longer."""
        if self.jobs[task.job].spec.gang:
            self._leave_gang(task)
            return
        window = self._window_of(task.job)
        following = window.leave(task.id)
        if following is not None:
            self.refilled = True
            self._show([following])
        if not window:
            del self._windows[self._kinds[task.job]]

    def _leave_gang(self, task: Task) -> None:
        gang = self._gangs.get(task.job)
        if gang is None or task.id not in gang.pending:
            return
        gang.pending.discard(task.id)
        if task.id in gang.unready:
            gang.unready.discard(task.id)
            if not gang.unready:
                self._show(gang.pending)
        if not gang.pending:
            del self._gangs[task.job]

    def _show(self, ids: Iterable[str]) -> None:
        for id in ids:
            if self.snapshot.task(id) is None:
                self.snapshot.put_task(self.claim_of(self.tasks[id]))
                self.changed = True

    def _hide(self, ids: Iterable[str]) -> None:
        for id in ids:
            if self.snapshot.task(id) is not None:
                self.snapshot.drop_task(id)
                self.changed = True

    def claim_of(self, task: Task) -> Claim:
        """A task as the engine sees it."""
        job = self.jobs[task.job]
        spec = job.spec
        runs_s = spec.max_runtime if task.state in PLACED else None
        return Claim(
            id=task.id,
            job=job.uid,
            role=spec.role,
            user=job.user,
            tier=spec.tier,
            priority=spec.priority,
            request=spec.resources,
            state=task.state.value,
            node=task.node if task.state in PLACED else None,
            since_us=task.since_us,
            constraints=spec.constraints
            + (() if task.state in PLACED else self._edges.avoided(spec, self.snapshot.now_us)),
            gang=job.uid if spec.gang else None,
            kept_for=task.kept_for,
            preempted_us=self._recent.times(task, self.snapshot.now_us) if task.preemptions else (),
            at_once=spec.preempt.at_once,
            until_us=None if runs_s is None or not self._until else task.since_us + round(runs_s * 1e6),
        )


def _waits_alike(before: Task, now: Task) -> bool:
    """Whether two views of a pending task are the same to the engine (its stored reason is nothing to it)."""
    return (before.state, before.after, before.not_before_us) == (now.state, now.after, now.not_before_us)
