"""Makeflow files read as workflows: rules with their files, resources and environment, and who waits for whom.

The language is that of the Cooperative Computing Tools (https://ccl.cse.nd.edu, manual of Makeflow 7): rules,
variables, `export`, categories with resources, variables of one rule (`@NAME=value`), LOCAL and sub-makeflows. What is
wrong is said with the file and the line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from posixpath import join, normpath

from priority.errors import Malformed

DEFAULT = "default"
"""The category of rules that are in no other one."""

DEPTH_MAX = 16
"""So deep sub-makeflows may be in each other."""

_RESOURCES = {"CORES": "cpus", "MEMORY": "mem", "DISK": "disk", "GPUS": "gpus", "WALL_TIME": "wall_s"}
_ASSIGNMENT = re.compile(r"(@?)\s*([A-Za-z_][A-Za-z0-9_-]*)\s*(\+?=)(.*)", re.DOTALL)
_DIRECTIVE = re.compile(r"\.(MAKEFLOW|SIZE)\b\s*(.*)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Rule:
    """One command: it waits for who makes its inputs, and makes its outputs. Memory and disk in MiB."""

    line: int
    source: str
    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    command: str
    category: str = DEFAULT
    local: bool = False
    resources: Mapping[str, float] = field(default_factory=dict)
    wall_s: float | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    makeflow: str | None = None
    """The file of a sub-makeflow, which stands for a command."""
    folder: str = ""
    """Where it runs, seen from the whole workflow's folder."""

    @property
    def where(self) -> str:
        """For errors."""
        return f"{self.source}, line {self.line}"


@dataclass(frozen=True, slots=True)
class Workflow:
    """Rules in the order of the file, and of each the indices of those that it waits for."""

    rules: tuple[Rule, ...]
    after: tuple[frozenset[int], ...]

    @property
    def edges(self) -> set[tuple[int, int]]:
        """(who goes first, who waits for it)."""
        return {(first, second) for second, firsts in enumerate(self.after) for first in firsts}

    @property
    def sources(self) -> set[str]:
        """The files that nobody makes: they have to be there."""
        made = {_seen_from_top(rule, file) for rule in self.rules for file in rule.outputs}
        return {_seen_from_top(rule, file) for rule in self.rules for file in rule.inputs} - made


def _seen_from_top(rule: Rule, file: str) -> str:
    return normpath(join(rule.folder, file))


def parse(text: str, source: str = "Makeflow", environment: Mapping[str, str] | None = None) -> Workflow:
    """`environment`: where a variable is looked for that the file does not set. Malformed names file and line."""
    return connect(_Reader(source, environment or {}).read(text))


def connect(rules: Sequence[Rule]) -> Workflow:
    """Who waits for whom, by the files; a file with two makers and a circle are refused."""
    maker: dict[str, int] = {}
    for index, rule in enumerate(rules):
        for file in rule.outputs:
            first = rules[maker.setdefault(file, index)]
            if first is not rule:
                raise Malformed(f"{rule.where}: {file} is made by the rule of line {first.line} already")
    after = tuple(frozenset(maker[file] for file in rule.inputs if file in maker) for rule in rules)
    _refuse_circles(rules, after)
    return Workflow(tuple(rules), after)


def _refuse_circles(rules: Sequence[Rule], after: Sequence[frozenset[int]]) -> None:
    try:
        TopologicalSorter(dict(enumerate(after))).prepare()
    except CycleError as error:
        circle = [rules[index] for index in error.args[1]]
        names = " -> ".join((rule.outputs or (f"line {rule.line}",))[0] for rule in circle)
        raise Malformed(f"{circle[0].where}: these wait for each other: {names}") from None


# --- sub-makeflows --------------------------------------------------------------------------------------------------


