"""What would happen if these jobs were submitted now: decided by the engine from the truth, and nothing is changed.

Theory. The jobs go through the same admission as a submission would, over a reader that cannot write. If they are
admitted, their tasks are put into a mirror that was made of the truth as the scheduler's is, and `make_plan` decides.
So the answer is what the next round would do if it began now and nothing came in between. (The API does not hear the
nodes itself: one whose last sign of life is older than `silent_s` counts as silent, as it does for the leader.)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from priority.errors import Conflict, PriorityError, QuotaExceeded, TooLarge
from priority.herd import work_lost
from priority.job import Job, JobSpec
from priority.plan import Plan, Preemption, make_plan
from priority.policy import read
from priority.ports import Writer
from priority.reason import Reason
from priority.records import User
from priority.resources import Resources, times, total
from priority.service.access import may
from priority.service.admission import Admission, Submission, check, first_attempts
from priority.service.latest import Latest
from priority.service.mirror import Mirror, Truth, read_truth
from priority.service.nodes import silent_nodes
from priority.service.parts import Parts
from priority.service.window import WINDOW
from priority.task import PLACED, Task

NEVER = frozenset({"no-node", "constraint"})
"""Reasons that no waiting changes, only other nodes."""


@dataclass(frozen=True, slots=True)
class Place:
    """Instances of a job of which the same is true."""

    job: str
    """`role/tier/name`."""
    instances: tuple[int, ...]
    verdict: str
    """`starts` at once; `starts-later`, in room of those displaced for it or that are leaving anyway; `waits`."""
    node: str | None
    until_us: int | None
    """When it has started at the latest; None: it may wait for ever, as far as is known."""
    reason: Reason | None
    """Why it waits."""


@dataclass(frozen=True, slots=True)
class Displaced:
    """A task that would give way, and what that would cost."""

    task: str
    job: str
    instance: int
    node: str
    taker: str
    """`role/tier/name` of whom it would be displaced for."""
    taker_instance: int
    rule: str
    lost: int
    """Milli-cores times microseconds."""
    comes_back: bool
    """Whether its job has it tried again."""
    user: str | None
    """None: hidden from who asks."""


@dataclass(frozen=True, slots=True)
class QuotaAfter:
    """A quota of a role or user, what is counted against it now and what would be then. In a tier that may be preempted
    it is a ceiling on what is `held` on nodes at once, else a guarantee of all that is in `use`.
    """

    role: str
    tier: str
    user: str | None
    quota: Resources | None
    use: Resources
    use_after: Resources
    held: Resources
    held_after: Resources


@dataclass(frozen=True, slots=True)
class Forecast:
    """The answer. `refusal`: a submission would be refused, with this; then there is nothing else."""

    at_us: int
    jobs: tuple[str, ...]
    refusal: PriorityError | None = None
    places: Sequence[Place] = ()
    displaced: Sequence[Displaced] = ()
    quotas: Sequence[QuotaAfter] = ()
    warnings: Sequence[str] = ()
    """What the submission would be accepted with."""

    @property
    def summary(self) -> str:
        """One line that a person understands."""
        whose = self.jobs[0] if len(self.jobs) == 1 else f"{len(self.jobs)} jobs"
        if self.refusal is not None:
            return f"{whose}: would be refused: {self.refusal.message}"
        told = [_starts(self, "starts", "at once"), _starts(self, "starts-later", "later, in room that is coming")]
        told += [_waits(self), _cost(self.displaced)]
        return f"{whose}: " + "; ".join(part for part in told if part)

    @property
    def verdict(self) -> str:
        """`refused`, `starts` (all at once), `starts-later` (all, some in room that is coming) or `waits` (some)."""
        if self.refusal is not None:
            return "refused"
        found = {place.verdict for place in self.places}
        return next((verdict for verdict in ("waits", "starts-later") if verdict in found), "starts")


@dataclass(slots=True)
class _Question:
    """One question, and all that was read for it."""

    actor: User
    jobs: tuple[Job, ...]
    mirror: Mirror
    ours: dict[str, Task] = field(default_factory=dict)


def _starts(found: Forecast, verdict: str, when: str) -> str:
    count = sum(len(one.instances) for one in found.places if one.verdict == verdict)
    return f"{_count(count, 'instance')} {'starts' if count == 1 else 'start'} {when}" if count else ""


def _waits(found: Forecast) -> str:
    waiting = [one for one in found.places if one.verdict == "waits"]
    count = sum(len(one.instances) for one in waiting)
    if not count:
        return ""
    most = max(waiting, key=lambda one: len(one.instances))
    latest = [one.until_us for one in waiting]
    if all(one.reason is not None and one.reason.code in NEVER for one in waiting):
        until = "until there are other nodes"
    elif None in latest:
        until = "for how long is not known, as not enough of what runs has a max_runtime"
    else:
        left_s = (max(us for us in latest if us is not None) - found.at_us) / 1e6
        until = f"for {left_s:.0f} s at the most, if nothing new goes before"
    why = most.reason.message if most.reason is not None else ""
    return f"{_count(count, 'instance')} {'waits' if count == 1 else 'wait'}, {until} ({why})"


def _cost(displaced: Sequence[Displaced]) -> str:
    if not displaced:
        return ""
    jobs = sorted({one.job for one in displaced})
    whose = ", ".join(jobs[:3]) + (f" and {len(jobs) - 3} more" if len(jobs) > 3 else "")
    lost_s = sum(one.lost for one in displaced) / 1e9
    return f"{_count(len(displaced), 'task')} of {whose} would be displaced, {lost_s:.1f} cpu-seconds of work lost"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


class WhatIf:
    """The verb. One question at a time: a large one takes as long as a round does."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._turn = threading.Lock()

    def ask(self, actor: User, specs: Sequence[JobSpec]) -> Forecast:
        """What submitting these jobs in one request would come to. `Invalid` and `NotFound` as for a submission."""
        parts = self._parts
        request = check(Submission(actor, tuple(specs)), parts)
        instances, limit = sum(spec.instances for spec in specs), parts.settings.instances_limit
        if instances > limit:
            raise TooLarge(f"the jobs have {instances} instances together, at most {limit} go into one question")
        with self._turn:
            return self._answer(request, instances)

    def _answer(self, request: Submission, instances: int) -> Forecast:
        parts, keys = self._parts, tuple(spec.key for spec in request.specs)
        now_us = parts.clock.now_us()
        with parts.store.read() as reader:
            # Admission only reads until it is told to write, and this one never is.
            admission = Admission.begin(parts, cast(Writer, reader), [request], now_us)
            try:
                accepted = admission.admit(request)
            except (QuotaExceeded, Conflict) as refusal:
                return Forecast(now_us, keys, refusal)
            jobs = accepted.jobs
            truth = read_truth(reader, policy=read(parts.settings.policy, parts.tiers), now_us=now_us)
            roles = sorted({job.spec.role for job in jobs})
            use = {owner: held for role in roles for owner, held in reader.usage(role).items()}
        mirror = Mirror(parts.tiers, WINDOW + instances, policy=parts.settings.policy)
        load(mirror, truth, parts, now_us)
        question = _Question(request.actor, jobs, mirror)
        for job in jobs:
            mirror.jobs[job.uid] = job
            for task in first_attempts(job, range(job.spec.instances), now_us):
                question.ours[task.id] = task
                mirror.put(task)
        plan = make_plan(mirror.snapshot)
        displaced = [_displaced(question, one) for one in plan.preempt if one.preemptor in question.ours]
        quotas = _quotas(question, plan, use)
        return Forecast(now_us, keys, None, self._places(question, plan), displaced, quotas, accepted.warnings)

    def _places(self, question: _Question, plan: Plan) -> list[Place]:
        ours, now_us = question.ours, question.mirror.snapshot.now_us
        reasons = {one.task: one.reason for one in plan.wait if one.task in ours}
        later = [one for one in plan.reserve if one.task in ours]
        until: dict[str, int] = {}
        if later or reasons:
            # Last: it carries the plan out in the snapshot.
            latest = Latest(question.mirror, plan, self._parts.settings.notice_limit_s)
            until = {one.task: latest.reserved_us(one.task) for one in later}
            until |= latest.waiting_us({id for id, reason in reasons.items() if reason.code not in NEVER})
        found: list[_Found] = [(one.task, "starts", one.node, now_us, None) for one in plan.launch if one.task in ours]
        found += [(one.task, "starts-later", one.node, until[one.task], None) for one in later]
        found += [(id, "waits", None, until.get(id), reason) for id, reason in reasons.items()]
        return _alike(question, found)


