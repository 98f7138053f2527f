"""Roles and quotas: three ways to edit them (a file, one quota, the API) that are one way underneath.

Every edit is `diff` between what is and what shall be, checked and written in one transaction: there is one
writer at a time, so two admins who edit at once each see the other's work, or are seen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from priority.crontab import CronQuery
from priority.document import shown
from priority.errors import Conflict, Invalid
from priority.job import JobState
from priority.node import NodeState
from priority.ports import Reader, Writer
from priority.quota import lowered_below_use, oversold
from priority.records import Audit, JobQuery, Page, User
from priority.resources import Resources, minus, plain, show, total
from priority.role import Change, MemberSpec, RoleSpec, check_tiers, diff
from priority.service.access import may, no_such, visible_roles
from priority.service.crons import delete
from priority.service.firing import Firing
from priority.service.parts import Parts
from priority.tier import Tier

AuditPage = tuple[list[Audit], str | None]

ACTIONS = (
    *("role.make", "role.change", "role.drop", "quota.set", "user.make", "token.make", "token.revoke"),
    *(
        "job.submit",
        "job.kill",
        "job.restart",
        "job.scale",
        "cron.submit",
        "cron.suspend",
        "cron.resume",
        "cron.start",
        "cron.delete",
    ),
    *("node.drain", "node.undrain", "node.forget", "plan.refuse"),
)
"""Everything that is audited."""
Usage = Mapping[tuple[str, str, str], Resources]


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
    reserved: Resources = field(default_factory=dict)
    """Of the use, what is kept for cron jobs of which no run goes on."""
    guarantee: bool = False
    """Whether the quota is held against what is asked for (`use`), waiting or not, or against `holding`: a ceiling."""

    @property
    def waiting(self) -> Resources:
        """What instances ask for that hold nothing yet."""
        waiting = minus(self.use, total((self.holding, self.reserved)))
        return {name: amount for name, amount in waiting.items() if amount > 0}

    @property
    def left(self) -> Resources | None:
        """What the quota still allows of each resource that it names; below zero if it was lowered by force."""
        if self.quota is None:
            return None
        taken = self.use if self.guarantee else self.holding
        return {name: amount - taken.get(name, 0) for name, amount in self.quota.items()}


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
        with self._parts.store.read() as reader:
            roles = {name: spec for name, spec in reader.roles().items() if may(actor, name)}
        if role is None:
            return roles
        if role not in roles:
            raise no_such(f"role {role}")
        return {role: roles[role]}

    def diff(self, actor: User, desired: Mapping[str, RoleSpec], *, delete: bool = False) -> list[Change]:
        """What `apply` would change; with `delete` also the roles that `desired` does not name."""
        return self.review(actor, desired, delete=delete)[0]

    def review(
        self, actor: User, desired: Mapping[str, RoleSpec], *, delete: bool = False
    ) -> tuple[list[Change], list[str]]:
        """What `apply` would change, and why it would refuse to, role by role, unless it is forced."""
        check_tiers(desired, self._parts.tiers)
        refused = []
        with self._parts.store.read() as reader:
            before = reader.roles()
            after = dict(desired) if delete else before | dict(desired)
            changes = diff(before, after)
            _check_grants(actor, changes)
            for name in sorted({change.role for change in changes}):
                try:
                    _check_use(reader, name, before.get(name), after.get(name), self._guaranteed())
                except Conflict as error:
                    refused.append(error.message)
        return changes, refused

    def apply(
        self, actor: User, desired: Mapping[str, RoleSpec], *, delete: bool = False, force: bool = False
    ) -> list[Change]:
        """Make the roles so. Others stay, unless `delete`. `Conflict` without `force`: deleting a role with active
        jobs, or lowering a quota of a tier that is not preemptible below its use.
        """
        check_tiers(desired, self._parts.tiers)
        with self._parts.store.write() as writer:
            before = writer.roles()
            after = dict(desired) if delete else before | dict(desired)
            changes = self._change(actor, writer, before, after, force=force)
        self._announce(changes)
        return changes

    def drop(self, actor: User, role: str, *, force: bool = False) -> list[Change]:
        """Delete one role (cluster admins only); its jobs stay as history. `Conflict` without `force` while any is
        active.
        """
        with self._parts.store.write() as writer:
            before = writer.roles()
            if role not in before or not actor.admin:
                raise no_such(f"role {role}")
            after = {name: spec for name, spec in before.items() if name != role}
            changes = self._change(actor, writer, before, after, force=force)
        self._announce(changes)
        return changes

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
        if tier not in self._parts.tiers:
            raise Invalid("tier", f"{tier!r} is not a tier; there are {', '.join(self._parts.tiers)}")
        with self._parts.store.write() as writer:
            before = writer.roles()
            if role not in before or not may(actor, role):
                raise no_such(f"role {role}")
            after = before | {role: _with_quota(before[role], role, tier, amounts, user)}
            changes = self._change(actor, writer, before, after, force=force)
        self._announce(changes)
        return changes

    def quota(self, actor: User, role: str | None = None) -> QuotaView:
        """Quota, use and holding of one role or of all that the actor has a grant for."""
        if role is not None and not may(actor, role):
            raise no_such(f"role {role}")
        with self._parts.store.read() as reader:
            roles = reader.roles()
            if role is not None and role not in roles:
                raise no_such(f"role {role}")
            use, holding, reserved = reader.usage(role), reader.holding(role), reader.reserved(role)
            capacity = _capacity(reader)
        visible = visible_roles(actor)
        shown = [name for name in roles if (role is None or name == role) and (visible is None or name in visible)]
        lines = [
            line
            for name in sorted(shown)
            for line in _lines(name, roles[name], self._parts.tiers, (use, holding, reserved))
        ]
        return QuotaView(tuple(lines), tuple(self._oversold(roles, capacity)))

    def warnings(self, desired: Mapping[str, RoleSpec] | None = None, *, delete: bool = False) -> list[str]:
        """Promises that the cluster cannot keep: of the roles as they are, or as they would be after `apply`."""
        with self._parts.store.read() as reader:
            roles = dict(desired or {}) if delete else reader.roles() | dict(desired or {})
            return self._oversold(roles, _capacity(reader))

    def _oversold(self, roles: Mapping[str, RoleSpec], capacity: Resources) -> list[str]:
        guarantees = {
            name: quota
            for name, spec in roles.items()
            for tier, quota in spec.quota.items()
            if not self._parts.tiers[tier].preemptible
        }
        return oversold(guarantees, capacity)

    def audits(
        self,
        actor: User,
        page: Page,
        *,
        role: str | None = None,
        who: str | None = None,
        action: str | None = None,
        since_us: int | None = None,
    ) -> AuditPage:
        """Who changed what, newest first: of the roles in which the actor is admin, or everything. Of one role, by one
        user, of one action (`quota.set`) or kind of action (`quota`), since a moment. `Invalid` for an action
        that there is not.
        """
        kinds = dict.fromkeys(one.partition(".")[0] for one in ACTIONS)
        if action is not None and action not in kinds and action not in ACTIONS:
            there = f"there are {', '.join(ACTIONS)}, and the kinds {', '.join(kinds)}"
            raise Invalid("action", f"{shown(action)} is not an action; {there}")
        roles = None if actor.admin else [name for name in actor.grants if may(actor, name, "admin")]
        if role is not None:
            roles = [role] if roles is None or role in roles else []
        with self._parts.store.read() as reader:
            return reader.audits(page, roles, who=who, action=action, since_us=since_us)

    def _guaranteed(self) -> set[str]:
        return {name for name, tier in self._parts.tiers.items() if not tier.preemptible}

    def _change(
        self,
        actor: User,
        writer: Writer,
        before: Mapping[str, RoleSpec],
        after: Mapping[str, RoleSpec],
        *,
        force: bool,
    ) -> list[Change]:
        changes = diff(before, after)
        _check_grants(actor, changes)
        names = sorted({change.role for change in changes})
        forced: dict[str, str] = {}
        for name in names:
            try:
                _check_use(writer, name, before.get(name), after.get(name), self._guaranteed())
            except Conflict as error:
                if not force:
                    raise
                forced[name] = error.message
        now_us = self._parts.clock.now_us()
        for name in names:
            if name in after:
                writer.put_role(name, after[name])
            else:
                self._drop_crons(writer, name, actor, now_us)
                writer.drop_role(name)
            was, will = _plain(before.get(name)), _plain(after.get(name), forced.get(name))
            action = _action(name, before, after, changes)
            writer.audit(Audit(0, now_us, actor.name, action, f"role:{name}", name, was, will))
        writer.emit(_events(changes, actor, now_us))
        return changes

    def _drop_crons(self, writer: Writer, role: str, actor: User, now_us: int) -> None:
        """By force: those of a role that is deleted go with it; their history stays."""
        after = None
        while True:
            crons, after = writer.crons(CronQuery(roles=[role]), 1000, after)
            firing = Firing(self._parts, writer, now_us, crons)
            for cron in crons:
                delete(firing, cron.uid, actor, "its role was deleted")
            firing.write()
            if after is None:
                return

    def _announce(self, changes: list[Change]) -> None:
        if changes:
            self._parts.ring_all()


def _check_grants(actor: User, changes: Iterable[Change]) -> None:
    """A cluster admin may all; who has `admin` in a role may change its users and their parts of the quota."""
    for change in changes:
        owns = change.path.startswith(f"{change.role}/users/") and may(actor, change.role, "admin")
        if not actor.admin and not owns:
            raise no_such(f"role {change.role} that you may change so (a cluster admin may)")


def _check_use(
    reader: Reader, name: str, before: RoleSpec | None, after: RoleSpec | None, guaranteed: Collection[str]
) -> None:
    """`Conflict` if running work would lose its role or its guarantee."""
    if before is None:
        return
    if after is None:
        active, _ = reader.jobs(JobQuery(roles=[name], state=JobState.ACTIVE), Page(1))
        if active:
            raise Conflict(
                f"role {name} has active jobs, such as {active[0].spec.key}; end them first, or force it", role=name
            )
        crons, _ = reader.crons(CronQuery(roles=[name]), 1)
        if crons:
            raise Conflict(
                f"role {name} has cron jobs, such as {crons[0].spec.key}; delete them first, or force it", role=name
            )
        return
    usage = reader.usage(name)
    for tier in guaranteed:
        new = after.quota.get(tier)
        if before.quota.get(tier) != new:
            use = total(amounts for (_, its_tier, _), amounts in usage.items() if its_tier == tier)
            _refuse_below(f"role {name}, tier {tier}", new if new is not None else dict.fromkeys(use, 0), use)
        for user, member in after.users.items():
            former = before.users[user].quota.get(tier) if user in before.users else None
            if member.quota.get(tier) != former:
                whose = f"user {user} of role {name}, tier {tier}"
                _refuse_below(whose, member.quota.get(tier), usage.get((name, tier, user), {}))


def _refuse_below(whose: str, new: Resources | None, use: Resources) -> None:
    over = lowered_below_use(new, use)
    if over:
        raise Conflict(
            f"the new quota of {whose} is below its use by {show(over)}; end work first, or force it (then nothing "
            "more is admitted until the use has fallen)",
            owner=whose,
            over=plain(over),
        )


def _with_quota(spec: RoleSpec, role: str, tier: str, amounts: Resources | None, user: str | None) -> RoleSpec:
    owner: RoleSpec | MemberSpec = spec
    if user is not None:
        if user not in spec.users:
            raise no_such(f"user {user} of role {role}")
        owner = spec.users[user]
    quota = {name: amount for name, amount in owner.quota.items() if name != tier}
    if amounts is not None:
        quota[tier] = amounts
    changed = owner.model_copy(update={"quota": quota})
    if isinstance(changed, RoleSpec):
        return changed
    return spec.model_copy(update={"users": spec.users | {user: changed}})


def _capacity(reader: Reader) -> Resources:
    return total(record.node.capacity for record in reader.nodes() if record.node.state is not NodeState.DOWN)


def _lines(
    role: str, spec: RoleSpec, tiers: Mapping[str, Tier], uses: tuple[Usage, Usage, Usage]
) -> Iterable[QuotaLine]:
    """The role's own line in each tier that it has a quota or work in, and then one for each such user."""
    use, holding, reserved = uses
    owners = use.keys() | holding.keys()
    for tier, kind in tiers.items():
        users = {user for its_role, its_tier, user in owners if (its_role, its_tier) == (role, tier)}
        users |= {user for user, member in spec.users.items() if tier in member.quota}
        if tier not in spec.quota and not users:
            continue
        yield QuotaLine(
            role,
            tier,
            None,
            spec.quota.get(tier),
            total(use.get((role, tier, user), {}) for user in users),
            total(holding.get((role, tier, user), {}) for user in users),
            total(reserved.get((role, tier, user), {}) for user in users),
            guarantee=not kind.preemptible,
        )
        for user in sorted(users):
            owner = (role, tier, user)
            quota = spec.users[user].quota.get(tier) if user in spec.users else None
            guarantee = not kind.preemptible
            held = use.get(owner, {}), holding.get(owner, {}), reserved.get(owner, {})
            yield QuotaLine(role, tier, user, quota, *held, guarantee)


def _action(name: str, before: Mapping[str, RoleSpec], after: Mapping[str, RoleSpec], changes: Iterable[Change]) -> str:
    if name not in before or name not in after:
        return "role.make" if name in after else "role.drop"
    quota_only = all("/quota/" in change.path for change in changes if change.role == name)
    return "quota.set" if quota_only else "role.change"


def _plain(spec: RoleSpec | None, forced: str | None = None) -> Any:
    """For an audit row. `forced`: why it would have been refused, had it not been forced."""
    plainly = None if spec is None else spec.model_dump(mode="json")
    return plainly if forced is None else {**(plainly or {}), "forced": forced}


def _events(
    changes: Iterable[Change], actor: User, now_us: int
) -> Iterable[tuple[int, str, str | None, str | None, str | None, Mapping[str, Any]]]:
    for change in changes:
        kind = "quota.changed" if "/quota/" in change.path else "role.changed"
        data = {"path": change.path, "before": change.before, "after": change.after, "by": actor.name}
        yield now_us, kind, change.role, None, None, data