def expand(workflow: Workflow, read: Callable[[str, str], Workflow], depth: int = 0) -> Workflow:
    """Each sub-makeflow replaced by its own rules: those that begin it wait for what the rule waited for, and who
    waited for the rule waits for those that end it. `read(file, folder)` gives the workflow of a file.
    """
    rules: list[Rule] = []
    after: list[frozenset[int]] = []
    ends: dict[int, frozenset[int]] = {}
    order = TopologicalSorter(dict(enumerate(workflow.after))).static_order()
    for index in order:
        rule = workflow.rules[index]
        before = frozenset[int]().union(*(ends[first] for first in workflow.after[index]))
        if rule.makeflow is None:
            ends[index] = frozenset({len(rules)})
            rules.append(rule)
            after.append(before)
            continue
        if depth >= DEPTH_MAX:
            raise Malformed(
                f"{rule.where}: sub-makeflows are more than {DEPTH_MAX} deep; does {rule.makeflow} call itself?"
            )
        inner = expand(read(rule.makeflow, rule.folder), read, depth + 1)
        begin = len(rules)
        rules += [replace(one, folder=_below(rule.folder, one.folder)) for one in inner.rules]
        after += [frozenset(begin + first for first in firsts) or before for firsts in inner.after]
        followed = {first for firsts in inner.after for first in firsts}
        last = frozenset(begin + one for one in range(len(inner.rules)) if one not in followed)
        ends[index] = last or before
    return Workflow(tuple(rules), tuple(after))


def _below(folder: str, inner: str) -> str:
    return "/".join(part for part in (folder, inner) if part)


# --- the language ---------------------------------------------------------------------------------------------------


