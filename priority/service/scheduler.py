"""The scheduler: one leader, in rounds. A round is synchronous, so that a test moves it by hand (`step`).

A round, and what happens if we die in it:

1. take what has come: calls (look at these jobs again) and deliveries (what nodes say);
2. one transaction: the deliveries happen to the truth (`reports`). Dead before its commit: they come again, as they
   are acknowledged last. Dead after it: they come again and change nothing;
3. after the commit the mirror is made what the truth is;
4. `make_plan` decides from the mirror's Snapshot, and `certify` has to find no fault in that (see `guard`);
5. one transaction: the plan, as far as the truth still allows it (`decide`). Dead after it: the next leader finds
   tasks starting or dying and sends again what it must suppose unsent;
6. act: stops and launches. Each is known to its node by the task's id, so that twice is once;
7. acknowledge, and wake who watches events.

Every write carries the leader's epoch, and so does every act: a leader that was deposed and does not know it yet
can neither write (`Deposed`) nor, once a node has heard the next one, act. Nothing is lost with Redis: every
`sweep_s` the mirror is compared with the whole truth, and what is not confirmed in time is sent again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from threading import Event, Lock

from priority.errors import Deposed
from priority.handover import hand_over
from priority.orders import Delivery
from priority.plan import Plan, make_plan
from priority.policy import NONE, Policy
from priority.ports import Call
from priority.reason import Reason
from priority.recording import Watched
from priority.records import Audit
from priority.service import decide as deciding
from priority.service import reports as reporting
from priority.service.access import SYSTEM
from priority.service.acts import ACTS_A_BATCH, Acts
from priority.service.guard import Guard
from priority.service.mirror import Mirror, read_truth
from priority.service.parts import ALL, Parts
from priority.service.record import Recorder
from priority.service.window import WINDOW
from priority.snapshot import Snapshot
from priority.task import DYING, UNCONFIRMED, State, Task

_SWEEP_SHARE = 20
"""A sweep that takes long is made seldom: at most a twentieth of the time goes into it."""

POLICY_US = 250_000
"""A plan that only policy asks for is made no sooner after the last one."""

_RENEWALS = 3
"""The leadership is renewed so often within its lease."""


def _nothing(_point: str) -> None:
    pass


class Scheduler:
    """One leader's life, from `lead` to `Deposed`. `call`, `report` and `renew` may be called from any thread, the
    rest belongs to one. `fail_at` is called at named points, where a test may kill it; `check` sees each plan.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        holder: str,
        fail_at: Callable[[str], None] = _nothing,
        check: Callable[[Snapshot, Plan], None] | None = None,
        batch: int = ACTS_A_BATCH,
        window: int = WINDOW,
        recorder: Recorder | None = None,
    ) -> None:
        self.holder = holder
        """Whoever leads under this name; each process has its own."""
        self.epoch: int | None = None
        self._recorder = recorder
        self._parts = parts
        self._window = window
        self.mirror = self._new_mirror()
        self.wake = Event()
        """Set whenever something has come."""
        self.rounds = 0
        self.plans = 0
        self._fail_at = fail_at
        self._check = check
        self._batch = batch
        self._lock = Lock()
        self._calls: deque[Call] = deque()
        self._deliveries: deque[Delivery] = deque()
        self._acts = self._new_acts()
        self._telling = deciding.Telling()
        self._now_us = 0
        self._renew_us = 0
        self._sweep_us = 0
        self._reasons: dict[str, Reason] = {}
        """Why each task waited in the last plan."""
        self._nothing_new = Plan((), (), (), ())
        self.guard = Guard(parts.settings.state, parts.settings.certify)
        self._undecided = True
        self._doubted: set[str] = set()
        """Nodes whose agent is another than we know, as far as we know."""
        self._policy_us: int | None = None
        """When policy alone may change what a plan would be."""
        self._left = False
        """Whether the last plan leaves room of the dead to decide about again."""

    # --- the leadership ----------------------------------------------------------------------------------------

    def lead(self) -> bool:
        """Take the leadership and load the truth, or leave it to who has it."""
        settings, now_us = self._parts.settings, self._parts.clock.now_us()
        lease_us = round(settings.leader_lease_s * 1e6)
        with self._parts.store.write() as writer:
            self.epoch = writer.lead(self.holder, now_us, lease_us)
        if self.epoch is None:
            return False
        self._renew_us = now_us + lease_us // _RENEWALS
        self._load()
        return True

    def renew(self) -> None:
        """Hold on to the leadership if it is time. `Deposed` if it is another's now."""
        settings, now_us = self._parts.settings, self._parts.clock.now_us()
        with self._lock:
            if now_us < self._renew_us:
                return
            lease_us = round(settings.leader_lease_s * 1e6)
            self._renew_us = now_us + lease_us // _RENEWALS
        with self._parts.store.write() as writer:
            epoch = writer.lead(self.holder, now_us, lease_us)
        if epoch is None or epoch != self.epoch:
            raise Deposed("another scheduler leads now; this one stops")

    def resign(self) -> None:
        """Leave the leadership to the next one, at once."""
        with self._parts.store.write() as writer:
            writer.resign(self.holder)

    # --- what comes --------------------------------------------------------------------------------------------

    def call(self, calls: Iterable[Call]) -> None:
        """From the queue: jobs to look at again."""
        self._calls.extend(calls)
        self.wake.set()

    def report(self, delivery: Delivery) -> None:
        """From the backend: what nodes say."""
        self._deliveries.append(delivery)
        self.wake.set()

    # --- a round -----------------------------------------------------------------------------------------------

    def step(self) -> float:
        """One round with all that has come; the seconds after which the next is due though nothing comes.

        `Deposed`: everything here is void. `Unavailable`: nothing has happened, step again later.
        """
        self.rounds += 1
        now_us = self._parts.clock.now_us()
        if now_us < self._now_us:
            self._step_back(now_us)
        self._now_us = now_us
        self.renew()
        calls, deliveries = self._take()
        try:
            self._round(calls, deliveries, now_us)
        except BaseException:
            # Not acknowledged and not lost. Whether a commit has gone through is not known: look at everything.
            self._calls.extendleft(reversed(calls))
            self._deliveries.extendleft(reversed(deliveries))
            self._sweep_us = 0
            raise
        return self._pause_s()

    def _round(self, calls: Sequence[Call], deliveries: Sequence[Delivery], now_us: int) -> None:
        self.mirror.snapshot.now_us = now_us
        last_event = self._apply(deliveries, now_us) if deliveries else None
        if now_us >= self._sweep_us:
            self._sweep(now_us)
        elif calls:
            self._look({job for call in calls for job in call.jobs}, now_us)
        self.mirror.advance(now_us)
        decided = self._decide(now_us)
        self._acts.send_again(now_us)
        if deliveries or calls:
            self._fail_at("acted")
        self._parts.queue.acknowledge(calls)
        for delivery in deliveries:
            self._parts.backend.acknowledge(delivery)
        if decided or last_event:
            self._parts.queue.publish(decided or last_event or 0)

    def _step_back(self, now_us: int) -> None:
        """The clock was set back: what was due soon must not be due in an hour."""
        back_us = self._now_us - now_us
        with self._lock:
            self._renew_us = now_us
        self._sweep_us = now_us
        self._telling.next_us, self._telling.again_us = now_us, None
        self._telling.left = True
        self._policy_us = None if self._policy_us is None else now_us
        self.guard.step_back(now_us)
        self._acts.step_back(back_us)
        self.mirror.step_back(back_us)
        # what nodes were seen at lies in the future now: see `reports`
        self._parts.backend.inquire(list(self.mirror.nodes))

    def _take(self) -> tuple[list[Call], list[Delivery]]:
        self.wake.clear()
        calls = [self._calls.popleft() for _ in range(len(self._calls))]
        deliveries = [self._deliveries.popleft() for _ in range(len(self._deliveries))]
        return calls, deliveries

    def _pause_s(self) -> float:
        now_us = self._parts.clock.now_us()
        due = [self._renew_us, self._sweep_us]
        due += [next_us for next_us in (self._acts.next_us(), self.mirror.next_us()) if next_us is not None]
        moments = self._telling.due_us(), self.guard.next_us, self._policy_us
        due += [at_us for at_us in moments if at_us is not None]
        return max(0.0, (min(due) - now_us) / 1e6)

    # --- reports: the truth first, then the mirror ---------------------------------------------------------------

    def _apply(self, deliveries: Sequence[Delivery], now_us: int) -> int | None:
        reports = [report for delivery in deliveries for report in delivery.reports]
        with self._parts.store.write(self.epoch) as writer:
            backoff = self._parts.settings.backoff_s
            outcome = reporting.apply(writer, reports, self.mirror.jobs, now_us, epoch=self.epoch, backoff=backoff)
            self._fail_at("reported")
        self._fail_at("reports-committed")
        mirror = self.mirror
        for record in outcome.nodes.values():
            mirror.put_node(record)
        for name in outcome.heard:
            mirror.hear(name)
        for name in outcome.silent:
            mirror.miss(name)
        self._doubt([outcome.ledger.tasks[id] for id in outcome.doubted])
        self._doubted -= set(outcome.heard)
        mirror.take(outcome.ledger.changed.values(), outcome.ledger.jobs)
        self._acts.launch(outcome.relaunch, now_us)
        self._acts.stop(outcome.restop, now_us)
        self._acts.stop_strays(outcome.strays, now_us)
        return outcome.last_event

    def _doubt(self, refused: Iterable[Task]) -> None:
        """A node whose agent is another than we know gets nothing until that one was heard: it would refuse all."""
        known = self.mirror.nodes
        doubted = {task.node for task in refused if task.node in known and known[task.node].agent == task.agent}
        for name in doubted:
            self.mirror.miss(name)
        self._doubted |= doubted
        if doubted:
            self._parts.backend.inquire(list(doubted))

    def _new_mirror(self) -> Mirror:
        tiers, policy = self._parts.tiers, self._parts.settings.policy
        return Mirror(tiers, self._window, None if self._recorder is None else Watched(tiers, policy), policy)

    def _new_acts(self) -> Acts:
        return Acts(self._parts, self.mirror, self.epoch or 0, self._at, self._batch)

    def _at(self, point: str) -> None:
        self._fail_at(point)

    # --- the truth that others have changed ----------------------------------------------------------------------

    def _load(self) -> None:
        """Everything, at the start of a leadership: what runs, and what is not confirmed and so must be sent again."""
        now_us = self._parts.clock.now_us()
        self.mirror = self._new_mirror()
        self._acts = self._new_acts()
        self._doubted.clear()
        self._sweep(now_us, self.mirror.snapshot.terms)
        self._parts.backend.inquire(list(self.mirror.nodes))

    def _sweep(self, now_us: int, policy: Policy = NONE) -> None:
        """Compare the mirror with the whole truth; with a `policy`, learn what that has to know."""
        began_us = self._parts.clock.now_us()
        mirror = self.mirror
        mirror.snapshot.now_us = now_us
        with self._parts.store.read() as reader:
            truth = read_truth(reader, mirror.jobs.keys(), policy=policy, now_us=now_us)
        mirror.frame(truth)
        tasks: dict[str, list[Task]] = {uid: [] for uid in mirror.jobs_with_tasks()}
        for task in truth.tasks:
            tasks.setdefault(task.job, []).append(task)
        for uid, of_job in tasks.items():
            self._sync(uid, of_job, now_us)
        # whichever way it came into memory: what is not confirmed is awaited, and so sent again at last
        self._acts.expect([task for task in truth.tasks if task.state in UNCONFIRMED], now_us)
        self._acts.forget(now_us)
        if self._doubted:
            self._parts.backend.inquire(list(self._doubted))
        self._telling.forget(mirror)
        took_us = self._parts.clock.now_us() - began_us
        self._sweep_us = now_us + max(round(self._parts.settings.sweep_s * 1e6), _SWEEP_SHARE * took_us)

    def _look(self, called: set[str], now_us: int) -> None:
        """Compare only these jobs. `ALL` among them (roles or nodes have changed): everything."""
        if ALL in called:
            self._sweep(now_us)
            return
        with self._parts.store.read() as reader:
            tasks = reader.active_tasks(jobs=called)
            jobs = reader.jobs_of({task.job for task in tasks} - self.mirror.jobs.keys())
        self.mirror.jobs.update(jobs)
        truth: dict[str, list[Task]] = {uid: [] for uid in called}
        for task in tasks:
            truth[task.job].append(task)
        for uid, of_job in truth.items():
            self._sync(uid, of_job, now_us)

    def _sync(self, uid: str, truth: Sequence[Task], now_us: int) -> None:
        changed = self.mirror.sync_job(uid, truth)
        self._acts.stop([task.id for task in changed if task.state in DYING], now_us)
        self._acts.expect([task for task in changed if task.state is State.STARTING], now_us)

    # --- deciding ------------------------------------------------------------------------------------------------

    def _decide(self, now_us: int) -> int | None:
        mirror = self.mirror
        if not mirror.waiting():
            mirror.let_go()
            self._telling.left, self._telling.again_us = False, None
            self.guard.next_us = self._policy_us = None
            return None
        plan, last_event = self._nothing_new, None
        self._telling.left |= mirror.untold
        mirror.untold = False
        if self._policy_us is not None and now_us >= self._policy_us:
            mirror.changed, self._policy_us = True, None
        if (mirror.changed or self._undecided) and self.guard.due(mirror.changed, now_us):
            # Noted before anything can fail: a plan that was not written down is made again.
            self._undecided = True
            self._left = False
            plan = self._plan(now_us)
            last_event = self._tell_refusal(now_us)
        else:
            due_us = self._telling.due_us()
            if due_us is None or now_us < due_us:
                return None
        waiting = chain(self._reasons.items(), mirror.untold_reasons(self._reasons))
        reasons = self._telling.choose(waiting, mirror, now_us)
        if plan.launch or plan.preempt or reasons:
            last_event = self._carry_out(plan, reasons, now_us) or last_event
        if self._undecided:
            soon_us = mirror.policy_us() if mirror.waiting() else None
            self._policy_us = None if soon_us is None else max(soon_us, now_us + POLICY_US)
        self._undecided = self.guard.next_us is not None  # else that round was refused
        if self._left:
            mirror.changed = True
            self.wake.set()
        return last_event

    def _carry_out(self, plan: Plan, reasons: dict[str, Reason], now_us: int) -> int | None:
        """Commit, then act."""
        mirror = self.mirror
        self._fail_at("decided")
        with self._parts.store.write(self.epoch) as writer:
            decided = deciding.decide(writer, plan, mirror, now_us, epoch=self.epoch, reasons=reasons)
            self._fail_at("plan-written")
        self._fail_at("plan-committed")
        mirror.remember(decided.preemptions)
        mirror.take(decided.changed.values(), mirror.jobs)
        for id in decided.gone:
            mirror.drop(id)
        # What this plan changed is in it already. What of it did not hold, or has come in since, asks for another.
        mirror.changed = mirror.refilled or not decided.whole
        self._acts.stop(decided.stops, now_us)
        self._fail_at("stopped")
        self._acts.launch(decided.launches, now_us)
        return decided.last_event

    def _plan(self, now_us: int) -> Plan:
        plan = make_plan(self.mirror.snapshot)
        self.plans += 1
        if self._recorder is not None:
            self._recorder.take(self.mirror.snapshot, plan)
        self.mirror.changed = self.mirror.refilled = False
        if self._check is not None:
            self._check(self.mirror.snapshot, plan)
        passed = self.guard.judge(self.mirror.snapshot, plan, now_us)
        gone = self.mirror.let_go()
        if passed is None:
            return self._nothing_new
        if gone:
            passed, self._left = hand_over(self.mirror.snapshot, gone, passed)
        self._reasons = dict(deciding.wait_reasons(passed, self.mirror))
        self.mirror.refuse(waiting.task for waiting in passed.wait)
        return passed

    def _tell_refusal(self, now_us: int) -> int | None:
        """An audit and an event of a plan that was refused."""
        refusal = self.guard.untold
        if refusal is None:
            return None
        with self._parts.store.write(self.epoch) as writer:
            writer.audit(Audit(0, now_us, SYSTEM.name, "plan.refuse", "plan", None, None, refusal.plain()))
            last_event = writer.emit([(now_us, "plan.refuse", None, None, None, refusal.plain())])
        self.guard.untold = None
        return last_event
