"""The tables: one SQLModel class each. They define the schema (the migrations are compared with them by a test);
rows are moved as plain tuples (`rows.py`), since that is ten times faster than through model objects.

Times are integer microseconds since the epoch, amounts held units. What is only ever read whole is JSON
in a text column; what is asked for by a query has a column of its own. No column is named `user`: that
is a function in PostgreSQL.
"""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import BigInteger, Index, Integer, Text, text
from sqlmodel import Field, SQLModel

from priority.cron import Outcome
from priority.job import JobState
from priority.task import ACTIVE, PLACED

METADATA = SQLModel.metadata

_SERIAL = BigInteger().with_variant(Integer, "sqlite")
"""A key that is given by us, in commit order. Only INTEGER is the row's own number in SQLite."""


def _literals(values: frozenset[str]) -> str:
    return ", ".join(f"'{value}'" for value in sorted(str(value) for value in values))


IS_ACTIVE = f"state IN ({_literals(ACTIVE)})"
"""Must stand in a query letter by letter as in the index, or the index is not used."""

IS_PLACED = f"state IN ({_literals(PLACED)})"

IS_ACTIVE_JOB = f"state = '{JobState.ACTIVE}'"


class RoleRow(SQLModel, table=True):
    """A tenant. `settings`: its description and weight."""

    __tablename__: ClassVar[str] = "roles"

    name: str = Field(primary_key=True, sa_type=Text)
    settings: str = Field(sa_type=Text)


class UserRow(SQLModel, table=True):
    """Somebody who may have tokens and grants."""

    __tablename__: ClassVar[str] = "users"

    name: str = Field(primary_key=True, sa_type=Text)
    admin: bool


class MemberRow(SQLModel, table=True):
    """A user's grants in a role, a JSON list."""

    __tablename__: ClassVar[str] = "members"

    role: str = Field(primary_key=True, sa_type=Text, foreign_key="roles.name", ondelete="CASCADE")
    member: str = Field(primary_key=True, sa_type=Text, foreign_key="users.name", index=True)
    grants: str = Field(sa_type=Text)


class QuotaRow(SQLModel, table=True):
    """A role's quota in a tier, or with `member` that user's part of it. A quota that names nothing is one too."""

    __tablename__: ClassVar[str] = "quotas"

    role: str = Field(primary_key=True, sa_type=Text, foreign_key="roles.name", ondelete="CASCADE")
    member: str = Field(primary_key=True, sa_type=Text)
    """Empty: the role's own."""
    tier: str = Field(primary_key=True, sa_type=Text)
    amounts: str = Field(sa_type=Text)


class TokenRow(SQLModel, table=True):
    """A token's hash; the secret is kept nowhere."""

    __tablename__: ClassVar[str] = "tokens"

    id: str = Field(primary_key=True, sa_type=Text)
    member: str = Field(sa_type=Text, foreign_key="users.name", index=True)
    digest: str = Field(sa_type=Text, unique=True)
    label: str = Field(sa_type=Text)
    created_us: int = Field(sa_type=BigInteger)
    expires_us: int | None = Field(sa_type=BigInteger)
    revoked_us: int | None = Field(sa_type=BigInteger)


class UsageRow(SQLModel, table=True):
    """What a user of a role holds of a quota: a counter, changed in the transaction that changes what it counts."""

    __tablename__: ClassVar[str] = "usage"

    role: str = Field(primary_key=True, sa_type=Text)
    tier: str = Field(primary_key=True, sa_type=Text)
    member: str = Field(primary_key=True, sa_type=Text)
    resource: str = Field(primary_key=True, sa_type=Text)
    amount: int = Field(sa_type=BigInteger)


class JobRow(SQLModel, table=True):
    """A job. `seq` is the order of submission; `request` is the spec's resources once more, to sum without the spec."""

    __tablename__: ClassVar[str] = "jobs"
    __table_args__ = (
        Index("jobs_key", "role", "tier", "name", "seq"),
        Index("jobs_role", "role", "seq"),
        Index(
            "jobs_active_key",
            "role",
            "tier",
            "name",
            sqlite_where=text(IS_ACTIVE_JOB),
            postgresql_where=text(IS_ACTIVE_JOB),
        ),
        Index("jobs_active", "seq", sqlite_where=text(IS_ACTIVE_JOB), postgresql_where=text(IS_ACTIVE_JOB)),
    )

    seq: int = Field(primary_key=True, sa_type=_SERIAL, sa_column_kwargs={"autoincrement": False})
    uid: str = Field(sa_type=Text, unique=True)
    role: str = Field(sa_type=Text)
    tier: str = Field(sa_type=Text)
    name: str = Field(sa_type=Text)
    member: str = Field(sa_type=Text)
    state: str = Field(sa_type=Text)
    submitted_us: int = Field(sa_type=BigInteger)
    ended_us: int | None = Field(sa_type=BigInteger)
    active: int
    finished: int
    failed: int
    killed: int
    tick_us: int | None = Field(sa_type=BigInteger)
    """Of a run of a cron job."""
    request: str = Field(sa_type=Text)
    spec: str = Field(sa_type=Text)


