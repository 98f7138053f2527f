"""Where the service of a state folder is, and its admin's token: what the CLI finds without being told."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from priority.errors import PriorityError, Unauthenticated, Unavailable

API_FILE = "api.json"
TOKEN_FILE = "admin.token"

GRACE_S = 2.5
"""So long a `priority up` has to take hold of its folder before we say that nothing runs there."""


def url(state: Path, wait_s: float, waits: Callable[[str], None] | None = None) -> str:
    """Of the API that runs on a state folder; while a `priority up` that holds the folder is still starting, it is
    waited for. One that was called a moment before us may not even hold it yet. `waits` is told when that begins.
    `Unavailable` says what to do.
    """
    began = time.monotonic()
    while True:
        try:
            return _url_in(state)
        except Unavailable:
            waited = time.monotonic() - began
            if waited > wait_s or (waited > min(GRACE_S, wait_s) and not _held(state)):
                raise
        if waits is not None:
            waits(f"nothing runs on the state folder {state} yet; waiting a moment for a `priority up` to start")
            waits = None
        time.sleep(0.05)


def lives(state: Path) -> bool:
    """Whether whoever wrote where it is, or a `priority up`, seems to be there still: after a SIGKILL of all of it the
    file stays. No is only a guess, for a process of another container cannot be seen from here.
    """
    if _held(state):
        return True
    try:
        return Path(f"/proc/{int(orjson.loads(_read(state / API_FILE))['pid'])}").exists()
    except (ValueError, KeyError, TypeError):
        return False


def token(state: Path, *, needed: bool) -> str:
    """The admin's, as the first start wrote it down. `Unauthenticated` if it is `needed` and not there."""
    if needed and os.environ.get("PRIORITY_TOKEN", "x").strip() == "":
        # A script whose secret was not there must not become the admin by it.
        raise Unauthenticated(
            "PRIORITY_TOKEN: is set but empty; give it a user's token, or unset it to be the admin of the state folder"
        )
    found = _read(state / TOKEN_FILE)
    if not found and needed:
        raise Unauthenticated(f"no token: set PRIORITY_TOKEN (there is none in {state} to read)")
    return found


def _url_in(state: Path) -> str:
    try:
        document = orjson.loads(_read(state / API_FILE))
        return str(document["url"])
    except (ValueError, KeyError, TypeError):
        raise Unavailable(
            f"no service found: nothing runs on the state folder {state}; start one with `priority up`, "
            "or say where one is with PRIORITY_URL"
        ) from None


def _held(state: Path) -> bool:
    """Whether a `priority up` has the state folder: by its lock, which nobody keeps longer than he lives."""
    try:
        with (state / "up.lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise PriorityError(f"cannot read {path}: {error.strerror}") from None
