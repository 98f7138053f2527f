"""What users do with cron jobs. Each verb is one transaction, and begins by deciding every tick that has come until
then: a change holds for the ticks that follow it, and none is lost in between.

Like Aurora: to submit it again replaces the template, for the runs that follow; `kill` (a verb of jobs) ends a run, not
the cron job; deleting the cron job ends no run; a run cannot be scaled, as the template says how large it is.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, cast

from priority.cron import CronSpec, Outcome, check_fires
from priority.crontab import Cron, CronQuery, CronState, Run, Tick
from priority.errors import Conflict, Invalid, Unavailable
from priority.job import JobSpec, check_limits, filled
from priority.ports import Reader, Writer
from priority.reason import Reason
from priority.records import Audit, Page, User
from priority.schedule import show_moment
from priority.service.access import may, no_such, visible_roles
from priority.service.firing import Firing
from priority.service.parts import Parts
from priority.service.reserve import template_of

COMING = 5
"""So many of the ticks to come are shown."""

_CATCH_UP = 20
"""So many pieces of what was missed are decided in one verb at most."""


@dataclass(frozen=True, slots=True)
class CronLook:
    """A cron job, and where it stands."""

    cron: Cron
    coming: tuple[int, ...]
    """The next ticks."""
    last: Tick | None
    """The newest of its history."""
    runs: tuple[Run, ...] = ()
    """Those that go on."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The answer to a submission: what it came to, on disk."""

    look: CronLook
    made: bool
    """It is new."""
    changed: bool
    """It says something else than before, or is new."""


CronPage = tuple[list[CronLook], str | None]
TickPage = tuple[list[Tick], str | None]