IS_TO_COME = "next_us IS NOT NULL"
"""Of a cron job: it has a tick about which nothing is written down yet."""

IS_WAITING = f"outcome = '{Outcome.WAITING}'"
"""Of a tick: it begins when the run before has ended."""


class CronRow(SQLModel, table=True):
    """A cron job, for good. `spec`: what it says, and with it the template of its runs; `reserve`: amounts."""

    __tablename__: ClassVar[str] = "crons"
    __table_args__ = (
        Index("crons_key", "role", "tier", "name", unique=True),
        Index("crons_next", "next_us", "seq", sqlite_where=text(IS_TO_COME), postgresql_where=text(IS_TO_COME)),
    )

    seq: int = Field(primary_key=True, sa_type=_SERIAL, sa_column_kwargs={"autoincrement": False})
    uid: str = Field(sa_type=Text, unique=True)
    role: str = Field(sa_type=Text)
    tier: str = Field(sa_type=Text)
    name: str = Field(sa_type=Text)
    member: str = Field(sa_type=Text)
    state: str = Field(sa_type=Text)
    created_us: int = Field(sa_type=BigInteger)
    changed_us: int = Field(sa_type=BigInteger)
    next_us: int | None = Field(sa_type=BigInteger)
    reserve: str = Field(sa_type=Text)
    spec: str = Field(sa_type=Text)


class TickRow(SQLModel, table=True):
    """What became of a tick of a cron job. Its id is made of both, and a second one with it is refused."""

    __tablename__: ClassVar[str] = "ticks"
    __table_args__ = (
        Index("ticks_cron", "cron", "tick_us", unique=True),
        Index("ticks_waiting", "cron", sqlite_where=text(IS_WAITING), postgresql_where=text(IS_WAITING)),
    )

    id: str = Field(primary_key=True, sa_type=Text)
    cron: str = Field(sa_type=Text)
    tick_us: int = Field(sa_type=BigInteger)
    outcome: str = Field(sa_type=Text)
    at_us: int = Field(sa_type=BigInteger)
    job: str | None = Field(sa_type=Text)
    by_member: str | None = Field(sa_type=Text)
    reason: str | None = Field(sa_type=Text)


class LabelRow(SQLModel, table=True):
    """A job's label, for queries; the truth is in its spec."""

    __tablename__: ClassVar[str] = "labels"

    name: str = Field(primary_key=True, sa_type=Text)
    value: str = Field(primary_key=True, sa_type=Text)
    seq: int = Field(primary_key=True, sa_type=BigInteger, index=True)
    """Of the job."""


class AnswerRow(SQLModel, table=True):
    """What was answered to an idempotency key, and the digest of the request."""

    __tablename__: ClassVar[str] = "answers"

    role: str = Field(primary_key=True, sa_type=Text)
    key: str = Field(primary_key=True, sa_type=Text)
    digest: str = Field(sa_type=Text)
    answer: str = Field(sa_type=Text)


class TaskRow(SQLModel, table=True):
    """An attempt. Without a foreign key to its job: it would be checked for each of 10,000 rows, and jobs stay."""

    __tablename__: ClassVar[str] = "tasks"
    __table_args__ = (
        Index("tasks_job", "job", "instance", "attempt", unique=True),
        Index("tasks_active", "job", sqlite_where=text(IS_ACTIVE), postgresql_where=text(IS_ACTIVE)),
        Index("tasks_node", "node", sqlite_where=text(IS_PLACED), postgresql_where=text(IS_PLACED)),
    )

    id: str = Field(primary_key=True, sa_type=Text)
    job: str = Field(sa_type=Text)
    instance: int
    attempt: int
    state: str = Field(sa_type=Text)
    since_us: int = Field(sa_type=BigInteger)
    node: str | None = Field(sa_type=Text)
    agent: str | None = Field(sa_type=Text)
    after: str | None = Field(sa_type=Text)
    kept_for: str | None = Field(sa_type=Text)
    not_before_us: int = Field(sa_type=BigInteger)
    failures: int
    preemptions: int
    reason: str | None = Field(sa_type=Text)
    started_us: int | None = Field(sa_type=BigInteger)
    ended_us: int | None = Field(sa_type=BigInteger)
    exit_code: int | None
    signal: int | None
    cpu_us: int | None = Field(sa_type=BigInteger)
    peak_mem_mib: int | None = Field(sa_type=BigInteger)