class _Reader:
    """One file: variables by category, the rules so far, and the rule whose command is to come."""

    def __init__(self, source: str, environment: Mapping[str, str]) -> None:
        self.source = source
        self.outside = environment
        self.variables: dict[str, dict[str, str]] = {DEFAULT: {}}
        self.exported: set[str] = set()
        self.category = DEFAULT
        self.rules: list[Rule] = []
        self.open: Rule | None = None
        self.own: dict[str, str] = {}
        self.line = 0

    def read(self, text: str) -> list[Rule]:
        for self.line, line in _logical(text):
            if self.open is not None and line[:1] in " \t" and not line.lstrip().startswith("@"):
                self._command(line)
            elif line[:1] in " \t":
                self._indented(line)
            else:
                self._statement(line)
        self._refuse_open()
        return [self._finished(rule) for rule in self.rules]

    def bad(self, what: str, line: int | None = None) -> Malformed:
        return Malformed(f"{self.source}, line {line or self.line}: {what}")

    def _indented(self, line: str) -> None:
        if self.open is None:
            raise self.bad(f"a command without a rule: {line.strip()[:60]}; a rule has one command")
        self._assign(line.strip())

    def _statement(self, line: str) -> None:
        match = _ASSIGNMENT.fullmatch(line)
        if self.open is not None and not (match and match[1]):
            self._refuse_open()
        if line.startswith("export ") or line == "export":
            self._export(line[6:].strip())
        elif directive := _DIRECTIVE.fullmatch(line):
            self._directive(directive[1], directive[2].split())
        elif match and ":" not in match[2]:
            self._assign(line)
        elif _outside_quotes(line, ":") >= 0:
            self._header(line)
        elif line.startswith("="):
            raise self.bad("a variable without a name")
        else:
            raise self.bad(f"neither a rule, a variable nor a directive: {line[:60]}")

    def _refuse_open(self) -> None:
        if self.open is not None:
            raise self.bad(f"the rule of {' '.join(self.open.outputs) or 'nothing'} has no command", self.open.line)

    def _header(self, line: str) -> None:
        at = _outside_quotes(line, ":")
        outputs, inputs = (self._files(part) for part in (line[:at], line[at + 1 :].replace(" : ", " ")))
        self.open = Rule(self.line, self.source, outputs, inputs, "", self.category)
        self.own = {}

    def _command(self, line: str) -> None:
        assert self.open is not None
        text = _without_comment(line.strip()).strip()
        local = text == "LOCAL" or text.startswith(("LOCAL ", "LOCAL\t"))
        text = text[5:].strip() if local else text
        if not text:
            raise self.bad("the command is empty")
        rule = replace(self.open, command=self._expand(text, quoted=True), local=local, environment=dict(self.own))
        if text.split()[0] == "MAKEFLOW":
            rule = self._sub(rule)
        self.rules.append(replace(rule, category=_bare(self.own.get("CATEGORY", rule.category))))
        self.open = None

    def _sub(self, rule: Rule) -> Rule:
        words = self._words(rule.command)
        if len(words) not in (2, 3, 4):
            raise self.bad("a sub-makeflow is MAKEFLOW FILE [FOLDER [WRAPPER]]")
        return replace(rule, makeflow=words[1], folder=words[2] if len(words) > 2 else "")

    def _export(self, text: str) -> None:
        match = _ASSIGNMENT.fullmatch(text)
        if match:
            self._assign(text)
            self.exported.add(match[2])
            return
        for name in text.replace(",", " ").split():
            if not _NAME.fullmatch(name):
                raise self.bad(f"{name} is not the name of a variable")
            self.exported.add(name)

    def _directive(self, kind: str, words: list[str]) -> None:
        if kind == "SIZE":
            return  # a hint for other schedulers
        name, values = (words[0], words[1:]) if words else ("", [])
        if name not in ("CATEGORY", "MODE", "SIZE", "MPI_PROCESSES", *_RESOURCES):
            raise self.bad(f".MAKEFLOW {name or '(nothing)'} is not known; there are CATEGORY, {', '.join(_RESOURCES)}")
        if not values:
            raise self.bad(f".MAKEFLOW {name} has no value")
        if name in _RESOURCES or name == "CATEGORY":
            self._assign(f"{name}={values[0]}")

    def _assign(self, text: str) -> None:
        match = _ASSIGNMENT.fullmatch(text)
        if match is None:
            raise self.bad(f"not a variable: {text[:60]}")
        ours, name, sign, given = match.groups()
        if ours and self.open is None:
            raise self.bad(f"@{name} is a variable of a rule; it stands between the rule's files and its command")
        value = self._expand(_without_comment(given).strip())
        scope = self.own if ours else self.variables[self.category]
        if sign == "+=" and (before := self._find(name)) is not None:
            value = f"{before} {value}"
        if name in _RESOURCES:
            self._amount(name, value)
        if name == "CATEGORY" and not ours:
            value = _bare(value)
            if not value:
                raise self.bad("CATEGORY has no name")
            self.category = value
            self.variables.setdefault(value, {})
        else:
            scope[name] = value

    def _amount(self, name: str, value: str) -> float:
        try:
            amount = float(_bare(value))
        except ValueError:
            amount = -1.0
        if not 0 <= amount < 2**53:
            raise self.bad(f"{name} must be a number, not {value[:40]!r}")
        return amount

    def _find(self, name: str, category: str | None = None, own: Mapping[str, str] | None = None) -> str | None:
        scopes = (self.own if own is None else own, self.variables[category or self.category], self.variables[DEFAULT])
        return next((scope[name] for scope in (*scopes, self.outside) if name in scope), None)

    def _finished(self, rule: Rule) -> Rule:
        """With what its category says by the end of the file."""
        own = rule.environment
        self.variables.setdefault(rule.category, {})
        amounts: dict[str, float] = {}
        for name, field_name in _RESOURCES.items():
            scopes = (own, self.variables[rule.category], self.variables[DEFAULT])
            value = next((scope[name] for scope in scopes if name in scope), None)
            if value is not None:
                amounts[field_name] = self._amount(name, value)
        wall_s = amounts.pop("wall_s", None)
        found = {name: self._find(name, rule.category, own) for name in sorted(self.exported)}
        exported = {name: _bare(value) for name, value in found.items() if value is not None}
        return replace(rule, resources=amounts, wall_s=wall_s, environment=exported)

    def _files(self, text: str) -> tuple[str, ...]:
        """What it is called on a node (`local->remote`) is of no use here: a job runs in the workflow's folder."""
        return tuple(word.split("->", 1)[0] for word in self._words(self._expand(text)))

    def _words(self, text: str) -> list[str]:
        words, begun, word, quote, at = [], False, "", "", 0
        while at < len(text):
            letter = text[at]
            if letter == "\\" and at + 1 < len(text) and quote != "'":
                at += 1
                word, begun = word + text[at], True
            elif quote:
                word, quote = (word, "") if letter == quote else (word + letter, quote)
            elif letter in "\"'":
                quote, begun = letter, True
            elif not letter.isspace():
                word, begun = word + letter, True
            elif begun:
                words.append(word)
                word, begun = "", False
            at += 1
        if quote:
            raise self.bad(f"a {quote} is not closed")
        return [*words, word] if begun else words

    def _expand(self, text: str, *, quoted: bool = False) -> str:
        """Variables replaced, but for those in single quotes. `quoted`: a command, whose quotes are the shell's."""
        out, at, quote = "", 0, ""
        while at < len(text):
            letter = text[at]
            if letter == "\\" and at + 1 < len(text) and (quoted or quote != "'"):
                out += _escaped(text[at + 1], quote) if quoted else text[at : at + 2]
                at += 2
                continue
            if letter in "\"'" and quote in ("", letter):
                quote = "" if quote else letter
            if letter == "$" and quote != "'":
                value, at = self._variable(text, at)
                out += value
                continue
            out += letter
            at += 1
        if quote:
            raise self.bad(f"a {quote} is not closed")
        return out

    def _variable(self, text: str, at: int) -> tuple[str, int]:
        """The value of the variable at a `$`, and where the text goes on."""
        opening = text[at + 1 : at + 2]
        if opening in ("(", "{") and opening:
            end = text.find(")" if opening == "(" else "}", at)
            if end < 0:
                raise self.bad(f"${opening} is not closed")
            name, after = text[at + 2 : end].strip(), end + 1
        else:
            match = _NAME.match(text, at + 1)
            name, after = (match[0], match.end()) if match else ("", at + 1)
        if not name:
            raise self.bad("a $ without the name of a variable; a $ of the shell's is written \\$")
        value = self._find(name)
        if value is None:
            raise self.bad(f"variable {name} has not been set")
        return value, after


