"""Admission: many independent requests in one transaction, each admitted or refused on its own.

Group commit. The transaction is the expensive part of a submission, so all requests that have come in meanwhile
share one. Inside it there is one writer in the whole service: what is read here (names in use, use of quotas,
answers given before) stays true until the commit, and the requests admitted before in the same transaction are
counted from memory. So 64 clients that ask for the last unit at once get one yes and 63 refusals with the numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from priority.document import Document
from priority.errors import Conflict, Invalid, PriorityError, QuotaExceeded
from priority.job import Job, JobSpec, check_limits, filled
from priority.ports import Writer
from priority.quota import Refused, admit
from priority.records import Audit, User
from priority.resources import Resources, plain, show
from priority.role import RoleSpec
from priority.service.access import may, no_such
from priority.service.largest import over_ceiling, shortened
from priority.service.parts import Parts
from priority.task import State, Task, pending_us, task_id

KEY_MAX = 255

Owner = tuple[str, str, str]
"""Whose use is counted: (role, tier, user)."""


@dataclass(frozen=True, slots=True)
class Submission:
    """One request: all of its jobs or none. `key`: what makes a repetition of the request the same request."""

    actor: User
    specs: tuple[JobSpec, ...]
    key: str | None = None
    digest: str = ""
    """Of what was said, if there is a key: before defaults, as a setting may change between a request and its
    repetition. Filled in by `check`.
    """


@dataclass(frozen=True, slots=True)
class Accepted:
    """Its jobs, on disk. `replayed`: they were already, by an earlier request with the same key and body."""

    jobs: tuple[Job, ...]
    replayed: bool = False
    warnings: tuple[str, ...] = ()
    """Which of them ask for more than their ceiling, or for longer notice than is given."""


Answer = Accepted | PriorityError


def check(request: Submission, parts: Parts) -> Submission:
    """All that can be refused without the database; the request as it is to be admitted, with what it left out."""
    limit = parts.settings.bulk_limit
    if not 1 <= len(request.specs) <= limit:
        raise Invalid("jobs", f"must be from 1 to {limit} jobs, but are {len(request.specs)}")
    if request.key is not None and not 1 <= len(request.key) <= KEY_MAX:
        raise Invalid("Idempotency-Key", f"must have from 1 to {KEY_MAX} characters")
    limits = parts.settings.job_limits
    names: dict[tuple[str, str, str], int] = {}
    allowed: set[str] = set()
    specs = []
    for index, spec in enumerate(request.specs):
        if spec.role not in allowed:
            if not may(request.actor, spec.role):
                raise no_such(f"role {spec.role}")
            allowed.add(spec.role)
        if spec.tier not in parts.tiers:
            raise Invalid(
                f"{_at(request, index)}tier", f"{spec.tier!r} is not a tier; there are {', '.join(parts.tiers)}"
            )
        try:
            specs.append(held := filled(spec, limits))
            check_limits(held, limits)
        except Invalid as error:
            raise Invalid(f"{_at(request, index)}{error.field}", error.problem) from None
        if (other := names.setdefault((spec.role, spec.tier, spec.name), index)) != index:
            raise Invalid(f"{_at(request, index)}name", f"{spec.key} is jobs[{other}] of the same request already")
    return replace(request, specs=tuple(specs), digest=digest_of(request.specs) if request.key else "")


def _at(request: Submission, index: int) -> str:
    """In front of the name of a field: which job it is of, if there are several."""
    return f"jobs[{index}]." if len(request.specs) > 1 else ""


def digest_of(specs: Iterable[JobSpec]) -> str:
    """What two requests with one key must have in common: every field of every job."""
    fields = [spec.__dict__ for spec in specs]
    return hashlib.sha256(orjson.dumps(fields, default=_plain, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _plain(value: Any) -> Any:
    """As they are held: pydantic's own dump takes twice as long."""
    return value.__dict__ if isinstance(value, Document) else sorted(value)


