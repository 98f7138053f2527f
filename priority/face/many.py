"""`kill` and `restart` of many jobs: named ones, all or none; or all that fit, after asking."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import typer

from priority.errors import Invalid
from priority.face import shell
from priority.task import ranges

if TYPE_CHECKING:
    from priority.face.client import Client

Verb = Literal["kill", "restart"]

CHUNK_JOBS = 1000
"""Jobs of one request, at most."""
SHOWN = 20
"""Lines about jobs that were selected: of more the rest is counted."""
SAID: Mapping[Verb, str] = {"kill": "is being killed", "restart": "begins anew"}


@dataclass(frozen=True, slots=True)
class Choice:
    """What the command line names."""

    refs: Sequence[str] | None
    fits: Mapping[str, str | None]
    """What jobs that are selected fit, by option."""
    dry_run: bool
    yes: bool

    @property
    def selected(self) -> dict[str, str]:
        """What is said of the jobs, if they are not named."""
        return {name: value for name, value in self.fits.items() if value is not None}


def change(verb: Verb, choice: Choice, instances: list[int] | None, why: str, json: bool) -> None:
    """`Invalid` unless jobs are either named or selected."""
    options = ", ".join(f"--{name}" for name in choice.fits)
    if choice.refs and choice.selected:
        given = ", ".join(f"--{name}" for name in choice.selected)
        raise Invalid("JOB", f"name jobs, or select them by {given}, not both")
    if not choice.refs and not choice.selected:
        raise Invalid("JOB", f"name the jobs to {verb}, or select them by {options}")
    with shell.client() as client:
        if choice.refs:
            done = _named(client, verb, choice, instances, why)
            return tell(done, json, f"would be {verb}ed" if choice.dry_run else SAID[verb], instances)
        if instances is not None:
            raise Invalid("--instances", "goes with jobs that are named; jobs that are selected are changed whole")
        return _selected(client, verb, choice, why, json)


def _named(client: Client, verb: Verb, choice: Choice, instances: list[int] | None, why: str) -> list[Any]:
    """One request, unless there are very many: then all are looked up before the first is changed."""
    act = client.kill_many if verb == "kill" else client.restart_many
    chunks = list(_chunks(choice.refs or ()))
    if len(chunks) > 1 or choice.dry_run:
        found = [act(chunk, instances, why, dry_run=True) for chunk in _shown(chunks, "looking them up")]
        if choice.dry_run:
            return [view for views in found for view in views]
    return [view for chunk in _shown(chunks, "changing them") for view in act(chunk, instances, why)]


def _selected(client: Client, verb: Verb, choice: Choice, why: str, json: bool) -> None:
    act = client.kill_selected if verb == "kill" else client.restart_selected
    total = 0
    if choice.dry_run or not choice.yes:
        found = list(act(**choice.selected, dry_run=True))
        total = len(found)
        if choice.dry_run or not found:
            return _tell_selected(found, json, f"would be {verb}ed")
        _ask(verb, found)
    done = list(shell.progress(act(**choice.selected, why=why), "changing them", total))
    return _tell_selected(done, json, SAID[verb])


def _ask(verb: Verb, found: Sequence[Any]) -> None:
    """On a terminal. Elsewhere nobody could answer, so it has to be said beforehand."""
    jobs = f"{len(found)} active job{'' if len(found) == 1 else 's'}"
    if not sys.stdin.isatty():
        raise Invalid("--yes", f"say it to {verb} {jobs} that fit, or --dry-run to see which")
    for view in islice(found, SHOWN):
        shell.warn(f"  {view['key']}  ({view['active']} active of {view['instances']})")
    if len(found) > SHOWN:
        shell.warn(f"  ... and {len(found) - SHOWN} more")
    typer.confirm(f"{verb} {jobs}?", abort=True, err=True)


def _tell_selected(found: Sequence[Any], json: bool, what: str) -> None:
    if json or len(found) <= SHOWN:
        if not found and not json:
            return shell.write("no active job fits")
        return tell(found, json, what)
    tell(found[:SHOWN], json, what)
    return shell.write(f"... and {len(found) - SHOWN} more")


def tell(done: Sequence[Any], json: bool, what: str, instances: Sequence[int] | None = None) -> None:
    """A line for each job; `what` is said of those that have not ended, or of these instances of them."""
    which = "" if instances is None else f"[{ranges(instances)}]"
    if json:
        return shell.write_json(list(done))
    for view in done:
        shell.write(f"{view['key']}{which} {what}" if view["state"] == "active" else f"{view['key']} has ended")
    return None


def _chunks(refs: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(refs), CHUNK_JOBS):
        yield list(refs[start : start + CHUNK_JOBS])


def _shown(chunks: list[list[str]], what: str) -> Any:
    return shell.progress(chunks, what, len(chunks))
