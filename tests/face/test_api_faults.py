"""Parts that fail under the API: what clients are told, and what they may do again."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import Mock

import httpx
import pytest

from priority.certify import Violation
from priority.errors import Malformed, PriorityError, QuotaExceeded, Unavailable
from priority.face import batch, problem
from priority.face.batch import Submitter
from priority.face.client import Client
from priority.job import parse_spec
from priority.node import Node
from priority.plan import Plan
from priority.records import NodeRecord
from priority.service.access import SYSTEM
from priority.service.guard import Guard
from priority.service.jobs import Accepted, Submission
from priority.snapshot import Snapshot

from .live import Live, parts_in, serving, spec

Answered = Callable[[list[Accepted | PriorityError]], None]


@pytest.fixture
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with serving(parts_in(tmp_path_factory.mktemp("faults")), scheduler=False) as found:
        yield found


def test_redis_away_submissions_are_accepted(live: Live) -> None:
    live.queue.down = True
    assert live.client().submit(spec("devel/no-redis"))["state"] == "active"
    health = live.client().health()
    assert (health["status"], health["parts"]["database"]) == ("degraded", "ok") and health["parts"]["redis"] != "ok"


def test_health_says_whether_a_scheduler_leads(live: Live) -> None:
    def scheduler() -> str:
        part: str = live.client().health()["parts"]["scheduler"]
        return part

    now_us = live.service.parts.clock.now_us()
    assert scheduler() == "no scheduler leads" and live.client().health()["status"] == "degraded"
    for holder, began_us, lease_us in (("dead", now_us - 2, 1), ("alive", now_us, 3_600_000_000)):
        with live.service.parts.store.write() as writer:
            assert writer.lead(holder, began_us, lease_us)
        assert scheduler() == ("ok" if holder == "alive" else "no scheduler leads")


def test_a_silent_node_is_shown_and_counted(live: Live) -> None:
    now_us = live.service.parts.clock.now_us()
    with live.service.parts.store.write() as writer:
        for name in ("n1", "n2"):
            writer.put_node(NodeRecord(Node(name, {"cpus": 4000}), "agent", now_us))
    client = live.client()
    assert client.health()["parts"]["nodes"] == "ok"
    live.backend.cut("n1")
    assert {node["name"]: node["state"] for node in client.nodes()["items"]} == {"n1": "silent", "n2": "up"}
    health = client.health()
    assert (health["status"], health["parts"]["nodes"]) == ("degraded", "1 of 2 are up, 1 is silent")


def test_health_counts_the_plans_that_were_refused(live: Live) -> None:
    parts = live.service.parts
    now_us = parts.clock.now_us()
    with parts.store.write() as writer:
        assert writer.lead("alive", now_us, 3_600_000_000)
    refusing = Guard(parts.settings.state, "always", lambda *_: [Violation("fits", "t", "is too large")])
    for count, said in ((1, "1 plan was refused by certify"), (2, "2 plans were refused by certify")):
        refusing.judge(Snapshot(), Plan(), now_us)
        health = live.client().health()
        assert (health["status"], health["parts"]["scheduler"].startswith(said)) == ("degraded", True), count


def test_database_away_is_503_and_health_says_so(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    root = live.client(retry_s=0.0)
    root.me()

    @contextmanager
    def away(*_: Any, **__: Any) -> Iterator[None]:
        raise Unavailable("the database does not answer")
        yield  # it makes this a generator, which `contextmanager` wants

    monkeypatch.setattr(type(live.service.parts.store), "write", away)
    with pytest.raises(Unavailable, match="database"):
        root.submit(spec("devel/no-database"))
    monkeypatch.setattr(type(live.service.parts.store), "read", away)
    with pytest.raises(Unavailable, match="database"):
        root.nodes()
    health = root.health()
    assert (health["status"], health["parts"]["database"] != "ok") == ("degraded", True)


def test_who_asks_cannot_write_lines_of_the_log(
    live: Live, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(type(live.service.parts.store), "read", Mock(side_effect=Unavailable("away")))
    answer = httpx.get(f"{live.url}/v1/roles/x%0Aall%20is%20well%1B", headers={"authorization": "Bearer pri_x"})
    assert answer.status_code == 503
    assert "GET /v1/roles/x\\nall is well\\x1b: away" in [record.getMessage() for record in caplog.records]


def test_a_fault_of_ours_is_a_500_without_its_story(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret inside")

    monkeypatch.setattr(live.service.nodes.__class__, "list", broken)
    with pytest.raises(PriorityError) as told:
        live.client().nodes()
    assert type(told.value) is PriorityError and "secret" not in str(told.value)


def test_what_breaks_after_the_answer_takes_no_answer_back(caplog: pytest.LogCaptureFixture) -> None:
    def submit(requests: Sequence[Submission], answered: Answered) -> None:
        answered([Accepted(()) for _ in requests])
        raise ZeroDivisionError

    assert run_batches(submit, "a", "b") == [Accepted(()), Accepted(())]


def submissions(*names: str) -> list[Submission]:
    return [Submission(SYSTEM, (parse_spec(spec(name)),), None) for name in names]


def run_batches(submit: Any, *names: str) -> list[Any]:
    async def main() -> list[Any]:
        submitter = Submitter(submit)
        submitter.start()
        try:
            return await asyncio.gather(*(submitter.submit(one) for one in submissions(*names)), return_exceptions=True)
        finally:
            submitter.stop()

    return asyncio.run(main())


def test_those_who_come_meanwhile_share_one_transaction() -> None:
    sizes: list[int] = []
    entered, go_on = threading.Event(), threading.Event()

    def submit(requests: Sequence[Submission], answered: Answered) -> None:
        sizes.append(len(requests))
        if len(sizes) == 1:
            entered.set()
            assert go_on.wait(20)
        answered([Accepted(()) for _ in requests])

    async def main() -> None:
        submitter = Submitter(submit)
        submitter.start()
        first, *others = (asyncio.ensure_future(submitter.submit(one)) for one in submissions(*"abcdef"))
        await asyncio.to_thread(entered.wait, 20)
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(first, *others)
        submitter.stop()

    asyncio.run(main())
    assert sum(sizes) == 6 and len(sizes) <= 3


def test_clients_that_come_again_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight that send their next request upon an answer share every transaction but the first."""
    monkeypatch.setattr(batch, "GATHER_S", 60.0)
    sizes: list[int] = []

    def submit(requests: Sequence[Submission], answered: Answered) -> None:
        sizes.append(len(requests))
        answered([Accepted(()) for _ in requests])

    async def main() -> None:
        submitter = Submitter(submit)
        submitter.start()
        enough = asyncio.Event()

        async def client(name: str) -> None:
            while len(sizes) < 6:
                await submitter.submit(submissions(name)[0])
                await asyncio.sleep(0)
            enough.set()

        clients = [asyncio.ensure_future(client(name)) for name in "abcdefgh"]
        await enough.wait()
        submitter.stop()
        for one in clients:
            one.cancel()

    asyncio.run(main())
    assert sizes[1:6] == [8] * 5


