"""Plain data from outside: read strictly, and refused in our own words.

Whatever is wrong with a document (a job, a roles file, the body of a request, a setting), the answer names the field
and says what to write instead. The words for each kind of fault that pydantic knows are in one table here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from priority.errors import Invalid
from priority.printable import printable
from priority.tier import DEFAULT_TIERS

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
"""Of roles, tiers, users, jobs and nodes: safe in a path, a URL and a shell."""

VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,254}$"
"""Of variables in the environment of a task."""

UID_PATTERN = r"^[A-Za-z0-9_-]{1,128}$"
"""Of what has an id: jobs, tasks, tokens."""

JOB_PATTERN = r"^[A-Za-z0-9_./-]{1,200}$"
"""Of a job by either name: uid or role/tier/name."""

GLOB_PATTERN = r"^[A-Za-z0-9_.*?-]{1,63}$"
"""Of names of jobs, all that fit: `*` stands for any letters or none, `?` for one."""

FAULTS_MAX = 10
"""So many faults of a document are told at once: enough to mend it in one go, and no wall of text."""

SHOWN_MAX = 40
"""Characters of a value that an error repeats."""


class Document(BaseModel):
    """Plain data from outside: unknown fields, NaN and infinities are refused, and nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


_Model = TypeVar("_Model", bound=Document)


@lru_cache(maxsize=64)
def names_of(model: type[Document]) -> tuple[str, ...]:
    """The names of its fields. (To ask pydantic each time takes as long as to read a row.)"""
    return tuple(model.model_fields)


@lru_cache(maxsize=64)
def _all_set(model: type[Document]) -> set[str]:
    return set(names_of(model))


def made(model: type[_Model], values: dict[str, Any], said: set[str] | None = None) -> _Model:
    """What pydantic's `model_construct` makes of values that were checked before, all of them: in a fifth of the time.
    `said`: which of them were written; without it, all. It is one set for all that are alike (a copy of a document
    copies it): each less is less for the collector to do.
    """
    new = model.__new__(model)
    object.__setattr__(new, "__dict__", values)
    object.__setattr__(new, "__pydantic_fields_set__", said or _all_set(model))
    object.__setattr__(new, "__pydantic_extra__", None)
    object.__setattr__(new, "__pydantic_private__", None)
    return new


def invalid(error: ValidationError, prefix: str = "") -> Invalid:
    """What pydantic found, as ours: the path of each field and what is wrong with it, the first fault before all."""
    faults: list[Any] = error.errors(include_url=False)
    first = _misnamed(faults, error.title) or faults[0]
    if first["loc"] and first["loc"][0] == "command":
        first = _of_command(faults)
    others = (fault for fault in faults if fault is not first and not _named_otherwise(fault, faults, error.title))
    return joined(_told(fault, error.title, prefix) for fault in (first, *islice(others, 10 * FAULTS_MAX)))


def joined(faults: Iterable[Invalid]) -> Invalid:
    """Several as one: the first, which has the others as its detail `more`; of each field one, at most `FAULTS_MAX`."""
    told: dict[str, str] = {}
    for one in (each for fault in faults for each in fault.faults()):
        if len(told) < FAULTS_MAX and not any(_same(one["field"], known) for known in told):
            told[one["field"]] = one["problem"]
    (field, problem), *more = told.items()
    return Invalid(
        field, problem, **({"more": [{"field": name, "problem": why} for name, why in more]} if more else {})
    )


def _same(left: str, right: str) -> bool:
    """Whether they are one field, or one is in the other: what is wrong with a value need not be said of its parts."""
    longer, shorter = (left, right) if len(left) > len(right) else (right, left)
    return longer.startswith(shorter) and longer[len(shorter) : len(shorter) + 1] in ("", ".", "[")


def _named_otherwise(fault: Any, faults: list[Any], title: str) -> bool:
    """Whether it is a missing field of which another one, beside it, is thought to be a misspelling."""
    if fault["type"] != "missing":
        return False
    *place, name = fault["loc"]
    beside = (one for one in faults if one["type"] == "extra_forbidden" and [*one["loc"][:-1]] == place)
    return any(f"did you mean {name}?" in _not_known(str(one["loc"][-1]), title) for one in beside)