class Crons:
    """The verbs. `key` is `role/tier/name`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    # --- asking --------------------------------------------------------------------------------------------------

    def show(self, actor: User, key: str) -> CronLook:
        """One cron job. `NotFound` if there is none or no grant."""
        with self._parts.store.read() as reader:
            return self._look(reader, find_cron(reader, actor, key))

    def list(self, actor: User, query: CronQuery, page: Page) -> CronPage:
        """Newest first; only of roles that the actor has a grant for."""
        visible = visible_roles(actor)
        roles = query.roles if visible is None else visible
        if visible is not None and query.roles is not None:
            roles = [role for role in query.roles if role in visible]
        with self._parts.store.read() as reader:
            crons, after = reader.crons(replace(query, roles=roles), page.limit, page.after)
            runs = reader.cron_runs([cron.key for cron in crons])
            return [self._look(reader, cron, runs.get(cron.key, ())) for cron in crons], after

    def history(self, actor: User, key: str, page: Page, outcome: Outcome | None = None) -> TickPage:
        """What became of its ticks, newest first; also of one that is deleted."""
        with self._parts.store.read() as reader:
            cron = find_cron(reader, actor, key, deleted=True)
            return reader.ticks(cron.uid, page.limit, page.after, outcome)

    def _look(self, reader: Reader, cron: Cron, runs: Collection[Run] | None = None) -> CronLook:
        found = reader.cron_runs([cron.key]).get(cron.key, ()) if runs is None else runs
        last, _ = reader.ticks(cron.uid, 1)
        coming: list[int] = []
        if cron.state is CronState.ACTIVE:
            coming = cron.spec.coming(self._parts.clock.now_us(), COMING)
        return CronLook(cron, tuple(coming), last[0] if last else None, tuple(found))

    # --- submitting ----------------------------------------------------------------------------------------------

    def submit(self, actor: User, spec: CronSpec) -> Kept:
        """Make it, or make the one of this key say this from now on. Twice is once.

        `Invalid` if it never fires; `Conflict` if a job that is no run of it is active under its name; `QuotaExceeded`
        if what is kept for its runs does not fit into the quota of a tier that is not preemptible.
        """
        now_us = self._parts.clock.now_us()
        spec = self._check(actor, spec, now_us)
        with self._parts.store.write() as writer:
            now_us = self._parts.clock.now_us()
            if spec.role not in writer.roles([spec.role]):
                raise no_such(f"role {spec.role}")
            former = writer.cron(spec.role, spec.tier, spec.name)
            there = former is not None and former.state is not CronState.DELETED
            if not there:
                _refuse_jobs(writer, spec)
            firing = self._open(writer, former, now_us)
            former = firing.crons[former.uid] if former is not None else None
            changed = former is None or former.spec != spec or former.state in (CronState.DELETED, CronState.ENDED)
            cron = self._changed(actor, spec, former, now_us) if changed or former is None else former
            if changed:
                firing.change(cron)
                firing.check_reserve(cron)
                firing.note(
                    "cron.changed" if there else "cron.submitted", cron, user=actor.name, schedule=spec.schedule
                )
                before = _told(former) if there and former is not None else None
                writer.audit(self._audit(actor, "cron.submit", cron, before, _told(cron)))
            last_event = firing.write()
            look = self._look(writer, cron)
        self._parts.ring(firing.jobs, last_event)
        return Kept(look, made=not there, changed=changed)

    def _check(self, actor: User, spec: CronSpec, now_us: int) -> CronSpec:
        """The template as it is kept: its runs hold the default of the day on which it was submitted."""
        if not may(actor, spec.role):
            raise no_such(f"role {spec.role}")
        if spec.tier not in self._parts.tiers:
            raise Invalid("tier", f"{spec.tier!r} is not a tier; there are {', '.join(self._parts.tiers)}")
        limits = self._parts.settings.job_limits
        held = cast(CronSpec, filled(spec, limits))
        check_limits(held, limits)
        check_fires(spec, now_us)
        return held

    def _changed(self, actor: User, spec: CronSpec, former: Cron | None, now_us: int) -> Cron:
        """The same one, if there was one: its history goes on, and it stays suspended unless the new one says else."""
        fresh = former is None or former.state in (CronState.DELETED, CronState.ENDED)
        state = CronState.SUSPENDED if spec.suspend else CronState.ACTIVE
        if former is not None and not fresh and spec.suspend == former.spec.suspend:
            state = former.state
        gone = former is None or former.state is CronState.DELETED
        cron = Cron(
            uid=self._parts.new_id(now_us) if former is None else former.uid,
            spec=spec,
            user=actor.name if gone or former is None else former.user,
            created_us=now_us if gone or former is None else former.created_us,
            changed_us=now_us,
            state=state,
            next_us=spec.next(now_us),
        )
        guaranteed = not self._parts.tiers[spec.tier].preemptible
        return replace(cron, reserve=template_of(cron) if guaranteed else {})

    # --- changing ------------------------------------------------------------------------------------------------

    def suspend(self, actor: User, key: str, why: str = "") -> CronLook:
        """Its ticks are noted as skipped until it is resumed. Runs that go on are left alone. Twice is once."""
        return self._turn(actor, key, CronState.SUSPENDED, "suspend", why)

    def resume(self, actor: User, key: str, why: str = "") -> CronLook:
        """Its ticks are run again, from the next one on. Twice is once."""
        return self._turn(actor, key, CronState.ACTIVE, "resume", why)

    def delete(self, actor: User, key: str, why: str = "") -> None:
        """It has no ticks any more; runs that go on are left alone, its history stays."""
        with self._parts.store.write() as writer:
            cron = find_cron(writer, actor, key)
            firing = self._open(writer, cron, self._parts.clock.now_us())
            delete(firing, cron.uid, actor, why)
            writer.audit(self._audit(actor, "cron.delete", cron, _told(cron), {"why": why}))
            last_event = firing.write()
        self._parts.ring(firing.jobs, last_event)

    def start(self, actor: User, key: str, why: str = "") -> tuple[CronLook, Tick]:
        """Run it now, beside its schedule and also while it is suspended. If a run goes on: `Conflict` with
        `cancel_new`; with `kill_existing` it begins once that is dead. `QuotaExceeded` if the quota has no room.
        """
        with self._parts.store.write() as writer:
            cron = find_cron(writer, actor, key)
            firing = self._open(writer, cron, self._parts.clock.now_us())
            cron = firing.crons[cron.uid]
            runs = firing.runs(cron)
            if runs and cron.spec.collision == "cancel_new":
                raise Conflict(
                    f"run {runs[0].uid} of {cron.spec.key} is still going on; kill it, or wait for its end",
                    job=runs[0].uid,
                    key=cron.spec.key,
                )
            tick = firing.start(cron.uid, actor.name)
            after = {"tick": show_moment(tick.tick_us), "job": tick.job, "why": why}
            writer.audit(self._audit(actor, "cron.start", cron, None, after))
            last_event = firing.write()
            look = self._look(writer, cron)
        self._parts.ring([*firing.jobs, *firing.ended], last_event)
        return look, tick

    def _turn(self, actor: User, key: str, state: CronState, verb: str, why: str) -> CronLook:
        with self._parts.store.write() as writer:
            cron = find_cron(writer, actor, key)
            now_us = self._parts.clock.now_us()
            firing = self._open(writer, cron, now_us)
            cron = firing.crons[cron.uid]
            if cron.state is CronState.ENDED:
                raise Conflict(f"{key} has ended: submit it again with a later end", key=key)
            if cron.state is not state:
                changed = replace(cron, state=state, changed_us=now_us)
                firing.change(changed)
                if state is CronState.SUSPENDED:
                    firing.let_go(cron.uid, Reason("suspended", f"suspended by {actor.name}", {"by": actor.name}))
                firing.note(f"cron.{verb}ed".replace("ee", "e"), changed, by=actor.name, why=why)
                sides = {"state": cron.state.value}, {"state": state.value, "why": why}
                writer.audit(self._audit(actor, f"cron.{verb}", cron, *sides))
                cron = changed
            last_event = firing.write()
            look = self._look(writer, cron)
        self._parts.ring(firing.jobs, last_event)
        return look

    def _open(self, writer: Writer, cron: Cron | None, now_us: int) -> Firing:
        """With every tick that has come decided."""
        firing = Firing(self._parts, writer, now_us, [] if cron is None else [cron])
        for _ in range(_CATCH_UP):
            next_us = firing.crons[cron.uid].next_us if cron is not None else None
            if cron is None or next_us is None or next_us > now_us:
                return firing
            firing.fire(cron.uid)
        raise Unavailable("the scheduler has not yet caught up with what was missed; try again in a while")

    def _audit(self, actor: User, action: str, cron: Cron, before: Any, after: Any) -> Audit:
        subject = f"cron:{cron.spec.key}"
        return Audit(0, self._parts.clock.now_us(), actor.name, action, subject, cron.spec.role, before, after)


def find_cron(reader: Reader, actor: User, key: str, *, deleted: bool = False) -> Cron:
    """By `role/tier/name`; `NotFound` in the same words whether there is none or no grant."""
    pieces = key.split("/")
    cron = reader.cron(*pieces) if len(pieces) == 3 and may(actor, pieces[0]) else None
    if cron is None or (cron.state is CronState.DELETED and not deleted):
        raise no_such(f"cron job {key}")
    return cron


def delete(firing: Firing, uid: str, actor: User, why: str = "") -> None:
    """It has no ticks any more."""
    cron = firing.crons[uid]
    gone = replace(cron, state=CronState.DELETED, next_us=None, reserve={}, changed_us=firing.now_us)
    firing.change(gone)
    firing.let_go(uid, Reason("deleted", f"the cron job was deleted by {actor.name}", {"by": actor.name}))
    firing.note("cron.deleted", gone, by=actor.name, why=why)


def _refuse_jobs(writer: Writer, spec: JobSpec) -> None:
    """A job that goes on under its name, and is no run of it, would be taken for one."""
    key = (spec.role, spec.tier, spec.name)
    uid = writer.active_jobs([key]).get(key)
    if uid is not None and all(run.uid != uid for run in writer.cron_runs([key]).get(key, ())):
        raise Conflict(
            f"{spec.key} is active as a job; kill it, wait for its end, or take another name", job=uid, key=spec.key
        )


def _told(cron: Cron) -> dict[str, Any]:
    """For the audit: when it runs and how much; what it runs may hold secrets."""
    shown = cron.spec.model_dump(mode="json", include={"schedule", "timezone", "collision", "missed", "start", "end"})
    return {"uid": cron.uid, "state": cron.state.value, **shown, "instances": cron.spec.instances}
