"""Names in Redis that scheduler and agents must agree on; what they hold is told in `backend.agent`."""

from __future__ import annotations

BEATS = "priority:beats"
REPORTS = "priority:reports"
ASK = "priority:ask:"
REPLY = "priority:reply:"
