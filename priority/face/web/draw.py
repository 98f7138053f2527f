"""Templates to HTML. Whatever comes from users is escaped by Jinja, and shows no control character as it is: neither a
terminal's escapes nor what turns the direction of writing may make a text look like another one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
from fastapi import Request, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from priority.face.words import age, amount, amounts, span

FOLDER = Path(__file__).parent

_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~]?)")
"""Of a terminal (ECMA-48): control sequences, strings up to their terminator, and the short ones."""


def visible(text: str) -> str:
    """With a picture in place of each character that would not be seen."""
    return _HIDDEN.sub(lambda found: chr(0x2400 + ord(found[0])) if found[0] < " " else "\ufffd", text)


def output(data: bytes) -> str:
    """A task's output as text, without a terminal's colours; each state of a progress bar is a line."""
    return _ESCAPES.sub("", data.decode("utf-8", "replace")).replace("\r\n", "\n").replace("\r", "\n")


def answer(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """A page for who asks."""
    user = getattr(request.state, "user", None)
    html = _environment().get_template(template).render(user=user, path=request.scope["path"], **values)
    return Response(html.encode("utf-8", "replace"), status, media_type="text/html")


@lru_cache(maxsize=1)
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(age=age, amount=amount, amounts=amounts, span=span, document=_document, shares=shares, zip=zip)
    made.globals.update(version=version("priority"), query=_query)
    return made


def _finalize(value: Any) -> Any:
    """Everything that a template puts out comes through here; `Markup` is ours."""
    if value is None:
        return ""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _document(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS, default=str).decode()


def _query(path: str, given: Mapping[str, Any], **more: Any) -> str:
    """A link with what is set of these."""
    named = {name: value for name, value in {**given, **more}.items() if value not in (None, "", False)}
    return f"{path}?{urlencode(named)}" if named else path


def shares(parts: Iterable[tuple[str, float]], whole: float) -> list[tuple[str, float, float]]:
    """(name, where it begins, how long it is) in percent, side by side; nothing goes beyond the end."""
    found, at = [], 0.0
    for name, part in parts:
        long = min(100.0 * part / whole, 100.0 - at) if whole > 0 else 0.0
        if long > 0:
            found.append((name, round(at, 3), round(long, 3)))
            at += long
    return found
