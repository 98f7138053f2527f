"""`priority job ...`, and the same verbs without the noun."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from priority.errors import Invalid, PriorityError, Unavailable
from priority.face import complete, many, shell
from priority.face.shell import Json, OnlyJson
from priority.task import ONE_INSTANCE

if TYPE_CHECKING:
    from priority.face import views
    from priority.face.client import Client

job = shell.group("Jobs: submit, look, change.")

Ref = Annotated[
    str,
    typer.Argument(
        help="The job: role/tier/name (the latest so named) or its uid.", metavar="JOB", autocompletion=complete.jobs
    ),
]
Active = Annotated[
    str,
    typer.Argument(help="The job: role/tier/name or its uid.", metavar="JOB", autocompletion=complete.active_jobs),
]
Refs = Annotated[
    list[str] | None,
    typer.Argument(help="Jobs: role/tier/name or uid.", metavar="[JOB]...", autocompletion=complete.active_jobs),
]
OfRole = Annotated[
    str | None, typer.Option("--role", help="Every active job of this role.", autocompletion=complete.roles)
]
OfTier = Annotated[str | None, typer.Option("--tier", help="Every one of this tier.", autocompletion=complete.tiers)]
OfName = Annotated[
    str | None,
    typer.Option("--name", help="Every one of this name; * stands for any letters, ? for one.", metavar="PATTERN"),
]
OfUser = Annotated[
    str | None, typer.Option("--user", help="Every one submitted by this user.", autocompletion=complete.users)
]
OfLabel = Annotated[str | None, typer.Option("--label", help="Every one with this label.", metavar="NAME=VALUE")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say which jobs it would be.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before jobs that are selected are changed.")]
JobOrTask = Annotated[
    str, typer.Argument(help="A job, or a task's id.", metavar="JOB|TASK", autocompletion=complete.jobs)
]
Instances = Annotated[
    str | None, typer.Option("--instances", "-i", help="Only these, such as 0,2-5.", metavar="LIST", show_default="all")
]
Why = Annotated[str, typer.Option("--why", help="What others will read as the reason.", metavar="TEXT")]

INSTANCES_MAX = 1_000_000
PLACED = ("starting", "running", "preempting", "killing")
"""States in which a task holds room on a node."""


def instances_of(text: str | None) -> list[int] | None:
    """`0,2-5` as numbers; None for all."""
    if text is None:
        return None
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdigit() or (last and not last.isdigit()) or ("-" in part and not last):
            raise Invalid("--instances", f"must be such as 0,2-5, not {text!r}")
        low, high = int(first[:9]), int((last or first)[:9])
        if high < low:
            raise Invalid("--instances", f"{part} ends before it begins: write {high}-{low}")
        if high - low >= INSTANCES_MAX:
            raise Invalid("--instances", f"names more than {INSTANCES_MAX} instances")
        found.update(range(low, high + 1))
    return sorted(found)


@job.command("list")
def list_jobs(
    *,
    role: Annotated[
        list[str] | None, typer.Option(help="Of this role; may be repeated.", autocompletion=complete.roles)
    ] = None,
    tier: Annotated[
        str | None, typer.Option(help="prod, devel or opportunistic.", autocompletion=complete.tiers)
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of this name; * stands for any letters, ? for one.", metavar="PATTERN")
    ] = None,
    user: Annotated[str | None, typer.Option(help="Submitted by this user.", autocompletion=complete.users)] = None,
    label: Annotated[str | None, typer.Option(help="With this label.", metavar="NAME=VALUE")] = None,
    ended: Annotated[bool, typer.Option("--ended", help="Those that have ended.")] = False,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Active and ended ones.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 100,
    json: Json = False,
) -> None:
    """List jobs, newest first: the active ones, if not told otherwise.

    Each instance of a job counts once: pending (it waits), starting, running, dying (told to end, still on its node),
    or ended as finished, failed or killed. --json has all columns, also those that a narrow window leaves out.
    """
    from itertools import islice

    state = None if everything else "ended" if ended else "active"
    with shell.client() as client:
        found = client.all_jobs(
            role=role, tier=tier, name=name, user=user, label=label, state=state, limit=min(limit, 1000)
        )
        items = list(islice(found, limit))
    if json:
        return shell.write_json(items)
    from priority.face import show

    none = "no ended jobs" if ended else "no jobs"
    if state == "active":
        none = "no active jobs; --ended shows those that have ended, --all both"
    return show.out(show.jobs(items, none))


@job.command("status")
def status(
    ref: Ref,
    all_tasks: Annotated[
        bool, typer.Option("--all", "-a", help="Every instance and every attempt, the newest first.")
    ] = False,
    json: Json = False,
) -> None:
    """Show a job and its tasks: the newest attempt of each instance, of at most 100 instances. Instances that are alike
    and are on no node share a line.
    """
    with shell.client() as client:
        view = client.job(ref)
        if all_tasks:
            found = client.all_tasks(view["uid"], limit=1000)
            items, more = list(shell.progress(found, "reading tasks", view["instances"], 2000)), False
            items.sort(key=lambda task: (task["instance"], -task["attempt"]))
        else:
            items, more = _current(client, view["uid"], 100)
    if json:
        return shell.write_json({**view, "tasks": items})
    from priority.face import show

    return show.job(view, items, more, each=all_tasks)


def _current(client: Client, uid: str, limit: int) -> tuple[list[views.TaskView], bool]:
    """The newest attempts, by instance, and whether there are more of them than `limit`. If so, those that hold room
    rather than those that wait or have ended.
    """
    page = client.tasks(uid, current=True, limit=limit)
    if page["next"] is None:
        return page["items"], False
    chosen = {task["id"]: task for task in client.tasks(uid, state=PLACED, current=True, limit=limit)["items"]}
    for task in page["items"][: limit - len(chosen)]:
        chosen.setdefault(task["id"], task)
    return sorted(chosen.values(), key=lambda task: (task["instance"], task["attempt"])), True


@job.command("kill")
def kill(
    *,
    refs: Refs = None,
    role: OfRole = None,
    tier: OfTier = None,
    name: OfName = None,
    user: OfUser = None,
    label: OfLabel = None,
    instances: Instances = None,
    why: Why = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """End jobs, or some of their instances. What runs gets SIGTERM and the job's kill_grace.

    Name the jobs: if one of them is not there, none is killed. Or select them: `priority kill --role mc --name 'r7-*'`
    ends every active job that fits all that is said, after asking. Up to 1000 jobs are one transaction.
    """
    chosen = many.Choice(refs, {"role": role, "tier": tier, "name": name, "user": user, "label": label}, dry_run, yes)
    many.change("kill", chosen, instances_of(instances), why, json)


@job.command("restart")
def restart(
    *,
    refs: Refs = None,
    role: OfRole = None,
    tier: OfTier = None,
    name: OfName = None,
    user: OfUser = None,
    label: OfLabel = None,
    instances: Instances = None,
    why: Why = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Begin jobs anew, or some of their instances that run. Name them, or select them as for `priority kill`."""
    chosen = many.Choice(refs, {"role": role, "tier": tier, "name": name, "user": user, "label": label}, dry_run, yes)
    many.change("restart", chosen, instances_of(instances), why, json)


