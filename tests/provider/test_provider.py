"""What needs no Airflow process: the provider's description, names and keys, the executor's documents, no import by the
service.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from priority.airflow.get_provider_info import get_provider_info
from priority.airflow.identity import Identity, digest, name_of
from priority.airflow.run import take
from priority.document import NAME_PATTERN

ROOT = Path(__file__).parents[2]


def test_only_the_provider_imports_airflow() -> None:
    for path in (ROOT / "priority").rglob("*.py"):
        if path.parent.name == "airflow":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] == "airflow"], path
            assert not [name for name in names if name.startswith("priority.airflow")], path


def test_priority_works_without_airflow() -> None:
    script = (
        "import sys; sys.modules['airflow'] = None\n"
        "import priority.face.cli, priority.face.api, priority.service.build, priority.backend.agent\n"
        "from priority.airflow.get_provider_info import get_provider_info; get_provider_info()\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd="/")


def test_the_provider_is_described_as_airflow_wants_it() -> None:
    info = get_provider_info()
    (found,) = (one for one in entry_points(group="apache_airflow_provider") if one.module.startswith("priority."))
    assert found.value == "priority.airflow.get_provider_info:get_provider_info"
    assert found.dist is not None and found.dist.name == info["package-name"]
    (plugin,) = (one for one in entry_points(group="airflow.plugins") if one.name == "priority")
    assert [one["name"] for one in info["task-decorators"]] == ["priority"]
    (connection,) = info["connection-types"]
    assert connection["connection-type"] == "priority" and "tier" in connection["conn-fields"]
    modules = [
        name for kind in ("hooks", "operators", "sensors", "triggers") for name in info[kind][0]["python-modules"]
    ]
    classes = [
        *info["extra-links"], *info["executors"], connection["hook-class-name"], plugin.value.replace(":", ".")
    ]  # fmt: skip
    for name in modules + [name.rpartition(".")[0] for name in classes]:
        path = ROOT / f"{name.replace('.', '/')}.py"
        assert path.is_file(), name
    for name in classes:
        module, _, attribute = name.rpartition(".")
        source = (ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
        assert f"class {attribute}(" in source


@pytest.mark.parametrize("stem", ["a.b", "ä ö/ü", "---", "", "x" * 300, ".hidden", "dag.task[3]"])
def test_names_are_names(stem: str) -> None:
    import re

    name = name_of(stem, digest(stem))
    assert re.fullmatch(NAME_PATTERN, name)


def context(**changes: Any) -> dict[str, Any]:
    ti = {"dag_id": "d", "task_id": "t", "run_id": "r", "map_index": -1, "try_number": 1} | changes
    began = ti.pop("began", "2026-01-01")
    return {"ti": SimpleNamespace(**ti), "dag_run": SimpleNamespace(start_date=began)}


def test_the_same_try_has_the_same_key_and_no_other_has() -> None:
    plain = Identity(context())
    assert Identity(context()).key == plain.key
    others = [
        {"dag_id": "e"},
        {"task_id": "u"},
        {"run_id": "s"},
        {"map_index": 3},
        {"try_number": 2},
        {"began": "2027"},
    ]
    keys = {Identity(context(**change)).key for change in others}
    assert len(keys) == len(others) and plain.key not in keys
    assert digest("a", "bc") != digest("ab", "c")


def test_a_hand_over_is_taken_once(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps({"workload": "{}", "env": {}}))
    assert take(path) == {"workload": "{}", "env": {}}
    assert take(path) is None and list(tmp_path.iterdir()) == []


def test_the_link_of_a_task_leads_to_the_page_of_its_job() -> None:
    pytest.importorskip("airflow")
    from priority.airflow.hook import Access

    assert Access("http://priority.example:8330", "pri_x").page_of("0j") == "http://priority.example:8330/jobs/0j"
    elsewhere = Access("http://inside:8330", "pri_x", page="https://jobs.example/jobs/{uid}")
    assert elsewhere.page_of("0j") == "https://jobs.example/jobs/0j"
