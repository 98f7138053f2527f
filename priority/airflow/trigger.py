"""Waits for the end of a job in the triggerer, where one process waits for thousands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from priority.airflow.hook import PriorityHook
from priority.errors import NotFound, PriorityError, Unauthenticated

LOST_S = 600.0
"""So long the API may be away until that is told as an error."""

KILL_S = 25.0
"""So long a kill is tried: Airflow allows for 30 s (`[triggerer] on_kill_timeout`)."""


class PriorityJobTrigger(BaseTrigger):
    """Fires `{"job", "state", "seen"}` when the job has ended, or with `error` if that cannot be known any more. The
    token is not part of it: the connection is asked for where it runs.
    """

    def __init__(
        self, uid: str, priority_conn_id: str, poll_interval_s: float = 2.0, seen: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.uid = uid
        self.priority_conn_id = priority_conn_id
        self.poll_interval_s = poll_interval_s
        self.seen = seen or {}
        self._hook = PriorityHook(priority_conn_id)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """How Airflow keeps it."""
        fields = {
            "uid": self.uid, "priority_conn_id": self.priority_conn_id, "poll_interval_s": self.poll_interval_s,
            "seen": self.seen,
        }  # fmt: skip
        return f"{__name__}.PriorityJobTrigger", fields

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event. The client blocks, so each question is asked in a thread."""
        access = await self._hook.aaccess()
        loop = asyncio.get_running_loop()
        heard = loop.time()
        with access.client(timeout_s=20.0, retry_s=0.0) as client:
            while True:
                try:
                    job = await asyncio.to_thread(client.job, self.uid)
                    heard = loop.time()
                except (NotFound, Unauthenticated) as error:
                    yield self._event(error=str(error))
                    return
                except PriorityError as error:
                    if loop.time() - heard > LOST_S:
                        yield self._event(error=str(error))
                        return
                else:
                    if job["state"] != "active":
                        yield self._event(state=job["state"])
                        return
                await asyncio.sleep(self.poll_interval_s)

    async def on_kill(self) -> None:
        """Airflow 3.3 calls it when a user ends the deferred task, if the triggerer has begun the trigger (see
        `plugin` for tasks that were marked before).
        """
        access = await self._hook.aaccess()
        await asyncio.to_thread(access.kill, self.uid, "its deferred task in Airflow was stopped", KILL_S)

    def _event(self, **more: Any) -> TriggerEvent:
        return TriggerEvent({"job": self.uid, "seen": self.seen, **more})
