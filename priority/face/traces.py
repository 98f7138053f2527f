"""Files of a simulation: the trace, the nodes, the policy. Each fault is one line that names file, line and field."""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from priority import resources, strict, unique
from priority.errors import Invalid, Malformed, PriorityError
from priority.history import Cluster
from priority.node import Node
from priority.snapshot import Snapshot
from priority.tier import DEFAULT_TIERS
from priority.trace import Work, parse_line, parse_swf
from priority.workload import workload

FAULTS_MAX = 10
"""So many faults of a trace are told at once."""

NODES_MAX = 1_000_000
_POLICY = ("tiers", "roles", "policy")
_EPOCH = "1970-01-01T00:00:00Z"


class Faulty(Malformed):
    """The trace cannot be read"""

    def __init__(self, faults: list[str]) -> None:
        super().__init__(faults[0])
        self.faults = faults
        """One line each; there may be more in the file."""


# --- the trace ---------------------------------------------------------------------------------------------------


def read_trace(path: Path, cluster: Cluster, queues: Mapping[int, str], tier: str) -> tuple[list[Work], int]:
    """The works of a trace of either format, gzip or not, and how many lines of it were left out. `Faulty`."""
    works: list[Work] = []
    seen: dict[str, int] = {}
    faults: list[str] = []
    left_out = 0
    widest = widest_of(cluster.nodes)
    swf: bool | None = True if ".swf" in path.suffixes else None
    for number, line in enumerate(_lines(path), 1):
        text = line.strip()
        if not text:
            continue
        if swf is None:
            swf = text[0] in ";0123456789-"
        try:
            work = parse_swf(text, queues, tier, widest) if swf else parse_line(_json(text), number)
            if work is None:
                left_out += text[0] != ";"
                continue
            _check(work, cluster, seen)
        except PriorityError as error:
            faults.append(f"{path}: line {number}: {error.message}")
            if len(faults) == FAULTS_MAX:
                break
            continue
        seen[work.id] = number
        works.append(work)
    if faults:
        raise Faulty(faults)
    return works, left_out


def _check(work: Work, cluster: Cluster, seen: Mapping[str, int]) -> None:
    if work.id in seen:
        raise Invalid("id", f"{work.id!r} is there twice; first on line {seen[work.id]}")
    if work.tier not in cluster.tiers:
        raise Invalid("tier", f"{work.tier!r} is not a tier; there are {', '.join(cluster.tiers)}")


def _json(text: str) -> Any:
    try:
        return strict.read(text)
    except Malformed as error:
        raise Malformed(error.message.replace("snapshot: ", "line: ", 1)) from None