def _escaped(letter: str, quote: str) -> str:
    """Makeflow takes the backslashes of a command for its own. Those that keep a string together are left to the
    shell.
    """
    if quote == '"':
        return {"n": "\n", "t": "\t"}.get(letter, "\\" + letter if letter in '"\\' else letter)
    return letter


def _logical(text: str) -> Iterator[tuple[int, str]]:
    """(number of its first line, the line), joined where a backslash ends one; none that is empty or a comment."""
    begin, joined = 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        begin = begin or number
        if line.endswith("\\") and not line.endswith("\\\\"):
            joined += line[:-1]
            continue
        whole = joined + line
        if whole.strip() and not whole.lstrip().startswith("#"):
            yield begin, whole.rstrip() if whole[0] in " \t" else _without_comment(whole).rstrip()
        begin, joined = 0, ""
    if joined.strip():
        yield begin, joined.rstrip()


def _outside_quotes(text: str, wanted: str, *, word: bool = False) -> int:
    """Where it is; -1 if it is not. With `word` only where a word begins."""
    quote, at = "", 0
    while at < len(text):
        letter = text[at]
        if letter == "\\" and quote != "'":
            at += 2
            continue
        if letter in "\"'" and quote in ("", letter):
            quote = "" if quote else letter
        elif letter == wanted and not quote and (not word or at == 0 or text[at - 1].isspace()):
            return at
        at += 1
    return -1


def _without_comment(text: str) -> str:
    at = _outside_quotes(text, "#", word=True)
    return text if at < 0 else text[:at]


def _bare(value: str) -> str:
    """Without the quotes around it."""
    quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value