IS_OPEN = "fate IS NULL"
"""Of a preemption: what becomes of the preemptor is not known yet."""


class PreemptionRow(SQLModel, table=True):
    """A task that gave way to another. The sides' names are kept with it: others may have the same later."""

    __tablename__: ClassVar[str] = "preemptions"
    __table_args__ = (
        Index("preemptions_open", "preemptor", sqlite_where=text(IS_OPEN), postgresql_where=text(IS_OPEN)),
    )

    seq: int = Field(primary_key=True, sa_type=_SERIAL, sa_column_kwargs={"autoincrement": False})
    at_us: int = Field(sa_type=BigInteger)
    node: str = Field(sa_type=Text)
    rule: str = Field(sa_type=Text)
    lost: int = Field(sa_type=BigInteger)
    victim: str = Field(sa_type=Text, unique=True)
    victim_job: str = Field(sa_type=Text)
    victim_role: str = Field(sa_type=Text)
    victim_tier: str = Field(sa_type=Text)
    victim_name: str = Field(sa_type=Text)
    victim_member: str = Field(sa_type=Text)
    preemptor: str = Field(sa_type=Text)
    preemptor_job: str = Field(sa_type=Text)
    preemptor_role: str = Field(sa_type=Text)
    preemptor_tier: str = Field(sa_type=Text)
    preemptor_name: str = Field(sa_type=Text)
    preemptor_member: str = Field(sa_type=Text)
    fate: str | None = Field(sa_type=Text)
    fate_us: int | None = Field(sa_type=BigInteger)
    fate_node: str | None = Field(sa_type=Text)
    fate_cause: str | None = Field(sa_type=Text)


class EventRow(SQLModel, table=True):
    """A committed fact. The one writer numbers them, so ids have no gaps but where old ones were
    forgotten, and are seen in their order.
    """

    __tablename__: ClassVar[str] = "events"
    __table_args__ = (
        Index(
            "events_job", "job", "id", sqlite_where=text("job IS NOT NULL"), postgresql_where=text("job IS NOT NULL")
        ),
    )

    id: int = Field(primary_key=True, sa_type=_SERIAL, sa_column_kwargs={"autoincrement": False})
    at_us: int = Field(sa_type=BigInteger)
    kind: str = Field(sa_type=Text)
    role: str | None = Field(sa_type=Text)
    job: str | None = Field(sa_type=Text)
    task: str | None = Field(sa_type=Text)
    data: str = Field(sa_type=Text)


class AuditRow(SQLModel, table=True):
    """Who changed what."""

    __tablename__: ClassVar[str] = "audits"

    id: int = Field(primary_key=True, sa_type=_SERIAL, sa_column_kwargs={"autoincrement": False})
    at_us: int = Field(sa_type=BigInteger)
    who: str = Field(sa_type=Text)
    action: str = Field(sa_type=Text)
    subject: str = Field(sa_type=Text)
    role: str | None = Field(sa_type=Text)
    before: str = Field(sa_type=Text)
    after: str = Field(sa_type=Text)


class NodeRow(SQLModel, table=True):
    """A node that was seen once and not forgotten."""

    __tablename__: ClassVar[str] = "nodes"

    name: str = Field(primary_key=True, sa_type=Text)
    capacity: str = Field(sa_type=Text)
    attributes: str = Field(sa_type=Text)
    state: str = Field(sa_type=Text)
    agent: str = Field(sa_type=Text)
    seen_us: int = Field(sa_type=BigInteger)
    drained: bool


class NoteRow(SQLModel, table=True):
    """What a backend has to know again after a crash, such as the framework id at a Mesos master."""

    __tablename__: ClassVar[str] = "notes"

    name: str = Field(primary_key=True, sa_type=Text)
    value: str = Field(sa_type=Text)


class LeaderRow(SQLModel, table=True):
    """One row: who leads, until when, and the epoch, which never goes down. No holder: it was given back."""

    __tablename__: ClassVar[str] = "leader"

    id: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    holder: str | None = Field(sa_type=Text)
    epoch: int = Field(sa_type=BigInteger)
    until_us: int = Field(sa_type=BigInteger)
