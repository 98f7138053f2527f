"""What a simulation has admitted of quotas of tiers that are not preemptible: by role, and by user of his own."""

from __future__ import annotations

from priority.history import Cluster
from priority.quota import Refused, admit
from priority.resources import Resources, times
from priority.trace import Work


class Guarantees:
    """What is in use of each."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._use: dict[tuple[str, ...], Resources] = {}

    def admit(self, work: Work) -> bool:
        """Count a whole work, if there is enough left for all of its instances."""
        ask = times(work.request, work.instances)
        owners = self._quotas(work)
        for key, quota in owners:
            if isinstance(admit(ask, self._use.get(key, {}), quota, ""), Refused):
                return False
        for key, _ in owners:
            use = self._use.setdefault(key, {})
            for name, amount in ask.items():
                use[name] = use.get(name, 0) + amount
        return True

    def release(self, work: Work) -> None:
        """One instance has ended for good."""
        for key, _ in self._quotas(work):
            use = self._use[key]
            for name, amount in work.request.items():
                use[name] -= amount

    def _quotas(self, work: Work) -> list[tuple[tuple[str, ...], Resources]]:
        rules = self._cluster.roles.get(work.role)
        if rules is None or self._cluster.tiers[work.tier].preemptible:
            return []
        users = rules.users.get(work.user, {})
        found: list[tuple[tuple[str, ...], Resources | None]] = [
            ((work.role, work.tier), rules.quota.get(work.tier)),
            ((work.role, work.tier, work.user), users.get(work.tier)),
        ]
        return [(key, quota) for key, quota in found if quota is not None]