@dataclass(slots=True)
class Admission:
    """One transaction's worth of requests. `admit` each, then `write`."""

    parts: Parts
    writer: Writer
    now_us: int
    roles: dict[str, RoleSpec]
    taken: dict[tuple[str, str, str], str]
    """(role, tier, name) -> the uid of the job that is active under it."""
    crons: Collection[tuple[str, str, str]]
    """(role, tier, name) of cron jobs: no other job may have one."""
    jobs: list[Job] = field(default_factory=list)
    _use: dict[str, dict[Owner, Resources]] = field(default_factory=dict)
    _charges: dict[Owner, Resources] = field(default_factory=dict)
    answers: dict[tuple[str, str], tuple[str, Any]] = field(default_factory=dict)
    """(role, idempotency key) -> the digest of the request that it was used for, and its answer."""
    _new: dict[tuple[str, str], tuple[str, Any]] = field(default_factory=dict)
    """Those of `answers` that are to be remembered."""
    _audits: list[Audit] = field(default_factory=list)

    @classmethod
    def begin(cls, parts: Parts, writer: Writer, requests: Sequence[Submission], now_us: int) -> Admission:
        """Read once what all of the requests need."""
        keys = {(spec.role, spec.tier, spec.name) for request in requests for spec in request.specs}
        roles = writer.roles({spec.role for request in requests for spec in request.specs})
        asked = {(request.specs[0].role, request.key) for request in requests if request.key}
        answers = writer.answered(asked) if asked else {}
        return cls(parts, writer, now_us, roles, writer.active_jobs(keys), writer.cron_names(keys), answers=answers)

    def admit(self, request: Submission) -> Accepted:
        """One request, as `check` gave it back; a refusal leaves nothing behind."""
        role = request.specs[0].role
        if request.key and (before := self._answer(role, request.key)):
            return self._replay(request, request.key, before)
        for index, spec in enumerate(request.specs):
            self._check_name(request, index, spec)
        charges = self._check_quotas(request)
        # Ascending, as rows that come in the order of their key are written in a quarter less time.
        uids = sorted(self.parts.new_id(self.now_us) for _ in request.specs)
        jobs = tuple(
            Job(
                uid=uid,
                spec=spec,
                user=request.actor.name,
                submitted_us=self.now_us,
                active=spec.instances,
            )
            for uid, spec in zip(uids, request.specs, strict=True)
        )
        self._keep(request, jobs, charges)
        return Accepted(jobs, warnings=self._warnings(request))

    def write(self) -> int | None:
        """Put down everything that was admitted; the id of the last event."""
        if not self.jobs:
            return None
        writer, now_us = self.writer, self.now_us
        writer.add_jobs(self.jobs)
        writer.add_first_tasks(self.jobs, now_us)
        writer.charge(self._charges)
        writer.remember(self._new)
        writer.audit(*self._audits)
        return writer.emit(
            (
                now_us,
                "job.submitted",
                job.spec.role,
                job.uid,
                None,
                {"key": job.spec.key, "user": job.user, "instances": job.spec.instances},
            )
            for job in self.jobs
        )

    def _replay(self, request: Submission, key: str, before: tuple[str, Any]) -> Accepted:
        former, uids = before
        if former != request.digest:
            raise Conflict(
                f"the idempotency key {key!r} was used for another request; take a new key for a new request", key=key
            )
        there = self._jobs_of(uids)
        if there.keys() < set(uids):
            raise Conflict(
                f"{len(uids) - len(there)} of the {len(uids)} jobs of the idempotency key {key!r} ended long ago "
                "and are forgotten; take a new key",
                key=key,
            )
        return Accepted(tuple(there[uid] for uid in uids), replayed=True, warnings=self._warnings(request))

    def _answer(self, role: str, key: str) -> tuple[str, Any] | None:
        """What was answered to it before, unless all of that is forgotten."""
        before = self.answers.get((role, key))
        if before is None or self._jobs_of(before[1]):
            return before
        self.writer.drop_answers([(role, key)])
        del self.answers[role, key]
        return None

    def _jobs_of(self, uids: Collection[str]) -> dict[str, Job]:
        here = {job.uid: job for job in self.jobs if job.uid in uids}
        return here | self.writer.jobs_of([uid for uid in uids if uid not in here])

    def _warnings(self, request: Submission) -> tuple[str, ...]:
        ceilings = over_ceiling(request.specs, request.actor.name, self.roles, self.parts.tiers)
        return (*ceilings, *shortened(request.specs, self.parts.settings.notice_limit_s))

    def _check_name(self, request: Submission, index: int, spec: JobSpec) -> None:
        if spec.role not in self.roles:
            raise no_such(f"role {spec.role}")
        name = spec.role, spec.tier, spec.name
        if name not in self.crons and name not in self.taken:
            return
        what = f"jobs[{index}]: {spec.key}" if len(request.specs) > 1 else spec.key
        if name in self.crons:
            raise Conflict(
                f"{what} is a cron job; `priority cron start {spec.key}` runs it now, or take another name",
                key=spec.key,
            )
        raise Conflict(
            f"{what} is active already; kill it, wait for its end, or take another name",
            job=self.taken[name],
            key=spec.key,
        )

    def _check_quotas(self, request: Submission) -> dict[Owner, Resources]:
        """What the request adds to the use of each owner. Asked in sum, so that it is all or nothing."""
        charges: dict[Owner, Resources] = {}
        for spec in request.specs:
            charge = charges.setdefault((spec.role, spec.tier, request.actor.name), {})
            for name, amount in spec.resources.items():
                charge[name] = charge.get(name, 0) + amount * spec.instances
        for (role, tier, user), ask in charges.items():
            if not self.parts.tiers[tier].preemptible:
                check_quota(self.roles[role], (role, tier, user), ask, self._use_of(role))
        return charges

    def _use_of(self, role: str) -> dict[Owner, Resources]:
        if role not in self._use:
            self._use[role] = dict(self.writer.usage(role))
        return self._use[role]

    def _keep(self, request: Submission, jobs: tuple[Job, ...], charges: dict[Owner, Resources]) -> None:
        self.jobs += jobs
        for job in jobs:
            self.taken[job.spec.role, job.spec.tier, job.spec.name] = job.uid
        for owner, charge in charges.items():
            add(self._charges.setdefault(owner, {}), charge)
            if owner[0] in self._use:
                use = self._use[owner[0]]
                use[owner] = dict(use.get(owner, {}))
                add(use[owner], charge)
        if request.key:
            asked = jobs[0].spec.role, request.key
            self.answers[asked] = self._new[asked] = request.digest, [job.uid for job in jobs]
        for role in dict.fromkeys(job.spec.role for job in jobs):
            mine = [job for job in jobs if job.spec.role == role]
            subject = f"job:{mine[0].spec.key}" if len(mine) == 1 else f"jobs:{len(mine)} of {role}"
            after = {"jobs": [job.uid for job in mine]}
            self._audits.append(Audit(0, self.now_us, request.actor.name, "job.submit", subject, role, None, after))


