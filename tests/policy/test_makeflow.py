"""Makeflow files: the edges that each says of itself, by our reader and by Makeflow's own; what is said of bad ones."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from priority import makeflow
from priority.errors import Malformed
from priority.makeflow_json import parse_json

FOLDER = Path(__file__).parent / "makeflows"
FILES = sorted(FOLDER.glob("*.makeflow"))
VIZ = shutil.which("makeflow_viz")


def named(workflow: makeflow.Workflow) -> list[str]:
    return [rule.outputs[0].replace(" ", "_") if rule.outputs else f"line_{rule.line}" for rule in workflow.rules]


def said(text: str, what: str) -> list[list[str]]:
    return [line.split() for line in re.findall(rf"^# {what}: (.*)$", text, re.MULTILINE)]


def read(file: str, folder: str) -> makeflow.Workflow:
    return makeflow.parse((FOLDER / folder / file).read_text(), file)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_gives_the_edges_that_it_says(path: Path) -> None:
    text = path.read_text()
    workflow = makeflow.expand(makeflow.parse(text, path.name), read)
    names = named(workflow)
    assert {(names[a], names[b]) for a, b in workflow.edges} == {(a, b) for a, b in said(text, "edge")}
    rules = dict(zip(names, workflow.rules, strict=True))
    for name, *amounts in said(text, "resources"):
        wanted = {key: float(amount) for key, amount in (one.split("=") for one in amounts)}
        assert rules[name].resources == wanted
    assert {name for name, rule in rules.items() if rule.local} == {name for (name,) in said(text, "local")}
    for name, seconds in said(text, "wall"):
        assert rules[name].wall_s == float(seconds)
    for name, *words in said(text, "command"):
        assert rules[name].command.split() == words


def test_there_are_twenty_of_them() -> None:
    assert len(FILES) >= 20


@pytest.mark.skipif(VIZ is None, reason="makeflow_viz (Debian's coop-computing-tools) is not installed")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_makeflows_own_tool_agrees(path: Path) -> None:
    ours = makeflow.parse(path.read_text(), path.name)
    done = subprocess.run(
        [str(VIZ), "-D", "json", path.name], cwd=FOLDER, capture_output=True, text=True, timeout=60, check=False
    )
    if any(rule.makeflow for rule in ours.rules):
        pytest.skip("makeflow_viz writes no JSON of sub-makeflows")
    document: Any = json.loads(re.sub(r"(?<!\\)((?:\\\\)*)\\'", r"\1'", done.stdout))
    for rule in document["rules"]:
        # It writes the two names of a renamed file in each other's place, and a line that goes on as a file " ".
        names = [one["task_name"] if isinstance(one, dict) else one for one in rule["inputs"]]
        rule["inputs"] = [name for name in names if name.strip()]
    theirs = parse_json(document)
    by_outputs = {rule.outputs: rule for rule in ours.rules}
    assert theirs.edges == ours.edges
    for rule in theirs.rules:
        mine = by_outputs[rule.outputs]
        assert mine.command.split() == rule.command.split()
        assert (mine.inputs, mine.local, dict(mine.resources)) == (rule.inputs, rule.local, dict(rule.resources))


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("a: b\n\techo\na: c\n\techo\n", 3, "a is made by the rule of line 1 already"),
        ("a: b\n\tx\nb: a\n\ty\n", 1, "these wait for each other"),
        ("a b\n\tcmd\n", 1, "neither a rule, a variable nor a directive"),
        ("a: b\n\nb:\n\techo\n", 1, "the rule of a has no command"),
        ("a: b\n", 1, "the rule of a has no command"),
        ("\techo\n", 1, "a command without a rule"),
        ("a:\n\techo 1\n\techo 2\n", 3, "a command without a rule"),
        ("a:\n\techo $NOPE\n", 2, "variable NOPE has not been set"),
        ("X=1\na: $(X\n\techo\n", 2, "$( is not closed"),
        ("a:\n\techo 'x\n", 2, "a ' is not closed"),
        ("CORES=many\na:\n\techo\n", 1, "CORES must be a number, not 'many'"),
        ("a:\n@MEMORY=-1\n\techo\n", 2, "MEMORY must be a number"),
        (".MAKEFLOW NICE 3\n", 1, ".MAKEFLOW NICE is not known"),
        (".MAKEFLOW CATEGORY\n", 1, ".MAKEFLOW CATEGORY has no value"),
        ("@X=3\na:\n\techo\n", 1, "@X is a variable of a rule"),
        ("a:\n\tLOCAL\n", 2, "the command is empty"),
        ("a:\n\tMAKEFLOW\n", 2, "a sub-makeflow is MAKEFLOW FILE"),
        ("=3\n", 1, "a variable without a name"),
        ("a:\n\techo $ 3\n", 2, "a $ without the name of a variable"),
        ("export 3x\n", 1, "3x is not the name of a variable"),
    ],
)
def test_a_bad_file_names_line_and_reason(text: str, line: int, why: str) -> None:
    with pytest.raises(Malformed, match=re.escape(f"bad.mf, line {line}: ")) as caught:
        makeflow.parse(text, "bad.mf")
    assert why in str(caught.value)


def test_a_makeflow_that_calls_itself_is_refused() -> None:
    text = "a:\n\tMAKEFLOW again.mf\n"
    with pytest.raises(Malformed, match=r"again\.mf, line 1: .* deep"):
        makeflow.expand(makeflow.parse(text, "again.mf"), lambda file, _: makeflow.parse(text, file))


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ([], "must be a mapping with a list of rules"),
        ({"rules": [{"outputs": ["a"]}]}, "rule 1: has no command"),
        ({"rules": [{"command": "x", "inputs": "a"}]}, "rule 1: inputs must be a list of files"),
        ({"rules": [{"command": "x", "cores": 3}]}, "rule 1: cores is not known"),
        ({"rules": [{"command": "x", "resources": {"cores": "many"}}]}, "rule 1: cores must be a number, not many"),
        ({"rules": ["x"]}, "rule 1: must be a mapping"),
    ],
)
def test_bad_json_names_the_rule(document: Any, why: str) -> None:
    with pytest.raises(Malformed, match=re.escape(why)):
        parse_json(document, "bad.json")
