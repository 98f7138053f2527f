"""The name of one incarnation of a node's agent, and which of two began first.

    <home>.<number>.<chance>        home: letters and digits; number: 16 hex digits; chance: hex digits

The *home* is drawn once for a node's state folder and kept there, and so is the last *number*: the next incarnation of
the same home has a greater one, whatever the clock says in between. *Chance* tells two of the same number apart (a
folder that was restored from a copy). Of different homes nothing is known, nor of names of another form (an agent of
Mesos, or of an earlier version): their order is what the clocks say, see `priority.service.reports`.
"""

from __future__ import annotations

import re

_NAME = re.compile(r"([A-Za-z0-9]{1,64})\.([0-9a-f]{16})\.([0-9a-f]{1,32})", re.ASCII)


def name_of(home: str, number: int, chance: str) -> str:
    """At most 114 characters."""
    return f"{home}.{number:016x}.{chance}"


def began_later(one: str, other: str) -> bool | None:
    """Whether `one` began after `other`; None: that cannot be told by their names."""
    mine, theirs = _NAME.fullmatch(one), _NAME.fullmatch(other)
    if mine is None or theirs is None or mine[1] != theirs[1] or mine[2] == theirs[2]:
        return None
    return mine[2] > theirs[2]
