"""Memory of jobs that name none: what admission fills in, and who sees it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from postgres import Postgres

from priority.cron import CronSpec, parse_spec
from priority.errors import Conflict, Invalid, QuotaExceeded
from priority.job import JobSpec
from priority.node import Node
from priority.service.build import Service, assemble
from priority.service.jobs import Accepted, Submission
from priority.service.settings import Settings

from .world import ADA, ROOT, World, node, spec

KEY = "physics/prod/x"


def with_setting(world: World, **settings: Any) -> Service:
    """Another process of the same service, with other settings."""
    return assemble(replace(world.parts, settings=world.settings.model_copy(update=settings)))


def answer(service: Service, key: str | None, *specs: JobSpec) -> Any:
    (found,) = service.jobs.submit([Submission(ADA, specs, key)])
    return found


def test_so_many_fit_on_a_node_and_no_more() -> None:
    for default, fit in ((128, 4), (0, 8)):
        world = World([Node("n1", {"cpus": 8000, "mem": 512}, {})], mem_default_mib=default)
        job = world.submit(spec("physics/devel/x", instances=8))
        world.settle()
        assert sum("running" in state for state in world.states(job)) == fit


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_retry_is_one_though_the_setting_changed_meanwhile(database: str, request: pytest.FixtureRequest) -> None:
    server: Postgres | None = request.getfixturevalue("postgres") if database == "postgres" else None
    world = World(mem_default_mib=128, url="sqlite://" if server is None else server.create())
    first = answer(world.service, "k1", spec(KEY, cpus=2))
    assert isinstance(first, Accepted)
    assert first.jobs[0].spec.resources == {"cpus": 2000, "mem": 256}
    for mib in (128, 512, 0):
        again = answer(with_setting(world, mem_default_mib=mib), "k1", spec(KEY, cpus=2))
        assert isinstance(again, Accepted) and again.replayed
        assert again.jobs[0].spec.resources == {"cpus": 2000, "mem": 256}
    # To say what one would get is to say something else.
    said = answer(world.service, "k1", spec(KEY, resources={"cpus": 2, "mem": 256}))
    assert isinstance(said, Conflict)
    world.store.close()


def test_the_quota_counts_it() -> None:
    roles = {"physics": {"quota": {"prod": {"cpus": 8, "mem": 512}}, "users": {"ada": {}}}}
    world = World(roles=roles, mem_default_mib=128)
    world.submit(spec(KEY, instances=3))
    refused = answer(world.service, None, spec("physics/prod/y", cpus=2))
    assert isinstance(refused, QuotaExceeded)
    assert (refused.details["ask"], refused.details["short"]) == ({"cpus": 2, "mem": 256}, {"mem": 128})
    foretold = world.service.whatif.ask(ADA, [spec("physics/prod/y", cpus=2)])
    assert foretold.refusal is not None and foretold.refusal.message == refused.message
    foretold = world.service.whatif.ask(ADA, [spec("physics/prod/y")])
    assert foretold.quotas[0].use_after == {"cpus": 4000, "mem": 512}


def test_what_was_admitted_before_stays_as_it_is() -> None:
    world = World([node("n1", 8)], mem_default_mib=0)
    old = world.submit(spec(KEY, instances=2))
    now = with_setting(world, mem_default_mib=128)
    assert now.jobs.scale(ROOT, KEY, 3).spec.resources == {"cpus": 1000}
    assert world.store_usage() == {("physics", "prod", "root"): {"cpus": 3000}}
    now.jobs.kill(ROOT, old.uid)
    assert world.store_usage() in ({}, {("physics", "prod", "root"): {"cpus": 0}})


def cron() -> CronSpec:
    made = parse_spec({"role": "physics", "tier": "prod", "name": "c", "command": "true", "schedule": "@hourly"})
    assert isinstance(made, CronSpec)
    return made


def test_a_cron_job_keeps_the_default_of_its_submission() -> None:
    world = World(mem_default_mib=128)
    assert world.service.crons.submit(ADA, cron()).look.cron.spec.resources == {"cpus": 1000, "mem": 128}
    assert not world.service.crons.submit(ADA, cron()).changed
    assert world.store_usage() == {("physics", "prod", "ada"): {"cpus": 1000, "mem": 128}}
    now = with_setting(world, mem_default_mib=256)
    now.crons.start(ADA, "physics/prod/c")
    assert now.jobs.get(ADA, "physics/prod/c").spec.resources == {"cpus": 1000, "mem": 128}
    kept = now.crons.submit(ADA, cron())
    assert kept.changed and kept.look.cron.spec.resources == {"cpus": 1000, "mem": 256}


def test_no_memory_at_all_is_refused_and_told_apart() -> None:
    world = World(mem_default_mib=128)
    none = spec(KEY, resources={"cpus": 1, "mem": 0})
    refused = answer(world.service, None, spec("physics/devel/a"), none)
    assert isinstance(refused, Invalid) and refused.field == "jobs[1].resources.mem"
    with pytest.raises(Invalid, match=r"resources\.mem: must be more than 0"):
        world.service.whatif.ask(ADA, [none])
    with pytest.raises(Invalid, match=r"resources\.mem: must be more than 0"):
        world.service.crons.submit(ADA, cron().model_copy(update={"resources": {"cpus": 1000, "mem": 0}}))
    off = answer(with_setting(world, mem_default_mib=0), None, none)
    assert isinstance(off, Accepted) and off.jobs[0].spec.resources == {"cpus": 1000}


def test_the_least_tier_on_mesos_may_ask_for_none() -> None:
    assert Settings(backend="mesos").job_limits.mem_none == {"opportunistic"}
    assert Settings().job_limits.mem_none == ()


@pytest.mark.parametrize(
    ("settings", "cpus", "memory"),
    [
        ({}, 4, "8GiB"),
        ({}, 100, "12800MiB"),
        ({"agent_mem": "2GiB"}, 100, "2GiB"),
        ({"mem_default_mib": 0}, 1000, "8GiB"),
    ],
)
def test_an_agent_that_is_not_told_its_memory_has_enough(settings: dict[str, Any], cpus: float, memory: str) -> None:
    assert Settings(**settings).memory_of(cpus) == memory
