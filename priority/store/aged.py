"""What is old enough to be forgotten, and forgetting it: ended jobs that users submitted, and answers to their keys."""

from __future__ import annotations

from collections.abc import Collection
from itertools import takewhile

from priority.store import rows
from priority.store.session import Session
from priority.store.tables import IS_ACTIVE_JOB


class AgedReads:
    """`aged.AgedReader` over one transaction."""

    _session: Session

    def old_jobs(self, after: int, before_us: int, limit: int) -> tuple[list[tuple[str, int]], int | None]:
        """See `AgedReader`."""
        columns = ("seq", "uid", "submitted_us", f"(NOT {IS_ACTIVE_JOB} AND tick_us IS NULL)", "coalesce(ended_us, 0)")
        found = self._session.fetch(columns, "jobs WHERE seq > ? ORDER BY seq LIMIT ?", after, limit)
        old = list(takewhile(lambda row: row[2] < before_us, found))
        uids = [uid for _, uid, _, over, ended_us in old if over and ended_us < before_us]
        many = self.task_counts(uids)
        last = old[-1][0] if old and len(old) == len(found) == limit else None
        return [(uid, many.get(uid, 0)) for uid in uids], last

    def task_counts(self, jobs: Collection[str]) -> dict[str, int]:
        """See `AgedReader`."""
        among, param = self._session.among("job", jobs)
        return dict(self._session.fetch(("job", "count(*)"), f"tasks WHERE {among} GROUP BY job", param))

    def old_answers(self, after: tuple[str, str], limit: int) -> tuple[list[tuple[str, str]], tuple[str, str] | None]:
        """See `AgedReader`."""
        rest = "answers WHERE (role, key) > (?, ?) ORDER BY role, key LIMIT ?"
        found = self._session.fetch(("role", "key", "answer"), rest, *after, limit)
        named = {(role, key): rows.loads(answer) for role, key, answer in found}
        among, param = self._session.among("uid", {uid for uids in named.values() for uid in uids})
        there = {uid for (uid,) in self._session.fetch(("uid",), f"jobs WHERE {among}", param)}
        last = (found[-1][0], found[-1][1]) if len(found) == limit else None
        return [asked for asked, uids in named.items() if there.isdisjoint(uids)], last


class AgedWrites:
    """`aged.AgedWriter` over one transaction."""

    _session: Session

    def drop_jobs(self, uids: Collection[str]) -> None:
        """See `AgedWriter`."""
        if not uids:
            return
        among, param = self._session.among("uid", uids)
        ended = f"{among} AND NOT {IS_ACTIVE_JOB}"
        self._session.run(f"DELETE FROM labels WHERE seq IN (SELECT seq FROM jobs WHERE {ended})", param)
        self._session.run(f"DELETE FROM tasks WHERE job IN (SELECT uid FROM jobs WHERE {ended})", param)
        self._session.run(f"DELETE FROM jobs WHERE {ended}", param)

    def drop_tasks(self, job: str, many: int) -> None:
        """See `AgedWriter`."""
        ended = f"EXISTS (SELECT 1 FROM jobs WHERE uid = ? AND NOT {IS_ACTIVE_JOB})"
        last = f"SELECT id FROM tasks WHERE job = ? AND {ended} ORDER BY instance DESC, attempt DESC LIMIT ?"
        self._session.run(f"DELETE FROM tasks WHERE id IN ({last})", job, job, many)

    def drop_answers(self, asked: Collection[tuple[str, str]]) -> None:
        """See `AgedWriter`."""
        for role in {role for role, _ in asked}:
            among, param = self._session.among("key", [key for its, key in asked if its == role])
            self._session.run(f"DELETE FROM answers WHERE role = ? AND {among}", role, param)
