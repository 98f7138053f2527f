"""Users and their tokens. A secret is shown once and kept nowhere: only its hash is."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from dataclasses import replace
from pathlib import Path

from priority.document import NAME_PATTERN
from priority.errors import Conflict, Invalid, Unauthenticated
from priority.ports import Writer
from priority.records import Audit, Token, User
from priority.service.access import SYSTEM, no_such
from priority.service.parts import Parts

PREFIX = "pri_"
"""Begins every secret, so that scanners can find one that was published."""

ADMIN = "admin"
"""The user that the first start makes."""

TOKEN_FILE = "admin.token"

_CACHE_US = 1_000_000
"""A revoked token is dead everywhere after so long."""

_CACHE_MAX = 10_000
_LABEL_MAX = 255
_NAME = re.compile(NAME_PATTERN)

Tokens = list[Token]


class Users:
    """The verbs. Users are made by cluster admins, or by naming them in a role."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._known: dict[str, tuple[int, int | None, User]] = {}
        """digest -> (good until, expires, user)"""

    def list(self, actor: User) -> list[User]:
        """Every user, for a cluster admin; else oneself."""
        with self._parts.store.read() as reader:
            return [user for user in reader.users() if actor.admin or user.name == actor.name]

    def create(self, actor: User, name: str, *, admin: bool = False) -> User:
        """Insert a user (cluster admins only). `Conflict` if there is one of that name."""
        if not actor.admin:
            raise no_such("user that you may make")
        if _NAME.fullmatch(name) is None:
            raise Invalid("name", "must begin with a letter or digit and have at most 63 of letters, digits, '_.-'")
        with self._parts.store.write() as writer:
            if writer.user(name) is not None:
                raise Conflict(f"there is a user {name} already; take another name", user=name)
            writer.put_user(name, admin)
            self._write_down(writer, actor, "user.make", f"user:{name}", {"admin": admin})
            return writer.user(name) or User(name, admin)

    def create_token(
        self, actor: User, user: str | None = None, label: str = "", expires_s: float | None = None
    ) -> tuple[Token, str]:
        """A new token for oneself, or by a cluster admin for anyone, and its secret, which is not kept."""
        name = user if user is not None else actor.name
        if name != actor.name and not actor.admin:
            raise no_such(f"user {name}")
        if len(label) > _LABEL_MAX:
            raise Invalid("label", f"must have at most {_LABEL_MAX} characters")
        if expires_s is not None and not 0 < expires_s <= 100 * 366 * 86_400:
            raise Invalid("expires_s", "must be more than 0 and at most a hundred years of seconds")
        with self._parts.store.write() as writer:
            if writer.user(name) is None:
                raise no_such(f"user {name}")
            secret = _new_secret()
            token = self._put_token(writer, name, secret, label, expires_s)
            self._write_down(writer, actor, "token.make", f"user:{name}", {"token": token.id, "label": label})
        return token, secret

    def revoke(self, actor: User, id: str) -> Token:
        """From now on (one second later in other processes) it opens nothing. One's own, or by a cluster admin."""
        with self._parts.store.write() as writer:
            mine = writer.tokens(None if actor.admin else actor.name)
            token = next((token for token in mine if token.id == id), None)
            if token is None:
                raise no_such(f"token {id}")
            if token.revoked_us is None:
                token = replace(token, revoked_us=self._parts.clock.now_us())
                writer.put_token(token)
                self._write_down(writer, actor, "token.revoke", f"user:{token.user}", {"token": id})
        self._known.pop(token.digest, None)
        return token

    def tokens(self, actor: User) -> Tokens:
        """One's own, or everyone's for a cluster admin."""
        with self._parts.store.read() as reader:
            return reader.tokens(None if actor.admin else actor.name)

    def recall(self, secret: str) -> User | None:
        """Whose token this is, if that was asked within the last second; never waits for the database."""
        now_us = self._parts.clock.now_us()
        known = self._known.get(digest_of(secret))
        # one of an hour ahead was asked for before the clock was set back
        fresh = known is not None and known[0] - _CACHE_US <= now_us < known[0]
        if known is not None and fresh and (known[1] is None or now_us < known[1]):
            return known[2]
        return None

    def authenticate(self, secret: str) -> User:
        """Whose token this is, with all grants. `Unauthenticated` if it is unknown, expired or revoked."""
        if (known := self.recall(secret)) is not None:
            return known
        digest = digest_of(secret)
        now_us = self._parts.clock.now_us()
        with self._parts.store.read() as reader:
            token = reader.token(digest)
            user = reader.user(token.user) if token is not None else None
        if token is None or user is None or token.revoked_us is not None or _expired(token, now_us):
            self._known.pop(digest, None)
            # one answer for all three, so that it tells nothing about tokens
            raise Unauthenticated("the token is unknown, expired or revoked; ask for another (`priority token create`)")
        if len(self._known) >= _CACHE_MAX:
            self._known.clear()
        self._known[digest] = (now_us + _CACHE_US, token.expires_us, user)
        return user

    def has_admin(self) -> bool:
        """Whether there was a first start already."""
        with self._parts.store.read() as reader:
            return reader.user(ADMIN) is not None

    def bootstrap(self, state: Path) -> str:
        """The admin's secret, kept in `state/admin.token` (mode 0600): made on the first start, the same ever after.

        The file comes before the database: dead in between, the next start finds the secret and enters it. A token
        that was revoked stays so, and another takes its place.
        """
        file = state / TOKEN_FILE
        with self._parts.store.write() as writer:
            if writer.user(ADMIN) is None:
                writer.put_user(ADMIN, True)
                self._write_down(writer, SYSTEM, "user.make", f"user:{ADMIN}", {"admin": True})
            secret = file.read_text(encoding="ascii").strip() if file.exists() else ""
            token = writer.token(digest_of(secret)) if secret else None
            if token is not None and token.revoked_us is None and not _expired(token, self._parts.clock.now_us()):
                return secret
            if not secret or token is not None:
                secret = _new_secret()
                _keep(file, secret)
            token = self._put_token(writer, ADMIN, secret, "first start", None)
            self._write_down(writer, SYSTEM, "token.make", f"user:{ADMIN}", {"token": token.id})
        return secret

    def _put_token(self, writer: Writer, user: str, secret: str, label: str, expires_s: float | None) -> Token:
        now_us = self._parts.clock.now_us()
        token = Token(
            id=self._parts.new_id(now_us),
            user=user,
            digest=digest_of(secret),
            label=label,
            created_us=now_us,
            expires_us=None if expires_s is None else now_us + round(expires_s * 1e6),
        )
        writer.put_token(token)
        return token

    def _write_down(self, writer: Writer, actor: User, action: str, subject: str, after: object) -> None:
        writer.audit(Audit(0, self._parts.clock.now_us(), actor.name, action, subject, None, None, after))


def digest_of(secret: str) -> str:
    """What is kept of a secret. A secret is 32 random bytes, so a plain hash cannot be guessed back."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _new_secret() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def _expired(token: Token, now_us: int) -> bool:
    return token.expires_us is not None and token.expires_us <= now_us


def _keep(file: Path, secret: str) -> None:
    """Whole or not at all, and for its owner's eyes from the first byte."""
    draft = file.with_suffix(f".{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(secret + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(file)
