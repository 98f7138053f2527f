"""What an agent of a Mesos cluster has room for, as far as we are told: our tasks, offers that we hold, and room that
we gave back or that our dead have left, which has not been offered again yet (we *believe* in it for a while).

Their sum is what the engine sees as the node's capacity. It stays the same while room moves from the one to the other,
so a task is placed on room that is about to come and is launched from the next offer; what other frameworks hold is
never in it. Amounts are held units (see `priority.resources`). Nothing here acts: `priority.backend.mesos` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from priority.resources import AMOUNT_MAX, MEBIBYTES, NAME, THOUSANDTHS, Resources, minus, positive, total

PORTS = "ports"
Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of one resource of an offer."""

    name: str
    amount: int
    """Held units; of a resource of ranges, how many numbers."""
    template: Mapping[str, Any]
    """The resource as it was offered, but for its value: role, reservations, who it is allocated to."""
    ranges: Ranges | None = None

    @property
    def reserved(self) -> bool:
        """Whether it is kept for our role."""
        return bool(self.template.get("reservations"))

    @property
    def role(self) -> str:
        """For which it is kept; empty: for nobody."""
        reservations = self.template.get("reservations") or ()
        return str(reservations[-1].get("role", "")) if reservations else ""

    def part(self, amount: int) -> tuple[Piece, Piece]:
        """So much of it, and the rest."""
        if self.ranges is None:
            taken: Ranges | None = None
            rest: Ranges | None = None
        else:
            taken, rest = _split(self.ranges, amount)
        return (
            Piece(self.name, amount, self.template, taken),
            Piece(self.name, self.amount - amount, self.template, rest),
        )

    def plain(self) -> dict[str, Any]:
        """As Mesos wants it."""
        if self.ranges is not None:
            return {**self.template, "ranges": {"range": [{"begin": low, "end": high} for low, high in self.ranges]}}
        value = self.amount / 1000 if self.name in THOUSANDTHS else float(self.amount)
        return {**self.template, "scalar": {"value": value}}


@dataclass(frozen=True, slots=True)
class Offer:
    """Room on an agent, ours to accept until it is rescinded."""

    id: str
    agent: str
    host: str
    port: int
    attributes: Mapping[str, str]
    pieces: tuple[Piece, ...]
    revocable: tuple[Piece, ...] = ()
    """What may be taken back at any time; not in `pieces`."""
    leaves_us: int | None = None
    """When its agent goes down for maintenance, if that is announced."""

    @property
    def amounts(self) -> Resources:
        """All of it."""
        return amounts_of(self.pieces)


def amounts_of(pieces: Iterable[Piece]) -> Resources:
    """Their sum."""
    return total({piece.name: piece.amount} for piece in pieces)


class Pot:
    """Pieces that are handed out bit by bit, reserved ones first."""

    def __init__(self, pieces: Iterable[Piece], shape: Callable[[Piece], Piece] = lambda piece: piece) -> None:
        self.left: Resources = {}
        """So much is in it."""
        self._piles: dict[str, list[Piece]] = {}
        self._made: dict[tuple[int, int], Piece] = {}
        """Parts of scalars, by template and amount: many tasks ask the same."""
        self._top: dict[str, int] = {}
        """Of a scalar's last piece, how much is left."""
        for piece in sorted(pieces, key=lambda piece: not piece.reserved)[::-1]:
            self._piles.setdefault(piece.name, []).append(shape(piece))
            self.left[piece.name] = self.left.get(piece.name, 0) + piece.amount
        for name, pile in self._piles.items():
            self._top[name] = pile[-1].amount

    def take(self, request: Mapping[str, int]) -> tuple[Piece, ...] | None:
        """The request; None, and nothing is taken, if that is more than there is."""
        left = self.left
        if any(amount > left.get(name, 0) for name, amount in request.items()):
            return None
        taken: list[Piece] = []
        for name, amount in request.items():
            if amount > 0:
                left[name] -= amount
                self._take(name, amount, taken)
        return tuple(taken)

    def _take(self, name: str, amount: int, taken: list[Piece]) -> None:
        pile = self._piles[name]
        while amount:
            piece, top = pile[-1], self._top[name]
            mine = min(amount, top)
            if piece.ranges is not None and mine < top:
                part, pile[-1] = piece.part(mine)
                taken.append(part)
            else:
                taken.append(piece if mine == piece.amount else self._part(piece, mine))
            amount -= mine
            self._top[name] = top - mine
            if mine == top:
                pile.pop()
                self._top[name] = pile[-1].amount if pile else 0

    def _part(self, piece: Piece, amount: int) -> Piece:
        key = id(piece.template), amount
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = Piece(piece.name, amount, piece.template)
        return found

    @property
    def rest(self) -> list[Piece]:
        """What is left in it."""
        found = []
        for name, pile in self._piles.items():
            if pile:
                top = pile[-1]
                found += pile[:-1]
                found.append(top if top.amount == self._top[name] else Piece(name, self._top[name], top.template))
        return found


