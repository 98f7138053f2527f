"""The ledger of preemptions. Those of before it are in the victims' reasons only."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
OPEN = sa.text("fate IS NULL")


def upgrade() -> None:
    """Make the table, empty."""
    sides = [
        sa.Column(f"{side}{part}", sa.Text(), nullable=False)
        for side in ("victim", "preemptor")
        for part in ("", "_job", "_role", "_tier", "_name", "_member")
    ]
    op.create_table(
        "preemptions",
        sa.Column("seq", SERIAL, autoincrement=False, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("lost", sa.BigInteger(), nullable=False),
        *sides,
        sa.Column("fate", sa.Text(), nullable=True),
        sa.Column("fate_us", sa.BigInteger(), nullable=True),
        sa.Column("fate_node", sa.Text(), nullable=True),
        sa.Column("fate_cause", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("victim"),
    )
    op.create_index(
        "preemptions_open", "preemptions", ["preemptor"], unique=False, sqlite_where=OPEN, postgresql_where=OPEN
    )
