"""The API's address: its socket, its URL, and the file by which the CLI finds it."""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from pathlib import Path

from priority.errors import Conflict
from priority.service.settings import Settings


def bind(settings: Settings) -> socket.socket:
    """A listening socket on the API's address; `Conflict` if it is taken."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise Conflict(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror}); "
            "choose another port with --port, 0 for any"
        ) from None
    return listener


def url_of(listener: socket.socket) -> str:
    """Where clients find it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def announce(state: Path, url: str) -> None:
    """Write `api.json`, by which the CLI finds us: whole or not at all."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = state / f".api.json.{os.getpid()}"
    fresh.write_text(json.dumps({"url": url, "pid": os.getpid()}), encoding="utf-8")
    fresh.replace(state / "api.json")


def withdraw(state: Path) -> None:
    """Take `api.json` away, if it is ours: after a clean stop the CLI says at once that nothing runs."""
    file = state / "api.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        if json.loads(file.read_text(encoding="utf-8"))["pid"] == os.getpid():
            file.unlink()
