"""The code itself under test: sizes, purity, documents in step. What a machine can check is not asked of people."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from priority import lifecycle

ROOT = Path(__file__).parents[2]
CODE = sorted((ROOT / "priority").rglob("*.py"))
PURE = sorted((ROOT / "priority").glob("*.py"))
DOCUMENTS = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")]

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 600

ACTS = {"os", "sys", "time", "random", "secrets", "uuid", "socket", "subprocess", "threading", "logging", "asyncio"}
ACTS |= {"pathlib", "io", "shutil", "tempfile", "redis", "rq", "sqlalchemy", "sqlmodel", "fastapi", "httpx"}
"""Modules by which a file would touch the world."""


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_every_function_fits_a_screen() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {node.end_lineno - node.lineno + 1} lines"
        for path in CODE + sorted((ROOT / "tests").rglob("*.py"))
        for node in functions(path)
        if node.end_lineno is not None and node.end_lineno - node.lineno + 1 > FUNCTION_LINES_MAX
    ]
    assert long == []


def test_every_file_can_be_read_in_one_go() -> None:
    sizes = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in CODE}
    assert {name: lines for name, lines in sizes.items() if lines > FILE_LINES_MAX} == {}


@pytest.mark.parametrize("path", PURE, ids=lambda path: path.name)
def test_a_file_directly_in_the_package_is_pure(path: Path) -> None:
    if path.name == "__main__.py":
        return  # the door itself: it only calls the CLI
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.split(".")[0])
    assert imported & ACTS == set()


def groups_of_pure_files() -> list[list[str]]:
    """As ARCHITECTURE.md has them: below a heading a line for each file."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").split("## The pure files")[1].split("```")[1]
    return [re.findall(r"^  (\w+)  +\S", group, re.MULTILINE) for group in text.strip().split("\n\n")]


def imports(path: Path) -> set[str]:
    """The files of the package that it takes something from."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "priority":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("priority."):
            found.add(node.module.split(".")[1])
    return found


def test_the_map_of_pure_files_is_whole_and_each_group_stands_on_those_above() -> None:
    groups = groups_of_pure_files()
    named = [name for group in groups for name in group]
    assert sorted(named) == sorted(path.stem for path in PURE if not path.stem.startswith("__"))
    above: set[str] = set()
    for group in groups:
        above |= set(group)
        for name in group:
            assert imports(ROOT / "priority" / f"{name}.py") <= above, f"{name} imports from a group below its own"


def test_each_part_of_the_package_has_its_layer() -> None:
    """Here too, for who runs these tests but not `lint-imports`."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    [layers] = [contract["layers"] for contract in contracts if contract["id"] == "layers"]
    named = sorted(name for layer in layers for name in layer.split(" | "))
    folders = [path.parent.name for path in (ROOT / "priority").glob("*/__init__.py")]
    assert named == sorted([*folders, *(path.stem for path in PURE if not path.stem.startswith("__"))])


def test_the_lifecycle_diagram_is_the_table() -> None:
    assert lifecycle.diagram() in (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def commands() -> dict[str, set[str]]:
    """Every command and its options, by asking the CLI's own tree."""
    from typer.main import get_command

    from priority.face.cli import app

    def walk(command: object, path: str) -> Iterator[tuple[str, set[str]]]:
        options = {
            name for one in getattr(command, "params", []) for name in getattr(one, "opts", []) if name[:2] == "--"
        }
        yield path, options | {"--help"}
        for name, child in getattr(command, "commands", {}).items():
            yield from walk(child, f"{path} {name}".strip())

    return dict(walk(get_command(app), ""))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_that_a_document_shows_exists(path: Path) -> None:
    known = commands()
    text = path.read_text(encoding="utf-8")
    shown = re.findall(r"(?:^|[`$(;&|]\s?|\.venv/bin/)priority ([a-z][^`\n|;&#]*)", text, re.MULTILINE)
    assert shown or path.name == "CONTRIBUTING.md"
    for line in shown:
        words = line.split(" -- ")[0].split()
        command = max((n for n in range(len(words) + 1) if " ".join(words[:n]) in known), default=0)
        name = " ".join(words[:command])
        assert name, f"{path.name} shows `priority {line}`, which is no command"
        for word in words[command:]:
            option = word.split("=")[0]
            assert not option.startswith("--") or option in known[name], f"`priority {name}` has no {option}: {line}"


def test_every_local_link_of_a_document_leads_somewhere() -> None:
    for path in [*DOCUMENTS, ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
            assert (ROOT / target).exists(), f"{path.name}: {target}"


def test_nothing_names_a_registry_or_a_machine() -> None:
    pattern = r"pyp[i]\.|pythonhost[e]d|deb\.debi[a]n|/wor[k]/(main|shared)"
    found = subprocess.run(["git", "grep", "-nIE", pattern], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.stdout == ""
