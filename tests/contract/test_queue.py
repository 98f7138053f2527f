"""What every queue promises: the same tests over Valkey, fakeredis and the twin in memory.

fakeredis stands aside where it is not honest: its XREADGROUP does not give again what was delivered and not
acknowledged when several streams are read at once (2.40).
"""

from __future__ import annotations

import queue as standard
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fakeredis import TcpFakeServer

from priority.ports import Call, Queue
from priority.queue import RedisQueue
from priority.queue.memory import MemoryQueue
from priority.queue.streams import EVENTS, stream
from priority.wire.connection import connect

TIERS = ("prod", "devel", "opportunistic")


class World:
    """One Redis (or its stand-in) and the queues on it."""

    def __init__(self, make: Callable[[], Queue]) -> None:
        self._make = make
        self._queues: list[Queue] = []
        self._threads: list[threading.Thread] = []

    def queue(self) -> Queue:
        """As another process would have it."""
        self._queues.append(self._make())
        return self._queues[-1]

    def listen(self, queue: Queue, acknowledge: bool = True) -> standard.Queue[Call]:
        heard: standard.Queue[Call] = standard.Queue()

        def deliver(calls: list[Call]) -> None:
            if acknowledge:
                queue.acknowledge(calls)
            for call in calls:
                heard.put(call)

        self._start(lambda: queue.listen(deliver))
        return heard

    def watch(self, queue: Queue) -> standard.Queue[int]:
        woken: standard.Queue[int] = standard.Queue()
        self._start(lambda: queue.watch(woken.put))
        return woken

    def _start(self, run: Callable[[], None]) -> None:
        self._threads.append(threading.Thread(target=run))
        self._threads[-1].start()

    def end(self) -> None:
        for queue in self._queues:
            queue.close()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "close did not end a thread"


def make_world(kind: str, request: pytest.FixtureRequest) -> World:
    if kind == "memory":
        only = MemoryQueue(TIERS)
        return World(lambda: only)
    url = request.getfixturevalue(kind)
    return World(lambda: RedisQueue(url, TIERS))


