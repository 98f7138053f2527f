"""`GET /v1/metrics`, as Prometheus' own parser reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from priority.face import metrics
from priority.node import NodeState
from priority.records import PreemptionSum
from priority.service.metrics import Metrics, Wait

from .live import Live, parts_in, serving, spec

Sample = tuple[str, frozenset[tuple[str, str]]]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with serving(parts_in(tmp_path_factory.mktemp("metrics")), scheduler=False) as found:
        yield found


def samples(text: str) -> dict[Sample, float]:
    families = list(text_string_to_metric_families(text))
    assert all(family.documentation for family in families)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def named(name: str, **labels: str) -> Sample:
    return f"priority_{name}", frozenset(labels.items())


def get(live: Live, user: str) -> httpx.Response:
    return httpx.get(f"{live.url}/v1/metrics", headers={"authorization": f"Bearer {live.tokens[user]}"})


def test_a_cluster_admin_gets_what_is(live: Live) -> None:
    live.client().submit(spec("devel/waits", instances=3))
    answer = get(live, "root")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = samples(answer.text)
    assert found[named("waiting", tier="devel", reason="new")] == 3
    assert found[named("longest_wait_seconds", tier="devel")] >= 0
    assert found[named("longest_wait_seconds", tier="prod")] == 0
    assert found[named("quota", role="physics", tier="prod", resource="cpus")] == 8
    assert found[named("scheduler_leads")] == 0
    assert found[named("part_ok", part="database")] == 1
    assert found[named("part_ok", part="scheduler")] == 0
    assert found[named("events_total")] == live.service.jobs.last_event()
    assert not any(name.startswith("priority_mesos") for name, _ in found)


@pytest.mark.parametrize("user", ["ada", "ben"])
def test_who_is_no_cluster_admin_gets_nothing(live: Live, user: str) -> None:
    answer = get(live, user)
    assert answer.status_code in (403, 404) and "priority_" not in answer.text


def test_all_that_there_may_be() -> None:
    sums = [PreemptionSum("reco", "mc", None, 2, 5 * 10**9), PreemptionSum("reco", "mc", "started", 7, 10**9)]
    one = Metrics(
        now_us=60_000_000,
        nodes={NodeState.UP: 2, NodeState.DRAINING: 1, NodeState.DOWN: 0},
        capacity={"cpus": 8500, "mem": 1024},
        held={("reco", "prod"): {"cpus": 1500}},
        quota={("reco", "prod"): {"cpus": 4000, "mem": 2048}},
        waits={"prod": Wait({"no-room": 2, "limit": 1}, 15_000_000), "devel": Wait({}, 60_000_000)},
        preemptions=sums,
        last_event=42,
        epoch=3,
        led=True,
    )
    noted = {"offers": 9, "events.update": 4, "offers_held": 2, "connected": True, "tasks": {"runs": 5}, "at": "now",
             "round_trip_ms": None}  # fmt: skip
    found = samples(metrics.text(one, 1, {"database": "ok", "redis": "no"}, noted).decode())
    assert found == {
        named("nodes", state="up"): 2, named("nodes", state="draining"): 1, named("nodes", state="down"): 0,
        named("capacity", resource="cpus"): 8.5, named("capacity", resource="mem"): 1024,
        named("held", role="reco", tier="prod", resource="cpus"): 1.5,
        named("quota", role="reco", tier="prod", resource="cpus"): 4,
        named("quota", role="reco", tier="prod", resource="mem"): 2048,
        named("waiting", tier="prod", reason="no-room"): 2, named("waiting", tier="prod", reason="limit"): 1,
        named("longest_wait_seconds", tier="prod"): 45, named("longest_wait_seconds", tier="devel"): 0,
        named("preemptions_last_hour", preemptor="reco", victim="mc", fate="open"): 2,
        named("preemptions_last_hour", preemptor="reco", victim="mc", fate="started"): 7,
        named("preemptions_lost_cpu_seconds_last_hour", preemptor="reco", victim="mc", fate="open"): 5,
        named("preemptions_lost_cpu_seconds_last_hour", preemptor="reco", victim="mc", fate="started"): 1,
        named("part_ok", part="database"): 1, named("part_ok", part="redis"): 0,
        named("scheduler_leads"): 1, named("scheduler_epochs_total"): 3, named("events_total"): 42,
        named("plans_refused_last_day"): 1,
        named("mesos_connected"): 1, named("mesos_offers_held"): 2, named("mesos_tasks", phase="runs"): 5,
        named("mesos_driver_total", what="offers"): 9, named("mesos_driver_total", what="events.update"): 4,
    }  # fmt: skip


def test_the_drivers_note_is_told_on_mesos(tmp_path: Path) -> None:
    parts = parts_in(tmp_path, backend="mesos")
    with parts.store.write() as writer:
        writer.put_note("mesos.standing", json.dumps({"connected": True, "offers_held": 7}))
    with serving(parts, scheduler=False) as live:
        assert samples(get(live, "root").text)[named("mesos_offers_held")] == 7
