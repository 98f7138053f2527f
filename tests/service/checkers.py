"""What must be true of the truth at every committed state, whatever has happened: the checkers of the simulation."""

from __future__ import annotations

from collections import Counter, defaultdict

from priority.cron import Outcome
from priority.crontab import Cron, CronQuery, Tick
from priority.job import Job, JobState
from priority.lifecycle import TABLE
from priority.quota import largest
from priority.records import Event, JobQuery, Page, PreemptionQuery, PreemptionRecord
from priority.resources import shortfall, times, total
from priority.service.ledger import KINDS, next_id
from priority.task import ACTIVE, PLACED, TERMINAL, State, Task

from .world import World

EDGES = {(state.value, move.state.value) for (state, _), move in TABLE.items()}
STATES = {kind: state.value for state, kind in KINDS.items()}


class Checkers:
    """Kept over a run: the event log is replayed as it grows."""

    def __init__(self, world: World, forced: bool = False, loose: bool = False) -> None:
        self._world = world
        self._seen = 0
        self._state: dict[str, str] = {}
        self._ended: dict[str, str] = {}
        self._epoch = 0
        self._withdrawn: set[str] = set()
        self._forced = forced
        self._loose = loose

    def check(self) -> None:
        with self._world.store.read() as reader:
            events = reader.events(self._seen, 1_000_000)
            jobs = {job.uid: job for job in reader.jobs(JobQuery(), Page(10_000))[0]}
            tasks = [task for job in jobs.values() for task in reader.tasks(job.uid, Page(100_000))[0]]
            usage, roles = reader.usage(), reader.roles()
            nodes = {record.node.name: record.node for record in reader.nodes()}
            crons = [*reader.crons(CronQuery(), 10_000)[0]]
            ticks = {cron.uid: reader.ticks(cron.uid, 100_000)[0] for cron in crons}
            preemptions, _ = reader.preemptions(PreemptionQuery(), Page(100_000))
        self._ledger(preemptions, {task.id: task for task in tasks})
        self._replay(events, {task.id: task for task in tasks})
        by_instance: dict[tuple[str, int], list[Task]] = defaultdict(list)
        for task in tasks:
            by_instance[task.job, task.instance].append(task)
        self._instances(by_instance)
        # P3 and the tallies: every instance is in exactly one place
        active = Counter(uid for (uid, _), its in by_instance.items() if any(one.state in ACTIVE for one in its))
        charged: dict[tuple[str, str, str], list[dict[str, int]]] = defaultdict(list)
        for job in jobs.values():
            assert job.active == active[job.uid], f"{job.spec.key} counts {job.active}, has {active[job.uid]}"
            assert (job.state is JobState.ACTIVE) == (job.active > 0), job.spec.key
            if job.tick_us is None:
                charged[job.spec.role, job.spec.tier, job.user].append(times(job.spec.resources, job.active))
        for owner, amounts in self._crons(crons, ticks, jobs):
            charged[owner].append(amounts)
        # C4: what is charged is what is there, and prod is within its quota
        for owner in charged.keys() | usage.keys():
            mine = {name: amount for name, amount in usage.get(owner, {}).items() if amount}
            there = {name: amount for name, amount in total(charged.get(owner, [])).items() if amount}
            assert mine == there, f"{owner} is charged {mine}, has {there}"
        if not self._forced:
            for name, role in roles.items():
                use = total(amounts for (its, tier, _), amounts in usage.items() if (its, tier) == (name, "prod"))
                quota = role.quota.get("prod", {})
                assert shortfall({key: use.get(key, 0) for key in quota}, quota) == {}, f"{name}: {use} > {quota}"
        # C5: no node holds more than it has
        held: dict[str, list[dict[str, int]]] = defaultdict(list)
        for task in tasks:
            if task.state in PLACED:
                held[task.node or ""].append(jobs[task.job].spec.resources)
        for name, amounts in held.items():
            assert shortfall(total(amounts), nodes[name].capacity) == {}, f"{name} holds {total(amounts)}"
        # C3: the witness
        assert self._world.backend.violations == []

    def _crons(
        self, crons: list[Cron], ticks: dict[str, list[Tick]], jobs: dict[str, Job]
    ) -> list[tuple[tuple[str, str, str], dict[str, int]]]:
        """What cron jobs are charged; and what is written down of a tick is so, of each once (the key sees to that)."""
        runs: dict[tuple[str, str, str, str], list[dict[str, int]]] = defaultdict(list)
        for job in jobs.values():
            if job.tick_us is not None:
                owner = (job.spec.role, job.spec.tier, job.spec.name, job.user)
                runs[owner].append(times(job.spec.resources, job.active))
        reserves = {(*cron.key, cron.user): cron.reserve for cron in crons}
        for cron in crons:
            going = [one for one in jobs.values() if one.spec.key == cron.spec.key and one.state is JobState.ACTIVE]
            assert len(going) <= 1 or cron.spec.collision == "allow" or self._loose, f"{cron.spec.key} runs twice"
            for tick in ticks[cron.uid]:
                assert (tick.job is not None) == (tick.outcome is Outcome.STARTED), tick
                # one that waited, and began after the clock was set back
                highest_us = max(tick.at_us, self._world.highest_us)
                assert highest_us >= tick.tick_us or tick.by is not None, f"{tick} was before its time"
                if tick.job is not None:
                    assert jobs[tick.job].tick_us == tick.tick_us, tick
                    assert jobs[tick.job].submitted_us == tick.at_us, tick
                else:
                    assert tick.reason is not None, tick
            started = [tick.job for tick in ticks[cron.uid] if tick.job is not None]
            assert len(started) == len(set(started))
        made = {tick.job for some in ticks.values() for tick in some}
        live = {cron.key for cron in crons}
        for job in jobs.values():
            if job.tick_us is not None and (job.spec.role, job.spec.tier, job.spec.name) in live:
                assert job.uid in made, f"{job.spec.key} is a run without a tick"
        return [
            (
                (role, tier, user),
                largest(reserves.get((role, tier, name, user), {}), total(runs[role, tier, name, user])),
            )
            for role, tier, name, user in runs.keys() | reserves.keys()
        ]

    def _ledger(self, preemptions: list[PreemptionRecord], tasks: dict[str, Task]) -> None:
        """Every victim is in the ledger once, and what is said of its preemptor is true of it."""
        assert {one.victim.task: one.preemptor.task for one in preemptions} == {
            task.id: task.kept_for for task in tasks.values() if task.kept_for is not None
        }
        for one in preemptions:
            victim, preemptor = tasks[one.victim.task], tasks[one.preemptor.task]
            assert one.lost == 0 or victim.state is not State.FINISHED, victim
            ran = preemptor.started_us is not None or preemptor.state is State.FINISHED
            ran = ran or (preemptor.state is State.FAILED and preemptor.exit_code is not None)
            if one.fate is None:
                assert not ran and preemptor.state in ACTIVE, preemptor
            else:
                assert (one.fate.code == "started") == ran, (one.fate, preemptor)
                assert ran or preemptor.state in TERMINAL, (one.fate, preemptor)

    def _replay(self, events: list[Event], tasks: dict[str, Task]) -> None:
        """C2 (every move is an edge, nothing leaves a terminal state), C9 (epochs never decrease)."""
        for event in events:
            assert event.id > self._seen
            self._seen = event.id
            if event.task is None:
                continue
            if event.kind == "task.requeued":
                assert event.task not in self._state, f"{event.task} was made twice"
                self._state[event.task] = "pending"
                continue
            before, after = event.data["from"], STATES[event.kind]
            assert self._state.get(event.task, "pending") == before, f"{event.task}: {before} -> {after}"
            assert (before, after) in EDGES, f"{event.task}: {before} -> {after}"
            self._state[event.task] = after
            if (before, after) == ("preempting", "finished"):
                self._withdrawn.add(next_id(event.task) or "")
            assert after != "starting" or event.task not in self._withdrawn, f"{event.task} begins what had finished"
            if after == "starting":
                assert event.data["epoch"] >= self._epoch
                self._epoch = event.data["epoch"]
        for id, task in tasks.items():
            assert self._state.get(id, "pending") == task.state, id

    def _instances(self, by_instance: dict[tuple[str, int], list[Task]]) -> None:
        for key, attempts in by_instance.items():
            attempts.sort(key=lambda task: task.attempt)
            assert [task.attempt for task in attempts] == list(range(1, len(attempts) + 1)), key
            living = [task for task in attempts if task.state in ACTIVE]
            assert len(living) <= 2, key
            if len(living) == 2:
                first, second = living
                assert first.state in (State.PREEMPTING, State.KILLING), key
                assert (second.state, second.after) == (State.PENDING, first.id), key
            for task in attempts:
                assert (task.node is not None) or task.state in (State.PENDING, State.KILLED), task
                assert (task.ended_us is not None) == (task.state in TERMINAL), task
                if task.after is not None and task.state is State.PENDING:
                    assert any(one.id == task.after for one in living), f"{task.id} waits for what is dead"
