"""How many of the tasks that wait alike a round has to look at: as few as it takes to see that there is no room.

Tasks that are alike in all but their age are a kind. The engine takes them in the order of their age, and when one
of them finds no room, those behind it find none either. So only the oldest of a kind are shown, and as long as
one of those shown is left waiting, the plan is the one that a look at all of them would have given. If all that are
shown find room, more are shown and the round is made again (`short`).
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Hashable, Iterable, Iterator
from dataclasses import dataclass, field

from priority.claim import Claim

SHOWN = 4
"""Of each kind at first: most rounds of a simulation have room for one or two."""


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
    """The oldest that the last plan left waiting."""

    @property
    def sample(self) -> Claim:
        """One of those shown."""
        return next(iter(self.shown.values()))


class Crowd:
    """Every single task that waits. What it answers is to be put into the snapshot at once."""

    def __init__(self, shown: int = SHOWN) -> None:
        self.kinds: dict[Hashable, Kind] = {}
        self._shown = shown
        self._kind: dict[str, Hashable] = {}

    def enter(self, claim: Claim) -> tuple[list[Claim], bool]:
        """A task begins to wait: what is to be shown now, and whether it may find room while nothing else changes."""
        key = kind_of(claim)
        kind = self.kinds.get(key)
        if kind is None:
            kind = self.kinds[key] = Kind(size=self._shown)
        age = (claim.since_us, claim.id)
        hopeless = kind.refused is not None and age > kind.refused
        if (len(kind.shown) < kind.size and not kind.hidden) or age < kind.last:
            self._kind[claim.id] = key
            self._show(kind, claim)
            return [claim], not hopeless
        heapq.heappush(kind.hidden, (*age, claim))
        return [], not hopeless

    def leave(self, id: str) -> list[Claim]:
        """A shown task waits no longer; those that are to be shown in its place."""
        key = self._kind.pop(id, None)
        if key is None:
            return []
        kind = self.kinds[key]
        del kind.shown[id]
        more = list(self._fill(key, kind))
        if not kind.shown:
            del self.kinds[key]
        return more

    def refuse(self, waiting: Iterable[str]) -> None:
        """What the last plan left waiting."""
        for kind in self.kinds.values():
            kind.refused = None
        for id in waiting:
            key = self._kind.get(id)
            if key is not None:
                kind = self.kinds[key]
                age = (kind.shown[id].since_us, id)
                if kind.refused is None or age < kind.refused:
                    kind.refused = age

    def short(self, waiting: Collection[str]) -> list[Claim]:
        """What is to be shown besides, before a plan that leaves these waiting may be carried out; none: it may."""
        more: list[Claim] = []
        for key, kind in self.kinds.items():
            if kind.hidden and not any(id in waiting for id in kind.shown):
                kind.size *= 4
                more.extend(self._fill(key, kind))
        return more

    def settle(self) -> None:
        """A plan stands: from now on few are shown again."""
        for kind in self.kinds.values():
            kind.size = self._shown

    def _fill(self, key: Hashable, kind: Kind) -> Iterator[Claim]:
        while kind.hidden and len(kind.shown) < kind.size:
            claim = heapq.heappop(kind.hidden)[2]
            self._kind[claim.id] = key
            self._show(kind, claim)
            yield claim

    @staticmethod
    def _show(kind: Kind, claim: Claim) -> None:
        kind.shown[claim.id] = claim
        kind.last = max(kind.last, (claim.since_us, claim.id))
