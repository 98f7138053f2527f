"""What every store promises: the same tests over SQLite in a file, SQLite in memory and PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import pytest

from priority.errors import Conflict, Deposed, Invalid
from priority.job import Job, JobSpec, JobState, parse_spec
from priority.node import Node, NodeState
from priority.ports import Store
from priority.reason import Reason
from priority.records import Audit, JobQuery, NodeRecord, Page, TaskChange, Token
from priority.role import RoleSpec, parse_file
from priority.store import rows
from priority.task import ACTIVE, PLACED, State, Task, pending_us, task_id

FULL = {
    "role": "physics",
    "tier": "devel",
    "name": "reco",
    "command": ["run", "--quick", "naïve 测试 🚀 \\ \" ' % ?"],
    "instances": 3,
    "env": {"A": "1", "B": "zwei\n"},
    "resources": {"cpus": 0.5, "mem": "2GiB", "licence": 3},
    "priority": -5,
    "constraints": [
        {"attribute": "rack", "in": ["r1", "r2"]},
        {"attribute": "gpu", "not_in": ["old"]},
        {"attribute": "host", "limit": 2},
    ],
    "gang": True,
    "max_failures": 4,
    "backoff": {"initial": 0.1, "limit": 7.7},
    "max_runtime": "1h30m",
    "preempt": {"action": "end", "signal": "USR1", "notice": 12.5},
    "kill_grace": 1.25,
    "labels": {"stage": "two", "owner": "ada"},
    "mesos": {
        "container": {"image": "alma:9", "runtime": "docker"},
        "uris": [{"uri": "http://data/a.tgz", "extract": False, "cache": True}],
        "health_check": {"command": "true", "interval": 2.5},
        "replace_after": 600,
        "group": True,
    },
}


def spec(**changes: Any) -> JobSpec:
    return parse_spec({"role": "physics", "tier": "prod", "name": "reco", "command": "true", **changes})


def a_job(uid: str, **changes: Any) -> Job:
    own = {name: changes.pop(name) for name in list(changes) if name in {field.name for field in fields(Job)}}
    return Job(**{"uid": uid, "spec": spec(**changes), "user": "ada", "submitted_us": 1, "active": 1, **own})


def a_task(job: str = "j", instance: int = 0, attempt: int = 1, **changes: Any) -> Task:
    id = task_id(job, instance, attempt)
    plain = {"id": id, "job": job, "instance": instance, "attempt": attempt, "state": State.PENDING, "since_us": 1}
    return Task(**{**plain, **changes})


def add(store: Store, *rows: Job | Task) -> None:
    with store.write() as writer:
        writer.add_jobs([row for row in rows if isinstance(row, Job)])
        writer.add_tasks([row for row in rows if isinstance(row, Task)])


# --- transactions


def test_an_exception_undoes_everything(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.write() as writer:
        writer.add_jobs([a_job("j")])
        writer.add_tasks([a_task()])
        writer.emit([(1, "job.submitted", "physics", "j", None, {})])
        raise ZeroDivisionError
    with store.read() as reader:
        assert reader.job("j") is None
        assert reader.task("j-0-1") is None
        assert reader.last_event() == 0


def test_a_writer_reads_what_it_wrote(store: Store) -> None:
    with store.write() as writer:
        writer.add_jobs([a_job("j")])
        assert writer.job("j") == a_job("j")
        writer.charge({("physics", "prod", "ada"): {"cpus": 5}})
        assert writer.usage() == {("physics", "prod", "ada"): {"cpus": 5}}


def test_one_thread_has_one_transaction_and_is_told_so_rather_than_waiting_for_itself(store: Store) -> None:
    with store.write(), pytest.raises(RuntimeError, match="inside a transaction"), store.read():
        pass
    with store.read(), pytest.raises(RuntimeError, match="inside a transaction"), store.write():
        pass
    with store.write() as writer:
        writer.put_user("ada", False)


def test_nothing_can_be_read_after_the_end(store: Store) -> None:
    with store.read() as reader:
        pass
    with pytest.raises(RuntimeError, match="has ended"):
        reader.last_event()


# --- jobs


def test_a_job_comes_back_as_it_was(store: Store) -> None:
    full = parse_spec(FULL)
    plain = spec()
    # Whoever adds a field to JobSpec adds it to FULL.
    assert [name for name in JobSpec.model_fields if getattr(full, name) == getattr(plain, name)] == ["role", "name"]
    jobs = [a_job("a", **FULL), a_job("b", state=JobState.ENDED, ended_us=9, active=0, finished=1, failed=2, killed=3)]
    add(store, *jobs)
    with store.read() as reader:
        assert reader.job("a") == jobs[0]
        assert reader.jobs_of(["a", "b", "c"]) == {"a": jobs[0], "b": jobs[1]}
        assert reader.jobs_of([]) == {}
        assert reader.job("c") is None
        read = reader.job("a")
    assert read is not None
    assert read.spec.model_dump(mode="json") == full.model_dump(mode="json")
    assert read.spec.model_dump_json() == full.model_dump_json()
    assert read.spec.argv == full.argv


def test_the_latest_job_is_the_one_submitted_last(store: Store) -> None:
    add(store, a_job("z", submitted_us=7), a_job("a", submitted_us=7))
    with store.read() as reader:
        latest = reader.latest_job("physics", "prod", "reco")
        assert latest is not None
        assert latest.uid == "a"
        assert reader.latest_job("physics", "devel", "reco") is None


def test_the_active_job_of_each_key(store: Store) -> None:
    ended = {"state": JobState.ENDED, "active": 0}
    add(store, a_job("a"), a_job("b", name="x", **ended), a_job("c", tier="devel"), a_job("d", role="chem"))
    reco, other = ("physics", "prod", "reco"), ("physics", "prod", "x")
    with store.read() as reader:
        assert reader.active_jobs([reco, other]) == {reco: "a"}
        assert reader.active_jobs(
            [("physics", "devel", "reco"), ("chem", "prod", "reco"), ("physics", "prod", "y")]
        ) == {
            ("physics", "devel", "reco"): "c",
            ("chem", "prod", "reco"): "d",
        }
        assert reader.active_jobs([]) == {}


ALL = ("a", "b", "c", "d", "e")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (JobQuery(), "edcba"),
        (JobQuery(roles=["physics"]), "edca"),
        (JobQuery(roles=["chem", "physics"]), "edcba"),
        (JobQuery(roles=[]), ""),
        (JobQuery(roles=["none"]), ""),
        (JobQuery(tier="devel"), "c"),
        (JobQuery(name="sim"), "d"),
        (JobQuery(name="si*"), "d"),
        (JobQuery(name="r*c?"), "ecba"),
        (JobQuery(name="?i?"), "d"),
        (JobQuery(name="R*"), ""),
        (JobQuery(name="re_o*"), ""),
        (JobQuery(user="bob"), "d"),
        (JobQuery(state=JobState.ACTIVE), "dcba"),
        (JobQuery(state=JobState.ENDED), "e"),
        (JobQuery(label=("stage", "one")), "ca"),
        (JobQuery(label=("stage", "two")), ""),
        (JobQuery(label=("stage", "one"), tier="prod"), "a"),
        (JobQuery(roles=["physics"], tier="prod", name="reco", user="ada", state=JobState.ACTIVE), "a"),
    ],
)
def test_jobs_are_found_newest_first(store: Store, query: JobQuery, found: str) -> None:
    label = {"labels": {"stage": "one"}}
    add(store, a_job("a", **label), a_job("b", role="chem"), a_job("c", tier="devel", **label))
    add(store, a_job("d", name="sim", user="bob"), a_job("e", state=JobState.ENDED, active=0))
    with store.read() as reader:
        assert "".join(job.uid for job in reader.jobs(query, Page())[0]) == found
        paged, after = "", None
        for _ in range(6):
            jobs, after = reader.jobs(query, Page(limit=2, after=after))
            paged += "".join(job.uid for job in jobs)
            if after is None:
                break
        assert paged == found


def test_a_page_that_is_full_is_not_always_followed_by_another(store: Store) -> None:
    add(store, a_job("a"), a_job("b"))
    with store.read() as reader:
        assert reader.jobs(JobQuery(), Page(limit=2))[1] is None
        assert reader.jobs(JobQuery(), Page(limit=1))[1] is not None


@pytest.mark.parametrize("after", ["", "x", "-1", "1.2.3", "1;DROP TABLE jobs", "9" * 30, "\u0661"])
def test_a_cursor_that_was_not_given_is_refused(store: Store, after: str) -> None:
    with store.read() as reader:
        with pytest.raises(Invalid, match="after"):
            reader.jobs(JobQuery(), Page(after=after))
        with pytest.raises(Invalid, match="after"):
            reader.tasks("j", Page(after=after))
        with pytest.raises(Invalid, match="after"):
            reader.audits(Page(after=after))


def test_a_job_is_changed(store: Store) -> None:
    add(store, a_job("a", labels={"x": "1"}), a_job("b"))
    bigger = spec(instances=5, labels={"y": "2"}, resources={"gpus": 1})
    with store.write() as writer:
        writer.change_job("a", {"spec": bigger, "active": 5})
        writer.change_job("b", {"state": JobState.ENDED, "ended_us": 4, "killed": 1, "active": 0})
        with pytest.raises(ValueError, match="not all of these"):
            writer.change_job("a", {"colour": "red"})
    with store.read() as reader:
        assert reader.job("a") == a_job("a", instances=5, labels={"y": "2"}, resources={"gpus": 1}, active=5)
        assert reader.job("b") == a_job("b", state=JobState.ENDED, ended_us=4, killed=1, active=0)
        assert reader.jobs(JobQuery(label=("x", "1")), Page())[0] == []
        assert [job.uid for job in reader.jobs(JobQuery(label=("y", "2")), Page())[0]] == ["a"]


def test_ended_instances_move_to_the_tallies_and_the_last_ends_the_job(store: Store) -> None:
    add(store, a_job("a", active=6), a_job("b", active=2), a_job("c", active=1))
    with store.write() as writer:
        ended: Mapping[str, Mapping[State, int]] = {
            "a": {State.FINISHED: 1, State.FAILED: 1, State.KILLED: 1, State.PREEMPTED: 1, State.LOST: 1},
            "b": {State.FINISHED: 2},
            "unknown": {State.FINISHED: 1},
        }
        assert writer.tally(ended, 77) == ["b"]
        assert writer.tally({}, 78) == []
    with store.read() as reader:
        assert reader.job("a") == a_job("a", active=1, finished=1, failed=1, killed=3)
        assert reader.job("b") == a_job("b", active=0, finished=2, state=JobState.ENDED, ended_us=77)
        assert reader.job("c") == a_job("c", active=1)
        assert reader.last_event() == 0


def test_a_key_is_answered_once(store: Store) -> None:
    with store.write() as writer:
        writer.remember({})
        writer.remember({("physics", "k"): ("digest", {"uid": "j", "n": [1, None]}), ("bio", "l"): ("other", 2)})
    there = {("physics", "k"): ("digest", {"uid": "j", "n": [1, None]}), ("bio", "l"): ("other", 2)}
    asked = [("physics", "k"), ("chem", "k"), ("physics", "K"), ("physics", "l"), ("bio", "l")]
    with store.read() as reader:
        assert reader.answered(asked) == there
        assert reader.answered([("chem", "k")]) == reader.answered([]) == {}
    with pytest.raises(Conflict), store.write() as writer:
        writer.remember({("chem", "k"): ("third", 3), ("physics", "k"): ("another", 1)})
    with store.read() as reader:
        assert reader.answered(asked) == there


def test_a_job_cannot_be_there_twice(store: Store) -> None:
    add(store, a_job("a"))
    with pytest.raises(Conflict) as refused:
        add(store, a_job("b"), a_job("a"))
    assert "INSERT" not in str(refused.value)
    with store.read() as reader:
        assert reader.job("b") is None


# --- tasks


def test_a_task_comes_back_as_it_was(store: Store) -> None:
    values: dict[str, Any] = {
        "state": State.PREEMPTING,
        "since_us": 2**52,
        "node": "n1",
        "agent": "a1",
        "after": "j-3-1",
        "kept_for": "k-0-1",
        "not_before_us": 11,
        "failures": 2,
        "preemptions": 3,
        "reason": Reason("preempted", "for k-0-1", {"cost": 1.5, "by": ["k"], "none": None}),
        "started_us": 12,
        "ended_us": 13,
        "exit_code": 255,
        "signal": 9,
        "cpu_s": 1234.567891,
        "peak_mem_mib": 2**40,
    }
    full = a_task(instance=3, attempt=2, **values)
    assert [field.name for field in fields(Task) if getattr(full, field.name) == getattr(a_task(), field.name)] == [
        "job"
    ]
    many = [a_task("many", instance) for instance in range(20)]
    add(store, full, a_task(), *many)
    with store.read() as reader:
        assert reader.task(full.id) == full
        assert reader.tasks_of([full.id, "j-0-1", "none"]) == {full.id: full, "j-0-1": a_task()}
        assert reader.tasks_of([]) == {}
        assert reader.tasks("many", Page())[0] == many


def test_a_task_that_is_there_is_left_as_it_is(store: Store) -> None:
    add(store, a_task(node="n", state=State.RUNNING))
    many = [a_task("many", instance) for instance in range(30)]
    add(store, a_task(), a_task(instance=1), *many[:15])
    add(store, *many)
    with store.read() as reader:
        assert reader.task("j-0-1") == a_task(node="n", state=State.RUNNING)
        assert reader.task("j-1-1") == a_task(instance=1)
        assert reader.tasks("many", Page())[0] == many


def test_first_tasks_are_what_tasks_of_their_own_would_be(store: Store) -> None:
    jobs = [a_job("j", instances=3), a_job("k", name="k")]
    with store.write() as writer:
        writer.add_first_tasks(jobs, 1)
        writer.add_first_tasks(jobs[:1], 2)  # twice is once
    with store.read() as reader:
        found = sorted(reader.active_tasks(), key=lambda task: task.id)
    waits = [a_task("j", at, since_us=pending_us(1, at)) for at in range(3)]
    assert found == [*waits, a_task("k", 0)]


def test_tasks_are_paged_by_instance_and_attempt(store: Store) -> None:
    order = [(instance, attempt) for instance in (0, 2, 10) for attempt in (1, 2, 10)]
    tasks = [a_task("j", *key, state=State.LOST if key[1] < 10 else State.RUNNING) for key in order]
    add(store, *reversed(tasks), a_task("other"))
    with store.read() as reader:
        seen, after = [], None
        while True:
            page, after = reader.tasks("j", Page(limit=2, after=after))
            seen += page
            if after is None:
                break
        assert seen == tasks
        running, more = reader.tasks("j", Page(limit=2, after="0.10"), states=[State.RUNNING, State.PENDING])
        assert [task.id for task in running] == ["j-2-10", "j-10-10"]
        assert more is None
        assert reader.tasks("j", Page(), states=[])[0] == []


def test_of_each_instance_the_current_attempts(store: Store) -> None:
    """The newest, and beside it one that still dies: what `status` shows."""
    rows = [
        (0, 1, State.FAILED), (0, 2, State.FAILED), (1, 1, State.LOST), (1, 2, State.RUNNING),
        (2, 1, State.PREEMPTED), (2, 2, State.PREEMPTING), (2, 3, State.PENDING), (3, 1, State.FINISHED),
    ]  # fmt: skip
    add(store, *(a_task("j", instance, attempt, state=state) for instance, attempt, state in rows), a_task("k"))
    with store.read() as reader:
        current = [task.id for task in reader.tasks("j", Page(), current=True)[0]]
        assert current == ["j-0-2", "j-1-2", "j-2-2", "j-2-3", "j-3-1"]
        some, after = reader.tasks("j", Page(limit=2), [State.FAILED, State.PENDING], current=True)
        assert ([task.id for task in some], after) == (["j-0-2", "j-2-3"], None)


def test_where_the_instances_of_jobs_stand(store: Store) -> None:
    """Each active instance once: a next attempt that waits for the end of the one before does not count beside it."""
    states = [State.PENDING, State.PENDING, State.STARTING, State.RUNNING, State.RUNNING, State.FINISHED]
    add(store, *(a_task("j", instance, state=state) for instance, state in enumerate(states)))
    add(store, a_task("j", 6, state=State.PREEMPTING), a_task("j", 6, 2, after="j-6-1"), a_task("k"), a_task("l"))
    with store.read() as reader:
        one = {State.PENDING: 2, State.STARTING: 1, State.RUNNING: 2, State.PREEMPTING: 1}
        assert reader.standing(["j", "k", "none"]) == {"j": one, "k": {State.PENDING: 1}}
        assert reader.standing([]) == {}


def test_active_tasks_by_job_and_node(store: Store) -> None:
    states = list(State)
    tasks = [
        a_task(job, instance, state=state, node=None if state is State.PENDING else f"n{instance % 2}")
        for job in ("a", "b")
        for instance, state in enumerate(states)
    ]
    add(store, *tasks)
    active = [task for task in tasks if task.state in ACTIVE]

    def ids(found: list[Task]) -> set[str]:
        assert len({task.id for task in found}) == len(found)
        return {task.id for task in found}

    with store.read() as reader:
        assert ids(reader.active_tasks()) == ids(active)
        assert ids(reader.active_tasks(jobs=["a", "c"])) == ids([task for task in active if task.job == "a"])
        assert ids(reader.active_tasks(node="n1")) == ids([task for task in active if task.node == "n1"])
        both = reader.active_tasks(jobs=["b"], node="n1")
        assert ids(both) == ids([task for task in active if task.node == "n1" and task.job == "b"])
        assert reader.active_tasks(jobs=[]) == []


def test_a_change_applies_only_in_the_expected_state(store: Store) -> None:
    tasks = [a_task(instance=instance) for instance in range(4)]
    add(store, *tasks)
    place = {"state": State.STARTING, "node": "n", "agent": "x", "since_us": 5}
    with store.write() as writer:
        changes = [TaskChange(task.id, State.PENDING, place) for task in tasks[:2]]
        changes += [
            TaskChange("j-2-1", State.RUNNING, {"state": State.FAILED}),
            TaskChange("j-3-1", State.PENDING, {"reason": Reason("no-room", "wait", {"short": 2})}),
            TaskChange("j-9-1", State.PENDING, place),
        ]
        assert writer.change_tasks(changes) == {"j-0-1", "j-1-1", "j-3-1"}
        assert writer.change_tasks([]) == set()
        assert writer.change_tasks([TaskChange("j-0-1", State.PENDING, place)]) == set()
        assert writer.change_tasks([TaskChange("j-0-1", State.STARTING, {})]) == {"j-0-1"}
    with store.read() as reader:
        assert reader.task("j-0-1") == replace(tasks[0], state=State.STARTING, node="n", agent="x", since_us=5)
        assert reader.task("j-2-1") == tasks[2]
        assert reader.task("j-3-1") == replace(tasks[3], reason=Reason("no-room", "wait", {"short": 2}))


def test_changes_of_one_task_see_each_other_in_order(store: Store) -> None:
    add(store, a_task(reason=Reason("no-room", "wait")))
    with store.write() as writer:
        steps: list[tuple[State, State, Mapping[str, Any]]] = [
            (State.PENDING, State.STARTING, {"node": "n", "reason": None}),
            (State.PENDING, State.KILLED, {"ended_us": 3}),
            (State.STARTING, State.RUNNING, {"started_us": 4}),
            (State.RUNNING, State.FINISHED, {"ended_us": 5, "exit_code": 0, "cpu_s": 0.25}),
        ]
        changes = [TaskChange("j-0-1", before, {"state": after, **values}) for before, after, values in steps]
        assert writer.change_tasks(changes) == {"j-0-1"}
    end: dict[str, Any] = {"node": "n", "started_us": 4, "ended_us": 5, "exit_code": 0, "cpu_s": 0.25}
    with store.read() as reader:
        assert reader.task("j-0-1") == a_task(state=State.FINISHED, **end)


@pytest.mark.parametrize("name", ["id", "colour", "cpu_us", "state; DROP TABLE tasks"])
def test_only_fields_of_a_task_can_change(store: Store, name: str) -> None:
    add(store, a_task())
    with pytest.raises(ValueError, match="not a field"), store.write() as writer:
        writer.change_tasks([TaskChange("j-0-1", State.PENDING, {name: "x"})])


def test_many_at_once(store: Store) -> None:
    tasks = [a_task("j", instance) for instance in range(1234)]
    events = [
        (instance, "task.pending", "physics", "j", task.id, {"n": instance}) for instance, task in enumerate(tasks)
    ]
    with store.write() as writer:
        writer.add_tasks(tasks)
        assert writer.emit(events) == 1234
        changes = [TaskChange(task.id, State.PENDING, {"state": State.STARTING, "node": task.id}) for task in tasks]
        assert len(writer.change_tasks(changes)) == 1234
    with store.read() as reader:
        found = sorted(reader.active_tasks(), key=lambda task: task.instance)
        assert found == [replace(task, state=State.STARTING, node=task.id) for task in tasks]
        assert [event.data["n"] for event in reader.events(0, 5000)] == list(range(1234))


# --- quotas


def test_usage_is_charged_and_given_back(store: Store) -> None:
    ada, bob = ("physics", "prod", "ada"), ("physics", "devel", "bob")
    with store.write() as writer:
        writer.charge({ada: {"cpus": 3, "mem": 10**18}, bob: {"cpus": 1}, ("chem", "prod", "eve"): {"cpus": 9}})
        writer.charge({ada: {"cpus": -1, "gpus": 2}, bob: {"cpus": -1}})
        writer.charge({})
    with store.read() as reader:
        assert reader.usage("physics") == {ada: {"cpus": 2, "mem": 10**18, "gpus": 2}}
        assert reader.usage() == {ada: {"cpus": 2, "mem": 10**18, "gpus": 2}, ("chem", "prod", "eve"): {"cpus": 9}}
        assert reader.usage("none") == {}


def test_holding_is_summed_from_the_tasks_on_nodes(store: Store) -> None:
    small, big = {"resources": {"cpus": 1}}, {"resources": {"cpus": 2, "mem": 8}}
    add(store, a_job("a", **small), a_job("b", **big), a_job("c", user="bob", tier="devel", **big))
    add(store, a_job("d", role="chem", **small))
    tasks = [
        a_task(job, instance, state=state, node="n")
        for job in ("a", "b", "c")
        for instance, state in enumerate(State)
        if state is not State.PENDING
    ]
    add(store, *tasks, a_task("a", 99), a_task("d", 0, state=State.RUNNING, node="n"))
    ada, bob = ("physics", "prod", "ada"), ("physics", "devel", "bob")
    with store.read() as reader:
        assert reader.holding("physics") == {ada: {"cpus": 12000, "mem": 32}, bob: {"cpus": 8000, "mem": 32}}
        assert reader.holding().keys() == {ada, bob, ("chem", "prod", "ada")}


def test_what_is_on_nodes_is_summed_from_the_tasks(store: Store) -> None:
    add(store, a_job("a", resources={"cpus": 1}), a_job("b", role="chem", resources={"cpus": 2, "mem": 10**12}))
    tasks = [a_task("a", instance, state=state, node="n") for instance, state in enumerate(State)]
    on_m = [a_task("b", instance, state=State.RUNNING, node="m") for instance in range(3)]
    add(store, *tasks, *on_m, a_task("b", 3, state=State.KILLING, node="n"), a_task("b", 4))
    placed = len(PLACED)
    with store.read() as reader:
        assert reader.on_nodes() == {
            "n": (placed + 1, {"cpus": 1000 * (placed + 2), "mem": 10**12}),
            "m": (3, {"cpus": 6000, "mem": 3 * 10**12}),
        }


def test_who_waits_since_when_and_why(store: Store) -> None:
    add(store, a_job("a"), a_job("b", tier="devel"), a_job("c", role="chem"), a_job("d"))
    add(
        store,
        a_task("a", 0, since_us=7), a_task("a", 1, since_us=5, reason=Reason("no-room", "full", {"short": 2})),
        a_task("a", 2, state=State.RUNNING, node="n"), a_task("b", 0, 1, state=State.PREEMPTING, node="n"),
        a_task("b", 0, 2, after=task_id("b", 0, 1)), a_task("c", 0, since_us=9), a_task("d", 0, state=State.FINISHED),
    )  # fmt: skip
    a, c = ("a", "prod", 2, 5, Reason("no-room", "full", {"short": 2})), ("c", "prod", 1, 9, None)
    with store.read() as reader:
        assert sorted(reader.waiting()) == [a, c]
        assert reader.waiting(["physics", "nobody"]) == [a] and reader.waiting([]) == []


# --- history


def test_events_are_numbered_in_commit_order_without_gaps(store: Store) -> None:
    with store.write() as writer:
        assert writer.emit([(5, "a", "physics", "j", "t", {"x": [1, None, "é"]}), (5, "b", None, None, None, {})]) == 2
        assert writer.emit([]) == 2
        assert writer.emit([(6, "c", "chem", "k", None, {})]) == 3
    with pytest.raises(ZeroDivisionError), store.write() as writer:
        writer.emit([(7, "lost", None, None, None, {})])
        raise ZeroDivisionError
    with store.write() as writer:
        assert writer.emit([(8, "d", "physics", "j", None, {})]) == 4

    def kinds(*args: Any, **more: Any) -> str:
        return "".join(event.kind for event in reader.events(*args, **more))

    with store.read() as reader:
        assert reader.last_event() == 4
        first = reader.events(0, 1)[0]
        assert (first.id, first.at_us, first.kind, first.role, first.job, first.task) == (
            1,
            5,
            "a",
            "physics",
            "j",
            "t",
        )
        assert first.data == {"x": [1, None, "é"]}
        assert kinds(0, 10) == "abcd"
        assert kinds(1, 2) == "bc"
        assert kinds(4, 10) == ""
        assert kinds(0, 10, roles=["physics"]) == "abd"
        assert kinds(0, 10, roles=["physics", "chem"]) == "abcd"
        assert kinds(0, 10, roles=[]) == "b"
        assert kinds(0, 10, job="j") == "ad"
        assert kinds(0, 10, roles=["chem"], job="j") == ""


def test_audits_are_appended_and_read_newest_first(store: Store) -> None:
    def row(action: str, role: str | None) -> Audit:
        return Audit(99, 7, "root", action, "role:physics", role, None, {"quota": {"prod": 1}})

    with store.write() as writer:
        for action, role in (("a", "physics"), ("b", None), ("c", "chem"), ("d", "physics")):
            writer.audit(row(action, role))
    with store.read() as reader:
        found, after = reader.audits(Page(limit=3))
        assert [audit.action for audit in found] == ["d", "c", "b"]
        rest, end = reader.audits(Page(limit=3, after=after))
        assert end is None
        assert rest == [replace(row("a", "physics"), id=1)]
        assert [audit.action for audit in reader.audits(Page(), roles=["physics"])[0]] == ["d", "a"]
        assert [audit.action for audit in reader.audits(Page(), roles=["physics", "chem"])[0]] == ["d", "c", "a"]


@pytest.mark.parametrize(
    ("fits", "found"),
    [
        ({}, [4, 3, 2, 1]),
        ({"who": "ada"}, [3, 2]),
        ({"action": "quota.set"}, [2]),
        ({"action": "quota"}, [4, 2, 1]),
        ({"action": "quot"}, []),
        ({"since_us": 3}, [4, 3]),
        ({"roles": ["physics"], "since_us": 2}, [3, 2]),
        ({"roles": ["physics"], "who": "ada", "action": "quota", "since_us": 0}, [2]),
    ],
)
def test_audits_are_found_by_who_what_and_when(store: Store, fits: dict[str, Any], found: list[int]) -> None:
    rows = [("root", "quota", "chem"), ("ada", "quota.set", "physics"), ("ada", "job.kill", "physics")]
    with store.write() as writer:
        for number, (who, action, role) in enumerate([*rows, ("root", "quota.drop", None)], 1):
            writer.audit(Audit(0, number, who, action, "x", role, None, None))
    with store.read() as reader:
        assert [audit.id for audit in reader.audits(Page(), **fits)[0]] == found


# --- roles and users

ROLES = """
roles:
  physics:
    description: "particles: \u2018fast\u2019"
    weight: 0.3333333333333333
    quota: {prod: {cpus: 100.5, mem: 1TiB}, devel: {}}
    users:
      ada: {grants: [submit, admin], quota: {prod: {cpus: 10}}}
      bob: {}
  chem:
    users: {ada: {}}
