"""Whatever nodes say, in whatever order and however often: nothing bad may come of it (P3, P4, P5, P8, P10)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from priority.orders import Delivery, NodeGone, NodeSeen, TaskSeen
from priority.reason import Reason
from priority.service.ledger import next_id, parts_of
from priority.task import TERMINAL, State

from .checkers import Checkers
from .world import ROOT, World, node, spec

CAUSES = [None, *(Reason(code, code) for code in ("mem", "runtime", "exec", "vanished", "lease"))]
REFUSALS = [Reason(code, code) for code in ("incarnation", "epoch", "unknown")]

SAYING = st.tuples(
    st.sampled_from(["started", "ended", "ended", "refused", "seen", "user", "rounds"]),
    st.integers(0, 7),
    st.sampled_from([0, 0, 1, None]),
    st.booleans(),
    st.sampled_from(CAUSES),
    st.sampled_from(REFUSALS),
    st.integers(-10, 10),
)


def report(world: World, saying: Any) -> None:
    """One forged saying about one of the tasks that there are, or one that there is not."""
    kind, which, exit_code, stopped, cause, refusal, skew_s = saying
    with world.store.read() as reader:
        tasks = sorted(reader.active_tasks(), key=lambda task: task.id)
        records = {record.node.name: record for record in reader.nodes()}
    ids = [task.id for task in tasks] + [next_id(task.id) or "" for task in tasks] + ["0wdnobody-0-1"]
    id = ids[which % len(ids)]
    at_us = world.clock.now_us() + skew_s * 1_000_000
    name = ("n1", "n2")[which % 2]
    if kind == "seen":
        record = records[name]
        names = frozenset(task.id for task in tasks if task.node == name)
        said: Any = NodeSeen(node=record.node, agent=record.agent, tasks=names, at_us=at_us)
    else:
        where = next((task.node for task in tasks if task.id == id and task.node), name)
        said = TaskSeen(
            task=id,
            node=where,
            kind=kind,
            at_us=at_us,
            exit_code=exit_code if kind == "ended" else None,
            signal=9 if kind == "ended" and exit_code is None else None,
            stopped=stopped and kind == "ended",
            cause=refusal if kind == "refused" else cause if kind == "ended" else None,
        )
    world.scheduler.report(Delivery((said, said) if stopped else (said,)))
    world.scheduler.step()


@settings(max_examples=60)
@given(st.lists(SAYING, max_size=25))
def test_forged_late_and_repeated_reports_break_nothing(sayings: list[Any]) -> None:
    world = World([node("n1", 2), node("n2", 2)])
    checkers = Checkers(world)
    jobs = [
        world.submit(spec("physics/devel/a", instances=4)),
        world.submit(spec("physics/prod/b", instances=2, max_failures=-1)),
    ]
    world.settle()
    for saying in sayings:
        if saying[0] == "user":
            act = world.service.jobs.kill if saying[3] else world.service.jobs.restart
            act(ROOT, jobs[saying[1] % 2].uid, [saying[1] % 2])
        elif saying[0] == "rounds":
            world.feed()
            world.scheduler.step()
        else:
            report(world, saying)
        # what a liar says may let the real world run a task twice; the truth must stay whole all the same
        world.backend.violations.clear()
        checkers.check()


@pytest.mark.parametrize("end", ["finished", "failed", "killed", "lost"])
def test_what_has_ended_never_changes(end: str) -> None:
    world = World([node("n1")])
    job = world.submit(spec("physics/devel/a", max_failures=1))
    world.settle()
    task = world.tasks(job)[0]
    if end == "killed":
        world.service.jobs.kill(ROOT, job.uid)
    elif end == "lost":
        world.backend.start_node(node("n1"))
    else:
        world.backend.finish(task.id, 0 if end == "finished" else 1)
    world.settle()
    ended = world.tasks(job)[0]
    assert ended.state is State(end)
    for kind in ("started", "ended", "refused"):
        for exit_code in (0, 1):
            said = TaskSeen(task=task.id, node="n1", kind=kind, at_us=0, exit_code=exit_code)  # type: ignore[arg-type]
            world.scheduler.report(Delivery((said,)))
            world.scheduler.step()
    assert world.tasks(job)[0] == ended
    assert ended.state in TERMINAL


def test_an_old_incarnation_s_words_prove_nothing_about_the_new_one_s_tasks() -> None:
    world = World([node("n1")])
    world.settle()
    old = world.service.nodes.list(ROOT)[0].record
    world.clock.move(1.0)
    world.backend.restart_agent("n1")
    job = world.submit(spec("physics/prod/a"))
    world.settle()
    late = NodeSeen(node=old.node, agent=old.agent, tasks=frozenset(), at_us=old.seen_us)
    world.scheduler.report(Delivery((late,)))
    world.scheduler.step()
    assert world.states(job) == ["0.1 running"]


def test_after_a_clock_was_set_back_an_old_incarnation_s_words_prove_nothing_either() -> None:
    world = World([node("n1")])
    world.settle()
    old = world.service.nodes.list(ROOT)[0].record
    world.move(3600.0)
    world.backend.restart_agent("n1")
    job = world.submit(spec("physics/prod/a"))
    world.settle()
    world.set_clock(-3590.0)
    for at_us in (old.seen_us, world.clock.now_us()):
        late = NodeSeen(node=old.node, agent=old.agent, tasks=frozenset(), at_us=at_us)
        world.scheduler.report(Delivery((late,)))
        world.scheduler.step()
    world.settle()
    assert world.states(job) == ["0.1 running"]


def test_a_node_that_refuses_as_another_incarnation_gets_nothing_until_it_is_heard() -> None:
    world = World([node("n1")])
    world.settle()
    world.set_clock(30.0)
    world.move(20.0)
    world.backend.lose_reports()
    world.settle()
    world.set_clock(-30.0)
    world.backend.start_node(node("n1"))  # with nothing left of its disk: by the clock it was before what is known
    job = world.submit(spec("physics/prod/a", max_failures=-1))
    world.settle()
    assert len(world.tasks(job)) <= 3
    world.move(60.0)
    assert world.states(job)[-1].endswith("running")
    assert len(world.tasks(job)) <= 3


def test_a_refusal_of_another_epoch_proves_nothing() -> None:
    world = World([node("n1")])
    job = world.submit(spec("physics/prod/a"))
    world.settle()
    said = TaskSeen(
        task=world.tasks(job)[0].id, node="n1", kind="refused", at_us=0, cause=Reason("epoch", "a newer leader spoke")
    )
    world.scheduler.report(Delivery((said,)))
    world.scheduler.step()
    assert world.states(job) == ["0.1 running"]


def test_a_node_s_clock_cannot_turn_time_back() -> None:
    world = World([node("n1")])
    job = world.submit(spec("physics/prod/a"))
    world.settle()
    task = world.tasks(job)[0]
    for at_us in (0, 10**18):
        said = TaskSeen(task=task.id, node="n1", kind="ended", at_us=at_us, exit_code=1)
        world.scheduler.report(Delivery((said,)))
    world.scheduler.step()
    ended = world.tasks(job)[0]
    assert ended.started_us is not None
    assert ended.ended_us is not None
    assert task.since_us <= ended.started_us <= ended.ended_us <= world.clock.now_us()


@pytest.mark.parametrize(
    ("id", "parts"),
    [
        ("abc-0-1", ("abc", 0, 1)),
        ("abc-12-345", ("abc", 12, 345)),
        ("abc", None),
        ("abc-1", None),
        ("abc-x-1", None),
        ("abc-1-", None),
        ("abc-\u0661-1", None),
        ("", None),
    ],
)
def test_a_task_s_id_can_be_taken_apart(id: str, parts: tuple[str, int, int] | None) -> None:
    assert parts_of(id) == parts


def test_a_node_was_seen_when_it_was_last_heard_of() -> None:
    world = World([node("n1")])
    world.settle()
    world.move(30.0)
    (view,) = world.service.nodes.list(ROOT)
    assert view.record.seen_us == world.clock.now_us()
    left_us = world.clock.now_us()
    world.scheduler.report(Delivery((NodeGone(node="n1", at_us=left_us + 9, heard_us=left_us),)))
    world.scheduler.step()
    with world.store.read() as reader:
        assert reader.nodes()[0].seen_us == left_us
