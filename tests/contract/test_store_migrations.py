"""The schema: made by the migrations, the same as what the code says, over both databases."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

from priority.errors import Conflict, Invalid, Unavailable
from priority.store import SqlStore, migrate, open_store
from priority.store.sqlite import SqliteSession
from priority.store.tables import METADATA


def upgraded(url: str) -> SqlStore:
    store = open_store(url)
    store.upgrade()
    return store


def differences(url: str) -> list[Any]:
    engine = create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        found = compare_metadata(context, METADATA)
    engine.dispose()
    return found


def revisions() -> list[str]:
    return [script.revision for script in migrate.revisions().walk_revisions()]


def test_the_revisions_are_one_line() -> None:
    assert len(migrate.revisions().get_heads()) == 1


def test_a_fresh_database_has_the_schema_that_the_code_says(empty_url: str) -> None:
    assert differences(empty_url)
    upgraded(empty_url).close()
    assert differences(empty_url) == []


@pytest.mark.parametrize("revision", revisions())
def test_every_older_schema_is_brought_to_the_newest(empty_url: str, revision: str) -> None:
    engine = create_engine(empty_url)
    connection = engine.raw_connection()
    migrate.upgrade(empty_url, connection.dbapi_connection, begin="SELECT 1", target=revision)
    connection.close()
    engine.dispose()
    upgraded(empty_url).close()
    assert differences(empty_url) == []


def test_upgrading_again_changes_nothing(empty_url: str) -> None:
    store = upgraded(empty_url)
    with store.write() as writer:
        writer.put_user("ada", True)
    store.upgrade()
    with store.read() as reader:
        assert [user.name for user in reader.users()] == ["ada"]
    store.close()


def test_two_that_start_at_once_both_succeed(empty_url: str) -> None:
    script = "import sys; from priority.store import open_store; open_store(sys.argv[1]).upgrade()"
    both = [subprocess.Popen([sys.executable, "-c", script, empty_url], stderr=subprocess.PIPE) for _ in range(3)]
    for process in both:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()
    assert differences(empty_url) == []


def test_a_database_that_is_newer_is_left_alone(empty_url: str) -> None:
    store = upgraded(empty_url)
    engine = create_engine(empty_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(Conflict, match="schema 9999"):
        store.upgrade()
    with store.write() as writer:
        writer.put_user("ada", True)
    store.close()


def test_a_database_that_was_never_upgraded_says_what_to_do(empty_url: str) -> None:
    store = open_store(empty_url)
    with pytest.raises(Unavailable, match="priority db upgrade"), store.read() as reader:
        reader.nodes()
    with pytest.raises(Unavailable, match="priority db upgrade"), store.write() as writer:
        writer.put_user("ada", True)
    store.close()


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://host/db", "sqlite", "redis://localhost", "://"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(Invalid, match="database"):
        open_store(url)


def test_a_folder_that_is_not_there_is_said(tmp_path: Any) -> None:
    with pytest.raises(Unavailable, match="cannot be opened"):
        open_store(f"sqlite:///{tmp_path}/none/priority.db")


@pytest.mark.postgres
def test_a_server_that_may_forget_is_refused(postgres: Any) -> None:
    url = postgres.create()
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    with postgres.admin() as admin:
        admin.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    with pytest.raises(Invalid, match="synchronous_commit=off"):
        open_store(url)


ACTIVE_ONLY = {
    "active_tasks": ("tasks_active", lambda reader: reader.active_tasks()),
    "active_tasks of jobs": ("tasks_active", lambda reader: reader.active_tasks(jobs=["j"])),
    "active_tasks of a node": ("tasks_node", lambda reader: reader.active_tasks(node="n")),
    "holding": ("tasks_active", lambda reader: reader.holding()),
    "on_nodes": ("tasks_node", lambda reader: reader.on_nodes()),
    "active_jobs": ("jobs_active_key", lambda reader: reader.active_jobs([("r", "t", "n")])),
}


@pytest.mark.parametrize("name", ACTIVE_ONLY)
def test_what_is_active_is_found_without_a_look_at_what_has_ended(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    index, ask = ACTIVE_ONLY[name]
    plans: list[str] = []
    execute = SqliteSession._execute

    def explained(self: SqliteSession, sql: str, params: Any) -> Any:
        plans.extend(str(row[3]) for row in execute(self, f"EXPLAIN QUERY PLAN {sql}", params).fetchall())
        return execute(self, sql, params)

    store = upgraded("sqlite://")
    monkeypatch.setattr(SqliteSession, "_execute", explained)
    with store.read() as reader:
        ask(reader)
    assert [plan for plan in plans if f"USING INDEX {index}" in plan], plans
    assert not [plan for plan in plans if plan in ("SCAN tasks", "SCAN jobs")], plans
    store.close()