def reserve(piece: Piece, role: str, principal: str | None) -> Piece:
    """The same, kept for our role. One that is kept already is left as it is."""
    if piece.reserved:
        return piece
    kept = {"type": "DYNAMIC", "role": role} | ({"principal": principal} if principal else {})
    return Piece(piece.name, piece.amount, {**piece.template, "reservations": [kept]}, piece.ranges)


def merged(pieces: Iterable[Piece]) -> list[Piece]:
    """The same room in as few pieces as it takes: amounts that came from one resource are one again."""
    first: dict[tuple[str, int], Piece] = {}
    sums: dict[tuple[str, int], int] = {}
    rest = []
    for piece in pieces:
        if piece.ranges is not None:
            rest.append(piece)
            continue
        key = piece.name, id(piece.template)
        first.setdefault(key, piece)
        sums[key] = sums.get(key, 0) + piece.amount
    return [*(Piece(piece.name, sums[key], piece.template) for key, piece in first.items()), *rest]


def unreservable(piece: Piece) -> bool:
    """Whether it is kept by a reservation that was made by a framework and so may be given up."""
    return any(one.get("type") == "DYNAMIC" for one in piece.template.get("reservations") or ())


def numbers(pieces: Iterable[Piece], name: str = PORTS) -> list[int]:
    """Every number of a resource of ranges, such as the ports that a task was given."""
    return [
        number
        for piece in pieces
        if piece.name == name and piece.ranges
        for low, high in piece.ranges
        for number in range(low, high + 1)
    ]


# --- an agent ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Room:
    """An agent's room. `tasks`: what those of ours hold that were sent there; `wanted`: what those ask that wait for an
    offer from it.
    """

    tasks: dict[str, Resources] = field(default_factory=dict)
    wanted: dict[str, Resources] = field(default_factory=dict)
    offers: dict[str, Offer] = field(default_factory=dict)
    believed: Resources = field(default_factory=dict)
    whole: Resources | None = None
    """All that the agent has, whoever holds it; None: not known yet."""
    _sum: Resources = field(default_factory=dict)

    @property
    def pieces(self) -> list[Piece]:
        """Everything that is offered."""
        return [piece for offer in self.offers.values() for piece in offer.pieces]

    def capacity(self) -> Resources:
        """What is ours to decide about: never less than what our tasks hold and were promised."""
        known = total([self._sum, amounts_of(self.pieces), self.believed])
        if self.whole is not None:
            known = at_most(known, self.whole)
        promised = total([self._sum, *self.wanted.values()])
        return {
            name: amount
            for name in known.keys() | promised.keys()
            if (amount := max(known.get(name, 0), promised.get(name, 0))) > 0
        }

    def offered(self, offer: Offer) -> None:
        """A new offer: what we believed in, as far as it is this."""
        self.offers[offer.id] = offer
        self.believed = positive(minus(self.believed, offer.amounts))
        self._bound()

    def rescinded(self, id: str) -> bool:
        """An offer is void: somebody else has its room, or nobody. Whether we held it."""
        return self.offers.pop(id, None) is not None

    def went(self, ids: Iterable[str]) -> bool:
        """Offers are gone, as other room of theirs was used: this room may come again. Whether there was any."""
        gone = [offer for id in ids if (offer := self.offers.pop(id, None)) is not None]
        self.believed = total([self.believed, *(offer.amounts for offer in gone)])
        return bool(gone)

    def give_back(self) -> list[str]:
        """Every offer goes back, or is void because contact was lost, and may come again. Their ids."""
        ids = list(self.offers)
        self.believed = total([self.believed, *(offer.amounts for offer in self.offers.values())])
        self.offers = {}
        return ids

    def used(self, rest: Iterable[Piece]) -> list[str]:
        """Every offer was accepted, and this much of them was not used. The ids of the offers."""
        ids = list(self.offers)
        self.offers = {}
        self.believed = total([self.believed, amounts_of(rest)])
        self._bound()
        return ids

    def free(self, others: Resources) -> Resources:
        """What nobody holds but for the offers that we hold, where `others` hold so much."""
        return positive(minus(minus(self.whole or {}, others), self._sum))

    def told(self, others: Resources) -> None:
        """The master says what others hold: that we need not believe in."""
        self._bound(others)

    def _bound(self, others: Resources | None = None) -> None:
        """More than the agent has cannot be there: Mesos may offer a dead task's room before it tells of the death."""
        if self.believed and self.whole is not None:
            self.believed = at_most(self.believed, positive(minus(self.free(others or {}), amounts_of(self.pieces))))

    def hold(self, task: str, request: Resources) -> None:
        """A task of ours holds room here."""
        self.hold_all({task: request})

    def hold_all(self, requests: Mapping[str, Resources]) -> None:
        """Tasks of ours do."""
        fresh = {task: request for task, request in requests.items() if task not in self.tasks}
        for task in requests:
            self.wanted.pop(task, None)
        self.tasks |= fresh
        self._sum = total([self._sum, *fresh.values()])

    def release(self, task: str) -> None:
        """It holds it no longer; what it held will be offered."""
        request = self.tasks.pop(task, None)
        if request is not None:
            self._sum = positive(minus(self._sum, request))
            self.believed = total([self.believed, request])
            self._bound()

    def fill(
        self, order: Sequence[str], shape: Callable[[Piece], Piece] = lambda piece: piece
    ) -> tuple[dict[str, tuple[Piece, ...]], list[Piece]]:
        """Who of those that wait is served by the offers, in this order, and what is left; each piece is given as
        `shape` makes it. For whoever is not served, all that it could use is kept from those behind it.
        """
        pot = Pot(self.pieces, shape)
        kept: list[Piece] = []
        served: dict[str, tuple[Piece, ...]] = {}
        for task in order:
            request = self.wanted[task]
            found = pot.take(request)
            if found is not None:
                served[task] = found
            else:
                kept += pot.take(at_most(request, pot.left)) or ()
        return served, [*pot.rest, *kept]


