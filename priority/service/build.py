"""The only place that picks concrete parts."""

from __future__ import annotations

from dataclasses import dataclass

from priority.ports import User
from priority.service import explain
from priority.service.jobs import Jobs
from priority.service.nodes import Nodes
from priority.service.parts import Parts
from priority.service.roles import Roles
from priority.service.settings import Settings
from priority.service.users import Users


@dataclass(frozen=True, slots=True)
class Service:
    """Every verb, over one set of parts."""

    parts: Parts
    jobs: Jobs
    roles: Roles
    users: Users
    nodes: Nodes

    def explain(self, actor: User, ref: str) -> explain.Explanation:
        """See `priority.service.explain.explain`."""
        return explain.explain(self.parts, actor, ref)

    def close(self) -> None:
        """Let go of every part."""
        self.parts.close()


def assemble(parts: Parts) -> Service:
    """The verbs over these parts."""
    return Service(parts, Jobs(parts), Roles(parts), Users(parts), Nodes(parts))


def build(settings: Settings) -> Service:
    """Over the store, queue and backend that the settings name. Does not upgrade the database."""
    raise NotImplementedError


def run_scheduler(settings: Settings) -> int:
    """Lead and schedule until SIGTERM or SIGINT; the exit status (0: asked to stop, 7: another leads now)."""
    raise NotImplementedError
