"""What every command of the CLI stands on: where the service is, how errors end, how `--json` looks.

An error is one line on standard error that says what is wrong and what to do next, and an exit status. Of a document
each fault is a line.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from priority.errors import Malformed, PriorityError
from priority.printable import printable_lines

if TYPE_CHECKING:
    from priority.face.client import Client
    from priority.service.settings import Settings

CLOSED_PIPE = 128 + 13
"""The exit status when nobody reads our output any more: as of a program that SIGPIPE ends."""

UNFINISHED = 8
"""The exit status of `--wait` when a job did not finish well."""

EXIT_STATUSES = """Exit status:

 0 done;
 1 something went wrong;
 2 the request is not valid;
 3 there is no such thing, or you have no grant for it;
 4 a valid token is needed;
 5 it does not fit what is already there;
 6 the quota does not allow it;
 7 a part that is needed does not answer;
 8 a job that was waited for did not finish well;
 130 interrupted."""

ELSEWHERE = {
    **dict.fromkeys(("sbatch", "srun", "salloc", "run", "create"), "submit"),
    **dict.fromkeys(("squeue", "queue", "ps", "ls"), "list"),
    **dict.fromkeys(("scancel", "cancel", "delete", "rm", "stop"), "kill"),
    **dict.fromkeys(("sprio", "describe"), "explain"),
    "sinfo": "node list",
    "sacct": "list --all",
    "show": "status",
    "scontrol": "status` or `priority explain",
    "sacctmgr": "roles` or `priority quota",
    "sreport": "quota show",
    "top": "watch",
    "drain": "node drain",
}
"""Commands that people look for, from Slurm and the like: ours."""

Json = Annotated[bool, typer.Option("--json", help="JSON on standard output, for programs.")]
OnlyJson = Annotated[bool, typer.Option("--json", help="As elsewhere; nothing but JSON is printed anyway.")]
Call = TypeVar("Call", bound=Callable[..., Any])
Item = TypeVar("Item")

_given: dict[str, str] = {}
"""What the options before the command said: `state` and `url`."""


def give(state: Path | None, url: str | None) -> None:
    """Remember the options before the command."""
    _given.clear()
    if state is not None:
        _given["state"] = str(state)
    if url is not None:
        _given["url"] = url


def settings(**given: Any) -> Settings:
    """The settings, with what the command line gives before environment and file; None is not given."""
    from pydantic import ValidationError
    from yaml import YAMLError

    from priority.document import invalid
    from priority.service.settings import Settings as Read
    from priority.service.settings import unknown

    values: dict[str, Any] = {**_given, **{name: value for name, value in given.items() if value is not None}}
    try:
        found = Read(**values)
        for line in unknown():
            warn(f"priority: {line}")
        return found
    except ValidationError as error:
        raise invalid(error) from None
    except YAMLError as error:
        file = os.environ.get("PRIORITY_CONFIG", "priority.yaml")
        raise Malformed(f"{file}: not YAML: {str(error).splitlines()[0]}") from None


def client(**options: Any) -> Client:
    """Of the service that the settings name. Whoever looks on is told when it must be waited for; and a host that
    was named and refuses is not waited for as long as the state folder's own service.
    """
    from priority.face import locate
    from priority.face.client import Client as Make

    found = settings()
    if found.url:
        options.setdefault("refused_s", locate.GRACE_S)
    if sys.stderr.isatty():
        options.setdefault("waits", lambda text: warn(f"priority: {text}"))
    return Make.find(found, **options)


def write(text: str) -> None:
    """A line on standard output."""
    typer.echo(printable_lines(text))


def write_json(document: Any) -> None:
    """One JSON value on one line."""
    import orjson

    typer.echo(orjson.dumps(document).decode())


def warn(text: str) -> None:
    """A line on standard error."""
    typer.echo(printable_lines(text), err=True)


def read_text(path: Path) -> str:
    """A file, or standard input for `-`. `Malformed` if it cannot be read as text."""
    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        return data.decode()
    except OSError as error:
        raise Malformed(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Malformed(f"{path}: is not UTF-8 text") from None


def in_file(path: Path, error: PriorityError) -> PriorityError:
    """The same error with the file's name before it."""
    return Malformed(
        f"{path}: {error.message}", more=[{**one, "field": f"{path}: {one['field']}"} for one in more_of(error)]
    )


def more_of(error: PriorityError) -> list[dict[str, str]]:
    """The faults that were found beside the one that the message names."""
    more = error.details.get("more", ())
    return [one for one in more if isinstance(one, dict) and {"field", "problem"} <= one.keys()]


