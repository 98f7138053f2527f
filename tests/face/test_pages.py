"""The pages as a browser gets them: who sees which, nothing hostile in them, signing in and out."""

from __future__ import annotations

import html
import http.client
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
from fastapi.routing import APIRoute

from priority.face.routing import Permission, permission_of
from priority.face.web import draw
from priority.service.access import SYSTEM
from priority.service.users import digest_of

from .live import NOBODY, Live, parts_in, serving, spec

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)> javascript:alert(3) {{ 7*7 }} \x1b[31m\u202e\x07"
"""What somebody may put into each text that is theirs."""


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    text: str


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with serving(parts_in(tmp_path_factory.mktemp("pages"))) as found:
        yield found


@pytest.fixture(scope="module")
def things(live: Live) -> dict[str, str]:
    """One of each thing that a page is about, of chem; its job is one that no node has room for."""
    root = live.client()
    job = root.submit(spec("devel/secret", role="chem", cpus=64))
    root.submit_cron({**spec("devel/secret-cron", role="chem"), "schedule": "0 0 1 1 *"})
    return {
        "role": "chem", "tier": "devel", "name": "secret", "cron": "secret-cron", "job": job["uid"],
        "task": f"{job['uid']}-0-1",
    }  # fmt: skip


MISSING = {
    "role": "norole",
    "tier": "devel",
    "name": "nojob",
    "cron": "nocron",
    "job": "0" * 21,
    "task": "0" * 21 + "-0-1",
}


def ask(live: Live, path: str, token: str | None = None, *, form: Any = None, **headers: str) -> Answer:
    """As a browser does: the token in a cookie, redirects not followed."""
    host = live.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=60)
    try:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent["cookie"] = f"priority_{host.rpartition(':')[2]}={token}"
        body = None if form is None else urlencode(form)
        connection.request("GET" if form is None else "POST", path, body, {"accept": "text/html", **sent})
        response = connection.getresponse()
        data = b"" if "event-stream" in response.headers.get("content-type", "") else response.read()
        return Answer(response.status, response.headers, data.decode())
    finally:
        connection.close()


def paths(live: Live, permission: Permission | None = None) -> list[str]:
    """Every address outside of the API that shows something."""
    routes = [route for route in live.app.routes if isinstance(route, APIRoute) and not route.path.startswith("/v1/")]
    assert not any(route.include_in_schema for route in routes)
    found = [(route.path, permission_of(route)) for route in routes if "GET" in route.methods]
    return [path for path, its in found if permission in (None, its)]


def about(path: str, named: dict[str, str]) -> str:
    """The address of a thing."""
    uid, name = named["task" if path.startswith("/tasks") else "job"], named["cron" if "cron" in path else "name"]
    return re.sub(r"\{(\w+)\}", lambda match: {**named, "uid": uid, "name": name}[match[1]], path)


