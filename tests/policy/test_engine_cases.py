"""The contract's sentences, each as a case on one screen: a small cluster, and the whole plan that must come out.

How to write a cluster: `engine_worlds`. A plan, one decision a line:
launch TASK NODE, reserve TASK NODE, kill VICTIM NODE FOR, wait TASK CODE.
"""

from __future__ import annotations

import pytest
from engine_worlds import shuffled, world

from priority.certify import certify
from priority.plan import make_plan
from priority.snapshot import Snapshot

CASES: dict[str, tuple[str, str]] = {
    "room that is free now": (
        """
        node n1 4
        task p  a devel 4
        """,
        "launch p n1",
    ),
    "the node that it fills best": (
        """
        node n1 8
        node n2 4
        task p  a devel 3
        """,
        "launch p n2",
    ),
    "a task without gpus leaves them alone": (
        """
        node n1 4 gpus=4
        node n2 8
        task p  a devel 3
        """,
        "launch p n2",
    ),
    "nothing asked fits anywhere that is up": (
        """
        node n1 1
        node n0 9 down
        task v  a prod 1 @n1
        task p  a devel 0
        """,
        "launch p n1",
    ),
    "no node at all": ("task p a prod 1", "wait p no-node"),
    "no node is large enough": (
        """
        node n1 4/4
        node n2 8/2
        task p  a prod 5/3
        """,
        "wait p no-node",
    ),
    "a resource that nobody has": ("node n1 4\ntask p a prod 1 gpus=1", "wait p no-node"),
    "only draining and down nodes could": (
        """
        node n1 4 draining
        node n2 4 down
        node n3 1
        task p  a prod 2
        """,
        "wait p no-room",
    ),
    "what runs on a draining node is no prey": (
        """
        node n1 4 draining
        node n2 1
        task v  a devel 4 @n1
        task p  b prod  2
        """,
        "wait p no-room",
    ),
    "constraints that only small nodes meet": (
        """
        node n1 1 rack=r1
        node n2 4
        task p  a prod 2 rack=r1
        """,
        "wait p constraint",
    ),
    "without the attribute: fails in, passes not_in": (
        """
        node n1 4
        task p  a prod 1 rack=r1
        task q  a prod 1 rack!=r1
        """,
        "wait p constraint; launch q n1",
    ),
    "prod takes from devel of another role": (
        """
        node n1 4
        task v  a devel:9 4 @n1
        task p  b prod:0  2
        """,
        "kill v n1 p; reserve p n1",
    ),
    "prod never takes from prod of another role": (
        """
        node n1 4
        task v  a prod:0 4 @n1
        task p  b prod:9 2
        """,
        "wait p no-room",
    ),
    "higher priority inside a role, in a tier that is not preemptible": (
        """
        node n1 4
        task v  a prod:0 4 @n1
        task p  a prod:1 2
        """,
        "kill v n1 p; reserve p n1",
    ),
    "the same priority takes nothing": (
        """
        node n1 4
        task v  a prod:1 4 @n1
        task p  a prod:1 2
        """,
        "wait p no-room",
    ),
    "devel takes lawful victims too": (
        """
        node n1 4
        task v  b opportunistic:9 4 @n1
        task p  a devel:0         2
        """,
        "kill v n1 p; reserve p n1",
    ),
    "a lower tier that is not preemptible is left alone": (
        """
        tier top  2 hard
        tier base 1 hard
        node n1 4
        task v  a base 4 @n1
        task p  a top  2
        """,
        "wait p no-room",
    ),
    "a higher tier takes whatever the priorities": (
        """
        node n1 4
        task v  a devel:9 4 @n1
        task p  a prod:-9 4
        """,
        "kill v n1 p; reserve p n1",
    ),
    "a task that dies is never a victim again": (
        """
        node n1 4
        task v  a devel 2 !n1
        task w  a devel 2 @n1
        task p  b prod  4
        """,
        "kill w n1 p; reserve p n1",
    ),
    "coming room needs no victim": (
        """
        node n1 4
        node n2 4
        task v  a devel 4 !n1
        task w  a devel 4 @n2
        task p  b prod  4
        """,
        "reserve p n1",
    ),
    "two share the room of one victim": (
        """
        node n1 4
        task v  a devel 4 @n1
        task p  b prod  2
        task q  c devel 2
        """,
        "kill v n1 p; reserve p n1; reserve q n1",
    ),
    "room kept for one is not another's": (
        """
        node n1 4
        task v  a devel 4 !n1 for=q
        task p  b devel 4 age=99
        task q  c devel 4
        """,
        "wait p no-room; reserve q n1",
    ),
    "kept whole, with the free part it needs": (
        """
        node n1 4
        task v  a devel 2 !n1 for=q
        task p  b devel 2 age=99
        task q  c devel 4
        """,
        "wait p no-room; reserve q n1",
    ),
    "what the keeper does not need is anyone's": (
        """
        node n1 4
        task v  a devel 4 !n1 for=q
        task p  b devel 2 age=99
        task q  c devel 2
        """,
        "reserve p n1; reserve q n1",
    ),
    "kept until launched elsewhere": (
        """
        node n1 4
        node n2 4
        task v  a devel 4 !n1 for=q
        task q  b prod  4
        task p  c devel 4
        """,
        "launch q n2; reserve p n1",
    ),
    "kept for one that is gone": (
        """
        node n1 4
        task v  a devel 4 !n1 for=gone
        task p  b devel 4
        """,
        "reserve p n1",
    ),
    "kept for one that does not fit there": (
        """
        node n1 4
        node n2 8
        task v  a devel 4 !n1 for=q
        task w  a devel 8 @n2
        task q  b prod  8
        task p  c devel 4
        """,
        "kill w n2 q; reserve q n2; reserve p n1",
    ),
    "least tier before least priority": (
        """
        node n1 4
        node n2 4
        task v  a devel:0         4 @n1
        task w  a opportunistic:9 4 @n2
        task p  b prod            4
        """,
        "kill w n2 p; reserve p n2",
    ),
    "least priority before fewest": (
        """
        node n1 4
        node n2 4
        task v  a devel:1 4 @n1
        task w  a devel:0 2 @n2
        task x  a devel:0 2 @n2
        task p  b prod    4
        """,
        "kill w n2 p; kill x n2 p; reserve p n2",
    ),
    "fewest before least work": (
        """
        node n1 4
        node n2 4
        task v  a devel 4 @n1 age=900
        task w  a devel 2 @n2 age=1
        task x  a devel 2 @n2 age=1
        task p  b prod  4
        """,
        "kill v n1 p; reserve p n1",
    ),
    "least work: cores times time": (
        """
        node n1 4
        node n2 4
        task v  a devel 4 @n1 age=20
        task w  a devel 3 @n2 age=26
        task p  b prod  3
        """,
        "kill w n2 p; reserve p n2",
    ),
    "priority counts over all victims, of whatever tier": (
        """
        node n1 4
        node n2 4
        task v  a devel:0         2 @n1
        task w  a opportunistic:9 2 @n1
        task x  a devel:1         2 @n2
        task y  a devel:1         2 @n2
        task p  b prod            4
        """,
        "kill x n2 p; kill y n2 p; reserve p n2",
    ),
    "a later victim makes an earlier one needless": (
        """
        node n1 8/8
        task s  a opportunistic:0 2/0 @n1
        task m  a opportunistic:1 6/8 @n1
        task p  b prod:1          1/0
        task q  b prod:0          1/4
        """,
        "kill m n1 q; reserve p n1; reserve q n1",
    ),
    "an over-full node: only what is asked for is looked at": (
        """
        node n1 4/4
        task v  a prod  6/1 @n1
        task p  b devel 0/2
        task q  b devel 1/1
        """,
        "launch p n1; wait q no-room",
    ),
    "an over-full node must first be freed": (
        """
        node n1 4
        task v  a devel:0 2 @n1
        task w  a devel:0 2 @n1
        task x  a devel:0 2 @n1
        task p  b prod    1
        """,
        "kill v n1 p; kill w n1 p; reserve p n1",
    ),
    "a down node's tasks hold nothing, its ceiling is free": (
        """
        node n1 4
        node n2 4 down
        role a  devel=4
        task v  a devel 4 @n2
        task p  a devel 4
        """,
        "launch p n1",
    ),
    "a ceiling holds back": (
        """
        node n1 8
        role a  devel=4
        task v  a devel 3 @n1
        task p  a devel 1 age=20
        task q  a devel 1
        """,
        "launch p n1; wait q ceiling",
    ),
    "the dying count to a ceiling until they are gone": (
        """
        node n1 8
        role a  devel=4
        task v  a devel 4 !n1
        task p  a devel 1
        """,
        "wait p ceiling",
    ),
    "a zero in a quota is a ceiling": (
        """
        node n1 8
        role a  devel=0
        task p  a devel 1
        task q  a devel 0
        """,
        "wait p ceiling; launch q n1",
    ),
    "a quota on a tier that is not preemptible is not looked at": (
        """
        node n1 8
        role a  prod=1
        task p  a prod 4
        """,
        "launch p n1",
    ),
    "a user's own ceiling inside the role": (
        """
        node n1 8
        role a  ada:devel=1
        task p  a devel 1 user=ada age=20
        task q  a devel 1 user=ada
        task r  a devel 1 user=bob
        """,
        "launch p n1; wait q ceiling; launch r n1",
    ),
    "a limit for each value": (
        """
        node n1 8 rack=r1
        node n2 8 rack=r1
        node n3 8
        task p  a devel 1 rack<=1 age=20
        task q  a devel 1 rack<=1
        """,
        "launch p n1; wait q limit",
    ),
    "the dying count to a limit until they are gone": (
        """
        node n1 8
        task v  a devel 1 !n1
        task p  a devel 1 host<=1
        """,
        "wait p limit",
    ),
    "a limit is a job's, and a job is known by its role too": (
        """
        node n1 8
        task v  b devel 1 @n1
        task p  a devel 1 host<=1
        """,
        "launch p n1",
    ),
    "a victim of the same job counts to its limit": (
        """
        node n1 2
        task v  a devel:0 2 @n1
        task p  a devel:1 2 host<=1
        """,
        "wait p limit",
    ),
    "a gang launches whole": (
        """
        node n1 2
        node n2 4
        task p  a devel 2 gang=g
        task q  a devel 4 gang=g
        """,
        "launch p n1; launch q n2",
    ),
    "a gang waits whole": (
        """
        node n1 4
        task p  a devel 3 gang=g
        task q  a devel 3 gang=g
        task r  a devel 1
        """,
        "wait p gang; wait q gang; launch r n1",
    ),
    "a gang is reserved whole, also where room is free": (
        """
        node n1 2
        node n2 2
        task v  a devel 2 !n2
        task p  a devel 2 gang=g
        task q  a devel 2 gang=g
        """,
        "reserve p n1; reserve q n2",
    ),
    "a gang takes victims on several nodes": (
        """
        node n1 2
        node n2 2
        node n3 2
        task v1 a devel:0 2 @n1
        task v2 a devel:1 2 @n2
        task v3 a devel:0 2 @n3
        task p  b prod 2 gang=g
        task q  b prod 2 gang=g
        """,
        "kill v1 n1 p; kill v3 n3 q; reserve p n1; reserve q n3",
    ),
    "one victim for two of a gang is fewer than two": (
        """
        node n1 4
        node n2 4
        task v1 a devel 4 @n1
        task v2 a devel 2 @n2
        task v3 a devel 2 @n2
        task p  b prod 2 gang=g
        task q  b prod 2 gang=g
        """,
        "kill v1 n1 p; reserve p n1; reserve q n1",
    ),
    "the weak of a gang share what the strong take": (
        """
        node n1 4
        task v  a devel:5 4 @n1
        task p  b prod  2 gang=g
        task q  b devel 2 gang=g
        """,
        "kill v n1 p; reserve p n1; reserve q n1",
    ),
    "a gang over a ceiling": (
        """
        node n1 8
        role a  devel=3
        task p  a devel 2 gang=g
        task q  a devel 2 gang=g
        """,
        "wait p ceiling; wait q ceiling",
    ),
    "higher tiers first": (
        """
        node n1 2
        task p  a devel:9 2 age=99
        task q  b prod:0  2
        """,
        "wait p no-room; launch q n1",
    ),
    "the smaller share first, then the share grows": (
        """
        node n1 8
        task v  a devel 2 @n1
        task a1 a devel:9 3
        task b1 b devel:0 3
        task b2 b devel:0 3
        """,
        "wait b2 no-room; launch b1 n1; launch a1 n1",
    ),
    "a share over its weight": (
        """
        node n1 8
        role a  weight=4
        task v  a devel 4 @n1
        task w  b devel 2 @n1
        task p  a devel 2
        task q  b devel 2
        """,
        "launch p n1; wait q no-room",
    ),
    "in a role: priority, then age, then id": (
        """
        node n1 3
        task d  a devel:0 1 age=30
        task c  a devel:0 1 age=20
        task b  a devel:0 1 age=20
        task e  a devel:1 1 age=1
        """,
        "launch d n1; wait c no-room; launch b n1; launch e n1",
    ),
    "surplus of a victim that only a later task may take serves an earlier one": (
        """
        node n1 4
        task v  b devel:0 4 @n1
        task p  a devel:0 2
        task q  b devel:1 2
        """,
        "kill v n1 q; reserve p n1; reserve q n1",
    ),
}


