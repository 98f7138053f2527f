"""The API as a Python object: what the CLI, the demo, the tests and Airflow call.

    with Client.find() as client:
        job = client.submit({"role": "physics", "tier": "devel", "name": "hello", "command": "echo hello"})
        client.wait(job["uid"])

Every method raises the same errors as the verbs behind it (`priority.errors`), and `Unavailable` when there is no
answer. A submission always carries an idempotency key, so that after a lost connection it is safely sent again.
"""

from __future__ import annotations

import http.client
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast
from urllib.parse import quote

from priority.errors import Malformed, Unavailable
from priority.face import locate
from priority.face.transport import BACKOFF_S, Transport, server_sent, utf8
from priority.task import ONE_INSTANCE

if TYPE_CHECKING:
    from types import TracebackType

    from pydantic import BaseModel

    from priority.face import views, views_cron
    from priority.service.settings import Settings

_FEW = 10


class LogPiece(NamedTuple):
    """A piece of a task's output. It begins at `offset`: after what was asked for, if that is no longer kept."""

    offset: int
    data: bytes
    ended: bool
    """Whether nothing will follow."""
    started: bool
    """Whether the task was ever on a node."""


class Client:
    """One API and one user. Thread-safe; close it, or use it in a `with`."""

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        timeout_s: float = 60.0,
        retry_s: float = 10.0,
        refused_s: float | None = None,
        waits: Callable[[str], None] | None = None,
    ) -> None:
        """`timeout_s` bounds each wait for the server, `retry_s` how long a lost connection is tried again,
        `refused_s` (`retry_s` if None) how long one that was refused from the first. `waits` is told once if so.
        """
        self.url = url
        self._http = Transport(url, token, timeout_s=timeout_s, retry_s=retry_s, refused_s=refused_s, waits=waits)

    @classmethod
    def find(
        cls,
        settings: Settings | None = None,
        *,
        token_needed: bool = True,
        timeout_s: float = 60.0,
        retry_s: float = 10.0,
        refused_s: float | None = None,
        waits: Callable[[str], None] | None = None,
    ) -> Client:
        """The API of the settings (`PRIORITY_URL`, `PRIORITY_TOKEN`) or else the one of the state folder. Without
        `token_needed` it is no error that there is no token.
        """
        settings = settings or _settings()
        url, token = cls.whereabouts(settings, token_needed=token_needed, retry_s=retry_s, waits=waits)
        if not settings.url and not locate.lives(settings.state):
            refused_s = min(locate.GRACE_S, retry_s if refused_s is None else refused_s)
        return cls(url, token, timeout_s=timeout_s, retry_s=retry_s, refused_s=refused_s, waits=waits)

    @staticmethod
    def whereabouts(
        settings: Settings | None = None,
        *,
        token_needed: bool = True,
        retry_s: float = 10.0,
        waits: Callable[[str], None] | None = None,
    ) -> tuple[str, str]:
        """What `find` finds: URL and token."""
        settings = settings or _settings()
        url = settings.url or locate.url(settings.state, retry_s, waits)
        return url, settings.token.strip() or locate.token(settings.state, needed=token_needed)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    # --- the service itself

    def health(self) -> views.Health:
        """Whether it works, part by part; needs no token. A degraded service answers too."""
        return cast("views.Health", self._http.request("GET", "/v1/health", welcome=503).json())

    def me(self) -> views.UserView:
        """Whose token this is, and what they may do."""
        return cast("views.UserView", self._http.json("GET", "/v1/me"))

    def openapi(self) -> dict[str, Any]:
        """The description of every route."""
        return cast("dict[str, Any]", self._http.json("GET", "/v1/openapi.json"))

    # --- jobs

    def submit(self, spec: Mapping[str, Any] | BaseModel, key: str | None = None) -> views.Submitted:
        """One job. `key` is the idempotency key: the same key never makes two jobs."""
        return cast("views.Submitted", self._post_job("/v1/jobs", _plain(spec), key))

    def submit_many(self, specs: Sequence[Mapping[str, Any] | BaseModel], key: str | None = None) -> views.Bulk:
        """Up to the service's `bulk_limit` jobs in one transaction: all of them or none."""
        return cast("views.Bulk", self._post_job("/v1/jobs/bulk", [_plain(spec) for spec in specs], key))

    def _post_job(self, path: str, body: Any, key: str | None) -> Any:
        headers = {"Idempotency-Key": key or secrets.token_hex(16)}
        return self._http.json("POST", path, body, headers=headers, repeatable=True)

    def jobs(
        self,
        *,
        role: Sequence[str] | str | None = None,
        tier: str | None = None,
        name: str | None = None,
        user: str | None = None,
        state: str | None = None,
        label: str | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> views.JobPage:
        """One page, newest first; `label` is `name=value`."""
        query = {"role": role, "tier": tier, "name": name, "user": user, "state": state, "label": label}
        return cast(
            "views.JobPage", self._http.json("GET", "/v1/jobs", query={**query, "limit": limit, "after": after})
        )

    def all_jobs(self, **query: Any) -> Iterator[views.JobSummary]:
        """Every job that fits, page by page."""
        return cast("Iterator[views.JobSummary]", _pages(lambda after: self.jobs(**{**query, "after": after})))

    def job(self, ref: str) -> views.JobView:
        """By uid, or the latest under `role/tier/name`."""
        return cast("views.JobView", self._http.json("GET", _job(ref)))

    def tasks(
        self,
        ref: str,
        *,
        state: Sequence[str] | None = None,
        current: bool = False,
        limit: int | None = None,
        after: str | None = None,
    ) -> views.TaskPage:
        """One page of a job's tasks, by instance and attempt; `current`: of each instance only the newest attempt, and
        one before it that still dies.
        """
        query = {"state": state, "current": current, "limit": limit, "after": after}
        return cast("views.TaskPage", self._http.json("GET", _job(ref, "tasks"), query=query))

    def all_tasks(self, ref: str, **query: Any) -> Iterator[views.TaskView]:
        """All of a job's tasks, page by page."""
        return cast("Iterator[views.TaskView]", _pages(lambda after: self.tasks(ref, **{**query, "after": after})))

    def task(self, id: str) -> views.TaskView:
        """One attempt."""
        return cast("views.TaskView", self._http.json("GET", f"/v1/tasks/{_part(id)}"))

    def kill(self, ref: str, instances: Sequence[int] | None = None, why: str = "") -> views.JobView:
        """End it, or only these instances. Twice is once."""
        body = {"instances": None if instances is None else list(instances), "why": why}
        return cast("views.JobView", self._http.json("POST", _job(ref, "kill"), body, repeatable=True))

    def restart(self, ref: str, instances: Sequence[int] | None = None, why: str = "") -> views.JobView:
        """Begin it anew, or only these instances."""
        body = {"instances": None if instances is None else list(instances), "why": why}
        return cast("views.JobView", self._http.json("POST", _job(ref, "restart"), body))

    def kill_many(
        self, refs: Sequence[str], instances: Sequence[int] | None = None, why: str = "", *, dry_run: bool = False
    ) -> list[views.JobSummary]:
        """End all of these jobs in one transaction, or none; up to the service's `bulk_limit`."""
        body = {"jobs": _refs(refs), "instances": instances, "why": why, "dry_run": dry_run}
        return cast("views.JobPage", self._http.json("POST", "/v1/jobs/kill", body, repeatable=True))["items"]

    def restart_many(
        self, refs: Sequence[str], instances: Sequence[int] | None = None, why: str = "", *, dry_run: bool = False
    ) -> list[views.JobSummary]:
        """Begin all of these jobs anew, or none."""
        body = {"jobs": _refs(refs), "instances": instances, "why": why, "dry_run": dry_run}
        return cast("views.JobPage", self._http.json("POST", "/v1/jobs/restart", body))["items"]

    def kill_selected(self, **choice: Any) -> Iterator[views.JobSummary]:
        """End every active job that fits `role`, `tier`, `name` (such as `mc-*`), `user` and `label`, as many in a
        request as the service takes; with `why` and `dry_run`.
        """
        return self._selected("kill", choice)

    def restart_selected(self, **choice: Any) -> Iterator[views.JobSummary]:
        """Begin every active job anew that fits, as `kill_selected` ends them."""
        return self._selected("restart", choice)

    def _selected(self, verb: str, choice: Mapping[str, Any]) -> Iterator[views.JobSummary]:
        def page(after: str | None) -> Any:
            body = {**choice, "after": after}
            return self._http.json("POST", f"/v1/jobs/{verb}", body, repeatable=verb == "kill")

        return cast("Iterator[views.JobSummary]", _pages(page))

    def scale(self, ref: str, instances: int) -> views.Submitted:
        """To that many instances; `warnings` as at a submission."""
        return cast(
            "views.Submitted", self._http.json("POST", _job(ref, "scale"), {"instances": instances}, repeatable=True)
        )

    def explain(self, ref: str) -> views.ExplanationView:
        """Why a job waits, or why it was killed, by whom and at what cost. `ref` may be a task's id."""
        return cast("views.ExplanationView", self._http.json("GET", _job(ref, "explain")))

    # --- cron jobs

    def submit_cron(self, spec: Mapping[str, Any] | BaseModel) -> views_cron.CronSubmitted:
        """A job with a schedule. One of the same key says this from now on; twice is once."""
        return cast("views_cron.CronSubmitted", self._http.json("POST", "/v1/cron", _plain(spec), repeatable=True))

    def crons(self, **query: Any) -> views_cron.CronPage:
        """One page, newest first: of a `role`, `tier`, `user` or `state`, with `limit` and `after`."""
        return cast("views_cron.CronPage", self._http.json("GET", "/v1/cron", query=query))

    def all_crons(self, **query: Any) -> Iterator[views_cron.CronSummary]:
        """Every cron job that fits, page by page."""
        return cast("Iterator[views_cron.CronSummary]", _pages(lambda after: self.crons(**{**query, "after": after})))

    def cron(self, key: str) -> views_cron.CronView:
        """By `role/tier/name`: what it says, and its next ticks."""
        return cast("views_cron.CronView", self._http.json("GET", _cron(key)))

    def cron_history(self, key: str, **query: Any) -> views_cron.TickPage:
        """What became of its ticks, newest first: with an `outcome`, `limit` and `after`."""
        return cast("views_cron.TickPage", self._http.json("GET", _cron(key, "history"), query=query))

    def start_cron(self, key: str, why: str = "") -> views_cron.CronStarted:
        """Run it now, beside its schedule."""
        return cast("views_cron.CronStarted", self._http.json("POST", _cron(key, "start"), {"why": why}))

    def suspend_cron(self, key: str, why: str = "") -> views_cron.CronView:
        """Its ticks are skipped until it is resumed."""
        path = _cron(key, "suspend")
        return cast("views_cron.CronView", self._http.json("POST", path, {"why": why}, repeatable=True))

    def resume_cron(self, key: str, why: str = "") -> views_cron.CronView:
        """Its ticks are run again."""
        path = _cron(key, "resume")
        return cast("views_cron.CronView", self._http.json("POST", path, {"why": why}, repeatable=True))

    def delete_cron(self, key: str) -> None:
        """It has no ticks any more; its history stays."""
        self._http.request("DELETE", _cron(key))

    # --- what the engine would do, and what it has done

    def plan(self, *specs: Mapping[str, Any] | BaseModel) -> views.ForecastView:
        """What would happen if these jobs were submitted now, in one request. Nothing is changed."""
        body = [_plain(spec) for spec in specs]
        return cast("views.ForecastView", self._http.json("POST", "/v1/plan", body, repeatable=True))

    def risk(self, ref: str, *, limit: int | None = None) -> views.RiskView:
        """Which of a job's tasks would be the next victims, in that order, and what would be lost."""
        return cast("views.RiskView", self._http.json("GET", _job(ref, "risk"), query={"limit": limit}))

    def preemptions(
        self,
        *,
        role: str | None = None,
        job: str | None = None,
        since: str | None = None,
        started: bool | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> views.PreemptionPage:
        """Who gave way to whom, newest first; `role` and `job` may be either side, `since` is a time or an age.
        `started`: only those whose preemptor has started, or has not.
        """
        which = None if started is None else str(started).lower()
        query = {"role": role, "job": job, "since": since, "started": which, "limit": limit, "after": after}
        return cast("views.PreemptionPage", self._http.json("GET", "/v1/preemptions", query=query))

    def all_preemptions(self, **query: Any) -> Iterator[views.PreemptionView]:
        """Every preemption that fits, page by page."""
        pages = _pages(lambda after: self.preemptions(**{**query, "after": after}))
        return cast("Iterator[views.PreemptionView]", pages)

    def preemption_totals(self, *, role: str | None = None, since: str | None = None) -> views.PreemptionTotals:
        """What roles took of each other, both ways."""
        query = {"role": role, "since": since}
        return cast("views.PreemptionTotals", self._http.json("GET", "/v1/preemptions/totals", query=query))

    def wait(
        self, *refs: str, timeout_s: float | None = None, seen: Callable[[str], None] | None = None
    ) -> list[views.JobSummary]:
        """Until all of these jobs have ended; `seen` is told each as it does. `Unavailable` when the time is over."""
        # The last event is taken before the jobs are read, so that none can end between the two unseen.
        after = self.last_event()
        waiting = self._active(refs)
        for ref in refs:
            if seen is not None and ref not in waiting.values():
                seen(ref)
        for event in self.events(after, wait_s=timeout_s) if waiting else ():
            if event["kind"] == "job.ended" and (ref := waiting.pop(str(event["job"]), "")) and seen is not None:
                seen(ref)
            if not waiting:
                break
        if waiting:
            raise Unavailable(f"{len(waiting)} of {len(refs)} jobs have not ended within {timeout_s} s")
        return self._summaries(refs)

    def _active(self, refs: Sequence[str]) -> dict[str, str]:
        """Those that are active: uid -> ref. Many uids by pages, a few one by one."""
        if len(refs) > _FEW and not any("/" in ref for ref in refs):
            active = {job["uid"] for job in self.all_jobs(state="active", limit=1000)}
            return {ref: ref for ref in refs if ref in active}
        jobs = {ref: self.job(ref) for ref in refs}
        return {job["uid"]: ref for ref, job in jobs.items() if job["state"] == "active"}

    def _summaries(self, refs: Sequence[str]) -> list[views.JobSummary]:
        found: dict[str, views.JobSummary] = {}
        if len(refs) > _FEW:
            wanted = set(refs)
            for job in islice(self.all_jobs(state="ended", limit=1000), 4 * len(refs)):
                if job["uid"] in wanted:
                    found[job["uid"]] = job
                if len(found) == len(wanted):
                    break
        return [found.get(ref) or self.job(ref) for ref in refs]

    # --- output

    def logs(
        self,
        ref: str,
        *,
        instance: int | None = None,
        stream: Literal["stdout", "stderr"] = "stdout",
        offset: int = 0,
        limit: int = 65_536,
        wait_s: float = 0.0,
    ) -> tuple[int, bytes, bool]:
        """A piece of a task's output: (offset of its first byte, the bytes, whether nothing will follow). A negative
        `offset` counts from the end. `ref` is a task's id, or a job with `instance`.
        """
        piece = self.log_chunk(ref, instance=instance, stream=stream, offset=offset, limit=limit, wait_s=wait_s)
        return piece.offset, piece.data, piece.ended

    def log_chunk(
        self,
        ref: str,
        *,
        instance: int | None = None,
        stream: Literal["stdout", "stderr"] = "stdout",
        offset: int = 0,
        limit: int = 65_536,
        wait_s: float = 0.0,
    ) -> LogPiece:
        """As `logs`, and whether the task was ever on a node."""
        query = {"stream": stream, "offset": offset, "limit": limit, "wait_s": wait_s}
        if instance is not None:
            query["instance"] = instance
        answer = self._http.request("GET", _job(ref, "logs"), query=query)
        said = answer.headers
        started = said.get("Log-Started") != "false"  # an older server does not say
        return LogPiece(int(said["Log-Offset"]), answer.body, said["Log-Ended"] == "true", started)

    def follow_logs(
        self,
        ref: str,
        *,
        instance: int | None = None,
        stream: Literal["stdout", "stderr"] = "stdout",
        offset: int = 0,
    ) -> Iterator[bytes]:
        """A task's output as it comes, until the task has ended."""
        while True:
            begin, data, ended = self.logs(ref, instance=instance, stream=stream, offset=offset, wait_s=20.0)
            offset = begin + len(data)
            if data:
                yield data
            elif ended:
                return

    # --- events

    def last_event(self) -> int:
        """The id of the newest event."""
        return int(self._http.json("GET", "/v1/events", query={"follow": "false", "after": -1})["last"])

    def event_page(self, after: int = 0, *, job: str | None = None, limit: int | None = None) -> views.EventPage:
        """Events after `after` that are there now."""
        query = {"follow": "false", "after": after, "job": job, "limit": limit}
        return cast("views.EventPage", self._http.json("GET", "/v1/events", query=query))

    def events(
        self, after: int = 0, *, job: str | None = None, wait_s: float | None = None
    ) -> Iterator[views.EventView]:
        """Events as they are committed, for ever or until `wait_s` seconds are over. A lost connection is made again
        and goes on after the last event seen.
        """
        deadline = None if wait_s is None else time.monotonic() + wait_s
        failures = 0
        while deadline is None or time.monotonic() < deadline:
            try:
                query = {"after": after, "job": job}
                left = None if deadline is None else max(0.01, deadline - time.monotonic())
                with self._http.stream("/v1/events", query, left) as response:
                    for event in server_sent(response, deadline):
                        failures = 0
                        if event is not None:
                            after = event["id"]
                            yield event
            except (Unavailable, OSError, http.client.HTTPException) as error:
                if deadline is not None and time.monotonic() >= deadline:
                    return
                failures += 1
                if failures > 20:
                    raise Unavailable(f"the events of {self.url} do not come: {error}") from None
                time.sleep(BACKOFF_S[min(failures, len(BACKOFF_S)) - 1])

    # --- roles and quotas

    def roles(self) -> views.Roles:
        """Every role that one may see."""
        return cast("views.Roles", self._http.json("GET", "/v1/roles"))

    def role(self, name: str) -> views.RoleView:
        """One role."""
        return cast("views.RoleView", self._http.json("GET", f"/v1/roles/{_part(name)}"))

    def apply_roles(
        self, roles: Mapping[str, Any], *, dry_run: bool = False, delete: bool = False, force: bool = False
    ) -> views.Changes:
        """Make the roles be these. `delete` drops those that are not named, `force` lowers quotas below their use;
        `dry_run` only says what would change.
        """
        body = {"roles": {name: _plain(role) for name, role in roles.items()}}
        query = {"dry_run": dry_run, "delete": delete, "force": force}
        return cast("views.Changes", self._http.json("PUT", "/v1/roles", body, query=query))

    def quota(self, role: str | None = None) -> views.QuotaView:
        """Quotas, what is taken of them, and warnings."""
        return cast("views.QuotaView", self._http.json("GET", "/v1/quota", query={"role": role}))

    def set_quota(
        self, role: str, tier: str, amounts: Mapping[str, Any] | None, *, user: str | None = None, force: bool = False
    ) -> views.Changes:
        """Replace one quota; None takes it away."""
        path = f"/v1/quota/{_part(role)}/{_part(tier)}"
        query = {"user": user, "force": force}
        method, body = ("DELETE", None) if amounts is None else ("PUT", dict(amounts))
        return cast("views.Changes", self._http.json(method, path, body, query=query))

    # --- users and tokens

    def users(self) -> views.Users:
        """Every user."""
        return cast("views.Users", self._http.json("GET", "/v1/users"))

    def create_user(self, name: str, *, admin: bool = False) -> views.UserView:
        """A user; what they may do in a role is part of the role."""
        return cast("views.UserView", self._http.json("PUT", f"/v1/users/{_part(name)}", {"admin": admin}))

    def tokens(self, user: str | None = None) -> views.Tokens:
        """One's own, or for an admin anybody's."""
        return cast("views.Tokens", self._http.json("GET", "/v1/tokens", query={"user": user}))

    def create_token(
        self, user: str | None = None, *, label: str = "", expires_s: float | None = None
    ) -> views.TokenCreated:
        """A new token; its secret is in this answer and nowhere else."""
        body = {"user": user, "label": label, "expires_s": expires_s}
        return cast("views.TokenCreated", self._http.json("POST", "/v1/tokens", body))

    def revoke_token(self, id: str) -> views.TokenView:
        """It opens nothing from now on."""
        return cast("views.TokenView", self._http.json("DELETE", f"/v1/tokens/{_part(id)}"))

    # --- nodes and audit

    def nodes(self) -> views.Nodes:
        """Every node."""
        return cast("views.Nodes", self._http.json("GET", "/v1/nodes"))

    def drain(self, node: str) -> views.NodeView:
        """No new tasks there; what runs goes on."""
        return cast("views.NodeView", self._http.json("POST", f"/v1/nodes/{_part(node)}/drain", repeatable=True))

    def forget(self, node: str) -> None:
        """Drop a node that is down and will not come back."""
        self._http.request("DELETE", f"/v1/nodes/{_part(node)}")

    def undrain(self, node: str) -> views.NodeView:
        """New tasks again."""
        return cast("views.NodeView", self._http.json("POST", f"/v1/nodes/{_part(node)}/undrain", repeatable=True))

    def audits(
        self,
        *,
        role: str | None = None,
        user: str | None = None,
        action: str | None = None,
        since: str | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> views.AuditPage:
        """Who changed what, newest first. `action` is one (`quota.set`) or a kind (`quota`), `since` an RFC 3339 time
        or how long ago (`2h`).
        """
        query = {"role": role, "user": user, "action": action, "since": since, "limit": limit, "after": after}
        return cast("views.AuditPage", self._http.json("GET", "/v1/audit", query=query))

    def all_audits(self, **query: Any) -> Iterator[views.AuditView]:
        """Every change that fits, page by page."""
        return cast("Iterator[views.AuditView]", _pages(lambda after: self.audits(**{**query, "after": after})))


def _settings() -> Settings:
    from priority.service.settings import Settings as Read

    return Read()


def _plain(document: Any) -> Any:
    dump = getattr(document, "model_dump", None)
    return dump(mode="json") if dump is not None else document


def _part(text: str) -> str:
    return quote(utf8(text), safe="")


def _job(ref: str, action: str = "") -> str:
    """`/v1/jobs/...` for a uid or `role/tier/name`; each part is quoted, so that no part can leave its place."""
    parts = ref.split("/")
    if len(parts) not in (1, 3) or not all(parts) or (len(parts) == 1 and re.search(r"[^\w-]", ref, re.ASCII)):
        problem = f"{ref or 'nothing'}: a job is named by its uid or role/tier/name"
        if len(parts) == 4 and parts[3].isdecimal():
            problem += f"; one of its instances by -i {parts[3]}, where a command takes that"
        raise Malformed(problem)
    if named := ONE_INSTANCE.fullmatch(ref):
        raise Malformed(f"{ref}: {named[1]} is the job, -i {named[2]} its instance, where a command takes that")
    path = "/".join(_part(part) for part in parts)
    return f"/v1/jobs/{path}/{action}" if action else f"/v1/jobs/{path}"


def _refs(refs: Sequence[str]) -> list[str]:
    for ref in refs:
        _job(ref)
    return list(refs)


def _cron(key: str, action: str = "") -> str:
    parts = key.split("/")
    if len(parts) != 3 or not all(parts):
        raise Malformed(f"{key or 'nothing'}: a cron job is named by role/tier/name")
    path = "/".join(_part(part) for part in parts)
    return f"/v1/cron/{path}/{action}" if action else f"/v1/cron/{path}"


def _pages(page: Callable[[str | None], Any]) -> Iterator[Any]:
    after = None
    while True:
        found = page(after)
        yield from found["items"]
        after = found["next"]
        if after is None:
            return
