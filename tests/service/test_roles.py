"""Roles and quotas: who may edit what, and what an edit must not break."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from priority import service
from priority.errors import Conflict, Invalid, NotFound, PriorityError
from priority.records import Audit, Page, User
from priority.role import RoleSpec
from priority.service.roles import ACTIONS
from priority.task import State

from .world import ADA, BEN, EVE, ROOT, World, node, spec


def role(**fields: Any) -> RoleSpec:
    return RoleSpec.model_validate(fields)


def newest(world: World) -> Audit:
    return world.service.roles.audits(ROOT, Page(1))[0][0]


def test_applying_what_is_there_changes_nothing() -> None:
    world = World()
    roles = world.service.roles.show(ROOT)
    before = len(world.service.roles.audits(ROOT, Page(100))[0])
    assert world.service.roles.diff(ROOT, roles, delete=True) == []
    assert world.service.roles.apply(ROOT, roles, delete=True) == []
    assert len(world.service.roles.audits(ROOT, Page(100))[0]) == before


def test_an_edit_leaves_who_when_before_and_after() -> None:
    world = World()
    world.service.roles.set_quota(ROOT, "physics", "prod", {"cpus": 9000})
    row = world.service.roles.audits(ROOT, Page(1))[0][0]
    assert (row.who, row.action, row.subject, row.at_us) == (
        "root",
        "quota.set",
        "role:physics",
        world.clock.now_us(),
    )
    assert (row.before["quota"], row.after["quota"]) == ({"prod": {"cpus": 8}}, {"prod": {"cpus": 9}})
    event = world.events("quota.changed")[-1]
    assert (event.role, event.data["path"], event.data["by"]) == ("physics", "physics/quota/prod", "root")


def test_roles_that_a_file_does_not_name_stay_unless_told() -> None:
    world = World()
    desired = {"physics": world.service.roles.show(ROOT)["physics"]}
    assert world.service.roles.apply(ROOT, desired) == []
    world.submit(spec("chem/devel/a"))
    with pytest.raises(Conflict, match="role chem has active jobs, such as chem/devel/a"):
        world.service.roles.apply(ROOT, desired, delete=True)
    assert set(world.service.roles.show(ROOT)) == {"physics", "chem", "web"}
    world.service.roles.apply(ROOT, desired, delete=True, force=True)
    assert set(world.service.roles.show(ROOT)) == {"physics"}
    dropped, _ = world.service.roles.audits(ROOT, Page(2), action="role.drop")
    forced = {row.subject: row.after for row in dropped}
    assert forced["role:web"] is None and "has active jobs" in forced["role:chem"]["forced"]
    assert world.service.jobs.get(ROOT, "chem/devel/a").active == 1


@pytest.mark.parametrize(
    ("quota", "refused"),
    [
        ({"cpus": 4000}, False),
        ({"cpus": 3999}, True),
        ({"cpus": 0}, True),
        ({"mem": 1}, False),
        (None, True),
    ],
)
def test_a_guarantee_is_not_lowered_below_its_use(quota: dict[str, int] | None, refused: bool) -> None:
    world = World()
    world.submit(spec("physics/prod/a", cpus=4))
    if refused:
        with pytest.raises(Conflict, match="is below its use by cpus") as refusal:
            world.service.roles.set_quota(ROOT, "physics", "prod", quota)
        below = (4000 - (quota or {}).get("cpus", 0)) / 1000
        assert refusal.value.details["over"] == {"cpus": below}, "in cores, as everywhere"
        assert world.service.roles.show(ROOT)["physics"].quota == {"prod": {"cpus": 8000}}
        world.service.roles.set_quota(ROOT, "physics", "prod", quota, force=True)
        assert newest(world).after["forced"] == str(refusal.value)
        with pytest.raises(PriorityError, match="quota"):
            world.submit(spec("physics/prod/b"))
    else:
        world.service.roles.set_quota(ROOT, "physics", "prod", quota, force=True)
        assert "forced" not in newest(world).after, "it would not have been refused"


def test_a_user_s_guarantee_neither() -> None:
    world = World()
    world.submit(spec("physics/prod/a", cpus=4), actor=ADA)
    with pytest.raises(Conflict, match="user ada of role physics, tier prod"):
        world.service.roles.set_quota(BEN, "physics", "prod", {"cpus": 3000}, user="ada")
    world.service.roles.set_quota(BEN, "physics", "prod", {"cpus": 4000}, user="ada")
    world.service.roles.set_quota(BEN, "physics", "prod", None, user="ada")
    assert world.service.roles.show(BEN, "physics")["physics"].users["ada"].quota == {}


def test_a_ceiling_may_be_lowered_at_any_time() -> None:
    world = World([node("n1")])
    job = world.submit(spec("physics/devel/a", instances=3))
    world.settle()
    world.service.roles.set_quota(ROOT, "physics", "devel", {"cpus": 1000})
    world.settle()
    assert world.count(job, State.RUNNING) == 3
    world.backend.finish(world.tasks(job)[0].id, 1)
    world.move(5.0)
    assert world.count(job, State.PENDING) == 1


def test_a_raised_ceiling_lets_what_waits_begin_at_once() -> None:
    world = World([node("n1")])
    world.service.roles.set_quota(ROOT, "physics", "devel", {"cpus": 1000})
    job = world.submit(spec("physics/devel/a", instances=3))
    world.settle()
    assert world.count(job, State.RUNNING) == 1
    world.service.roles.set_quota(ROOT, "physics", "devel", None)
    world.settle()
    assert world.count(job, State.RUNNING) == 3


@pytest.mark.parametrize(
    ("actor", "change", "allowed"),
    [
        # who                what                                             may
        (ROOT, {"quota": {"prod": {"cpus": 1}}}, True),
        (ROOT, {"weight": 3}, True),
        (BEN, {"users": {"ben": {"grants": ["admin"]}, "new": {}}}, True),
        (BEN, {"users": {"ben": {"grants": ["submit", "admin"]}, "ada": {"quota": {"prod": {"cpus": 1}}}}}, True),
        (BEN, {"quota": {"prod": {"cpus": 100}}}, False),
        (BEN, {"quota": {"devel": {"cpus": 100}}}, False),
        (BEN, {"weight": 3}, False),
        (BEN, {"description": "mine"}, False),
        (ADA, {"users": {}}, False),
        (ADA, {"weight": 3}, False),
        (EVE, {"weight": 3}, False),
    ],
)
def test_who_may_edit_what(actor: User, change: dict[str, Any], allowed: bool) -> None:
    world = World()
    now = world.service.roles.show(ROOT)["physics"].model_dump(mode="json")
    desired = {"physics": role(**(now | change))}
    before = world.service.jobs.last_event()
    if allowed:
        assert world.service.roles.diff(actor, desired) != []
        assert world.service.roles.apply(actor, desired) != []
    else:
        for act in (world.service.roles.diff, world.service.roles.apply):
            with pytest.raises(NotFound, match="there is no role physics"):
                act(actor, desired)
        assert world.service.jobs.last_event() == before


def test_nobody_but_an_admin_makes_or_deletes_roles() -> None:
    world = World()
    for actor in (ADA, BEN, EVE):
        with pytest.raises(NotFound):
            world.service.roles.apply(actor, {"new": role()})
        with pytest.raises(NotFound):
            world.service.roles.apply(actor, {}, delete=True)


def test_a_quota_of_what_is_not_there_is_refused() -> None:
    world = World()
    with pytest.raises(Invalid, match="tier: 'gold' is not a tier"):
        world.service.roles.set_quota(ROOT, "physics", "gold", {})
    with pytest.raises(NotFound, match="role atlantis"):
        world.service.roles.set_quota(ROOT, "atlantis", "prod", {})
    with pytest.raises(NotFound, match="user eve of role physics"):
        world.service.roles.set_quota(ROOT, "physics", "prod", {}, user="eve")
    with pytest.raises(NotFound, match="role physics"):
        world.service.roles.set_quota(EVE, "physics", "prod", {})
    with pytest.raises(Invalid) as caught:
        world.service.roles.apply(ROOT, {"physics": role(quota={"gold": {}})})
    assert caught.value.field == "roles.physics.quota.gold"


def test_the_view_puts_quota_use_and_holding_side_by_side() -> None:
    world = World([node("n1", 4)])
    world.submit(spec("physics/prod/a", instances=5), actor=ADA)
    world.submit(spec("physics/prod/b"), actor=BEN)
    world.settle()
    view = world.service.roles.quota(ADA, "physics")
    lines = {(line.tier, line.user): (line.quota, line.use, line.holding) for line in view.lines}
    assert lines["prod", None][:2] == ({"cpus": 8000}, {"cpus": 6000})
    assert lines["prod", None][2] == {"cpus": 4000}
    assert lines["prod", "ada"][:2] == (None, {"cpus": 5000})
    assert lines["prod", "ben"][:2] == (None, {"cpus": 1000})
    assert view.warnings == ("the prod quotas add up to 108 cpus, but the cluster has 4: 104 too many are promised",)
    assert {line.role for line in world.service.roles.quota(ADA).lines} == {"physics"}
    with pytest.raises(NotFound, match="there is no role physics"):
        world.service.roles.quota(EVE, "physics")


def test_a_named_role_that_is_hidden_reads_like_none() -> None:
    world = World()
    messages = []
    for name in ("physics", "atlantis"):
        with pytest.raises(NotFound) as caught:
            world.service.roles.show(EVE, name)
        messages.append(caught.value.message.replace(name, ""))
    assert messages[0] == messages[1]
    assert set(world.service.roles.show(EVE)) == {"web"}


def test_weights_reach_the_engine() -> None:
    world = World([node("n1", 4)], roles={"a": {"weight": 1}, "b": {"weight": 3}})
    jobs = [world.submit(spec(f"{name}/devel/j", instances=4)) for name in ("a", "b")]
    world.settle()
    assert [world.count(job, State.RUNNING) for job in jobs] == [1, 3]


def test_audits_are_found_by_role_user_action_and_time_of_what_one_may_see() -> None:
    world = World()
    roles = world.service.roles
    world.move(10.0)
    since_us = world.clock.now_us()
    roles.set_quota(ROOT, "physics", "prod", {"cpus": 9000})
    roles.set_quota(ROOT, "chem", "devel", {"cpus": 1000})

    def found(actor: User, **fits: Any) -> list[tuple[str, str]]:
        return [(row.action, row.subject) for row in roles.audits(actor, Page(100), **fits)[0]]

    new = [("quota.set", "role:chem"), ("quota.set", "role:physics")]
    assert found(ROOT, since_us=since_us) == new
    assert found(ROOT, action="quota") == new and found(ROOT, action="quota.set", role="chem") == new[:1]
    assert found(ROOT, who="nobody") == []
    for wrong in ("bogus", "quota.bogus", "quo"):
        with pytest.raises(Invalid, match=f"action: .*{wrong}.* is not an action; there are role.make, .*quota.set"):
            found(ROOT, action=wrong)
    assert found(BEN, action="quota") == new[1:], "BEN is admin of physics"
    assert found(BEN, role="chem") == [], "what one may not see is not found by asking for it"


def test_every_action_that_is_audited_is_known() -> None:
    """And what is named like one is an event."""
    events = {"job.ended", "job.scaled", "job.submitted", "job.killed", "job.restarted", "node.up", "node.down"}
    events |= {"node.silent", "quota.changed", "role.changed"}
    named = re.compile(r'"((?:role|quota|user|token|job|node|plan)\.[a-z]+)"')
    for file in Path(service.__file__).parent.glob("*.py"):
        assert set(named.findall(file.read_text())) <= events | set(ACTIONS), file.name


def test_a_review_tells_each_role_that_would_be_refused() -> None:
    world = World([node("n1")])
    world.submit(spec("physics/prod/a", cpus=2))
    desired = {name: RoleSpec() for name in ("physics", "chem")}
    changes, refused = world.service.roles.review(ROOT, desired)
    assert changes and len(refused) == 1
    assert refused[0].startswith("the new quota of role physics, tier prod is below its use by cpus 2")
    with pytest.raises(Conflict, match="below its use"):
        world.service.roles.apply(ROOT, desired)
