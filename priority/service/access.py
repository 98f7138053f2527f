"""Who may do what. What an actor has no grant for looks exactly like what does not exist."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from priority.errors import NotFound
from priority.records import User

Grant = Literal["submit", "admin"]

SYSTEM = User("system", admin=True)
"""Who acts when nobody asked: first start, `priority db`, tests."""


def may(actor: User, role: str, grant: Grant = "submit") -> bool:
    """Whether the actor may act on the role's jobs (`submit`; `admin` entails it) or on its users (`admin`)."""
    if actor.admin:
        return True
    grants = actor.grants.get(role, frozenset())
    return grant in grants or (grant == "submit" and "admin" in grants)


def visible_roles(actor: User) -> Collection[str] | None:
    """The roles whose jobs the actor may see; None: all of them."""
    return None if actor.admin else sorted(role for role in actor.grants if may(actor, role))


def must_admin(actor: User, what: str = "this") -> None:
    """`NotFound` for anyone but a cluster admin."""
    if not actor.admin:
        raise no_such(what)


MAY = " that you may "
"""Who reads this knows already that it may only be the grant that is not there."""


def no_such(what: str) -> NotFound:
    """The same words whether it does not exist or is hidden."""
    return NotFound(f"there is no {what}" if MAY in what else f"there is no {what}, or you have no grant for it")
