"""What can be asked of the truth: every statement that reads."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import takewhile
from typing import Any, TypeVar

from priority.errors import Invalid
from priority.job import Job, JobState
from priority.records import (
    Audit,
    Event,
    JobQuery,
    NodeRecord,
    Page,
    PreemptionQuery,
    PreemptionRecord,
    PreemptionSum,
    Token,
    User,
)
from priority.role import MemberSpec, Quotas, RoleSpec
from priority.store import rows
from priority.store.aged import AgedReads
from priority.store.crons import CronReads
from priority.store.session import Row, Session
from priority.store.sums import SumReads
from priority.store.tables import IS_ACTIVE, IS_ACTIVE_JOB, IS_PLACED
from priority.task import State, Task

_Noun = TypeVar("_Noun")


class SqlReader(CronReads, AgedReads, SumReads):
    """`ports.Reader` over one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    # --- roles and users

    def roles(self, names: Collection[str] | None = None) -> dict[str, RoleSpec]:
        """See `Reader`."""
        quotas: dict[tuple[str, str], Quotas] = {}
        for role, member, tier, amounts in self._some(("role", "member", "tier", "amounts"), "quotas", "role", names):
            quotas.setdefault((role, member), {})[tier] = rows.loads(amounts)
        members: dict[str, dict[str, MemberSpec]] = {}
        for role, member, grants in sorted(self._some(("role", "member", "grants"), "members", "role", names)):
            spec = rows.member_of(grants, quotas.get((role, member), {}))
            members.setdefault(role, {})[member] = spec
        return {
            name: rows.role_of(settings, quotas.get((name, ""), {}), members.get(name, {}))
            for name, settings in sorted(self._some(("name", "settings"), "roles", "name", names))
        }

    def user(self, name: str) -> User | None:
        """See `Reader`."""
        for _, admin in self._session.fetch(("name", "admin"), "users WHERE name = ?", name):
            grants = self._session.fetch(("role", "grants"), "members WHERE member = ?", name)
            return User(name, bool(admin), {role: frozenset(rows.loads(granted)) for role, granted in sorted(grants)})
        return None

    def users(self) -> list[User]:
        """See `Reader`."""
        grants: dict[str, dict[str, frozenset[str]]] = {}
        for role, member, granted in sorted(self._session.fetch(("role", "member", "grants"), "members")):
            grants.setdefault(member, {})[role] = frozenset(rows.loads(granted))
        found = sorted(self._session.fetch(("name", "admin"), "users"))
        return [User(name, bool(admin), grants.get(name, {})) for name, admin in found]

    def token(self, digest: str) -> Token | None:
        """See `Reader`."""
        return _one(map(rows.token_of, self._session.fetch(rows.TOKEN, "tokens WHERE digest = ?", digest)))

    def tokens(self, user: str | None) -> list[Token]:
        """See `Reader`."""
        found = self._some(rows.TOKEN, "tokens", "member", None if user is None else [user])
        return sorted(map(rows.token_of, found), key=lambda token: (token.created_us, token.id))

    # --- jobs

    def job(self, uid: str) -> Job | None:
        """See `Reader`."""
        return _one(map(rows.job_of, self._session.fetch(rows.JOB_READ, "jobs WHERE uid = ?", uid)))

    def latest_job(self, role: str, tier: str, name: str) -> Job | None:
        """See `Reader`."""
        rest = "jobs WHERE role = ? AND tier = ? AND name = ? ORDER BY seq DESC LIMIT 1"
        return _one(map(rows.job_of, self._session.fetch(rows.JOB_READ, rest, role, tier, name)))

    def active_jobs(self, keys: Collection[tuple[str, str, str]]) -> dict[tuple[str, str, str], str]:
        """See `Reader`."""
        names: dict[tuple[str, str], set[str]] = {}
        for role, tier, name in keys:
            names.setdefault((role, tier), set()).add(name)
        found: dict[tuple[str, str, str], str] = {}
        for (role, tier), some in names.items():
            condition, param = self._session.among("name", some)
            rest = f"jobs WHERE {IS_ACTIVE_JOB} AND role = ? AND tier = ? AND {condition}"
            active = sorted(self._session.fetch(("seq", "name", "uid"), rest, role, tier, param))
            found.update(((role, tier, name), uid) for _, name, uid in active)
        return found

    def jobs(self, query: JobQuery, page: Page) -> tuple[list[Job], str | None]:
        """See `Reader`."""
        select = _Select((*rows.JOB_READ, "seq"), "jobs", "seq DESC")
        for column, value in (("tier", query.tier), ("name", query.name), ("member", query.user)):
            if value is not None and column == "name" and ("*" in value or "?" in value):
                select.where(*self._session.alike(column, value))
            elif value is not None:
                select.where(f"{column} = ?", value)
        if query.state is not None:
            select.where(IS_ACTIVE_JOB if query.state is JobState.ACTIVE else f"state = '{query.state}'")
        if query.label is not None:
            select.where("seq IN (SELECT seq FROM labels WHERE name = ? AND value = ?)", *query.label)
        if query.roles is not None:
            select.where(*self._of_roles(query.roles))
        if page.after is not None:
            select.where("seq < ?", *_cursor(page.after, 1))
        return self._page(select, page, rows.job_of, 1)

    def jobs_of(self, uids: Collection[str]) -> dict[str, Job]:
        """See `Reader`."""
        return {row[0]: rows.job_of(row) for row in self._some(rows.JOB_READ, "jobs", "uid", uids)}

    def answered(self, keys: Collection[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, Any]]:
        """See `Reader`."""
        by_role: dict[str, list[str]] = {}
        for role, key in keys:
            by_role.setdefault(role, []).append(key)
        answers: dict[tuple[str, str], tuple[str, Any]] = {}
        for role, some in by_role.items():
            condition, param = self._session.among("key", some)
            found = self._session.fetch(
                ("key", "digest", "answer"), f"answers WHERE role = ? AND {condition}", role, param
            )
            answers.update(((role, key), (digest, rows.loads(answer))) for key, digest, answer in found)
        return answers

    # --- tasks

    def task(self, id: str) -> Task | None:
        """See `Reader`."""
        return _one(map(rows.task_of, self._session.fetch(rows.TASK, "tasks WHERE id = ?", id)))

    def standing(self, jobs: Collection[str]) -> dict[str, dict[State, int]]:
        """See `Reader`."""
        if not jobs:
            return {}
        among, param = self._session.among("job", jobs)
        # A next attempt that waits for the one before is not where its instance is.
        rest = f"tasks WHERE {IS_ACTIVE} AND after IS NULL AND {among} GROUP BY job, state"
        found: dict[str, dict[State, int]] = {}
        for job, state, many in self._session.fetch(("job", "state", "count(*)"), rest, param):
            found.setdefault(job, {})[State(state)] = many
        return found

    def tasks(
        self, job: str, page: Page, states: Collection[State] | None = None, current: bool = False
    ) -> tuple[list[Task], str | None]:
        """See `Reader`."""
        select = _Select((*rows.TASK, "instance", "attempt"), "tasks", "instance, attempt")
        select.where("job = ?", job)
        if current:
            later = "later.job = tasks.job AND later.instance = tasks.instance AND later.attempt > tasks.attempt"
            select.where(f"({IS_ACTIVE} OR NOT EXISTS (SELECT 1 FROM tasks AS later WHERE {later}))")
        if page.after is not None:
            select.where("(instance, attempt) > (?, ?)", *_cursor(page.after, 2))
        if states is not None:
            select.where(*self._session.among("state", [state.value for state in states]))
        return self._page(select, page, rows.task_of, 2)

    def tasks_of(self, ids: Collection[str]) -> dict[str, Task]:
        """See `Reader`."""
        return {row[0]: rows.task_of(row) for row in self._some(rows.TASK, "tasks", "id", ids)}

    def active_tasks(self, jobs: Collection[str] | None = None, node: str | None = None) -> list[Task]:
        """See `Reader`."""
        select = _Select(rows.TASK, "tasks")
        # Only a placed task has a node; said so, the smaller index serves.
        select.where(IS_ACTIVE if node is None else IS_PLACED)
        if node is not None:
            select.where("node = ?", node)
        if jobs is not None:
            select.where(*self._session.among("job", jobs))
        return [rows.task_of(row) for row in _used_up(self._fetch(select))]

    # --- history

    def events(
        self, after: int, limit: int, roles: Collection[str] | None = None, job: str | None = None
    ) -> list[Event]:
        """See `Reader`."""
        select = _Select(rows.EVENT, "events", "id", limit)
        select.where("id > ?", after)
        if roles is not None:
            condition, *params = self._of_roles(roles)
            select.where(f"(role IS NULL OR {condition})", *params)
        if job is not None:
            select.where("job = ?", job)
        return [rows.event_of(row) for row in self._fetch(select)]

    def old_events(self, after: int, before_us: int, limit: int) -> tuple[list[int], int | None]:
        """See `Reader`."""
        rest = "events WHERE id > ? ORDER BY id LIMIT ?"
        found = self._session.fetch(("id", "at_us", "job"), rest, after, limit)
        old = list(takewhile(lambda row: row[1] < before_us, found))
        among, param = self._session.among("uid", {job for _, _, job in old if job is not None})
        active = {uid for (uid,) in self._session.fetch(("uid",), f"jobs WHERE {IS_ACTIVE_JOB} AND {among}", param)}
        last = old[-1][0] if old and len(old) == len(found) == limit else None
        return [id for id, _, job in old if job not in active], last

    def old_preemptions(self, after: int, before_us: int, limit: int) -> tuple[list[int], int | None]:
        """See `Reader`."""
        found = self._session.fetch(
            ("seq", "at_us", "fate"), "preemptions WHERE seq > ? ORDER BY seq LIMIT ?", after, limit
        )
        old = list(takewhile(lambda row: row[1] < before_us, found))
        last = old[-1][0] if old and len(old) == len(found) == limit else None
        return [seq for seq, _, fate in old if fate is not None], last

    def last_event(self) -> int:
        """See `Reader`."""
        last: int = self._session.fetch(("coalesce(max(id), 0)",), "events")[0][0]
        return last

    def audits(
        self,
        page: Page,
        roles: Collection[str] | None = None,
        *,
        who: str | None = None,
        action: str | None = None,
        since_us: int | None = None,
    ) -> tuple[list[Audit], str | None]:
        """See `Reader`."""
        select = _Select((*rows.AUDIT, "id"), "audits", "id DESC")
        if roles is not None:
            select.where(*self._of_roles(roles))
        if who is not None:
            select.where("who = ?", who)
        if action is not None:
            select.where("(action = ? OR substr(action, 1, ?) = ?)", action, len(action) + 1, f"{action}.")
        if since_us is not None:
            select.where("at_us >= ?", since_us)
        if page.after is not None:
            select.where("id < ?", *_cursor(page.after, 1))
        return self._page(select, page, rows.audit_of, 1)

    def preemptions(self, query: PreemptionQuery, page: Page) -> tuple[list[PreemptionRecord], str | None]:
        """See `Reader`."""
        select = _Select((*rows.PREEMPTION, "seq"), "preemptions", "seq DESC")
        self._which(select, query)
        if page.after is not None:
            select.where("seq < ?", *_cursor(page.after, 1))
        return self._page(select, page, rows.preemption_of, 1)

    def in_ledger(self, jobs: Collection[str]) -> set[str]:
        """See `Reader`."""
        if not jobs:
            return set()
        victims, param = self._session.among("victim_job", jobs)
        preemptors, other = self._session.among("preemptor_job", jobs)
        columns, rest = ("victim_job", "preemptor_job"), f"preemptions WHERE {victims} OR {preemptors}"
        return {job for sides in self._session.fetch(columns, rest, param, other) for job in sides} & set(jobs)

    def preemption_sums(self, query: PreemptionQuery) -> list[PreemptionSum]:
        """See `Reader`."""
        # Of 64 bits a sum would run over at 300 core-years, so seconds and what is left of them are added up apart.
        sums = (
            "count(*)",
            "CAST(sum(lost / 1000000) AS BIGINT)",
            "CAST(sum(lost - lost / 1000000 * 1000000) AS BIGINT)",
        )
        select = _Select(("preemptor_role", "victim_role", "fate", *sums), "preemptions")
        self._which(select, query)
        rest = f"{select.rest} GROUP BY preemptor_role, victim_role, fate"
        found = self._session.fetch(select.columns, rest, *select.params)
        made = [
            PreemptionSum(preemptor, victim, fate, count, whole * 10**6 + left)
            for preemptor, victim, fate, count, whole, left in found
        ]
        return sorted(made, key=lambda one: (one.preemptor, one.victim, one.fate or ""))

    def _which(self, select: _Select, query: PreemptionQuery) -> None:
        if query.roles is not None:
            mine, param = self._session.among("victim_role", query.roles)
            theirs, other = self._session.among("preemptor_role", query.roles)
            select.where(f"({mine} OR {theirs})", param, other)
        if query.role is not None:
            select.where("(victim_role = ? OR preemptor_role = ?)", query.role, query.role)
        if query.job is not None:
            select.where("(victim_job = ? OR preemptor_job = ?)", query.job, query.job)
        if query.since_us is not None:
            select.where("at_us >= ?", query.since_us)
        if query.started is not None:
            select.where("fate = 'started'" if query.started else "(fate IS NULL OR fate <> 'started')")

    def nodes(self) -> list[NodeRecord]:
        """See `Reader`."""
        return [rows.node_of(row) for row in sorted(self._session.fetch(rows.NODE, "nodes"))]

    def note(self, name: str) -> str | None:
        """See `Reader`."""
        found: list[Row] = self._session.fetch(("value",), "notes WHERE name = ?", name)
        return str(found[0][0]) if found else None

    def leader(self) -> tuple[str, int, int] | None:
        """See `Reader`."""
        found = self._session.fetch(("holder", "epoch", "until_us"), "leader WHERE id = 1 AND holder IS NOT NULL")
        return _one((holder, epoch, until_us) for holder, epoch, until_us in found)

    # --- how

    def _some(self, columns: tuple[str, ...], table: str, column: str, values: Collection[str] | None) -> list[Any]:
        """The rows where `column` is one of `values`; None: all."""
        if values is None:
            return self._session.fetch(columns, table)
        if not values:
            return []
        condition, param = self._session.among(column, values)
        return self._session.fetch(columns, f"{table} WHERE {condition}", param)

    def _of_roles(self, roles: Collection[str]) -> tuple[str, Any]:
        # With one role the index gives the newest first; with several they would have to be sorted.
        return ("role = ?", next(iter(roles))) if len(roles) == 1 else self._session.among("role", roles)

    def _fetch(self, select: _Select) -> list[Any]:
        return self._session.fetch(select.columns, select.rest, *select.params)

    def _page(
        self, select: _Select, page: Page, noun: Callable[[Row], _Noun], width: int
    ) -> tuple[list[_Noun], str | None]:
        """A page. The last `width` of the columns are the cursor."""
        limit = max(1, page.limit)
        select.limit = limit + 1
        found = self._fetch(select)
        more = len(found) > limit
        cursor = ".".join(str(part) for part in found[limit - 1][-width:]) if more else None
        return [noun(row[:-width]) for row in found[:limit]], cursor


