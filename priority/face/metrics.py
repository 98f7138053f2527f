"""`GET /v1/metrics`: the metrics in Prometheus' text format (https://prometheus.io/docs/instrumenting/exposition_formats).

Amounts are in the units of all our documents: cpus in cores, mem and disk in MiB. Names begin with `priority_`; times
are in seconds. What grows only is a counter; what is of the last hour or of this moment is a gauge.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from priority.resources import Resources, plain
from priority.service.metrics import Metrics

Family = GaugeMetricFamily | CounterMetricFamily

CPU_SECOND = 1e9
"""In the ledger's unit: milli-cores times microseconds."""

MESOS_GAUGES = {
    "connected": "Whether the driver is subscribed",
    "agents_up": "Agents that are there",
    "offers_held": "Offers that are held",
    "round_trip_ms": "From ACCEPT to the first update of a task, mean, milliseconds",
}


def text(found: Metrics, refused: int, parts: Mapping[str, str], mesos: Mapping[str, Any]) -> bytes:
    """`refused`: plans refused by certify; `parts`: as in `/v1/health`; `mesos`: what its driver has noted, if any."""
    registry = CollectorRegistry()
    registry.register(_Once([*_cluster(found), *_work(found), *_service(found, refused, parts), *_mesos(mesos)]))
    return generate_latest(registry)


class _Once(Collector):
    def __init__(self, families: Iterable[Family]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Family]:
        return self._families


def _gauge(name: str, help: str, labels: tuple[str, ...], rows: Iterable[tuple[tuple[str, ...], float]]) -> Family:
    family = GaugeMetricFamily(f"priority_{name}", help, labels=labels)
    for values, value in sorted(rows):
        family.add_metric(values, value)
    return family


def _counter(name: str, help: str, labels: tuple[str, ...], rows: Iterable[tuple[tuple[str, ...], float]]) -> Family:
    family = CounterMetricFamily(f"priority_{name}", help, labels=labels)
    for values, value in sorted(rows):
        family.add_metric(values, value)
    return family


def _amounts(of: Iterable[tuple[tuple[str, ...], Resources]]) -> Iterator[tuple[tuple[str, ...], float]]:
    for labels, resources in of:
        for name, amount in plain(resources).items():
            yield (*labels, name), float(amount)


def _cluster(found: Metrics) -> Iterator[Family]:
    nodes = (((state.value,), float(many)) for state, many in found.nodes.items())
    yield _gauge("nodes", "Nodes by state", ("state",), nodes)
    yield _gauge("capacity", "Capacity of the nodes that take work", ("resource",), _amounts([((), found.capacity)]))
    owner = ("role", "tier", "resource")
    yield _gauge("held", "What tasks on nodes hold", owner, _amounts(found.held.items()))
    yield _gauge("quota", "Quotas as they are set", owner, _amounts(found.quota.items()))


def _work(found: Metrics) -> Iterator[Family]:
    waits = found.waits.items()
    many = (((tier, code), float(count)) for tier, wait in waits for code, count in wait.codes.items())
    yield _gauge("waiting", "Instances that wait for room, by the code of why", ("tier", "reason"), many)
    longest = (((tier,), (found.now_us - wait.since_us) / 1e6) for tier, wait in waits)
    yield _gauge("longest_wait_seconds", "How long the one that waits longest does", ("tier",), longest)
    sides = ("preemptor", "victim", "fate")
    sums = [((one.preemptor, one.victim, one.fate or "open"), one) for one in found.preemptions]
    counts = [(labels, float(one.count)) for labels, one in sums]
    yield _gauge("preemptions_last_hour", "Victims of the last hour, by role, by what became of it", sides, counts)
    lost = [(labels, one.lost / CPU_SECOND) for labels, one in sums]
    yield _gauge("preemptions_lost_cpu_seconds_last_hour", "The work that they lost", sides, lost)


def _service(found: Metrics, refused: int, parts: Mapping[str, str]) -> Iterator[Family]:
    well = (((part,), float(said == "ok")) for part, said in parts.items())
    yield _gauge("part_ok", "Whether a part works, as in /v1/health", ("part",), well)
    yield _gauge("scheduler_leads", "Whether a scheduler leads", (), [((), float(found.led))])
    yield _counter("scheduler_epochs", "So often a scheduler took the lead", (), [((), float(found.epoch))])
    yield _counter("events", "Events so far", (), [((), float(found.last_event))])
    yield _gauge("plans_refused_last_day", "Plans that certify refused in the last day", (), [((), float(refused))])


def _mesos(noted: Mapping[str, Any]) -> Iterator[Family]:
    if not noted:
        return
    for name, help in MESOS_GAUGES.items():
        if noted.get(name) is not None:
            yield _gauge(f"mesos_{name}", help, (), [((), float(noted[name]))])
    tasks = (((phase,), float(many)) for phase, many in noted.get("tasks", {}).items())
    yield _gauge("mesos_tasks", "Tasks that the driver knows, by phase", ("phase",), tasks)
    numbers = {name: value for name, value in noted.items() if type(value) is int and name not in MESOS_GAUGES}
    counts = (((name,), float(value)) for name, value in numbers.items())
    yield _counter("mesos_driver", "What the driver has counted since it began", ("what",), counts)