@job.command("scale")
def scale(
    ref: Active,
    instances: Annotated[int, typer.Argument(help="How many there are to be.", metavar="INSTANCES")],
    json: Json = False,
) -> None:
    """Change how many instances a job has; fewer kills those with the highest numbers."""
    if instances < 1:
        raise Invalid("INSTANCES", f"must be at least 1, not {instances}; `priority kill` ends the job")
    with shell.client() as client:
        done = client.scale(ref, instances)
    if done["warnings"]:
        from priority.face import show

        for warning in done["warnings"]:
            show.warn(warning)
    many.tell([done], json, f"has {instances} instance{'' if instances == 1 else 's'} now")


@job.command("explain")
def explain(
    ref: Annotated[
        str | None,
        typer.Argument(help="A job, or a task's id.", metavar="JOB|TASK", autocompletion=complete.jobs),
    ] = None,
    submit: Annotated[
        Path | None, typer.Option(help="What would happen if this file were submitted now.", metavar="FILE")
    ] = None,
    json: Json = False,
) -> None:
    """Say why a job waits, or why it was killed: by whom, for whom, at what cost.

    The cost of a preemption, in cpu-seconds, is what the victim held: its requested cpus x the time since its start.

    With --submit: what would happen if a file of jobs were submitted now, without changing anything: where each
    instance would run, whom it would displace at what cost, the quota after; or why it would wait, and until when at
    the latest.
    """
    if (ref is None) == (submit is None):
        raise Invalid("JOB", "name a job or a task, or give --submit FILE")
    if submit is not None:
        return _forecast(submit, json)
    with shell.client() as client:
        found = client.explain(ref or "")
    if json:
        return shell.write_json(found)
    from priority.face import show

    return show.explanation(found)


