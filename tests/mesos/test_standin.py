"""A master that is none: what it says may be broken, cut off or hostile. Needs no Mesos.

Whatever comes, it is logged, the connection is begun anew, nothing of it is believed, and what is well is taken again.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from priority.backend.mesos import NOTE, MesosBackend
from priority.backend.mesos_known import Times
from priority.job import JobSpec
from priority.orders import Delivery, Launch, NodeSeen, Report, Stop, TaskSeen

WAIT_S = 30.0


def framed(event: Any) -> bytes:
    record = json.dumps(event).encode()
    return b"%d\n%s" % (len(record), record)


def scalar(name: str, value: float) -> dict[str, Any]:
    return {"name": name, "type": "SCALAR", "scalar": {"value": value}, "allocation_info": {"role": "priority"}}


SUBSCRIBED = framed({"type": "SUBSCRIBED", "subscribed": {"framework_id": {"value": "f1"}}})
OFFER = {
    "id": {"value": "o1"}, "agent_id": {"value": "a1"}, "hostname": "n1",
    "resources": [scalar("cpus", 4), scalar("mem", 1024)],
}  # fmt: skip
OFFERS = framed({"type": "OFFERS", "offers": {"offers": [OFFER]}})


def update(state: str, task: str = "t1", **more: Any) -> bytes:
    status = {"task_id": {"value": task}, "agent_id": {"value": "a1"}, "state": state, "uuid": "dQ==", **more}
    return framed({"type": "UPDATE", "update": {"status": status}})


class Master:
    """Each subscription gets the next script; the last one again and again. Every call is kept."""

    def __init__(self) -> None:
        self.scripts: list[bytes | int | str] = []
        self.calls: list[dict[str, Any]] = []
        self.subscriptions: list[dict[str, Any]] = []
        self.changed = threading.Condition()
        self.streams: list[Any] = []
        master = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.send_error(404)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if body["type"] == "SUBSCRIBE":
                    master.subscribe(self, body)
                    return
                with master.changed:
                    master.calls.append(body)
                    master.changed.notify_all()
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def subscribe(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        with self.changed:
            script = self.scripts[min(len(self.subscriptions), len(self.scripts) - 1)]
            self.subscriptions.append(body)
            self.changed.notify_all()
        if isinstance(script, int):
            handler.send_error(script)
            return
        if isinstance(script, str):
            handler.send_response(307)
            handler.send_header("Location", script)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Mesos-Stream-Id", str(len(self.subscriptions)))
        handler.send_header("Connection", "close")
        handler.end_headers()
        stays = not script.endswith(b"CUT")
        if stays:  # before the client can answer to what it hears: whoever saw the answer may say() more
            self.streams.append(handler.wfile)
        handler.wfile.write(script)
        if stays:
            handler.connection.recv(1)  # until the client goes

    def say(self, data: bytes) -> None:
        # Not buffered, so nothing to flush; and a client that goes at these bytes has closed the stream by then.
        self.streams[-1].write(data)

    def call(self, kind: str, since: int = 0) -> dict[str, Any]:
        with self.changed:
            found: list[dict[str, Any]] = []
            assert self.changed.wait_for(
                lambda: found.extend(one for one in self.calls[since:] if one["type"] == kind) or found, WAIT_S
            ), f"no {kind}; {self.calls}"
            return found[0]

    def subscribed(self, times: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.subscriptions) >= times, WAIT_S)

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join(10)
        self.server.server_close()


class Notes:
    """As much of a store as a backend needs: what is written down is there again."""

    def __init__(self) -> None:
        self.notes: dict[str, str] = {}

    @contextmanager
    def read(self) -> Iterator[Any]:
        yield self

    write = read

    def note(self, name: str) -> str | None:
        return self.notes.get(name)

    def put_note(self, name: str, value: str) -> None:
        self.notes[name] = value

    def nodes(self) -> list[Any]:
        return []

    def active_tasks(self) -> list[Any]:
        return []

    def jobs_of(self, uids: Any) -> dict[str, Any]:
        return {}


class Framework:
    """Ours, and all that it hears."""

    def __init__(self, master: Master, store: Any, **options: Any) -> None:
        self.store = store
        self.heard: list[Report] = []
        self.changed = threading.Condition()
        options.setdefault("times", Times(silent_s=60.0))
        self.backend = MesosBackend(master.url, store, **options)
        self.thread = threading.Thread(target=self.backend.listen, args=(self.take,))
        self.thread.start()

    def take(self, delivery: Delivery) -> None:
        with self.changed:
            self.heard += delivery.reports
            self.last = delivery
            self.changed.notify_all()

    def wait(self, wanted: Callable[[Report], bool]) -> Any:
        with self.changed:
            assert self.changed.wait_for(lambda: any(wanted(one) for one in self.heard), WAIT_S), self.heard
            return next(one for one in self.heard if wanted(one))

    def node(self) -> NodeSeen:
        found: NodeSeen = self.wait(lambda one: isinstance(one, NodeSeen) and one.node.name == "n1")
        return found

    def launch(self, task: str = "t1", cpus: int = 1000) -> None:
        spec = JobSpec(role="r", tier="prod", name="x", command="true", resources={"cpus": cpus / 1000})
        launch = Launch(task=task, job="r/prod/x", node="n1", agent="a1", epoch=1, instance=0, attempt=1, spec=spec)
        self.backend.launch([launch])

    def tasks(self) -> list[tuple[str, str]]:
        return [(one.task, one.kind) for one in self.heard if isinstance(one, TaskSeen)]

    def close(self) -> None:
        self.backend.close()
        self.thread.join(10)
        assert not self.thread.is_alive()


@pytest.fixture
def master() -> Iterator[Master]:
    made = Master()
    yield made
    made.close()


@pytest.fixture
def join(master: Master) -> Iterator[Callable[..., Framework]]:
    store = Notes()
    made: list[Framework] = []

    def make(**options: Any) -> Framework:
        made.append(Framework(master, store, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


BROKEN = {
    "not a length": b"hello\n{}",
    "no JSON": b"5\nhello",
    "JSON that is no object": b"2\n[]",
    "no type": b"2\n{}",
    "a type that is no text": framed({"type": 5}),
    "a length beyond all bounds": b"9999999999\n",
    "cut off inside a record": b'100\n{"type": "OFFERS"CUT',
    "cut off inside a length": b"12CUT",
    "nothing at all": b"CUT",
    "nested too deeply": b"200000\n" + b"[" * 200_000,
    "a page": b"<html><body>It works!</body></html>",
    "a body that is no object": SUBSCRIBED + framed({"type": "OFFERS", "offers": 5}),
    "offers that are no list": SUBSCRIBED + framed({"type": "OFFERS", "offers": {"offers": 5}}),
    "an offer without an id": SUBSCRIBED + framed({"type": "OFFERS", "offers": {"offers": [{**OFFER, "id": None}]}}),
    "an offer of nonsense": SUBSCRIBED
    + framed({"type": "OFFERS", "offers": {"offers": [{**OFFER, "resources": [{"name": "cpus", "type": "SCALAR"}]}]}}),
    "an unknown state": SUBSCRIBED + update("TASK_DANCING"),
    "an update without a status": SUBSCRIBED + framed({"type": "UPDATE", "update": {}}),
    "a task without an id": SUBSCRIBED + update("TASK_RUNNING", task=""),
    "a rescind of nothing": SUBSCRIBED + framed({"type": "RESCIND", "rescind": {}}),
    "no framework id": framed({"type": "SUBSCRIBED", "subscribed": {}}),
    "a framework id that is none": framed({"type": "SUBSCRIBED", "subscribed": {"framework_id": {"value": {}}}}),
    "an error": SUBSCRIBED + framed({"type": "ERROR", "error": {"message": "no"}}),
    "an error without a word": SUBSCRIBED + framed({"type": "ERROR", "error": None}),
}


@pytest.mark.parametrize("script", [pytest.param(script, id=name) for name, script in BROKEN.items()])
def test_what_is_broken_is_left_and_begun_anew(
    master: Master, join: Callable[..., Framework], script: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    master.scripts = [script, SUBSCRIBED + OFFERS]
    framework = join()
    assert framework.node().node.capacity == {"cpus": 4000, "mem": 1024}
    assert [type(one) for one in framework.heard] == [NodeSeen]
    assert any("no contact with the Mesos master" in record.message for record in caplog.records)
    assert framework.store.notes[NOTE] == "f1"


@pytest.mark.parametrize("script", [400, 401, 403, 500, 503, "/nowhere", "//127.0.0.1:1/", "ftp://x/", "http://[", ""])
def test_a_refusal_or_a_bad_redirect_is_tried_again(
    master: Master, join: Callable[..., Framework], script: int | str
) -> None:
    master.scripts = [script, script, SUBSCRIBED + OFFERS]
    assert join().node()


def test_the_leader_is_found_through_a_redirect(join: Callable[..., Framework], master: Master) -> None:
    leader = Master()
    try:
        leader.scripts = [SUBSCRIBED + OFFERS]
        master.scripts = [leader.url.removeprefix("http:") + "/api/v1/scheduler"]
        framework = join()
        framework.node()
        framework.launch()
        assert leader.call("ACCEPT")["framework_id"] == {"value": "f1"}
        assert not master.calls
    finally:
        leader.close()


def test_the_next_subscription_is_of_the_same_framework(master: Master, join: Callable[..., Framework]) -> None:
    master.scripts = [SUBSCRIBED + OFFERS]
    first = join()
    first.node()
    first.close()
    join().node()
    assert "framework_id" not in master.subscriptions[0]
    assert master.subscriptions[-1]["framework_id"] == {"value": "f1"}
    assert master.subscriptions[-1]["subscribe"]["framework_info"]["id"] == {"value": "f1"}


def test_one_that_was_removed_begins_as_a_new_one(master: Master, join: Callable[..., Framework]) -> None:
    removed = framed({"type": "ERROR", "error": {"message": "Framework has been removed"}})
    again = SUBSCRIBED.replace(b'"f1"', b'"f2"')
    master.scripts = [SUBSCRIBED + removed, again + OFFERS]
    framework = join()
    framework.node()
    assert "framework_id" not in master.subscriptions[1]
    assert framework.store.notes[NOTE] == "f2"


def test_an_update_is_acknowledged_when_it_is_committed_and_not_before(
    master: Master, join: Callable[..., Framework]
) -> None:
    master.scripts = [SUBSCRIBED + OFFERS]
    framework = join()
    framework.node()
    framework.launch()
    master.call("ACCEPT")
    for state in ("TASK_RUNNING", "TASK_FINISHED"):
        master.say(update(state))
    framework.wait(lambda one: isinstance(one, TaskSeen) and one.kind == "ended")
    framework.launch("t2")  # its calls come after whatever was sent before
    assert not [one for one in master.calls if one["type"] == "ACKNOWLEDGE"]
    framework.backend.acknowledge(framework.last)
    assert master.call("ACKNOWLEDGE")["acknowledge"]["task_id"] == {"value": "t1"}


def test_late_double_and_unknown_updates_change_nothing(master: Master, join: Callable[..., Framework]) -> None:
    master.scripts = [SUBSCRIBED + OFFERS]
    framework = join()
    framework.node()
    framework.launch()
    master.call("ACCEPT")
    for state in ("TASK_RUNNING", "TASK_FAILED", "TASK_RUNNING", "TASK_FINISHED", "TASK_LOST", "TASK_UNKNOWN"):
        master.say(update(state, message="Command exited with status 3"))
    for state in ("TASK_LOST", "TASK_UNKNOWN", "TASK_GONE", "TASK_UNREACHABLE", "TASK_DROPPED"):
        master.say(update(state, task="never-heard-of"))
    master.say(update("TASK_RUNNING", task="orphan"))
    framework.wait(lambda one: isinstance(one, TaskSeen) and one.task == "orphan")
    ends = [one for one in framework.heard if isinstance(one, TaskSeen) and one.kind == "ended"]
    assert {(one.task, one.exit_code) for one in ends} == {("t1", 3)}
    assert {task for task, _ in framework.tasks()} == {"t1", "orphan"}


def test_what_was_sent_on_a_broken_stream_is_asked_for_and_not_sent_again(
    master: Master, join: Callable[..., Framework]
) -> None:
    master.scripts = [SUBSCRIBED + OFFERS, SUBSCRIBED + OFFERS.replace(b"o1", b"o2")]
    framework = join()
    framework.node()
    framework.launch()
    master.call("ACCEPT")
    since = len(master.calls)
    master.say(b"rubbish rubbish\n")
    master.subscribed(2)
    asked = master.call("RECONCILE", since)["reconcile"]["tasks"]
    assert asked == [{"task_id": {"value": "t1"}, "agent_id": {"value": "a1"}}]
    framework.launch()  # the scheduler says it again
    master.say(update("TASK_RUNNING", reason="REASON_RECONCILIATION"))
    framework.wait(lambda one: isinstance(one, TaskSeen) and one.kind == "started")
    assert len([one for one in master.calls if one["type"] == "ACCEPT"]) == 1


def test_room_that_never_comes_is_given_up_with_a_cause(master: Master, join: Callable[..., Framework]) -> None:
    master.scripts = [SUBSCRIBED + OFFERS]
    framework = join(times=Times(room_s=0.3, silent_s=60.0))
    framework.node()
    framework.launch(cpus=4000)
    master.call("ACCEPT")
    framework.launch("t2", cpus=4000)
    refused = framework.wait(lambda one: isinstance(one, TaskSeen) and one.task == "t2")
    assert (refused.kind, refused.cause.code) == ("refused", "no-offer")
    assert len([one for one in master.calls if one["type"] == "ACCEPT"]) == 1


def test_offers_of_no_use_go_back_and_are_asked_for_again(master: Master, join: Callable[..., Framework]) -> None:
    master.scripts = [SUBSCRIBED + OFFERS]
    framework = join(times=Times(hold_s=0.1, silent_s=60.0))
    framework.node()
    declined = master.call("ACCEPT")["accept"]
    assert (declined["offer_ids"], declined["operations"]) == ([{"value": "o1"}], [])
    assert declined["filters"]["refuse_seconds"] > 60
    master.call("SUPPRESS")
    since = len(master.calls)
    framework.launch()
    master.call("REVIVE", since)
    master.say(OFFERS.replace(b"o1", b"o2"))
    accepted = master.call("ACCEPT", since)["accept"]
    assert [one["type"] for one in accepted["operations"]] == ["RESERVE", "LAUNCH"]
    assert framework.node().node.capacity == {"cpus": 4000, "mem": 1024}


def test_a_kill_says_how_long_its_notice_is(master: Master, join: Callable[..., Framework]) -> None:
    master.scripts = [SUBSCRIBED + OFFERS]
    framework = join()
    framework.node()
    framework.launch()
    master.call("ACCEPT")
    framework.backend.stop([Stop(task="t1", node="n1", epoch=1, signal="TERM", notice_s=7.5)])
    kill = master.call("KILL")["kill"]
    assert kill["kill_policy"]["grace_period"] == {"nanoseconds": 7_500_000_000}
    assert (kill["task_id"], kill["agent_id"]) == ({"value": "t1"}, {"value": "a1"})


def test_silence_is_noticed_and_healed(master: Master, join: Callable[..., Framework]) -> None:
    master.scripts = [SUBSCRIBED + OFFERS]
    framework = join(silence_s=0.3)
    framework.node()
    master.subscribed(3)  # nobody closed anything
    assert framework.thread.is_alive()
