"""The ledger of preemptions: written down by the plan, settled by what becomes of the preemptor."""

from __future__ import annotations

from typing import Any

import pytest

from priority import lifecycle
from priority.backend.memory import Play
from priority.errors import NotFound
from priority.job import Job
from priority.reason import Reason
from priority.records import Page, PreemptionQuery, PreemptionRecord, Side, User
from priority.service.ledger import Ledger
from priority.service.preemptions import PreemptionView

from .world import ADA, BEN, EVE, ROOT, World, node, spec


def ledger(world: World, actor: User = ROOT, **which: Any) -> list[PreemptionView]:
    return world.service.preemptions.list(actor, Page(100), **which)[0]


def outcomes(world: World) -> list[tuple[str, str]]:
    return [(one.outcome, one.message) for one in ledger(world)]


def stormy(*, play: Play = Play(obeys_s=3.0), **prod: Any) -> tuple[World, Job, Job]:  # noqa: B008 - frozen
    """A devel task of ada's that ran for 10 s on 4 cpus; a prod job that has just taken its room."""
    world = World([node("n1", 4)], play=lambda _: play)
    devel = world.submit(spec("physics/devel/sim", cpus=4), actor=ADA)
    world.settle()
    world.move(10.0)
    job = world.submit(spec("web/prod/shop", **prod), actor=EVE)
    world.settle()
    return world, devel, job


def test_who_for_whom_by_which_rule_at_what_cost_and_that_it_started() -> None:
    world, devel, job = stormy()
    (one,) = ledger(world)
    record = one.record
    assert (record.victim.task, record.victim.key, record.victim.user) == (
        f"{devel.uid}-0-1",
        "physics/devel/sim",
        "ada",
    )
    assert (record.preemptor.task, record.preemptor.key) == (f"{job.uid}-0-1", "web/prod/shop")
    assert (record.node, record.rule, record.lost, record.at_us) == (
        "n1",
        "tier",
        4_000 * 10_000_000,
        world.clock.now_us(),
    )
    assert (one.victim.state, one.preemptor.state) == ("preempting", "pending")
    assert outcomes(world) == [
        ("waiting", "waits still: starts on n1 once a task of physics/devel/sim that it preempted has left it")
    ]
    world.move(3.0)
    assert outcomes(world) == [("started", "started on n1")]
    fate = ledger(world)[0].record.fate
    assert fate is not None and fate.at_us == world.tasks(job)[0].started_us
    # what becomes of it later is another story
    world.service.jobs.kill(ROOT, job.uid)
    world.settle()
    assert outcomes(world) == [("started", "started on n1")]


def test_a_higher_priority_in_the_same_role() -> None:
    world = World([node("n1", 1)])
    world.submit(spec("physics/devel/low"))
    world.settle()
    world.submit(spec("physics/devel/high", priority=5))
    world.settle()
    assert [one.record.rule for one in ledger(world)] == ["priority"]
    assert outcomes(world) == [("started", "started on n1")]


def test_killed_while_it_waited() -> None:
    world, _, job = stormy()
    world.service.jobs.kill(EVE, job.uid, why="not needed")
    assert outcomes(world) == [("killed", "killed by eve: not needed")]
    world.move(5.0)
    assert outcomes(world) == [("killed", "killed by eve: not needed")]


def test_another_instance_scaled_away_changes_nothing() -> None:
    world, _, job = stormy(cpus=2, instances=2)
    world.service.jobs.scale(EVE, job.uid, 1)
    world.move(5.0)
    assert [one.record.preemptor.task for one in ledger(world)] == [f"{job.uid}-0-1"]
    assert outcomes(world) == [("started", "started on n1")]


def test_its_node_was_lost() -> None:
    world, _, _ = stormy(play=Play(obeys_s=None))
    world.backend.kill_node("n1")
    world.move(80.0)
    assert [one.victim.state for one in ledger(world)] == ["preempted"]
    ((outcome, message),) = outcomes(world)
    assert outcome == "waiting" and message.startswith("waits still: ")