class Marks(HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def harmless(text: str) -> None:
    """Nothing in it runs, leads to another place, or is a character that is not seen."""
    for tag, attributes in Marks(text).found:
        assert tag not in ("img", "iframe", "object", "embed", "base", "style")
        assert tag != "script" or attributes == {"src": "/page.js", "defer": None}
        for name, value in attributes.items():
            assert not name.startswith("on") and name != "style", (tag, attributes)
            if name in ("href", "src", "action"):
                assert value and (value[0] in "/?#") and not value.startswith("//"), (tag, attributes)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


# --- who sees what


def test_without_a_good_token_there_is_only_the_form(live: Live, things: dict[str, str]) -> None:
    root = live.service.users.authenticate(live.tokens["root"])
    token, revoked = live.service.users.create_token(root, "ada")
    live.service.users.revoke(root, token.id)
    stale, expired = live.service.users.create_token(root, "ada", expires_s=3600.0)
    with live.service.parts.store.write() as writer:
        assert writer.token(digest_of(expired)) is not None
        writer.put_token(replace(stale, expires_us=stale.created_us))
    for path in set(paths(live)) - set(paths(live, Permission.ANYONE)):
        for secret in (None, "", "pri_wrong", live.tokens["root"] + "x", revoked, expired):
            sent = {"sec_fetch_mode": "cors"} if secret is None else {}
            there, missing = (ask(live, about(path, named), secret, **sent) for named in (things, MISSING))
            assert (there.status, missing.status) == (401, 401), (path, secret)
            assert 'name="token"' in there.text and "set-cookie" not in there.headers
            assert there.text.replace(about(path, things), "") == missing.text.replace(about(path, MISSING), "")
            harmless(there.text)
        bearer = ask(live, about(path, things), authorization=f"Bearer {live.tokens['root']}")
        assert bearer.status == 303, path  # one door for browsers, one for programs


def test_who_is_not_signed_in_is_led_to_the_form_and_from_there_on(live: Live) -> None:
    for path, form in (
        ("/", "/sign-in"),
        ("/jobs?tier=devel&state=active", "/sign-in?there=/jobs%3Ftier%3Ddevel%26state%3Dactive"),
    ):
        for sent in ({}, {"sec_fetch_mode": "navigate"}):
            got = ask(live, path, **sent)
            assert (got.status, got.headers["location"]) == (303, form)
        there = ask(live, form)
        assert there.status == 200 and f'name="there" value="{html.escape(path)}"' in there.text
    for evil in ("//evil.example", "https://evil.example", "/%5Cevil.example"):
        assert 'name="there" value="/"' in ask(live, f"/sign-in?there={evil}").text


def test_only_the_form_and_what_it_looks_like_are_open(live: Live) -> None:
    assert sorted(paths(live, Permission.ANYONE)) == ["/page.css", "/page.js", "/sign-in"]
    for path in ("/page.css", "/page.js"):
        first = ask(live, path)
        assert first.status == 200 and first.text
        assert ask(live, path, if_none_match=first.headers["etag"]).status == 304


@pytest.mark.parametrize("user", [NOBODY, "ada", "ben"])
def test_what_is_not_granted_looks_like_what_is_not_there(live: Live, things: dict[str, str], user: str) -> None:
    token = live.tokens[user]
    for path in paths(live):
        there, missing = (ask(live, about(path, named), token) for named in (things, MISSING))
        assert there.status == missing.status, path
        if "{" not in path:
            assert things["job"] not in there.text and not re.search(r"\b(secret|chem)\b", there.text), path
            continue
        assert there.status == 404, path
        same = [
            re.sub(rf"\b({'|'.join(sorted(named.values(), key=len, reverse=True))})\b", "_", answer.text)
            for answer, named in ((there, things), (missing, MISSING))
        ]
        assert same[0] == same[1], path


@pytest.mark.parametrize("user", ["root", "cleo"])
def test_every_page_is_there_for_who_may_see_it(live: Live, things: dict[str, str], user: str) -> None:
    for path in paths(live):
        got = ask(live, about(path, things), live.tokens[user])
        assert got.status == 200, (path, got.text)
        assert got.headers["x-content-type-options"] == "nosniff"
        assert got.headers["cache-control"] in ("no-store", "no-cache")
        assert got.headers["referrer-policy"] == "same-origin"
        policy = got.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        if "text/html" in got.headers["content-type"]:
            harmless(got.text)
    overview = ask(live, "/", live.tokens[user]).text
    assert "chem/devel/secret" in overview and "no node could ever hold it" in overview
    assert "chem/devel/secret" in ask(live, "/jobs?role=chem&tier=&name=sec*&state=active", live.tokens[user]).text
    assert "No job fits" in ask(live, "/jobs?name=other*", live.tokens[user]).text


def test_bad_addresses_are_refused_with_a_page(live: Live) -> None:
    token = live.tokens["root"]
    for path, status in (
        ("/jobs?state=sleepy", 422), ("/jobs?after=..", 422), ("/jobs?colour=red", 422), ("/jobs?tier=best", 422),
        ("/jobs?label=x", 422), ("/tasks/" + "0" * 21 + "-0-1?stream=both", 422), ("/nothing/here", 404),
        ("/jobs/physics/devel", 404), ("/jobs/%3Cscript%3E", 422), ("/cron?state=x&role=%22%3E", 422),
    ):  # fmt: skip
        got = ask(live, path, token)
        assert got.status == status and "<h1>" in got.text, (path, got)
        harmless(got.text)
    assert ask(live, "/nothing/here", accept="application/json").text.startswith("{")


# --- hostile input


def test_nothing_that_users_write_is_markup(live: Live, eventually: Callable[..., Any]) -> None:
    root = live.client()
    hostile = HOSTILE.replace("\x07", "")
    job = root.submit(spec("devel/xss", command=["sh", "-c", hostile], env={"A": hostile}, labels={"run": hostile}))
    task = f"{job['uid']}-0-1"
    eventually(lambda: root.task(task)["state"] == "running")
    live.backend.write(task, HOSTILE.encode() + b"\r\n50%\r100%\n\xff\xfe \x1b]0;title\x07done", "stdout")
    token = live.tokens["ada"]
    shown = ask(live, f"/tasks/{task}", token).text
    assert "&lt;script&gt;alert(1)" in shown and "50%\n100%\n" in shown and " done" in shown
    assert "title" not in shown.partition("<pre")[2]
    root.kill(job["uid"], why=hostile)
    eventually(lambda: root.job(job["uid"])["state"] == "ended")
    for path in (f"/jobs/{job['uid']}", "/jobs/physics/devel/xss?every=1", f"/tasks/{task}", "/jobs", "/"):
        got = ask(live, path, token)
        assert got.status == 200, path
        harmless(got.text)
    shown = ask(live, f"/jobs/{job['uid']}", token).text
    assert "&lt;script&gt;" in shown and "{{ 7*7 }}" in shown and "\u241b[31m" in shown


def test_what_is_not_seen_is_shown() -> None:
    assert draw.visible("a\x00\x1b\x7f\u202eb\tc\nd\u200b") == "a\u2400\u241b\ufffd\ufffdb\tc\nd\ufffd"
    assert draw.output(b"\x1b[1;31mred\x1b[0m \x1b]8;;http://x\x1b\\link\x1b(B\r\nnext") == "red link\nnext"


def test_bars_never_go_beyond_their_end() -> None:
    assert draw.shares([("a", 1), ("b", 0), ("c", 2)], 4) == [("a", 0.0, 25.0), ("c", 25.0, 50.0)]
    assert draw.shares([("a", 3), ("b", 3)], 4) == [("a", 0.0, 75.0), ("b", 75.0, 25.0)]
    assert draw.shares([("a", 3)], 0) == []


# --- signing in and out


def test_signing_in_and_out(live: Live) -> None:
    secret = live.tokens["ada"]
    got = ask(live, "/sign-in", form={"token": f" {secret} ", "there": "/jobs?tier=devel"})
    assert (got.status, got.headers["location"]) == (303, "/jobs?tier=devel")
    cookie = got.headers["set-cookie"]
    assert secret in cookie and "HttpOnly" in cookie and "SameSite=strict" in cookie and "Path=/" in cookie
    assert "Secure" not in cookie
    tls = ask(live, "/sign-in", form={"token": secret}, x_forwarded_proto="https")
    assert "Secure" in tls.headers["set-cookie"] and tls.headers["location"] == "/"
    pair = cookie.partition(";")[0]
    assert ask(live, "/jobs", cookie=pair).status == 200
    assert ask(live, "/v1/jobs", cookie=pair).status == 401  # what changes things wants a header
    out = ask(live, "/sign-out", secret, form={})
    assert out.status == 303 and "Max-Age=0" in out.headers["set-cookie"] and secret not in str(out.headers)


def test_a_wrong_token_does_not_sign_in(live: Live) -> None:
    for wrong in ("", "pri_wrong", "\ud83d", "x" * 5000, "a\r\nset-cookie: b=c"):
        got = ask(live, "/sign-in", form={"token": wrong.encode("utf-8", "replace"), "there": "/nodes"})
        assert got.status == 401 and "unknown, expired or revoked" in got.text and 'value="/nodes"' in got.text
        assert "set-cookie" not in got.headers
    assert ask(live, "/sign-in", form={"token": "x" * 20_000}).status == 413


@pytest.mark.parametrize(
    "there",
    ["//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)", "/a\r\nb: c", "", "/\u00e9"],
)
def test_nobody_is_sent_elsewhere(live: Live, there: str) -> None:
    got = ask(live, "/sign-in", form={"token": live.tokens["ada"], "there": there})
    assert (got.status, got.headers["location"]) == (303, "/")


def test_another_site_cannot_sign_anyone_in(live: Live) -> None:
    for sent in ({"sec_fetch_site": "cross-site"}, {"sec_fetch_site": "same-site"}, {"origin": "https://evil.example"}):
        for path in ("/sign-in", "/sign-out"):
            got = ask(live, path, form={"token": live.tokens["ada"]}, **sent)
            assert got.status == 400 and "set-cookie" not in got.headers, (path, sent)
    own = ask(live, "/sign-in", form={"token": live.tokens["ada"]}, origin=live.url)
    assert own.status == 303


def test_a_link_on_another_site_leads_here_still(live: Live) -> None:
    """The browser keeps the cookie back; asked for by a page of ours, it sends it."""
    got = ask(live, "/nodes?", sec_fetch_site="cross-site")
    assert got.status == 200 and '<meta http-equiv="refresh" content="0">' in got.text
    assert ask(live, "/nodes", sec_fetch_site="same-origin").status == 303
    assert ask(live, "/nodes", live.tokens["ada"], sec_fetch_site="cross-site").status == 200


# --- live


def test_a_page_hears_of_what_happens_after_it_was_drawn(live: Live) -> None:
    token = live.tokens["ada"]
    seen = int(re.search(r'data-live="(\d+)"', ask(live, "/", token).text)[1])  # type: ignore[index]
    job = live.client("ada").submit(spec("devel/heard", cpus=64))
    host = live.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=60)
    try:
        cookie = f"priority_{host.rpartition(':')[2]}={token}"
        connection.request("GET", f"/events?after={seen}&job={job['uid']}", headers={"cookie": cookie})
        response = connection.getresponse()
        assert response.status == 200 and response.headers["content-type"].startswith("text/event-stream")
        lines = iter(response.readline, b"")
        assert int(next(line for line in lines if line.startswith(b"id: "))[4:]) > seen
    finally:
        connection.close()


def test_the_overview_counts_only_what_one_may_see(live: Live, things: dict[str, str]) -> None:
    def waiting(user: str) -> set[str]:
        return {
            one.job.uid for one in live.service.overview(live.service.users.authenticate(live.tokens[user])).waiting
        }

    assert things["job"] in waiting("root") and things["job"] in waiting("cleo")
    assert things["job"] not in waiting("ada") and waiting(NOBODY) == set()
    found = live.service.overview(SYSTEM)
    assert sum(cause.instances for cause in found.causes) == found.instances
    assert sum(cause.jobs for cause in found.causes) == found.jobs
