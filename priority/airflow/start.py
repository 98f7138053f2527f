"""`make airflow`: the service and Airflow side by side, with the DAGs of `dags/`; a release validation runs.

    python -m priority.airflow.start [--folder FOLDER] [--port 8080] [--once]

Everything listens on loopback only. With `--once` it ends after the report, else with Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from priority.airflow.stand import NotReady, Stand
from priority.face import locate

REPOSITORY = Path(__file__).parents[2]
DAG_ID = "release_validation"
SERVICE_S = 90.0
RUN_S = 900.0


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0 if the validation has passed."""
    given = _read(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Stand(given.folder, given.dags, port=given.port) as stand:
            service(stand, given.folder / "service", given.roles)
            return _run(stand, once=given.once)
    except NotReady as error:
        say(f"ERROR: {error}")
        return 1
    except KeyboardInterrupt:
        say("stopped")
        return 0


def _read(arguments: list[str] | None) -> Any:
    parser = argparse.ArgumentParser(prog="python -m priority.airflow.start", description="The service and Airflow.")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "state" / "airflow", help="Of all that it keeps")
    parser.add_argument("--dags", type=Path, default=REPOSITORY / "dags", help="The folder of the DAGs")
    parser.add_argument("--roles", type=Path, default=REPOSITORY / "config" / "roles.yaml", help="Applied at the start")
    parser.add_argument("--port", type=int, default=0, help="Of Airflow's pages; 0: any free one")
    parser.add_argument("--once", action="store_true", help="End after the report")
    given = parser.parse_args(arguments)
    for name in ("folder", "dags", "roles"):
        setattr(given, name, getattr(given, name).resolve())
    return given


def service(stand: Stand, state: Path, roles: Path, **settings: str) -> None:
    """`priority up` beside Airflow, and Airflow's connection to it."""
    told = {"PRIORITY_STATE": str(state), "PRIORITY_PORT": "0", "PRIORITY_CONFIG": os.devnull, **settings}
    stand.environment.update(told)
    priority = [sys.executable, "-m", "priority"]
    stand.run("service", [*priority, "up"])
    url = stand.wait(lambda: _url(state), "the service", SERVICE_S)
    subprocess.run(
        [*priority, "roles", "apply", str(roles)], env=stand.environment, stdout=subprocess.DEVNULL, check=True
    )
    stand.connect(url, locate.token(state, needed=True), role="ci", tier="devel")
    say(f"service   {url}")


def _url(state: Path) -> str:
    from priority.errors import PriorityError
    from priority.face.client import Client

    try:
        url = locate.url(state, 0.0)
        with Client(url, retry_s=0.0) as client:
            return url if client.health()["status"] == "ok" else ""
    except PriorityError:
        return ""


def _run(stand: Stand, *, once: bool) -> int:
    stand.migrate()
    stand.start()
    stand.wait(stand.well, "Airflow")
    say(f"airflow   {stand.url}   (no password: everybody on this machine is admin)")
    shown = stand.wait(lambda: stand.dags() if DAG_ID in stand.dags() else None, f"DAG {DAG_ID}")
    say(f"dags      {', '.join(sorted(shown))}")
    run = stand.trigger(DAG_ID)
    say(f"running   {DAG_ID}, {run}")
    state = stand.wait(lambda: _ended(stand, run), "the end of the run", RUN_S)
    folder = stand.folder / "validation" / "".join(one if one.isalnum() or one in "_.-" else "-" for one in run)
    say(f"{state:<9} {folder / 'report.html'}")
    if not once:
        say("Ctrl-C stops everything")
        while True:
            time.sleep(1.0)
            stand.wait(lambda: True, "")
    return 0 if state == "success" and (folder / "report.html").exists() else 1


def _ended(stand: Stand, run: str) -> str:
    state = stand.state(DAG_ID, run)
    return state if state in ("success", "failed") else ""


def say(text: str) -> None:
    """A line for people."""
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
