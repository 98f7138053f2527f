"""How many of the tasks that wait alike a round has to look at: as few as it takes to see that there is no room.

Tasks that are alike in all but their age are a kind. The engine takes them in the order of their age, and when one
of them finds no room, those behind it find none either. So only the oldest of a kind are shown, and as long as
one of those shown is left waiting, the plan is the one that a look at all of them would have given. If all that are
shown find room, more are shown and the round is made again (`short`).

A kind of which all were refused sleeps: it is not shown again until something has happened that may help it (`wake`).
What may is for the owner to say: see `simulate`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from dataclasses import dataclass, field

from priority.claim import Claim

SHOWN = 2
"""Of each kind at first: most rounds of a simulation have room for one, and the next one is then refused."""


def kind_of(claim: Claim) -> Hashable:
    """What tasks that are alike to the engine have in common."""
    limited = any(one.limit is not None for one in claim.constraints)
    request = tuple(sorted(claim.request.items()))
    job = claim.job if limited else None  # a limit counts the tasks of one job
    return claim.role, claim.user, claim.tier, claim.priority, request, claim.constraints, job


@dataclass(slots=True)
class Kind:
    """The tasks of one kind that wait."""

    shown: dict[str, Claim] = field(default_factory=dict)
    hidden: list[tuple[int, str, Claim]] = field(default_factory=list)
    last: tuple[int, str] = (-(2**63), "")
    """No shown one is younger."""
    size: int = SHOWN
    refused: tuple[int, str] | None = None
    """The oldest that the last plan that looked at the kind left waiting."""

    _oldest: Claim | None = None

    @property
    def oldest(self) -> Claim:
        """Whose turn comes first."""
        if self._oldest is None:
            self._oldest = min(self.shown.values(), key=lambda claim: (claim.since_us, claim.id))
        return self._oldest

    def show(self, claim: Claim) -> None:
        """One more."""
        self.shown[claim.id] = claim
        self.last = max(self.last, (claim.since_us, claim.id))
        self._oldest = None

    def drop(self, id: str) -> None:
        """One less."""
        del self.shown[id]
        self._oldest = None


_GANG = "gang"


class Crowd:
    """Everybody who waits."""

    def __init__(self, shown: int = SHOWN) -> None:
        self.kinds: dict[Hashable, Kind] = {}
        self.awake: dict[Hashable, Kind] = {}
        """Those that the next round looks at."""
        self._size = shown
        self._kind: dict[str, Hashable] = {}

    def enter(self, claim: Claim) -> bool:
        """A task begins to wait; whether it may find room while nothing else changes."""
        key = kind_of(claim)
        kind = self.kinds.get(key)
        if kind is None:
            kind = self.kinds[key] = Kind(size=self._size)
        age = (claim.since_us, claim.id)
        hope = kind.refused is None or age < kind.refused
        if (len(kind.shown) < kind.size and not kind.hidden) or age < kind.last:
            self._show(key, kind, claim)
        else:
            heapq.heappush(kind.hidden, (*age, claim))
        if hope:
            self.awake[key] = kind
        return hope

    def enter_gang(self, claims: Iterable[Claim]) -> None:
        """Members that start together or not at all: a kind of their own."""
        for claim in claims:
            key = _GANG, claim.gang
            kind = self.kinds.setdefault(key, Kind(size=self._size))
            self._show(key, kind, claim)
            self.awake[key] = kind

    def leave(self, id: str) -> None:
        """A shown task waits no longer."""
        key = self._kind.pop(id)
        kind = self.kinds[key]
        kind.drop(id)
        self._fill(key, kind)
        if not kind.shown:
            del self.kinds[key]
            self.awake.pop(key, None)

    def wake(self, concerned: Callable[[Claim], bool] | None = None) -> bool:
        """Look again at the kinds that something concerns, or at all; whether there are any."""
        found = [key for key, kind in self.kinds.items() if concerned is None or concerned(kind.oldest)]
        self.rouse(found)
        return bool(found)

    def rouse(self, keys: Iterable[Hashable]) -> None:
        """Look again at these kinds."""
        self.awake.update((key, self.kinds[key]) for key in keys)

    def sleepers(self) -> Iterator[tuple[Hashable, Claim]]:
        """The oldest of each kind that the next round does not look at."""
        for key, kind in self.kinds.items():
            if key not in self.awake:
                yield key, kind.oldest

    def shown(self) -> Iterator[Claim]:
        """What the next round looks at."""
        for kind in self.awake.values():
            yield from kind.shown.values()

    def short(self, waiting: Collection[str]) -> bool:
        """Whether a plan that leaves these waiting looked at too few; then more are shown, and another is due."""
        more = False
        for key, kind in self.awake.items():
            if kind.hidden and not any(id in waiting for id in kind.shown):
                kind.size *= 4
                self._fill(key, kind)
                more = True
        return more

    def settle(self, waiting: Collection[str], kept: Collection[str]) -> list[Claim]:
        """A plan stands that leaves these waiting and keeps room that is coming for some; what is not shown now."""
        asleep: list[Claim] = []
        for key, kind in list(self.awake.items()):
            kind.size = self._size
            ages = [(claim.since_us, claim.id) for claim in kind.shown.values() if claim.id in waiting]
            kind.refused = min(ages, default=None)
            if ages and not any(id in kept for id in kind.shown):
                del self.awake[key]
                asleep.extend(kind.shown.values())
        return asleep

    def _fill(self, key: Hashable, kind: Kind) -> None:
        while kind.hidden and len(kind.shown) < kind.size:
            self._show(key, kind, heapq.heappop(kind.hidden)[2])

    def _show(self, key: Hashable, kind: Kind, claim: Claim) -> None:
        self._kind[claim.id] = key
        kind.show(claim)
