"""What would happen if: the answer is held against what then does happen, and asking changes nothing."""

from __future__ import annotations

import random
from typing import Any

import pytest

from priority.backend.memory import Play
from priority.errors import Conflict, Invalid, NotFound, QuotaExceeded, TooLarge
from priority.job import JobSpec
from priority.records import JobQuery, Page, PreemptionQuery, User
from priority.resources import plain
from priority.service.whatif import Forecast
from priority.task import State

from .world import ADA, BEN, EVE, ROOT, World, node, spec


def ask(world: World, *specs: JobSpec, actor: User = ROOT) -> Forecast:
    before = everything(world)
    rung: list[Any] = []
    world.queue.ring = lambda *rest: rung.append(rest)  # type: ignore[method-assign]
    found = world.service.whatif.ask(actor, specs)
    del world.queue.ring
    assert everything(world) == before and rung == []
    return found


def everything(world: World) -> Any:
    with world.store.read() as reader:
        return (
            reader.last_event(),
            reader.usage(),
            sorted(reader.active_tasks(), key=lambda task: task.id),
            reader.jobs(JobQuery(), Page(1000)),
            reader.audits(Page(1000)),
            reader.preemptions(PreemptionQuery(), Page(1000)),
            reader.nodes(),
            reader.roles(),
        )


def told(found: Forecast) -> list[tuple[str, tuple[int, ...], str | None, float | None, str | None]]:
    """Of each place: verdict, instances, node, seconds until the latest start, and the reason's code."""
    return [
        (
            place.verdict,
            place.instances,
            place.node,
            None if place.until_us is None else (place.until_us - found.at_us) / 1e6,
            place.reason.code if place.reason else None,
        )
        for place in found.places
    ]


# --- where, whom, how long


def test_where_there_is_room() -> None:
    world = World([node("n1", 4), node("n2", 2)])
    world.settle()
    found = ask(world, spec("physics/devel/a", cpus=2, instances=4))
    assert found.verdict == "waits"
    assert sorted((one[0], len(one[1]), one[2]) for one in told(found)) == [
        ("starts", 1, "n2"), ("starts", 2, "n1"), ("waits", 1, None),
    ]  # fmt: skip
    assert ask(world, spec("physics/devel/a", cpus=2, instances=3)).verdict == "starts"


def test_whom_it_would_displace_and_at_what_cost() -> None:
    world = World([node("n1", 4)], play=lambda _: Play(obeys_s=3.0))
    devel = world.submit(spec("physics/devel/sim", cpus=4, preempt={"notice": 7}), actor=ADA)
    world.settle()
    world.move(10.0)
    prod = spec("web/prod/shop")
    found = ask(world, prod, actor=EVE)
    assert told(found) == [("starts-later", (0,), "n1", 7.0, None)]
    (victim,) = found.displaced
    assert (victim.task, victim.job, victim.instance, victim.node) == (f"{devel.uid}-0-1", "physics/devel/sim", 0, "n1")
    assert (victim.taker, victim.taker_instance, victim.rule, victim.lost) == ("web/prod/shop", 0, "tier", 4 * 10**10)
    assert (victim.comes_back, victim.user) == (True, None)
    assert ask(world, prod).displaced[0].user == "ada"  # an admin's question
    # and so it is
    job = world.submit(prod, actor=EVE)
    world.settle()
    assert next(task.kept_for for task in world.tasks(devel)) == f"{job.uid}-0-1"
    assert world.service.preemptions.list(ROOT, Page())[0][0].record.lost == victim.lost
    # what is dying leaves room for one more, in time
    assert told(ask(world, spec("web/prod/more", cpus=3))) == [("starts-later", (0,), "n1", 7.0, None)]


