"""Roles: the tenants, their users and their quotas, as an admin writes them down in one file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import yaml
from pydantic import ConfigDict, Field, ValidationError

from priority import unique
from priority.document import Document, invalid
from priority.errors import Invalid, Malformed
from priority.job import Name, QuotaAmounts, Text, TierName
from priority.resources import written_amounts

_CLOSED: Any = Field(json_schema_extra={"additionalProperties": False})

Quotas = dict[TierName, QuotaAmounts]
"""Tier -> resource -> amount. A resource that is not named is not limited; a zero allows none of it."""


class MemberSpec(Document):
    """A user of a role: what they may do there, and their own part of the role's quota."""

    grants: tuple[Literal["submit", "admin"], ...] = ("submit",)
    """`submit`: jobs of the role, their own and others'; `admin`: its users and their quotas as well."""
    quota: Quotas = {}
    """Their own part of the role's quota, by tier."""


class RoleSpec(Document):
    """A tenant. A prod quota is a guarantee, checked when a job is submitted; without one the role runs no prod.
    A quota of a preemptible tier is a ceiling on what holds room at once; without one there is no ceiling.
    """

    description: Text = ""
    """For people."""
    weight: Annotated[float, Field(gt=0, le=1_000_000, strict=True)] = 1.0
    """Of its share of what is left over: a role of weight 2 gets twice what one of weight 1 gets."""
    quota: Quotas = {}
    """By tier. A resource that is not named is not limited; a zero allows none of it."""
    users: Annotated[dict[Name, MemberSpec], _CLOSED] = {}
    """Who may do what here; a user who is not there yet is made."""


EXAMPLE: Any = {
    "roles": {
        "physics": {
            "description": "Reconstruction of what the detector saw",
            "weight": 2,
            "quota": {"prod": {"cpus": 8, "mem": "16GiB"}, "devel": {"cpus": 4}},
            "users": {"ada": {"grants": ["submit", "admin"]}, "bob": {"quota": {"devel": {"cpus": 2}}}},
        }
    }
}
"""A roles file, as an admin may write it."""


class RolesFile(Document):
    """`config/roles.yaml`: every role there is."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    roles: Annotated[dict[Name, RoleSpec], _CLOSED]
    """By name."""


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a diff: at `path`, such as `physics.quota.prod.cpus`, `before` becomes `after` (None: not there)."""

    path: str
    before: Any
    after: Any

    @property
    def role(self) -> str:
        """The role that it is about; a role's name may hold dots, so it stands apart by a slash in `path`."""
        return self.path.split("/", 1)[0]


def parse_file(text: str) -> dict[str, RoleSpec]:
    """Read a roles file. `Malformed` names the line, `Invalid` the field."""
    try:
        document = unique.load(text)
    except RecursionError:
        raise Malformed("not YAML: nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise Malformed(f"{where}not YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(document, Mapping):
        raise Invalid("document", "must be a mapping with the key 'roles'")
    try:
        return dict(RolesFile.model_validate(document).roles)
    except ValidationError as error:
        raise invalid(error) from None


def check_tiers(roles: Mapping[str, RoleSpec], tiers: Mapping[str, Any]) -> None:
    """`Invalid` names the first quota of a tier that there is not."""
    for name, role in roles.items():
        owners = [(f"roles.{name}", role.quota)]
        owners += [(f"roles.{name}.users.{user}", member.quota) for user, member in role.users.items()]
        for path, quotas in owners:
            for tier in quotas:
                if tier not in tiers:
                    raise Invalid(f"{path}.quota.{tier}", f"is not a tier; there are {', '.join(tiers)}")


def diff(before: Mapping[str, RoleSpec], after: Mapping[str, RoleSpec]) -> list[Change]:
    """What applying `after` over `before` changes, in a fixed order. Roles in `before` alone are deleted."""
    left = {name: _flat(role) for name, role in before.items()}
    right = {name: _flat(role) for name, role in after.items()}
    changes = []
    for name in sorted(left.keys() | right.keys()):
        mine, theirs = left.get(name, {}), right.get(name, {})
        for path in sorted(mine.keys() | theirs.keys()):
            if mine.get(path) != theirs.get(path):
                changes.append(Change(f"{name}/{path}", mine.get(path), theirs.get(path)))
    return changes


def dump_file(roles: Mapping[str, RoleSpec]) -> str:
    """The inverse of `parse_file`: what `priority roles show --yaml` prints."""
    document = {"roles": {name: _written(role) for name, role in roles.items()}}
    return yaml.safe_dump(document, sort_keys=True, allow_unicode=True)


def _written(role: RoleSpec) -> dict[str, Any]:
    """As people write it: amounts with their units."""
    document = role.model_dump(mode="json", exclude_defaults=True)
    if role.quota:
        document["quota"] = _written_quotas(role.quota)
    for name, member in role.users.items():
        document["users"][name]["grants"] = list(member.grants)  # whoever reads it need not know the default
        if member.quota:
            document["users"][name]["quota"] = _written_quotas(member.quota)
    return document


def _written_quotas(quotas: Quotas) -> dict[str, Any]:
    return {tier: written_amounts(amounts) for tier, amounts in quotas.items()}


def _flat(role: RoleSpec) -> dict[str, Any]:
    plain = role.model_dump(mode="json")
    flat: dict[str, Any] = {"weight": plain["weight"]}
    if plain["description"]:  # none is no change to tell of
        flat["description"] = plain["description"]
    for tier, amounts in plain["quota"].items():
        flat |= {f"quota/{tier}": amounts}
    for user, member in plain["users"].items():
        flat[f"users/{user}/grants"] = sorted(member["grants"])
        flat |= {f"users/{user}/quota/{tier}": amounts for tier, amounts in member["quota"].items()}
    return flat