def check_quota(role: RoleSpec, owner: Owner, ask: Resources, use: dict[Owner, Resources]) -> None:
    """`QuotaExceeded` with the numbers, for the role or for the user in it. `use` is the role's."""
    name, tier, user = owner
    in_role: Resources = {}
    for (_, its_tier, _), amounts in use.items():
        if its_tier == tier:
            add(in_role, amounts)
    if tier not in role.quota:
        raise QuotaExceeded(
            f"role {name} has no quota in tier {tier}, so it runs nothing there; asked for {show(ask)}: "
            f"an admin can set one (`priority quota set {name} {tier} ...`), or take a tier that may be preempted",
            owner=f"role {name}, tier {tier}",
            quota={},
            use=plain(in_role),
            ask=plain(ask),
            short=plain(ask),
        )
    member = role.users.get(user)
    for quota, used, whose in (
        (role.quota[tier], in_role, f"role {name}, tier {tier}"),
        (member.quota.get(tier) if member else None, use.get(owner, {}), f"user {user} of role {name}, tier {tier}"),
    ):
        answer = admit(ask, used, quota, whose)
        if isinstance(answer, Refused):
            raise QuotaExceeded(answer.message, **answer.plain())


def add(total: Resources, amounts: Resources) -> None:
    """`total += amounts`, in place."""
    for name, amount in amounts.items():
        total[name] = total.get(name, 0) + amount


def first_attempts(job: Job, instances: Iterable[int], now_us: int) -> list[Task]:
    """The tasks that these instances of a job begin with."""
    uid = job.uid
    return [
        Task(
            id=task_id(uid, instance, 1),
            job=uid,
            instance=instance,
            attempt=1,
            state=State.PENDING,
            since_us=pending_us(now_us, instance),
        )
        for instance in instances
    ]
