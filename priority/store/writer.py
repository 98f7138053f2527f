"""What can be changed: every statement that writes. There is one writer at a time, so what is read here stays true
until the commit, and an amount may be read, reckoned with and written back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from priority.errors import Deposed
from priority.job import Job, JobState
from priority.records import Audit, Fate, NodeRecord, PreemptionRecord, TaskChange, Token
from priority.role import MemberSpec, RoleSpec
from priority.store import rows
from priority.store.crons import CronWrites
from priority.store.reader import SqlReader
from priority.store.session import Row, Session
from priority.store.tables import IS_OPEN
from priority.task import State, Task, pending_us, task_id

_TALLY = {State.FINISHED: "finished", State.FAILED: "failed"}
"""Every other end counts as killed."""

_COUNTS = ("active", "finished", "failed", "killed")

_JOB_COLUMNS = {"user": "member"}

_NUMBERED = {"jobs": "seq", "events": "id", "audits": "id"}
"""Tables whose rows are numbered in the order of their commits, and by what."""

_LAST = tuple(f"(SELECT coalesce(max({column}), 0) FROM {table})" for table, column in _NUMBERED.items())

_FATES_FEW = 500
"""The open preemptions of more tasks are read all: to look for each of 100,000 would take longer."""


class SqlWriter(SqlReader, CronWrites):
    """`ports.Writer` over one transaction."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._numbers: dict[str, int] | None = None

    # --- roles and users

    def put_role(self, name: str, role: RoleSpec) -> None:
        """See `Writer`."""
        replace = "ON CONFLICT (name) DO UPDATE SET settings = excluded.settings"
        self._session.insert("roles", ("name", "settings"), [(name, rows.role_settings(role))], replace)
        users = [(user, False) for user in role.users]
        self._session.insert("users", ("name", "admin"), users, "ON CONFLICT (name) DO NOTHING")
        self._put_members(name, role.users)
        self._put_quotas(name, role)

    def drop_role(self, name: str) -> None:
        """See `Writer`."""
        for table, column in (("quotas", "role"), ("members", "role"), ("roles", "name")):
            self._session.run(f"DELETE FROM {table} WHERE {column} = ?", name)

    def put_user(self, name: str, admin: bool) -> None:
        """See `Writer`."""
        replace = "ON CONFLICT (name) DO UPDATE SET admin = excluded.admin"
        self._session.insert("users", ("name", "admin"), [(name, admin)], replace)

    def put_token(self, token: Token) -> None:
        """See `Writer`."""
        row = (
            *(token.id, token.user, token.digest, token.label),
            *(token.created_us, token.expires_us, token.revoked_us),
        )
        self._session.insert("tokens", rows.TOKEN, [row], _replace("id", rows.TOKEN))

    def _put_members(self, role: str, members: Mapping[str, MemberSpec]) -> None:
        there: dict[str, str] = dict(self._session.fetch(("member", "grants"), "members WHERE role = ?", role))
        wanted = {member: rows.dumps(spec.grants) for member, spec in members.items()}
        for member in there.keys() - wanted.keys():
            self._session.run("DELETE FROM members WHERE role = ? AND member = ?", role, member)
        changed = [(role, member, grants) for member, grants in wanted.items() if there.get(member) != grants]
        replace = "ON CONFLICT (role, member) DO UPDATE SET grants = excluded.grants"
        self._session.insert("members", ("role", "member", "grants"), changed, replace)

    def _put_quotas(self, role: str, spec: RoleSpec) -> None:
        found = self._session.fetch(("member", "tier", "amounts"), "quotas WHERE role = ?", role)
        there = {(member, tier): amounts for member, tier, amounts in found}
        wanted = {("", tier): rows.dumps(amounts) for tier, amounts in spec.quota.items()}
        for member, owner in spec.users.items():
            wanted |= {(member, tier): rows.dumps(amounts) for tier, amounts in owner.quota.items()}
        for member, tier in there.keys() - wanted.keys():
            self._session.run("DELETE FROM quotas WHERE role = ? AND member = ? AND tier = ?", role, member, tier)
        changed = [(role, *owner, amounts) for owner, amounts in wanted.items() if there.get(owner) != amounts]
        replace = "ON CONFLICT (role, member, tier) DO UPDATE SET amounts = excluded.amounts"
        self._session.insert("quotas", ("role", "member", "tier", "amounts"), changed, replace)

    # --- jobs

    def add_jobs(self, jobs: Sequence[Job]) -> None:
        """See `Writer`."""
        numbered = list(enumerate(jobs, self._take("jobs", len(jobs))))
        self._session.insert("jobs", rows.JOB, [rows.job_row(job, seq) for seq, job in numbered])
        labels = [(name, value, seq) for seq, job in numbered for name, value in job.spec.labels.items()]
        self._session.insert("labels", ("name", "value", "seq"), labels)

    def change_job(self, uid: str, values: Mapping[str, Any]) -> None:
        """See `Writer`."""
        cells = {_JOB_COLUMNS.get(name, name): value for name, value in values.items() if name != "spec"}
        if not cells.keys() <= set(rows.JOB_READ) - {"uid"}:
            raise ValueError(f"not all of these are fields of a job that can change: {', '.join(sorted(values))}")
        if "state" in cells:
            cells["state"] = JobState(cells["state"]).value
        if (spec := values.get("spec")) is not None:
            cells |= {"spec": rows.dump_spec(spec), "request": rows.dumps(spec.resources)}
            self._put_labels(uid, spec.labels)
        if cells:
            self._session.update("jobs", "uid", tuple(cells), [(uid, *cells.values())])

    def _put_labels(self, uid: str, labels: Mapping[str, str]) -> None:
        for (seq,) in self._session.fetch(("seq",), "jobs WHERE uid = ?", uid):
            self._session.run("DELETE FROM labels WHERE seq = ?", seq)
            self._session.insert("labels", ("name", "value", "seq"), [(*label, seq) for label in labels.items()])

    def tally(self, ended: Mapping[str, Mapping[State, int]], now_us: int) -> list[str]:
        """See `Writer`."""
        found = self._some(("uid", "state", "ended_us", *_COUNTS), "jobs", "uid", ended)
        changed: list[Row] = []
        over = []
        for uid, state, ended_us, *tallies in found:
            counts = dict(zip(_COUNTS, tallies, strict=True))
            for how, many in ended[uid].items():
                counts["active"] -= many
                counts[_TALLY.get(how, "killed")] += many
            if counts["active"] <= 0 and state == JobState.ACTIVE.value:
                state, ended_us = JobState.ENDED.value, now_us  # noqa: PLW2901  the row's new values
                over.append(uid)
            changed.append((uid, state, ended_us, *counts.values()))
        self._session.update("jobs", "uid", ("state", "ended_us", *_COUNTS), changed)
        return sorted(over)

    def remember(self, answers: Mapping[tuple[str, str], tuple[str, Any]]) -> None:
        """See `Writer`."""
        kept = [(*asked, digest, rows.dumps(answer)) for asked, (digest, answer) in answers.items()]
        self._session.insert("answers", ("role", "key", "digest", "answer"), kept)

    # --- tasks

    def add_first_tasks(self, jobs: Iterable[Job], now_us: int) -> None:
        """See `Writer`."""
        first = [
            (
                task_id(job.uid, instance, 1),
                job.uid,
                instance,
                1,
                State.PENDING.value,
                pending_us(now_us, instance),
                0,
                0,
                0,
            )
            for job in jobs
            for instance in range(job.spec.instances)
        ]
        self._session.insert("tasks", rows.FIRST_TASK, first, "ON CONFLICT (id) DO NOTHING")

    def add_tasks(self, tasks: Sequence[Task]) -> None:
        """See `Writer`."""
        self._session.insert("tasks", rows.TASK, list(map(rows.task_row, tasks)), "ON CONFLICT (id) DO NOTHING")

    def change_tasks(self, changes: Sequence[TaskChange]) -> set[str]:
        """See `Writer`."""
        condition, param = self._session.among("id", {change.id for change in changes})
        now: dict[str, str] = dict(self._session.fetch(("id", "state"), f"tasks WHERE {condition}", param))
        # Of two changes of one task the second sees the first; then both are written as one.
        cells: dict[str, dict[str, Any]] = {}
        for change in changes:
            if now.get(change.id) == change.expected.value:
                new = dict(rows.task_cell(name, value) for name, value in change.values.items())
                now[change.id] = new.get("state", now[change.id])
                cells.setdefault(change.id, {}).update(new)
        alike: dict[tuple[str, ...], list[Row]] = {}
        for id, new in cells.items():
            names = tuple(sorted(new))
            alike.setdefault(names, []).append((id, *(new[name] for name in names)))
        for names, changed in alike.items():
            if names:
                self._session.update("tasks", "id", names, changed)
        return set(cells)

    # --- preemptions

    def add_preemptions(self, records: Sequence[PreemptionRecord]) -> None:
        """See `Writer`."""
        last: int = self._session.fetch(("coalesce(max(seq), 0)",), "preemptions")[0][0]
        numbered = [rows.preemption_row(record, seq) for seq, record in enumerate(records, last + 1)]
        self._session.insert("preemptions", rows.PREEMPTION, numbered, "ON CONFLICT (victim) DO NOTHING")

    def settle_preemptions(self, fates: Mapping[str, Fate], spared: Collection[str] = ()) -> None:
        """See `Writer`."""
        if spared:
            self._session.update("preemptions", "victim", ("lost",), [(victim, 0) for victim in spared])
        known = [(seq, *rows.fate_row(fates[preemptor])) for seq, preemptor in self._open(fates) if preemptor in fates]
        self._session.update("preemptions", "seq", rows.FATE, known)

    def _open(self, preemptors: Collection[str]) -> list[Any]:
        columns, rest = ("seq", "preemptor"), f"preemptions WHERE {IS_OPEN}"
        if not preemptors or len(preemptors) > _FATES_FEW:
            return self._session.fetch(columns, rest) if preemptors else []
        condition, param = self._session.among("preemptor", preemptors)
        return self._session.fetch(columns, f"{rest} AND {condition}", param)

    # --- quotas

    def charge(self, deltas: Mapping[tuple[str, str, str], Mapping[str, int]]) -> None:
        """See `Writer`."""
        columns = ("role", "tier", "member", "resource", "amount")
        added = [
            (*holder, resource, amount)
            for holder, amounts in deltas.items()
            for resource, amount in amounts.items()
            if amount
        ]
        add = "ON CONFLICT (role, tier, member, resource) DO UPDATE SET amount = usage.amount + excluded.amount"
        self._session.insert("usage", columns, added, add)

    # --- history

    def emit(self, events: Iterable[tuple[int, str, str | None, str | None, str | None, Mapping[str, Any]]]) -> int:
        """See `Writer`."""
        made = list(events)
        first = self._take("events", len(made))
        numbered = [(id, *head, rows.dumps(data)) for id, (*head, data) in enumerate(made, first)]
        self._session.insert("events", rows.EVENT, numbered)
        return first + len(made) - 1

    def drop_events(self, ids: Sequence[int]) -> None:
        """See `Writer`."""
        last = self.last_event()
        among, param = self._session.numbered("id", [id for id in ids if id != last])
        self._session.run(f"DELETE FROM events WHERE {among}", param)

    def drop_preemptions(self, seqs: Sequence[int]) -> None:
        """See `Writer`."""
        among, param = self._session.numbered("seq", seqs)
        self._session.run(f"DELETE FROM preemptions WHERE {among} AND seq < (SELECT max(seq) FROM preemptions)", param)

    def audit(self, *audits: Audit) -> None:
        """See `Writer`."""
        numbered = enumerate(audits, self._take("audits", len(audits)))
        self._session.insert("audits", rows.AUDIT, [rows.audit_row(audit, id) for id, audit in numbered])

    def _take(self, table: str, many: int) -> int:
        """The first of so many new numbers. There is one writer at a time, so they are counted on from the last."""
        if self._numbers is None:
            last = self._session.fetch(_LAST, "(SELECT 1 AS one) AS once")[0]
            self._numbers = dict(zip(_NUMBERED, last, strict=True))
        first = self._numbers[table] + 1
        self._numbers[table] += many
        return first

    # --- nodes and the leader

    def put_node(self, record: NodeRecord) -> None:
        """See `Writer`."""
        self._session.insert("nodes", rows.NODE, [rows.node_row(record)], _replace("name", rows.NODE))

    def drop_node(self, name: str) -> None:
        """See `Writer`."""
        self._session.run("DELETE FROM nodes WHERE name = ?", name)

    def put_note(self, name: str, value: str) -> None:
        """See `Writer`."""
        self._session.insert("notes", ("name", "value"), [(name, value)], _replace("name", ("name", "value")))

    def lead(self, holder: str, now_us: int, lease_us: int) -> int | None:
        """See `Writer`. A process that starts must lead under a name that was never used: what another process of the
        same name still believed would not be told from its own.
        """
        found = self._session.fetch(("holder", "epoch", "until_us"), "leader WHERE id = 1")
        before, epoch, until_us = found[0] if found else (None, 0, 0)
        if before != holder:
            if before is not None and now_us < until_us:
                if until_us - now_us > lease_us:
                    # By a clock that was set back since. Who lives renews it; who is dead has a lease more, no longer.
                    self._session.run("UPDATE leader SET until_us = ? WHERE id = 1", now_us + lease_us)
                return None
            epoch += 1
        row = (1, holder, epoch, now_us + lease_us)
        columns = ("id", "holder", "epoch", "until_us")
        self._session.insert("leader", columns, [row], _replace("id", columns))
        return int(epoch)

    def resign(self, holder: str) -> None:
        """See `Writer`."""
        self._session.run("UPDATE leader SET holder = NULL, until_us = 0 WHERE id = 1 AND holder = ?", holder)

    def obey(self, epoch: int) -> None:
        """`Deposed` unless the leader of this epoch leads still. Its lease may be over: until another has taken the
        lead, in a transaction of its own, nobody else writes as leader.
        """
        leading = self._session.fetch(("epoch",), "leader WHERE id = 1 AND holder IS NOT NULL")
        if [current for (current,) in leading] != [epoch]:
            raise Deposed("another scheduler leads now", epoch=epoch)


def _replace(key: str, columns: Sequence[str]) -> str:
    assign = ", ".join(f"{column} = excluded.{column}" for column in columns if column != key)
    return f"ON CONFLICT ({key}) DO UPDATE SET {assign}"
