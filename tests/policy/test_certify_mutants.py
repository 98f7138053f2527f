"""Planted bugs: engines that are wrong in one thing, each caught by `certify`, and by the property that it breaks.

Most do not see something of the world: the engine is given a snapshot without it, and its plan is held against the
true one. Others are wrong inside, or in what they say. Seeds of `Dice` are tried until one gives the bug away.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from engine_worlds import Dice, Ruled

from priority import preempt
from priority.certify import certify
from priority.fairness import Shares
from priority.mercy import Mercy
from priority.plan import Plan, Waiting, make_plan
from priority.reason import Reason
from priority.snapshot import Snapshot

SEEDS = 400

NO_ROOM = Reason("no-room", "no room")

Document = dict[str, Any]


def documents() -> Iterator[Document]:
    for seed in range(SEEDS):
        yield Dice(seed, full=seed % 2 == 0).document()


def ruled() -> Iterator[Document]:
    for seed in range(SEEDS):
        yield Ruled(seed, full=seed % 4 != 0, gangs=seed % 3 == 0).document()


def running(document: Document) -> list[Document]:
    return [task for task in document["tasks"] if task["state"] in ("running", "starting")]


def waiting(document: Document) -> list[Document]:
    return [task for task in document["tasks"] if task["state"] == "pending"]


# --- engines that do not see something -------------------------------------------------------------------------------


def where_it_may_run(document: Document) -> None:
    for task in waiting(document):
        task["constraints"] = [one for one in task["constraints"] if "limit" in one]


def limits(document: Document) -> None:
    for task in waiting(document):
        task["constraints"] = [one for one in task["constraints"] if "limit" not in one]


def ceilings(document: Document) -> None:
    for role in document["roles"].values():
        role.pop("quota", None)
        role.pop("users", None)


def gangs(document: Document) -> None:
    for task in waiting(document):
        task.pop("gang", None)


def for_whom_room_is_kept(document: Document) -> None:
    for task in document["tasks"]:
        task.pop("for", None)


def that_a_node_is_draining(document: Document) -> None:
    for node in document["nodes"]:
        if node["state"] == "draining":
            node["state"] = "up"


def that_a_node_is_down(document: Document) -> None:
    for node in document["nodes"]:
        node["state"] = "up"


def that_the_dying_hold_room(document: Document) -> None:
    dying = ("preempting", "killing")
    document["tasks"] = [task for task in document["tasks"] if task["state"] not in dying]


def that_the_dying_are_dying(document: Document) -> None:
    for task in document["tasks"]:
        if task["state"] in ("preempting", "killing"):
            task["state"] = "running"
            task.pop("for", None)


def that_the_dying_will_go(document: Document) -> None:
    for task in document["tasks"]:
        if task["state"] in ("preempting", "killing"):
            task |= {"state": "running", "tier": "prod", "priority": 9}
            task.pop("for", None)


def what_is_starting(document: Document) -> None:
    document["tasks"] = [task for task in document["tasks"] if task["state"] != "starting"]


def priorities(document: Document) -> None:
    for task in document["tasks"]:
        task["priority"] = 0


def priorities_of_victims(document: Document) -> None:
    for task in running(document):
        if task["tier"] != "prod":
            task["priority"] = 0


def work_that_is_lost(document: Document) -> None:
    for task in running(document):
        task["since"] = document["now"]


def weights(document: Document) -> None:
    for role in document["roles"].values():
        role["weight"] = 1


def who_came_first(document: Document) -> None:
    for task in waiting(document):
        task["since"] = document["now"]


def memory(document: Document) -> None:
    for thing in [*(node["capacity"] for node in document["nodes"]), *(task["request"] for task in document["tasks"])]:
        thing.pop("mem", None)


def all_but_the_first_nodes(document: Document) -> None:
    for node in document["nodes"][2:]:
        node["state"] = "draining" if node["state"] == "up" else node["state"]


def that_devel_may_be_preempted(document: Document) -> None:
    document["tiers"] = {
        "prod": {"rank": 2, "preemptible": False},
        "devel": {"rank": 1, "preemptible": False},
        "opportunistic": {"rank": 0, "preemptible": False},
    }


def that_prod_may_not_be_preempted(document: Document) -> None:
    document["tiers"] = {
        "super": {"rank": 3, "preemptible": False},
        "prod": {"rank": 2, "preemptible": True},
        "devel": {"rank": 1, "preemptible": True},
        "opportunistic": {"rank": 0, "preemptible": True},
    }
    for task in waiting(document):
        task["tier"] = "super" if task["tier"] == "prod" else task["tier"]


BLIND: list[tuple[Callable[[Document], None], set[str]]] = [
    (where_it_may_run, {"allowed"}),
    (limits, {"allowed"}),
    (ceilings, {"allowed"}),
    (gangs, {"allowed"}),
    (for_whom_room_is_kept, {"kept"}),
    (that_a_node_is_draining, {"allowed"}),
    (that_a_node_is_down, {"allowed"}),
    (that_the_dying_hold_room, {"fits"}),
    (that_the_dying_are_dying, {"legal"}),
    (that_the_dying_will_go, {"needless-kill", "needless-wait"}),
    (what_is_starting, {"fits"}),
    (priorities, {"needless-wait", "order"}),
    (priorities_of_victims, {"cheapest"}),
    (work_that_is_lost, {"cheapest"}),
    (weights, {"order"}),
    (who_came_first, {"order"}),
    (memory, {"fits"}),
    (all_but_the_first_nodes, {"needless-wait", "needless-kill", "cheapest"}),
    (that_devel_may_be_preempted, {"needless-wait"}),
    (that_prod_may_not_be_preempted, {"legal"}),
]


@pytest.mark.parametrize(("unseen", "properties"), BLIND, ids=[unseen.__name__ for unseen, _ in BLIND])
def test_what_an_engine_does_not_see(unseen: Callable[[Document], None], properties: set[str]) -> None:
    found: set[str] = set()
    for document in documents():
        seen = copy.deepcopy(document)
        unseen(seen)
        if seen != document:
            plan = make_plan(Snapshot.parse(seen))
            found |= {one.property for one in certify(Snapshot.parse(document), plan)}
            if properties <= found:
                return
    pytest.fail(f"not caught: {properties - found}")


# --- engines that do not see a setting of policy -------------------------------------------------------------------


UNRULED: list[tuple[str, set[str]]] = [
    ("min_run_s", {"min-run"}),
    ("young_s", {"cheapest"}),
    ("preempted_per_hour", {"too-often"}),
    ("gone_at_once", {"disruption"}),
    ("own_gone_at_once", {"disruption"}),
    ("destroys_per_hour", {"budget"}),
    ("loses_per_hour", {"budget"}),
    ("holds_after_s", {"held"}),
    ("holds_at_once", {"needless-wait"}),
]


BESIDE = {"holds_at_once": ("holds_after_s",)}
"""Settings without which another does nothing."""


@pytest.mark.parametrize(("setting", "properties"), UNRULED, ids=[setting for setting, _ in UNRULED])
def test_a_setting_that_an_engine_does_not_see(setting: str, properties: set[str]) -> None:
    found: set[str] = set()
    for document in ruled():
        document["policy"] = {name: document["policy"].get(name, {}) for name in (setting, *BESIDE.get(setting, ()))}
        seen = copy.deepcopy(document)
        if seen["policy"].pop(setting, None):
            plan = make_plan(Snapshot.parse(seen))
            found |= {one.property for one in certify(Snapshot.parse(document), plan)}
            if properties <= found:
                return
    pytest.fail(f"not caught: {properties - found}")


def sees_a_shorter_time(document: Document) -> None:
    for name in ("min_run_s", "young_s"):
        for tier in document["policy"].get(name, {}):
            document["policy"][name][tier] -= 1


def forgets_who_was_preempted(document: Document) -> None:
    for task in document["tasks"]:
        task.pop("preempted", None)


def forgets_who_is_gone(document: Document) -> None:
    document.get("history", {}).pop("gone", None)


def forgets_what_was_lost(document: Document) -> None:
    for name in ("lost", "destroyed"):
        document.get("history", {}).pop(name, None)


def counts_jobs_of_other_roles(document: Document) -> None:
    for task in document["tasks"]:
        task["role"] = "a"


def forgets_when_tasks_end(document: Document) -> None:
    for task in document["tasks"]:
        task.pop("until", None)


def spares_too_many(document: Document) -> None:
    document["policy"].setdefault("min_run_s", {})["devel"] = 4000


WRONG: list[tuple[Callable[[Document], None], set[str]]] = [
    (sees_a_shorter_time, {"min-run"}),
    (forgets_who_was_preempted, {"too-often"}),
    (forgets_who_is_gone, {"disruption"}),
    (forgets_what_was_lost, {"budget"}),
    (forgets_when_tasks_end, {"held"}),
    (counts_jobs_of_other_roles, {"needless-wait"}),
    (spares_too_many, {"needless-wait"}),
]


@pytest.mark.parametrize(("wrong", "properties"), WRONG, ids=[wrong.__name__ for wrong, _ in WRONG])
def test_a_setting_that_an_engine_has_wrong(wrong: Callable[[Document], None], properties: set[str]) -> None:
    found: set[str] = set()
    for document in ruled():
        seen = copy.deepcopy(document)
        wrong(seen)
        if seen != document:
            plan = make_plan(Snapshot.parse(seen))
            found |= {one.property for one in certify(Snapshot.parse(document), plan)}
            if properties <= found:
                return
    pytest.fail(f"not caught: {properties - found}")


def always(answer: object) -> Callable[..., object]:
    return lambda *_, **__: answer


def asks_of_each_victim_alone(patch: pytest.MonkeyPatch) -> None:
    """Budgets are not shared by what one task takes at once."""
    patch.setattr(Mercy, "affords", always(True))


def never_counts_its_victims(patch: pytest.MonkeyPatch) -> None:
    """Budgets are not shared by those who take one after the other."""
    patch.setattr(Mercy, "count", always([]))


def never_counts_what_it_destroys(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Mercy, "left_to_destroy", always(2**62))


SHARED: list[tuple[Callable[[pytest.MonkeyPatch], None], set[str]]] = [
    (asks_of_each_victim_alone, {"disruption", "budget"}),
    (never_counts_its_victims, {"disruption"}),
    (never_counts_what_it_destroys, {"budget"}),
]


@pytest.mark.parametrize(("bug", "properties"), SHARED, ids=[bug.__name__ for bug, _ in SHARED])
def test_a_budget_that_an_engine_does_not_keep(
    bug: Callable[[pytest.MonkeyPatch], None], properties: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bug(monkeypatch)
    found: set[str] = set()
    shared = "gone_at_once", "own_gone_at_once", "destroys_per_hour", "loses_per_hour"
    for document in ruled():
        document["policy"] = {name: document["policy"].get(name, {}) for name in shared}
        snapshot = Snapshot.parse(document)
        found |= {one.property for one in certify(snapshot, make_plan(snapshot))}
        if properties <= found:
            return
    pytest.fail(f"not caught: {properties - found}")


# --- engines that are wrong inside -----------------------------------------------------------------------------------


def never_preempts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(preempt, "cheapest", always(None))


def thinks_that_all_have_the_same_share(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Shares, "of", always(0))


INSIDE: list[tuple[Callable[[pytest.MonkeyPatch], None], set[str]]] = [
    (never_preempts, {"needless-wait"}),
    (thinks_that_all_have_the_same_share, {"order"}),
]


@pytest.mark.parametrize(("bug", "properties"), INSIDE, ids=[bug.__name__ for bug, _ in INSIDE])
def test_what_an_engine_does_wrong(
    bug: Callable[[pytest.MonkeyPatch], None], properties: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bug(monkeypatch)
    found: set[str] = set()
    for document in documents():
        snapshot = Snapshot.parse(document)
        found |= {one.property for one in certify(snapshot, make_plan(snapshot))}
        if properties <= found:
            return
    pytest.fail(f"not caught: {properties - found}")


# --- engines that say it wrong ---------------------------------------------------------------------------------------


def forgets_who_waits(plan: Plan) -> Plan:
    return replace(plan, wait=plan.wait[1:])


def names_one_for_another(plan: Plan) -> Plan:
    return replace(plan, wait=(*plan.wait[1:], Waiting(plan.launch[0].task, NO_ROOM))) if plan.launch else plan


def launches_what_it_reserves(plan: Plan) -> Plan:
    return replace(plan, launch=plan.launch + plan.reserve, reserve=(), preempt=())


def spares_the_last_victim(plan: Plan) -> Plan:
    return replace(plan, preempt=plan.preempt[:-1])


def kills_for_another(plan: Plan) -> Plan:
    if len({one.preemptor for one in plan.preempt}) < 2:
        return plan
    takers = [one.preemptor for one in plan.preempt]
    return replace(
        plan,
        preempt=tuple(
            replace(one, preemptor=taker) for one, taker in zip(plan.preempt, takers[1:] + takers[:1], strict=True)
        ),
    )


def names_a_victim_twice(plan: Plan) -> Plan:
    return replace(plan, preempt=plan.preempt[:1] + plan.preempt)


def swaps_two_launches(plan: Plan) -> Plan:
    pairs = [index for index, (one, other) in enumerate(pairwise(plan.launch)) if one.node != other.node]
    if not pairs:
        return plan
    launch = list(plan.launch)
    one, other = launch[pairs[0]], launch[pairs[0] + 1]
    launch[pairs[0] : pairs[0] + 2] = [replace(one, node=other.node), replace(other, node=one.node)]
    return replace(plan, launch=tuple(launch))


SAID: list[tuple[Callable[[Plan], Plan], set[str]]] = [
    (forgets_who_waits, {"once"}),
    (names_one_for_another, {"once"}),
    (launches_what_it_reserves, {"fits"}),
    (spares_the_last_victim, {"fits"}),
    (kills_for_another, {"legal"}),
    (names_a_victim_twice, {"legal"}),
    (swaps_two_launches, {"fits"}),
]


@pytest.mark.parametrize(("say", "properties"), SAID, ids=[say.__name__ for say, _ in SAID])
def test_what_an_engine_says_wrong(say: Callable[[Plan], Plan], properties: set[str]) -> None:
    found: set[str] = set()
    for document in documents():
        snapshot = Snapshot.parse(document)
        plan = make_plan(snapshot)
        if (said := say(plan)) != plan:
            found |= {one.property for one in certify(snapshot, said)}
        if properties <= found:
            return
    pytest.fail(f"not caught: {properties - found}")


def test_the_engine_without_a_bug_passes_on_all_of_them() -> None:
    for document in documents():
        snapshot = Snapshot.parse(document)
        assert certify(snapshot, make_plan(snapshot)) == []
