"""The ledger of preemptions as a user may see it: who gave way to whom, by which rule, at what cost, what came of it.

A member of either side's role sees a preemption. Of the other side they are told what `explain` tells them anyway: the
task, its job and, of the preemptor, the user; not where it stands now, nor in whose words it was killed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from priority.ports import Reader
from priority.records import Page, PreemptionQuery, PreemptionRecord, PreemptionSum, Side, User
from priority.service.access import may, visible_roles
from priority.service.finding import find_job
from priority.service.parts import Parts
from priority.task import State, Task


@dataclass(frozen=True, slots=True)
class SideView:
    """One side; None: hidden from who asks, as is the other user's name of a victim."""

    side: Side
    user: str | None
    state: str | None


@dataclass(frozen=True, slots=True)
class PreemptionView:
    """One preemption. `outcome` is a word for what came of the preemptor, `message` a line that says more."""

    record: PreemptionRecord
    victim: SideView
    preemptor: SideView
    outcome: str
    """`started`, `waiting`, `starting`; or why it never did: see `records.Fate`."""
    message: str


@dataclass(slots=True)
class Tally:
    """So many preemptions, the work that they cost (milli-cores times microseconds), and what came of them."""

    count: int = 0
    lost: int = 0
    started: int = 0
    waiting: int = 0
    """Whose preemptor waits still, or is about to start."""
    in_vain: int = 0
    """Whose preemptor never started."""

    def add(self, one: PreemptionSum) -> None:
        """Add it up."""
        self.count += one.count
        self.lost += one.lost
        if one.fate is None:
            self.waiting += one.count
        elif one.fate == "started":
            self.started += one.count
        else:
            self.in_vain += one.count


@dataclass(slots=True)
class RoleTotal:
    """A role's preemptions both ways. What it took from itself counts on both sides."""

    role: str
    took: Tally = field(default_factory=Tally)
    gave: Tally = field(default_factory=Tally)


@dataclass(slots=True)
class PairTotal:
    """What one role took of another."""

    preemptor: str
    victim: str
    tally: Tally = field(default_factory=Tally)


@dataclass(frozen=True, slots=True)
class Totals:
    """By role, and by pair of roles; each sorted by name."""

    roles: list[RoleTotal]
    pairs: list[PairTotal]


class Preemptions:
    """The verbs."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def list(
        self,
        actor: User,
        page: Page,
        *,
        role: str | None = None,
        job: str | None = None,
        since_us: int | None = None,
        started: bool | None = None,
    ) -> tuple[list[PreemptionView], str | None]:
        """Newest first, and the next page's cursor: of a role or of a job (a ref; `NotFound` if there is none or no
        grant) on either side, since a moment, whose preemptor has started or has not; only those that the actor has to
        do with.
        """
        with self._parts.store.read() as reader:
            query = replace(_query(reader, actor, role, job, since_us), started=started)
            records, after = reader.preemptions(query, page)
            tasks = reader.tasks_of({side.task for one in records for side in (one.victim, one.preemptor)})
        return [_view(actor, record, tasks) for record in records], after

    def totals(self, actor: User, *, role: str | None = None, since_us: int | None = None) -> Totals:
        """Both ways, for each role that the actor may see (or one of them)."""
        with self._parts.store.read() as reader:
            sums = reader.preemption_sums(_query(reader, actor, role, None, since_us))
        return _totals(sums, lambda name: may(actor, name) and role in (None, name))


def _query(reader: Reader, actor: User, role: str | None, job: str | None, since_us: int | None) -> PreemptionQuery:
    roles = visible_roles(actor)
    if role is not None and not may(actor, role):
        roles = []  # as if there were no such role
    query = PreemptionQuery(roles=roles, role=role, since_us=since_us)
    return query if job is None else replace(query, job=find_job(reader, actor, job).uid)


def _totals(sums: Iterable[PreemptionSum], shown: Callable[[str], bool]) -> Totals:
    roles: dict[str, RoleTotal] = {}
    pairs: dict[tuple[str, str], PairTotal] = {}
    for one in sums:
        pair = pairs.setdefault((one.preemptor, one.victim), PairTotal(one.preemptor, one.victim))
        pair.tally.add(one)
        if shown(one.preemptor):
            roles.setdefault(one.preemptor, RoleTotal(one.preemptor)).took.add(one)
        if shown(one.victim):
            roles.setdefault(one.victim, RoleTotal(one.victim)).gave.add(one)
    return Totals([roles[name] for name in sorted(roles)], [pairs[names] for names in sorted(pairs)])


def _view(actor: User, record: PreemptionRecord, tasks: Mapping[str, Task]) -> PreemptionView:
    victim = _side(actor, record.victim, tasks, named=False)
    preemptor = _side(actor, record.preemptor, tasks, named=True)
    outcome, message = _outcome(record, tasks.get(record.preemptor.task), may(actor, record.preemptor.role))
    return PreemptionView(record, victim, preemptor, outcome, message)


def _side(actor: User, side: Side, tasks: Mapping[str, Task], *, named: bool) -> SideView:
    mine = may(actor, side.role)
    task = tasks.get(side.task)
    return SideView(side, side.user if mine or named else None, task.state.value if mine and task is not None else None)


def _outcome(record: PreemptionRecord, task: Task | None, mine: bool) -> tuple[str, str]:
    """In a word and a line. A task of others is said to wait, whatever it waits for."""
    fate = record.fate
    if fate is not None and fate.code == "started":
        return fate.code, f"started on {fate.node}"
    if fate is not None:
        return fate.code, fate.cause if mine and fate.cause else _WHY[fate.code]
    if task is not None and task.state is State.STARTING:
        return "starting", f"is starting on {task.node}" if mine else "is starting"
    why = f": {task.reason.message}" if mine and task is not None and task.reason is not None else ""
    return "waiting", f"waits still{why}"


_WHY: Mapping[str, str] = {
    "killed": "was killed before it had started",
    "lost": "its node was lost, or refused it, before it had started",
    "stopped": "was stopped on its node before it had started, but not by us",
    "preempted": "gave way to another itself before it had started",
    "failed": "could not be started",
}
