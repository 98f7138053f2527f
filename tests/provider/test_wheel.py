"""The wheel in a clean environment, with the extra `airflow`: `make test-all`. Needs a package registry."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.components, pytest.mark.slow, pytest.mark.timeout(1200)]


def run(*command: str | Path, **environment: str) -> str:
    names = ("PATH", "HOME", "SSL_CERT_FILE", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "HTTPS_PROXY", "https_proxy")
    given = {name: os.environ[name] for name in names if name in os.environ}
    done = subprocess.run(
        [str(one) for one in command],
        cwd="/",
        env={**given, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_provider_is_found_in_a_clean_environment(tmp_path: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    source = tmp_path / "source"
    run("git", "clone", "--quiet", "--depth", "1", f"file://{ROOT}", source)
    run(uv, "build", "--wheel", "--no-build-isolation", "--python", sys.executable, "-o", tmp_path, source)
    (wheel,) = tmp_path.glob("priority-*.whl")
    python = tmp_path / "venv" / "bin" / "python"
    run(uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv")
    run(uv, "pip", "install", "--quiet", "--system-certs", "--python", python, f"{wheel}[airflow]")
    home = {"AIRFLOW_HOME": str(tmp_path / "home")}
    said = run(python, "-m", "airflow", "providers", "get", "priority", "--full", "--output", "json", **home)
    assert "priority.airflow.hook.PriorityHook" in said
    said = run(python, "-m", "airflow", "providers", "executors", "--output", "plain", **home)
    assert "priority.airflow.executor.PriorityExecutor" in said
    run(python, "-c", "from airflow.sdk import task; task.priority; import priority.airflow.operator", **home)
