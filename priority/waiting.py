"""Why a task waits, in words and numbers that its user can act on.

The first that holds: no node could ever hold it (`no-node`); no node that is large enough meets its constraints
(`constraint`); the ceiling of its role or user (`ceiling`); the limits of its job (`limit`); no room (`no-room`).
A member of a gang that could be placed alone waits for the others (`gang`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from priority.board import Board, Shape
from priority.claim import Claim
from priority.constraint import Constraint
from priority.fairness import Unit
from priority.preempt import cheapest
from priority.reason import Reason
from priority.resources import plain, plain_amount, show, show_amount
from priority.rules import Mask, OverCeiling

VALUES_MAX, VALUE_MAX = 8, 60
"""So many values of an attribute are named, and so much of each."""


def why(board: Board, unit: Unit) -> list[tuple[Claim, Reason]]:
    """The reason of each member of a unit that the round left waiting, on the board as the round left it."""
    kept = board.unkeep(unit.members)
    together = board.rules.over(unit.members)
    reasons = []
    for claim in unit.members:
        reason = _never(board, claim)
        if reason is None and together is not None:
            never = together.ask > together.ceiling
            reason = _ceiling(together if never else board.rules.over([claim]) or together)
        if reason is None and unit.gang is not None and _alone(board, claim):
            text = f"its gang {unit.gang} starts together or not at all, and not all {len(unit.members)} have room"
            reason = Reason("gang", text, {"gang": unit.gang, "members": len(unit.members)})
        reasons.append((claim, reason or _now(board, claim)))
    for claim in unit.members:
        for node in kept.get(claim.id, ()):
            board.keep(claim, node)
    return reasons


def _alone(board: Board, claim: Claim) -> bool:
    mask = board.allowed(claim) & board.fits(board.shape(claim), board.total)
    return bool(mask.any()) or cheapest(board, Unit((replace(claim, gang=None),))) is not None


def _never(board: Board, claim: Claim) -> Reason | None:
    """What no waiting can change: the size of the nodes, and the constraints."""
    shape = board.shape(claim)
    large = board.fits(shape, board.capacity)
    details: dict[str, Any] = {"nodes": len(board.names)}
    if not large.any():
        most = board.capacity.max(axis=0, initial=0)
        lacks = [int(column) for column in shape.asked if shape.request[column] > most[column]]
        details["short"] = _amounts(board, {column: int(shape.request[column] - most[column]) for column in lacks})
        names = [(board.axis[column], int(most[column])) for column in lacks]
        largest = ", ".join(f"the most that one has is {name} {show_amount(name, amount)}" for name, amount in names)
        what = f"no node could ever hold it: it asks for {show(claim.request)}"
        where = largest or "no single node has that much of all at once"
        return Reason("no-node", f"{what}, and " + (where if board.names else "there is no node"), details)
    if not (large & board.rules.matches(claim)).any():
        wants = [one.plain() for one in claim.constraints]
        return Reason("constraint", _unmet(board, claim, large), {"nodes": int(large.sum()), "constraints": wants})
    return None


def _unmet(board: Board, claim: Claim, large: Mask) -> str:
    """Which constraint no node meets: what it wants, what there is. If each is met somewhere, how many meet each."""
    count = int(large.sum())
    nodes = f"of the {count} nodes that are large enough" if count > 1 else "of the only node that is large enough"
    met = [(one, int((large & board.rules.meets(one)).sum())) for one in claim.constraints]
    for one, some in met:
        if not some:
            return f"none {nodes} has {_wanted(one)}; {_there(board.rules.values(one.attribute, large), one.attribute)}"
    each = "; ".join(f"{some} {'has' if some == 1 else 'have'} {_wanted(one)}" for one, some in met)
    return f"none {nodes} meets all of its constraints at once: {each}"


def _wanted(one: Constraint) -> str:
    if one.within is not None:
        return f"{one.attribute} {_some(sorted(one.within), ' or ') or 'in an empty list, which nothing is'}"
    if one.outside is not None:
        return f"{one.attribute} other than {_some(sorted(one.outside), ', ')}"
    return f"an attribute {one.attribute} (of which it wants at most {one.limit} tasks for each value)"


def _there(values: Mapping[str, int], attribute: str) -> str:
    if not values:
        return f"no node says what its {attribute} is"
    shown = [f"{value} ({many})" for value, many in sorted(values.items(), key=lambda one: (-one[1], one[0]))]
    return f"there is {_some(shown, ', ')}"


def _some(names: Sequence[str], between: str) -> str:
    """The first few."""
    more = f" and {len(names) - VALUES_MAX} more" if len(names) > VALUES_MAX else ""
    return (
        between.join(name if len(name) <= VALUE_MAX else f"{name[:VALUE_MAX]}..." for name in names[:VALUES_MAX]) + more
    )


def _ceiling(over: OverCeiling) -> Reason:
    name = over.resource
    owner = f"role {over.role}" if over.user is None else f"user {over.user} in role {over.role}"
    numbers = {"ceiling": over.ceiling, "held": over.held, "ask": over.ask}
    shown = {key: show_amount(name, amount) for key, amount in numbers.items()}
    text = f"{owner} may hold {name} {shown['ceiling']} in tier {over.tier}, holds {shown['held']}, asks {shown['ask']}"
    if over.ask > over.ceiling:
        text += ": it asks more than the ceiling: it will never start unless the quota is raised"
    details: dict[str, Any] = {key: plain_amount(name, amount) for key, amount in numbers.items()}
    details |= {"role": over.role, "tier": over.tier, "resource": name}
    return Reason("ceiling", text, details if over.user is None else {**details, "user": over.user})


def _now(board: Board, claim: Claim) -> Reason:
    shape = board.shape(claim)
    matches = board.rules.matches(claim)
    could = board.rules.up & matches & board.fits(shape, board.capacity)
    if not could.any():
        count = int((matches & board.fits(shape, board.capacity)).sum())
        text = f"every node that could hold it is draining or down ({count} of {len(board.names)})"
        return Reason("no-room", text, {"nodes": 0})
    within = board.allowed(claim)
    shut = np.zeros_like(within)
    shut[board.shut(claim) if board.closed else []] = True
    limited = board.rules.up & matches & ~within & ~shut
    if limited.any() and (not (could & within).any() or _served(board, claim, shape, limited)):
        limits = board.rules.limits(claim)
        what = " and ".join(f"{one.limit} for each {one.attribute}" for one in limits)
        text = (
            f"its job has as many tasks as its limits allow ({what}) on {int(limited.sum())} of the nodes that could "
        )
        return Reason(
            "limit", f"{text}hold it", {"nodes": int(limited.sum()), "limits": [one.plain() for one in limits]}
        )
    held = _shut_out(board, claim, shape, could & shut)
    if held is not None or not (could & within).any():
        return held or _no_room(board, shape, could)
    return _kept(board, claim, _spared(board, claim, could & within) or _no_room(board, shape, could & within))


def _shut_out(board: Board, claim: Claim, shape: Shape, shut: Mask) -> Reason | None:
    """Where it has room, or victims, on a node that another keeps which has waited for long."""
    rows = np.flatnonzero(shut)
    for row in rows.tolist() if _served(board, claim, shape, shut) else ():
        one = np.zeros_like(shut)
        one[row] = True
        if _served(board, claim, shape, one):
            name, holder = board.names[row], board.closed[row].holder
            text = f"node {name}, which has room for it, is kept for a larger task that has waited for long"
            return Reason("policy", text, {"node": name, "kept_for": holder})
    return None


def _kept(board: Board, claim: Claim, reason: Reason) -> Reason:
    """The reason, and which node is kept for it."""
    name = next((board.names[row] for row, one in board.closed.items() if one.holder == claim.id), None)
    if name is None:
        return reason
    text = f"{reason.message}; as it has waited for long, node {name} is kept for it until there is room"
    return Reason(reason.code, text, {**reason.details, "keeps": name})


def _served(board: Board, claim: Claim, shape: Shape, limited: Mask) -> bool:
    """Whether a node that only a limit closes has room, or victims, for it."""
    if (board.fits(shape, board.total) & limited).any():
        return True
    herd = board.herd
    lawful = herd.lawful(claim) & herd.alive
    room = board.total.copy()
    np.add.at(room, herd.node[lawful], herd.request[lawful])
    return bool((board.fits(shape, room) & limited).any())


def _spared(board: Board, claim: Claim, nodes: Mask) -> Reason | None:
    """Where it would have victims, did policy not spare them: how many, and by which settings."""
    herd, mercy = board.herd, board.mercy
    if mercy is None:
        return None
    could = herd.lawful(claim) & nodes[herd.node]
    could[list(board.killed)] = False
    room = board.total.copy()
    np.add.at(room, herd.node[could], herd.request[could])
    if not (board.fits(board.shape(claim), room) & nodes).any():
        return None
    causes = mercy.causes(claim, could)
    spared: dict[str, dict[str, int]] = {}
    for one in causes:
        spared.setdefault(one.setting, {})[one.tier] = one.count
    told = _no_room(board, board.shape(claim), nodes)
    text = f"no room on any of {int(nodes.sum())} nodes; {'; '.join(one.words for one in causes)}"
    return Reason("policy", text, {**told.details, "spared": spared})


def _no_room(board: Board, shape: Shape, nodes: Mask) -> Reason:
    rows = np.flatnonzero(nodes)
    lacks = np.maximum(shape.request - board.total[rows], 0) * (shape.request > 0)
    nearest = int(np.argmin((lacks * board.scale).sum(axis=1)))
    lack = {int(column): int(lacks[nearest, column]) for column in np.flatnonzero(lacks[nearest])}
    name = board.names[int(rows[nearest])]
    short = ", ".join(f"{board.axis[column]} {show_amount(board.axis[column], lack[column])}" for column in lack)
    count = len(rows)
    text = f"no room on any of {count} nodes, nor anything that may be preempted; nearest is {name}, short of {short}"
    return Reason("no-room", text, {"nodes": count, "node": name, "short": _amounts(board, lack)})


def _amounts(board: Board, amounts: dict[int, int]) -> dict[str, int | float]:
    return plain({board.axis[column]: amount for column, amount in amounts.items()})
