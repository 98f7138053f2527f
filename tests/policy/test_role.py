"""The roles file: what it says, what it must not say, and what applying it would change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from priority.errors import Invalid, Malformed
from priority.role import Change, MemberSpec, RoleSpec, check_tiers, diff, dump_file, parse_file
from priority.tier import DEFAULT_TIERS

FILE = """
roles:
  physics:
    description: what pays for it all
    weight: 2
    quota:
      prod: {cpus: 8, mem: 16GiB}
      devel: {gpus: 0}
    users:
      ada: {}
      ben:
        grants: [submit, admin]
        quota: {prod: {cpus: 2}}
  ci: {}
"""


def test_a_roles_file() -> None:
    roles = parse_file(FILE)
    physics = roles["physics"]
    assert physics.quota == {"prod": {"cpus": 8000, "mem": 16384}, "devel": {"gpus": 0}}
    assert physics.users["ada"].grants == ("submit",)
    assert physics.users["ben"].quota == {"prod": {"cpus": 2000}}
    assert roles["ci"] == RoleSpec()
    assert parse_file(dump_file(roles)) == roles


def test_a_zero_is_not_the_same_as_no_limit() -> None:
    assert parse_file("roles: {a: {quota: {prod: {cpus: 0}}}}")["a"].quota == {"prod": {"cpus": 0}}


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("roles: {a: {wieght: 2}}", "roles.a.wieght"),
        ("roles: {a: {weight: 0}}", "roles.a.weight"),
        ("roles: {a: {weight: -1}}", "roles.a.weight"),
        ("roles: {a: {weight: .nan}}", "roles.a.weight"),
        ("roles: {a: {quota: {prod: {cpus: -1}}}}", "roles.a.quota.prod.cpus"),
        ("roles: {a: {quota: {prod: 8}}}", "roles.a.quota.prod"),
        ("roles: {a: {users: {ben: {grants: [root]}}}}", "roles.a.users.ben.grants[0]"),
        ("roles: {a: {users: [ben]}}", "roles.a.users"),
        ("rolls: {}", "rolls"),
        ("{}", "roles"),
        ("roles: {a: {}, b: {}, a: {}}", "roles.a"),
        ("[]", "document"),
        ("", "document"),
    ],
)
def test_what_is_wrong_is_named(text: str, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_file(text)
    assert caught.value.field == field


@pytest.mark.parametrize("text", ["a: b: c", "[" * 5000, "roles: !!python/name:os.system"])
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        parse_file(text)


def test_a_tier_that_is_not_there_is_named() -> None:
    roles = {"a": RoleSpec(users={"ben": MemberSpec(quota={"gold": {"cpus": 1}})})}
    with pytest.raises(Invalid) as caught:
        check_tiers(roles, DEFAULT_TIERS)
    assert caught.value.field == "roles.a.users.ben.quota.gold"


def test_a_diff_is_what_changes_and_nothing_else() -> None:
    before = parse_file(FILE)
    after = parse_file(
        FILE.replace("cpus: 8", "cpus: 9").replace("  ci: {}", "").replace("[submit, admin]", "[submit]")
    )
    assert diff(before, before) == []
    assert diff(before, after) == [
        Change("ci/weight", 1.0, None),
        Change("physics/quota/prod", {"cpus": 8, "mem": 16384}, {"cpus": 9, "mem": 16384}),
        Change("physics/users/ben/grants", ["admin", "submit"], ["submit"]),
    ]


AMOUNTS = st.dictionaries(st.sampled_from(["cpus", "mem"]), st.integers(0, 10**6), max_size=2)
QUOTAS = st.dictionaries(st.sampled_from(["prod", "devel"]), AMOUNTS, max_size=2)
MEMBERS = st.builds(MemberSpec, grants=st.sampled_from([("submit",), ("admin",), ("submit", "admin")]))
ROLES = st.dictionaries(
    st.sampled_from(["a", "b", "a.b"]),
    st.builds(
        RoleSpec,
        description=st.sampled_from(["", "x: [y", "é"]),
        weight=st.sampled_from([0.5, 1.0, 3.0]),
        quota=st.just({}),
        users=st.dictionaries(st.sampled_from(["u", "v.w"]), MEMBERS, max_size=2),
    ).flatmap(lambda role: QUOTAS.map(lambda quota: role.model_copy(update={"quota": quota}))),
    max_size=3,
)


@given(ROLES)
def test_what_is_written_is_what_is_read(roles: dict[str, RoleSpec]) -> None:
    assert parse_file(dump_file(roles)) == roles


@given(ROLES, ROLES)
def test_there_is_a_diff_where_there_is_a_difference(before: dict[str, RoleSpec], after: dict[str, RoleSpec]) -> None:
    changed = {change.role for change in diff(before, after)}
    assert changed == {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
