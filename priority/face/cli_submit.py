"""`priority submit`: from files, or everything on the command line."""

from __future__ import annotations

import re
import secrets
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from priority.errors import Invalid, NotFound, PriorityError, QuotaExceeded
from priority.face import complete, shell
from priority.face.cli_job import job
from priority.face.shell import Json

if TYPE_CHECKING:
    from priority.face import views, views_cron
    from priority.face.client import Client
    from priority.job import JobSpec

CHUNK_JOBS = 1000
CHUNK_BYTES = 3 * 2**20
ONLY = "jobs[0]."
ALONE_MAX = 100_000
"""Characters of a file that is read again to see whether it has one job only."""
"""So much goes into one request: below the service's default limits."""

Pairs = Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE")]


@job.command("submit")
def submit(
    given: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files of jobs in YAML or JSON (- for standard input); or, with --name, the command after --.",
            metavar="FILE... | -- COMMAND",
        ),
    ] = None,
    *,
    name: Annotated[str | None, typer.Option(help="Name of a job given here instead of in a file.")] = None,
    role: Annotated[str | None, typer.Option(help="Its role.", autocompletion=complete.roles)] = None,
    tier: Annotated[
        str | None,
        typer.Option(help="prod, devel or opportunistic.", show_default="devel", autocompletion=complete.tiers),
    ] = None,
    instances: Annotated[int | None, typer.Option("--instances", "-n", help="How many.", show_default="1")] = None,
    cpus: Annotated[float | None, typer.Option(help="Cores of each instance.", show_default="1")] = None,
    mem: Annotated[str | None, typer.Option(help="Memory of each, such as 4GiB.")] = None,
    disk: Annotated[str | None, typer.Option(help="Disk of each, such as 10GiB.")] = None,
    gpus: Annotated[float | None, typer.Option(help="GPUs of each.")] = None,
    resource: Annotated[list[str] | None, typer.Option(help="Any other.", metavar="NAME=N")] = None,
    env: Annotated[list[str] | None, typer.Option("--env", "-e", help="A variable.", metavar="NAME=VALUE")] = None,
    label: Annotated[list[str] | None, typer.Option(help="A label.", metavar="NAME=VALUE")] = None,
    importance: Annotated[int | None, typer.Option("--priority", help="Higher goes first in its role.")] = None,
    gang: Annotated[bool | None, typer.Option("--gang", help="All instances start together or none.")] = None,
    max_failures: Annotated[int | None, typer.Option(help="Failed attempts that end an instance.")] = None,
    max_runtime: Annotated[str | None, typer.Option(help="Such as 2h; longer counts as failed.")] = None,
    notice: Annotated[str | None, typer.Option(help="Before it is preempted, such as 30s.")] = None,
    schedule: Annotated[
        str | None, typer.Option(help="Makes it a cron job: five fields, or @daily and its like.", metavar="CRON")
    ] = None,
    timezone: Annotated[str | None, typer.Option(help="Of the schedule.", show_default="UTC", metavar="ZONE")] = None,
    collision: Annotated[
        str | None, typer.Option(help="cancel_new, kill_existing or allow.", show_default="cancel_new")
    ] = None,
    missed: Annotated[str | None, typer.Option(help="skip, run_latest or run_all.", show_default="skip")] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key: the same key never makes two jobs.")] = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Until all have ended; status 8 if not well.")] = False,
    json: Json = False,
) -> None:
    """Submit jobs. Those of one file are accepted together or not at all (up to 1000 of them); a job with a schedule is
    a cron job (see `priority cron`), and each of these is accepted by itself, after the others.

    priority submit jobs.yaml

    priority submit --role ci --name hello --cpus 1 -- echo hello
    """
    fields = {
        "role": role, "tier": tier, "instances": instances, "priority": importance, "gang": gang,
        "max_failures": max_failures, "max_runtime": max_runtime, "env": _pairs(env, "--env"),
        "labels": _pairs(label, "--label"), "preempt": {"notice": notice} if notice else None,
        "resources": _resources(resource, cpus=cpus, mem=mem, disk=disk, gpus=gpus),
        "schedule": schedule, "timezone": timezone, "collision": collision, "missed": missed,
    }  # fmt: skip
    set_fields = {field: value for field, value in fields.items() if value is not None}
    if name is None:
        specs = _from_files(given or [], set_fields)
    else:
        specs = [_from_line(name, given or [], set_fields)]
    plain = [spec for spec in specs if not hasattr(spec, "schedule")]
    crons = [spec for spec in specs if hasattr(spec, "schedule")]
    if wait and crons:
        raise Invalid("--wait", f"is for jobs: {crons[0].key} is a cron job, which goes on")
    files = (given or []) if name is None else []
    with shell.client() as client:
        jobs = _submit(client, plain, key, files) if plain else []
        kept = _submit_crons(client, crons, files) if crons else []
        ended = _wait(client, jobs, quiet=json) if wait else None
    _report(jobs, ended, json, kept)


