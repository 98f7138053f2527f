"""The agent's part of `Backend.logs`: reads pieces of output, and lets those wait who ask for what is not there yet."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from priority.backend import sandbox
from priority.backend.custody import now_s
from priority.backend.messages import is_task
from priority.wire.names import REPLY

LOOK_S = 0.05
"""Between two looks at an output that somebody waits for."""
WAIT_MAX_S = 60.0
CHUNK_MAX = 4 * 2**20
WAITERS_MAX = 1000
REPLY_KEEP_S = 30
_REPLY_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)


@dataclass(slots=True)
class _Ask:
    task: str
    stream: str
    offset: int
    limit: int
    deadline_s: float
    reply: str


class Reader:
    """Used by one thread."""

    def __init__(self, sandboxes: Path) -> None:
        self._sandboxes = sandboxes
        self._waiting: list[_Ask] = []

    def take(self, document: Any) -> None:
        """One ask. KeyError, TypeError or ValueError if it is not one."""
        reply = document["reply"]
        if not isinstance(reply, str) or _REPLY_ID.fullmatch(reply) is None:
            raise ValueError("reply: must be 32 hexadecimal digits")
        if not is_task(document["task"]) or document["stream"] not in sandbox.STREAMS:
            raise ValueError("task, stream: not known")
        limit = min(max(1, int(document["limit"])), CHUNK_MAX)
        wait_s = min(max(0.0, float(document["wait_s"])), WAIT_MAX_S)
        if len(self._waiting) < WAITERS_MAX:
            self._waiting.append(
                _Ask(document["task"], document["stream"], int(document["offset"]), limit, now_s() + wait_s, reply)
            )

    def pause_s(self, longest_s: float) -> float:
        """How long its thread may wait for the next ask."""
        return LOOK_S if self._waiting else longest_s

    def answer(self, client: redis.Redis, running: Collection[str]) -> None:
        """All that need not wait any more."""
        waiting, self._waiting = self._waiting, []
        for ask in waiting:
            # Whether it runs is asked before the output is read: what it wrote last is there then.
            runs = ask.task in running
            try:
                begin, data, size = sandbox.read(self._sandboxes / ask.task, ask.stream, ask.offset, ask.limit)
            except OSError:
                head: dict[str, Any] = {"missing": True}
                data = b""
            else:
                if not data and runs and now_s() < ask.deadline_s:
                    if ask.offset < 0:
                        ask.offset = begin
                    self._waiting.append(ask)
                    continue
                head = {"offset": begin, "ended": not runs and begin + len(data) >= size}
            with client.pipeline(transaction=False) as pipeline:
                pipeline.rpush(REPLY + ask.reply, json.dumps(head).encode() + b"\n" + data)
                pipeline.expire(REPLY + ask.reply, REPLY_KEEP_S)
                pipeline.execute()