def decisions(text: str) -> list[str]:
    return sorted(" ".join(one.split()) for one in text.replace(";", "\n").splitlines() if one.strip())


def told(snapshot: Snapshot) -> list[str]:
    plan = make_plan(snapshot)
    lines = [f"launch {one.task} {one.node}" for one in plan.launch]
    lines += [f"reserve {one.task} {one.node}" for one in plan.reserve]
    lines += [f"kill {one.task} {one.node} {one.preemptor}" for one in plan.preempt]
    lines += [f"wait {one.task} {one.reason.code}" for one in plan.wait]
    return sorted(lines)


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    text, expected = CASES[name]
    snapshot = Snapshot.parse(world(text))
    assert told(snapshot) == decisions(expected)
    assert certify(snapshot, make_plan(snapshot)) == []


@pytest.mark.parametrize("name", CASES)
def test_the_order_of_lists_is_no_matter(name: str) -> None:
    document = world(CASES[name][0])
    plans = {str(make_plan(Snapshot.parse(shuffled(document, seed))).document()) for seed in range(4)}
    assert plans == {str(make_plan(Snapshot.parse(document)).document())}


def test_a_reason_has_the_numbers() -> None:
    text = """
        node n1 4/8
        node n2 4/8
        node n3 1/1
        task v  a prod 3/1 @n1
        task w  a prod 4/1 @n2
        task p  b prod 2/1
    """
    reason = make_plan(Snapshot.parse(world(text))).wait[0].reason.plain()
    assert reason["code"] == "no-room"
    assert (reason["nodes"], reason["node"], reason["short"]) == (2, "n1", {"cpus": 1})
    assert "n1" in reason["message"]
    assert "cpus 1" in reason["message"]


def test_a_ceiling_names_its_owner_and_amounts() -> None:
    text = """
        node n1 8
        role a  ada:devel=1.5
        task v  a devel 1 user=ada @n1
        task p  a devel 1 user=ada
    """
    reason = make_plan(Snapshot.parse(world(text))).wait[0].reason.plain()
    assert {name: reason[name] for name in ("user", "role", "ceiling", "held", "ask")} == {
        "user": "ada",
        "role": "a",
        "ceiling": 1.5,
        "held": 1,
        "ask": 1,
    }


def test_the_rule_of_each_kill_is_told() -> None:
    text = """
        node n1 2
        node n2 2
        task v  a devel  2 @n1
        task w  a prod:0 2 @n2
        task p  a prod:1 2 host=n1
        task q  a prod:1 2 host=n2
    """
    rules = {one.task: one.rule for one in make_plan(Snapshot.parse(world(text))).preempt}
    assert rules == {"v": 1, "w": 2}


def test_planning_changes_nothing() -> None:
    snapshot = Snapshot.parse(world(CASES["a gang takes victims on several nodes"][0]))
    before = snapshot.document()
    first = make_plan(snapshot).document()
    assert make_plan(snapshot).document() == first
    assert snapshot.document() == before
