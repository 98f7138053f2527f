"""The life of a task: every pair of state and event, what can be reached, and the picture of it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from priority.lifecycle import TABLE, Effect, Event, backoff_s, diagram, step
from priority.task import ACTIVE, PLACED, TERMINAL, State

# One row a state, one column an event; `.` is "changes nothing".
COLUMNS = "place started succeeded failed stopped gone preempt kill restart"
EXPECTED = """
pending     starting .       .        .         .         .         .          killed  .
starting    .        running finished failed    lost      lost      preempting killing killing
running     .        .       finished failed    lost      lost      preempting killing killing
preempting  .        .       finished preempted preempted preempted .          killing .
killing     .        .       finished killed    killed    killed    .          .       .
finished    .        .       .        .         .         .         .          .       .
failed      .        .       .        .         .         .         .          .       .
killed      .        .       .        .         .         .         .          .       .
preempted   .        .       .        .         .         .         .          .       .
lost        .        .       .        .         .         .         .          .       .
"""

PAIRS = {
    (State(row[0]), Event(event)): None if target == "." else State(target)
    for row in (line.split() for line in EXPECTED.strip().splitlines())
    for event, target in zip(COLUMNS.split(), row[1:], strict=True)
}

EFFECTS = {
    (State.PENDING, Event.PLACE): (Effect.LAUNCH,),
    (State.STARTING, Event.FAILED): (Effect.RETRY,),
    (State.RUNNING, Event.FAILED): (Effect.RETRY,),
    (State.PREEMPTING, Event.SUCCEEDED): (Effect.WITHDRAW,),
    **{
        (state, event): (Effect.REQUEUE,)
        for state in (State.STARTING, State.RUNNING)
        for event in (Event.STOPPED, Event.GONE)
    },
    **{
        (state, event): (Effect.REQUEUE, Effect.STOP)
        for state in (State.STARTING, State.RUNNING)
        for event in (Event.PREEMPT, Event.RESTART)
    },
    **{(state, Event.KILL): (Effect.STOP,) for state in (State.STARTING, State.RUNNING)},
}


def test_the_table_above_names_every_pair() -> None:
    assert PAIRS.keys() == set(itertools.product(State, Event))


@pytest.mark.parametrize(("state", "event"), PAIRS, ids=str)
def test_every_pair(state: State, event: Event) -> None:
    move = step(state, event)
    assert (move.state if move else None) == PAIRS[state, event]
    assert (move.effects if move else ()) == EFFECTS.get((state, event), ())


def test_a_terminal_state_has_no_row() -> None:
    assert not {state for state, _ in TABLE} & TERMINAL


def test_every_state_is_either_active_or_terminal() -> None:
    assert set(State) == ACTIVE | TERMINAL
    assert not ACTIVE & TERMINAL
    assert ACTIVE - {State.PENDING} == PLACED


def test_every_active_state_can_be_ended_whatever_the_node_does() -> None:
    """Proof of death alone brings each placed state to its end, and a kill alone what is not placed."""
    for state in PLACED:
        move = step(state, Event.GONE)
        assert move is not None
        assert move.state in TERMINAL
    killed = step(State.PENDING, Event.KILL)
    assert killed is not None
    assert killed.state is State.KILLED


@given(st.lists(st.sampled_from(Event)))
def test_whatever_happens_a_kill_is_final(events: list[Event]) -> None:
    """After a kill nothing that is reported leads to another state than an end, and none entails another attempt."""
    for start in (State.STARTING, State.RUNNING, State.PREEMPTING):
        killed = step(start, Event.KILL)
        assert killed is not None
        state = killed.state
        for event in events:
            move = step(state, event)
            if move is not None:
                assert move.state in TERMINAL
                assert not {Effect.RETRY, Effect.REQUEUE} & set(move.effects)
                state = move.state


@given(st.lists(st.sampled_from(Event), max_size=30))
def test_a_life_is_short(events: list[Event]) -> None:
    """However events repeat and overtake each other, no more than five moves come of them: no state comes twice."""
    state, seen = State.PENDING, [State.PENDING]
    for event in events:
        if move := step(state, event):
            state = move.state
            seen.append(state)
    assert len(seen) == len(set(seen)) <= 6


@pytest.mark.parametrize(
    ("failures", "initial", "limit", "waits"),
    [
        (0, 1.0, 300.0, 0.0),
        (1, 1.0, 300.0, 1.0),
        (2, 1.0, 300.0, 2.0),
        (9, 1.0, 300.0, 256.0),
        (10, 1.0, 300.0, 300.0),
        (1_000_000, 1.0, 300.0, 300.0),
        (5, 0.0, 300.0, 0.0),
        (3, 10.0, 0.0, 0.0),
    ],
)
def test_backoff(failures: int, initial: float, limit: float, waits: float) -> None:
    assert backoff_s(failures, initial, limit) == waits


def test_the_diagram_shows_every_move() -> None:
    lines = diagram().splitlines()
    arrows = [line for line in lines if " --> " in line]
    assert len(arrows) == 1 + len(TABLE) + len(TERMINAL)
    assert "    running --> preempting: preempt / requeue, stop" in lines