class _Select:
    """A statement in the making: conditions, all of which must hold, and their parameters in order."""

    def __init__(self, columns: tuple[str, ...], table: str, order: str = "", limit: int = 0) -> None:
        self.columns = columns
        self.limit = limit
        self._table = table
        self._order = order
        self._conditions: list[str] = []
        self._params: list[Any] = []

    def where(self, condition: str, *params: Any) -> None:
        self._conditions.append(condition)
        self._params += params

    @property
    def rest(self) -> str:
        where = f" WHERE {' AND '.join(self._conditions)}" if self._conditions else ""
        return f"{self._table}{where}" + (f" ORDER BY {self._order} LIMIT ?" if self._order else "")

    @property
    def params(self) -> list[Any]:
        return [*self._params, self.limit] if self._order else self._params


def _used_up(found: list[Any]) -> Iterator[Any]:
    """Each in turn, and then no more: as many objects go as come, so that 100,000 new ones do not set the garbage
    collector off again and again, which took a third of the time.
    """
    found.reverse()
    while found:
        yield found.pop()


def _cursor(text: str, width: int) -> list[int]:
    parts = text.split(".")
    if len(parts) != width or not all(part.isascii() and part.isdigit() and len(part) < 19 for part in parts):
        raise Invalid("after", "is not a cursor that this list gave")
    return [int(part) for part in parts]


def _one(nouns: Iterable[_Noun]) -> _Noun | None:
    return next(iter(nouns), None)
