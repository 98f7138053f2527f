"""Who is on nodes, in as little memory as will do: of a million tasks there are no million objects.

Of each task there are its id, and references to what it has in common with others, kept once for all of them: its
job, and its kind (tier, role, user, request, constraints, gang). Numbers are in the stock's columns. A `Claim`
is made of all that when somebody asks for one.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import compress

import numpy as np

from priority.claim import STATES, Claim
from priority.constraint import Constraint
from priority.resources import Resources

NOBODY = -1

KINDS_MIN = 1_024
"""With more kinds than this, those that nobody is of any more are forgotten each time that there are twice as many."""

Kind = tuple[str, str, str, tuple[Constraint, ...], str | None, int | None, Resources]
_Rest = tuple[str | None, tuple[int, ...], int | None]

_CODES = {state: code for code, state in enumerate(STATES, 1)}
_NOTHING: _Rest = (None, (), None)


class Roll:
    """By place: a number from 0 on, of which each is given anew once its task has left."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._jobs: list[str] = []
        self._kinds = array("i")
        """By number: places in the next one."""
        self._known: list[Kind] = []
        self._numbers: dict[object, int] = {}
        """Of those that are known; by the kind, its request in a form that can be compared."""
        self._kinds_max = KINDS_MIN
        self._states = bytearray()
        """By code; 0: nobody is there."""
        self._rest: dict[int, _Rest] = {}
        """What few have: for whom its room is kept, when it was preempted, when it will have ended."""
        self._places = _Places(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def enter(self, claim: Claim, place: int) -> None:
        """A task is there: at a place that is free, or at the first that never was given (`len`)."""
        kind = self._kind(claim)
        if place == len(self._ids):
            self._ids.append(claim.id)
            self._jobs.append(claim.job)
            self._kinds.append(kind)
            self._states.append(_CODES[claim.state])
        else:
            self._ids[place], self._jobs[place], self._kinds[place] = claim.id, claim.job, kind
            self._states[place] = _CODES[claim.state]
        rest = claim.kept_for, claim.preempted_us, claim.until_us
        if rest != _NOTHING:
            self._rest[place] = rest
        self._places.add(place)

    def leave(self, id: str) -> int:
        """A task is not there any more; answers where it was, `NOBODY` if nowhere. For `gone`, it still is there."""
        place = self._places.remove(id)
        if place >= 0:
            self._states[place] = 0
            if self._rest:
                self._rest.pop(place, None)
        return place

    def gone(self, place: int) -> tuple[str, Kind]:
        """The job and the kind of who was there last."""
        return self._jobs[place], self._known[self._kinds[place]]

    def place(self, id: str) -> int:
        """Where a task is; `NOBODY` if there is none of that id."""
        return self._places.find(id)

    def there(self, place: int) -> bool:
        """Whether somebody is at a place."""
        return self._states[place] > 0

    def id(self, place: int) -> str:
        """Whoever is there."""
        return self._ids[place]

    def jobs(self) -> Iterator[tuple[str, str]]:
        """Of each that is there its id and its job's name."""
        return compress(zip(self._ids, self._jobs, strict=True), self._states)

    def owner(self, place: int) -> tuple[str, str]:
        """The tier and role of whoever is there."""
        return self._known[self._kinds[place]][:2]

    def claim(self, place: int, node: str, priority: int, since_us: int) -> Claim:
        """Whoever is there, with what the roll does not know."""
        tier, role, user, constraints, gang, at_once, request = self._known[self._kinds[place]]
        return Claim(
            self._ids[place],
            self._jobs[place],
            role,
            user,
            tier,
            priority,
            request,
            STATES[self._states[place] - 1],
            node,
            since_us,
            constraints,
            gang,
            *self._rest.get(place, _NOTHING)[:2],
            at_once,
            self._rest.get(place, _NOTHING)[2],
        )

    def _kind(self, claim: Claim) -> int:
        kind = claim.tier, claim.role, claim.user, claim.constraints, claim.gang, claim.at_once
        key = *kind, *claim.request.items()
        number = self._numbers.get(key)
        if number is None:
            if len(self._known) >= self._kinds_max:
                self._forget()
            number = self._numbers[key] = len(self._known)
            self._known.append((*kind, claim.request))
        return number

    def _forget(self) -> None:
        """Number anew the kinds that somebody is of, and forget the others."""
        used, kinds = np.unique(np.array(self._kinds, np.int32), return_inverse=True)
        numbers = {old: new for new, old in enumerate(used.tolist())}
        self._known = [self._known[old] for old in numbers]
        self._numbers = {key: numbers[old] for key, old in self._numbers.items() if old in numbers}
        self._kinds = array("i", kinds.astype(np.int32).tobytes())
        self._kinds_max = max(KINDS_MIN, 2 * len(self._known))


class _Places:
    """Where each id is: places in chains, so many chains as places. A dict and its numbers take eight times as much."""

    def __init__(self, ids: list[str]) -> None:
        self._ids = ids
        self._first = array("i", [NOBODY]) * 16
        """Of each chain."""
        self._next = array("i")
        """By place: the one behind it in its chain."""
        self._count = 0

    def find(self, id: str) -> int:
        ids, behind = self._ids, self._next
        place = self._first[hash(id) & (len(self._first) - 1)]
        while place >= 0 and ids[place] != id:
            place = behind[place]
        return place

    def add(self, place: int) -> None:
        if place == len(self._next):
            self._next.append(NOBODY)
        if self._count == len(self._first):
            self._lengthen()
        chain = hash(self._ids[place]) & (len(self._first) - 1)
        self._next[place], self._first[chain] = self._first[chain], place
        self._count += 1

    def remove(self, id: str) -> int:
        ids, behind = self._ids, self._next
        chain = hash(id) & (len(self._first) - 1)
        before, place = NOBODY, self._first[chain]
        while place >= 0 and ids[place] != id:
            before, place = place, behind[place]
        if place >= 0:
            if before == NOBODY:
                self._first[chain] = behind[place]
            else:
                behind[before] = behind[place]
            self._count -= 1
        return place

    def _lengthen(self) -> None:
        """Twice as many chains, all at once."""
        ids, size = self._ids, 2 * len(self._first)
        there = self._all()
        chains = np.fromiter((hash(ids[place]) for place in there.tolist()), np.int64, len(there)) & (size - 1)
        order = np.argsort(chains, kind="stable")
        there, chains = there[order], chains[order]
        again = chains[1:] == chains[:-1]
        behind = np.full(len(self._next), NOBODY, np.int32)
        behind[there[:-1][again]] = there[1:][again]
        first = np.full(size, NOBODY, np.int32)
        heads = np.concatenate(([True], ~again))
        first[chains[heads]] = there[heads]
        self._first, self._next = array("i", first.tobytes()), array("i", behind.tobytes())

    def _all(self) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        """Every place that is in a chain: the first ones, and step by step those behind them."""
        behind = np.array(self._next, np.int32)
        some = np.array(self._first, np.int32)
        found = []
        while len(some := some[some >= 0]):
            found.append(some)
            some = behind[some]
        return np.concatenate(found)
