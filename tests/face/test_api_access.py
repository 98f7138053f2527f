"""Who may do what: a matrix made from the routes themselves, so that a new route is in it without being asked.

Every route x every caller, once about things that are there and once about things that are not. What a caller has
no grant for must look exactly like what does not exist, and must change nothing.
"""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute

from priority.crontab import CronQuery
from priority.face import routing
from priority.face.routing import Permission, needs, permission_of
from priority.records import JobQuery, Page

from .live import NOBODY, Live, parts_in, serving, spec


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Without a scheduler: what changes, a request has changed."""
    with serving(parts_in(tmp_path_factory.mktemp("access")), scheduler=False) as found:
        yield found


@pytest.fixture(scope="module")
def things(live: Live) -> dict[str, str]:
    """One of each thing that a path can name, of chem."""
    root = live.client()
    job = root.submit(spec("devel/secret", role="chem"))
    root.submit_cron({**spec("devel/secret-cron", role="chem"), "schedule": "0 0 1 1 *"})
    token = live.client("cleo").tokens()["items"][0]
    return {
        "role": "chem", "tier": "devel", "name": "secret", "job": job["uid"], "task": f"{job['uid']}-0-1",
        "token": token["id"], "node": "n1", "user": "cleo", "cron": "secret-cron",
    }  # fmt: skip


MISSING = {
    "role": "norole", "tier": "devel", "name": "nojob", "job": "0" * 21, "task": "0" * 21 + "-0-1",
    "token": "1" * 21, "node": "n9", "user": "nouser", "cron": "nocron",
}  # fmt: skip

BODIES: dict[str, Any] = {
    "/v1/jobs": {"role": "{role}", "tier": "devel", "name": "other", "command": "true"},
    "/v1/jobs/bulk": [{"role": "{role}", "tier": "devel", "name": "other", "command": "true"}],
    "/v1/cron": {"role": "{role}", "tier": "devel", "name": "third", "command": "true", "schedule": "@daily"},
    "start": {"why": "x"}, "suspend": {"why": "x"}, "resume": {"why": "x"},
    "/v1/plan": {"role": "{role}", "tier": "devel", "name": "other", "command": "true"},
    "/v1/jobs/kill": {"jobs": ["{role}/{tier}/{name}", "{job}"]}, "/v1/jobs/restart": {"jobs": ["{job}"]},
    "kill": {"why": "x"}, "restart": {"why": "x"}, "scale": {"instances": 7},
    "/v1/roles": {"roles": {"{role}": {"description": "mine now"}}},
    "/v1/roles/{role}": {"description": "mine now"},
    "/v1/quota/{role}/{tier}": {"cpus": 3},
    "/v1/users/{name}": {"admin": True},
    "/v1/tokens": {"user": "{user}"},
}  # fmt: skip


def routes(app: FastAPI) -> list[tuple[str, str, Permission]]:
    found = []
    for route in app.routes:
        permission = permission_of(route)
        assert permission is not None, route
        assert isinstance(route, APIRoute)
        if not route.path.startswith("/v1/"):
            continue  # a page; see test_pages
        found += [(method, route.path, permission) for method in sorted(route.methods)]
    return found


def about(path: str, named: dict[str, str]) -> str:
    """The path with things in it; what `{uid}` and `{name}` are depends on where they stand."""
    kind = path.split("/")[2].rstrip("s")
    names = {"uid": named.get(kind, ""), "name": named[kind if kind in ("node", "user", "cron") else "name"]}
    return re.sub(r"\{(\w+)\}", lambda match: {**named, **names}[match[1]], path)


def body_for(method: str, path: str, named: dict[str, str]) -> bytes | None:
    if method in ("GET", "DELETE"):
        return None
    body = BODIES.get(path, BODIES.get(path.rsplit("/", 1)[-1]))
    if body is None:
        return None
    text = orjson.dumps(body).decode()
    for name, value in named.items():
        text = text.replace("{" + name + "}", value)
    return text.encode()


def ask(live: Live, method: str, path: str, token: str | None, body: bytes | None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(urlsplit(live.url).netloc, timeout=60)
    try:
        headers = {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if path == "/v1/events":
            path += "?follow=false"
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        data = response.read()
        is_json = "json" in response.headers.get("content-type", "")
        return response.status, orjson.loads(data) if is_json and data else data
    finally:
        connection.close()


def truth(live: Live) -> Any:
    """All that a request could change."""
    with live.service.parts.store.read() as reader:
        return (
            reader.roles(),
            reader.users(),
            [(token.id, token.revoked_us) for token in reader.tokens(None)],
            reader.jobs(JobQuery(), Page(1000)),
            reader.active_tasks(),
            reader.crons(CronQuery(), 1000),
            reader.last_event(),
            reader.audits(Page(1000)),
            reader.nodes(),
        )


def anonymous(text: Any, named: dict[str, str]) -> str:
    """An answer with the names of things taken out: what is left must not depend on whether they exist."""
    written = orjson.dumps(text).decode() if not isinstance(text, bytes) else text.decode()
    for name, value in sorted(named.items(), key=lambda pair: -len(pair[1])):
        # not where a random id happens to hold it
        written = re.sub(rf"(?<![A-Za-z0-9]){re.escape(value)}(?![A-Za-z0-9])", f"<{name}>", written)
    return written


def test_without_a_good_token_nothing_but_health_answers(live: Live, things: dict[str, str]) -> None:
    revoked_id, revoked = live.service.users.create_token(live.service.users.authenticate(live.tokens["root"]), "ada")
    live.client().revoke_token(revoked_id.id)
    before = truth(live)
    for method, path, permission in routes(live.app):
        for token in (None, "", "pri_wrong", "\xe9" * 10, live.tokens["root"] + "x", revoked):
            named = about(path, things)
            status, answer = ask(live, method, named, token, body_for(method, path, things))
            if permission is Permission.ANYONE:
                assert (path, status) == ("/v1/health", 200)
            else:
                assert (status, answer["code"]) == (401, "unauthenticated"), (method, path, token)
                assert answer == ask(live, method, about(path, MISSING), token, body_for(method, path, MISSING))[1]
    assert truth(live) == before


OWN = {"/v1/me", "/v1/openapi.json", "/v1/health"}
"""What does not depend on things at all."""

WHOLE = {"/v1/metrics"}
"""What tells of every role, and so is only there for a cluster admin."""


@pytest.mark.parametrize("user", [NOBODY, "ada", "ben"])
def test_what_is_not_granted_looks_like_what_is_not_there(live: Live, things: dict[str, str], user: str) -> None:
    """`nil` has no grants, `ada` may submit and `ben` is admin: of physics. All things are of chem."""
    before = truth(live)
    token = live.tokens[user]
    for method, path, _ in routes(live.app):
        there = ask(live, method, about(path, things), token, body_for(method, path, things))
        missing = ask(live, method, about(path, MISSING), token, body_for(method, path, MISSING))
        if path in OWN:
            continue
        assert there[0] == missing[0], (method, path, there, missing)
        assert anonymous(there[1], things) == anonymous(missing[1], MISSING), (method, path)
        if path != about(path, things) or body_for(method, path, things) is not None or path in WHOLE:
            assert there[0] == 404, (method, path, there)
        else:  # a list: it holds nothing of chem
            assert method == "GET" and there[0] == 200, (method, path, there)
            assert "chem" not in str(there[1]) and things["job"] not in str(there[1]), (method, path)
    assert truth(live) == before


def test_a_member_may_not_do_what_is_the_admins(live: Live) -> None:
    """`ada` may submit in physics; its roles and quotas are not hers, and not all of them are those of `ben`."""
    before = truth(live)
    quota, role = "/v1/quota/physics/devel", "/v1/roles/physics"
    attempts = [
        ("ada", "PUT", quota, b'{"cpus": 5}'),
        ("ada", "DELETE", quota, None),
        ("ada", "PUT", f"{quota}?user=ada", b'{"cpus": 5000}'),
        ("ada", "PUT", role, b'{"users": {"ada": {"grants": ["admin"]}}}'),
        ("ada", "PUT", "/v1/roles", b'{"roles": {"physics": {"users": {"ada": {"grants": ["admin"]}}}}}'),
        ("ben", "PUT", quota, b'{"cpus": 5000}'),
        ("ben", "PUT", "/v1/quota/physics/prod", b'{"cpus": 5000}'),
        ("ben", "DELETE", role, None),
        ("ben", "PUT", role, b'{"weight": 100}'),
        ("ben", "PUT", "/v1/roles?delete=true", b'{"roles": {}}'),
        ("ben", "PUT", "/v1/users/ben", b'{"admin": true}'),
        ("ben", "POST", "/v1/tokens", b'{"user": "root"}'),
        ("ben", "POST", "/v1/nodes/n1/drain", None),
    ]
    for user, method, path, body in attempts:
        status, answer = ask(live, method, path, live.tokens[user], body)
        assert (status, answer["code"]) == (404, "not-found"), (user, method, path, answer)
    assert truth(live) == before


def test_a_role_admin_may_change_users_and_their_part(live: Live) -> None:
    ben = live.client("ben")
    ben.set_quota("physics", "devel", {"cpus": 7}, user="ada")
    assert ben.role("physics")["users"]["ada"]["quota"] == {"devel": {"cpus": 7}}
    rows = live.client("ben").audits()["items"]
    assert rows[0]["who"] == "ben" and {row["role"] for row in rows} == {"physics"}


def test_a_bulk_with_one_foreign_job_does_nothing(live: Live) -> None:
    before = truth(live)
    ada = live.tokens["ada"]
    own, foreign = spec("devel/own"), spec("devel/foreign", role="chem")
    status, answer = ask(live, "POST", "/v1/jobs/bulk", ada, orjson.dumps([own, foreign]))
    assert (status, answer["code"]) == (404, "not-found")
    assert truth(live) == before


def test_events_are_only_those_of_ones_roles(live: Live) -> None:
    live.client().submit(spec("devel/hidden", role="chem"))
    live.client().submit(spec("devel/seen"))
    seen = {event["role"] for event in live.client("ada").event_page(0, limit=1000)["items"]}
    assert seen <= {"physics", None} and "physics" in seen
    assert "chem" in {event["role"] for event in live.client().event_page(0, limit=1000)["items"]}


def test_a_revoked_token_is_dead(live: Live) -> None:
    root = live.client()
    made = root.create_token("ada", label="laptop")
    mine = live.client(made["secret"])
    assert mine.me()["name"] == "ada"
    assert made["secret"] not in str(root.tokens()) + str(root.audits()) + str(root.event_page(0, limit=1000))
    mine.revoke_token(made["id"])
    status, _ = ask(live, "GET", "/v1/me", made["secret"], None)
    assert status == 401


# --- declaring routes


async def nothing(request: Request) -> Response:
    return Response()


def test_a_route_without_a_permission_cannot_be_declared() -> None:
    with pytest.raises(RuntimeError, match="/v1/open declares no permission"):
        routing.router().get("/open")(nothing)


def test_a_route_that_came_in_by_another_way_fails_start_up(live: Live) -> None:
    by_hand, other, public = FastAPI(openapi_url=None), APIRouter(), routing.router()
    by_hand.get("/open")(nothing)
    other.get("/other")(nothing)
    public.get("/public")(needs(Permission.ANYONE)(routing.again(nothing, Permission.ANYONE, "public")))
    for app in (by_hand, FastAPI(), other, public):
        with pytest.raises(RuntimeError, match=r"declares no permission|open to anyone"):
            routing.check(app.routes)
    mounted = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    mounted.mount("/static", by_hand)
    with pytest.raises(RuntimeError):
        routing.check_app(mounted)
    routing.check_app(live.app)