def load(mirror: Mirror, truth: Truth, parts: Parts, now_us: int) -> None:
    """Into an empty mirror, as far as a process that does not lead can know it."""
    mirror.snapshot.now_us = now_us
    mirror.frame(truth)
    silent = silent_nodes(parts, parts.backend.heard(), mirror.nodes, now_us)
    for name in mirror.nodes:
        if name not in silent:
            mirror.hear(name)
    for task in sorted(truth.tasks, key=lambda task: (task.since_us, task.id)):
        mirror.put(task)
    mirror.advance(now_us)


_Found = tuple[str, str, str | None, int | None, Reason | None]
"""A task, the verdict of it, its node, until when it waits, and why."""


def _alike(question: _Question, found: Iterable[_Found]) -> list[Place]:
    """Instances of which the same is true stand together: those that start first, then those that wait longest last."""
    alike: dict[tuple[Any, ...], tuple[list[int], Place]] = {}
    for id, verdict, node, until_us, reason in found:
        task = question.ours[id]
        key = (task.job, verdict, node, until_us, reason.message if reason else "")
        job = question.mirror.jobs[task.job].spec.key
        numbers, _ = alike.setdefault(key, ([], Place(job, (), verdict, node, until_us, reason)))
        numbers.append(task.instance)
    places = [replace(place, instances=tuple(sorted(numbers))) for numbers, place in alike.values()]
    order = ("starts", "starts-later", "waits")
    return sorted(places, key=lambda one: (one.job, order.index(one.verdict), one.until_us is None, one.instances))