def test_nobody_is_waited_for_longer_than_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "GATHER_S", 0.0)
    assert len(run_batches(lambda requests, answered: answered([Accepted(()) for _ in requests]), *"abcdef")) == 6

    async def main() -> None:
        submitter = Submitter(lambda requests, answered: answered([Accepted(()) for _ in requests]))
        submitter.start()
        await asyncio.gather(*(submitter.submit(one) for one in submissions(*"abcdef")))
        for one in submissions(*"abc"):
            await submitter.submit(one)
        submitter.stop()

    asyncio.run(main())


def test_what_still_waits_for_others_is_written_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "GATHER_S", 60.0)

    async def main() -> None:
        submitter = Submitter(lambda requests, answered: answered([Accepted(()) for _ in requests]))
        submitter.start()
        first = [asyncio.ensure_future(submitter.submit(one)) for one in submissions(*"abcdef")]
        await first[0]
        late = asyncio.ensure_future(submitter.submit(submissions("late")[0]))
        await asyncio.sleep(0)
        submitter.stop()
        assert [await one for one in (*first, late)] == [Accepted(())] * 7

    asyncio.run(main())


def test_each_gets_the_answer_to_its_own_request() -> None:
    def submit(requests: Sequence[Submission], answered: Answered) -> None:
        answered([QuotaExceeded("no") if one.specs[0].name == "b" else Accepted((), True) for one in requests])

    a, b, c = run_batches(submit, "a", "b", "c")
    assert (a, c) == (Accepted((), True), Accepted((), True)) and isinstance(b, QuotaExceeded)


def test_one_that_breaks_the_batch_does_not_fail_its_neighbours(caplog: pytest.LogCaptureFixture) -> None:
    def submit(requests: Sequence[Submission], answered: Answered) -> None:
        if any(one.specs[0].name == "b" for one in requests):
            raise ZeroDivisionError
        answered([Accepted(()) for _ in requests])

    a, b, c = run_batches(submit, "a", "b", "c")
    assert a == c == Accepted(()) and isinstance(b, ZeroDivisionError)


def test_a_flood_is_told_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "WAITING_JOBS", 2)
    answers = run_batches(lambda requests, answered: answered([Accepted(()) for _ in requests]), *"abcde")
    assert sum(isinstance(answer, Unavailable) for answer in answers) == 3


# --- the client


class Flaky(http.server.BaseHTTPRequestHandler):
    """Hangs up on the first `failures` requests after having read them."""

    protocol_version = "HTTP/1.1"
    failures = 0
    seen: list[tuple[str, str | None]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        Flaky.seen.append((self.path, self.headers["Idempotency-Key"]))
        if len(Flaky.seen) <= Flaky.failures:
            self.close_connection = True
            return
        self.send_response(201)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def flaky() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Flaky)
    Flaky.seen = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_submission_is_sent_again_with_the_same_key(flaky: str) -> None:
    Flaky.failures = 2
    with Client(flaky, "x") as client:
        client.submit(spec("devel/again"))
    assert len(Flaky.seen) == 3 and len({key for _, key in Flaky.seen}) == 1


def test_a_restart_is_not_sent_twice(flaky: str) -> None:
    Flaky.failures = 1
    with Client(flaky, "x") as client, pytest.raises(Unavailable):
        client.restart("a/b/c")
    assert len(Flaky.seen) == 1


def test_nothing_listens_there() -> None:
    with Client("http://127.0.0.1:9", "x", retry_s=0.05) as client, pytest.raises(Unavailable, match="priority up"):
        client.me()


@pytest.mark.parametrize(
    "error",
    [
        QuotaExceeded("no", owner="x", ask={"cpus": 1}, status="not ours"),
        Malformed("line 3: no"),
        Unavailable("away"),
        __import__("priority.errors").errors.Invalid("a.b", "must be c", index=3),
    ],
)
def test_an_error_is_the_same_on_the_other_side(error: PriorityError) -> None:
    found = problem.rebuild(error.status, problem.document(error))
    assert (type(found), found.message) == (type(error), error.message)
    assert {**found.details} == {name: value for name, value in error.details.items() if name != "status"}


@pytest.mark.parametrize(("status", "document"), [(502, None), (404, "x"), (418, {"code": 3}), (500, {"code": "new"})])
def test_an_answer_that_is_no_problem_of_ours_is_still_an_error(status: int, document: Any) -> None:
    assert isinstance(problem.rebuild(status, document), PriorityError)
