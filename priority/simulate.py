"""A workload in virtual time, decided by the engine that decides for real: `make_plan` on a snapshot kept up by events.

The model, where it is simpler than the world:

- What is launched runs at once, and for as long as the trace says. Nodes do not fail.
- A victim holds its room for its whole notice, or until it would have ended anyway; then it waits again, from zero, at
  the age of its preemption (or ends as preempted, if its job wants that).
- An attempt that fails (as the trace says, or over its `max_runtime`) is followed by another after its back-off, until
  the job's `max_failures`.
- A job over its role's or user's quota of a tier that is not preemptible is refused when it comes; a role without such
  a quota may have any amount, as traces come without one. Quotas of preemptible tiers are ceilings: the engine's.
- A gang's pending members are shown to the engine together, once all of them are ready.

A round is made when something has changed by which a waiting task may find room, and once for all that happens at the
same instant. It looks only at the tasks that this may help: see `crowd`, and `_stir`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from priority import due
from priority.claim import Claim
from priority.crowd import SHOWN, Crowd, Key
from priority.guarantees import Guarantees
from priority.herd import rule, work_lost
from priority.history import Attempt, Cluster, History, Loss, Outcome, Wait
from priority.lately import Lately
from priority.lifecycle import backoff_s
from priority.outlook import Held, Order, Outlook, Turn
from priority.plan import Plan, make_plan
from priority.policy import HOUR_US
from priority.snapshot import Snapshot
from priority.trace import Work, micros

LOOK_AGAIN_US, LOOK_SOON_US = 60_000_000, 1_000_000
"""With settings of policy, feasibility may change with time alone: so often what waits is looked at again, at least and
at most.
"""

_TELL_EVERY = 500

_END, _GONE, _READY, _LOOK = range(4)


@dataclass(slots=True, eq=False)
class _Run:
    """One instance of a job, over all of its attempts."""

    id: str
    work: int
    claim: Claim
    ready_us: int
    started_us: int = -1
    token: int = 0
    """Of the one event that it waits for; another's is void."""
    failures: int = 0
    attempts: int = 0
    fails: bool = False
    """Whether this attempt will fail."""
    gone: bool = False
    """Was preempted, and has not started again."""


@dataclass(slots=True)
class _Gang:
    """The members of a gang that do not run: those that are ready, and how many are not yet."""

    ready: dict[str, Claim] = field(default_factory=dict)
    unready: int = 0
    shown: bool = False