"""


def roles() -> dict[str, RoleSpec]:
    return parse_file(ROLES)


def test_roles_come_back_as_they_were(store: Store) -> None:
    with store.write() as writer:
        for name, role in roles().items():
            writer.put_role(name, role)
            writer.put_role(name, role)
    with store.read() as reader:
        assert reader.roles() == roles()
        assert list(reader.roles()) == ["chem", "physics"]
        assert reader.roles(["chem", "none"]) == {"chem": roles()["chem"]}
        assert reader.roles([]) == {}
        ada = reader.user("ada")
        assert ada is not None
        assert not ada.admin
        assert ada.grants == {"physics": {"submit", "admin"}, "chem": {"submit"}}
        assert reader.user("eve") is None
        assert [user.name for user in reader.users()] == ["ada", "bob"]
        assert reader.users()[0] == ada


def test_a_role_is_replaced_with_its_quotas_and_users(store: Store) -> None:
    after = parse_file("""
roles:
  physics:
    weight: 2
    quota: {devel: {cpus: 4}, opportunistic: {gpus: 1}}
    users:
      bob: {grants: [admin], quota: {devel: {cpus: 1}}}
      eve: {}
""")["physics"]
    with store.write() as writer:
        writer.put_user("eve", True)
        for name, role in roles().items():
            writer.put_role(name, role)
        writer.put_role("physics", after)
    with store.read() as reader:
        assert reader.roles() == {"physics": after, "chem": roles()["chem"]}
        assert [(user.name, user.admin, set(user.grants)) for user in reader.users()] == [
            ("ada", False, {"chem"}),
            ("bob", False, {"physics"}),
            ("eve", True, {"physics"}),
        ]
    with store.write() as writer:
        writer.drop_role("physics")
        writer.drop_role("never there")
        writer.put_user("eve", False)
    with store.read() as reader:
        assert reader.roles() == {"chem": roles()["chem"]}
        assert {user.name: dict(user.grants) for user in reader.users()} == {
            "ada": {"chem": {"submit"}},
            "bob": {},
            "eve": {},
        }
        assert [user.admin for user in reader.users()] == [False] * 3


def test_tokens_are_found_by_their_hash(store: Store) -> None:
    token = Token("t1", "ada", "hash", "laptop", 5)
    other = Token("t2", "bob", "hash2", "", 4, 6, 7)
    with store.write() as writer:
        writer.put_user("ada", False)
        writer.put_user("bob", False)
        writer.put_token(token)
        writer.put_token(other)
        writer.put_token(replace(token, revoked_us=9))
    with store.read() as reader:
        assert reader.token("hash") == replace(token, revoked_us=9)
        assert reader.token("none") is None
        assert reader.tokens("ada") == [replace(token, revoked_us=9)]
        assert reader.tokens(None) == [other, replace(token, revoked_us=9)]
    for wrong in (Token("t3", "ada", "hash", "", 1), Token("t4", "nobody", "x", "", 1)):
        with pytest.raises(Conflict), store.write() as writer:
            writer.put_token(wrong)


# --- nodes and the leader


def test_nodes(store: Store) -> None:
    first = NodeRecord(Node("b", {"cpus": 4000}, {"rack": "r1"}, NodeState.UP), "inc1", 5)
    second = NodeRecord(Node("a", {}, {}, NodeState.DOWN), "inc2", 6, drained=True)
    with store.write() as writer:
        writer.put_node(first)
        writer.put_node(second)
        writer.put_node(replace(first, agent="inc3", drained=True))
    with store.read() as reader:
        assert reader.nodes() == [second, replace(first, agent="inc3", drained=True)]
    with store.write() as writer:
        writer.drop_node("a")
        assert [record.node.name for record in writer.nodes()] == ["b"]


def test_one_leads_until_its_lease_is_over(store: Store) -> None:
    def lead(holder: str, now_us: int) -> int | None:
        with store.write() as writer:
            return writer.lead(holder, now_us, 10)

    assert lead("one", 0) == 1
    assert lead("two", 9) is None
    assert lead("one", 5) == 1
    assert lead("two", 14) is None
    assert lead("two", 15) == 2
    assert lead("one", 20) is None
    assert lead("one", 25) == 3
    assert lead("one", 99) == 3
    with store.write() as writer:
        writer.resign("two")
        assert writer.lead("two", 100, 10) is None
        assert writer.leader() == ("one", 3, 109)
        writer.resign("one")
        assert writer.leader() is None
        assert writer.lead("two", 100, 10) == 4
    with store.read() as reader:
        assert reader.leader() == ("two", 4, 110)


def test_a_deposed_leader_cannot_write(store: Store) -> None:
    with pytest.raises(Deposed), store.write(epoch=1):
        pytest.fail("nobody leads")
    with store.write() as writer:
        assert writer.lead("one", 0, 10) == 1
    with store.write(epoch=1) as writer:
        writer.emit([(1, "as leader", None, None, None, {})])
    with store.write() as writer:
        assert writer.lead("two", 50, 10) == 2
    for epoch in (1, 3, 0):
        with pytest.raises(Deposed), store.write(epoch=epoch) as writer:
            pytest.fail("deposed")
    with store.write(epoch=2) as writer:
        writer.resign("two")
    with pytest.raises(Deposed), store.write(epoch=2):
        pytest.fail("resigned")
    with store.read() as reader:
        assert reader.last_event() == 1


# --- what must not get in


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_a_lone_surrogate_is_refused_and_nothing_is_kept(store: Store, text: str) -> None:
    with pytest.raises((Invalid, TypeError)), store.write() as writer:
        writer.put_user("ada", False)
        writer.put_user(text, False)
    with store.read() as reader:
        assert reader.users() == []


def test_nul_is_kept_whole_or_refused(store: Store) -> None:
    try:
        with store.write() as writer:
            writer.put_user("a\0b", False)
    except Invalid:
        kept = []
    else:
        kept = ["a\0b"]
    with store.read() as reader:
        assert [user.name for user in reader.users()] == kept


@pytest.mark.parametrize("text", ["'; DROP TABLE users; --", "%s", "?", '"', "\\", "\u202e", "e\u0301", "🚀", " "])
def test_text_is_only_text(store: Store, text: str) -> None:
    with store.write() as writer:
        writer.put_user(text, True)
        writer.emit([(1, text, text, text, text, {text: text})])
    with store.read() as reader:
        assert [user.name for user in reader.users()] == [text]
        event = reader.events(0, 1, roles=[text], job=text)[0]
        assert (event.kind, event.task, event.data) == (text, text, {text: text})


def test_a_field_that_is_newer_than_a_job_has_its_default() -> None:
    values = rows.loads(rows.dump_spec(spec()))
    del values["kill_grace"], values["preempt"]["notice"]
    read = rows.load_spec(rows.dumps(values), spec().name)
    assert read == spec()
    assert read.model_dump() == spec().model_dump()


def test_notes_are_kept_and_replaced(store: Store) -> None:
    with store.read() as reader:
        assert reader.note("framework") is None
    for value in ("a", "b"):
        with store.write() as writer:
            writer.put_note("framework", value)
    with store.read() as reader:
        assert reader.note("framework") == "b"
