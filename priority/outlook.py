"""Whom a change may help, for a simulation: who could have room on a node, and whose turn was before whose.

What is said here may be too hopeful (constraints, limits, ceilings and what is kept are not looked at), never too
gloomy: whom it leaves out the engine would have refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from fractions import Fraction

from priority.claim import DYING, Claim
from priority.fairness import Shares
from priority.herd import rule
from priority.resources import Resources, minus, total
from priority.snapshot import Snapshot

Share = Fraction | int
Turn = tuple[int, Share, int, int, str]
"""(-rank, share, -priority, since, id): the less, the earlier its turn."""


class Order:
    """Who had a turn before whom in a round that gave room to these."""

    def __init__(self, snapshot: Snapshot, arrivals: Sequence[Claim]) -> None:
        self._ranks = {name: tier.rank for name, tier in snapshot.tiers.items()}
        self._first = shares = Shares(snapshot)
        self._steps: list[tuple[Turn, dict[str, Share]]] = []
        """Of each that is given room, in their order: its turn, and all shares that have grown until then."""
        self.place: dict[str, int] = {}
        self._known: dict[str, int] = {}
        grown: dict[str, Share] = {}
        left = list(arrivals)
        if len(left) > 1:
            shares = Shares(snapshot)
        while left:
            # those whom a round leaves waiting do not change the order of the others
            turn, claim = min(((self._turn(one, shares), one) for one in left), key=lambda pair: pair[0])
            left.remove(claim)
            self.place[claim.id] = len(self._steps)
            self._steps.append((turn, dict(grown)))
            if left:
                shares.give([claim])
                grown[claim.role] = shares.of(claim.role)

    def first(self, claim: Claim) -> Turn:
        """As things stand before the round."""
        return self._turn(claim, self._first)

    def before(self, claim: Claim) -> int:
        """How many of those that are given room have their turn before a task that waits."""
        found = self._known.get(claim.id)
        if found is None:
            rank, share, *rest = self.first(claim)
            steps = enumerate(self._steps)
            places = (at for at, (turn, grown) in steps if (rank, grown.get(claim.role, share), *rest) < turn)
            found = self._known[claim.id] = next(places, len(self._steps))
        return found

    def _turn(self, claim: Claim, shares: Shares) -> Turn:
        return -self._ranks[claim.tier], shares.of(claim.role), -claim.priority, claim.since_us, claim.id


def fits_on(
    snapshot: Snapshot,
    name: str,
    victims: Collection[str] = (),
    coming: Sequence[Claim] = (),
    order: Order | None = None,
) -> Callable[[Claim], bool]:
    """Whether a task has room on a node once these victims are gone, all that dies there, and all that it may take;
    beside that which comes there and has its turn before it.
    """
    node = snapshot.node(name)
    assert node is not None
    capacity, tiers = node.capacity, snapshot.tiers
    there = [one for one in snapshot.tasks_on(name) if one.state not in DYING and one.id not in victims]
    rooms: dict[tuple[str, str, int], Resources] = {}

    def fits(claim: Claim) -> bool:
        key = claim.tier, claim.role, claim.priority
        room = rooms.get(key)
        if room is None:
            stay = [other.request for other in there if rule(claim, other, tiers) is None]
            stay += [other.request for other in coming if tiers[other.tier].rank > tiers[claim.tier].rank]
            room = rooms[key] = minus(capacity, total(stay))
        if not _within(claim.request, room):
            return False
        if order is None or not coming:
            return True
        rank, turn = tiers[claim.tier].rank, order.before(claim)
        equals = (one for one in coming if tiers[one.tier].rank <= rank)
        ahead = [one.request for one in equals if order.place[one.id] < turn]
        return not ahead or _within(claim.request, minus(room, total(ahead)))

    return fits


def _within(request: Resources, room: Resources) -> bool:
    for name, amount in request.items():  # noqa: SIM110 - asked very often, and a loop is quicker
        if room.get(name, 0) < amount:
            return False
    return True