class Group(TyperGroup):
    """The whole CLI: errors become one line and an exit status, the same under `python -m`, the script and a test's
    runner.
    """

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and end the process unless `standalone_mode` is off."""
        status = 0
        try:
            found = super().main(
                args,
                prog_name=prog_name or "priority",
                complete_var=complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                **extra,
            )
            sys.stdout.flush()
            status = found if isinstance(found, int) else 0
        except PriorityError as error:
            status = _say(error.message, error.exit_status)
            for one in more_of(error):
                _say(f"{one['field']}: {one['problem']}", status)
        except typer.TyperException as error:
            status = _usage(error)
        except (KeyboardInterrupt, typer.Abort):
            status = _say("interrupted", 130)
        except BrokenPipeError:
            # Who reads our output has seen enough. Nothing may be flushed into the closed pipe at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = CLOSED_PIPE
        except SystemExit as error:
            # `rich` turns the same into an exit of its own, and has let go of the pipe.
            if not isinstance(error.__context__, BrokenPipeError):
                raise
            status = CLOSED_PIPE
        except OSError as error:
            status = _system(error)
        except Exception as error:
            status = _fault(error)
        if standalone_mode:
            sys.exit(status)
        return status


def _say(message: str, status: int) -> int:
    warn("priority: " + " ".join(message.split("\n")))
    return status


def _system(error: OSError) -> int:
    """What the system refused: a folder that may not be written, a full disk, a file where a folder should be."""
    if error.strerror is None:
        return _fault(error)
    where = error.filename
    if where is None and _written_by_us(error):
        where = "standard output"
        # What is still unwritten must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _say(f"cannot use {where}: {error.strerror}" if where else f"the system refused: {error.strerror}", 1)


def _written_by_us(error: OSError) -> bool:
    """Whether it comes from a line that prints: the system names no file for an open one."""
    trace, names, last = error.__traceback__, set(), ""
    while trace is not None:
        names.add((trace.tb_frame.f_globals.get("__name__"), trace.tb_frame.f_code.co_name))
        last = trace.tb_frame.f_code.co_name
        trace = trace.tb_next
    prints = {(__name__, "write"), (__name__, "write_json"), ("priority.face.show", "out")}
    return bool(names & prints) or last == "main"


def _fault(error: Exception) -> int:
    """Ours, not the user's: still one line, unless the whole story is asked for."""
    if os.environ.get("PRIORITY_DEBUG"):
        import traceback

        traceback.print_exc()
    return _say(f"a fault of ours: {type(error).__name__}: {error}; PRIORITY_DEBUG=1 shows where, please report it", 1)


def _usage(error: typer.TyperException) -> int:
    context = getattr(error, "ctx", None)
    message = _in_our_words(error).strip().rstrip(".")
    if not message or type(error).__name__ == "NoArgsIsHelpError":
        warn(context.get_help() if context is not None else str(error))
        return 2
    command = context.command_path if context is not None else "priority"
    asked = re.match(r"No such command '(\w+)'", message)
    if asked and command == "priority" and asked[1] in ELSEWHERE:
        return _say(f"No such command '{asked[1]}'; here it is `priority {ELSEWHERE[asked[1]]}`", 2)
    return _say(f"{message.removesuffix('?')}; see `{command} --help`", 2)


def _in_our_words(error: typer.TyperException) -> str:
    """Values are read by pydantic, whose words are not ours."""
    from pydantic import ValidationError

    from priority.document import wording

    message, cause = error.format_message(), error.__cause__
    if isinstance(cause, ValidationError):
        fault: Any = cause.errors(include_url=False)[0]
        whose = message.partition(": ")[0].removeprefix("Invalid value for ").replace("'", "")
        return f"{whose}: {wording(fault)}"
    return message


def flowing(text: str) -> str:
    """A docstring as paragraphs of one line each: broken where the window ends, not where the source does."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in cleandoc(text).split("\n\n"))


def progress(items: Iterable[Item], what: str, total: int, least: int = 2) -> Iterable[Item]:
    """Each of them, with a bar for whoever looks on, if there are at least so many."""
    if total < least or not sys.stderr.isatty():
        return items
    from rich.progress import track

    from priority.face import show

    return track(items, what, total, console=show.console(error=True), transient=True)


def let_flow(tree: typer.Typer) -> None:
    """The help of every command below."""
    for command in tree.registered_commands:
        if command.help is None and command.callback is not None:
            command.help = flowing(command.callback.__doc__ or "")
    for below in tree.registered_groups:
        if below.typer_instance is not None:
            let_flow(below.typer_instance)


def group(help: str) -> typer.Typer:
    """A noun: its verbs are its commands."""
    return typer.Typer(help=help, no_args_is_help=True, rich_markup_mode="rich", context_settings=CONTEXT)


CONTEXT = {"help_option_names": ["-h", "--help"]}