def test_it_waits_until_enough_has_ended_at_the_latest() -> None:
    world = World([node("n1", 4), node("n2", 4)])
    world.submit(spec("web/prod/a", cpus=2, max_runtime=100, kill_grace=5, max_failures=1))
    world.settle()
    world.move(10.0)
    world.submit(spec("web/prod/b", cpus=2, max_runtime=50, kill_grace=5, max_failures=1))
    world.submit(spec("web/prod/c", cpus=4))
    world.settle()
    assert told(ask(world, spec("web/prod/one", cpus=1))) == [("waits", (0,), None, 55.0, "no-room")]
    assert told(ask(world, spec("web/prod/four", cpus=4))) == [("waits", (0,), None, 95.0, "no-room")]
    two = told(ask(world, spec("web/prod/two", cpus=2, instances=3)))
    assert [(one[0], len(one[1]), one[3]) for one in two] == [
        ("waits", 1, 55.0), ("waits", 1, 95.0), ("waits", 1, None),
    ]  # fmt: skip
    # what has no max_runtime may run for ever
    world.service.jobs.kill(ROOT, "web/prod/a")
    world.service.jobs.kill(ROOT, "web/prod/b")
    world.settle()
    world.submit(spec("web/prod/d", cpus=4))
    world.settle()
    assert told(ask(world, spec("web/prod/one"))) == [("waits", (0,), None, None, "no-room")]


def test_what_is_tried_again_and_what_waits_already_goes_first() -> None:
    world = World([node("n1", 4)])
    world.submit(spec("web/prod/again", cpus=4, max_runtime=100, kill_grace=0, max_failures=2, priority=9))
    world.settle()
    # its next attempt has a higher priority in the same role, and is its last
    assert told(ask(world, spec("web/prod/one"))) == [("waits", (0,), None, 200.0, "no-room")]
    world.service.jobs.kill(ROOT, "web/prod/again")
    world.settle()
    world.submit(spec("web/prod/once", cpus=4, max_runtime=100, kill_grace=0, max_failures=1))
    world.settle()
    world.submit(spec("web/prod/first", cpus=4))
    world.move(1.0)
    assert told(ask(world, spec("web/prod/second", cpus=1))) == [("waits", (0,), None, None, "no-room")]
    assert told(ask(world, spec("web/prod/now", cpus=1, priority=1)))[0][0] == "starts-later"


def test_one_instance_waits_for_another_of_the_same_job() -> None:
    world = World([node("n1", 2)])
    world.settle()
    own = spec("web/prod/own", cpus=2, instances=2, max_runtime=60, kill_grace=10, max_failures=1)
    assert [(one[0], one[3]) for one in told(ask(world, own))] == [("starts", 0.0), ("waits", 70.0)]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"cpus": 99}, "no-node"),
        ({"constraints": [{"attribute": "rack", "in": ["none"]}]}, "constraint"),
        ({"cpus": 3, "instances": 2, "gang": True}, "gang"),
        ({"constraints": [{"attribute": "host", "limit": 1}], "instances": 2}, "limit"),
    ],
)
def test_why_it_would_wait(fields: dict[str, Any], code: str) -> None:
    world = World([node("n1", 4, rack="r1")])
    world.settle()
    found = told(ask(world, spec("web/prod/a", **fields)))
    assert (found[-1][0], found[-1][3], found[-1][4]) == ("waits", None, code)


def test_a_node_that_is_silent_or_drained_takes_nothing() -> None:
    world = World([node("n1", 4), node("n2", 4)])
    world.settle()
    world.service.nodes.drain(ROOT, "n2")
    world.backend.cut("n1")
    world.move(10.0)
    assert told(ask(world, spec("web/prod/a"))) == [("waits", (0,), None, None, "no-room")]


# --- the quota


def test_the_quota_after() -> None:
    world = World([node("n1", 4)], roles={"physics": {"quota": {"prod": {"cpus": 8}, "devel": {"cpus": 3}}, "users": {
        "ada": {"quota": {"prod": {"cpus": 5}}}}}})  # fmt: skip
    world.submit(spec("physics/prod/old", cpus=1), actor=ADA)
    world.submit(spec("physics/devel/old", cpus=1, instances=3), actor=ADA)
    world.settle()

    def lines(*specs: JobSpec) -> list[Any]:
        return [
            (one.role, one.tier, one.user, one.quota and plain(one.quota), plain(one.use), plain(one.use_after),
             plain(one.held), plain(one.held_after))
            for one in ask(world, *specs, actor=ADA).quotas
        ]  # fmt: skip

    prod = {"cpus": 1}, {"cpus": 4}, {"cpus": 1}, {"cpus": 4}
    assert lines(spec("physics/prod/new", cpus=1, instances=3)) == [
        ("physics", "prod", None, {"cpus": 8}, *prod),
        ("physics", "prod", "ada", {"cpus": 5}, *prod),
    ]
    # a ceiling holds back what it does not allow to run
    assert lines(spec("physics/devel/new", cpus=1)) == [
        ("physics", "devel", None, {"cpus": 3}, {"cpus": 3}, {"cpus": 4}, {"cpus": 3}, {"cpus": 3})
    ]


