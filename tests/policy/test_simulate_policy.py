"""Policy beyond the law in virtual time: the simulation keeps the history that its settings look at."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from test_simulate import S, certified, cluster, run, told, work

from priority.history import Cluster, History
from priority.simulate import Simulation
from priority.workload import workload


def ruled(*cpus: int, **policy: dict[str, float]) -> Cluster:
    return replace(cluster(*cpus), policy=policy)


def test_minimum_run_time_to_the_second() -> None:
    works = work("v", 0, 100), work("p", 5, 10, "prod")
    assert told(run(ruled(1), *works)) == ["v-0 n0 0-5 preempted", "p-0 n0 5-15 finished", "v-0 n0 15-115 finished"]
    assert told(run(ruled(1, min_run_s={"devel": 30}), *works))[0] == "v-0 n0 0-30 preempted"


def test_one_task_is_preempted_only_so_often_an_hour() -> None:
    works = [work("v", 0, 8000), *(work(f"p{n}", 100 + 1000 * n, 10, "prod") for n in range(5))]
    often = [one for one in told(run(ruled(1), *works)) if "preempted" in one]
    assert len(often) == 5
    once = [one for one in told(run(ruled(1, preempted_per_hour={"devel": 1}), *works)) if "preempted" in one]
    assert once == ["v-0 n0 0-100 preempted", "v-0 n0 110-3700 preempted", "v-0 n0 3730-7300 preempted"]


def test_only_so_many_of_a_job_are_gone_at_a_time() -> None:
    works = [work("v", 0, 100, instances=3), *(work(f"p{n}", 10, 20, "prod") for n in range(2))]
    assert [one for one in told(run(ruled(1, 1, 1), *works)) if " 10-" in one] == [
        "p0-0 n0 10-30 finished",
        "p1-0 n1 10-30 finished",
    ]
    limited = told(run(ruled(1, 1, 1, gone_at_once={"devel": 1}), *works))
    assert [one for one in limited if one.startswith("p")] == ["p0-0 n0 10-30 finished", "p1-0 n0 30-50 finished"]


def test_only_so_much_work_is_lost_in_an_hour() -> None:
    works = [work("v", 0, 9000, instances=2), *(work(f"p{n}", 100, 20, "prod", role="q") for n in range(2))]
    for setting in ({"loses_per_hour": {"devel": 150}}, {"destroys_per_hour": {"prod": 150}}):
        found = run(ruled(1, 1, **setting), *works)
        assert [loss.at_us / S for loss in found.losses] == [100]
        assert [one for one in told(found) if one.startswith("p")] == [
            "p0-0 n0 100-120 finished",
            "p1-0 n0 120-140 finished",
        ]


POLICIES: list[dict[str, Any]] = [
    {"min_run_s": {"devel": 300, "opportunistic": 60}, "young_s": {"devel": 3600}},
    {"preempted_per_hour": {"devel": 1, "opportunistic": 2}},
    {"gone_at_once": {"devel": 1, "opportunistic": 2}},
    {"loses_per_hour": {"devel": 3600, "opportunistic": 7200}, "destroys_per_hour": {"prod": 20_000}},
]


@pytest.mark.parametrize("policy", POLICIES, ids="+".join)
def test_every_plan_of_a_workload_is_certified(policy: dict[str, Any]) -> None:
    made = workload(7, jobs=90, days=0.18, cpus=24, load=1.2, widest=8)
    works = [replace(one, request={"cpus": one.request["cpus"]}, job=f"j{n % 9}") for n, one in enumerate(made)]
    found: History = Simulation(ruled(8, 8, 8, **policy), works, check=certified).run()
    plain = Simulation(ruled(8, 8, 8), works).run()
    assert found.losses != plain.losses
    assert len(found.outcomes) == len(plain.outcomes) == sum(one.instances for one in works)