def _pairs(given: Sequence[str] | None, option: str) -> dict[str, str] | None:
    if not given:
        return None
    found = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise Invalid(option, f"must be NAME=VALUE, not {one!r}")
        if name in found:
            raise Invalid(option, f"{name} is there twice: give it once")
        found[name] = value
    return found


def _resources(more: Sequence[str] | None, **named: Any) -> dict[str, Any] | None:
    found = {name: value for name, value in named.items() if value is not None}
    for name, value in (_pairs(more, "--resource") or {}).items():
        if name in found:
            raise Invalid("--resource", f"{name} is there twice: --{name} says it already")
        try:
            found[name] = int(value)
        except ValueError:
            raise Invalid("--resource", f"{name} must be a whole number, not {value!r}") from None
    if not found:
        return None
    return {"cpus": 1, **found}


def _from_line(name: str, command: Sequence[str], fields: dict[str, Any]) -> JobSpec:
    if not command:
        raise Invalid("command", "is missing; put it after --, such as: priority submit ... -- echo hello")
    if "role" not in fields:
        raise Invalid("--role", "is missing")
    # One word may be a line for the shell; several are a program and its arguments.
    line: Any = command[0] if len(command) == 1 else list(command)
    return _spec({"tier": "devel", "name": name, "command": line, **fields})


def _spec(document: Any, prefix: str = "") -> JobSpec:
    """A cron job if it has a schedule. What reads those is not loaded for others."""
    if isinstance(document, dict) and "schedule" in document:
        from priority.cron import parse_spec
    else:
        from priority.job import parse_spec
    return parse_spec(document, prefix)


def _from_files(files: Sequence[str], fields: dict[str, Any]) -> list[JobSpec]:
    if not files:
        raise Invalid("FILE", "name a file of jobs, or give --role, --name and a command; see `priority submit --help`")
    if fields:
        options = ", ".join(sorted(fields))
        raise Invalid("--name", f"is missing: {options} is of a job given here, by --name; in a file it is a field")
    return specs_in(files)


def specs_in(files: Sequence[str]) -> list[JobSpec]:
    """The jobs of these files, in order."""
    specs: list[JobSpec] = []
    for file in files:
        path = Path(file)
        try:
            specs += _read(shell.read_text(path))
        except PriorityError as error:
            raise error if error.message.startswith(f"{path}:") else shell.in_file(path, error) from None
    if not specs:
        names = ", ".join("standard input" if file == "-" else file for file in files)
        raise Invalid(names, "there is no job in it")
    return specs


def _read(text: str) -> list[JobSpec]:
    try:
        return _parse(text)
    except Invalid as error:
        if error.field.startswith(ONLY) and _is_alone(text):
            more = [{**one, "field": one["field"].removeprefix(ONLY)} for one in shell.more_of(error)]
            raise Invalid(error.field.removeprefix(ONLY), error.problem, more=more) from None
        raise


def _is_alone(text: str) -> bool:
    """Whether a file has one job only: then its fields need no number before them."""
    from priority.job import documents

    if len(text) > ALONE_MAX:
        return False
    try:
        return len(list(islice(documents(text), 2))) == 1
    except PriorityError:  # a field that is there twice: of the only one, unless another begins somewhere
        _, _, rest = text.partition("\n")
        return not text.lstrip().startswith(("[", "- ")) and re.search(r"^(---|\{)", rest, re.MULTILINE) is None


def _parse(text: str) -> list[JobSpec]:
    """JSON by a fast parser where it is JSON; everything else (YAML, several documents) by the parser of YAML."""
    from priority.job import parse_all, parse_file

    if text.lstrip()[:1] in ("[", "{"):
        import orjson

        try:
            document = orjson.loads(text)
        except ValueError:
            return _parse_lines(text)
        _check_unique(text, 0)
        documents = document if isinstance(document, list) else [document]
        return parse_all(documents, _spec)
    return parse_file(text, _spec)