def _told(first: Any, title: str, prefix: str) -> Invalid:
    path, is_key = _path(first["loc"], prefix)
    path = (path + first.get("ctx", {}).get("path", "")).removeprefix(".")
    if first["type"] == "extra_forbidden":
        return Invalid(path, _not_known(str(first["loc"][-1]), title))
    problem = wording(first)
    if first["type"] == "missing" and first["loc"][-1] == "tier":
        problem += f": say {one_of(DEFAULT_TIERS)}"
    return Invalid(path or "document", f"as a name it {problem}" if is_key else problem)


def _misnamed(faults: list[Any], title: str) -> Any | None:
    """If the first fault is a field that is missing: the one beside it that is not known, before all others if it is
    like the missing one. Who wrote `comand` knows that there must be a command.
    """
    first = faults[0]
    if first["type"] != "missing":
        return None
    *place, name = first["loc"]
    beside = [one for one in faults if one["type"] == "extra_forbidden" and [*one["loc"][:-1]] == place]
    meant = (one for one in beside if f"did you mean {name}?" in _not_known(str(one["loc"][-1]), title))
    return next(meant, None) or next(iter(beside), None)


def _of_command(faults: list[Any]) -> Any:
    """A command has either of two shapes: what is wrong with the one that was meant says more than that it is not the
    other one. First of all a fault in one of the list's parts: pydantic calls a list of none but bad parts empty too.
    """
    shapes = ("string_type", "tuple_type")
    of_parts = (fault for fault in faults if isinstance(fault["loc"][-1], int))
    others = (fault for fault in faults if fault["type"] not in shapes)
    neither = {**faults[0], "type": "command_type"}
    return next(of_parts, None) or next(others, None) or neither


def _path(location: tuple[int | str, ...], prefix: str) -> tuple[str, bool]:
    """As users write it, and whether the fault is in a key there, not in its value."""
    path, is_key = prefix, False
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part == "[key]":
            is_key = True
        elif not part.startswith(("constrained-str", "tuple[", "function-after", "list[")):
            path += f".{part}" if path else part
    return path, is_key


# --- the words ---------------------------------------------------------------------------------------------------


def wording(fault: Mapping[str, Any]) -> str:
    """What is wrong, and what it must be instead."""
    context = fault.get("ctx", {})
    template = _WORDS.get(fault["type"])
    if template is None:
        return str(fault.get("msg", "is not valid")).removeprefix("Value error, ")
    problem = template(context) if callable(template) else template
    if not problem.startswith("must be") or "input" not in fault:
        return problem
    given = fault["input"]
    quote = fault["type"] == "string_type" and isinstance(given, bool | int | float)
    return f"{problem}, not {shown(given)}" + (f'; write it in quotes: "{shown(given)}"' if quote else "")


def one_of(names: Iterable[str]) -> str:
    """`prod, devel or opportunistic`."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def shown(value: Any) -> str:
    """A value of a user's in an error: short, and on one line."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple | set | frozenset):
        return "a list"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if not isinstance(value, str | int | float):
        return f"a {type(value).__name__}"  # YAML knows dates
    text = f'"{printable(value[: SHOWN_MAX + 1])}"' if isinstance(value, str) else _digits(value)
    return text if len(text) <= SHOWN_MAX + 2 else f"{text[:SHOWN_MAX]}..."


def _digits(value: float) -> str:
    huge = isinstance(value, int) and abs(value) >= 10**SHOWN_MAX
    return "a huge number" if huge else str(value)


def _matches(context: Mapping[str, Any]) -> str:
    pattern = context.get("pattern")
    if pattern == NAME_PATTERN:
        return "must be letters, digits, '_', '.' or '-', at most 63 of them, the first a letter or digit"
    if pattern == VARIABLE_PATTERN:
        return "must be letters, digits or '_', at most 255 of them, the first no digit"
    if pattern == UID_PATTERN:
        return "must be an id: letters, digits, '_' or '-', at most 128 of them"
    if pattern == GLOB_PATTERN:
        return "must be a name, in which * stands for any letters and ? for one"
    if pattern == JOB_PATTERN:
        return "must be a job's uid or role/tier/name"
    return "must be made of the characters that can stand there"


def _one_of(context: Mapping[str, Any]) -> str:
    return f"must be {str(context.get('expected', '')).replace(chr(39), '')}"


_WHOLE = "must be a whole number"
_NUMBER = "must be a number"
_TRUTH = "must be true or false"
_MAPPING = "must be a mapping of names to values"
_LIST = "must be a list"