def _displaced(question: _Question, one: Preemption) -> Displaced:
    mirror = question.mirror
    victim, taker = mirror.tasks[one.task], mirror.tasks[one.preemptor]
    giver, getter = mirror.jobs[victim.job], mirror.jobs[taker.job]
    claim = mirror.claim_of(victim)
    return Displaced(
        task=victim.id,
        job=giver.spec.key,
        instance=victim.instance,
        node=one.node,
        taker=getter.spec.key,
        taker_instance=taker.instance,
        rule="tier" if giver.spec.tier != getter.spec.tier else "priority",
        lost=work_lost(claim, mirror.snapshot.now_us),
        comes_back=giver.spec.preempt.action == "requeue",
        user=giver.user if may(question.actor, giver.spec.role) else None,
    )


def _quotas(question: _Question, plan: Plan, use: Mapping[tuple[str, str, str], Resources]) -> list[QuotaAfter]:
    """Of each role and tier that is asked of, and of the user there if they have a quota of their own."""
    mirror = question.mirror
    held, moved = _held(mirror, lambda task: task.state in PLACED), _moved(question, plan)
    asked: dict[tuple[str, str, str], Resources] = {}
    for job in question.jobs:
        owner = job.spec.role, job.spec.tier, job.user
        asked[owner] = total([asked.get(owner, {}), times(job.spec.resources, job.spec.instances)])
    lines = []
    for role, tier in dict.fromkeys(owner[:2] for owner in asked):
        rules = mirror.snapshot.role(role)
        user = question.actor.name
        for whose, quota in ((None, rules.quota.get(tier)), (user, rules.users.get(user, {}).get(tier))):
            if whose is not None and quota is None:
                continue
            now, ask, on, change = (_of(some, role, tier, whose) for some in (use, asked, held, moved))
            lines.append(QuotaAfter(role, tier, whose, quota, now, total([now, ask]), on, total([on, change])))
    return lines


def _held(mirror: Mirror, which: Callable[[Task], bool]) -> dict[tuple[str, str, str], Resources]:
    found: dict[tuple[str, str, str], Resources] = {}
    for task in mirror.tasks.values():
        if which(task):
            _add(found, mirror.jobs[task.job], 1)
    return found


def _moved(question: _Question, plan: Plan) -> dict[tuple[str, str, str], Resources]:
    """What the plan changes of what is held, as far as it is our doing."""
    mirror, ours = question.mirror, question.ours
    found: dict[tuple[str, str, str], Resources] = {}
    for placed in (*plan.launch, *plan.reserve):
        if placed.task in ours:
            _add(found, mirror.jobs[ours[placed.task].job], 1)
    for one in plan.preempt:
        if one.preemptor in ours:
            _add(found, mirror.jobs[mirror.tasks[one.task].job], -1)
    return found


def _add(amounts: dict[tuple[str, str, str], Resources], job: Job, sign: int) -> None:
    into = amounts.setdefault((job.spec.role, job.spec.tier, job.user), {})
    for name, amount in job.spec.resources.items():
        into[name] = into.get(name, 0) + sign * amount


def _of(amounts: Mapping[tuple[str, str, str], Resources], role: str, tier: str, user: str | None) -> Resources:
    """Of a role in a tier, or of one user of it there."""
    return total(some for owner, some in amounts.items() if owner[:2] == (role, tier) and user in (None, owner[2]))
