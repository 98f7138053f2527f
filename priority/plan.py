"""`make_plan`: one scheduling round as a pure function from a Snapshot to a Plan.

The same Snapshot gives the same Plan, byte for byte, whatever the order in which its nodes and tasks came.
See `priority.mend` and `priority.round` for how a round goes, and `priority.certify` for what every Plan satisfies.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast, overload

from priority import strict
from priority.board import Board
from priority.fairness import Unit
from priority.herd import rule
from priority.mend import decide
from priority.reason import Reason
from priority.round import Round
from priority.snapshot import Snapshot
from priority.straight import Straight, straight
from priority.sweep import FEWEST, Sweep, sweep
from priority.waiting import why


@dataclass(frozen=True, slots=True)
class Placement:
    """A pending task and the node that it goes to."""

    task: str
    node: str


@dataclass(frozen=True, slots=True)
class Preemption:
    """The victim, where it runs, the pending task (reserved on that node) that may take it, and by which rule."""

    task: str
    node: str
    preemptor: str
    rule: int | None = None
    """1: of a higher tier than the preemptible one of the victim; 2: higher priority in the same role and tier."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A task that stays pending, and why."""

    task: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now. Every list is ordered by task id (code points)."""

    launch: tuple[Placement, ...] = ()
    reserve: tuple[Placement, ...] = ()
    preempt: tuple[Preemption, ...] = ()
    wait: tuple[Waiting, ...] = ()

    def document(self) -> dict[str, Any]:
        """Plain JSON in the shape of the contract."""
        return {
            "launch": [{"task": one.task, "node": one.node} for one in self.launch],
            "preempt": [{"task": one.task, "node": one.node, "for": one.preemptor} for one in self.preempt],
            "reserve": [{"task": one.task, "node": one.node} for one in self.reserve],
            "wait": [{"task": one.task, "reason": one.reason.plain()} for one in self.wait],
        }


class Launches(Sequence[Placement]):
    """Very many launches, by task: made into placements when somebody reads them. Behaves as the tuple of them."""

    def __init__(self, swept: Sweep) -> None:
        self._swept: Sweep | None = swept
        self._size = len(swept)
        self._made: tuple[Placement, ...] = ()

    def _all(self) -> tuple[Placement, ...]:
        if self._swept is not None:
            self._made = tuple(Placement(task, node) for task, node in self._swept.pairs())
            self._swept = None
        return self._made

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: int) -> Placement: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Placement, ...]: ...
    def __getitem__(self, index: int | slice) -> Placement | tuple[Placement, ...]:
        return self._all()[index]

    def __iter__(self) -> Iterator[Placement]:
        return iter(self._all())

    def __eq__(self, other: object) -> bool:
        return self._all() == (other._all() if isinstance(other, Launches) else other)

    def __hash__(self) -> int:
        return hash(self._all())

    def __add__(self, other: tuple[Placement, ...]) -> tuple[Placement, ...]:
        return self._all() + other

    def __radd__(self, other: tuple[Placement, ...]) -> tuple[Placement, ...]:
        return other + self._all()

    def __repr__(self) -> str:
        return repr(self._all())


def make_plan(snapshot: Snapshot, *, reasons: bool = True) -> Plan:
    """Decide one round. Pure: the snapshot stays as it is.

    Without `reasons` nobody is told why they wait: a third of the work in a crowd, where only the moves are wanted.
    """
    placed = straight(snapshot) if snapshot.waiting() < FEWEST else None
    if placed is not None:
        return _told(snapshot, placed)
    if snapshot.waiting() >= FEWEST and _all_fit(snapshot):
        swept = sweep(Board(snapshot), snapshot)
        if swept is not None:
            return Plan(launch=cast("tuple[Placement, ...]", Launches(swept)))
    decided = decide(snapshot)
    board = decided.board
    names = board.names
    spots = [board.spots[id] for id in sorted(board.spots)]
    victims = []
    for place, claim in board.killed.items():
        victim = board.herd.claims[place]
        node = names[int(board.herd.node[place])]
        victims.append(Preemption(victim.id, node, claim.id, rule(claim, victim, snapshot.tiers)))
    return Plan(
        launch=tuple(Placement(spot.claim.id, names[spot.node]) for spot in spots if spot.launch),
        reserve=tuple(Placement(spot.claim.id, names[spot.node]) for spot in spots if not spot.launch),
        preempt=tuple(sorted(victims, key=lambda one: one.task)),
        wait=_reasons(decided, decided.waiting) if reasons else _untold(decided.waiting),
    )


def _all_fit(snapshot: Snapshot) -> bool:
    """A quick no: somebody asks for more than any node has free."""
    planes = snapshot.settled()
    free = {name: int(planes.free(column).max(initial=0)) for column, name in enumerate(snapshot.axis())}
    return all(amount <= free[name] for request, _ in snapshot.kinds() for name, amount in request)


def _told(snapshot: Snapshot, found: Straight) -> Plan:
    spots = found.spots
    placed = [(Placement(task, spots[task][0]), spots[task][1]) for task in sorted(spots)]
    victims = []
    for victim in found.victims:
        taker = snapshot.task(placed[0][0].task)
        assert taker is not None
        victims.append(Preemption(victim.id, placed[0][0].node, taker.id, rule(taker, victim, snapshot.tiers)))
    return Plan(
        launch=tuple(one for one, now in placed if now),
        reserve=tuple(one for one, now in placed if not now),
        preempt=tuple(sorted(victims, key=lambda one: one.task)),
    )


_UNSAID = Reason("unsaid", "was not asked for")


def _untold(waiting: Sequence[Unit]) -> tuple[Waiting, ...]:
    ids = sorted(claim.id for unit in waiting for claim in unit.members)
    return tuple(Waiting(id, _UNSAID) for id in ids)


def _reasons(decided: Round, waiting: Sequence[Unit]) -> tuple[Waiting, ...]:
    known: dict[object, Reason] = {}
    found = []
    for unit in waiting:
        key = None if unit.gang is not None or decided.special(unit) else decided.kind(unit)
        if key in known:
            found.append(Waiting(unit.members[0].id, known[key]))
            continue
        for claim, reason in why(decided.board, unit):
            found.append(Waiting(claim.id, reason))
            if key is not None:
                known[key] = reason
    return tuple(sorted(found, key=lambda one: one.task))


def answer(text: str) -> str:
    """One snapshot in JSON in, one plan in one line of JSON out. `Malformed` or `Invalid`."""
    return json.dumps(make_plan(Snapshot.parse(strict.read(text))).document())