def _lines(path: Path) -> Iterator[str]:
    try:
        if str(path) == "-":
            yield from sys.stdin
        elif path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="utf-8") as file:
                yield from file
        else:
            with path.open(encoding="utf-8") as file:
                yield from file
    except UnicodeDecodeError:
        raise Malformed(f"{path}: is not UTF-8 text") from None
    except (OSError, EOFError, zlib.error) as error:
        raise Malformed(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def write_trace(path: Path, works: Iterable[Work]) -> int:
    """In our own format, gzip if its name ends so; how many lines."""
    lines = (json.dumps(line_of(work)) + "\n" for work in works)
    if path.suffix != ".gz":
        with path.open("w", encoding="utf-8") as plain:
            return sum(plain.write(line) > 0 for line in lines)
    with gzip.open(path, "wt", encoding="utf-8") as packed:
        return sum(packed.write(line) > 0 for line in lines)


def line_of(work: Work) -> dict[str, Any]:
    """A work as a line of our own format, without what is as usual."""
    usual = Work("", 0, 0, "", "", "", {})
    line: dict[str, Any] = {
        "id": work.id,
        "submit": work.submit_us / 1e6,
        "runtime": work.runtime_us / 1e6,
        "role": work.role,
        "tier": work.tier,
        "user": work.user,
        "resources": resources.plain(work.request),
    }
    for name in ("instances", "priority", "gang", "failures", "max_failures"):
        if getattr(work, name) != getattr(usual, name):
            line[name] = getattr(work, name)
    if work.constraints:
        line["constraints"] = [one.plain() for one in work.constraints]
    if work.max_runtime_us is not None:
        line["max_runtime"] = work.max_runtime_us / 1e6
    if work.backoff != usual.backoff:
        line["backoff"] = work.backoff.model_dump()
    if (work.notice_us, work.requeue) != (usual.notice_us, usual.requeue):
        line["preempt"] = {"notice": work.notice_us / 1e6, "action": "requeue" if work.requeue else "end"}
    if work.at_once is not None:
        line["preempt"] = {**line.get("preempt", {}), "at_once": work.at_once}
    return line


# --- nodes and policy ----------------------------------------------------------------------------------------------


def read_cluster(nodes: Path, policy: Path | None) -> Cluster:
    """The cluster that these two files tell of. An error names the file and the field."""
    rules = {} if policy is None else read_policy(policy)
    try:
        listed = _read_yaml(nodes)
        snapshot = Snapshot.parse(_document(rules, _spread_out(listed)))
    except Invalid as error:
        of_nodes = policy is None or error.field.startswith("nodes")
        raise Malformed(f"{nodes if of_nodes else policy}: {error.message}") from None
    return Cluster(tuple(snapshot.nodes()), snapshot.tiers, dict(snapshot.roles()), dict(snapshot.policy))


def read_policy(path: Path, *, partial: bool = False) -> dict[str, Any]:
    """`tiers`, `roles` and `policy` as a snapshot has them; a roles file will do. An error names file and field.

    What a roles file says beside weights and quotas (descriptions, grants) is left out. `partial`: there are other
    tiers besides.
    """
    document = _read_yaml(path)
    if not isinstance(document, Mapping):
        raise Malformed(f"{path}: policy: must be a mapping with {', '.join(_POLICY)}, or some of them")
    for name in document:
        if name not in _POLICY:
            raise Malformed(f"{path}: {name}: is not known; there are {', '.join(_POLICY)}")
    rules = {name: value for name, value in document.items() if value is not None}
    if isinstance(rules.get("roles"), Mapping):
        rules["roles"] = {name: _engine_role(role) for name, role in rules["roles"].items()}
    checked = rules
    if partial and isinstance(rules.get("tiers"), Mapping):
        usual = {one.name: {"rank": one.rank, "preemptible": one.preemptible} for one in DEFAULT_TIERS.values()}
        checked = {**rules, "tiers": {**usual, **rules["tiers"]}}
    try:
        Snapshot.parse(_document(checked, []))
    except Invalid as error:
        raise Malformed(f"{path}: {error.message}") from None
    return rules


def _engine_role(role: Any) -> Any:
    if not isinstance(role, Mapping):
        return role
    found = {name: value for name, value in role.items() if name != "description"}
    if isinstance(found.get("users"), Mapping):
        found["users"] = {
            user: {name: value for name, value in one.items() if name != "grants"} if isinstance(one, Mapping) else one
            for user, one in found["users"].items()
        }
    return found


def _document(rules: Mapping[str, Any], nodes: list[Any]) -> dict[str, Any]:
    return {"now": _EPOCH, "nodes": nodes, "tasks": [], **rules}


def _spread_out(document: Any) -> list[Any]:
    """Each entry with a `count` becomes so many nodes; a list as an attribute's value is dealt out in turn."""
    entries = document.get("nodes") if isinstance(document, Mapping) else document
    if not isinstance(entries, list):
        raise Invalid("nodes", "must be a list of nodes such as {name: n1, capacity: {cpus: 32, mem: 128GiB}}")
    found: list[Any] = []
    for index, entry in enumerate(entries):
        count = entry.get("count") if isinstance(entry, Mapping) else None
        if count is None:
            found.append(entry)
            continue
        path = f"nodes[{index}]"
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= NODES_MAX:
            raise Invalid(f"{path}.count", f"must be a whole number from 1 to {NODES_MAX}")
        if not isinstance(entry.get("name"), str):
            raise Invalid(f"{path}.name", "must be a string: what the nodes' names begin with")
        found.extend(_copies(entry, count, path))
    return found


def _copies(entry: Mapping[str, Any], count: int, path: str) -> Iterator[dict[str, Any]]:
    digits = len(str(count))
    attributes = entry.get("attributes") or {}
    if not isinstance(attributes, Mapping):
        raise Invalid(f"{path}.attributes", "must be a mapping of names to strings, or lists of them")
    for name, value in attributes.items():
        if value == []:
            raise Invalid(f"{path}.attributes.{name}", "must not be empty")
    for number in range(count):
        dealt = {
            name: value[number % len(value)] if isinstance(value, list) else value for name, value in attributes.items()
        }
        rest = {name: value for name, value in entry.items() if name not in ("count", "name", "attributes")}
        yield {"name": f"{entry['name']}{number + 1:0{digits}d}", "attributes": dealt, **rest}


def _read_yaml(path: Path) -> Any:
    from priority.face.shell import read_text

    try:
        return unique.load(read_text(path))
    except Invalid as error:
        raise Malformed(f"{path}: {error.message}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise Malformed(f"{path}: {where}not YAML: {getattr(error, 'problem', None) or error}") from None
    except RecursionError:
        raise Malformed(f"{path}: not YAML: nested too deeply") from None
    except ValueError as error:
        raise Malformed(f"{path}: not YAML: {error}") from None


def widest_of(nodes: Iterable[Node]) -> int:
    """The most whole cpus that one of them has, at least 1."""
    return max((node.capacity.get("cpus", 0) // 1000 for node in nodes), default=1) or 1


def generated(nodes: Sequence[Node], *, seed: int, jobs: int, days: float, load: float) -> Iterator[Work]:
    """A made-up workload that these nodes can hold."""
    cpus = sum(node.capacity.get("cpus", 0) for node in nodes) / 1000
    mem = int(sum(node.capacity.get("mem", 0) for node in nodes) / max(1.0, cpus))
    return workload(seed, jobs=jobs, days=days, cpus=cpus, load=load, widest=widest_of(nodes), mem_a_cpu=mem)
