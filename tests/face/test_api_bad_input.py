"""Bad input: a clear error in 4xx that names the field, and nothing changed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import orjson
import pytest

from .live import Live, parts_in, serving, spec
from .test_api_access import ask, truth

INSTANCES = 1_000_000


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with serving(parts_in(tmp_path_factory.mktemp("bad")), scheduler=False) as found:
        yield found


def job(**fields: Any) -> bytes:
    return orjson.dumps(spec("devel/bad") | fields)


def raw(field: str, value: str) -> bytes:
    """A job with a field whose value is written as it is: for what no JSON library would write."""
    return job()[:-1] + f',"{field}":{value}}}'.encode()


TABLE = [
    # what                          body                                              status  field, or a word of it
    ("unknown role",                job(role="nowhere"),                              404,    "nowhere"),
    ("unknown tier",                job(tier="gold"),                                 422,    "tier"),
    ("unknown field",               job(colour="red"),                                422,    "colour"),
    ("unknown field, nested",       job(preempt={"colour": 1}),                       422,    "preempt.colour"),
    ("a field that is not a user's", job(uid="1", state="ended"),                     422,    "uid"),
    ("missing name",                b'{"role":"physics","tier":"devel","command":"x"}', 422,  "name"),
    ("empty command",               job(command=""),                                  422,    "command"),
    ("command of nothing",          job(command=[]),                                  422,    "command"),
    ("command of numbers",          job(command=[1, 2]),                              422,    "command"),
    ("a path as name",              job(name="../../etc"),                            422,    "name"),
    ("a name of 64",                job(name="a" * 64),                               422,    "name"),
    ("negative cpus",               job(resources={"cpus": -1}),                      422,    "resources.cpus"),
    ("cpus NaN",                    raw("resources", '{"cpus":NaN}'),                 422,    "resources"),
    ("cpus infinite",               raw("resources", '{"cpus":Infinity}'),            422,    "resources"),
    ("cpus 1e999",                  raw("resources", '{"cpus":1e999}'),               422,    "resources.cpus"),
    ("cpus 1e308",                  job(resources={"cpus": 1e308}),                   422,    "resources.cpus"),
    ("cpus of 6000 digits",         raw("resources", '{"cpus":1' + "0" * 6000 + "}"), 400,    "number"),
    ("cpus true",                   job(resources={"cpus": True}),                    422,    "resources.cpus"),
    ("cpus too fine",               job(resources={"cpus": 0.0001}),                  422,    "resources.cpus"),
    ("mem in bananas",              job(resources={"mem": "4 bananas"}),              422,    "resources.mem"),
    ("mem a half MiB",              job(resources={"mem": "512KiB"}),                 422,    "resources.mem"),
    ("a resource named badly",      job(resources={"Cpus!": 1}),                      422,    "resources"),
    ("no instances",                job(instances=0),                                 422,    "instances"),
    ("negative instances",          job(instances=-1),                                422,    "instances"),
    ("half an instance",            job(instances=1.5),                               422,    "instances"),
    ("a million instances",         job(instances=INSTANCES),                         422,    "instances"),
    ("2^63 instances",              job(instances=2**63),                             422,    "instances"),
    ("10^40 instances",             raw("instances", "1" + "0" * 40),                 422,    "instances"),
    ("huge priority",               job(priority=10**9),                              422,    "priority"),
    ("runtime NaN",                 raw("max_runtime", "NaN"),                        422,    "max_runtime"),
    ("runtime -1",                  job(max_runtime=-1),                              422,    "max_runtime"),
    ("runtime in words",            job(max_runtime="soon"),                          422,    "max_runtime"),
    ("NUL in the command",          job(command="a\0b"),                              422,    "command"),
    ("NUL in an argument",          job(command=["a", "\0"]),                         422,    "command"),
    ("NUL in env",                  job(env={"A": "\0"}),                             422,    "env.A"),
    ("env named badly",             job(env={"A=B": "x"}),                            422,    "env"),
    ("a field twice",               raw("name", '"other"'),                           422,    "name"),
    ("a field twice, nested",       raw("env", '{"A":"1","B":"2","A":"3"}'),          422,    "env.A"),
    ("a field twice, colons",       raw("env", '{"A":"::","B":"\\u003a","A":":"}'),   422,    "env.A"),
    ("a field twice, escaped",      raw("env", '{"A":"\\u003a","\\u0041":""}'),      422,    "env.A"),
    ("lone surrogate",              raw("command", '"\\ud800"'),                      400,    "JSON"),
    ("lone surrogate in env",       raw("env", '{"A":"\\udc00"}'),                    400,    "JSON"),
    ("not UTF-8",                   b'{"role":"\xff"}',                               400,    "JSON"),
    ("not JSON",                    b"role: physics",                                 400,    "JSON"),
    ("nothing",                     b"",                                              400,    "JSON"),
    ("a list",                      b"[]",                                            422,    "document"),
    ("a string",                    b'"x"',                                           422,    "document"),
    ("null",                        b"null",                                          422,    "document"),
    ("10,000 deep",                 b"[" * 10_000 + b"]" * 10_000,                    400,    "JSON"),
    ("10,000 deep in a field",      raw("env", "[" * 10_000 + "]" * 10_000),          400,    "JSON"),
    ("10,000 objects deep",         raw("env", '{"a":' * 10_000 + "1" + "}" * 10_000), 400,   "JSON"),
    ("two constraints in one",      job(constraints=[{"attribute": "rack", "in": [], "limit": 1}]), 422, "constraints"),
    ("a constraint of nothing",     job(constraints=[7]),                             422,    "constraints"),
    ("10,000 constraints",          job(constraints=[{"attribute": "rack", "limit": 1}] * 10_000), 422, "constraints"),
    ("a long command",              job(command="x" * 200_000),                       422,    "command"),
    ("a long env",                  job(env={"A": "x" * 200_000}),                    422,    "env"),
    ("a thousand labels",           job(labels={f"l{n}": "" for n in range(1000)}),   422,    "labels"),
    ("an unknown signal",           job(preempt={"signal": "KILL"}),                  422,    "preempt.signal"),
    ("10 MB",                       b" " * 10_000_000,                                413,    "bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "body", "status", "word"), TABLE, ids=[row[0] for row in TABLE])
def test_a_bad_job(live: Live, what: str, body: bytes, status: int, word: str) -> None:
    before = truth(live)
    got, answer = ask(live, "POST", "/v1/jobs", live.tokens["root"], body)
    assert got == status, answer
    assert answer["status"] == status and answer["type"].startswith("urn:priority:problem:")
    assert word in answer.get("field", "") or word in answer["detail"], answer
    assert len(orjson.dumps(answer)) < 2000, "an answer does not give a large fault back"
    assert truth(live) == before


@pytest.mark.parametrize(("what", "body", "status", "word"), TABLE, ids=[row[0] for row in TABLE])
def test_a_bad_job_among_good_ones(live: Live, what: str, body: bytes, status: int, word: str) -> None:
    before = truth(live)
    whole = b"[" + job(name="good") + b"," + body + b"]"
    got, answer = ask(live, "POST", "/v1/jobs/bulk", live.tokens["root"], whole)
    assert got == status or (what == "nothing" and got == 400), answer
    if status == 422:
        assert answer["field"].startswith("jobs[1]"), answer
    assert truth(live) == before


OTHERS = [
    # method   path                                          body                        status  word
    ("GET",    "/v1/jobs?limit=0",                           None,                       422,    "limit"),
    ("GET",    "/v1/jobs?limit=-1",                          None,                       422,    "limit"),
    ("GET",    "/v1/jobs?limit=x",                           None,                       422,    "limit"),
    ("GET",    "/v1/jobs?after=%00",                         None,                       422,    "after"),
    ("GET",    "/v1/jobs?after=nonsense",                    None,                       (200, 422), ""),
    ("GET",    "/v1/jobs?state=happy",                       None,                       422,    "state"),
    ("GET",    "/v1/jobs?label=x",                           None,                       422,    "label"),
    ("GET",    "/v1/jobs?label=x%00=y",                      None,                       422,    "label"),
    ("GET",    "/v1/jobs?user=%ff",                          None,                       422,    "user"),
    ("GET",    "/v1/jobs/a%00b",                             None,                       422,    "uid"),
    ("GET",    "/v1/jobs/a/b/c%2Fd",                         None,                       (404, 422), ""),
    ("GET",    "/v1/jobs/" + "x" * 5000,                     None,                       422,    "uid"),
    ("GET",    "/v1/jobs/physics/devel/%ed%a0%80",           None,                       422,    "name"),
    ("GET",    "/v1/nowhere",                                None,                       404,    "nowhere"),
    ("PATCH",  "/v1/jobs",                                   None,                       405,    "PATCH"),
    ("GET",    "/v1/events?follow=false&after=-2",           None,                       422,    "after"),
    ("GET",    "/v1/events?after=1e400",                     None,                       422,    "after"),
    ("GET",    "/v1/events?after=99999999999999999999",      None,                       422,    "after"),
    ("POST",   "/v1/jobs/physics/devel/x/scale",             b'{"instances":NaN}',       422,    "instances"),
    ("POST",   "/v1/jobs/physics/devel/x/scale",             b'{"instances":0}',         422,    "instances"),
    ("POST",   "/v1/jobs/physics/devel/x/scale",             b'{"instances":true}',      422,    "instances"),
    ("POST",   "/v1/jobs/physics/devel/x/kill",              b'{"instances":[-1]}',      422,    "instances"),
    ("POST",   "/v1/jobs/physics/devel/x/kill",              b'{"instances":[]}',        422,    "instances"),
    ("POST",   "/v1/jobs/physics/devel/x/restart",           b'{"instances":[]}',        422,    "instances"),
    ("POST",   "/v1/jobs/physics/devel/x/kill",              b'{"why":"\\u0000"}',       422,    "why"),
    ("PUT",    "/v1/quota/physics/devel",                    b'{"cpus":NaN}',            422,    "cpus"),
    ("PUT",    "/v1/quota/physics/devel",                    b'{"cpus":-1}',             422,    "cpus"),
    ("PUT",    "/v1/quota/physics/devel",                    b'{"cpus":1,"cpus":2}',      422,    "cpus"),
    ("GET",    "/v1/jobs?limit=1001",                        None,                       422,    "1000"),
    ("PUT",    "/v1/quota/physics/devel",                    b"[" * 20_000,              400,    "JSON"),
    ("PUT",    "/v1/quota/physics/gold",                     b'{"cpus":1}',              422,    "tier"),
    ("PUT",    "/v1/quota/physics/devel?user=nobody",        b'{"cpus":1}',              404,    "nobody"),
    ("PUT",    "/v1/roles",                                  b'{"roles":{"a b":{}}}',    422,    "roles"),
    ("PUT",    "/v1/roles",                                  b'{"roles":{"x":{"weight":NaN}}}', 422, "weight"),
    ("PUT",    "/v1/roles",                                  b'{"roles":{"x":{"weight":0}}}',  422,  "weight"),
    ("PUT",    "/v1/roles",                                  b'{"rolls":{}}',            422,    "roles"),
    ("PUT",    "/v1/roles",                                  b'{"roles":{"x":{"quota":{"gold":{}}}}}', 422, "gold"),
    ("PUT",    "/v1/users/a%20b",                            b"{}",                      422,    "name"),
    ("PUT",    "/v1/users/newuser",                          b'{"admin":"yes"}',         422,    "admin"),
    ("POST",   "/v1/tokens",                                 b'{"expires_s":-1}',        422,    "expires_s"),
    ("POST",   "/v1/tokens",                                 b'{"user":"nobody"}',       404,    "nobody"),
    ("POST",   "/v1/tokens",                                 b'{"label":"\\ud800"}',     400,    "JSON"),
    ("POST",   "/v1/nodes/n9/drain",                         None,                       404,    "n9"),
    ("GET",    "/v1/tasks/x/logs?limit=99999999999",         None,                       422,    "limit"),
    ("GET",    "/v1/tasks/x/logs?wait_s=nan",                None,                       422,    "wait_s"),
    ("GET",    "/v1/tasks/x/logs?stream=stdin",              None,                       422,    "stream"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "status", "word"), OTHERS)
def test_other_routes(live: Live, method: str, path: str, body: bytes | None, status: Any, word: str) -> None:
    before = truth(live)
    got, answer = ask(live, method, path, live.tokens["root"], body)
    assert got in (status if isinstance(status, tuple) else (status,)), answer
    if got >= 400:
        assert word in answer.get("field", "") or word in answer["detail"], answer
        assert answer["code"]
    assert truth(live) == before


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 300])
def test_a_bad_idempotency_key(live: Live, key: str) -> None:
    import http.client
    from urllib.parse import urlsplit

    connection = http.client.HTTPConnection(urlsplit(live.url).netloc, timeout=60)
    headers = {"Authorization": f"Bearer {live.tokens['root']}", "Idempotency-Key": key}
    connection.request("POST", "/v1/jobs", job(), headers)
    response = connection.getresponse()
    answer = orjson.loads(response.read())
    connection.close()
    assert (response.status, answer["field"]) == (422, "Idempotency-Key")


def test_more_cpus_than_any_node_has_is_accepted_and_waits(live: Live) -> None:
    made = live.client().submit(spec("opportunistic/too-large", cpus=1000))
    assert made["state"] == "active"


def exchange(live: Live, *pieces: bytes) -> bytes:
    """The head of what the server answers to these bytes."""
    host, port = live.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        with suppress(ConnectionError):  # it may have answered, and closed, before all is sent
            for piece in pieces:
                connection.sendall(piece)
        received = b""
        while b"\r\n\r\n" not in received and (data := connection.recv(65_536)):
            received += data
        return received


def test_a_large_body_is_refused_before_it_is_sent(live: Live) -> None:
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {live.tokens['root']}\r\n"
    answer = exchange(live, head.encode() + b"Content-Length: 10000000000\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_who_closes_after_the_answer_hears_of_a_large_body_too(live: Live) -> None:
    """With all of it still on its way, closing would reset the connection, and the answer would be lost."""
    host, port = live.url.removeprefix("http://").split(":")
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {live.tokens['root']}\r\nConnection: close\r\n"
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(f"{head}Content-Length: 10000000\r\n\r\n".encode() + b" " * 10_000_000)
        assert connection.recv(13) == b"HTTP/1.1 413 "


def test_a_large_body_of_unknown_length_is_refused_on_the_way(live: Live) -> None:
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {live.tokens['root']}\r\n"
    chunk = b"100000\r\n" + b" " * 2**20 + b"\r\n"
    pieces = [head.encode() + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 5, b"0\r\n\r\n"]
    assert exchange(live, *pieces).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_goes_in_the_middle_of_its_body_leaves_nothing(live: Live) -> None:
    before = truth(live)
    host, port = live.url.removeprefix("http://").split(":")
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {live.tokens['root']}\r\n"
    head += "Content-Length: 500\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(head.encode() + job()[:50])
    live.client().me()
    assert truth(live) == before