def test_over_quota_it_answers_with_what_a_submission_would_be_told() -> None:
    world = World([node("n1", 4)])
    over = spec("physics/prod/big", cpus=3, instances=3)
    found = ask(world, over)
    assert found.verdict == "refused" and found.places == ()
    assert isinstance(found.refusal, QuotaExceeded)
    with pytest.raises(QuotaExceeded) as refused:
        world.submit(over)
    assert (refused.value.message, refused.value.details) == (found.refusal.message, found.refusal.details)
    # in sum, too
    assert ask(world, spec("physics/prod/a", cpus=5), spec("physics/prod/b", cpus=5)).verdict == "refused"
    assert isinstance(ask(world, spec("chem/prod/a")).refusal, QuotaExceeded)


def test_a_name_that_is_in_use() -> None:
    world = World([node("n1", 4)])
    world.submit(spec("physics/devel/a"))
    assert isinstance(ask(world, spec("physics/devel/a")).refusal, Conflict)


def test_what_is_no_question() -> None:
    world = World([node("n1", 4)], instances_limit=10)
    world.settle()
    for actor in (EVE, User("nil")):
        for role in ("physics", "norole"):
            with pytest.raises(NotFound, match=f"there is no role {role}, or you have no grant for it"):
                ask(world, spec(f"{role}/devel/a"), actor=actor)
    with pytest.raises(NotFound):
        ask(world, spec("norole/devel/a"))
    with pytest.raises(Invalid, match="tier"):
        ask(world, spec("physics/devel/a").model_copy(update={"tier": "none"}))
    with pytest.raises(TooLarge, match="12 instances"):
        ask(world, spec("physics/devel/a", instances=6), spec("physics/devel/b", instances=6))
    assert ask(world, spec("physics/devel/a"), actor=BEN).verdict == "starts"


# --- the honest prediction


def random_spec(chance: random.Random, name: str) -> JobSpec:
    tier = chance.choice(["prod", "devel", "devel", "opportunistic"])
    fields: dict[str, Any] = {"cpus": chance.choice([0.5, 1, 2, 3]), "instances": chance.randint(1, 5)}
    fields |= {"priority": chance.choice([0, 0, 5]), "gang": chance.random() < 0.2}
    if chance.random() < 0.3:
        kinds = ({"attribute": "rack", "in": ["r1"]}, {"attribute": "host", "limit": 1})
        fields["constraints"] = [chance.choice(kinds)]
    if chance.random() < 0.3:
        fields["max_runtime"] = chance.choice([30, 90])
    return spec(f"{chance.choice(['physics', 'chem', 'web'])}/{tier}/{name}", **fields)


