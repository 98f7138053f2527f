"""The shapes of every answer of the API: one definition for the server's OpenAPI and for the client's types.

Times are RFC 3339 strings in UTC, durations float seconds, amounts the users' own units (cores, MiB, devices).
"""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

Amounts = dict[str, float]
"""Resource name -> amount in the users' unit."""


class JobSummary(TypedDict):
    """A job, without what was asked for. Each of its `instances` counts once: among the `active` ones as pending,
    starting, running or dying (told to end, still on its node), else as finished, failed or killed.
    """

    uid: str
    key: str
    role: str
    tier: str
    name: str
    user: str
    state: str
    submitted: str
    ended: str | None
    instances: int
    active: int
    pending: int
    starting: int
    running: int
    dying: int
    finished: int
    failed: int
    killed: int
    priority: int
    resources: Amounts
    tick: str | None
    """Of a run of a cron job: the moment that it is for."""


class JobView(JobSummary):
    """A job, with what was asked for."""

    spec: dict[str, Any]


class Submitted(JobView):
    """A job as it was accepted. `warnings`: why it may wait for ever: no node that is known could hold it, or it asks
    for more than its ceiling; or that it has less notice than it asks for.
    """

    warnings: list[str]


class JobPage(TypedDict):
    """Jobs, newest first. `next` is the cursor for `after`, null on the last page."""

    items: list[JobSummary]
    next: str | None


class Bulk(TypedDict):
    """What became of a bulk submission: all of it. `warnings`: of jobs that no node that is known could hold, that ask
    for more than their ceiling, or for longer notice than is given.
    """

    jobs: list[JobSummary]
    replayed: bool
    warnings: list[str]


class TaskView(TypedDict):
    """One attempt of one instance."""

    id: str
    job: str
    instance: int
    attempt: int
    state: str
    node: str | None
    since: str
    started: str | None
    ended: str | None
    not_before: str | None
    exit_code: int | None
    signal: int | None
    cpu_s: float | None
    peak_mem_mib: int | None
    failures: int
    preemptions: int
    after: str | None
    kept_for: str | None
    reason: dict[str, Any] | None


class TaskPage(TypedDict):
    """Tasks by instance and attempt."""

    items: list[TaskView]
    next: str | None


class EventView(TypedDict):
    """One committed fact; ids grow in the order of the commits."""

    id: int
    at: str
    kind: str
    role: str | None
    job: str | None
    task: str | None
    data: dict[str, Any]


class EventPage(TypedDict):
    """Events after a given one. `next` is null when there are no more now; `last` is the id to go on from later."""

    items: list[EventView]
    next: int | None
    last: int


class MemberView(TypedDict):
    """A user's part in a role."""

    grants: list[str]
    quota: dict[str, Amounts]


class RoleView(TypedDict):
    """A tenant: tier -> quota, and its users."""

    name: str
    description: str
    weight: float
    quota: dict[str, Amounts]
    users: dict[str, MemberView]


class Roles(TypedDict):
    """Every role that one may see."""

    items: list[RoleView]


class ChangeView(TypedDict):
    """At `path`, such as `physics/quota/prod`, `before` becomes `after`; null: not there."""

    path: str
    before: Any
    after: Any


class Changes(TypedDict):
    """What applying the roles changes, or has changed. `refused`: why it would not be done without force. `warnings`:
    what is then promised that the cluster cannot keep.
    """

    applied: bool
    changes: list[ChangeView]
    refused: list[str]
    warnings: list[str]


class QuotaLine(TypedDict):
    """The quota of a role in a tier, or of one user there, and what of it is taken: `use` is what unfinished instances
    ask for, `holding` what tasks on nodes hold, `reserved` what is kept for cron jobs that do not run just now,
    `waiting` the rest. `left` is what the quota still allows: of a
    guarantee (prod) after `use`, of a ceiling after `holding`.
    """

    role: str
    tier: str
    user: str | None
    quota: Amounts | None
    use: Amounts
    holding: Amounts
    reserved: Amounts
    waiting: Amounts
    left: Amounts | None
    guarantee: bool


class QuotaView(TypedDict):
    """Quotas, and warnings about more prod quota than the cluster has."""

    items: list[QuotaLine]
    warnings: list[str]


class UserView(TypedDict):
    """A user and what they may do: role -> grants."""

    name: str
    admin: bool
    grants: dict[str, list[str]]


class Users(TypedDict):
    """Every user."""

    items: list[UserView]


class TokenView(TypedDict):
    """A token: never its secret."""

    id: str
    user: str
    label: str
    created: str
    expires: str | None
    revoked: str | None


class Tokens(TypedDict):
    """Tokens, one's own or everyone's."""

    items: list[TokenView]


class TokenCreated(TokenView):
    """A new token: `secret` is shown this once and kept nowhere."""

    secret: str


class Shared(TypedDict):
    """Who has what of a machine that other frameworks use too, such as an agent of Mesos: all that it has, what is
    offered to anybody, what our tasks hold, what others' hold.
    """

    capacity: Amounts
    offered: Amounts
    ours: Amounts
    others: Amounts


