"""Every plan is checked by `certify` before it is written down. One that fails is refused: nothing of it is done.

What follows, so that neither a mistake of the engine nor one of `certify` stops the service:

- refused once: the round is dropped, and tried again when something has changed, or after `RETRY_US`.
- refused again: all of the plan that does no harm is carried out (see `salvage`): nobody is killed without right or
  need, no rule and no node's room is broken, but whether somebody could have been served better is let be. So nobody
  waits for one about whom the two disagree. It is tried again as before, after twice as long each time.
- `certify` itself fails: that says nothing of the plan, and it is carried out as with `off`.

Each is counted. The first of a row, and one a minute while it lasts, is kept in the state folder: the snapshot as
`priority plan` reads it, and beside it the plan and what is wrong with it; the oldest are deleted. Of these the
scheduler writes an audit and an event too, and health is degraded for a day.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from priority.certify import Violation, certify
from priority.plan import Plan
from priority.salvage import salvage
from priority.snapshot import Snapshot

log = logging.getLogger(__name__)

FOLDER = "refused"
"""In the state folder."""

COUNT = "count.json"
"""There: how many plans were refused, and when the last one was."""

KEPT = 20
"""So many refused rounds are kept."""

SAMPLE = 10
"""With `sampled` one plan in so many is checked, and as many after a refused one."""

RETRY_US, RETRY_MAX_US = 50_000, 60_000_000
"""After a refused round, twice as long after each one more in a row."""

REPORT_US = 60_000_000

DAY_US = 86_400_000_000

_SHOWN = 20
"""So many violations are written down."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What to tell of a refused plan."""

    count: int
    """How many it is, in this state folder."""
    found: Sequence[Violation]
    file: str

    def plain(self) -> dict[str, Any]:
        """For events and audits."""
        shown = [{"property": one.property, "task": one.task, "what": one.message} for one in self.found[:_SHOWN]]
        return {"count": self.count, "violations": shown, "all": len(self.found), "file": self.file}


class Guard:
    """One scheduler's. `judge` between making a plan and writing it down."""

    def __init__(
        self, state: Path, how: str, check: Callable[[Snapshot, Plan], Sequence[Violation]] | None = None
    ) -> None:
        self._folder = state / FOLDER
        self._how = how
        self._check = certify if check is None else check
        self.refused = 0
        """Plans that this scheduler has refused."""
        self.row = 0
        """How many of the last ones, without one between them that passed."""
        self.next_us: int | None = None
        """When a refused round is tried again though nothing has changed."""
        self.untold: Refusal | None = None
        """What the scheduler is to write down."""
        self._plans = 0
        self._close = 0
        self._report_us = 0

    def due(self, changed: bool, now_us: int) -> bool:
        """Whether it makes sense to decide: the same would be refused again."""
        return self.next_us is None or changed or now_us >= self.next_us

    def step_back(self, now_us: int) -> None:
        """The clock was set back."""
        self.next_us = None if self.next_us is None else now_us
        self._report_us = min(self._report_us, now_us)

    def judge(self, snapshot: Snapshot, plan: Plan, now_us: int) -> Plan | None:
        """The plan to carry out: this one, what can be saved of it, or (None) nothing yet."""
        self._plans += 1
        self._close = max(0, self._close - 1)
        sampled = self._how == "sampled" and (self._close or self._plans % SAMPLE == 1)
        if not (self._how == "always" or sampled):
            return plan
        found, failed = self._violations(snapshot, plan)
        if not found:
            self.row, self.next_us = 0, None
            return plan
        self.refused += 1
        self.row += 1
        self._close = SAMPLE
        self._write_down(snapshot, plan, found, now_us)
        if failed:
            self.next_us = None
            return plan
        self.next_us = now_us + min(RETRY_US * 2 ** min(self.row - 1, 10), RETRY_MAX_US)
        return None if self.row == 1 else salvage(snapshot, plan, found)

    def _violations(self, snapshot: Snapshot, plan: Plan) -> tuple[Sequence[Violation], bool]:
        """What is wrong, and whether that is `certify` itself."""
        try:
            return self._check(snapshot, plan), False
        except Exception as error:  # whatever it stumbled over, the plan may be as good as any
            log.exception("certify failed; the plan is carried out unchecked")
            return [Violation("certify", "", f"failed: {type(error).__name__}: {error}")], True

    def _write_down(self, snapshot: Snapshot, plan: Plan, found: Sequence[Violation], now_us: int) -> None:
        first = found[0]
        log.error("plan refused: %s: %s %s (%d in all)", first.property, first.task, first.message, len(found))
        if self.row > 1 and now_us < self._report_us:
            _count(self._folder, now_us)
            return
        self._report_us = now_us + REPORT_US
        name = f"{datetime.fromtimestamp(now_us / 1e6, UTC):%Y%m%dT%H%M%S.%fZ}.json"
        count = self.refused
        try:
            count = _count(self._folder, now_us)
            why = {"violations": [[one.property, one.task, one.message] for one in found], "plan": plan.document()}
            _write(self._folder / name, snapshot.document())
            _write(self._folder / name.replace(".json", ".why"), why)
            _forget(self._folder)
        except OSError as error:
            log.warning("the refused round is not kept: %s", error)
        self.untold = Refusal(count, found, str(self._folder / name))


def refusals(state: Path) -> tuple[int, int]:
    """How many plans were refused in a state folder, and when the last was (microseconds); zeros if none."""
    try:
        document = json.loads((state / FOLDER / COUNT).read_text())
        return int(document["count"]), int(document["last_us"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0, 0


def _count(folder: Path, now_us: int) -> int:
    count = refusals(folder.parent)[0] + 1
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(folder / COUNT, {"count": count, "last_us": now_us})
    except OSError as error:
        log.warning("the refused plan is not counted: %s", error)
    return count


def _write(path: Path, document: Any) -> None:
    """Whole or not at all: whoever reads it never sees a part."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(document))
    part.chmod(0o600)
    part.replace(path)


def _forget(folder: Path) -> None:
    rounds = sorted(path for path in folder.glob("*.json") if path.name != COUNT)
    for path in rounds[:-KEPT]:
        path.unlink(missing_ok=True)
        path.with_suffix(".why").unlink(missing_ok=True)
