"""The checker checked: a good plan with one thing spoilt is caught, by the property that it breaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from engine_worlds import Dice, world
from test_certify_mutants import UNRULED
from test_engine_cases import CASES

from priority.certify import CHECKS, certify
from priority.plan import Placement, Plan, Preemption, Waiting, make_plan
from priority.reason import Reason
from priority.snapshot import Snapshot

NO_ROOM = Reason("no-room", "no room")


def plan(text: str) -> Plan:
    """A plan as `test_engine_cases` writes them."""
    lists: dict[str, list[list[str]]] = {"launch": [], "reserve": [], "kill": [], "wait": []}
    for one in text.split(";"):
        kind, *words = one.split()
        lists[kind].append(words)
    return Plan(
        launch=tuple(Placement(*words) for words in lists["launch"]),
        reserve=tuple(Placement(*words) for words in lists["reserve"]),
        preempt=tuple(Preemption(task, node, taker) for task, node, taker in lists["kill"]),
        wait=tuple(Waiting(task, Reason(code, code)) for task, code in lists["wait"]),
    )


BAD: list[tuple[str, str, str, str]] = [
    # property, the case of test_engine_cases, what is planned instead, what is wrong with it
    ("once", "room that is free now", "wait q no-room", "listed: another"),
    ("once", "room that is free now", "launch p n1; wait p no-room", "listed twice"),
    ("once", "room that is free now", "launch p n9", "a node that is not"),
    ("fits", "coming room needs no victim", "launch p n1", "launched into coming room"),
    ("fits", "two share the room of one victim", "kill v n1 p; reserve p n1; launch q n1", "launched at once"),
    ("legal", "prod never takes from prod of another role", "kill v n1 p; reserve p n1", "unlawful"),
    ("legal", "the same priority takes nothing", "kill v n1 p; reserve p n1", "the same priority"),
    ("legal", "a task that dies is never a victim again", "kill v n1 p; kill w n1 p; reserve p n1", "dying"),
    ("legal", "prod takes from devel of another role", "kill v n1 p; kill v n1 p; reserve p n1", "named twice"),
    ("legal", "prod takes from devel of another role", "kill v n1 p; wait p no-room", "for one that waits"),
    ("allowed", "constraints that only small nodes meet", "launch p n2", "a constraint"),
    ("allowed", "only draining and down nodes could", "launch p n1", "a draining node"),
    ("allowed", "a ceiling holds back", "launch p n1; launch q n1", "a ceiling"),
    ("allowed", "a user's own ceiling inside the role", "launch p n1; launch q n1; launch r n1", "a user's ceiling"),
    ("allowed", "a limit for each value", "launch p n1; launch q n2", "a limit"),
    ("allowed", "the dying count to a limit until they are gone", "launch p n1", "a limit, with the dying"),
    ("allowed", "a gang waits whole", "launch p n1; wait q gang; launch r n1", "half a gang"),
    ("needless-wait", "room that is free now", "wait p no-room", "free room"),
    ("needless-wait", "coming room needs no victim", "wait p no-room", "coming room"),
    ("needless-wait", "prod takes from devel of another role", "wait p no-room", "lawful victims"),
    ("needless-wait", "a gang takes victims on several nodes", "wait p gang; wait q gang", "a gang"),
    ("order", "higher tiers first", "launch p n1; wait q no-room", "the lower tier took it"),
    ("order", "a share over its weight", "wait p no-room; launch q n1", "the larger share took it"),
    ("order", "in a role: priority, then age, then id", "wait d no-room; launch c n1; launch b n1; launch e n1", "age"),
    ("cheapest", "least tier before least priority", "kill v n1 p; reserve p n1", "tier"),
    ("cheapest", "least priority before fewest", "kill v n1 p; reserve p n1", "priority"),
    ("cheapest", "fewest before least work", "kill w n2 p; kill x n2 p; reserve p n2", "count"),
    ("cheapest", "least work: cores times time", "kill v n1 p; reserve p n1", "work"),
    ("kept", "room kept for one is not another's", "reserve p n1; wait q no-room", "given away"),
]


@pytest.mark.parametrize(("name", "case", "bad"), [row[:3] for row in BAD], ids=[f"{row[0]}: {row[3]}" for row in BAD])
def test_a_bad_plan_is_caught(name: str, case: str, bad: str) -> None:
    found = certify(Snapshot.parse(world(CASES[case][0])), plan(bad))
    assert name in {violation.property for violation in found}, found


def caught(text: str, bad: str) -> set[str]:
    return {violation.property for violation in certify(Snapshot.parse(world(text)), plan(bad))}


def test_too_much_on_a_node() -> None:
    text = """
        node n1 4
        task p a prod 3
        task q a prod 3
    """
    assert "fits" in caught(text, "launch p n1; launch q n1")
    assert "fits" in caught(text, "launch p n1; reserve q n1")


def test_an_over_full_node_is_judged_by_what_is_asked_for() -> None:
    text = """
        node n1 4/4
        task v a prod 6/1 @n1
        task p b devel 0/2
        task q b devel 1/1
    """
    assert caught(text, "launch p n1; wait q no-room") == set()
    assert caught(text, "launch p n1; launch q n1") == {"fits"}


def test_a_victim_too_many() -> None:
    text = """
        node n1 4
        task v a devel 2 @n1
        task w a devel 2 @n1
        task p b prod  2
    """
    assert "irreducible" in caught(text, "kill v n1 p; kill w n1 p; reserve p n1")


def test_a_kill_beside_room() -> None:
    text = """
        node n1 4
        node n2 4
        task v a devel 4 @n1
        task p b prod  4
    """
    assert "needless-kill" in caught(text, "kill v n1 p; reserve p n1")


def test_a_gang_that_kills_beside_room() -> None:
    text = """
        node n1 4
        node n2 4
        node n3 4
        task v a devel 4 @n1
        task p b prod  4 gang=g
        task q b prod  4 gang=g
    """
    assert "needless-kill" in caught(text, "kill v n1 p; reserve p n1; reserve q n2")


def test_a_gang_that_waits_for_one_behind_it_is_caught() -> None:
    text = """
        node n1 4
        node n2 2
        task p b prod:1 2 gang=g
        task q b prod:1 2 gang=g
        task r b prod   4
    """
    assert caught(text, "launch r n1; wait p gang; wait q gang") == {"order"}
    assert caught(text, "launch p n1; launch q n2; wait r no-room") == set()


def test_a_gang_with_victims_that_are_not_the_cheapest_is_caught() -> None:
    text = """
        node n1 2
        node n2 2
        node n3 2
        task u a devel         2 @n1
        task v a devel         2 @n2
        task w a opportunistic 2 @n3
        task p b prod          1 gang=g
        task q b prod          1 gang=g
    """
    assert caught(text, "kill u n1 p; reserve p n1; reserve q n1") == {"cheapest"}
    assert caught(text, "kill w n3 p; reserve p n3; reserve q n3") == set()


def spoil_drop(plan: Plan) -> Plan:
    """The first thing that gets room waits instead."""
    for name in ("launch", "reserve"):
        placed = getattr(plan, name)
        if placed:
            gone = placed[0].task
            kills = tuple(one for one in plan.preempt if one.preemptor != gone)
            rest = {name: placed[1:], "preempt": kills}
            return replace(plan, **rest, wait=(*plan.wait, Waiting(gone, NO_ROOM)))
    return plan


def spoil_launch(plan: Plan) -> Plan:
    """What is reserved is launched."""
    return replace(plan, launch=plan.launch + plan.reserve, reserve=())


def spoil_kill(plan: Plan) -> Plan:
    """A victim is forgotten."""
    return replace(plan, preempt=plan.preempt[1:])


def spoil_pile(plan: Plan) -> Plan:
    """All goes to one node."""
    node = (plan.launch + plan.reserve)[0].node if plan.launch + plan.reserve else ""
    return replace(plan, launch=tuple(Placement(one.task, node) for one in plan.launch))


@pytest.mark.parametrize("spoil", [spoil_drop, spoil_launch, spoil_kill, spoil_pile])
def test_spoilt_plans_of_random_snapshots_are_caught(spoil: Callable[[Plan], Plan]) -> None:
    """Not every change makes a plan bad; but of those that change it, most do, and none crashes the checker."""
    changed = bad = 0
    for seed in range(150):
        snapshot = Snapshot.parse(Dice(seed, full=seed % 2 == 0).document())
        good = make_plan(snapshot)
        spoilt = spoil(good)
        if spoilt != good:
            changed += 1
            bad += bool(certify(snapshot, spoilt))
    assert changed > 10
    assert bad > changed * 0.5, (bad, changed)


def test_every_property_has_a_planted_fault() -> None:
    planted = {name for name, *_ in BAD} | {"irreducible", "needless-kill"}  # the latter in tests of their own
    planted |= {name for _, properties in UNRULED for name in properties}
    assert planted >= {"once", "legal", *CHECKS}