def _forecast(file: Path, json: bool) -> None:
    from priority.face.cli_submit import specs_in
    from priority.job import JobSpec

    fields = set(JobSpec.model_fields)  # of a cron job, what one run of it asks for
    specs = [spec.model_dump(mode="json", include=fields) for spec in specs_in([str(file)])]
    with shell.client() as client:
        found = client.plan(*specs)
    if json:
        return shell.write_json(found)
    from priority.face import show_plan

    return show_plan.forecast(found)


@job.command("schema")
def schema(json: OnlyJson = False) -> None:
    """Print the JSON schema of a job: every field there is."""
    del json
    from priority.job import JobSpec

    shell.write_json(JobSpec.model_json_schema())


@job.command("logs")
def logs(
    ref: JobOrTask,
    *,
    instance: Annotated[
        int | None, typer.Option("--instance", "-i", min=0, help="Which instance of the job.", show_default="0")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the task has ended.")] = False,
    stream: Annotated[
        str,
        typer.Option(
            "--stream", help="stdout, stderr or both.", metavar="stdout|stderr|both", autocompletion=complete.streams
        ),
    ] = "both",
    tail: Annotated[
        int | None, typer.Option(min=0, help="Begin so many bytes before the end.", metavar="BYTES")
    ] = None,
    json: Json = False,
) -> None:
    """Print what a task wrote: its stdout on stdout, its stderr on stderr. Of a job: the newest attempt of one,
    `role/tier/name[3]` or -i 3.
    """
    if stream not in ("stdout", "stderr", "both"):
        raise Invalid("--stream", "must be stdout, stderr or both")
    with shell.client() as client:
        ref, instance = _of_instance(client, ref, instance)
        chosen: list[Literal["stdout", "stderr"]] = []
        if stream != "stderr":
            chosen.append("stdout")
        if stream != "stdout":
            chosen.append("stderr")
        offset = 0 if tail is None else -tail
        if follow and len(chosen) == 2:
            _follow_both(client, ref, instance, offset, json)
        else:
            for one in chosen:
                tell = one == chosen[0]
                _copy_log(client, ref, instance, one, offset=offset, follow=follow, json=json, tell=tell)


def _of_instance(client: Client, ref: str, instance: int | None) -> tuple[str, int | None]:
    """A job and one of its instances, however it was written; said if nobody chose one of several. Else a task."""
    named = ONE_INSTANCE.fullmatch(ref)
    if named is not None and instance in (None, int(named[2])):
        return named[1], int(named[2])
    if instance is not None or ref.count("/") != 2:
        return ref, instance
    many_of_it = client.job(ref)["instances"]
    if many_of_it > 1:
        shell.warn(f"priority: this is instance 0 of {many_of_it} of {ref}; -i chooses another")
    return ref, 0


def _copy_log(
    client: Client,
    ref: str,
    instance: int | None,
    stream: Literal["stdout", "stderr"],
    *,
    offset: int,
    follow: bool,
    json: bool,
    tell: bool,
) -> None:
    """`tell`: say so if the task has not started; what is gone of the output is said in any case."""
    binary = (sys.stdout if stream == "stdout" or json else sys.stderr).buffer
    waits = False
    while True:
        chunk = client.log_chunk(
            ref, instance=instance, stream=stream, offset=offset, limit=2**20, wait_s=20.0 if follow and waits else 0.0
        )
        if tell and not chunk.started and not waits:
            _say_not_started(ref, ended=chunk.ended, follow=follow)
        if 0 <= offset < chunk.offset:
            gone = "of a long output only the last part is kept (setting log_limit)"
            shell.warn(f"priority: {stream}: {chunk.offset - offset} bytes after byte {offset} are gone: {gone}")
        offset = chunk.offset + len(chunk.data)
        if chunk.data and json:
            text = chunk.data.decode(errors="replace")
            piece = {"stream": stream, "offset": chunk.offset, "next": offset, "data": text, "ended": chunk.ended}
            shell.write_json(piece)
        elif chunk.data:
            binary.write(chunk.data)
            binary.flush()
        elif chunk.ended or not follow:
            return
        waits = follow


def _say_not_started(ref: str, *, ended: bool, follow: bool) -> None:
    if ended:
        shell.warn(f"priority: {ref} has ended and never started, so there is no output")
    else:
        then = "waiting until it has" if follow else "-f waits until it has, `priority explain` says why it has not"
        shell.warn(f"priority: {ref} has not started, so there is no output yet; {then}")


def _follow_both(client: Client, ref: str, instance: int | None, offset: int, json: bool) -> None:
    faults: list[BaseException] = []

    def copy(stream: Literal["stdout", "stderr"]) -> None:
        try:
            tell = stream == "stdout"
            _copy_log(client, ref, instance, stream, offset=offset, follow=True, json=json, tell=tell)
        except (PriorityError, OSError) as error:
            faults.append(error)

    beside = threading.Thread(target=copy, args=("stderr",), daemon=True)
    beside.start()
    copy("stdout")
    beside.join()
    if faults:
        raise faults[0]


@job.command("watch")
def watch(
    ref: Annotated[
        str | None, typer.Argument(help="Only this job.", metavar="JOB", autocompletion=complete.jobs)
    ] = None,
    json: Json = False,
) -> None:
    """Watch jobs (or one job's tasks) live, until Ctrl-C. In a pipe or with --json: events, one a line."""
    with shell.client() as client:
        uid = client.job(ref)["uid"] if ref is not None else None
        if json or not sys.stdout.isatty():
            for event in client.events(-1, job=uid):
                shell.write_json(event)
                sys.stdout.flush()
        else:
            _live(client, uid)


def _live(client: Client, uid: str | None) -> None:
    """Draw at each news, at most some times a second."""
    from rich.live import Live

    from priority.face import show

    news = threading.Event()

    def listen() -> None:
        while True:
            try:
                for _ in client.events(-1, job=uid):
                    news.set()
            except Unavailable:
                news.set()

    def draw() -> Any:
        if uid is None:
            return show.jobs(client.jobs(state="active", limit=100)["items"], "no active jobs")
        return show.watched(client.job(uid), _current(client, uid, 100)[0], show.console().height)

    threading.Thread(target=listen, daemon=True).start()
    with Live(draw(), console=show.console(), auto_refresh=False, screen=True) as live:
        pause = threading.Event()
        while True:
            news.wait(2.0)  # ages move on without news
            news.clear()
            live.update(draw(), refresh=True)
            pause.wait(0.2)
