"""Room on an agent of a Mesos cluster: what is offered, taken, given back and believed in."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from priority.offers import Offer, Pot, Room, amounts_of, numbers, read_offer, reserve, unreservable


def scalar(name: str, value: float, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": "SCALAR", "scalar": {"value": value}, "allocation_info": {"role": "p"}, **more}


def ranges(*pairs: tuple[int, int]) -> dict[str, Any]:
    parts = [{"begin": low, "end": high} for low, high in pairs]
    return {"name": "ports", "type": "RANGES", "ranges": {"range": parts}, "allocation_info": {"role": "p"}}


def offer(*resources: dict[str, Any], id: str = "o1", **more: Any) -> Offer:
    document = {"id": {"value": id}, "agent_id": {"value": "a1"}, "hostname": "h1", "resources": list(resources)}
    return read_offer({**document, **more})


NAN = float("nan")
RESERVED = {"reservations": [{"type": "DYNAMIC", "role": "p"}]}


@pytest.mark.parametrize(
    ("resource", "amounts"),
    [
        (scalar("cpus", 2.5), {"cpus": 2500}),
        (scalar("cpus", 0.29), {"cpus": 290}),
        (scalar("mem", 1024.0), {"mem": 1024}),
        (scalar("mem", 0.5), {}),
        (scalar("gpus", 2), {"gpus": 2000}),
        (scalar("licenses", 3.9), {"licenses": 3}),
        (ranges((31000, 31009), (31020, 31020)), {"ports": 11}),
        (scalar("cpus", 2, revocable={}), {}),
        (scalar("disk", 5, disk={"persistence": {"id": "v"}}), {}),
        (scalar("cpus", 2, shared={}), {}),
        (scalar("Weird Name", 2), {}),
        ({"name": "zones", "type": "SET", "set": {"item": ["a"]}}, {}),
        (scalar("cpus", -1), {}),
        (scalar("cpus", 1e30), {}),
    ],
)
def test_what_an_offer_has_for_us(resource: dict[str, Any], amounts: dict[str, int]) -> None:
    assert offer(resource).amounts == amounts


@pytest.mark.parametrize(
    "document",
    [
        None, [], "offer", {}, {"id": {"value": 1}}, {"id": None},
        {"id": {"value": "o"}, "agent_id": {"value": "a"}, "hostname": "h" * 2000},
        {"id": {"value": "o"}, "agent_id": {"value": "a"}, "hostname": "h", "resources": [{"name": "cpus"}]},
        {"id": {"value": "o"}, "agent_id": {"value": "a"}, "hostname": "h", "resources": 7},
        {"id": {"value": "o"}, "agent_id": {"value": "a"}, "hostname": "h", "resources": [scalar("cpus", NAN)]},
        {"id": {"value": "o"}, "agent_id": {"value": "a"}, "hostname": "h", "attributes": [{"name": "x"}]},
        {"id": {"value": "o"}, "agent_id": {"value": "a"}, "hostname": "h", "url": []},
    ],
)  # fmt: skip
def test_what_is_no_offer_is_refused(document: Any) -> None:
    with pytest.raises(ValueError):
        read_offer(document)


def test_revocable_room_is_apart() -> None:
    found = offer(scalar("cpus", 2), scalar("cpus", 3, revocable={}), scalar("mem", 5, revocable={}))
    assert (found.amounts, amounts_of(found.revocable)) == ({"cpus": 2000}, {"cpus": 3000, "mem": 5})
    assert found.revocable[0].plain() == scalar("cpus", 3, revocable={})


def test_attributes_are_strings() -> None:
    found = offer(
        attributes=[
            {"name": "rack", "type": "TEXT", "text": {"value": "r1"}},
            {"name": "generation", "type": "SCALAR", "scalar": {"value": 4.0}},
            {"name": "many", "type": "RANGES", "ranges": {}},
        ]
    )
    assert found.attributes == {"rack": "r1", "generation": "4"}


def test_reserved_room_is_taken_first_and_what_is_taken_is_what_was_asked() -> None:
    pieces = offer(scalar("cpus", 3), scalar("cpus", 2, **RESERVED), ranges((5, 6), (9, 9))).pieces
    pot = Pot(pieces)
    found = pot.take({"cpus": 2500, "ports": 2})
    assert found is not None
    assert [(one.amount, one.reserved) for one in found if one.name == "cpus"] == [(2000, True), (500, False)]
    assert numbers(found) == [5, 6]
    assert numbers(pot.rest) == [9]
    assert pot.take({"cpus": 2501}) is None and pot.take({"gpus": 1}) is None
    assert pot.left == {"cpus": 2500, "ports": 1}


def test_a_piece_is_written_as_it_was_offered() -> None:
    document = scalar("cpus", 2.5)
    piece = offer(document).pieces[0]
    assert piece.plain() == document
    kept = reserve(piece, "p", "who")
    assert kept.plain()["reservations"] == [{"type": "DYNAMIC", "role": "p", "principal": "who"}]
    assert unreservable(kept) and not unreservable(piece) and reserve(kept, "q", None) is kept


# --- an agent ------------------------------------------------------------------------------------------------


def test_capacity_stays_while_room_moves() -> None:
    room = Room()
    room.offered(offer(scalar("cpus", 4), scalar("mem", 100)))
    whole = room.capacity()
    assert whole == {"cpus": 4000, "mem": 100}
    room.wanted["t"] = {"cpus": 1000}
    served, rest = room.fill(["t"])
    room.hold("t", room.wanted["t"])
    assert room.used(rest) == ["o1"] and list(served) == ["t"]
    assert room.capacity() == whole and room.believed == {"cpus": 3000, "mem": 100}
    room.offered(offer(scalar("cpus", 3), scalar("mem", 100), id="o2"))
    assert room.capacity() == whole and room.believed == {}
    room.release("t")
    assert room.capacity() == whole and room.believed == {"cpus": 1000}
    room.offered(offer(scalar("cpus", 1), id="o3"))
    assert room.capacity() == whole
    assert sorted(room.give_back()) == ["o2", "o3"] and room.capacity() == whole
    room.believed = {}
    assert room.capacity() == {}


def test_what_others_hold_is_never_capacity() -> None:
    room = Room(whole={"cpus": 4000})
    room.believed = {"cpus": 9000}
    assert room.capacity() == {"cpus": 4000}
    room.hold("t", {"cpus": 5000})  # more than the agent has: it was made smaller below its tasks
    assert room.capacity() == {"cpus": 5000}


def test_a_rescinded_offer_is_others_room() -> None:
    room = Room()
    room.offered(offer(scalar("cpus", 4)))
    assert room.rescinded("o1") and not room.rescinded("o1")
    assert room.capacity() == {}


def test_who_is_first_keeps_what_it_needs_from_those_behind() -> None:
    room = Room()
    room.wanted = {"large": {"cpus": 3000}, "small": {"cpus": 1000}}
    room.offered(offer(scalar("cpus", 2)))
    assert room.fill(["large", "small"])[0] == {}
    room.offered(offer(scalar("cpus", 2), id="o2"))
    served, rest = room.fill(["large", "small"])
    assert list(served) == ["large", "small"] and not rest


AMOUNTS = st.dictionaries(st.sampled_from(["cpus", "mem", "ports"]), st.integers(1, 50), max_size=3)


@given(offered=st.lists(AMOUNTS, max_size=4), wanted=st.lists(AMOUNTS, max_size=6))
def test_nothing_is_made_or_lost(offered: list[dict[str, int]], wanted: list[dict[str, int]]) -> None:
    room = Room()
    for number, amounts in enumerate(offered):
        parts = [scalar(name, amount / 1000 if name == "cpus" else amount) for name, amount in amounts.items()]
        room.offered(offer(*parts, id=f"o{number}"))
    before = room.capacity()
    room.wanted = {str(number): request for number, request in enumerate(wanted)}
    served, rest = room.fill(list(room.wanted))
    for task, pieces in served.items():
        taken: dict[str, int] = {}
        for piece in pieces:
            taken[piece.name] = taken.get(piece.name, 0) + piece.amount
        assert taken == room.wanted[task]
        room.hold(task, room.wanted[task])
    room.used(rest)
    room.wanted = {}
    assert room.capacity() == before