def test_it_could_not_be_started() -> None:
    world = World([node("n1", 4)], play=lambda launch: Play(starts="prod" not in launch.job))
    world.submit(spec("physics/devel/sim", cpus=4))
    world.settle()
    world.submit(spec("web/prod/shop", max_failures=1))
    world.settle()
    ((outcome, message),) = outcomes(world)
    assert outcome == "failed" and message


def test_one_that_ended_before_it_was_seen_to_run_has_started() -> None:
    world = World([node("n1", 4)], play=lambda launch: Play(run_s=0.0 if "prod" in launch.job else None))
    world.submit(spec("physics/devel/sim", cpus=4))
    world.settle()
    world.submit(spec("web/prod/shop"))
    world.move(1.0)
    assert outcomes(world) == [("started", "started on n1")]


def test_of_a_victim_that_finished_after_all_nothing_was_lost() -> None:
    world = World([node("n1", 4)])
    devel = world.submit(spec("physics/devel/sim", cpus=4))
    world.settle()
    world.move(10.0)
    world.submit(spec("web/prod/shop"))
    victim = world.tasks(devel)[0].id
    world.backend.faults = world.backend.faults.__class__(lose=1.0)  # the stop does not reach it
    world.feed()
    world.scheduler.step()
    world.backend.faults = world.backend.faults.__class__()
    world.backend.finish(victim)
    world.settle()
    (one,) = ledger(world)
    assert (one.victim.state, one.record.lost) == ("finished", 0)


def test_what_each_may_see() -> None:
    world, devel, job = stormy()
    assert [len(ledger(world, who)) for who in (ADA, EVE, ROOT, User("nil"))] == [1, 1, 1, 0]
    (mine,), (hers,) = ledger(world, ADA), ledger(world, EVE)
    assert (mine.victim.user, mine.victim.state, mine.preemptor.user, mine.preemptor.state) == (
        *("ada", "preempting"),
        *("eve", None),
    )
    assert (hers.victim.user, hers.victim.state, hers.preemptor.user, hers.preemptor.state) == (
        *(None, None),
        *("eve", "pending"),
    )
    world.service.jobs.kill(EVE, job.uid, why="a secret")
    (mine,), (hers,) = ledger(world, ADA), ledger(world, EVE)
    assert (mine.outcome, mine.message) == ("killed", "was killed before it had started")
    assert (hers.outcome, hers.message) == ("killed", "killed by eve: a secret")
    # a role or a job that is hidden is as if it were not there
    assert ledger(world, ADA, role="web") == ledger(world, ADA, role="no") == []
    for ref in (job.uid, "web/prod/shop", "web/prod/none"):
        with pytest.raises(NotFound, match="or you have no grant for it"):
            ledger(world, ADA, job=ref)
    assert len(ledger(world, ADA, role="physics")) == len(ledger(world, ADA, job=devel.uid)) == 1
    assert len(ledger(world, EVE, job="web/prod/shop")) == 1
    assert ledger(world, ROOT, since_us=world.clock.now_us() + 1) == []


def test_totals_both_ways() -> None:
    world = World([node("n1", 4), node("n2", 4)])
    world.submit(spec("physics/devel/sim", cpus=4, instances=2), actor=ADA)
    world.settle()
    world.move(10.0)
    world.submit(spec("web/prod/shop", cpus=4), actor=EVE)
    world.submit(spec("physics/prod/reco", cpus=4), actor=BEN)
    world.settle()

    def told(actor: User, **which: Any) -> tuple[Any, Any]:
        found = world.service.preemptions.totals(actor, **which)
        roles = [(one.role, one.took.count, one.took.lost, one.gave.count, one.gave.lost) for one in found.roles]
        return roles, [(one.preemptor, one.victim, one.tally.started) for one in found.pairs]

    each = 4_000 * 10_000_000
    physics, web = ("physics", 1, each, 2, 2 * each), ("web", 1, each, 0, 0)
    both = [("physics", "physics", 1), ("web", "physics", 1)]
    assert told(ROOT) == ([physics, web], both)
    assert told(ADA) == ([physics], both)
    assert told(EVE) == ([web], both[1:])
    assert told(EVE, role="physics") == ([], [])
    assert told(ROOT, role="web") == ([web], both[1:])
    assert told(ROOT, since_us=world.clock.now_us() + 1) == ([], [])


