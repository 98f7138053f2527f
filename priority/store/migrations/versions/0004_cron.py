"""Cron jobs, what became of each of their ticks, and for which tick a job is a run."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TO_COME = sa.text("next_us IS NOT NULL")
WAITING = sa.text("outcome = 'waiting'")


def upgrade() -> None:
    """Make the tables, empty. No job that there is was a run of a cron job."""
    op.create_table(
        "crons",
        sa.Column("seq", SERIAL, autoincrement=False, nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("uid", "role", "tier", "name", "member", "state")),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("changed_us", sa.BigInteger(), nullable=False),
        sa.Column("next_us", sa.BigInteger(), nullable=True),
        sa.Column("reserve", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("uid"),
    )
    op.create_index("crons_key", "crons", ["role", "tier", "name"], unique=True)
    op.create_index(
        "crons_next", "crons", ["next_us", "seq"], unique=False, sqlite_where=TO_COME, postgresql_where=TO_COME
    )
    op.create_table(
        "ticks",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("cron", sa.Text(), nullable=False),
        sa.Column("tick_us", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("job", sa.Text(), nullable=True),
        sa.Column("by_member", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ticks_cron", "ticks", ["cron", "tick_us"], unique=True)
    op.create_index("ticks_waiting", "ticks", ["cron"], unique=False, sqlite_where=WAITING, postgresql_where=WAITING)
    op.add_column("jobs", sa.Column("tick_us", sa.BigInteger(), nullable=True))
