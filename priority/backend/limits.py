"""Looking at tasks: is one over its memory or its disk, is an output too long?

What was not asked for is not limited. A look asks for the sizes of two outputs (some 3 us a task) and, where memory is
limited, reads two small files in /proc for each process (some 7 us). Where it is not, that is done less often, for the
peak alone. The folder of a task that asked for disk is walked for no more than a twentieth of the time.
"""

from __future__ import annotations

from collections.abc import Iterable

from priority.backend import proc, sandbox
from priority.backend.custody import Custody, cause, now_s

LOOK_S = 0.5
"""Between two looks."""
PEAK_S = 2.0
"""Between two looks at the memory of a task that has no limit of it."""
HURRY_S = 0.05
"""Between two looks when a task was seen close to a limit, or with an output that grows fast."""
SHARE = 20
"""A look, and a walk through a folder, may take one part in so many of the time."""
FAR = 1.5
"""A task so many times over its limit gets no grace: it would take the room of others meanwhile."""


class Breach:
    """A task is over a limit; `far`: so far that it is killed at once."""

    def __init__(self, custody: Custody, why: dict[str, object], far: bool) -> None:
        self.custody = custody
        self.why = why
        self.far = far


class Looker:
    """Looks at all tasks and says what it found; its owner acts."""

    def __init__(self, log_limit: int) -> None:
        self._log_limit = log_limit
        self.next_s = LOOK_S

    def look(self, tasks: Iterable[Custody]) -> list[Breach]:
        """The tasks that are over a limit; `next_s` is then how long to wait for the next look."""
        begin = now_s()
        breaches: list[Breach] = []
        pause = LOOK_S
        for custody in tasks:
            if custody.order is None:
                continue
            found, wanted = self._look_at(custody)
            pause = min(pause, wanted)
            if found is not None:
                breaches.append(found)
        self.next_s = max(pause, SHARE * (now_s() - begin))
        return breaches

    def trim(self, custody: Custody) -> int:
        """Cut what is too long of its outputs; bytes on disk of the longer one as it was found. Also when a task has
        ended: a fast one writes much between its last look and its end.
        """
        return sandbox.trim(custody.folder, self._log_limit)

    def _look_at(self, custody: Custody) -> tuple[Breach | None, float]:
        assert custody.order is not None
        pause = LOOK_S
        if self.trim(custody) > self._log_limit // 2:
            pause = HURRY_S
        if not custody.order.mem_mib:
            if (now := now_s()) < custody.peak_at_s:
                return self._disk(custody), pause
            custody.peak_at_s = now + PEAK_S
        pids = custody.kin()
        used_kib = sum(map(proc.resident_kib, pids))
        limit_kib = custody.order.mem_mib * 1024
        if limit_kib and used_kib > limit_kib:
            # What processes share was counted for each of them: now it matters, count it once.
            used_kib = sum(map(proc.proportional_kib, pids)) or used_kib
        custody.peak_kib = max(custody.peak_kib, used_kib)
        if limit_kib and used_kib > limit_kib * 0.7:
            pause = HURRY_S
        if limit_kib and used_kib > limit_kib:
            why = cause(
                "mem",
                f"over its memory: used {-(-used_kib // 1024)} MiB, but has {custody.order.mem_mib} MiB; "
                "a job gets more by resources: {mem: ...}",
                used_mib=-(-used_kib // 1024),
                asked_mib=custody.order.mem_mib,
            )
            return Breach(custody, why, used_kib > limit_kib * FAR), pause
        return self._disk(custody), pause

    def _disk(self, custody: Custody) -> Breach | None:
        assert custody.order is not None
        limit = custody.order.disk_mib * 2**20
        begin = now_s()
        if not limit or begin < custody.disk_at_s:
            return None
        used = sandbox.disk_bytes(custody.folder)
        custody.disk_at_s = begin + SHARE * (now_s() - begin)
        if used <= limit:
            return None
        used_mib = -(-used // 2**20)
        why = cause(
            "disk",
            f"took {used_mib} MiB of disk, but asked for {custody.order.disk_mib} MiB",
            used_mib=used_mib,
            asked_mib=custody.order.disk_mib,
        )
        return Breach(custody, why, used > limit * FAR)