ENDS: list[tuple[str, list[tuple[lifecycle.Event, dict[str, Any]]], tuple[str, str | None] | None]] = [
    ("is starting", [(lifecycle.Event.PLACE, {})], None),
    ("runs", [(lifecycle.Event.PLACE, {}), (lifecycle.Event.STARTED, {"started_us": 5})], ("started", None)),
    (
        "ran and failed",
        [
            *((lifecycle.Event.PLACE, {}), (lifecycle.Event.STARTED, {"started_us": 5})),
            (lifecycle.Event.FAILED, {"exit_code": 1}),
        ],
        ("started", None),
    ),
    ("had finished", [(lifecycle.Event.PLACE, {}), (lifecycle.Event.SUCCEEDED, {"exit_code": 0})], ("started", None)),
    ("had failed", [(lifecycle.Event.PLACE, {}), (lifecycle.Event.FAILED, {"exit_code": 3})], ("started", None)),
    (
        "could not begin",
        [(lifecycle.Event.PLACE, {}), (lifecycle.Event.FAILED, {"reason": Reason("exec", "no such program")})],
        ("failed", "no such program"),
    ),
    (
        "its node was lost",
        [(lifecycle.Event.PLACE, {}), (lifecycle.Event.GONE, {"reason": Reason("node-gone", "node n1 was lost")})],
        ("lost", "node n1 was lost"),
    ),
    (
        "stopped by others",
        [(lifecycle.Event.PLACE, {}), (lifecycle.Event.STOPPED, {"reason": Reason("stopped", "not by us")})],
        ("stopped", "not by us"),
    ),
    ("killed as it waited", [(lifecycle.Event.KILL, {"reason": Reason("killed", "by eve")})], ("killed", "by eve")),
    (
        "killed as it started",
        [
            (lifecycle.Event.PLACE, {}),
            *((lifecycle.Event.KILL, {"reason": Reason("killed", "by eve")}), (lifecycle.Event.STOPPED, {})),
        ],
        ("killed", "by eve"),
    ),
    (
        "preempted itself",
        [
            (lifecycle.Event.PLACE, {}),
            *((lifecycle.Event.PREEMPT, {"reason": Reason("preempted", "for more")}), (lifecycle.Event.GONE, {})),
        ],
        ("preempted", "for more"),
    ),
]


@pytest.mark.parametrize(("moves", "fate"), [end[1:] for end in ENDS], ids=[end[0] for end in ENDS])
def test_what_became_of_it(
    moves: list[tuple[lifecycle.Event, dict[str, Any]]], fate: tuple[str, str | None] | None
) -> None:
    """By every way out, each in a transaction of its own."""
    world = World([node("n1", 4)])
    job = world.submit(spec("web/prod/shop"))
    task = world.tasks(job)[0].id
    side = Side(task, job.uid, "web", "prod", "shop", "root")
    with world.store.write() as writer:
        writer.add_preemptions(
            [PreemptionRecord(1, Side("v-0-1", "v", "physics", "devel", "sim", "ada"), side, "n1", "tier", 1)]
        )
    for event, values in moves:
        with world.store.write() as writer:
            book = Ledger(writer, 7, writer.tasks_of([task]).values(), {job.uid: job})
            assert book.move(task, event, **values) is not None
            book.write()
    with world.store.read() as reader:
        (found,), _ = reader.preemptions(PreemptionQuery(), Page())
    assert (None if found.fate is None else (found.fate.code, found.fate.cause)) == fate
