"""Whom a change may help, for a simulation: who could have room on a node, and whose turn was before whose.

What is said here may be too hopeful (constraints, limits, ceilings and what is kept are not looked at), never too
gloomy: whom it leaves out the engine would have refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TypeVar

from priority.claim import DYING, Claim
from priority.fairness import Share, Shares
from priority.herd import rule
from priority.resources import Resources
from priority.snapshot import Snapshot

T = TypeVar("T")
_Power = tuple[str, str, int]
"""Tier, role, priority."""
Turn = tuple[int, Share, int, int, str]
"""(-rank, share, -priority, since, id): the less, the earlier its turn."""


class Order:
    """Who had a turn before whom in a round that gave room to these."""

    def __init__(self, snapshot: Snapshot, arrivals: Sequence[Claim]) -> None:
        self._snapshot, self._arrivals = snapshot, arrivals
        self._ranks = {name: tier.rank for name, tier in snapshot.tiers.items()}
        self._first = Shares(snapshot)
        self._known: dict[str, int] = {}
        self._told: tuple[list[tuple[Turn, dict[str, Share]]], dict[str, int]] | None = None

    def _steps(self) -> tuple[list[tuple[Turn, dict[str, Share]]], dict[str, int]]:
        """Of each that is given room, in their order: its turn, and all shares that have grown until then; and by task
        which step is its own. Made when somebody asks.
        """
        if self._told is not None:
            return self._told
        steps: list[tuple[Turn, dict[str, Share]]] = []
        place: dict[str, int] = {}
        grown: dict[str, Share] = {}
        left = list(self._arrivals)
        shares = Shares(self._snapshot)
        while left:
            # those whom a round leaves waiting do not change the order of the others
            turn, claim = min(((self._turn(one, shares), one) for one in left), key=lambda pair: pair[0])
            left.remove(claim)
            place[claim.id] = len(steps)
            steps.append((turn, dict(grown)))
            if left:
                shares.give([claim])
                grown[claim.role] = shares.of(claim.role)
        self._told = steps, place
        return self._told

    def place(self, claim: Claim) -> int:
        """Which turn it is of those that are given room."""
        return self._steps()[1][claim.id]

    def first(self, claim: Claim) -> Turn:
        """As things stand before the round."""
        return self._turn(claim, self._first)

    def now(self, claim: Claim) -> Turn:
        """With what `give` has counted since."""
        return self._turn(claim, self._first)

    def give(self, claim: Claim) -> None:
        """A task is given room: from now on `first` is no longer as things were before the round."""
        self._first.give([claim])

    def before(self, claim: Claim) -> int:
        """How many of those that are given room have their turn before a task that waits."""
        found = self._known.get(claim.id)
        if found is None:
            rank, share, *rest = self.first(claim)
            steps, _ = self._steps()
            turns = enumerate(steps)
            places = (at for at, (turn, grown) in turns if (rank, grown.get(claim.role, share), *rest) < turn)
            found = self._known[claim.id] = next(places, len(steps))
        return found

    def _turn(self, claim: Claim, shares: Shares) -> Turn:
        return -self._ranks[claim.tier], shares.of(claim.role), -claim.priority, claim.since_us, claim.id


class Held:
    """What is on a node and does not die there, added up by who may take it; until something changes there."""

    __slots__ = ("free", "groups")

    def __init__(self, snapshot: Snapshot, name: str) -> None:
        node = snapshot.node(name)
        assert node is not None
        self.free: Resources = dict(node.capacity)
        """Beside all that."""
        self.groups: dict[_Power, tuple[Claim, Resources]] = {}
        """One of each, and what all of them hold."""
        for one in snapshot.tasks_on(name):
            if one.state not in DYING:
                _take(self.free, one.request, 1)
                group = self.groups.setdefault((one.tier, one.role, one.priority), (one, {}))
                _take(group[1], one.request, -1)

    def without(self, victims: Collection[Claim]) -> Held:
        """The same once these are gone."""
        left = Held.__new__(Held)
        left.free, left.groups = dict(self.free), dict(self.groups)
        for one in victims:
            power = one.tier, one.role, one.priority
            some, held = left.groups[power]
            left.groups[power] = some, dict(held)
            _take(left.groups[power][1], one.request, 1)
            _take(left.free, one.request, -1)
        return left


class Outlook:
    """Whether tasks have room on a node once these victims are gone, all that dies there, and all that each may take;
    beside that which is `coming` there and has its turn before it.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        held: Held,
        victims: Collection[Claim] = (),
        coming: Sequence[Claim] = (),
        order: Order | None = None,
    ) -> None:
        there = held.without(victims) if victims else held
        self._tiers = snapshot.tiers
        self._there = there.groups.values()
        self._coming, self._order = coming, order
        self._free = there.free
        """Beside all that stays; not to be changed."""
        self._rooms: dict[_Power, Resources] = {}
        self._equals: dict[int, list[Claim]] = {}
        """By rank, of what is coming all that is not above it."""

    def fits(self, claim: Claim) -> bool:
        """Whether one has."""
        return bool(self.among([(claim, claim)]))

    def among(self, claims: Iterable[tuple[T, Claim]]) -> list[tuple[T, Claim]]:
        """Those who have."""
        rooms, found = self._rooms, []
        for pair in claims:
            claim = pair[1]
            key = claim.tier, claim.role, claim.priority
            room = rooms.get(key)
            if room is None:
                room = rooms[key] = self._room(claim)
            for name, amount in claim.request.items():
                if amount > room.get(name, 0):
                    break
            else:
                if not self._coming or self._order is None or self._beside(claim, room, self._order):
                    found.append(pair)
        return found

    def narrow(self) -> None:
        """From now on all that comes there is ahead of everybody: how it probably is."""
        self._free = dict(self._free)
        for one in self._coming:
            _take(self._free, one.request, 1)
        self._coming = ()
        self._rooms.clear()

    def goes_on(self, claim: Claim) -> bool:
        """Whether it is known what room is left beside a task that comes here if it can: no victims are needed."""
        if not self.fits(claim):
            return True
        if any(self._free.get(name, 0) < amount for name, amount in claim.request.items()):
            return False
        self._free = dict(self._free)
        for room in (self._free, *self._rooms.values()):
            _take(room, claim.request, 1)
        return True

    def _room(self, claim: Claim) -> Resources:
        """Of all that it may take, less what comes for those who are above it."""
        room, tiers = dict(self._free), self._tiers
        for other, held in self._there:
            if rule(claim, other, tiers) is not None:
                _take(room, held, -1)
        rank = tiers[claim.tier].rank
        for other in self._coming:
            if tiers[other.tier].rank > rank:
                _take(room, other.request, 1)
        return room

    def _beside(self, claim: Claim, room: Resources, order: Order) -> bool:
        """The same, less what comes for its equals whose turn is before its own."""
        tiers = self._tiers
        rank = tiers[claim.tier].rank
        equals = self._equals.get(rank)
        if equals is None:
            equals = self._equals[rank] = [one for one in self._coming if tiers[one.tier].rank <= rank]
        if not equals:
            return True
        left = dict(room)
        for one in equals:
            _take(left, one.request, 1)
        if all(left[name] >= amount for name, amount in claim.request.items()):
            return True
        turn = order.before(claim)
        for one in equals:
            if order.place(one) >= turn:
                _take(left, one.request, -1)
        return all(left[name] >= amount for name, amount in claim.request.items())


def _take(room: Resources, request: Resources, sign: int) -> None:
    for name, amount in request.items():
        room[name] = room.get(name, 0) - sign * amount
