"""Snapshots for tests: from a few lines of text, one row a thing, or at random from a seed.

node n1 4/8 rack=r1 gpus=2 draining      cpus/mem, attributes, state
tier batch 1 hard                        rank; hard: not preemptible
role a weight=2 devel=4 ada:devel=1      ceilings in cpus, of the role and of its users
task v1 a devel:0 2/1 @n1 age=10         role, tier:priority, cpus/mem, runs on n1 since 10 s
task d1 a devel:0 2/1 !n1 for=p1         dying there, its room kept for p1
task p1 b prod:0 2/1                     pending; also job= user= gang= rack=r1,r2 rack!=r1 rack<=2
task v2 a devel:0 2 @n1 taken=5,70 at_once=1 until=30    preempted 5 and 70 s ago; ended in 30 s at the latest
policy min_run_s devel=60                a setting, by tier
history lost a:devel=10                  gone, destroyed or lost, by role and tier (or job)
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

NOW = "2026-01-01T01:00:00Z"


def world(text: str) -> dict[str, Any]:
    """A snapshot document."""
    document: dict[str, Any] = {"now": NOW, "nodes": [], "roles": {}, "tasks": []}
    for line in filter(None, (line.split("#")[0].strip() for line in text.splitlines())):
        kind, name, *words = line.split()
        kinds = {"node": _node, "tier": _tier, "role": _role, "task": _task, "policy": _policy, "history": _history}
        kinds[kind](document, name, words)
    return document


def _policy(document: dict[str, Any], name: str, words: list[str]) -> None:
    setting = document.setdefault("policy", {}).setdefault(name, {})
    setting.update((tier, int(value)) for tier, value in (word.split("=") for word in words))


def _history(document: dict[str, Any], name: str, words: list[str]) -> None:
    part = document.setdefault("history", {}).setdefault(name, {})
    for word in words:
        owner, _, value = word.partition("=")
        role, _, other = owner.partition(":")
        part.setdefault(role, {})[other] = int(value)


def _node(document: dict[str, Any], name: str, words: list[str]) -> None:
    node: dict[str, Any] = {"name": name, "capacity": _amounts(words[0]), "attributes": {}}
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if not equals:
            node["state"] = key
        elif key == "gpus":
            node["capacity"]["gpus"] = int(value)
        else:
            node["attributes"][key] = value
    document["nodes"].append(node)


def _tier(document: dict[str, Any], name: str, words: list[str]) -> None:
    document.setdefault("tiers", {})[name] = {"rank": int(words[0]), "preemptible": "hard" not in words}


def _role(document: dict[str, Any], name: str, words: list[str]) -> None:
    role = document["roles"].setdefault(name, {})
    for word in words:
        key, _, value = word.partition("=")
        user, colon, tier = key.rpartition(":")
        if key == "weight":
            role["weight"] = float(value)
        elif colon:
            role.setdefault("users", {}).setdefault(user, {}).setdefault("quota", {})[tier] = {"cpus": float(value)}
        else:
            role.setdefault("quota", {})[key] = {"cpus": float(value)}


def _task(document: dict[str, Any], name: str, words: list[str]) -> None:
    role, tier, amounts, *rest = words
    tier, _, priority = tier.partition(":")
    task: dict[str, Any] = {"id": name, "job": "j", "role": role, "user": "u", "tier": tier}
    task |= {"priority": int(priority or 0), "request": _amounts(amounts), "state": "pending", "constraints": []}
    age = 10
    for word in rest:
        if word[0] in "@!":
            task |= {"state": "running" if word[0] == "@" else "preempting", "node": word[1:]}
        elif word.startswith("age="):
            age = int(word[4:])
        elif "<=" in word:
            attribute, limit = word.split("<=")
            task["constraints"].append({"attribute": attribute, "limit": int(limit)})
        elif "!=" in word:
            attribute, values = word.split("!=")
            task["constraints"].append({"attribute": attribute, "not_in": values.split(",")})
        else:
            key, _, value = word.partition("=")
            if key in ("job", "user", "gang", "for"):
                task[key] = value
            elif key == "taken":
                task["preempted"] = [_before(int(seconds)) for seconds in value.split(",")]
            elif key == "at_once":
                task["at_once"] = int(value)
            elif key == "until":
                task["until"] = _before(-int(value))
            elif key == "gpus":
                task["request"]["gpus"] = int(value)
            else:
                task["constraints"].append({"attribute": key, "in": value.split(",")})
    task["since"] = _before(age)
    document["tasks"].append(task)


def _before(seconds: int) -> str:
    """So many seconds before `NOW`."""
    minutes, seconds = divmod(3600 - seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"2026-01-01T{hours:02d}:{minutes:02d}:{seconds:02d}Z"


def _amounts(text: str) -> dict[str, Any]:
    cpus, _, mem = text.partition("/")
    return {"cpus": float(cpus), "mem": int(mem or 0)}


class Dice:
    """Random snapshots of a few nodes, with amounts so small that contention, ties and exact fits really happen."""

    def __init__(self, seed: int, *, full: bool = False, gangs: bool = True) -> None:
        self.rng = random.Random(seed)
        self.full, self.gangs = full, gangs
        self.two_resources = self.rng.random() < 0.5
        self.constraints: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def document(self) -> dict[str, Any]:
        rng = self.rng
        nodes = [self._node(index) for index in range(rng.randint(1, 4))]
        document: dict[str, Any] = {"now": NOW, "nodes": nodes, "roles": self._roles()}
        if rng.random() < 0.3:
            soft = rng.random() < 0.5
            ranks = (("prod", 2, False), ("devel", 1, soft), ("opportunistic", 0, True))
            document["tiers"] = {name: {"rank": rank, "preemptible": how} for name, rank, how in ranks}
        holding = self._holding(nodes)
        waiting = [self._claim(f"p{index}") for index in range(rng.randint(1, 12 if self.full else 7))]
        for task in waiting:
            task["state"] = "pending"
            if self.gangs and rng.random() < 0.3:
                task["gang"] = rng.choice("gh")
        for task in holding:
            if task["state"] in ("preempting", "killing") and rng.random() < 0.7:
                task["for"] = rng.choice([*(one["id"] for one in waiting), "gone"])
        document["tasks"] = holding + waiting
        return document

    def _node(self, index: int) -> dict[str, Any]:
        rng = self.rng
        capacity = {"cpus": rng.randint(2, 6), "gpus": rng.choice([0, 0, 1])}
        if self.two_resources:
            capacity["mem"] = rng.randint(2, 6)
        attributes = {"rack": f"r{index % 2}"} if rng.random() < 0.8 else {}
        state = rng.choice(["up"] * 6 + ["draining", "down"])
        return {"name": f"n{index}", "capacity": capacity, "attributes": attributes, "state": state}

    def _roles(self) -> dict[str, Any]:
        rng, roles = self.rng, {}
        for name in "ab":
            role: dict[str, Any] = {"weight": rng.choice([1, 2, 0.5])}
            if rng.random() < 0.3:
                role["quota"] = {"devel": {"cpus": rng.randint(0, 6)}}
            if rng.random() < 0.1:
                role["users"] = {"u": {"quota": {"devel": {"cpus": rng.randint(0, 4)}}}}
            if rng.random() < 0.6:
                roles[name] = role
        return roles

    def _holding(self, nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        rng = self.rng
        tasks = []
        used: dict[str, dict[str, int]] = {node["name"]: {} for node in nodes}
        for index in range(60 if self.full else rng.randint(0, 12)):
            task, node = self._claim(f"r{index:02d}"), rng.choice(nodes)
            there = used[node["name"]]
            after = {name: there.get(name, 0) + amount for name, amount in task["request"].items()}
            fits = all(amount <= node["capacity"].get(name, 0) for name, amount in after.items())
            if not fits and rng.random() > 0.03:
                continue
            there |= after
            task["node"] = node["name"]
            task["state"] = rng.choice(["running"] * (20 if self.full else 5) + ["starting", "preempting", "killing"])
            tasks.append(task)
        return tasks

    def _claim(self, id: str) -> dict[str, Any]:
        rng = self.rng
        role, job = rng.choice("ab"), rng.choice("xy")
        request = {"cpus": rng.randint(0 if self.two_resources else 1, 3)}
        if self.two_resources:
            request["mem"] = rng.randint(0, 3)
        if rng.random() < 0.1:
            request["gpus"] = rng.randint(0, 1)
        return {
            "id": id,
            "job": job,
            "role": role,
            "user": rng.choice("uv"),
            "tier": rng.choice(["prod", "devel", "devel", "opportunistic"]),
            "priority": rng.randint(0, 2),
            "request": request,
            "since": f"2026-01-01T00:00:{rng.randint(0, 5):02d}Z",
            "constraints": self.constraints.setdefault((role, job), self._constraints()),
        }

    def _constraints(self) -> list[dict[str, Any]]:
        rng, found = self.rng, []
        if rng.random() < 0.2:
            found.append({"attribute": "rack", "in": ["r0"]})
        if rng.random() < 0.1:
            found.append({"attribute": "rack", "not_in": ["r0"]})
        if rng.random() < 0.25:
            found.append({"attribute": rng.choice(["host", "rack"]), "limit": rng.randint(1, 2)})
        return found


class Ruled(Dice):
    """The same with settings of policy, and with what they look at."""

    def document(self) -> dict[str, Any]:
        rng, document = self.rng, super().document()
        document["policy"] = {name: by_tier for name, draw in self.settings().items() if (by_tier := self._tiers(draw))}
        for task in document["tasks"]:
            if task["state"] != "pending" and rng.random() < 0.3:
                task["preempted"] = [_before(rng.choice([10, 100, 3600])) for _ in range(rng.randint(1, 3))]
            if rng.random() < 0.2:
                task["at_once"] = rng.randint(1, 3)
            if task["state"] != "pending" and rng.random() < 0.5:
                task["until"] = _before(-rng.randint(1, 5))
        if rng.random() < 0.5:
            document["history"] = {
                "gone": {role: {job: rng.randint(0, 1) for job in "xy"} for role in "ab"},
                "lost": {role: {"devel": rng.randint(0, 9000)} for role in "ab"},
                "destroyed": {role: {"prod": rng.randint(0, 9000)} for role in "ab"},
            }
        return document

    def settings(self) -> dict[str, Callable[[], int]]:
        """Each with a die for its values."""
        rng = self.rng
        return {
            "min_run_s": lambda: rng.randint(3594, 3601),
            "young_s": lambda: rng.randint(3594, 3601),
            "preempted_per_hour": lambda: rng.randint(0, 3),
            "gone_at_once": lambda: rng.randint(0, 3),
            "own_gone_at_once": lambda: rng.randint(1, 2),
            "destroys_per_hour": lambda: rng.randint(0, 30_000),
            "loses_per_hour": lambda: rng.randint(0, 30_000),
            "holds_after_s": lambda: rng.randint(3595, 3600),
            "holds_at_once": lambda: rng.randint(0, 2),
        }

    def _tiers(self, draw: Callable[[], int]) -> dict[str, int]:
        return {tier: draw() for tier in ("prod", "devel", "opportunistic") if self.rng.random() < 0.4}


def shuffled(document: dict[str, Any], seed: int) -> dict[str, Any]:
    """The same snapshot with every list and object in another order."""
    rng = random.Random(seed)

    def mix(value: Any) -> Any:
        if isinstance(value, dict):
            names = list(value)
            rng.shuffle(names)
            return {name: mix(value[name]) for name in names}
        if isinstance(value, list) and all(
            isinstance(item, dict) and ("id" in item or "name" in item) for item in value
        ):
            return rng.sample([mix(item) for item in value], len(value))
        return value

    mixed: dict[str, Any] = mix(document)
    return mixed
