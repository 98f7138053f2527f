"""What becomes of ticks: one transaction's worth of cron jobs, all of their ticks that have come decided and written.

Each tick gets one row, in the same transaction as the tasks of its run; the row's id is made of the cron job and the
moment, so a tick that was decided, by whomever, cannot be decided again: the transaction would fail whole. What is
read here stays true until the commit, as there is one writer at a time: no run begins beside another that forbids it,
and no quota is exceeded by two that begin at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from priority.cron import Due, Outcome, due, prior, run_spec
from priority.crontab import Cron, CronState, Key, Run, Tick, tick_id
from priority.errors import NotFound, QuotaExceeded
from priority.job import Job
from priority.lifecycle import Event
from priority.ports import Writer
from priority.quota import beyond, largest
from priority.reason import Reason
from priority.resources import Resources, minus, total
from priority.schedule import show_moment
from priority.service.admission import Owner, check_quota
from priority.service.ledger import EventRow, Ledger
from priority.service.parts import Parts
from priority.service.reserve import Deltas, add, difference, held_by, template_of

_SUSPENDED = Reason("suspended", "the cron job was suspended")


class Firing:
    """Cron jobs in the hand of one transaction, as they are there. `fire` and what else is to happen, then `write`."""

    def __init__(self, parts: Parts, writer: Writer, now_us: int, crons: Iterable[Cron]) -> None:
        self.crons: dict[str, Cron] = {cron.uid: cron for cron in crons}
        """As they are after all that has happened so far."""
        self.jobs: list[Job] = []
        """The runs that are begun."""
        self.ticks: dict[str, Tick] = {}
        """New rows, by id."""
        self.killed: list[str] = []
        """Runs that are to end, by uid."""
        self.ended: list[Job] = []
        """The same, once that is written."""
        self.now_us = now_us
        self._parts = parts
        self._writer = writer
        self._before = dict(self.crons)
        self._settled: dict[str, Tick] = {}
        keys = [cron.key for cron in self.crons.values()]
        self._there: dict[Key, list[Run]] = writer.cron_runs(keys)
        """The runs that go on, as the database has them."""
        self._runs = {key: list(runs) for key, runs in self._there.items()}
        self._roles = writer.roles({key[0] for key in keys})
        self._use: dict[str, dict[Owner, Resources]] = {}
        self._waiting: dict[str, list[Tick]] = {}
        for tick in writer.waiting_ticks(self.crons.keys()) if self.crons else ():
            self._waiting.setdefault(tick.cron, []).append(tick)
        self._events: list[EventRow] = []
        due_now = [cron for cron in self.crons.values() if cron.next_us is not None and cron.next_us <= now_us]
        self._written = writer.ticks_there([tick_id(cron.uid, cron.next_us or 0) for cron in due_now])
        """Of the first tick of each that is due: whether it has a row already. See `_new`."""

    def runs(self, cron: Cron) -> list[Run]:
        """Its runs that go on, those that are begun here too."""
        return self._runs.get(cron.key, [])

    # --- what may happen to each ---------------------------------------------------------------------------------

    def promote(self, uid: str) -> None:
        """If no run goes on any more, begin that for which the oldest waiting tick waited."""
        cron, waiting = self.crons[uid], self._waiting.get(uid)
        while waiting and not self.runs(cron):
            tick = waiting.pop(0)
            self._settled[tick.id] = self._begin(cron, tick)

    def fire(self, uid: str) -> None:
        """Every tick that has come, or the oldest of very many: then its `next_us` is still not later than now."""
        cron = self.crons[uid]
        on_time_us = round(self._parts.settings.cron_on_time_s * 1e6)
        try:
            come, left = due(cron.spec, cron.next_us, self.now_us, on_time_us)
        except ValueError as error:
            # Such as a time zone that this machine does not know any more. The others must not suffer for it.
            self.note("cron.broken", cron, message=str(error))
            self.crons[uid] = replace(cron, next_us=None, state=CronState.ENDED, reserve={})
            return
        come = self._new(uid, come)
        if cron.state is CronState.SUSPENDED:
            come = [replace(one, missed=None) for one in come]
        last = max((one.tick_us for one in come if one.missed is None), default=None)
        for one in come:
            self._add(self._decide(cron, one, one.tick_us == last))
        state, reserve = (CronState.ENDED, {}) if left is None else (cron.state, cron.reserve)
        self.crons[uid] = replace(cron, next_us=left, state=state, reserve=reserve)

    def _new(self, uid: str, come: list[Due]) -> list[Due]:
        """Without those that have a row. They do if the clock was set back, and then the cron job submitted anew: it
        goes by the clock as it is, and may come by moments that have been.
        """
        there = self._written
        if len(come) > 1:
            there = there | self._writer.ticks_there([tick_id(uid, one.tick_us) for one in come[1:]])
        return [one for one in come if tick_id(uid, one.tick_us) not in there]

    def start(self, uid: str, by: str) -> Tick:
        """Now, by a user's hand. `QuotaExceeded` if its quota has no room."""
        cron, at_us = self.crons[uid], self.now_us
        while self._writer.tick(uid, at_us) is not None or tick_id(uid, at_us) in self.ticks:
            at_us += 1
        tick = Tick(cron=uid, tick_us=at_us, outcome=Outcome.WAITING, at_us=self.now_us, by=by)
        if self.runs(cron) and cron.spec.collision != "allow":
            tick = self._wait_for_death(cron, tick)
        else:
            tick = self._begin(cron, tick, strict=True)
        self._add(tick)
        return tick

    def change(self, cron: Cron) -> None:
        """It says something else from now on, or is in another state."""
        self.crons[cron.uid] = cron

    def let_go(self, uid: str, reason: Reason) -> None:
        """What waits is not begun any more."""
        for tick in self._waiting.pop(uid, []):
            self._settled[tick.id] = replace(tick, outcome=Outcome.SKIPPED, reason=reason, at_us=self.now_us)

    def check_reserve(self, cron: Cron) -> None:
        """`QuotaExceeded` if what is to be kept for `cron` does not fit beside all else that the quota is used for."""
        more = difference(self._charged(cron), largest(cron.reserve, held_by(cron.user, self.runs(cron))))
        self._check(cron, {name: amount for name, amount in more.items() if amount > 0}, self._used(cron.spec.role))

    def note(self, kind: str, cron: Cron, **data: object) -> None:
        """An event about it."""
        role, key = cron.spec.role, cron.spec.key
        self._events.append((self.now_us, kind, role, None, None, {"key": key, "cron": cron.uid} | data))

    # --- one tick ------------------------------------------------------------------------------------------------

    def _decide(self, cron: Cron, one: Due, last: bool) -> Tick:
        tick = Tick(cron=cron.uid, tick_us=one.tick_us, outcome=Outcome.WAITING, at_us=self.now_us, reason=one.missed)
        if one.missed is not None:
            return replace(tick, outcome=Outcome.MISSED)
        if cron.state is CronState.SUSPENDED:
            return replace(tick, outcome=Outcome.SKIPPED, reason=_SUSPENDED)
        if cron.spec.collision == "kill_existing" and not last:
            return replace(tick, outcome=Outcome.SKIPPED, reason=Reason("collision", "a later tick came with it"))
        if not self.runs(cron) and not self._waiting.get(cron.uid):
            return self._begin(cron, tick)
        return self._meet(cron, tick, prior(cron.spec.collision, one.late))

    def _meet(self, cron: Cron, tick: Tick, way: str) -> Tick:
        """A run before it is still going on, or waits."""
        if way == "start":
            return self._begin(cron, tick)
        if way == "kill":
            return self._wait_for_death(cron, tick)
        if way == "wait":
            return replace(tick, reason=Reason("queued", "begins when those before it have ended"))
        before = next((run.uid for run in self.runs(cron)), None)
        message = f"run {before} was still going on" if before else "others waited to begin before it"
        return replace(tick, outcome=Outcome.SKIPPED, reason=Reason("collision", message, {"job": before}))

    def _wait_for_death(self, cron: Cron, tick: Tick) -> Tick:
        """Kill what goes on; it begins when that is proved dead. What waited for the same is left out."""
        self.let_go(cron.uid, Reason("collision", "a later tick came before the former run was dead"))
        dying = [run.uid for run in self.runs(cron)]
        self.killed += dying
        message = f"begins when run {dying[0]}, which is killed for it, is dead" if dying else "begins at once"
        return replace(tick, reason=Reason("killing", message, {"jobs": dying}))

    def _begin(self, cron: Cron, tick: Tick, *, strict: bool = False) -> Tick:
        """Its run, if the quota allows that."""
        ask = template_of(cron)
        try:
            self._take(cron, ask)
        except (QuotaExceeded, NotFound) as error:
            if strict:
                raise
            reason = Reason("quota", error.message, error.details)
            return replace(tick, outcome=Outcome.SKIPPED, reason=reason, at_us=self.now_us)
        job = Job(
            uid=self._parts.new_id(self.now_us),
            spec=run_spec(cron.spec, tick.tick_us),
            user=cron.user,
            submitted_us=self.now_us,
            active=cron.spec.instances,
            tick_us=tick.tick_us,
        )
        self.jobs.append(job)
        self._runs.setdefault(cron.key, []).append(Run(job.uid, job.user, ask))
        return replace(tick, outcome=Outcome.STARTED, job=job.uid, at_us=self.now_us, reason=None)

    def _take(self, cron: Cron, ask: Resources) -> None:
        """Of a guaranteed quota, what is kept for it counts for the run."""
        if self._parts.tiers[cron.spec.tier].preemptible:
            return
        owner = (cron.spec.role, cron.spec.tier, cron.user)
        use = self._used(cron.spec.role)
        held = held_by(cron.user, self.runs(cron))
        without = minus(use.get(owner, {}), beyond(cron.reserve, held))
        self._check(cron, ask, use | {owner: without})
        after = total((held, ask))
        use[owner] = total((without, ask, beyond(cron.reserve, after)))

    def _check(self, cron: Cron, ask: Resources, use: dict[Owner, Resources]) -> None:
        name = cron.spec.role
        if name not in self._roles:
            self._roles |= self._writer.roles([name])
        role = self._roles.get(name)
        if role is None:
            raise NotFound(f"there is no role {cron.spec.role} any more")
        if not self._parts.tiers[cron.spec.tier].preemptible:
            check_quota(role, (cron.spec.role, cron.spec.tier, cron.user), ask, use)

    def _used(self, role: str) -> dict[Owner, Resources]:
        if role not in self._use:
            self._use[role] = dict(self._writer.usage(role))
        return self._use[role]

    def _add(self, tick: Tick) -> None:
        self.ticks[tick.id] = tick
        if tick.outcome is Outcome.WAITING:
            self._waiting.setdefault(tick.cron, []).append(tick)

    # --- writing -------------------------------------------------------------------------------------------------

    def write(self) -> int | None:
        """Put it all down; the id of the last event."""
        writer = self._writer
        told = self._kill() if self.killed else None
        # What was to wait and was let go in the same breath is a new row still, as it became.
        new = {id: self._settled.pop(id, tick) for id, tick in self.ticks.items()}
        if self.jobs:
            writer.add_jobs(self.jobs)
            writer.add_first_tasks(self.jobs, self.now_us)
        writer.charge(self._charges())
        if new:
            writer.add_ticks(list(new.values()))
        if self._settled:
            writer.settle_ticks(list(self._settled.values()))
        self._write_crons()
        self._note_ticks([*new.values(), *self._settled.values()])
        return writer.emit(self._events) if self._events else told

    def _write_crons(self) -> None:
        moved, put = {}, []
        for uid, cron in self.crons.items():
            before = self._before.get(uid)
            if before is not None and before.spec is cron.spec and before.changed_us == cron.changed_us:
                if before is not cron:
                    moved[uid] = cron.state, cron.next_us, cron.reserve
            else:
                put.append(cron)
        if put:
            self._writer.put_crons(put)
        if moved:
            self._writer.move_crons(moved)

    def _kill(self) -> int | None:
        """By the same moves as a user's kill. What of them waited is gone at once, and so is its part of the quota."""
        writer = self._writer
        jobs = writer.jobs_of(self.killed)
        self.ended = list(jobs.values())
        ledger = Ledger(writer, self.now_us, writer.active_tasks(jobs=self.killed), jobs)
        why = "the next run was due"
        reason = Reason("killed", f"killed by its cron job: {why}", {"by": "cron", "why": why, "at_us": self.now_us})
        for task in sorted(ledger.tasks.values(), key=lambda one: (one.job, one.instance, one.attempt)):
            ledger.move(task.id, Event.KILL, reason=reason)
        for uid in jobs:
            ledger.emit("job.killed", jobs[uid].spec.role, uid, by="cron", why=why, instances=None)
        told = ledger.write()
        self._there = writer.cron_runs([cron.key for cron in self.crons.values()])
        new = {job.uid for job in self.jobs}
        for cron in self.crons.values():
            begun = [run for run in self.runs(cron) if run.uid in new]
            self._runs[cron.key] = self._there.get(cron.key, []) + begun
        return told

    def _charges(self) -> Deltas:
        deltas: Deltas = {}
        for cron in self.crons.values():
            owner = (cron.spec.role, cron.spec.tier, cron.user)
            after = largest(cron.reserve, held_by(cron.user, self.runs(cron)))
            add(deltas, owner, difference(self._charged(cron), after))
        return deltas

    def _charged(self, cron: Cron) -> Resources:
        """What the database has it charged. Only of one that was deleted, and so has nothing kept, may another user be
        the owner from now on.
        """
        former = self._before.get(cron.uid)
        kept = former.reserve if former is not None and former.user == cron.user else {}
        return largest(kept, held_by(cron.user, self._there.get(cron.key, ())))

    def _note_ticks(self, ticks: Iterable[Tick]) -> None:
        """Each run has its event; of what did not run there is one for each cron job and reason."""
        crons = self.crons
        for job in self.jobs:
            facts = {"key": job.spec.key, "user": job.user, "instances": job.spec.instances}
            tick = {"tick": show_moment(job.tick_us or 0)}
            self._events.append((self.now_us, "job.submitted", job.spec.role, job.uid, None, facts | tick))
        alike: dict[tuple[str, str, str], list[Tick]] = {}
        for tick_ in ticks:
            if tick_.outcome is not Outcome.STARTED and tick_.reason is not None:
                alike.setdefault((tick_.cron, tick_.outcome.value, tick_.reason.code), []).append(tick_)
        for (uid, outcome, code), some in alike.items():
            times = [one.tick_us for one in some]
            first, last = show_moment(min(times)), show_moment(max(times))
            why = some[-1].reason.message if some[-1].reason else ""
            facts = {"code": code, "message": why, "count": len(some), "first": first, "last": last}
            self.note(f"cron.{outcome}", crons[uid], **facts)
