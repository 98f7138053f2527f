"""What is counted and summed up in the database: what is held, by whom and where, and who waits."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from priority.reason import Reason
from priority.resources import Resources, times, total
from priority.store import rows
from priority.store.session import Session
from priority.store.tables import IS_ACTIVE, IS_PLACED
from priority.task import State


class SumReads:
    """The sums of `ports.Reader`, over one transaction."""

    _session: Session

    def usage(self, role: str | None = None) -> dict[tuple[str, str, str], Resources]:
        """See `Reader`."""
        columns = ("role", "tier", "member", "resource", "amount")
        held: dict[tuple[str, str, str], Resources] = {}
        where, params = ("", ()) if role is None else (" WHERE role = ?", (role,))
        for tenant, tier, member, resource, amount in self._session.fetch(columns, f"usage{where}", *params):
            if amount:
                held.setdefault((tenant, tier, member), {})[resource] = amount
        return held

    def holding(self, role: str | None = None) -> dict[tuple[str, str, str], Resources]:
        """See `Reader`."""
        where, params = ("", ()) if role is None else (" WHERE jobs.role = ?", (role,))
        # The placed are among the active: said so, their index serves, not that of all there ever were.
        placed = f"(SELECT job, count(*) AS many FROM tasks WHERE {IS_ACTIVE} AND {IS_PLACED} GROUP BY job) AS placed"
        found = self._session.fetch(
            ("role", "tier", "member", "request", "many"),
            f"{placed} JOIN jobs ON jobs.uid = placed.job{where}",
            *params,
        )
        parts: dict[tuple[str, str, str], list[Resources]] = {}
        for tenant, tier, member, request, many in found:
            parts.setdefault((tenant, tier, member), []).append(times(rows.loads(request), many))
        return {holder: total(vectors) for holder, vectors in parts.items()}

    def on_nodes(self) -> dict[str, tuple[int, Resources]]:
        """See `Reader`."""
        placed = f"(SELECT node, job, count(*) AS many FROM tasks WHERE {IS_PLACED} GROUP BY node, job) AS placed"
        found = self._session.fetch(("node", "request", "many"), f"{placed} JOIN jobs ON jobs.uid = placed.job")
        requests = {request: rows.loads(request) for request in {row[1] for row in found}}
        held: dict[str, tuple[int, Resources]] = {}
        for node, request, many in found:
            count, amounts = held.get(node, (0, {}))
            for name, amount in requests[request].items():
                amounts[name] = amounts.get(name, 0) + many * amount
            held[node] = count + many, amounts
        return held

    def waiting(self, roles: Collection[str] | None = None) -> list[tuple[str, str, int, int, Reason | None]]:
        """See `Reader`."""
        tallied = "job, count(*) AS many, min(since_us) AS since, max(reason) AS why"
        wait = f"{IS_ACTIVE} AND state = '{State.PENDING}' AND after IS NULL"
        rest = f"(SELECT {tallied} FROM tasks WHERE {wait} GROUP BY job) AS idle JOIN jobs ON jobs.uid = idle.job"
        params: tuple[Any, ...] = ()
        if roles is not None:
            among, param = self._session.among("jobs.role", roles)
            rest, params = f"{rest} WHERE {among}", (param,)
        found = self._session.fetch(("idle.job", "jobs.tier", "many", "since", "why"), rest, *params)
        whys = {why: Reason.of(rows.loads(why)) for why in {row[4] for row in found} if why is not None}
        return [(*row[:4], whys.get(row[4])) for row in found]
