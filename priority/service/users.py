"""Users and their tokens. A secret is shown once and kept nowhere: only its hash is."""

from __future__ import annotations

from pathlib import Path

from priority.ports import Token, User
from priority.service.parts import Parts

Tokens = list[Token]


class Users:
    """The verbs. Users are made by cluster admins, or by naming them in a role."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def list(self, actor: User) -> list[User]:
        """Every user, for a cluster admin; else oneself."""
        raise NotImplementedError

    def create(self, actor: User, name: str, *, admin: bool = False) -> User:
        """Insert a user (cluster admins only). `Conflict` if there is one of that name."""
        raise NotImplementedError

    def create_token(
        self, actor: User, user: str | None = None, label: str = "", expires_s: float | None = None
    ) -> tuple[Token, str]:
        """A new token for oneself, or by a cluster admin for anyone, and its secret, which is not kept."""
        raise NotImplementedError

    def revoke(self, actor: User, id: str) -> Token:
        """From now on (one second later in other processes) it opens nothing. One's own, or by a cluster admin."""
        raise NotImplementedError

    def tokens(self, actor: User) -> Tokens:
        """One's own, or everyone's for a cluster admin."""
        raise NotImplementedError

    def authenticate(self, secret: str) -> User:
        """Whose token this is, with all grants. `Unauthenticated` if it is unknown, expired or revoked."""
        raise NotImplementedError

    def bootstrap(self, state: Path) -> str:
        """The admin's secret, kept in `state/admin.token` (mode 0600): made on the first start, the same ever after."""
        raise NotImplementedError