def at_most(amounts: Resources, room: Resources) -> Resources:
    """Of each no more than there is."""
    return {name: least for name, amount in amounts.items() if (least := min(amount, room.get(name, 0))) > 0}


# --- reading -----------------------------------------------------------------------------------------------


def read_offer(document: Any) -> Offer:
    """An offer as Mesos writes it. ValueError if it is none. What we cannot use of it is left out: volumes, shared
    resources, and those of other kinds.
    """
    try:
        address = document.get("url", {}).get("address", {})
        return Offer(
            id=_text(document["id"]["value"]),
            agent=_text(document["agent_id"]["value"]),
            host=_text(document["hostname"]),
            port=int(address.get("port", 0)),
            attributes=read_attributes(document.get("attributes", [])),
            pieces=tuple(read_pieces(document.get("resources", []))),
            revocable=tuple(read_pieces(document.get("resources", []), revocable=True)),
            leaves_us=read_start(document.get("unavailability")),
        )
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"not an offer: {error!r}") from None


def read_pieces(resources: Any, *, revocable: bool = False) -> Iterable[Piece]:
    """Of a list of Mesos' resources those that tasks can be given: those that may be taken back, or the others."""
    for one in resources:
        if ("revocable" in one) != revocable:
            continue
        if any(key in one for key in ("shared", "provider_id")) or one.get("disk"):
            continue
        name, kind = one["name"], one["type"]
        if not isinstance(name, str) or NAME.fullmatch(name) is None:
            continue
        template = {key: value for key, value in one.items() if key not in ("scalar", "ranges", "set")}
        if kind == "SCALAR":
            amount, ranges = _held(name, one["scalar"]["value"]), None
        elif kind == "RANGES":
            ranges = tuple((int(part["begin"]), int(part["end"])) for part in one["ranges"].get("range", []))
            amount = sum(high - low + 1 for low, high in ranges)
        else:
            continue
        if 0 < amount <= AMOUNT_MAX:
            yield Piece(name, amount, template, ranges)


def read_start(unavailability: Any) -> int | None:
    """When an announced maintenance begins; None: none is announced."""
    return None if unavailability is None else max(1, int(unavailability["start"]["nanoseconds"]) // 1000)


def read_attributes(attributes: Any) -> dict[str, str]:
    """Mesos' attributes as strings: a number as it is written, other kinds as text."""
    found = {}
    for one in attributes:
        if one["type"] == "TEXT":
            found[_text(one["name"])] = _text(one["text"]["value"])
        elif one["type"] == "SCALAR":
            found[_text(one["name"])] = f"{one['scalar']['value']:g}"
    return found


def _held(name: str, value: float) -> int:
    return round(value * 1000) if name in THOUSANDTHS else int(value + 1e-6 if name in MEBIBYTES else value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 1024:
        raise TypeError("a text is none, or too long")
    return value


def _split(ranges: Ranges, amount: int) -> tuple[Ranges, Ranges]:
    taken: list[tuple[int, int]] = []
    rest: list[tuple[int, int]] = []
    for low, high in ranges:
        mine = min(amount, high - low + 1)
        amount -= mine
        if mine:
            taken.append((low, low + mine - 1))
        if low + mine <= high:
            rest.append((low + mine, high))
    return tuple(taken), tuple(rest)
