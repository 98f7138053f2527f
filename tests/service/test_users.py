"""Users, tokens and the first start."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from priority.errors import Conflict, Invalid, NotFound, Unauthenticated
from priority.records import Page, User
from priority.service.users import digest_of

from .world import ADA, ROOT, World


def test_a_token_opens_what_its_user_may() -> None:
    world = World()
    token, secret = world.service.users.create_token(ROOT, "ada", "laptop")
    user = world.service.users.authenticate(secret)
    assert (user.name, user.admin, dict(user.grants)) == ("ada", False, {"physics": frozenset({"submit"})})
    assert secret.startswith("pri_")
    assert len(secret) >= 40
    assert secret not in repr(token)
    assert secret not in repr(world.service.roles.audits(ROOT, Page(100)))
    assert token.digest == digest_of(secret)


@pytest.mark.parametrize("secret", ["", "pri_", "pri_wrong", "\ud800", "x" * 100_000])
def test_what_is_no_token_opens_nothing(secret: str) -> None:
    with pytest.raises(Unauthenticated, match="the token is unknown, expired or revoked"):
        World().service.users.authenticate(secret)


def test_a_revoked_token_is_dead_at_once_here_and_in_a_second_elsewhere() -> None:
    world = World()
    token, secret = world.service.users.create_token(ROOT, "ada")
    from priority.service.users import Users

    elsewhere = Users(world.parts)
    elsewhere.authenticate(secret)
    world.service.users.authenticate(secret)
    revoked = world.service.users.revoke(ADA, token.id)
    assert revoked.revoked_us == world.clock.now_us()
    with pytest.raises(Unauthenticated):
        world.service.users.authenticate(secret)
    world.clock.move(1.0)
    with pytest.raises(Unauthenticated):
        elsewhere.authenticate(secret)


def test_a_token_expires() -> None:
    world = World()
    _, secret = world.service.users.create_token(ADA, expires_s=10.0)
    world.service.users.authenticate(secret)
    world.clock.move(9.9)
    world.service.users.authenticate(secret)
    world.clock.move(0.1)
    with pytest.raises(Unauthenticated):
        world.service.users.authenticate(secret)


def test_a_grant_that_is_taken_away_is_gone_in_a_second() -> None:
    world = World()
    _, secret = world.service.users.create_token(ADA)
    assert world.service.users.authenticate(secret).grants
    physics = world.service.roles.show(ROOT)["physics"]
    world.service.roles.apply(ROOT, {"physics": physics.model_copy(update={"users": {}})})
    world.clock.move(1.0)
    assert not world.service.users.authenticate(secret).grants


def test_whose_tokens_one_may_touch() -> None:
    world = World()
    mine, _ = world.service.users.create_token(ADA)
    theirs, _ = world.service.users.create_token(ROOT, "ben")
    assert [token.id for token in world.service.users.tokens(ADA)] == [mine.id]
    assert {token.id for token in world.service.users.tokens(ROOT)} == {mine.id, theirs.id}
    with pytest.raises(NotFound, match=f"there is no token {theirs.id}"):
        world.service.users.revoke(ADA, theirs.id)
    with pytest.raises(NotFound, match="there is no token none"):
        world.service.users.revoke(ADA, "none")
    for name in ("ben", "nobody"):
        with pytest.raises(NotFound, match=f"there is no user {name}, or"):
            world.service.users.create_token(ADA, name)
    with pytest.raises(NotFound, match="there is no user nobody"):
        world.service.users.create_token(ROOT, "nobody")


def test_users() -> None:
    world = World()
    assert world.service.users.create(ROOT, "carl") == User("carl")
    with pytest.raises(Conflict, match="there is a user carl already"):
        world.service.users.create(ROOT, "carl", admin=True)
    with pytest.raises(NotFound):
        world.service.users.create(ADA, "dora", admin=True)
    with pytest.raises(Invalid, match=r"^name"):
        world.service.users.create(ROOT, "a/b")
    assert [user.name for user in world.service.users.list(ADA)] == ["ada"]
    assert {user.name for user in world.service.users.list(ROOT)} == {"ada", "ben", "carl", "eve"}


@pytest.mark.parametrize("expires_s", [0.0, -1.0, float("nan"), float("inf"), 1e30])
def test_an_expiry_is_sensible(expires_s: float) -> None:
    with pytest.raises(Invalid, match=r"^expires_s"):
        World().service.users.create_token(ADA, expires_s=expires_s)


def test_the_first_start_makes_an_admin_and_the_second_finds_it(tmp_path: Path) -> None:
    world = World()
    secret = world.service.users.bootstrap(tmp_path)
    file = tmp_path / "admin.token"
    assert file.read_text().strip() == secret
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert world.service.users.authenticate(secret).admin
    assert world.service.users.bootstrap(tmp_path) == secret
    assert len(world.service.users.tokens(ROOT)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["admin.token"]


def test_a_first_start_that_died_half_way_is_finished_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "admin.token").write_text("pri_from-the-one-that-died\n")
    world = World()
    assert world.service.users.bootstrap(tmp_path) == "pri_from-the-one-that-died"
    assert world.service.users.authenticate("pri_from-the-one-that-died").admin


def test_a_revoked_admin_token_stays_dead_and_gets_a_successor(tmp_path: Path) -> None:
    world = World()
    first = world.service.users.bootstrap(tmp_path)
    world.service.users.revoke(ROOT, world.service.users.tokens(ROOT)[0].id)
    second = world.service.users.bootstrap(tmp_path)
    assert second != first
    assert world.service.users.authenticate(second).admin
    with pytest.raises(Unauthenticated):
        world.service.users.authenticate(first)
