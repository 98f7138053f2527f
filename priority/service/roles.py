"""Roles and quotas: three ways to edit them (a file, one quota, the API) that are one way underneath."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from priority.ports import Audit, Page, User
from priority.resources import Resources
from priority.role import Change, RoleSpec
from priority.service.parts import Parts


@dataclass(frozen=True, slots=True)
class QuotaLine:
    """One role, or one user of it (`user`), in one tier; held units."""

    role: str
    tier: str
    user: str | None
    quota: Resources | None
    """None: no quota is set. A role without one in a tier that is not preemptible may run nothing there."""
    use: Resources
    """What instances that have not ended ask for."""
    holding: Resources
    """What tasks on nodes hold right now."""


@dataclass(frozen=True, slots=True)
class QuotaView:
    """Quotas beside their use, and warnings about promises that the cluster cannot keep."""

    lines: tuple[QuotaLine, ...]
    warnings: tuple[str, ...]


class Roles:
    """The verbs. Quotas of a role, its weight and its being there at all are the cluster admins'; its users and
    their parts of the quota are also those of who has `admin` in the role.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def show(self, actor: User, role: str | None = None) -> dict[str, RoleSpec]:
        """One role or all that the actor has a grant for. `NotFound` for a named one that is hidden or not there."""
        raise NotImplementedError

    def diff(self, actor: User, desired: Mapping[str, RoleSpec], *, delete: bool = False) -> list[Change]:
        """What `apply` would change; with `delete` also the roles that `desired` does not name."""
        raise NotImplementedError

    def apply(
        self, actor: User, desired: Mapping[str, RoleSpec], *, delete: bool = False, force: bool = False
    ) -> list[Change]:
        """Make the roles so. Others stay, unless `delete`. `Conflict` without `force`: deleting a role with active
        jobs, or lowering a quota of a tier that is not preemptible below its use.
        """
        raise NotImplementedError

    def set_quota(
        self,
        actor: User,
        role: str,
        tier: str,
        amounts: Resources | None,
        *,
        user: str | None = None,
        force: bool = False,
    ) -> list[Change]:
        """The quota of a role, or of a user in it, in one tier; None takes it away."""
        raise NotImplementedError

    def quota(self, actor: User, role: str | None = None) -> QuotaView:
        """Quota, use and holding of one role or of all that the actor has a grant for."""
        raise NotImplementedError

    def audits(self, actor: User, page: Page) -> tuple[list[Audit], str | None]:
        """Who changed what, newest first: of the roles in which the actor is admin, or everything."""
        raise NotImplementedError
