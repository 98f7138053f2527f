"""Who is let in: grants, names, quotas, idempotency, and many at once."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from priority.errors import Conflict, Invalid, NotFound, PriorityError, QuotaExceeded
from priority.job import Job
from priority.records import JobQuery, Page, User
from priority.service.jobs import Accepted, Submission
from priority.task import State

from .world import ADA, BEN, EVE, ROOT, World, node, spec

PHYSICS_8 = {"physics": {"quota": {"prod": {"cpus": 8}}, "users": {"ada": {"quota": {"prod": {"cpus": 3}}}, "ben": {}}}}


@pytest.mark.parametrize(
    ("actor", "fields", "error", "says"),
    [
        (EVE, {}, NotFound, "there is no role physics, or you have no grant for it"),
        (User("nobody"), {}, NotFound, "there is no role physics, or you have no grant for it"),
        (ROOT, {"role": "atlantis"}, NotFound, "there is no role atlantis, or you have no grant for it"),
        (ADA, {"tier": "gold"}, Invalid, "tier: 'gold' is not a tier; there are prod, devel, opportunistic"),
        (ADA, {"instances": 100_001}, Invalid, "instances: is too large"),
        (ADA, {"cpus": 9}, QuotaExceeded, "cpus: quota 8, in use 0, asked 9, short by 1"),
        (BEN, {"role": "chem"}, QuotaExceeded, "role chem has no quota in tier prod, so it runs nothing there"),
    ],
)
def test_a_refusal_says_why_and_leaves_nothing(
    actor: User, fields: dict[str, Any], error: type[PriorityError], says: str
) -> None:
    world = World()
    before = world.service.jobs.last_event()
    with pytest.raises(error) as caught:
        world.submit(spec(f"{fields.pop('role', 'physics')}/{fields.pop('tier', 'prod')}/x", **fields), actor=actor)
    assert says in caught.value.message
    assert world.service.jobs.last_event() == before
    assert world.store_usage() == {}
    assert world.service.jobs.list(ROOT, *everything())[0] == []


def everything() -> tuple[Any, Any]:
    from priority.records import JobQuery, Page

    return JobQuery(), Page(100)


def test_what_is_hidden_reads_like_what_is_not_there() -> None:
    world = World()
    world.submit(spec("physics/prod/secret"))
    answers = []
    for ref in ("physics/prod/secret", "physics/prod/absent"):
        with pytest.raises(NotFound) as caught:
            world.service.jobs.get(EVE, ref)
        answers.append((caught.value.message.replace(ref, ""), dict(caught.value.details)))
    assert answers[0] == answers[1]


def test_a_user_s_own_part_of_the_quota_is_held_too() -> None:
    world = World(roles=PHYSICS_8)
    world.submit(spec("physics/prod/a", cpus=3), actor=ADA)
    with pytest.raises(QuotaExceeded, match="user ada of role physics, tier prod") as caught:
        world.submit(spec("physics/prod/b"), actor=ADA)
    assert caught.value.details == {
        "owner": "user ada of role physics, tier prod",
        "quota": {"cpus": 3},
        "use": {"cpus": 3},
        "ask": {"cpus": 1},
        "short": {"cpus": 1},
    }
    world.submit(spec("physics/prod/b", cpus=5), actor=BEN)
    with pytest.raises(QuotaExceeded, match="role physics, tier prod"):
        world.submit(spec("physics/prod/c"), actor=BEN)


def test_a_preemptible_tier_admits_more_than_runs() -> None:
    world = World([node("n1", 4)], roles={"physics": {"quota": {"devel": {"cpus": 2}}, "users": {"ada": {}}}})
    job = world.submit(spec("physics/devel/sim", instances=4), actor=ADA)
    world.settle()
    assert world.count(job, State.RUNNING) == 2
    waiting = [task for task in world.tasks(job) if task.state is State.PENDING]
    assert {task.reason.code for task in waiting if task.reason} == {"ceiling"}


def test_a_name_is_free_again_when_its_job_has_ended() -> None:
    world = World([node("n1")])
    first = world.submit(spec("physics/prod/reco"))
    with pytest.raises(Conflict, match="is active already; kill it, wait for its end, or take another name"):
        world.submit(spec("physics/prod/reco"))
    world.service.jobs.kill(ROOT, first.uid)
    second = world.submit(spec("physics/prod/reco"))
    assert second.uid != first.uid
    assert world.service.jobs.get(ROOT, "physics/prod/reco").uid == second.uid


def test_the_same_key_and_body_is_the_same_request() -> None:
    world = World()
    request = Submission(ADA, (spec("physics/prod/a"), spec("physics/devel/b")), "k1")
    (first,) = world.service.jobs.submit([request])
    (again,) = world.service.jobs.submit([request])
    assert isinstance(first, Accepted)
    assert isinstance(again, Accepted)
    assert (first.replayed, again.replayed) == (False, True)
    assert [job.uid for job in again.jobs] == [job.uid for job in first.jobs]
    assert len(world.events("job.submitted")) == 2
    # and so it is when both come in one transaction
    both = Submission(BEN, (spec("physics/devel/c"),), "k2")
    one, two = world.service.jobs.submit([both, both])
    assert isinstance(one, Accepted)
    assert isinstance(two, Accepted)
    assert one.jobs == two.jobs
    assert two.replayed


def test_the_same_key_with_another_body_is_refused() -> None:
    world = World()
    world.submit(spec("physics/devel/a"), key="k1")
    with pytest.raises(Conflict, match="the idempotency key 'k1' was used for another request"):
        world.submit(spec("physics/devel/b"), key="k1")
    # a key is the role's own
    world.submit(spec("web/devel/a"), key="k1")


def test_a_request_is_all_or_nothing_and_hinders_no_other() -> None:
    world = World()
    good, bad, rest = world.service.jobs.submit(
        [
            Submission(ADA, (spec("physics/prod/a", cpus=5),)),
            Submission(ADA, (spec("physics/prod/b", cpus=1), spec("physics/prod/c", cpus=3)), "k"),
            Submission(ADA, (spec("physics/prod/b", cpus=3),), "k"),
        ]
    )
    assert isinstance(good, Accepted)
    assert isinstance(bad, QuotaExceeded)
    assert isinstance(rest, Accepted)
    assert world.store_usage() == {("physics", "prod", "ada"): {"cpus": 8000}}


def test_one_request_does_not_take_a_name_twice() -> None:
    world = World()
    with pytest.raises(Invalid) as caught:
        world.submit(spec("physics/devel/a"), spec("physics/devel/b"), spec("physics/devel/a"))
    assert caught.value.field == "jobs[2].name"


def test_a_bulk_names_the_job_that_is_wrong() -> None:
    world = World()
    with pytest.raises(Invalid) as caught:
        world.submit(spec("physics/devel/a"), spec("physics/devel/b", instances=200_000))
    assert caught.value.field == "jobs[1].instances"
    with pytest.raises(Invalid, match="must be from 1 to 1000 jobs"):
        world.submit(*[spec(f"physics/devel/j{index}") for index in range(1001)])


def test_sixty_four_who_take_the_last_unit_at_once_get_one_yes(tmp_path: Path) -> None:
    world = World(roles={"physics": {"quota": {"prod": {"cpus": 8}}}}, url=f"sqlite:///{tmp_path}/p.db")
    world.submit(spec("physics/prod/most", cpus=7))
    start = threading.Barrier(64)
    answers: list[Job | PriorityError] = []

    def take(index: int) -> None:
        start.wait()
        try:
            answers.append(world.submit(spec(f"physics/prod/last{index}")))
        except PriorityError as error:
            answers.append(error)

    threads = [threading.Thread(target=take, args=(index,)) for index in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 64
    assert sum(isinstance(answer, Job) for answer in answers) == 1
    refusals = [answer for answer in answers if isinstance(answer, QuotaExceeded)]
    assert len(refusals) == 63
    assert {str(refusal.details["short"]) for refusal in refusals} == {"{'cpus': 1}"}
    assert world.store_usage() == {("physics", "prod", "root"): {"cpus": 8000}}
    world.store.close()


def test_each_accepted_request_leaves_an_audit_row() -> None:
    world = World()
    world.submit(spec("physics/prod/a"), actor=ADA)
    world.submit(spec("physics/devel/b"), spec("physics/devel/c"), actor=ADA)
    with pytest.raises(QuotaExceeded):
        world.submit(spec("physics/prod/d", cpus=99), actor=ADA)
    from priority.records import Page

    rows, _ = world.service.roles.audits(BEN, Page(10))
    made = [(row.who, row.subject) for row in rows if row.action == "job.submit"]
    assert made == [("ada", "jobs:2 of physics"), ("ada", "job:physics/prod/a")]
    assert world.service.roles.audits(ADA, Page(10))[0] == []


def test_what_is_submitted_together_is_told_together() -> None:
    """Told apart, the lower tier would start and give way to the higher one of the same request a moment later."""
    world = World([node("n1", 2)])
    world.settle()
    low, high = spec("physics/opportunistic/low", instances=2), spec("physics/devel/high", instances=2)
    world.submit(low, high)
    (call,) = world.queue.take()
    world.scheduler.call([call])
    world.settle()
    jobs = {job.spec.name: job for job in world.service.jobs.list(ROOT, JobQuery(), Page(10))[0]}
    assert (call.tier, call.jobs) == ("devel", (jobs["high"].uid, jobs["low"].uid))
    assert world.states(jobs["high"]) == ["0.1 running", "1.1 running"]
    assert world.states(jobs["low"]) == ["0.1 pending", "1.1 pending"]
    assert world.events("task.preempting") == []