class Simulation:
    """`run` once. Deterministic: the same cluster and works give the same history."""

    def __init__(
        self,
        cluster: Cluster,
        works: Sequence[Work],
        *,
        shown: int = SHOWN,
        check: Callable[[Snapshot, Plan], None] | None = None,
        every_us: int = 0,
    ) -> None:
        """`check` sees each plan that is carried out; rounds are at least `every_us` apart."""
        self.history = History(cluster, works)
        self.snapshot = Snapshot(cluster.tiers, cluster.policy)
        for node in cluster.nodes:
            self.snapshot.put_node(node)
        for name, rules in cluster.roles.items():
            self.snapshot.put_role(name, rules.weight, rules.quota, rules.users)
        self._cluster, self._works, self._check, self._every_us = cluster, works, check, every_us
        self._order = sorted(range(len(works)), key=lambda index: (works[index].submit_us, index))
        self._runs: dict[str, _Run] = {}
        self._gangs: dict[str, _Gang] = {}
        self._crowd = Crowd(shown, cluster.roles)
        self._events: list[tuple[int, int, int, _Run | None, int]] = []
        self._number = count()
        self._lately = Lately()
        self._guarantees = Guarantees(cluster)
        self._held: dict[str, Held] = {}
        """By node, of those where nothing has changed since it was looked at."""
        self._present: set[str] = set()
        """Those of the crowd that are in the snapshot, waiting."""
        self._kept: dict[str, str] = {}
        """For whom the last plan keeps room that is coming, and where."""
        self._dirty = False
        """Whether a round is due."""
        self._changed: set[str] = set()
        """Nodes with more room than when those who wait were last looked at."""
        self._open: set[str] = set()
        """Those of them that the next round is for."""
        self._looking = False
        self._next_round_us = 0

    @property
    def total(self) -> int:
        """How many instances there are to be settled."""
        return sum(work.instances for work in self._works)

    def run(self, tell: Callable[[int], None] | None = None) -> History:
        """Until nothing happens any more; `tell` hears now and then how many instances are settled."""
        told, arrivals, at = 0, self._order, 0
        while at < len(arrivals) or self._events:
            coming = self._works[arrivals[at]].submit_us if at < len(arrivals) else None
            now_us = min(one for one in (coming, self._events[0][0] if self._events else None) if one is not None)
            self.snapshot.now_us = now_us
            while self._events and self._events[0][0] == now_us:
                _, _, what, run, token = heapq.heappop(self._events)
                self._happen(what, run, token, now_us)
            while at < len(arrivals) and self._works[arrivals[at]].submit_us == now_us:
                self._arrive(arrivals[at], now_us)
                at += 1
            self._maybe_round(now_us)
            if tell is not None and len(self.history.outcomes) >= told + _TELL_EVERY:
                told = len(self.history.outcomes)
                tell(told)
        for run in self._runs.values():
            self.history.waits.append(Wait(run.work, run.id, run.ready_us, None, run.attempts == 0))
            self.history.outcomes[run.id] = Outcome.NEVER
        return self.history

    # --- what happens ---

    def _arrive(self, index: int, now_us: int) -> None:
        work = self._works[index]
        names = [f"{work.id}-{instance}" for instance in range(work.instances)]
        if not self._guarantees.admit(work):
            self.history.outcomes.update(dict.fromkeys(names, Outcome.REFUSED))
            return
        for name in names:
            claim = Claim(
                id=name,
                job=work.job or work.id,
                role=work.role,
                user=work.user,
                tier=work.tier,
                priority=work.priority,
                request=work.request,
                since_us=now_us,
                constraints=work.constraints,
                gang=work.id if work.gang else None,
                at_once=work.at_once,
            )
            self._runs[name] = _Run(name, index, claim, now_us)
            if claim.gang is not None:
                self._gangs.setdefault(claim.gang, _Gang()).unready += 1
        for name in names:
            self._enter(self._runs[name])

    def _happen(self, what: int, run: _Run | None, token: int, now_us: int) -> None:
        if run is None:
            self._looking = False
            self._dirty = True
            if self._cluster.policy:
                self._crowd.wake()
        elif token == run.token:
            if what == _END:
                self._end(run, now_us)
            elif what == _GONE:
                self._gone(run, now_us)
            elif what == _READY:
                self._enter(run)

    def _end(self, run: _Run, now_us: int) -> None:
        work = self._works[run.work]
        outcome = Outcome.FAILED if run.fails else Outcome.FINISHED
        self._leave_node(run, now_us, outcome)
        if not run.fails:
            self._settle(run, Outcome.FINISHED)
            return
        run.failures += 1
        if work.max_failures != -1 and run.failures >= work.max_failures:
            self._settle(run, Outcome.FAILED)
            return
        least_s = self.snapshot.terms.backoff_s.get(work.tier, 0) / 1e6
        pause_us = micros(backoff_s(run.failures, work.backoff.initial, work.backoff.limit, least_s))
        run.claim = self._again(run.claim, now_us)
        run.ready_us = now_us + pause_us
        self._unready(run)
        self._later(run.ready_us, _READY, run)

    def _gone(self, run: _Run, now_us: int) -> None:
        self._dirty = True  # somebody waits for just this room
        self._leave_node(run, now_us, Outcome.PREEMPTED)
        if self._works[run.work].requeue:
            run.ready_us = run.claim.since_us
            self._count_gone(run, 1)
            self._enter(run)
        else:
            self._settle(run, Outcome.PREEMPTED)

    def _count_gone(self, run: _Run, count: int) -> None:
        """Preempted and dead, it waits for a node; or (-1) it has one again."""
        if self._cluster.policy:
            run.gone = count > 0
            self._lately.gone((run.claim.role, run.claim.job), count)

    def _leave_node(self, run: _Run, now_us: int, outcome: Outcome) -> None:
        claim = self.snapshot.task(run.id)
        assert claim is not None and claim.node is not None
        self.snapshot.drop_task(run.id)
        self._held.pop(claim.node, None)
        self._changed.add(claim.node)
        self._dirty = self._dirty or self._frees_by_rule(claim)
        self.history.attempts.append(Attempt(run.work, run.id, claim.node, run.started_us, now_us, outcome))

    def _settle(self, run: _Run, outcome: Outcome) -> None:
        self.history.outcomes[run.id] = outcome
        del self._runs[run.id]
        work = self._works[run.work]
        self._guarantees.release(work)

    def _later(self, at_us: int, what: int, run: _Run | None) -> None:
        token = 0
        if run is not None:
            run.token += 1
            token = run.token
        heapq.heappush(self._events, (at_us, next(self._number), what, run, token))

    @staticmethod
    def _again(claim: Claim, now_us: int) -> Claim:
        return Claim(
            id=claim.id,
            job=claim.job,
            role=claim.role,
            user=claim.user,
            tier=claim.tier,
            priority=claim.priority,
            request=claim.request,
            since_us=now_us,
            constraints=claim.constraints,
            gang=claim.gang,
            at_once=claim.at_once,
            preempted_us=claim.preempted_us,
        )

    # --- who waits ---

    def _unready(self, run: _Run) -> None:
        """A member of a gang will wait, and the others with it."""
        if run.claim.gang is None:
            return
        gang = self._gangs.setdefault(run.claim.gang, _Gang())
        gang.unready += 1
        if gang.shown:
            gang.shown = False
            for id in gang.ready:
                self._hide(id)
                self._crowd.leave(id)

    def _enter(self, run: _Run) -> None:
        claim = run.claim
        if claim.gang is None:
            self._dirty = self._crowd.enter(claim) or self._dirty
            return
        gang = self._gangs[claim.gang]
        gang.unready -= 1
        gang.ready[claim.id] = claim
        if not gang.unready:
            gang.shown = self._dirty = True
            self._crowd.enter_gang(gang.ready.values())

    def _hide(self, id: str) -> None:
        if id in self._present:
            self._present.discard(id)
            self.snapshot.drop_task(id)

    def _leave_queue(self, claim: Claim) -> None:
        self._present.discard(claim.id)
        self._crowd.leave(claim.id)
        if claim.gang is None:
            return
        gang = self._gangs[claim.gang]
        del gang.ready[claim.id]
        if not gang.ready and not gang.unready:
            del self._gangs[claim.gang]

    # --- rounds ---

    def _maybe_round(self, now_us: int) -> None:
        if self._changed:
            self._dirty = self._stir() or self._dirty
            self._open |= self._changed
            self._changed.clear()
        if not self._crowd.kinds:
            self._dirty = False
            self._open.clear()
        elif self._dirty and now_us < self._next_round_us:
            self._look_at(self._next_round_us)
        elif self._dirty:
            self._dirty = False
            self._next_round_us = now_us + self._every_us
            self._round(now_us)
            if self._cluster.policy and self._events and self._crowd.kinds:
                moments = due.next_us(self.snapshot), self._lately.next_us(), now_us + LOOK_AGAIN_US
                soon_us = min(at_us for at_us in moments if at_us is not None)
                self._look_at(max(soon_us, now_us + LOOK_SOON_US))

    def _look_at(self, at_us: int) -> None:
        if not self._looking:
            self._looking = True
            self._later(at_us, _LOOK, None)

    def _round(self, now_us: int) -> None:
        self._lately.advance(now_us)
        past = self._lately.news()
        if past is not None:
            self.snapshot.put_past(past)
        plan, waiting = self._decide()
        if self._check is not None:
            self._check(self.snapshot, plan)
        self._open.clear()
        # Where it was kept, nobody else's turn could have it; from now on those may take it whose turn is before.
        self._changed.update(one.node for one in plan.launch if self._kept.get(one.task) == one.node)
        self._kept = {placed.task: placed.node for placed in plan.reserve}
        asleep = self._crowd.settle(waiting, self._kept.keys())
        for placed in plan.launch:
            self._launch(self._runs[placed.task], placed.node, now_us)
        for taken in plan.preempt:
            self._preempt(self._runs[taken.task], taken.preemptor, now_us)
        for claim in asleep:
            self._hide(claim.id)

    def _decide(self) -> tuple[Plan, set[str]]:
        """The plan that a look at everybody would have given, and whom it leaves waiting."""
        more = 1
        while True:
            for claim in self._crowd.shown():
                if claim.id not in self._present:
                    self._present.add(claim.id)
                    self.snapshot.put_task(claim)
            plan = make_plan(self.snapshot, reasons=False)
            self.history.rounds += 1
            waiting = {one.task for one in plan.wait}
            if self._crowd.short(waiting):
                continue
            missed = self._missed(plan, waiting)
            if not missed:
                return plan, waiting
            more *= 4
            self._crowd.rouse(missed[:more])

    def _launch(self, run: _Run, node: str, now_us: int) -> None:
        work = self._works[run.work]
        self.history.waits.append(Wait(run.work, run.id, run.ready_us, now_us, run.attempts == 0))
        run.attempts += 1
        run.started_us = now_us
        run.fails = run.failures < work.failures
        runtime_us = work.runtime_us
        if work.max_runtime_us is not None and runtime_us > work.max_runtime_us:
            runtime_us, run.fails = work.max_runtime_us, True
        until_us = None if work.max_runtime_us is None else now_us + work.max_runtime_us
        self._held.pop(node, None)
        self.snapshot.put_task(run.claim.moved("running", node, now_us, until_us=until_us))
        if run.gone:
            self._count_gone(run, -1)
        self._leave_queue(run.claim)
        self._later(now_us + runtime_us, _END, run)

    def _preempt(self, run: _Run, preemptor: str, now_us: int) -> None:
        claim, taker = self.snapshot.task(run.id), self._runs[preemptor]
        assert claim is not None and claim.node is not None
        self._held.pop(claim.node, None)
        law = rule(taker.claim, claim, self._cluster.tiers) or 0
        self.history.losses.append(Loss(now_us, run.work, taker.work, law, work_lost(claim, now_us)))
        self.snapshot.move_task(run.id, state="preempting", kept_for=preemptor)
        work = self._works[run.work]
        runtime_us = min(work.runtime_us, work.max_runtime_us or work.runtime_us)
        run.claim = self._again(run.claim, now_us)
        if self._cluster.policy:
            owners = (taker.claim.role, taker.claim.tier), (claim.role, claim.tier)
            self._lately.add(now_us, *owners, work_lost(claim, now_us))
            lately = (at_us for at_us in claim.preempted_us if at_us > now_us - HOUR_US)
            run.claim = replace(run.claim, preempted_us=(*lately, now_us))
        if work.requeue:
            self._unready(run)
        self._later(min(now_us + work.notice_us, run.started_us + runtime_us), _GONE, run)

    # --- whom a change may help ---

    def _frees_by_rule(self, gone: Claim) -> bool:
        """Wake those whom an end may help beyond the room on its node: by a ceiling, a limit, a policy."""
        if self._cluster.policy:
            self._crowd.wake()
            return True
        rules = self._cluster.roles.get(gone.role)
        capped = rules is not None and (gone.tier in rules.quota or gone.tier in rules.users.get(gone.user, {}))

        def concerned(claim: Claim) -> bool:
            if claim.role != gone.role:
                return False
            limited = claim.job == gone.job and any(one.limit is not None for one in claim.constraints)
            return limited or (capped and claim.tier == gone.tier)

        return self._crowd.wake(concerned)

    def _stir(self) -> bool:
        """Wake those who will probably get the room on nodes where something ended: in the order of their turns, if
        all that they may take made way; whether there are any. Who else might is looked for once there is a plan, see
        `_missed`.
        """
        crowd = self._crowd
        if not crowd.kinds:
            return False
        rooms = [self._room_on(name) for name in sorted(self._changed)]
        known = [*(kind.oldest for kind in crowd.awake.values()), *crowd.held.values()]
        stirred = any(room.fits(claim) for room in rooms for claim in known)
        hopeful = _among(rooms, crowd.sleepers())
        if not hopeful:
            return stirred
        order = Order(self.snapshot, ())
        for room in rooms:
            room.narrow()
        heads = _among(rooms, hopeful.items())
        if not heads and not (stirred or self._dirty):  # a round for them alone
            heads = dict([min(hopeful.items(), key=lambda one: order.now(one[1]))])
        while heads:
            key = min(heads, key=lambda one: order.now(heads[one])) if len(heads) > 1 else next(iter(heads))
            claim = heads[key]
            crowd.call(key, claim)
            order.give(claim)
            rooms = _beside(rooms, claim)
            coming = crowd.after(key, claim)
            if coming is None:
                del heads[key]
            else:
                heads[key] = coming
            heads = _among(rooms, heads.items())
        return True

    def _room_on(self, name: str) -> Outlook:
        kept = [self._runs[id].claim for id, node in self._kept.items() if node == name]
        return Outlook(self.snapshot, self._held_on(name), coming=kept)

    def _held_on(self, name: str) -> Held:
        held = self._held.get(name)
        if held is None:
            held = self._held[name] = Held(self.snapshot, name)
        return held

    def _missed(self, plan: Plan, waiting: set[str]) -> list[Key]:
        """The kinds that sleep and might find room although the plan is carried out, in the order of their turns.

        All who sleep were refused by the last plan that looked at them. Since then there is more room only on nodes
        where something has ended; and by this plan beside its victims, and where it gives up room that was kept.
        """
        behind = list(self._crowd.behind(waiting))
        if not behind:
            return []
        arrivals = (*plan.launch, *plan.reserve)
        spots = {placed.task: placed.node for placed in arrivals}
        opened = {node for task, node in self._kept.items() if spots.get(task) != node} | self._open
        victims: dict[str, list[Claim]] = {}
        for taken in plan.preempt:
            claim = self.snapshot.task(taken.task)
            assert claim is not None
            victims.setdefault(taken.node, []).append(claim)
        if not opened and not victims:
            return []
        coming: dict[str, list[Claim]] = {}
        for placed in arrivals:
            coming.setdefault(placed.node, []).append(self._runs[placed.task].claim)
        order = Order(self.snapshot, [one for some in coming.values() for one in some])
        found: dict[Key, Turn] = {}
        for name in sorted(opened | victims.keys()):
            taken_there, arrives = victims.get(name, []), coming.get(name, [])
            some = [pair for pair in behind if pair[0] not in found]
            if some:
                outlook = Outlook(self.snapshot, self._held_on(name), taken_there, arrives, order)
                found.update((key, order.first(claim)) for key, claim in outlook.among(some))
        return sorted(found, key=lambda key: found[key])


def _among(rooms: Sequence[Outlook], heads: Iterable[tuple[Key, Claim]]) -> dict[Key, Claim]:
    """Those of them who have room on one of these nodes."""
    if len(rooms) == 1:
        return dict(rooms[0].among(heads))
    some = list(heads)
    return {key: claim for room in rooms for key, claim in room.among(some)}


def _beside(rooms: list[Outlook], claim: Claim) -> list[Outlook]:
    """Those of which it is known what is left when it comes to the first of them where it can be."""
    for at, room in enumerate(rooms):
        if room.fits(claim):
            return rooms if room.goes_on(claim) else rooms[:at] + rooms[at + 1 :]
    return rooms