@pytest.fixture
def fakeredis() -> Iterator[str]:
    """The URL of a server that is not one."""
    server = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    url = f"redis://127.0.0.1:{server.server_address[1]}"
    yield url
    client = connect(url)
    client.xadd(EVENTS, {"id": 0})  # it does not see that who waits at it has gone, and would wait for its own end
    client.close()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(params=["memory", "fakeredis", "valkey"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    world = make_world(request.param, request)
    yield world
    world.end()


@pytest.fixture(params=["memory", "valkey"])
def keeping_world(request: pytest.FixtureRequest) -> Iterator[World]:
    """One that gives again what was not acknowledged."""
    world = make_world(request.param, request)
    yield world
    world.end()


def heard(calls: standard.Queue[Any]) -> Any:
    return calls.get(timeout=60)


def test_what_is_rung_is_heard(world: World) -> None:
    calls = world.listen(world.queue())
    world.queue().ring("devel", ["a", "b"])
    call = heard(calls)
    assert (call.tier, call.jobs) == ("devel", ("a", "b"))


def test_what_was_rung_before_anyone_listened_is_heard(world: World) -> None:
    world.queue().ring("prod", ["a"])
    assert heard(world.listen(world.queue())).jobs == ("a",)


def test_higher_tiers_first(world: World) -> None:
    bell = world.queue()
    for tier in reversed(TIERS):
        bell.ring(tier, [tier])
    if isinstance(bell, RedisQueue):
        bell.close()  # all of it has been sent then
    calls = world.listen(world.queue())
    assert [heard(calls).tier for _ in TIERS] == list(TIERS)


def test_nothing_to_say_is_not_said(world: World) -> None:
    bell = world.queue()
    bell.ring("prod", [])
    bell.ring("prod", ["a"])
    assert heard(world.listen(world.queue())).jobs == ("a",)


def test_not_acknowledged_comes_again_and_acknowledged_does_not(keeping_world: World) -> None:
    world = keeping_world
    first = world.queue()
    kept: standard.Queue[list[Call]] = standard.Queue()

    def crash(calls: list[Call]) -> None:
        kept.put(calls)
        raise ZeroDivisionError

    first.ring("prod", ["a"])
    with pytest.raises(ZeroDivisionError):
        first.listen(crash)
    second = world.queue()
    again = world.listen(second)
    assert heard(again).jobs == ("a",)
    third = world.queue()
    third.ring("prod", ["b"])
    assert heard(again).jobs == ("b",)
    assert again.empty()


def test_watchers_are_woken_with_the_newest_event(world: World) -> None:
    watching = world.queue()
    woken = world.watch(watching)
    bell = world.queue()
    number = 0
    while woken.empty():  # until it watches: what came before it began wakes nobody
        number += 1
        bell.publish(number)
        threading.Event().wait(0.01)
    bell.publish(1000)
    while heard(woken) != 1000:
        pass


class TestRedis:
    """What only a real server can show."""

    def test_a_lost_server_costs_latency_only(self, tmp_path: Any, eventually: Callable[..., Any]) -> None:
        from priority.queue.embedded import serve

        with serve(tmp_path / "s") as server:
            world = World(lambda: RedisQueue(server.url, TIERS))
            calls = world.listen(world.queue())
            bell = world.queue()
            woken = world.watch(world.queue())
            bell.ring("prod", ["before"])
            assert heard(calls).jobs == ("before",)
            server.kill()
            bell.ring("prod", ["while it is away"])  # no error, and kept
            server.start()

            def publish_until_heard() -> bool:
                bell.publish(7)
                return not calls.empty() and not woken.empty()

            eventually(publish_until_heard, "the queue to find the new server")
            assert heard(calls).jobs == ("while it is away",)
            assert heard(woken) == 7
            world.end()

    def test_an_emptied_server_costs_latency_only(self, valkey: str, eventually: Callable[..., Any]) -> None:
        world = World(lambda: RedisQueue(valkey, TIERS))
        calls = world.listen(world.queue())
        bell = world.queue()
        bell.ring("prod", ["before"])
        assert heard(calls).jobs == ("before",)
        client = connect(valkey)
        client.flushall()
        bell.ring("prod", ["after"])

        def ring_until_heard() -> bool:
            bell.ring("prod", ["after"])
            return not calls.empty()

        eventually(ring_until_heard, "a new group")
        assert set(heard(calls).jobs) == {"after"}
        world.end()
        client.close()

    def test_dealt_with_is_deleted(self, valkey: str, eventually: Callable[..., Any]) -> None:
        world = World(lambda: RedisQueue(valkey, TIERS))
        calls = world.listen(world.queue())
        world.queue().ring("prod", ["a"])
        heard(calls)
        client = connect(valkey)
        eventually(lambda: client.xlen(stream("prod")) == 0, "the stream to be empty")
        world.end()
        client.close()

    def test_foreign_entries_are_skipped(self, valkey: str) -> None:
        client = connect(valkey)
        for fields in ({"x": "y"}, {"jobs": "[" * 10_000}, {"jobs": "3"}, {"jobs": "[1]"}, {"jobs": b"\xff"}):
            client.xadd(stream("prod"), fields)
        client.close()
        world = World(lambda: RedisQueue(valkey, TIERS))
        world.queue().ring("prod", ["good"])
        calls = world.listen(world.queue())
        while (call := heard(calls)).jobs != ("good",):
            assert call.jobs == ()
        world.end()

    def test_more_than_a_batch_comes_again(self, valkey: str) -> None:
        first = RedisQueue(valkey, TIERS, batch=2)
        client = connect(valkey)
        for number in range(7):
            client.xadd(stream("prod" if number % 2 else "devel"), {"jobs": f'["{number}"]'})
        client.close()
        seen: list[Call] = []

        def crash(calls: list[Call]) -> None:
            seen.extend(calls)
            if len(seen) == 7:
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            first.listen(crash)
        first.close()
        world = World(lambda: RedisQueue(valkey, TIERS, batch=2))
        calls = world.listen(world.queue())
        assert {heard(calls).jobs[0] for _ in range(7)} == set("0123456")
        world.end()

    def test_another_consumers_leavings_are_taken_over(self, valkey: str) -> None:
        first = RedisQueue(valkey, TIERS, consumer="one")
        first.ring("prod", ["a"])

        def crash(calls: list[Call]) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            first.listen(crash)
        first.close()
        world = World(lambda: RedisQueue(valkey, TIERS, consumer="two"))
        assert heard(world.listen(world.queue())).jobs == ("a",)
        world.end()
