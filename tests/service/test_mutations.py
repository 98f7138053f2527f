"""The simulation's checkers, checked: each planted bug must be found by some seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from priority.orders import NodeGone
from priority.service import admission, reports
from priority.service.acts import Acts
from priority.service.ledger import Ledger
from priority.service.mirror import Mirror

from .test_simulation import Simulation

SEEDS = 60

Patch = pytest.MonkeyPatch


def starts_before_the_former_is_dead(patch: Patch) -> None:
    admit = Mirror._admit
    patch.setattr(Mirror, "_admit", lambda self, task: admit(self, replace(task, after=None)))
    # and the second line of defence, which would see it
    patch.setattr("priority.service.decide._waits", lambda task: task.state == "pending")


def believes_a_silent_node_dead(patch: Patch) -> None:
    apply = reports.apply

    def hasty(writer: Any, said: Any, *rest: Any) -> Any:
        gone = [NodeGone(node=one.node, at_us=one.at_us) if type(one).__name__ == "NodeSilent" else one for one in said]
        return apply(writer, gone, *rest)

    patch.setattr(reports, "apply", hasty)


def forgets_the_quota(patch: Patch) -> None:
    patch.setattr(admission, "check_quota", lambda *_: None)


def never_gives_the_quota_back(patch: Patch) -> None:
    def settle(self: Ledger) -> None:
        self._writer.tally(self._ended, self.now_us)

    patch.setattr(Ledger, "_settle", settle)


def forgets_to_withdraw(patch: Patch) -> None:
    patch.setattr(Ledger, "_withdraw", lambda *_: None)


def counts_a_preempted_instance_as_ended(patch: Patch) -> None:
    patch.setattr(Ledger, "_successor", lambda *_: None)


def forgets_what_became_of_a_preemptor(patch: Patch) -> None:
    patch.setattr(Ledger, "_note_fate", lambda *_: None)


def never_sends_again(patch: Patch) -> None:
    patch.setattr(Acts, "_expect", lambda *_: None)
    patch.setattr(reports, "_reconcile", lambda *_: None)


FOUND = [
    starts_before_the_former_is_dead,
    believes_a_silent_node_dead,
    forgets_the_quota,
    never_gives_the_quota_back,
    forgets_to_withdraw,
    counts_a_preempted_instance_as_ended,
    forgets_what_became_of_a_preemptor,
    never_sends_again,
]


@pytest.mark.parametrize("plant", FOUND, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(plant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    plant(monkeypatch)
    for seed in range(SEEDS):
        try:
            Simulation(seed).run()
        except Exception:
            return
    pytest.fail(f"{SEEDS} seeds did not find it")
