"""How often a node's agent began, kept in the node's folder: what the names of its incarnations are made of.

A number is on disk before it is used, so who dies in between has left one out, and none is used twice. It is never
less than the time in microseconds: a folder that was restored from an older copy goes on behind what it gave since.
Where there is no file, or one that is not understood, or none can be written, the home is another: its order among
the others is then told by the clock alone.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import time
from pathlib import Path

from priority.incarnation import name_of

_KEPT = re.compile(rb"([0-9a-f]{16}) ([0-9]{1,18})\n")
_NUMBER_MAX = 10**18

log = logging.getLogger(__name__)


class Starts:
    """Of one node's folder, which its only agent holds the lock of. `next` by one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "starts"

    def next(self) -> str:
        """The name of a new incarnation."""
        home, number = self._kept()
        number = max(number + 1, time.time_ns() // 1000)
        try:
            self._keep(home, number)
        except OSError as error:
            log.warning("%s cannot be written (%s): clocks alone say that this agent is a new one", self._file, error)
            home = secrets.token_hex(8)
        return name_of(home, number, secrets.token_hex(8))

    def _kept(self) -> tuple[str, int]:
        try:
            with self._file.open("rb") as stream:
                found = _KEPT.fullmatch(stream.read(100))
        except OSError:
            found = None
        if found is None or int(found[2]) >= _NUMBER_MAX:
            return secrets.token_hex(8), 0
        return found[1].decode(), int(found[2])

    def _keep(self, home: str, number: int) -> None:
        new = self._file.with_suffix(".new")
        with open(new, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as stream:
            stream.write(f"{home} {number}\n".encode())
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(self._file)
        folder = os.open(self._file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