class NodeView(TypedDict):
    """A node: what it has, what tasks hold of it and when it was last heard of. `state`: up, silent (not heard of for
    `silent_s`: it takes nothing new), draining or down.
    """

    name: str
    state: str
    drained: bool
    capacity: Amounts
    held: Amounts
    free: Amounts
    tasks: int
    attributes: dict[str, str]
    shared: Shared | None
    seen: str


class Nodes(TypedDict):
    """Every node."""

    items: list[NodeView]


class AuditView(TypedDict):
    """Who changed what."""

    id: int
    at: str
    who: str
    action: str
    subject: str
    role: str | None
    before: Any
    after: Any


class AuditPage(TypedDict):
    """Audit rows, newest first."""

    items: list[AuditView]
    next: str | None


class ExplanationLine(TypedDict):
    """Of one task, or of `alike` tasks of which the same is true (those of `instances`, such as `0,2-5`, each in one or
    more of its `attempts`): one line for people and the facts behind it.
    """

    task: str
    instance: int
    instances: str
    attempt: int
    attempts: str
    state: str
    message: str
    alike: int
    details: dict[str, Any]


class ExplanationView(TypedDict):
    """Why a job or task is where it is: one line first, then the tasks' own."""

    job: str
    uid: str
    summary: str
    lines: list[ExplanationLine]


class SideView(TypedDict):
    """One of the two of a preemption; `user` and `state` (now) are null where one has no grant to know them."""

    task: str
    job: str
    role: str
    tier: str
    user: str | None
    state: str | None


class PreemptionView(TypedDict):
    """A task gave way to another: by which rule (`tier`, `priority`), at what cost, and what came of the other, in a
    word and a line: it `started`, is `waiting` or `starting`; or was `killed`, `lost`, `stopped` or `preempted` before
    it had started, or `failed` to.
    """

    id: int
    at: str
    node: str
    rule: str
    cpu_s_lost: float
    victim: SideView
    preemptor: SideView
    outcome: str
    outcome_at: str | None
    outcome_node: str | None
    message: str


class PreemptionPage(TypedDict):
    """Preemptions, newest first."""

    items: list[PreemptionView]
    next: str | None


class TallyView(TypedDict):
    """So many tasks and cpu-seconds of work; and of how many the preemptor started, waits still, or never started."""

    tasks: int
    cpu_s: float
    started: int
    waiting: int
    in_vain: int


class RoleTotal(TypedDict):
    """What a role took of others, and what was taken of it; what it took of itself is in both."""

    role: str
    took: TallyView
    gave: TallyView


class PairTotal(TypedDict):
    """What the role of the preemptor took of the role of the victim."""

    preemptor: str
    victim: str
    took: TallyView


class PreemptionTotals(TypedDict):
    """By role, both ways; and by pair of roles."""

    items: list[RoleTotal]
    pairs: list[PairTotal]


class PlaceView(TypedDict):
    """Of `count` instances the same is true: each `starts` at once on `node`, `starts-later` there in room that is
    coming, or `waits`, because of `reason`. `until`: when it has started at the latest; null: that is not known.
    """

    job: str
    instances: str
    count: int
    verdict: str
    node: str | None
    until: str | None
    reason: dict[str, Any] | None


class DisplacedView(TypedDict):
    """A task that would give way to an instance of the job `taker`, and what that would cost."""

    task: str
    job: str
    instance: int
    user: str | None
    node: str
    taker: str
    taker_instance: int
    rule: str
    cpu_s_lost: float
    comes_back: bool


class QuotaAfter(TypedDict):
    """A quota, what is counted against it and what is held on nodes, now and then."""

    role: str
    tier: str
    user: str | None
    quota: Amounts | None
    use: Amounts
    use_after: Amounts
    holding: Amounts
    holding_after: Amounts


class ForecastView(TypedDict):
    """What would happen: all `starts`, all starts but some later (`starts-later`), some `waits`, or it is `refused`
    with the problem that is in `refusal`. One line first, then where, whom it would displace, the quotas after, and the
    warnings with which it would be accepted.
    """

    verdict: str
    summary: str
    at: str
    jobs: list[str]
    refusal: dict[str, Any] | None
    places: list[PlaceView]
    displaced: list[DisplacedView]
    cpu_s_lost: float
    quota: list[QuotaAfter]
    warnings: list[str]


class AtRiskView(TypedDict):
    """A task that could be a victim: what would be lost now, how many tasks of the cluster would go before it, and why
    policy spares it now.
    """

    task: str
    instance: int
    attempt: int
    state: str
    node: str | None
    since: str
    cpu_s_lost: float
    cheaper: int
    spared: str | None


class RiskView(TypedDict):
    """A job's tasks that hold room (`count` of them), the next victim first; who may take them; do they come back."""

    job: str
    uid: str
    takers: list[str]
    comes_back: bool
    waiting: int
    count: int
    cpu_s_lost: float
    tasks: list[AtRiskView]


class Health(TypedDict):
    """`ok` or `degraded`, and each part: `ok`, or what is wrong with it."""

    status: str
    version: str
    parts: dict[str, str]


class Problem(TypedDict, total=False):
    """RFC 9457 problem details; members of the error's own stand beside these."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str
    problem: str
