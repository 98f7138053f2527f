"""Cron jobs and their ticks: every statement about them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from priority.cron import CronSpec, Missed, Outcome
from priority.crontab import Cron, CronQuery, CronState, Key, Run, Tick
from priority.errors import Invalid
from priority.quota import beyond
from priority.reason import Reason
from priority.resources import Resources, times, total
from priority.store import rows
from priority.store.aged import AgedWrites
from priority.store.session import Row, Session
from priority.store.tables import IS_ACTIVE_JOB, IS_TO_COME, IS_WAITING

CRON = ("uid", "member", "state", "created_us", "changed_us", "next_us", "reserve", "spec")
CRON_WRITTEN = (*CRON, "role", "tier", "name", "seq")
TICK = ("cron", "tick_us", "outcome", "at_us", "job", "by_member", "reason")
_DELETED = f"state <> '{CronState.DELETED}'"


def cron_of(row: Row) -> Cron:
    """From a row of `CRON`."""
    uid, user, state, created_us, changed_us, next_us, reserve, spec = row
    values = rows.loads(spec)
    values["missed"] = rows.made(Missed, values["missed"])
    return Cron(
        uid=uid,
        spec=rows.made(CronSpec, rows.fields_of(values)),
        user=user,
        created_us=created_us,
        changed_us=changed_us,
        state=CronState(state),
        next_us=next_us,
        reserve=rows.loads(reserve),
    )


def _cron_row(cron: Cron, seq: int) -> Row:
    values = {**cron.spec.__dict__, "missed": cron.spec.missed.__dict__}
    head = (cron.uid, cron.user, cron.state.value, cron.created_us, cron.changed_us, cron.next_us)
    return (*head, rows.dumps(cron.reserve), rows.dumps(values), *cron.key, seq)


def tick_of(row: Row) -> Tick:
    """From a row of `TICK`."""
    cron, tick_us, outcome, at_us, job, by, reason = row
    return Tick(
        cron=cron,
        tick_us=tick_us,
        outcome=Outcome(outcome),
        at_us=at_us,
        job=job,
        by=by,
        reason=None if reason is None else Reason.of(rows.loads(reason)),
    )


def _tick_row(tick: Tick) -> Row:
    reason = None if tick.reason is None else rows.dumps(tick.reason.plain())
    return (tick.id, tick.cron, tick.tick_us, tick.outcome.value, tick.at_us, tick.job, tick.by, reason)


class CronReads:
    """`crontab.CronReader` over one transaction."""

    _session: Session

    def cron(self, role: str, tier: str, name: str) -> Cron | None:
        """See `CronReader`."""
        found = self._session.fetch(CRON, "crons WHERE role = ? AND tier = ? AND name = ?", role, tier, name)
        return cron_of(found[0]) if found else None

    def crons_of(self, keys: Collection[Key]) -> dict[Key, Cron]:
        """See `CronReader`."""
        found: list[Cron] = []
        for where, *params in self._under(keys):
            found += map(cron_of, self._session.fetch(CRON, f"crons WHERE {_DELETED} AND {where}", *params))
        return {cron.key: cron for cron in found}

    def cron_names(self, keys: Collection[Key]) -> set[Key]:
        """See `CronReader`."""
        found: set[Key] = set()
        for where, *params in self._under(keys):
            names = self._session.fetch(("role", "tier", "name"), f"crons WHERE {_DELETED} AND {where}", *params)
            found.update((role, tier, name) for role, tier, name in names)
        return found

    def crons(self, query: CronQuery, limit: int, after: str | None = None) -> tuple[list[Cron], str | None]:
        """See `CronReader`."""
        wheres: list[tuple[Any, ...]] = [(_DELETED,) if query.state is None else ("state = ?", query.state.value)]
        wheres += [
            (f"{column} = ?", value) for column, value in (("tier", query.tier), ("member", query.user)) if value
        ]
        if query.roles is not None:
            wheres.append(self._session.among("role", query.roles))
        if after is not None:
            wheres.append(("seq < ?", _cursor(after)))
        return self._newest((*CRON, "seq"), "crons", wheres, limit, cron_of)

    def due_crons(self, now_us: int, limit: int) -> list[Cron]:
        """See `CronReader`."""
        rest = f"crons WHERE {IS_TO_COME} AND next_us <= ? ORDER BY next_us, seq LIMIT ?"
        return [cron_of(row) for row in self._session.fetch(CRON, rest, now_us, limit)]

    def next_tick(self) -> int | None:
        """See `CronReader`."""
        found = self._session.fetch(("next_us",), f"crons WHERE {IS_TO_COME} ORDER BY next_us LIMIT 1")
        return int(found[0][0]) if found else None

    def tick(self, cron: str, tick_us: int) -> Tick | None:
        """See `CronReader`."""
        found = self._session.fetch(TICK, "ticks WHERE cron = ? AND tick_us = ?", cron, tick_us)
        return tick_of(found[0]) if found else None

    def ticks_there(self, ids: Collection[str]) -> set[str]:
        """See `CronReader`."""
        if not ids:
            return set()
        among, param = self._session.among("id", ids)
        return {id for (id,) in self._session.fetch(("id",), f"ticks WHERE {among}", param)}

    def ticks(
        self, cron: str, limit: int, after: str | None = None, outcome: Outcome | None = None
    ) -> tuple[list[Tick], str | None]:
        """See `CronReader`."""
        wheres: list[tuple[Any, ...]] = [("cron = ?", cron)]
        if outcome is not None:
            wheres.append(("outcome = ?", outcome.value))
        if after is not None:
            wheres.append(("tick_us < ?", _cursor(after)))
        return self._newest((*TICK, "tick_us"), "ticks", wheres, limit, tick_of)

    def waiting_ticks(self, crons: Collection[str] | None = None) -> list[Tick]:
        """See `CronReader`."""
        where, params = IS_WAITING, []
        if crons is not None:
            among, param = self._session.among("cron", crons)
            where, params = f"{where} AND {among}", [param]
        found = [tick_of(row) for row in self._session.fetch(TICK, f"ticks WHERE {where}", *params)]
        return sorted(found, key=lambda tick: (tick.tick_us, tick.cron))

    def waiting_crons(self) -> list[Cron]:
        """See `CronReader`."""
        uids = {uid for (uid,) in self._session.fetch(("cron",), f"ticks WHERE {IS_WAITING}")}
        if not uids:
            return []
        among, param = self._session.among("uid", uids)
        return sorted(map(cron_of, self._session.fetch(CRON, f"crons WHERE {among}", param)), key=lambda one: one.uid)

    def cron_runs(self, keys: Collection[Key]) -> dict[Key, list[Run]]:
        """See `CronReader`."""
        runs: dict[Key, list[Run]] = {}
        columns = ("seq", "role", "tier", "name", "uid", "member", "active", "request")
        for where, *params in self._under(keys):
            rest = f"jobs WHERE {IS_ACTIVE_JOB} AND {where} AND tick_us IS NOT NULL"
            for _, role, tier, name, uid, user, active, request in sorted(self._session.fetch(columns, rest, *params)):
                run = Run(uid, user, times(rows.loads(request), active))
                runs.setdefault((role, tier, name), []).append(run)
        return runs

    def cron_uids(self, after: str, limit: int) -> list[str]:
        """See `CronReader`."""
        return [
            uid for (uid,) in self._session.fetch(("uid",), "crons WHERE uid > ? ORDER BY uid LIMIT ?", after, limit)
        ]

    def old_ticks(self, cron: str, after_us: int, before_us: int, limit: int) -> list[Tick]:
        """See `CronReader`."""
        newest = "(SELECT max(tick_us) FROM ticks WHERE cron = ?)"
        going = f"EXISTS (SELECT 1 FROM jobs WHERE uid = ticks.job AND ({IS_ACTIVE_JOB} OR ended_us >= ?))"
        where = f"cron = ? AND tick_us > ? AND tick_us < ? AND tick_us < {newest} AND NOT {IS_WAITING} AND NOT {going}"
        params = (cron, after_us, before_us, cron, before_us, limit)
        found = self._session.fetch(TICK, f"ticks WHERE {where} ORDER BY tick_us LIMIT ?", *params)
        return [tick_of(row) for row in found]

    def reserved(self, role: str | None = None) -> dict[Key, Resources]:
        """See `CronReader`."""
        where, params = ("", ()) if role is None else (" AND role = ?", (role,))
        columns = ("role", "tier", "name", "member", "reserve")
        found = self._session.fetch(columns, f"crons WHERE reserve <> '{{}}'{where}", *params)
        runs = self.cron_runs([(role, tier, name) for role, tier, name, *_ in found])
        kept: dict[Key, list[Resources]] = {}
        for its_role, tier, name, user, reserve in found:
            held = total(run.holds for run in runs.get((its_role, tier, name), ()) if run.user == user)
            kept.setdefault((its_role, tier, user), []).append(beyond(rows.loads(reserve), held))
        return {owner: total(amounts) for owner, amounts in kept.items()}

    def _under(self, keys: Collection[Key]) -> list[tuple[Any, ...]]:
        """Conditions that together name these keys: one for each role and tier."""
        names: dict[tuple[str, str], set[str]] = {}
        for role, tier, name in keys:
            names.setdefault((role, tier), set()).add(name)
        found: list[tuple[Any, ...]] = []
        for (role, tier), some in names.items():
            among, param = self._session.among("name", some)
            found.append((f"role = ? AND tier = ? AND {among}", role, tier, param))
        return found

    def _newest(
        self, columns: Sequence[str], table: str, wheres: Sequence[tuple[Any, ...]], limit: int, noun: Any
    ) -> tuple[list[Any], str | None]:
        """A page by the last of `columns`, downwards."""
        limit = max(1, limit)
        where = " AND ".join(one[0] for one in wheres)
        params = [param for one in wheres for param in one[1:]]
        rest = f"{table} WHERE {where} ORDER BY {columns[-1]} DESC LIMIT ?"
        found = self._session.fetch(columns, rest, *params, limit + 1)
        following = str(found[limit - 1][-1]) if len(found) > limit else None
        return [noun(row[:-1]) for row in found[:limit]], following


class CronWrites(CronReads, AgedWrites):
    """`crontab.CronWriter` over one transaction."""

    def put_crons(self, crons: Sequence[Cron]) -> None:
        """See `CronWriter`."""
        last: int = self._session.fetch(("coalesce(max(seq), 0)",), "crons")[0][0]
        numbered = [_cron_row(cron, seq) for seq, cron in enumerate(crons, last + 1)]
        kept = ("state", "changed_us", "next_us", "reserve", "spec", "member")
        replace = ", ".join(f"{column} = excluded.{column}" for column in kept)
        self._session.insert("crons", CRON_WRITTEN, numbered, f"ON CONFLICT (uid) DO UPDATE SET {replace}")

    def move_crons(self, moved: Mapping[str, tuple[CronState, int | None, Resources]]) -> None:
        """See `CronWriter`."""
        changed = [(uid, state.value, next_us, rows.dumps(kept)) for uid, (state, next_us, kept) in moved.items()]
        self._session.update("crons", "uid", ("state", "next_us", "reserve"), changed)

    def add_ticks(self, ticks: Sequence[Tick]) -> None:
        """See `CronWriter`."""
        self._session.insert("ticks", ("id", *TICK), [_tick_row(tick) for tick in ticks])

    def settle_ticks(self, ticks: Sequence[Tick]) -> None:
        """See `CronWriter`."""
        changed = [(id, *rest) for id, _, _, *rest in map(_tick_row, ticks)]
        self._session.update("ticks", "id", TICK[2:], changed)

    def drop_ticks(self, ticks: Sequence[Tick]) -> None:
        """See `CronWriter`."""
        among, param = self._session.among("id", [tick.id for tick in ticks])
        self._session.run(f"DELETE FROM ticks WHERE {among}", param)
        self.drop_jobs([tick.job for tick in ticks if tick.job is not None])


def _cursor(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Invalid("after", "is not a cursor that this list gave")
    return int(text)
