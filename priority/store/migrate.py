"""Bring a database to the newest schema: Alembic's revisions in `migrations/versions`, all in one transaction, so that
a process that dies in the middle leaves nothing half done, and the second of two that start at once finds it done.
"""

from __future__ import annotations

from typing import Any

from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from priority.errors import Conflict


def revisions() -> ScriptDirectory:
    """Found in the package: neither an `alembic.ini` nor an `env.py` is needed."""
    config = Config()
    config.set_main_option("script_location", "priority.store:migrations")
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


def upgrade(url: str, connection: Any, begin: str, target: str = "head") -> None:
    """Over a driver's own `connection` of a database of the kind of `url`. `begin` opens its transaction and keeps
    other upgrades away until it ends. `Conflict` if the database is newer than this program.
    """
    # The pool of one connection: the engine is only Alembic's way to speak, and must not open or close another.
    engine = create_engine(url, creator=lambda: connection, poolclass=StaticPool, hide_parameters=True)
    scripts = revisions()

    def steps(current: Any, context: MigrationContext) -> Any:
        _refuse_newer(scripts, context.get_current_heads())
        return scripts._upgrade_revs(target, current)

    with engine.begin() as bound:
        bound.exec_driver_sql(begin)
        context = MigrationContext.configure(bound, opts={"fn": steps})
        with Operations.context(context):
            context.run_migrations()


def _refuse_newer(scripts: ScriptDirectory, heads: tuple[str, ...]) -> None:
    known = {script.revision for script in scripts.walk_revisions()}
    for head in heads:
        if head not in known:
            raise Conflict(
                f"the database has schema {head}, which this version of priority does not know: "
                "start the version that made it, or a newer one",
                schema=head,
            )
