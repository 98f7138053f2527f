"""A warning for what no node could ever hold."""

from __future__ import annotations

import random
from typing import Any

import pytest

from priority.errors import Unavailable
from priority.node import Node
from priority.records import User
from priority.resources import parse
from priority.service import largest
from priority.service.jobs import Accepted, Submission
from priority.service.largest import Largest

from .world import ADA, BEN, ROOT, World, node, spec


def warnings(world: World, *specs: Any) -> list[str]:
    asked = Largest(world.parts)
    asked.refresh()
    return asked.warnings(specs)


def test_what_no_node_could_hold_is_said_as_the_engine_says_it() -> None:
    world = World([node("n1", 4), node("n2", 8)])
    world.settle()
    assert warnings(world, spec("web/prod/a", cpus=8)) == []
    (line,) = warnings(world, spec("web/prod/huge", cpus=9))
    job = world.submit(spec("web/prod/huge", cpus=9))
    world.settle()
    reason = world.tasks(job)[0].reason
    assert reason is not None and reason.code == "no-node"
    assert line == f"{reason.message}; it waits until one comes"


def test_a_node_that_is_down_could_hold_it_and_without_nodes_nothing_is_known() -> None:
    world = World([node("n1", 8)])
    assert warnings(world, spec("web/prod/a", cpus=99)) == []
    world.settle()
    world.backend.kill_node("n1")
    world.move(100.0)
    assert warnings(world, spec("web/prod/a", cpus=8)) == []


def test_no_single_node_has_that_much_of_all_at_once() -> None:
    nodes = [Node("n1", parse({"cpus": 8, "mem": "1GiB"}, "")), Node("n2", parse({"cpus": 1, "mem": "64GiB"}, ""))]
    world = World(nodes)
    world.settle()
    (line,) = warnings(world, spec("web/prod/a", resources={"cpus": 2, "mem": "2GiB"}))
    assert "no single node has that much of all at once" in line
    assert warnings(world, spec("web/prod/a", resources={"cpus": 1, "mem": "2GiB"})) == []
    (line,) = warnings(world, spec("web/prod/a", resources={"cpus": 1, "licence": 1}))
    assert "the most that one has is licence 0" in line


def test_of_many_jobs_those_that_ask_alike_are_named_once() -> None:
    world = World([node("n1", 4)])
    world.settle()
    jobs = [spec(f"web/prod/j{number}", cpus=[1, 5, 6][number % 3]) for number in range(9)]
    first, second = warnings(world, *jobs)
    assert first.startswith("jobs[1] (web/prod/j1) and 2 more: no node could ever hold it: it asks for cpus 5,")
    assert second.startswith("jobs[2] (web/prod/j2) and 2 more: no node")


def test_what_is_known_is_read_anew_now_and_then_by_one() -> None:
    now_s = 0.0
    world = World([node("n1", 4)])
    world.settle()
    asked = Largest(world.parts, lambda: now_s)
    assert asked.unread and [asked.due(), asked.due()] == [True, False]
    asked.refresh()
    assert not asked.unread and asked.sure()
    now_s = 1.0
    assert not asked.sure() and not asked.due()
    now_s = largest.FRESH_S
    assert [asked.due(), asked.due()] == [True, False]
    assert asked.warnings([spec("web/prod/a", cpus=6)])
    world.backend.start_node(node("n2", 6))
    world.settle()
    asked.refresh()
    assert asked.warnings([spec("web/prod/a", cpus=6)]) == []


def test_the_first_node_is_not_waited_for_long() -> None:
    now_s = 0.0
    world = World([])
    asked = Largest(world.parts, lambda: now_s)
    assert asked.due()
    asked.refresh()
    assert not asked.due()
    now_s = largest.SURE_S
    world.backend.start_node(node("n1", 4))
    world.settle()
    assert asked.due()
    asked.refresh()
    assert asked.warnings([spec("web/prod/a", cpus=6)]) and not asked.due()


def test_a_database_that_does_not_answer_fails_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World([node("n1", 4)])
    world.settle()
    asked = Largest(world.parts)
    asked.refresh()

    def lost(*_: Any) -> Any:
        raise Unavailable("not now")

    monkeypatch.setattr(world.store, "read", lost)
    asked.refresh()
    assert asked.warnings([spec("web/prod/a", cpus=6)])


CEILINGS = {
    "physics": {
        "quota": {"devel": {"cpus": 6}, "prod": {"cpus": 100}},
        "users": {"ada": {"quota": {"devel": {"cpus": 3}}}, "ben": {}},
    }
}


