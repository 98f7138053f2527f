"""All DAGs in Airflow 3.3 by `dag.test()`, against a running service, one process for all of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from priority.errors import PriorityError
from priority.face import locate
from priority.face.client import Client

ROOT = Path(__file__).parents[2]
READY_S = 90.0
LONG_S = 700

pytestmark = pytest.mark.timeout(LONG_S + 180)


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PRIORITY_", "AIRFLOW"))}


@contextmanager
def service(state: Path, eventually: Callable[..., Any], **settings: str) -> Iterator[tuple[str, str]]:
    """`priority up` with the roles of config/roles.yaml: its URL, and the admin's token."""
    told = {"PRIORITY_STATE": str(state), "PRIORITY_PORT": "0", "PRIORITY_CONFIG": os.devnull, "PRIORITY_AGENTS": "1"}
    environment = {**clean(), **told, **settings}
    command = [sys.executable, "-m", "priority"]
    with (state / "log").open("ab") as log:
        process = subprocess.Popen([*command, "up"], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def well() -> bool:
        assert process.poll() is None, (state / "log").read_text()
        try:
            with Client(locate.url(state, 0.0), locate.token(state, needed=True)) as client:
                return any(node["state"] == "up" for node in client.nodes()["items"])
        except PriorityError:
            return False

    try:
        eventually(well, "the service", READY_S)
        subprocess.run([*command, "roles", "apply", "config/roles.yaml"], cwd=ROOT, env=environment, check=True)
        yield locate.url(state, 0.0), locate.token(state, needed=True)
    finally:
        process.terminate()
        process.wait(timeout=60)


@contextmanager
def short_folder() -> Iterator[Path]:
    """Sockets have short paths only."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="af", ignore_cleanup_errors=True) as name:
        yield Path(name)


def drive(folder: Path, url: str, token: str) -> tuple[dict[str, Any], str]:
    """What the driver found, and all that Airflow has logged."""
    dags = shutil.copytree(ROOT / "dags", folder / "dags")
    shutil.copy(ROOT / "tests" / "provider" / "dags" / "steps.py", dags)
    (dags / "makeflows" / "bad.makeflow").write_text("A=1\nx: y\n\nz: x\n\techo $B > z\n")
    environment = {
        **clean(),
        "AIRFLOW_HOME": str(folder / "home"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__PRIORITY__PYTHON": "/bin/true",
        "AIRFLOW__PRIORITY__ROLE": "ci",
        "AIRFLOW__PRIORITY__NURSERY": "False",
        "AIRFLOW_CONN_PRIORITY_DEFAULT": json.dumps({"conn_type": "priority", "host": url, "password": token}),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    log, out = folder / "driver.log", folder / "found.json"
    with log.open("wb") as file:
        for command in (["-m", "airflow", "db", "migrate"], [str(ROOT / "tests" / "provider" / "driver.py"), str(out)]):
            done = subprocess.run(
                [sys.executable, *command], env=environment, stdout=file, stderr=file, timeout=LONG_S, check=False
            )
            assert done.returncode == 0, log.read_text()[-8000:]
    return json.loads(out.read_text()), log.read_text()


def good(found: dict[str, Any], *skipped: str) -> None:
    assert found["state"] == "success", found
    for task, state in found["tasks"]:
        assert state == ("skipped" if task.split("[")[0] in skipped else "success"), found["tasks"]


def test_every_dag_parses_and_runs(tmp_path: Path, eventually: Callable[..., Any]) -> None:
    with short_folder() as state, service(state, eventually) as (url, token):
        found, log = drive(tmp_path, url, token)
    check_the_users_dags(found, tmp_path / "home")
    check_the_operator(found)
    check_what_goes_wrong(found, log)
    check_the_executor(found["executor"])


def check_the_users_dags(found: dict[str, Any], home: Path) -> None:
    assert found["errors"] == {}
    assert {"release_validation", "nightly_cleanup", "quota_report", "makeflow_invariant_mass"} <= set(found["dags"])
    whole, products = found["release_validation"], home / "products"
    good(whole)
    width = [task for task, _ in whole["tasks"] if task.startswith("track[")]
    assert len(width) == len(list(products.glob("chunk-*.json"))) > 1
    assert {"report.html", "pt.svg", "resources.json"} <= {path.name for path in products.iterdir()}
    report = whole["report"]
    assert "Passed" in report and "<svg" in report and "release_validation.simulate" in report
    good(found["part"], "simulate", "merge_qa", "merge_resources", "cluster", "track", "merge_tracks")
    assert dict(found["unprepared"]["tasks"])["check"] == "failed"
    good(found["nightly_cleanup"])
    assert found["nightly_cleanup"]["gone"] and found["nightly_cleanup"]["xcom"]["clean[-1]"] == {"removed": 1}
    good(found["quota_report"])
    assert "reco" in (home / "quota" / "quota.html").read_text()
    good(found["makeflow_invariant_mass"])
    (peak,) = (home / "makeflow").glob("invariant_mass/*/peak.txt")
    assert peak.read_text().startswith("peak at ")


def check_the_operator(found: dict[str, Any]) -> None:
    whole = found["everything"]
    good(whole)
    xcom = whole["xcom"]
    assert xcom["one[-1]"] == [3, 4] and xcom["function[-1]"] == {"product": 42}
    assert [str(xcom["many[0]"]), str(xcom["many[1]"])] == ["6", "8"]
    assert xcom["deferred[-1]"]["finished"] == 1 and xcom["awaited[-1]"]["uid"] == whole["jobs"]["deferred"]
    assert len(whole["attempts"]["twice"]) == 1
    assert whole["labels"]["airflow.dag"] == "everything" and whole["labels"]["airflow.try"] == "1"


def check_what_goes_wrong(found: dict[str, Any], log: str) -> None:
    for dag in ("over_quota", "failing", "stopped"):
        assert found[dag]["state"] == "failed", dag
    assert "the quota of role reco, tier prod does not allow it: cpus: quota 12, in use 0, asked 50, short by 38" in log
    assert "going down" in log and "exit status 3" in log
    assert found["stopped"]["attempts"]["stopped"] == ["killed"]
    good(found["displaced"])
    assert found["displaced"]["attempts"]["displaced"] == ["preempted", "finished"]
    assert found["displaced"]["xcom"]["displaced[-1]"] == "back"
    assert "makeflow_bad" in found["dags"]


def check_the_executor(found: dict[str, Any]) -> None:
    first, second = found["specs"]
    assert (first["role"], first["tier"], first["priority"]) == ("ci", "devel", 3)
    assert first["command"][:3] == ["/bin/true", "-m", "priority.airflow.run"]
    assert second["resources"] == {"cpus": 2, "mem": 1024} and second["labels"]["mine"] == "yes"
    assert first["labels"]["airflow.task-instance"] == second["labels"]["airflow.task-instance"]
    assert "secret" not in str(found["specs"])
    assert found["files"] == [[0o600, True]]
    # Over its quota a task waits; what is wrong with another is said; the older of two of one key is not told of.
    assert found["waiting"] == ["greedy"]
    assert found["events"]["bad"][0].endswith("failed") and "pods is not known" in found["events"]["bad"][1]
    assert [task for task, _ in found["ended"]] == ["t"] and found["reported"] == 1 and found["running"] == 0
    assert found["left"] == []
    assert found["handed"] == ["AIRFLOW_CONN_A", "AIRFLOW_HOME", "PATH"]
