"""Which nodes are there, silent or gone? Time is an argument.

A node is heard of when its beat changes. Silence counts only while Redis answers: after any time in which it did
not (or in which we ourselves did not look) every node's silence begins anew, because then the fault need not be the
node's. An agent's own lease counts from *before* a beat was sent, and this clock from after it was seen, so that the
agent has killed its tasks when a node is declared gone here, whatever the clocks' offsets are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum


class Sign(Enum):
    """What is to be told of a node."""

    BACK = "back"
    SILENT = "silent"
    GONE = "gone"


@dataclass(slots=True)
class _Node:
    beat: bytes
    heard_s: float
    silent: bool = False


class Liveness:
    """`gap_s`: so long at most between two answers of Redis, else the time between them does not count."""

    def __init__(self, silent_s: float, gone_s: float, gap_s: float) -> None:
        self._silent_s = silent_s
        self._gone_s = gone_s
        self._gap_s = gap_s
        self._nodes: dict[str, _Node] = {}
        self._calm_since_s: float | None = None
        self._answered_s = 0.0

    def expect(self, names: Iterable[str], now_s: float) -> None:
        """These should be there: one that was never heard of is silent from now on."""
        for name in names:
            self._nodes.setdefault(name, _Node(b"", now_s))

    def outage(self) -> None:
        """Redis did not answer."""
        self._calm_since_s = None

    def observe(self, beats: Mapping[str, bytes], now_s: float) -> list[tuple[Sign, str]]:
        """Redis answered: the beats of all nodes that it knows. What is to be told of whom, each thing once."""
        if self._calm_since_s is None or now_s - self._answered_s > self._gap_s:
            self._calm_since_s = now_s
        self._answered_s = now_s
        signs: list[tuple[Sign, str]] = []
        for name, beat in beats.items():
            node = self._nodes.get(name)
            if node is None:
                signs.append((Sign.BACK, name))
                self._nodes[name] = _Node(beat, now_s)
            elif beat != node.beat:
                if node.silent or not node.beat:
                    signs.append((Sign.BACK, name))
                self._nodes[name] = _Node(beat, now_s)
        for name, node in list(self._nodes.items()):
            silence_s = now_s - max(node.heard_s, self._calm_since_s)
            if not node.silent and silence_s >= self._silent_s:
                node.silent = True
                signs.append((Sign.SILENT, name))
            if silence_s >= self._gone_s:
                del self._nodes[name]
                signs.append((Sign.GONE, name))
        return signs
