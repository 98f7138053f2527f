"""Routes of roles, quotas, users and tokens."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Query, Response

from priority.face import examples, plain, views
from priority.face.moment import Since, since_us
from priority.face.openapi import NewToken, NewUser, body_of, page_of, says
from priority.face.request import Actor, NamePath, NameQuery, Paging, UidPath, Verbs, answer
from priority.face.routing import Permission, needs, reads, router
from priority.job import QuotaAmounts
from priority.role import Change, RolesFile, RoleSpec
from priority.service import access

routes = router()

Dry = Annotated[bool, Query(description="Only say what would change, and why it would be refused")]
Force = Annotated[bool, Query(description="Lower a quota below its use; delete a role that has active jobs")]


def _changed(service: Verbs, changes: list[Change]) -> Response:
    return answer(plain.changes(changes, service.roles.warnings(), applied=True))


@routes.get(
    "/roles",
    tags=["roles"],
    summary="Every role",
    response_model=views.Roles,
    responses=says({"items": [examples.ROLE]}),
)
@needs(Permission.USER)
def list_roles(actor: Actor, service: Verbs) -> Response:
    """Those in which one has a grant."""
    return answer({"items": [plain.role(name, spec) for name, spec in service.roles.show(actor).items()]})


@routes.put(
    "/roles",
    tags=["roles"],
    summary="Make the roles be these",
    response_model=views.Changes,
    responses=says(examples.CHANGES),
    openapi_extra=body_of("RolesFile", {"roles": {"physics": examples.ROLE_SPEC}}),
)
@needs(Permission.USER)
def apply_roles(
    *,
    actor: Actor,
    service: Verbs,
    body: Annotated[RolesFile, Depends(reads(RolesFile))],
    dry_run: Dry = False,
    delete: Annotated[bool, Query(description="Delete the roles that are not named")] = False,
    force: Force = False,
) -> Response:
    """All in one transaction. A role admin may change its users and their quotas, a cluster admin everything."""
    # Whoever names a role without being its admin learns nothing of it, not even by guessing what it holds.
    for name in body.roles:
        if not access.may(actor, name, "admin"):
            raise access.no_such(f"role {name} that you may change")
    if delete and not actor.admin:
        raise access.no_such("role that you may delete")
    if dry_run:
        changes, refused = service.roles.review(actor, body.roles, delete=delete)
        warnings = service.roles.warnings(body.roles, delete=delete)
        return answer(plain.changes(changes, warnings, applied=False, refused=() if force else refused))
    return _changed(service, service.roles.apply(actor, body.roles, delete=delete, force=force))


@routes.get(
    "/roles/{role}", tags=["roles"], summary="One role", response_model=views.RoleView, responses=says(examples.ROLE)
)
@needs(Permission.SUBMIT)
def show_role(actor: Actor, service: Verbs, role: NamePath) -> Response:
    """Its quotas, its weight and its users."""
    return answer(plain.role(role, service.roles.show(actor, role)[role]))


@routes.put(
    "/roles/{role}",
    tags=["roles"],
    summary="Make a role be this",
    response_model=views.Changes,
    responses=says(examples.CHANGES),
    openapi_extra=body_of("RoleSpec", examples.ROLE_SPEC),
)
@needs(Permission.ROLE_ADMIN)
def apply_role(
    *,
    actor: Actor,
    service: Verbs,
    role: NamePath,
    body: Annotated[RoleSpec, Depends(reads(RoleSpec))],
    dry_run: Dry = False,
    force: Force = False,
) -> Response:
    """Made if it is not there yet (by a cluster admin)."""
    desired = {role: body}
    if dry_run:
        changes, refused = service.roles.review(actor, desired)
        warnings = service.roles.warnings(desired)
        return answer(plain.changes(changes, warnings, applied=False, refused=() if force else refused))
    return _changed(service, service.roles.apply(actor, desired, force=force))


@routes.delete(
    "/roles/{role}",
    tags=["roles"],
    summary="Delete a role",
    response_model=views.Changes,
    responses=says(examples.CHANGES),
)
@needs(Permission.ADMIN)
def delete_role(actor: Actor, service: Verbs, role: NamePath, force: Force = False) -> Response:
    """Its jobs stay as history. With active jobs only by force."""
    return _changed(service, service.roles.drop(actor, role, force=force))


@routes.get(
    "/quota",
    tags=["roles"],
    summary="Quotas and what is taken of them",
    response_model=views.QuotaView,
    responses=says(examples.QUOTA),
)
@needs(Permission.USER)
def show_quota(actor: Actor, service: Verbs, role: NameQuery = None) -> Response:
    """Of one role, or of all in which one has a grant. `use` is what unfinished instances ask for, `holding` what
    tasks on nodes hold now, `waiting` the rest. A guarantee (prod) is held against `use`, the ceiling of a preemptible
    tier against `holding`. Warns when more prod quota is promised than the cluster has.
    """
    return answer(plain.quota(service.roles.quota(actor, role)))


@routes.put(
    "/quota/{role}/{tier}",
    tags=["roles"],
    summary="Replace a quota",
    response_model=views.Changes,
    responses=says(examples.CHANGES),
    openapi_extra=body_of("Amounts", {"cpus": 12, "mem": "16GiB"}),
)
@needs(Permission.ROLE_ADMIN)
def set_quota(
    *,
    actor: Actor,
    service: Verbs,
    role: NamePath,
    tier: NamePath,
    body: Annotated[Any, Depends(reads(QuotaAmounts))],
    user: Annotated[str | None, Query(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")] = None,
    force: Force = False,
) -> Response:
    """Of the role, or with `user` the part of one of its users. A resource that is not named is not limited."""
    changes = service.roles.set_quota(actor, role, tier, body, user=user, force=force)
    return _changed(service, changes)


@routes.delete(
    "/quota/{role}/{tier}",
    tags=["roles"],
    summary="Take a quota away",
    response_model=views.Changes,
    responses=says(examples.CHANGES),
)
@needs(Permission.ROLE_ADMIN)
def drop_quota(
    *,
    actor: Actor,
    service: Verbs,
    role: NamePath,
    tier: NamePath,
    user: NameQuery = None,
    force: Force = False,
) -> Response:
    """Then nothing is limited there; but in a tier that is not preemptible a role without quota runs nothing."""
    changes = service.roles.set_quota(actor, role, tier, None, user=user, force=force)
    return _changed(service, changes)


@routes.get(
    "/users",
    tags=["users"],
    summary="Every user",
    response_model=views.Users,
    responses=says({"items": [examples.USER]}),
)
@needs(Permission.USER)
def list_users(actor: Actor, service: Verbs) -> Response:
    """For a cluster admin; anyone else sees themselves."""
    return answer({"items": [plain.user(user) for user in service.users.list(actor)]})


@routes.put(
    "/users/{name}",
    tags=["users"],
    summary="Make a user",
    status_code=201,
    response_model=views.UserView,
    responses=says(examples.USER, status=201),
    openapi_extra=body_of("NewUser", {"admin": False}),
)
@needs(Permission.ADMIN)
def create_user(
    actor: Actor, service: Verbs, name: NamePath, body: Annotated[NewUser, Depends(reads(NewUser))]
) -> Response:
    """What they may do comes with the roles; `admin` makes a cluster admin."""
    return answer(plain.user(service.users.create(actor, name, admin=body.admin)), 201)


@routes.get(
    "/tokens",
    tags=["users"],
    summary="Tokens",
    response_model=views.Tokens,
    responses=says({"items": [examples.TOKEN]}),
)
@needs(Permission.USER)
def list_tokens(actor: Actor, service: Verbs, user: NameQuery = None) -> Response:
    """One's own; a cluster admin sees everyone's. Never a secret."""
    tokens = service.users.tokens(actor)
    return answer({"items": [plain.token(one) for one in tokens if user is None or one.user == user]})


@routes.post(
    "/tokens",
    tags=["users"],
    summary="Make a token",
    status_code=201,
    response_model=views.TokenCreated,
    responses=says({**examples.TOKEN, "secret": "pri_..."}, status=201, text="The only time that the secret is shown"),
    openapi_extra=body_of("NewToken", {"label": "laptop", "expires_s": "30d"}),
)
@needs(Permission.USER)
def create_token(actor: Actor, service: Verbs, body: Annotated[NewToken, Depends(reads(NewToken))]) -> Response:
    """For oneself, or by a cluster admin for anyone. The secret is in this answer and nowhere else."""
    token, secret = service.users.create_token(actor, body.user, body.label, body.expires_s)
    return answer({**plain.token(token), "secret": secret}, 201, {"cache-control": "no-store"})


@routes.delete(
    "/tokens/{uid}",
    tags=["users"],
    summary="Revoke a token",
    response_model=views.TokenView,
    responses=says(examples.TOKEN),
)
@needs(Permission.USER)
def revoke_token(actor: Actor, service: Verbs, uid: UidPath) -> Response:
    """Within a second it opens nothing, in any process."""
    return answer(plain.token(service.users.revoke(actor, uid)))


@routes.get(
    "/audit",
    tags=["audit"],
    summary="Who changed what",
    response_model=views.AuditPage,
    responses=says(page_of(examples.AUDIT)),
)
@needs(Permission.USER)
def list_audit(
    *,
    actor: Actor,
    service: Verbs,
    page: Paging,
    role: NameQuery = None,
    user: NameQuery = None,
    action: Annotated[
        str | None,
        Query(
            pattern=r"^[a-z]{1,30}(\.[a-z]{1,30})?$",
            description="One, such as `quota.set`, or a kind: `role`, `quota`, `job`...",
        ),
    ] = None,
    since: Since = None,
) -> Response:
    """Newest first: of the roles in which one is admin, or for a cluster admin everything."""
    from_us = since_us(since, service.parts.clock.now_us())
    rows, after = service.roles.audits(actor, page, role=role, who=user, action=action, since_us=from_us)
    return answer({"items": [plain.audit(row) for row in rows], "next": after})
