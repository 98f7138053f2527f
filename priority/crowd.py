"""How many of the tasks that wait alike a round has to look at: as few as it takes to see that there is no room.

Tasks that are alike in all but their age are a kind. The engine takes them in the order of their age, and when one
of them finds no room, those behind it find none either. So only the oldest of a kind are shown, and as long as
one of those shown is left waiting, the plan is the one that a look at all of them would have given. If all that are
shown find room, more are shown and the round is made again (`short`).

A kind of which one was refused sleeps: it is not shown again until something has happened that may help it (`wake`).
What may is for the owner to say: see `simulate`. Only those for whom room is kept stay awake (`held`): a plan
that does not see them would give that room away.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from types import MappingProxyType

from priority.claim import Claim
from priority.reading import RoleRules

Key = tuple[Hashable, ...]

SHOWN = 1
"""Of each kind at first: most rounds of a simulation have room for one."""


def kind_of(claim: Claim, user: str | None) -> Key:
    """What tasks that are alike to the engine have in common; `user` only where that has a quota of its own."""
    limited = any(one.limit is not None for one in claim.constraints)
    request = tuple(sorted(claim.request.items()))
    job = claim.job if limited else None  # a limit counts the tasks of one job
    return claim.role, user, claim.tier, claim.priority, request, claim.constraints, job


@dataclass(slots=True)
class Kind:
    """The tasks of one kind that wait."""

    shown: dict[str, Claim] = field(default_factory=dict)
    hidden: list[tuple[int, str, Claim]] = field(default_factory=list)
    last: tuple[int, str] = (-(2**63), "")
    """No shown one is younger."""
    size: int = SHOWN
    refused: tuple[int, str] | None = None
    """The oldest that the last plan that looked at the kind left waiting; None: anybody may find room anywhere."""

    _oldest: Claim | None = None

    @property
    def oldest(self) -> Claim:
        """Whose turn comes first."""
        if self._oldest is None:
            self._oldest = min(self.shown.values(), key=_age)
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

    def first(self, held: Collection[str]) -> Claim | None:
        """Whose turn comes first of those that are not held."""
        if self.shown.keys().isdisjoint(held):
            return self.oldest
        left = [claim for id, claim in self.shown.items() if id not in held]
        if left:
            return min(left, key=_age)
        return self.hidden[0][2] if self.hidden else None


_GANG = "gang"


def _age(claim: Claim) -> tuple[int, str]:
    return claim.since_us, claim.id


class Crowd:
    """Everybody who waits."""

    def __init__(self, shown: int = SHOWN, roles: Mapping[str, RoleRules] = MappingProxyType({})) -> None:
        self.kinds: dict[Key, Kind] = {}
        self.awake: dict[Key, Kind] = {}
        """Those that the next round looks at, all that is shown of them."""
        self.held: dict[str, Claim] = {}
        """For whom the last plan keeps room that is coming: the next round looks at them in any case."""
        self._size = shown
        self._roles = roles
        self._kind: dict[str, Key] = {}

    def enter(self, claim: Claim) -> bool:
        """A task begins to wait; whether it may find room while nothing else changes."""
        key = kind_of(claim, self._capped(claim))
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

    def _capped(self, claim: Claim) -> str | None:
        """The user, if there is a quota of this very one."""
        rules = self._roles.get(claim.role)
        return claim.user if rules is not None and claim.tier in rules.users.get(claim.user, {}) else None

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
        self.held.pop(id, None)
        kind.drop(id)
        self._fill(key, kind)
        if not kind.shown:
            del self.kinds[key]
            self.awake.pop(key, None)

    def wake(self, concerned: Callable[[Claim], bool] | None = None) -> bool:
        """Look anew at the kinds that something concerns, or at all; whether there are any."""
        found = [key for key, kind in self.kinds.items() if concerned is None or concerned(kind.oldest)]
        self.rouse(found)
        for key in found:
            self.kinds[key].refused = None
        return bool(found)

    def rouse(self, keys: Iterable[Key]) -> None:
        """Look again at these kinds, and at more of those that are looked at."""
        for key in keys:
            kind = self.kinds[key]
            if key in self.awake:
                self._more(key, kind)
            self.awake[key] = kind

    def call(self, key: Key, claim: Claim) -> None:
        """Look again at a kind, down to this one of it: the oldest that is not shown, or a shown one."""
        kind = self.kinds[key]
        if claim.id not in kind.shown:
            kind.size = max(kind.size, len(kind.shown) + 1)
            self._fill(key, kind)
        self.awake[key] = kind

    def after(self, key: Key, claim: Claim) -> Claim | None:
        """Who of a kind comes next after this one, which is shown."""
        kind = self.kinds[key]
        younger = [one for one in kind.shown.values() if _age(one) > _age(claim) and one.id not in self.held]
        if younger:
            return min(younger, key=_age)
        return kind.hidden[0][2] if kind.hidden else None

    def sleepers(self) -> Iterator[tuple[Key, Claim]]:
        """The oldest of each kind that the next round does not look at."""
        for key, kind in self.kinds.items():
            if key not in self.awake:
                claim = kind.first(self.held) if self.held else kind.oldest
                if claim is not None:
                    yield key, claim

    def behind(self, waiting: Set[str]) -> Iterator[tuple[Key, Claim]]:
        """Of each kind the oldest that a plan that leaves these waiting has not looked at, and that had been refused
        before.
        """
        yield from self.sleepers()
        for key, kind in self.awake.items():
            if kind.refused is not None and kind.hidden and waiting.isdisjoint(kind.shown):
                yield key, kind.hidden[0][2]

    def shown(self) -> Iterator[Claim]:
        """What the next round looks at."""
        for kind in self.awake.values():
            yield from kind.shown.values()
        yield from (claim for id, claim in self.held.items() if self._kind[id] not in self.awake)

    def short(self, waiting: Set[str]) -> bool:
        """Whether a plan that leaves these waiting looked at too few; then more are shown, and another is due."""
        some = [
            (key, kind)
            for key, kind in self.awake.items()
            if kind.refused is None and kind.hidden and waiting.isdisjoint(kind.shown)
        ]
        for key, kind in some:
            self._more(key, kind)
        return bool(some)

    def settle(self, waiting: Set[str], kept: Collection[str]) -> list[Claim]:
        """A plan stands that leaves these waiting and keeps room that is coming for some; what is not shown now."""
        asleep: list[Claim] = []
        for id, claim in self.held.items():
            kind = self.kinds[self._kind[id]]
            if id in waiting and self._kind[id] not in self.awake:
                kind.refused = min(kind.refused or _age(claim), _age(claim))
                asleep.append(claim)
        self.held = {id: self.kinds[self._kind[id]].shown[id] for id in kept}
        for key, kind in list(self.awake.items()):
            kind.size = self._size
            refused = sorted((_age(claim) for id, claim in kind.shown.items() if id in waiting), reverse=True)
            again = refused[-1] if refused else kind.hidden[0][:2] if kind.hidden else None
            kind.refused = again
            if again is not None:
                del self.awake[key]
                asleep.extend(claim for id, claim in kind.shown.items() if id not in kept)
                if key[:1] != (_GANG,):
                    self._draw_back(kind, refused[: -kind.size])
        return asleep

    def _draw_back(self, kind: Kind, refused: Sequence[tuple[int, str]]) -> None:
        """Show these no longer: the youngest of a kind, the youngest first."""
        for age in refused:
            _, id = age
            if age != max(map(_age, kind.shown.values())):
                break  # room is kept for a younger one
            heapq.heappush(kind.hidden, (*age, kind.shown[id]))
            kind.drop(id)
            del self._kind[id]
            kind.last = max(map(_age, kind.shown.values()))

    def _more(self, key: Key, kind: Kind) -> None:
        kind.size *= 4
        self._fill(key, kind)

    def _fill(self, key: Key, kind: Kind) -> None:
        while kind.hidden and len(kind.shown) < kind.size:
            self._show(key, kind, heapq.heappop(kind.hidden)[2])

    def _show(self, key: Key, kind: Kind, claim: Claim) -> None:
        self._kind[claim.id] = key
        kind.show(claim)
