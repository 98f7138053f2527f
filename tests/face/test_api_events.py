"""Events over HTTP: in order, resumed, none twice, none missed, whatever Redis does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from priority.errors import Invalid, NotFound
from priority.face import events
from priority.face.client import Client

from .live import Live, parts_in, serving, spec

Eventually = Callable[..., object]


@pytest.fixture
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with serving(parts_in(tmp_path_factory.mktemp("events")), scheduler=False) as found:
        yield found


def collect(client: Client, count: int, after: int, job: str | None = None) -> list[int]:
    found = []
    for event in client.events(after, job=job):
        found.append(event["id"])
        if len(found) == count:
            break
    return found


def test_what_was_and_what_comes(live: Live) -> None:
    root = live.client()
    begin = root.last_event()
    root.submit_many([spec(f"devel/e{number}") for number in range(5)])
    found: list[int] = []
    listener = threading.Thread(target=lambda: found.extend(collect(live.client(), 8, begin)))
    listener.start()
    for number in range(5, 8):
        root.submit(spec(f"devel/e{number}"))
    listener.join(timeout=60)
    assert not listener.is_alive()
    assert found == [event["id"] for event in root.event_page(begin)["items"]] == sorted(set(found))


def test_resumed_behind_the_last_one_seen(live: Live) -> None:
    root = live.client()
    begin = root.last_event()
    root.submit_many([spec(f"devel/r{number}") for number in range(6)])
    first = collect(root, 3, begin)
    assert first + collect(root, 3, first[-1]) == list(range(begin + 1, begin + 7))
    import http.client

    connection = http.client.HTTPConnection(live.url.removeprefix("http://"), timeout=60)
    headers = {"Authorization": f"Bearer {live.tokens['root']}", "Last-Event-ID": str(first[-1])}
    connection.request("GET", "/v1/events?after=0", headers=headers)
    response = connection.getresponse()
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [response.readline() for _ in range(6)]
    connection.close()
    assert b"id: %d\n" % (first[-1] + 1) in lines


def test_without_redis_they_come_all_the_same(live: Live) -> None:
    root = live.client()
    live.queue.down = True
    begin = root.last_event()
    found: list[int] = []
    listener = threading.Thread(target=lambda: found.extend(collect(live.client(), 2, begin)))
    listener.start()
    root.submit(spec("devel/quiet1"))
    root.submit(spec("devel/quiet2"))
    listener.join(timeout=60)
    assert found == [begin + 1, begin + 2]


def test_more_than_a_page_and_other_peoples_in_between(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PAGE", 3)
    root = live.client()
    begin = root.last_event()
    for number in range(10):
        root.submit(spec(f"devel/p{number}", role="chem" if number % 2 else "physics"))
    assert len(collect(live.client("cleo"), 5, begin)) == 5
    listener = threading.Thread(target=collect, args=(live.client("cleo"), 1, root.last_event()))
    listener.start()
    root.submit(spec("devel/theirs"))
    root.submit(spec("devel/ours", role="chem"))
    listener.join(timeout=60)
    assert not listener.is_alive()


def test_of_one_job(live: Live) -> None:
    root = live.client()
    root.submit(spec("devel/other"))
    job = root.submit(spec("devel/mine"))
    root.kill(job["uid"])
    kinds = [event["kind"] for event in root.event_page(0, job="physics/devel/mine")["items"]]
    assert kinds[0] == "job.submitted" and kinds[-1] == "job.ended"
    with pytest.raises(NotFound):
        root.event_page(0, job="physics/devel/nothing")
    with pytest.raises(NotFound):
        list(live.client("nil").events(0, job=job["uid"], wait_s=5))


def test_pages_have_an_end(live: Live) -> None:
    root = live.client()
    page = root.event_page(0, limit=2)
    assert page["next"] == page["last"] == page["items"][-1]["id"]
    last = root.event_page(root.last_event())
    assert (last["items"], last["next"], last["last"]) == ([], None, root.last_event())


def test_a_stream_ends_with_its_token(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.05)
    root = live.client()
    made = root.create_token("ada")
    with live.client(made["secret"])._http.stream("/v1/events") as response:
        assert response.readline() == b"retry: 1000\n"
        root.revoke_token(made["id"])
        assert b"id:" not in response.read(), "it ends by itself"


@pytest.mark.parametrize("given", ["x", "-1", "1.5", "9" * 30, "\xb2"])
def test_a_bad_last_event_id(live: Live, given: str) -> None:
    with pytest.raises(Invalid):
        live.client()._http.request("GET", "/v1/events", headers={"Last-Event-ID": given})


def test_wait_returns_when_the_last_job_ends(live: Live) -> None:
    root = live.client()
    jobs = [root.submit(spec(f"devel/w{number}"))["uid"] for number in range(12)]
    seen: list[str] = []
    result: list[object] = []
    waiter = threading.Thread(target=lambda: result.extend(live.client().wait(*jobs, seen=seen.append)))
    waiter.start()
    for uid in jobs:
        root.kill(uid)
    waiter.join(timeout=60)
    assert not waiter.is_alive()
    assert sorted(seen) == sorted(jobs) and len(result) == 12


def test_wait_gives_up_in_time(live: Live) -> None:
    from priority.errors import Unavailable

    job = live.client().submit(spec("devel/never", cpus=1000))
    with pytest.raises(Unavailable, match="have not ended"):
        live.client().wait(job["uid"], timeout_s=0.2)


def test_who_waits_for_output_is_let_go_when_the_service_ends() -> None:
    async def ending() -> tuple[object, bool]:
        bell, never = events.Bell(lambda _: None, lambda: 0), asyncio.get_running_loop().create_future()
        waiting = asyncio.ensure_future(bell.unless_closed(never))
        await asyncio.sleep(0)
        bell.close()
        return await waiting, never.cancelled()

    assert asyncio.run(ending()) == (None, True)