def _parse_lines(text: str) -> list[JobSpec]:
    import orjson

    from priority.job import parse_all, parse_file

    lines = [line for line in text.splitlines() if line.strip()]
    try:
        documents = [orjson.loads(line) for line in lines]
    except ValueError:
        return parse_file(text, _spec)
    for number, line in enumerate(lines):
        _check_unique(line, number)
    return parse_all(documents, _spec)


def _check_unique(text: str, jobs: int) -> None:
    """The fast parser keeps the last of two fields of one name; `Invalid` names the first such, after so many jobs."""
    from priority import strict
    from priority.job import at

    try:
        strict.read(text, "jobs")
    except Invalid as error:
        raise Invalid(at(jobs, error.field), error.problem) from None


def _submit(client: Client, specs: Sequence[JobSpec], key: str | None, files: Sequence[str]) -> list[views.JobSummary]:
    """What the service says of the jobs of one file, in one request, comes with the file's name."""
    try:
        return list(_send(client, specs, key))
    except (Invalid, NotFound, QuotaExceeded) as error:
        if len(files) == 1 and len(specs) <= CHUNK_JOBS:
            error.message = f"{files[0]}: {error.message}"
        raise


def _submit_crons(client: Client, specs: Sequence[JobSpec], files: Sequence[str]) -> list[views_cron.CronSubmitted]:
    kept = []
    for spec in specs:
        try:
            kept.append(client.submit_cron(spec))
        except (Invalid, NotFound, QuotaExceeded) as error:
            error.message = f"{files[0] if len(files) == 1 else spec.key}: {error.message}"
            raise
        _warn(kept[-1]["warnings"])
    return kept


def _send(client: Client, specs: Sequence[JobSpec], key: str | None) -> Iterator[views.JobSummary]:
    key = key or secrets.token_hex(16)
    if len(specs) == 1:
        one = client.submit(specs[0], key)
        _warn(one["warnings"])
        yield one
        return
    chunks = list(_chunks(specs))
    if len(chunks) > 1:
        shell.warn(f"priority: {len(specs)} jobs go in {len(chunks)} requests: each is accepted whole or not at all")
    for number, chunk in enumerate(shell.progress(chunks, "submitting", len(chunks))):
        done = client.submit_many(chunk, key if number == 0 else f"{key}-{number}")
        _warn(done["warnings"])
        yield from done["jobs"]


def _warn(warnings: Sequence[str]) -> None:
    if warnings:
        from priority.face import show

        for warning in warnings:
            show.warn(warning)


def _chunks(specs: Sequence[JobSpec]) -> Iterator[list[JobSpec]]:
    chunk: list[JobSpec] = []
    size = 0
    for spec in specs:
        large = len(spec.model_dump_json())
        if chunk and (len(chunk) == CHUNK_JOBS or size + large > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(spec)
        size += large
    yield chunk


def _wait(client: Client, jobs: Sequence[views.JobSummary], *, quiet: bool) -> list[views.JobSummary]:
    uids = [one["uid"] for one in jobs]
    if quiet or not sys.stderr.isatty():
        return client.wait(*uids)
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from priority.face import show

    columns = (TextColumn("waiting"), BarColumn(), MofNCompleteColumn(), TextColumn("jobs"), TimeElapsedColumn())
    with Progress(*columns, console=show.console(error=True), transient=True) as bar:
        line = bar.add_task("waiting", total=len(uids))
        return client.wait(*uids, seen=lambda _: bar.advance(line))


def _report(
    jobs: Sequence[views.JobSummary],
    ended: list[views.JobSummary] | None,
    json: bool,
    crons: Sequence[views_cron.CronSubmitted] = (),
) -> None:
    found: Sequence[views.JobSummary] = ended if ended is not None else jobs
    if json:
        everything = [*found, *crons]
        shell.write_json(everything[0] if len(everything) == 1 else everything)
    else:
        for one in found[:20]:
            shell.write(f"{one['key']} {_became(one)} ({one['uid']})")
        if len(found) > 20:
            shell.write(f"... and {len(found) - 20} more")
        if crons:
            from priority.face import show_cron

            show_cron.submitted(crons)
    unwell = [one for one in ended or () if one["failed"] or one["killed"]]
    if unwell and not json:
        key = unwell[0]["key"]
        shell.warn(f"priority: `priority explain {key}` says why, `priority logs {key}` what it wrote")
    if unwell:
        raise typer.Exit(shell.UNFINISHED)


def _became(one: views.JobSummary) -> str:
    if one["state"] == "active":
        return "submitted"
    if one["finished"] == one["instances"]:
        return "finished"
    return f"ended: {one['finished']} finished, {one['failed']} failed, {one['killed']} killed"
