"""What a store says of what is old, and how it forgets that: jobs, answers to idempotency keys, events.

The ticks of cron jobs are `priority.crontab`'s. What may go, and when, is decided in `priority.service.forgetting`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol


class AgedReader(Protocol):
    """Part of `ports.Reader`."""

    def old_jobs(self, after: int, before_us: int, limit: int) -> tuple[list[tuple[str, int]], int | None]:
        """Of the next so many jobs after the `after`th submitted, those that users submitted and that may be forgotten:
        ended before `before_us`. Each with how many tasks it has; and the number of the last one that was looked at,
        None if one was reached that is not so old.
        """

    def task_counts(self, jobs: Collection[str]) -> dict[str, int]:
        """Of each of these how many tasks are kept; one that has none is left out."""

    def old_answers(self, after: tuple[str, str], limit: int) -> tuple[list[tuple[str, str]], tuple[str, str] | None]:
        """Of the next so many answers to (role, idempotency key), in their order, those none of whose jobs is there any
        more. And the last one that was looked at, None if there are no others.
        """

    def old_events(self, after: int, before_us: int, limit: int) -> tuple[list[int], int | None]:
        """Of the next so many events after the event `after`, those that may be forgotten: earlier than `before_us` and
        of no active job. And the last one that was looked at, None if one was reached that is not so old.
        """

    def old_preemptions(self, after: int, before_us: int, limit: int) -> tuple[list[int], int | None]:
        """Of the next so many preemptions after `seq`, those that may be forgotten: earlier than `before_us`, and what
        became of them is known. And the last one that was looked at, None if one was reached that is not so old.
        """


class AgedWriter(Protocol):
    """Part of `ports.Writer`."""

    def drop_jobs(self, uids: Collection[str]) -> None:
        """Forget these, with their tasks and labels; active ones stay."""

    def drop_tasks(self, job: str, many: int) -> None:
        """Forget so many tasks of a job that has ended, the last attempts of the last instances first."""

    def drop_answers(self, asked: Collection[tuple[str, str]]) -> None:
        """Forget what was answered to these (role, idempotency key)."""

    def drop_events(self, ids: Sequence[int]) -> None:
        """Forget these. The newest of all stays, whatever is asked: new ones are numbered from it."""

    def drop_preemptions(self, seqs: Sequence[int]) -> None:
        """Forget these. The newest of all stays, whatever is asked: new ones are numbered from it."""
