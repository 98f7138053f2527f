"""Makeflow's JSON form, read as a workflow. JX is evaluated by the Cooperative Computing Tools' `jx2json` first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from priority.errors import Malformed
from priority.makeflow import DEFAULT, Rule, Workflow, connect

_OF_JSON = {
    "cores": "cpus",
    "memory": "mem",
    "disk": "disk",
    "gpus": "gpus",
    "wall-time": "wall_s",
    "wall_time": "wall_s",
}


def parse_json(document: Any, source: str = "Makeflow") -> Workflow:
    """The JSON form, and what `makeflow_viz -D json` writes. Malformed names the rule."""
    if not isinstance(document, Mapping) or not isinstance(document.get("rules"), Sequence):
        raise Malformed(f"{source}: must be a mapping with a list of rules")
    return connect([_rule(document, number, source) for number in range(1, len(document["rules"]) + 1)])


def _rule(document: Mapping[str, Any], number: int, source: str) -> Rule:
    rule, where = document["rules"][number - 1], f"{source}, rule {number}"
    if not isinstance(rule, Mapping):
        raise Malformed(f"{where}: must be a mapping with a command, inputs and outputs")
    if unknown := set(rule) - _RULE_FIELDS:
        raise Malformed(f"{where}: {sorted(unknown)[0]} is not known; there are {', '.join(sorted(_RULE_FIELDS))}")
    command, makeflow = rule.get("command"), rule.get("makeflow") or rule.get("workflow")
    if not (isinstance(command, str) and command.strip()) and not isinstance(makeflow, str):
        raise Malformed(f"{where}: has no command")
    categories, default = document.get("categories") or {}, str(document.get("default_category") or DEFAULT)
    category = str(rule.get("category") or default)
    scopes = [rule.get("resources") or {}, *(_resources_of(categories.get(name)) for name in (category, default))]
    amounts = _amounts(scopes, where)
    given = {**(document.get("environment") or document.get("define") or {}), **(rule.get("environment") or {})}
    return Rule(
        number, source, _files(rule, "outputs", where), _files(rule, "inputs", where), str(command or ""),
        category, bool(rule.get("local_job") or rule.get("local")), amounts, amounts.pop("wall_s", None),
        {name: str(value) for name, value in given.items()}, str(makeflow) if makeflow else None,
    )  # fmt: skip


def _amounts(scopes: Sequence[Mapping[str, Any]], where: str) -> dict[str, float]:
    amounts: dict[str, float] = {}
    for name, field_name in _OF_JSON.items():
        found = next((scope[name] for scope in scopes if name in scope), None)
        if found is not None and (not isinstance(found, int | float) or isinstance(found, bool) or found < 0):
            raise Malformed(f"{where}: {name} must be a number, not {str(found)[:40]}")
        if found is not None:
            amounts[field_name] = float(found)
    return amounts


_RULE_FIELDS = {
    "command", "makeflow", "workflow", "args", "inputs", "outputs", "category", "resources", "environment", "local_job",
    "local", "allocation",
}  # fmt: skip


def _resources_of(category: Any) -> Mapping[str, Any]:
    found = category if isinstance(category, Mapping) else {}
    inner = found.get("resources")
    return inner if isinstance(inner, Mapping) else found


def _files(rule: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    files = rule.get(name) or []
    if not isinstance(files, Sequence) or isinstance(files, str):
        raise Malformed(f"{where}: {name} must be a list of files")
    found = []
    for file in files:
        path = file.get("dag_name") or file.get("path") if isinstance(file, Mapping) else file
        if not isinstance(path, str) or not path:
            raise Malformed(f"{where}: {name} must be a list of files")
        found.append(path)
    return tuple(found)
