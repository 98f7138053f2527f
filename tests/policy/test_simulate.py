"""The simulation's core: known answers by hand, and what must hold of every history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from priority.certify import certify
from priority.constraint import Constraint
from priority.history import Cluster, History, Outcome
from priority.job import Backoff
from priority.node import Node
from priority.plan import Plan
from priority.reading import RoleRules
from priority.simulate import Simulation
from priority.snapshot import Snapshot
from priority.tally import Tally, jain, means, spread
from priority.trace import Work
from priority.workload import workload

S = 1_000_000


def cluster(*cpus: int, roles: dict[str, RoleRules] | None = None, **attributes: Sequence[str]) -> Cluster:
    nodes = [
        Node(f"n{i}", {"cpus": many * 1000}, {name: values[i % len(values)] for name, values in attributes.items()})
        for i, many in enumerate(cpus)
    ]
    return Cluster(nodes, roles=roles or {})


def work(id: str, at: float, runs: float, tier: str = "devel", cpus: float = 1, **more: Any) -> Work:
    """`role` and `user` are `r` and `u` unless given; seconds."""
    more = {"role": "r", "user": "u", "notice_us": 0} | more
    request = {"cpus": round(cpus * 1000)}
    return Work(id, round(at * S), round(runs * S), tier=tier, request=request, **more)


def certified(snapshot: Snapshot, plan: Plan) -> None:
    assert certify(snapshot, plan) == []


def run(cluster: Cluster, *works: Work, **options: Any) -> History:
    return Simulation(cluster, works, check=certified, **options).run()


def told(history: History) -> list[str]:
    """`task node start-end outcome`, in seconds and the order of ends."""
    return [f"{one.task} {one.node} {one.start_us / S:g}-{one.end_us / S:g} {one.outcome}" for one in history.attempts]


# --- known answers -----------------------------------------------------------------------------------------------


def test_first_come_first_served_on_one_cpu() -> None:
    history = run(cluster(1), work("a", 0, 10), work("b", 1, 5), work("c", 1, 5))
    assert told(history) == ["a-0 n0 0-10 finished", "b-0 n0 10-15 finished", "c-0 n0 15-20 finished"]
    report = Tally(history).report()
    assert report["makespan_s"] == 20
    assert report["utilisation"] == {"cpus": {"held": 1.0, "useful": 1.0}}
    # waits: 0, 9, 14
    assert report["waits"]["all"] == {
        "tasks": 3, "mean_s": 7.666667, "median_s": 9.0, "p95_s": 14.0, "max_s": 14.0, "never": 0
    }  # fmt: skip


def test_a_victim_holds_its_room_for_its_notice_and_begins_again_from_zero() -> None:
    history = run(
        cluster(4),
        work("d", 0, 100, cpus=4, notice_us=5 * S),
        work("p", 10, 20, "prod", cpus=4),
    )
    assert told(history) == [
        "d-0 n0 0-15 preempted",  # told at 10, gone at 15
        "p-0 n0 15-35 finished",
        "d-0 n0 35-135 finished",
    ]
    report = Tally(history).report()
    assert report["preemptions"] == {
        "total": 1, "tasks": 1, "most_of_one_task": 1, "by_tier": {"devel": 1},
        "lost_cpu_s_by_role": {"r": 40.0}, "destroyed_cpu_s_by_role": {"r": 40.0},
    }  # fmt: skip
    assert report["work"] == {"done_cpu_s": 480.0, "lost_cpu_s": 40.0, "failed_cpu_s": 0.0, "notice_cpu_s": 20.0}
    assert report["waits"]["tiers"]["prod"]["max_s"] == 5
    assert report["utilisation"]["cpus"] == {"held": 1.0, "useful": round(120 / 135, 6)}


def test_a_victim_that_would_end_within_its_notice_holds_its_room_no_longer() -> None:
    history = run(cluster(1), work("d", 0, 12, notice_us=30 * S), work("p", 10, 1, "prod"))
    assert told(history) == ["d-0 n0 0-12 preempted", "p-0 n0 12-13 finished", "d-0 n0 13-25 finished"]


def test_a_victim_whose_job_wants_no_second_attempt_ends_as_preempted() -> None:
    history = run(cluster(1), work("d", 0, 12, requeue=False), work("p", 10, 1, "prod"))
    assert told(history) == ["d-0 n0 0-10 preempted", "p-0 n0 10-11 finished"]
    assert history.outcomes == {"d-0": Outcome.PREEMPTED, "p-0": Outcome.FINISHED}


def test_failures_are_tried_again_after_a_back_off_that_doubles() -> None:
    backoff = Backoff(initial=4, limit=5)
    history = run(cluster(1), work("f", 0, 10, failures=3, max_failures=4, backoff=backoff))
    assert told(history) == [
        "f-0 n0 0-10 failed",
        "f-0 n0 14-24 failed",
        "f-0 n0 29-39 failed",  # 8 is over the limit of 5
        "f-0 n0 44-54 finished",
    ]
    assert history.outcomes == {"f-0": Outcome.FINISHED}


def test_too_many_failures_and_too_long_a_run_time() -> None:
    history = run(cluster(2), work("f", 0, 10, failures=9), work("g", 0, 10, max_runtime_us=3 * S))
    assert told(history) == ["g-0 n0 0-3 failed", "f-0 n0 0-10 failed"]
    assert set(history.outcomes.values()) == {Outcome.FAILED}


def test_a_ceiling_holds_back_and_is_looked_at_again_when_it_frees() -> None:
    roles = {"r": RoleRules(quota={"devel": {"cpus": 2000}})}
    history = run(cluster(8, roles=roles), *(work(f"d{i}", 0, 10) for i in range(4)))
    assert [line.split()[2] for line in told(history)] == ["0-10", "0-10", "10-20", "10-20"]


def test_a_job_over_a_guarantee_is_refused_and_its_room_comes_back_when_the_first_ends() -> None:
    roles = {"r": RoleRules(quota={"prod": {"cpus": 2000}})}
    history = run(
        cluster(8, roles=roles),
        work("a", 0, 10, "prod", instances=2),
        work("b", 5, 10, "prod"),
        work("c", 10, 10, "prod"),
        work("x", 0, 10, "prod", instances=9, role="other"),
    )
    assert history.outcomes["b-0"] is Outcome.REFUSED
    assert history.outcomes["c-0"] is Outcome.FINISHED
    assert sum(outcome is Outcome.FINISHED for outcome in history.outcomes.values()) == 12


def test_a_gang_starts_together() -> None:
    history = run(cluster(2, 2), work("a", 0, 10, cpus=2), work("g", 1, 5, instances=4, gang=True), work("b", 2, 3))
    starts = {one.task: one.start_us / S for one in history.attempts}
    assert [starts[f"g-{i}"] for i in range(4)] == [10, 10, 10, 10]
    assert starts["b-0"] == 2


def test_what_no_node_can_ever_hold_waits_for_ever_and_holds_up_nobody() -> None:
    history = run(cluster(2), work("big", 0, 5, cpus=3), work("a", 1, 5))
    assert history.outcomes == {"a-0": Outcome.FINISHED, "big-0": Outcome.NEVER}
    assert Tally(history).report()["waits"]["all"]["never"] == 1


def test_a_limit_of_the_job_frees_with_its_tasks() -> None:
    one = (Constraint("rack", limit=1),)
    history = run(cluster(4, 4, rack=("r1", "r1")), work("a", 0, 10, instances=3, constraints=one))
    assert sorted(one.start_us / S for one in history.attempts) == [0, 10, 20]


def test_priority_in_a_role_goes_first_and_takes() -> None:
    history = run(cluster(1), work("low", 0, 10), work("high", 4, 10, priority=5))
    assert told(history) == ["low-0 n0 0-4 preempted", "high-0 n0 4-14 finished", "low-0 n0 14-24 finished"]
    assert [loss.rule for loss in history.losses] == [2]


def test_rounds_may_be_kept_apart() -> None:
    history = run(cluster(1), work("a", 1, 1), work("b", 2, 1), work("c", 7, 1), every_us=5 * S)
    assert [one.start_us / S for one in history.attempts] == [1, 6, 11]


def test_nothing_at_all() -> None:
    report = Tally(run(cluster(1))).report()
    assert report["tasks"] == 0 and report["waits"]["all"]["mean_s"] is None
    assert report["fairness"]["jain_shares"] is None


def test_rounds_are_made_only_when_something_can_change() -> None:
    """A backlog of one kind: an arrival behind it, or an end that frees too little, asks nothing of the engine."""
    small = [work(f"s{i}", i, 100, cpus=1) for i in range(4)]
    big = [work(f"b{i}", 10 + i, 10, cpus=4) for i in range(50)]
    history = run(cluster(4), *small, *big)
    # 4 for the small, 1 for the first big, 1 when the last small has ended, 1 for each big that ends before another
    assert history.rounds == 4 + 1 + 1 + 49


# --- the numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waits", "mean", "median", "p95", "most"),
    [
        ([4], 4, 4, 4, 4),
        ([1, 3], 2, 2, 3, 3),
        ([0, 0, 0, 8], 2, 0, 8, 8),
        (list(range(1, 101)), 50.5, 50.5, 95, 100),
    ],
)
def test_spread(waits: list[int], mean: float, median: float, p95: float, most: float) -> None:
    found = spread([wait * S for wait in waits])
    assert (found["mean_s"], found["median_s"], found["p95_s"], found["max_s"]) == (mean, median, p95, most)


def test_jain() -> None:
    assert [jain([1, 1, 1]), jain([1, 0, 0, 0]), jain([]), jain([0, 0]), jain([1, 2])] == [1.0, 0.25, None, None, 0.9]


def test_means_of_intervals() -> None:
    import numpy as np

    found = means(np.array([0.0, 5.0]), np.array([10.0, 15.0]), np.array([2.0, 4.0]), np.array([0.0, 10.0, 20.0]))
    assert found.tolist() == [4.0, 2.0]  # (2*10 + 4*5) / 10, 4*5 / 10


def test_fairness_by_hand() -> None:
    """Two roles of weights 1 and 2 on 3 cpus, each with more than enough to do: one gets 1, the other 2."""
    roles = {"a": RoleRules(weight=1), "b": RoleRules(weight=2)}
    works = [work(f"{role}{i}", 0, 10, role=role) for role in "ab" for i in range(9)]
    history = run(cluster(3, roles=roles), *works)
    first = [one.task[0] for one in history.attempts[:3]]
    assert sorted(first) == ["a", "b", "b"]
    report = Tally(history).report()["fairness"]
    assert report["jain_contended"] == pytest.approx(1.0, abs=1e-3)
    assert report["roles"]["a"]["share"] == report["roles"]["b"]["share"] == 0.5
    assert report["jain_shares"] == 0.9  # 0.5 and 0.25


def test_a_series_adds_up() -> None:
    history = run(cluster(2), work("a", 0, 10), work("b", 0, 10, "prod", cpus=2), work("c", 5, 5, "opportunistic"))
    series = Tally(history).series()
    steps = [b - a for a, b in zip(series.edges, series.edges[1:], strict=False)]
    used = {tier: sum(v * s for v, s in zip(line, steps, strict=True)) for tier, line in series.used.items()}
    assert used == pytest.approx({"prod": 20, "devel": 10, "opportunistic": 5}, rel=1e-3)


# --- what must hold of every history ------------------------------------------------------------------------------

TIERS = ("prod", "devel", "opportunistic")
RACKS = (("r1", "r2"), ("r2", "r3"))


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Cluster, list[Work]]:
    cpus = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    roles = {
        name: RoleRules(draw(st.sampled_from((1.0, 2.0))), {"devel": {"cpus": draw(st.integers(1, 5)) * 1000}})
        for name in draw(st.sets(st.sampled_from("ab")))
    }
    constraint = st.one_of(
        st.just(()),
        st.sampled_from(RACKS).map(lambda racks: (Constraint("rack", within=frozenset(racks)),)),
        st.just((Constraint("host", limit=1),)),
    )
    works = []
    for index in range(draw(st.integers(1, 14))):
        works.append(
            Work(
                f"j{index}",
                draw(st.integers(0, 12)) * S,
                draw(st.integers(0, 9)) * S,
                draw(st.sampled_from("ab")),
                draw(st.sampled_from("uv")),
                draw(st.sampled_from(TIERS)),
                {"cpus": draw(st.integers(1, 4)) * 1000},
                instances=draw(st.integers(1, 3)),
                priority=draw(st.integers(0, 1)),
                constraints=draw(constraint),
                gang=draw(st.booleans()),
                notice_us=draw(st.integers(0, 4)) * S,
                requeue=draw(st.booleans()),
                failures=draw(st.integers(0, 2)),
                max_failures=draw(st.sampled_from((1, 2, -1))),
            )
        )
    return replace(cluster(*cpus, rack=("r1", "r2", "r3")), roles=roles), works


def check_history(history: History, works: Sequence[Work]) -> None:
    """Every instance ends once; none runs twice at once, before it came, or too long; no node is over its capacity."""
    names = {f"{one.id}-{instance}": one for one in works for instance in range(one.instances)}
    assert history.outcomes.keys() == names.keys()
    ends: dict[str, int] = {}
    for one in sorted(history.attempts, key=lambda attempt: (attempt.task, attempt.start_us, attempt.end_us)):
        of = names[one.task]
        assert of.submit_us <= one.start_us <= one.end_us <= one.start_us + of.runtime_us
        assert ends.get(one.task, 0) <= one.start_us
        assert one.outcome is Outcome.PREEMPTED or one.end_us - one.start_us == of.runtime_us
        ends[one.task] = one.end_us
    done = [one.task for one in history.attempts if one.outcome is Outcome.FINISHED]
    assert sorted(done) == sorted(id for id, end in history.outcomes.items() if end is Outcome.FINISHED)
    assert len(history.losses) == sum(one.outcome is Outcome.PREEMPTED for one in history.attempts)
    capacity = {node.name: node.capacity["cpus"] for node in history.cluster.nodes}
    changes: list[tuple[int, int, str, int]] = []
    for one in history.attempts:
        amount = works[one.work].request["cpus"]
        if one.end_us > one.start_us:
            changes += [(one.start_us, 1, one.node, amount), (one.end_us, 0, one.node, -amount)]
    held = dict.fromkeys(capacity, 0)
    for _, _, node, amount in sorted(changes):
        held[node] += amount
        assert 0 <= held[node] <= capacity[node]


def check_waits(history: History) -> None:
    """Between coming and ending, an instance waits or runs."""
    starts = sorted((one.task, one.start_us) for one in history.attempts)
    assert starts == sorted((one.task, one.until_us) for one in history.waits if one.until_us is not None)
    never = {one.task for one in history.waits if one.until_us is None}
    assert never == {id for id, outcome in history.outcomes.items() if outcome is Outcome.NEVER}


@settings(max_examples=150, deadline=None)
@given(worlds())
def test_nothing_is_lost_and_no_node_is_over_its_capacity(world: tuple[Cluster, list[Work]]) -> None:
    cluster, works = world
    history = run(cluster, *works)
    check_history(history, works)
    check_waits(history)


class Eager(Simulation):
    """Looks at everybody at each event."""

    def _stir(self) -> bool:
        return self._crowd.wake()

    def _frees_by_rule(self, gone: object) -> bool:
        return True

    def _decide(self) -> tuple[Plan, set[str]]:
        self._crowd.wake()
        return super()._decide()


def test_who_is_launched_in_room_kept_for_it_may_be_taken_by_one_that_waited_before_it() -> None:
    works = [
        work("q", 0, 20, "prod", cpus=2),
        work("o", 0, 90, "opportunistic", cpus=2, notice_us=9 * S),
        work("x", 1, 21, "prod", cpus=1),
        work("p", 2, 10, "prod", cpus=4),  # the whole of n0, of which q has a half
        work("d", 15, 90, cpus=2),  # takes the room of o, which is kept for it until 24; at 20 there is other room
    ]
    lean, eager = Simulation(cluster(4, 1), works).run(), Eager(cluster(4, 1), works).run()
    assert [(loss.at_us // S, loss.victim) for loss in lean.losses] == [(15, 1), (22, 4), (24, 4)]
    assert lean.attempts == eager.attempts


@pytest.mark.parametrize("seed", (0, 1, 3))
def test_what_saves_looks_changes_no_decision_of_a_crowd(seed: int) -> None:
    """Over a backlog of many kinds, each with many that wait."""
    works = list(workload(seed, jobs=90, days=0.1, cpus=24, load=1.5))
    cluster = Cluster([Node(f"n{i}", {"cpus": 12000, "mem": 49152}) for i in range(2)])
    lean = Simulation(cluster, works).run()
    eager = Eager(cluster, works, shown=1000).run()
    assert lean.attempts == eager.attempts
    assert lean.losses == eager.losses


@settings(max_examples=150, deadline=None)
@given(worlds())
def test_what_saves_looks_changes_no_decision(world: tuple[Cluster, list[Work]]) -> None:
    """Only those looked at whom a change may help, or everybody at each event: the same history."""

    cluster, works = world
    lean = Simulation(cluster, works, shown=1).run()
    eager = Eager(cluster, works, shown=1000).run()
    assert lean.attempts == eager.attempts
    assert lean.losses == eager.losses


@pytest.mark.parametrize("seed", range(3))
def test_the_same_seed_gives_the_same_history(seed: int) -> None:
    def once() -> History:
        works = list(workload(seed, jobs=150, days=0.2, cpus=24, load=1.3))
        nodes = [Node(f"n{i}", {"cpus": 8000, "mem": 32768}) for i in range(3)]
        return Simulation(Cluster(nodes), works).run()

    first, again = once(), once()
    assert first.attempts == again.attempts and Tally(first).report() == Tally(again).report()


def test_the_workload_is_what_was_asked_for() -> None:
    works = list(workload(7, jobs=5000, days=10, cpus=1000, load=0.8))
    assert [one.submit_us for one in works] == sorted(one.submit_us for one in works)
    assert works[-1].submit_us < 10 * 86_400 * S
    asked = sum(one.runtime_us / S * one.request["cpus"] / 1000 for one in works)
    assert asked == pytest.approx(0.8 * 1000 * 10 * 86_400, rel=0.01)
    assert {one.tier for one in works} == set(TIERS)
    assert works == list(workload(7, jobs=5000, days=10, cpus=1000, load=0.8))
    assert works != list(workload(8, jobs=5000, days=10, cpus=1000, load=0.8))
