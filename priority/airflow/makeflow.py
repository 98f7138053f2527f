"""A Makeflow file as a DAG: each rule a job, each file that one rule makes and another reads an edge.

The jobs run in one folder that all nodes see, as Makeflow's own do on a shared file system: what the file needs from
beside it is copied there by the first task. LOCAL rules run where Airflow's tasks run.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Param, chain, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

from priority.airflow.operator import PriorityJobOperator
from priority.errors import Malformed
from priority.makeflow import Rule, Workflow, expand, parse
from priority.makeflow_json import parse_json

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

_NOT_ID = re.compile(r"[^A-Za-z0-9_-]+")
_JX_S = 30.0


def read(path: Path, environment: Mapping[str, str] | None = None) -> Workflow:
    """A Makeflow file with all its sub-makeflows; `.json` and `.jx` by their endings. Malformed names file and line."""
    given = os.environ if environment is None else environment

    def one(file: str, folder: str) -> Workflow:
        return _read(path.parent / folder / file, f"{folder}/{file}".lstrip("/"), given)

    return expand(_read(path, path.name, given), one)


def _read(path: Path, source: str, environment: Mapping[str, str]) -> Workflow:
    try:
        text = evaluated(path) if path.suffix == ".jx" else path.read_text(encoding="utf-8")
    except OSError as error:
        raise Malformed(f"{source}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Malformed(f"{source}: is not text in UTF-8") from None
    if path.suffix not in (".json", ".jx"):
        return parse(text, source, environment)
    try:
        return parse_json(orjson.loads(text), source)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"{source}, line {error.lineno}: not JSON: {error.msg}") from None


def evaluated(path: Path) -> str:
    """JX as JSON, by the Cooperative Computing Tools."""
    tool = shutil.which("jx2json")
    if tool is None:
        raise Malformed(f"{path.name}: JX needs jx2json; install Debian's coop-computing-tools")
    done = subprocess.run([tool, str(path)], capture_output=True, text=True, timeout=_JX_S, check=False)
    if done.returncode or not done.stdout.strip():
        raise Malformed(f"{path.name}: not JX: {(done.stderr or done.stdout).strip()[:300]}")
    return done.stdout


def dag_of(path: Path, folder: str | Path, dag_id: str = "", **options: Any) -> DAG:
    """The DAG of a file. It works in `folder`/RUN. A file that cannot be read gives a DAG of one task that says why, so
    that one bad file hides no other.
    """
    dag = DAG(
        dag_id or f"makeflow_{_NOT_ID.sub('_', path.stem)}",
        **{"schedule": None, "description": f"Makeflow {path.name}", "tags": ["priority", "makeflow"], **options},
        params={
            "role": Param("offline", type="string"),
            "tier": Param("devel", type="string", enum=["prod", "devel", "opportunistic"]),
            "folder": Param(str(folder), type="string", description="Where the runs' folders are; nodes must see it"),
        },
        user_defined_macros={"place": place},
    )
    with dag:
        try:
            workflow = read(path)
        except Malformed as error:
            _broken(str(error))
        else:
            _build(workflow, path)
    return dag


def place(params: Mapping[str, Any], run_id: str) -> str:
    """The folder of a run."""
    return str(Path(str(params["folder"])) / _NOT_ID.sub("-", run_id))


def _broken(reason: str) -> None:
    @task(retries=0)
    def bad_file() -> None:
        raise AirflowFailException(reason)

    bad_file()


def _build(workflow: Workflow, path: Path) -> None:
    needed, beside = sorted(workflow.sources), str(path.parent.resolve())

    @task
    def prepare() -> str:
        """The folder of the run, with what the file needs from beside it."""
        context: Any = get_current_context()
        folder = Path(place(context["params"], context["run_id"]))
        missing = [name for name in needed if not fetch(Path(beside), folder, name)]
        if missing:
            raise AirflowFailException(f"no rule makes these files, and they are not in {beside}: {', '.join(missing)}")
        return str(folder)

    first = prepare()
    names = ids(workflow.rules)
    steps: list[BaseOperator] = [_step(rule, name) for rule, name in zip(workflow.rules, names, strict=True)]
    for step, before in zip(steps, workflow.after, strict=True):
        chain([steps[index] for index in sorted(before)] or first, step)
    if not steps:
        chain(first, EmptyOperator(task_id="nothing_to_do"))


def fetch(source: Path, folder: Path, name: str) -> bool:
    """A file or folder copied, unless it is there; whether it is there now."""
    goal = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    if goal.exists():
        return True
    if not (source / name).exists():
        return False
    goal.parent.mkdir(parents=True, exist_ok=True)
    half = goal.with_name(f".{goal.name}.{os.getpid()}")
    if (source / name).is_dir():
        shutil.copytree(source / name, half)
    else:
        shutil.copy2(source / name, half)
    half.replace(goal)
    return True


def ids(rules: Sequence[Rule]) -> list[str]:
    """Of each rule a task's id: its first product, or its line."""
    found: list[str] = []
    for rule in rules:
        stem = _NOT_ID.sub("_", "/".join(part for part in (rule.folder, *rule.outputs[:1]) if part)).strip("_")
        name = (stem or f"line_{rule.line}")[:200]
        found.append(name if name not in found else f"{name}_line_{rule.line}_{len(found)}")
    return found


def command_of(rule: Rule) -> str:
    """In the run's folder; a product that is not there afterwards is a failure, as it is for Makeflow."""
    inside = f"/{rule.folder}" if rule.folder else ""
    lines = [f"cd {{{{ place(params, run_id) | tojson }}}}{shlex.quote(inside) if inside else ''} || exit 1"]
    lines.append("{% raw %}" + rule.command + "{% endraw %}")
    lines.append("status=$?; [ $status -eq 0 ] || exit $status")
    for file in rule.outputs:
        message = shlex.quote(f"ERROR: {rule.where}: {file} was not made")
        lines.append("{% raw %}" + f"[ -e {shlex.quote(file)} ] || {{ echo {message} >&2; exit 1; }}" + "{% endraw %}")
    return "\n".join(lines) + "\n"


def _step(rule: Rule, name: str) -> BaseOperator:
    described: dict[str, Any] = {
        "task_id": name,
        "doc_md": f"{rule.where}, category {rule.category}: `{rule.command[:200]}`",
    }
    if rule.local:
        return BashOperator(bash_command=command_of(rule), env=dict(rule.environment), append_env=True, **described)
    amounts = {key: amount if key in ("cpus",) else int(amount) for key, amount in rule.resources.items() if amount}
    return PriorityJobOperator(
        command=command_of(rule),
        role="{{ params.role }}",
        tier="{{ params.tier }}",
        env=dict(rule.environment) or None,
        job_resources=amounts or None,
        max_runtime=rule.wall_s or None,
        labels={"makeflow.category": rule.category},
        **described,
    )