_WORDS: Mapping[str, str | Callable[[Mapping[str, Any]], str]] = {
    "missing": "is missing",
    "command_type": "must be a line for the shell, or a list of a program and its arguments",
    "string_type": "must be text",
    "string_unicode": "must not hold half a character (a lone surrogate)",
    "string_too_short": "must not be empty",
    "string_too_long": lambda context: f"must have at most {context['max_length']} characters",
    "string_pattern_mismatch": _matches,
    "int_type": _WHOLE, "int_parsing": _WHOLE, "int_from_float": _WHOLE, "int_parsing_size": _WHOLE,
    "float_type": _NUMBER, "float_parsing": _NUMBER,
    "finite_number": "must be a finite number",
    "bool_type": _TRUTH, "bool_parsing": _TRUTH,
    "dict_type": _MAPPING, "model_type": _MAPPING, "model_attributes_type": _MAPPING, "mapping_type": _MAPPING,
    "list_type": _LIST, "tuple_type": _LIST, "set_type": _LIST, "frozen_set_type": _LIST,
    "too_short": "must not be empty",
    "too_long": lambda context: f"must have at most {context['max_length']} entries",
    "literal_error": _one_of, "enum": _one_of,
    "greater_than": lambda context: f"must be more than {context['gt']:g}",
    "greater_than_equal": lambda context: f"must be at least {context['ge']}",
    "less_than": lambda context: f"must be less than {context['lt']}",
    "less_than_equal": lambda context: f"must be at most {context['le']}",
    "path_type": "must be a path",
}  # fmt: skip


# --- a field that is not known -----------------------------------------------------------------------------------

_SCHEMAS = {
    "CronSpec": "`priority cron schema`",
    "JobSpec": "`priority job schema`",
    "RolesFile": "`priority roles schema`",
    "RoleSpec": "`priority roles schema`",
}
_MEANT = {
    "cmd": "command", "script": "command", "run": "command", "count": "instances", "replicas": "instances",
    "copies": "instances", "retries": "max_failures", "timeout": "max_runtime", "walltime": "max_runtime",
    "cpu": "resources.cpus", "memory": "resources.mem", "gpu": "resources.gpus", "environment": "env", "queue": "tier",
    "project": "role", "account": "role", "members": "users", "quotas": "quota",
}  # fmt: skip
"""What other systems call it."""

_OF_CRON = {"timezone", "collision", "missed", "suspend", "start", "end"}
"""Fields of a cron job, which has a schedule too."""


def _not_known(name: str, title: str) -> str:
    """`title` is pydantic's name of what was read, such as `tuple[JobSpec, ...]`."""
    model = next((one for one in _documents() if one.__name__ in title), None)
    if model is None:
        return "is not known"
    if model.__name__ == "JobSpec" and name == "schedule":
        return "makes it a cron job: send it to /v1/cron (`priority submit` does), or leave it out"
    if model.__name__ == "JobSpec" and name in _OF_CRON:
        return "is of a cron job, which has a schedule too; see `priority cron schema`"
    fields, meant = _fields(model), _MEANT.get(name.lower(), "")
    near = get_close_matches(name.lower(), fields, n=1, cutoff=0.75)
    close = fields.get(name) or fields.get(meant) or (fields[near[0]] if near else "")
    where = next((command for part, command in _SCHEMAS.items() if part in title), "")
    if not where:
        return f"is not known; there are {', '.join(model.model_fields)}"
    return f"is not known; did you mean {close}? See {where}" if close else f"is not known; see {where}"


def _documents() -> list[type[Document]]:
    """All kinds of them, those with the longest names first: one's name may be a part of another's."""
    kinds = Document.__subclasses__()
    return sorted(kinds + [one for kind in kinds for one in kind.__subclasses__()], key=lambda one: -len(one.__name__))


@lru_cache(maxsize=64)
def _fields(model: type[BaseModel]) -> dict[str, str]:
    """Every field that may stand in such a document: its name, or its path if that is fixed -> its path."""
    found: dict[str, str] = {}
    for name, field in model.model_fields.items():
        found[name] = name
        for inner in _models(field.annotation):
            below = _fields(inner)
            direct = inner is field.annotation
            found |= {one: f"{name}.{path}" if direct else path for one, path in below.items() if one not in found}
        if name == "resources":
            found |= {one: f"{name}.{one}" for one in ("cpus", "mem", "disk", "gpus")}
    return found | {path: path for path in found.values()}


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]