@pytest.mark.parametrize("seed", range(60))
def test_what_is_foretold_is_what_the_scheduler_does(seed: int) -> None:
    chance = random.Random(seed)
    nodes = [node(f"n{number}", chance.choice([2, 4, 6]), rack=f"r{number % 2}") for number in range(4)]
    users: dict[str, Any] = {"quota": {"prod": {"cpus": 9}, "devel": {"cpus": 12}}, "users": {"root": {}}}
    play = Play(obeys_s=chance.choice([0.0, 2.0]))
    world = World(nodes, roles={"physics": users, "chem": users, "web": users}, play=lambda _: play, seed=seed)
    for number in range(chance.randint(0, 12)):
        filler = random_spec(chance, f"old{number}")
        if ask(world, filler).verdict != "refused":
            world.submit(filler)
        if chance.random() < 0.5:
            world.move(chance.choice([0.0, 1.0, 20.0]))
    world.settle()
    new = random_spec(chance, "new")
    found = ask(world, new)
    if found.verdict == "refused":
        with pytest.raises(QuotaExceeded):
            world.submit(new)
        return
    job = world.submit(new)
    with world.store.read() as reader:
        others = [task for task in reader.active_tasks() if task.state is State.PENDING and task.job != job.uid]
    world.queue.take()  # so that the sweep, or this call, finds it in one round
    world.scheduler._sweep_us = 0
    world.scheduler.step()
    tasks = world.tasks(job)
    with world.store.read() as reader:
        victims = {task.id: task.kept_for for task in reader.active_tasks() if task.state is State.PREEMPTING}
    starts = {number: place.node for place in found.places if place.verdict == "starts" for number in place.instances}
    assert {task.instance: task.node for task in tasks if task.state is not State.PENDING} == starts
    ours = {victim: taker for victim, taker in victims.items() if taker is not None and taker.startswith(job.uid)}
    assert ours == {one.task: f"{job.uid}-{one.taker_instance}-1" for one in found.displaced}
    waits = {number: place.reason for place in found.places if place.verdict == "waits" for number in place.instances}
    # one that waits like those that were refused before is told so without a plan of its own, in a moment
    codes = {task.instance: task.reason and task.reason.code for task in tasks if task.state is State.PENDING}
    codes = {number: code or "no-room" for number, code in codes.items()}
    later = {
        number: place.node for place in found.places if place.verdict == "starts-later" for number in place.instances
    }
    assert codes == {**dict.fromkeys(later, "reserved"), **{n: one and one.code for n, one in waits.items()}}
    world.move(5.0)
    until = {number: place.until_us for place in found.places for number in place.instances}
    for task in world.tasks(job):
        # maybe elsewhere, if room has come there sooner; or not yet, if others wait too and it is their turn by then
        if task.instance in later and task.attempt == 1 and not others:
            assert task.started_us is not None and task.started_us <= (until[task.instance] or 0)


@pytest.mark.parametrize("seed", range(40))
def test_what_waits_has_started_by_the_moment_that_was_told(seed: int) -> None:
    """Everything runs as long as it may, and nothing more comes."""
    chance = random.Random(1000 + seed)
    nodes = [node(f"n{number}", chance.choice([2, 4])) for number in range(3)]
    free: dict[str, Any] = {"quota": {"prod": {"cpus": 1000}}}
    world = World(nodes, roles={"a": free, "b": free}, play=lambda one: Play(run_s=one.spec.max_runtime), seed=seed)

    def some(name: str) -> JobSpec:
        fields: dict[str, Any] = {"cpus": chance.choice([1, 2]), "instances": chance.randint(1, 3)}
        fields |= {"max_runtime": chance.choice([30, 60, 90]) if chance.random() < 0.9 else None}
        fields |= {"max_failures": 1, "kill_grace": 0}
        return spec(f"{chance.choice('ab')}/{chance.choice(['prod', 'devel'])}/{name}", **fields)

    for number in range(chance.randint(4, 9)):
        world.submit(some(f"old{number}"))
        world.move(chance.choice([1.0, 10.0]))
    new = some("new")
    until = {n: place.until_us for place in ask(world, new).places for n in place.instances}
    job = world.submit(new)
    last_us = max((by_us for by_us in until.values() if by_us is not None), default=0)
    world.move(max(0.0, (last_us - world.clock.now_us()) / 1e6) + 1.0)
    for task in world.tasks(job):
        by_us = until[task.instance]
        if by_us is not None and task.attempt == 1:
            assert task.started_us is not None and task.started_us <= by_us, (task.instance, until)


def test_the_search_for_the_moment_stops_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not found out is told later than it is, never earlier."""
    world = World([node(f"n{number}", 1) for number in range(8)])
    for number in range(8):
        world.submit(spec(f"web/prod/a{number}", max_runtime=100 + number, kill_grace=0, max_failures=1))
    world.settle()
    new = spec("web/prod/new", instances=8)
    exact = [one[3] or 0.0 for one in told(ask(world, new))]
    assert exact == [100.0 + number for number in range(8)]
    monkeypatch.setattr("priority.service.latest.ROUNDS_MAX", 3)
    rough = {instance: one[3] for one in told(ask(world, new)) for instance in one[1]}
    assert all((rough[number] or 0) >= exact[number] for number in range(8)) and len(set(rough.values())) < 8
    monkeypatch.setattr("priority.service.latest.ROUNDS_S", 0.0)
    assert [one[3] for one in told(ask(world, new))] == [None]