@pytest.mark.parametrize(
    ("actor", "job", "line"),
    [
        (BEN, {"instances": 6, "gang": True}, None),
        (BEN, {"instances": 60}, None),
        (BEN, {"instances": 7, "gang": True},
         "its gang of 7 asks for cpus 7 at once, but the ceiling of role physics in tier devel is cpus 6"),
        (BEN, {"cpus": 7}, "it asks for cpus 7, but the ceiling of role physics in tier devel is cpus 6"),
        (ADA, {"instances": 2, "cpus": 2, "gang": True},
         "its gang of 2 asks for cpus 4 at once, but the ceiling of user ada of role physics in tier devel is cpus 3"),
    ],
)  # fmt: skip
def test_what_asks_more_than_its_ceiling_never_starts(actor: User, job: dict[str, Any], line: str | None) -> None:
    """Told when it is submitted, and when asked why it waits."""
    world = World([node(f"n{number}", 16) for number in range(2)], roles=CEILINGS)
    (done,) = world.service.jobs.submit([Submission(actor, (spec("physics/devel/a", **job),), "k")])
    assert isinstance(done, Accepted)
    never = "it will never start unless the quota is raised"
    assert done.warnings == (() if line is None else (f"{line}: {never}",))
    (again,) = world.service.jobs.submit([Submission(actor, (spec("physics/devel/a", **job),), "k")])
    assert isinstance(again, Accepted) and again.replayed and again.warnings == done.warnings
    world.settle()
    assert (never in world.service.explain(actor, done.jobs[0].uid).summary) == (line is not None)


def test_longer_notice_than_is_given_is_said() -> None:
    world = World([node("n1")], notice_limit_s=20.0)
    asked = {"kill_grace": 3600, "preempt": {"notice": 77.5}}
    (done,) = world.service.jobs.submit([Submission(ROOT, (spec("physics/devel/a", **asked),))])
    assert isinstance(done, Accepted)
    given = "20 s are given (setting notice_limit_s)"
    assert done.warnings == (
        f"kill_grace: 3600 s are asked for, {given}",
        f"preempt.notice: 77.5 s are asked for, {given}",
    )
    (done,) = world.service.jobs.submit([Submission(ROOT, (spec("physics/devel/b"),))])
    assert isinstance(done, Accepted) and done.warnings == (), "the default of 30 s was not asked for"


def test_a_gang_over_its_ceiling_is_told_before_and_when_it_grows() -> None:
    world = World([node("n1", 16)], roles=CEILINGS)
    gang = spec("physics/devel/a", instances=7, gang=True)
    (line,) = world.service.whatif.ask(BEN, [gang]).warnings
    assert line.startswith("its gang of 7 asks for cpus 7 at once, but the ceiling of role physics")
    small = world.submit(spec("physics/devel/b", instances=2, gang=True), actor=BEN)
    assert world.service.jobs.ceilings(world.job(small)) == []
    grown = world.service.jobs.scale(BEN, small.uid, 7)
    assert world.service.jobs.ceilings(grown) == [line]


def test_a_guarantee_is_no_ceiling_and_many_jobs_are_told_together() -> None:
    world = World([node("n1", 16)], roles=CEILINGS)
    specs = tuple(spec(f"physics/{tier}/j{k}", cpus=7) for k, tier in enumerate(["prod", "devel", "devel"]))
    (done,) = world.service.jobs.submit([Submission(BEN, specs)])
    assert isinstance(done, Accepted)
    (line,) = done.warnings
    assert line.startswith("jobs[1] (physics/devel/j1) and 1 more: it asks for cpus 7, but the ceiling of role physics")


@pytest.mark.parametrize("seed", range(20))
def test_nobody_is_warned_of_what_a_node_could_hold(seed: int) -> None:
    """However many sizes there are; and of few sizes, everybody is who should be."""
    chance = random.Random(seed)
    many = chance.choice([3, 30, 300])
    sizes = [{"cpus": chance.randint(1, 20) * 1000, "mem": chance.randint(1, 20)} for _ in range(many)]
    kept = largest._largest(sizes)
    for _ in range(200):
        request = {"cpus": chance.randint(1, 22) * 1000, "mem": chance.randint(1, 22)}
        holds = any(all(size[name] >= request[name] for name in request) for size in sizes)
        never = largest._never(request, kept) is not None
        assert never != holds or (many == 300 and not never)
