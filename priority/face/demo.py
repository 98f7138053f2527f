"""`priority demo`: the main job, end to end, on this machine, and proof that it was really seen.

Every task writes its own witness lines (who, which attempt, what, when), appending to one file. The checks read
those lines and the refusal that a client got; what the service says of itself is only drawn.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from priority.errors import NotFound, PriorityError, QuotaExceeded, Unavailable
from priority.face.client import Client
from priority.face.demo_dag import CONF, DAG, Validation, prepare
from priority.face.timeline import Timeline, boxes_by_node
from priority.service.settings import Settings

NODES = 4
NODE_CPUS = 4
STEP_TIMEOUT_S = 40.0
DAG_TIMEOUT_S = 120.0
"""Airflow may have to get ready first."""

PAUSE_S = 3.0
"""Between two steps when a person looks."""

_WRITE = 'w() { echo "$1 $PRIORITY_JOB $PRIORITY_INSTANCE $PRIORITY_ATTEMPT $(date +%s%N)" >> "$WITNESS"; }; '
_LOOP = "while [ $n -lt {beats} ]; do n=$((n+1)); sleep 0.2; done; w end"

CHECKPOINTING = (
    _WRITE
    + 'save="$WITNESS.$PRIORITY_INSTANCE"; n=$(cat "$save" 2>/dev/null || echo 0); '
    + 'trap \'w notice; echo $n > "$save"; w end; exit 0\' TERM; w start; echo "from $n"; '
    + _LOOP
)
"""Monte Carlo: on notice it writes down how far it is and ends; the next attempt goes on from there."""

STUBBORN = _WRITE + "trap 'w notice' TERM; w start; n=0; " + _LOOP.replace("sleep 0.2", "sleep 0.2; w beat")
"""A test suite that takes the notice and works on, until SIGKILL ends it."""

PLAIN = _WRITE + "w start; n=0; " + _LOOP
"""Work that just runs to its end."""


def job(role: str, tier: str, name: str, *, script: str, beats: int, **fields: Any) -> dict[str, Any]:
    """A job of the story, as a user would write it. A beat is 0.2 s."""
    return {"role": role, "tier": tier, "name": name, "command": script.replace("{beats}", str(beats)), **fields}


MONTE_CARLO = job(
    "simulation", "opportunistic", "mc", script=CHECKPOINTING, beats=10_000, instances=8,
    resources={"cpus": 1, "mem": "64MiB"}, preempt={"notice": "5s"},
)  # fmt: skip
TESTS = job(
    "ci", "devel", "tests", script=STUBBORN, beats=10_000, instances=4,
    resources={"cpus": 1, "mem": "64MiB"}, preempt={"notice": "1s"}, kill_grace=1,
)  # fmt: skip
ANALYSIS = job(
    "ci", "devel", "ana", script=PLAIN, beats=10_000, instances=2, priority=10, resources={"cpus": 2, "mem": "64MiB"}
)
RECONSTRUCTION = job("reco", "prod", "run3", script=PLAIN, beats=40, instances=5, resources={"cpus": 2, "mem": "64MiB"})
NIGHTLY = job("reco", "prod", "nightly", script=PLAIN, beats=2, instances=1, resources={"cpus": 2, "mem": "64MiB"})
TOO_MUCH = job("reco", "prod", "run4", script=PLAIN, beats=1, instances=50, resources={"cpus": 2, "mem": "64MiB"})


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """One witness line: what a task itself wrote, nanoseconds since the epoch first."""

    at_ns: int
    what: str
    job: str
    instance: int
    attempt: int


def read_witness(path: Path) -> list[Line]:
    """Every whole line that is there now, by time."""
    with suppress(FileNotFoundError):
        text = path.read_text(encoding="utf-8")
        parts = (line.split() for line in text.split("\n")[:-1])
        return sorted(Line(int(at), what, job, int(one), int(two)) for what, job, one, two, at in parts)
    return []


class Failed(Exception):
    """A step of the story was not seen."""


@dataclass(slots=True)
class Story:
    """The demo's state: where it runs, what has been seen."""

    state: Path
    client: Client
    timeline: Timeline
    began_s: float = field(default_factory=time.monotonic)
    uids: dict[str, str] = field(default_factory=dict)
    checks: int = 0
    picture: Path | None = None
    """Where the picture of the whole story goes."""
    pause_s: float = 0.0
    """Between two steps, for a person to read."""
    airflow: Validation | None = None
    """Where Airflow is installed."""

    @property
    def witness(self) -> Path:
        """The file that every task appends to."""
        return self.state / "witness"

    def lines(self, what: str, spec: dict[str, Any], attempt: int | None = None) -> list[Line]:
        """The witness lines of one kind of a job (of one attempt)."""
        key = f"{spec['role']}/{spec['tier']}/{spec['name']}"
        found = [line for line in read_witness(self.witness) if line.what == what and line.job == key]
        return [line for line in found if attempt in (None, line.attempt)]

    def say(self, text: str, style: str = "") -> None:
        """A line of the story."""
        self.timeline.say(time.monotonic() - self.began_s, text, style)

    def check(self, text: str, seen: Callable[[], bool], within_s: float | None = None) -> None:
        """Wait until it is seen, and say so; `Failed` if it is not in time."""
        deadline = time.monotonic() + (STEP_TIMEOUT_S if within_s is None else within_s)
        while not seen():
            if time.monotonic() > deadline:
                self.say(f"[bold red]✘ not seen:[/] {text}")
                raise Failed(text)
            time.sleep(0.05)
        self.checks += 1
        self.say(f"[bold green]✔[/] {text}")

    def refresh(self) -> None:
        """Bring the picture up to date."""
        nodes = self.client.nodes()["items"]
        tasks = []
        waiting = {}
        for name, uid in list(self.uids.items()):
            job = self.client.job(uid)
            active = self.client.tasks(uid, state=["pending", "starting", "running", "preempting", "killing"])
            tasks += [(job, task) for task in active["items"]]
            waiting[name] = sum(task["state"] == "pending" for task in active["items"])
        cpus = {node["name"]: int(node["capacity"]["cpus"]) for node in nodes}
        self.timeline.show(time.monotonic() - self.began_s, cpus, boxes_by_node(tasks), waiting)

    def token(self, role: str) -> str:
        """A new one of the role's first user."""
        user = next(iter(self.client.role(role)["users"]))
        return self.client.create_token(user, label="demo")["secret"]

    def submit(self, spec: dict[str, Any]) -> None:
        """As the first user of the role, with a token of their own."""
        with Client(self.client.url, self.token(spec["role"])) as client:
            job = client.submit({**spec, "env": {"WITNESS": str(self.witness)}})
        self.uids[spec["name"]] = job["uid"]


def fill(story: Story) -> None:
    """Development and opportunistic work takes every core."""
    story.say("[bold]1. Never an unused core.[/] Analysis, tests, Monte Carlo fill 16 cpus")
    for spec in (ANALYSIS, TESTS, MONTE_CARLO):
        story.submit(spec)
        story.check(
            f"{spec['instances']} tasks of {spec['name']} ({spec['tier']}) run: each wrote its own first line",
            partial(_all_started, story, spec),
        )


def _all_started(story: Story, spec: dict[str, Any]) -> bool:
    return bool(len(story.lines("start", spec)) == spec["instances"])


def preempt(story: Story) -> None:
    """Production arrives; the least important work makes room, and not one task more than needed."""
    story.say("[bold]2. Never a production task waiting behind an experiment.[/] 5 x 2 cpus")
    story.submit(RECONSTRUCTION)
    story.check(
        "all 8 Monte Carlo tasks were given notice, saved their state and ended",
        lambda: len(story.lines("notice", MONTE_CARLO)) == len(story.lines("end", MONTE_CARLO, 1)) == 8,
    )
    story.check(
        "10 cpus needed: 8 came from Monte Carlo, 2 from tests; analysis was left alone",
        lambda: len(story.lines("notice", TESTS)) == 2 and not story.lines("notice", ANALYSIS),
    )
    story.check(
        "all 5 production tasks run",
        lambda: len(story.lines("start", RECONSTRUCTION)) == 5,
    )
    first_s = min(line.at_ns for line in story.lines("start", RECONSTRUCTION)) / 1e9
    asked_s = _seconds(story.client.job(story.uids["run3"])["submitted"])
    story.say(f"  first line of production {1000 * (first_s - asked_s):.0f} ms after it was submitted")
    story.say(f"  why was mc killed? [cyan]{story.client.explain(story.uids['mc'])['summary']}[/]")
    story.check(
        "tests that ignored their notice were killed after it: no room was used twice",
        lambda: most_cpus_at_once(story) <= NODES * NODE_CPUS,
    )


def refuse(story: Story) -> None:
    """More production than the role was promised."""
    story.say("[bold]3. What was promised, and no more.[/] 50 more tasks of 2 cpus")
    try:
        story.submit(TOO_MUCH)
    except QuotaExceeded as refusal:
        message = str(refusal)
    else:
        raise Failed("a submission over quota was accepted")
    story.say(f"  [yellow]{message}[/]")
    story.check("refused at once, with the numbers", lambda: "short" in message and "asked" in message)
    with suppress(NotFound):
        story.client.job("reco/prod/run4")
        raise Failed("the refused job is there")


def come_back(story: Story) -> None:
    """Production ends, the victims run again."""
    story.say("[bold]4. They come back.[/] Production ends by itself")
    story.check("all 5 production tasks wrote their last line", lambda: len(story.lines("end", RECONSTRUCTION)) == 5)
    story.check(
        "all 8 Monte Carlo tasks run again, second attempt, from where they were",
        lambda: len(story.lines("start", MONTE_CARLO, 2)) == 8,
    )
    story.check("the 2 killed tests run again", lambda: len(story.lines("start", TESTS, 2)) == 2)
    twice = [line for line in read_witness(story.witness) if line.what == "start"]
    story.check(
        "no attempt started twice, nothing that was left alone started again",
        lambda: len({(line.job, line.instance, line.attempt) for line in twice}) == len(twice) == 19 + 10,
    )


def nightly(story: Story) -> None:
    """The same production every night, and once by hand."""
    story.say("[bold]5. And every night.[/] A cron job: 02:30 by the clocks of Geneva, summer and winter")
    env = {"WITNESS": str(story.witness)}
    kept = story.client.submit_cron({**NIGHTLY, "env": env, "schedule": "30 2 * * *", "timezone": "Europe/Zurich"})
    story.say(f"  next: [cyan]{', '.join(kept['local'][:2])}[/], ...")
    started = story.client.start_cron(kept["key"], why="the demo does not wait for the night")
    story.uids[NIGHTLY["name"]] = started["started"]["job"] or ""
    story.check("started by hand, it ran: its first line and its last", lambda: len(story.lines("end", NIGHTLY)) == 1)
    rows = story.client.cron_history(kept["key"])["items"]
    story.check("and its history has one row, the one of that run", lambda: [row["by"] for row in rows] == ["admin"])


def validate(story: Story) -> None:
    """Airflow's turn: each task of a DAG is a job of the same cluster."""
    if story.airflow is None:
        story.say("[grey50]6. (No DAG: Apache Airflow is not installed, or not wanted)[/]")
        return
    story.say("[bold]6. A DAG.[/] Apache Airflow validates the release: every step a prod job, on a full cluster")
    story.airflow.begin(story.client.url, story.token("reco"))
    story.check("its run is a success", partial(_validated, story, story.airflow), DAG_TIMEOUT_S)
    jobs = list(story.client.all_jobs(label=f"airflow.dag={DAG}"))
    report, read = story.airflow.report(), story.airflow.jobs_in_report()
    story.check(
        f"its report says Passed, has plots, and is made from the logs of {read} jobs: all but its own",
        lambda: "<b>Passed</b>" in report and "<svg" in report and read == len(jobs) - 1,
    )
    made = [sum(f".{step}-" in job["name"] for job in jobs) for step in ("simulate", "track")]
    chunks = len(list(story.airflow.products.glob("chunk-*.json")))
    story.check(
        f"{made[0]} simulations, and a tracking job for each of the {chunks} chunks that the step before has found",
        lambda: made == [CONF["jobs"], chunks],
    )


def _validated(story: Story, airflow: Validation) -> bool:
    """Its jobs are shown while they run."""
    for job in story.client.jobs(label=f"airflow.dag={DAG}", limit=20)["items"]:
        name = job["name"].removeprefix(f"{DAG}.").rpartition("-")[0]
        if job["state"] == "active":
            story.uids[name] = job["uid"]
        else:
            story.uids.pop(name, None)
    if airflow.ended() and not airflow.succeeded():
        raise Failed(f"the DAG's run has failed; what Airflow said is in {airflow.told}")
    return airflow.succeeded()


def most_cpus_at_once(story: Story) -> int:
    """By the witness lines alone: the largest number of cpus in use at any moment. A task is there from its first
    line to its last.
    """
    cpus = {spec["name"]: spec["resources"]["cpus"] for spec in (MONTE_CARLO, TESTS, ANALYSIS, RECONSTRUCTION)}
    spans: dict[tuple[str, int, int], list[int]] = {}
    for line in read_witness(story.witness):
        spans.setdefault((line.job, line.instance, line.attempt), []).append(line.at_ns)
    changes: list[tuple[int, int]] = []
    for (job, _, _), times in spans.items():
        size = cpus[job.rsplit("/", 1)[1]]
        changes += [(times[0], size), (times[-1], -size)]
    in_use = most = 0
    for _, change in sorted(changes):
        in_use += change
        most = max(most, in_use)
    return most


STEPS = (fill, preempt, refuse, come_back, nightly, validate)


def run(
    console: Console, roles_file: Path, *, keep: bool = False, picture: Path | None = None, airflow: bool = True
) -> int:
    """Tell the story on a service of its own in a new folder. The exit status: 0 only if every step was seen."""
    state = Path(tempfile.mkdtemp(prefix="priority-demo-"))
    console.print("[grey50]starting: priority up (Valkey, SQLite, API, scheduler, 4 agents of 4 cpus)")
    service = _start(state)
    validation = prepare(state) if airflow else None
    try:
        with (
            _client(state, service) as client,
            Timeline(console, "production and development share one cluster") as line,
        ):
            pause_s = PAUSE_S if console.is_terminal or picture is not None else 0.0
            _tell(Story(state, client, line, picture=picture, pause_s=pause_s, airflow=validation), roles_file)
    except (Failed, PriorityError, OSError) as error:
        console.print(f"[bold red]The demo failed:[/] {error}")
        console.print(f"what the service said is in {state}/up.log", soft_wrap=True)
        return 1
    finally:
        if validation is not None:
            validation.stop()
        status = _stop(service)
    if status != 0:
        console.print(f"[bold red]The service did not stop cleanly:[/] exit status {status}, see {state}/up.log")
        return 1
    if keep:
        console.print(f"kept: {state}", soft_wrap=True)
    else:
        shutil.rmtree(state, ignore_errors=True)
    return 0


def _tell(story: Story, roles_file: Path) -> None:
    done = threading.Event()
    artist = threading.Thread(target=_draw, args=(story, done), daemon=True)
    artist.start()
    try:
        _set_up(story, roles_file)
        for step in STEPS:
            step(story)
            time.sleep(story.pause_s)
        if story.picture is not None:
            story.timeline.save(story.picture)
    finally:
        done.set()
        artist.join()
    _clear(story)
    story.say(f"[bold green]All {story.checks} checks were seen[/], by the tasks' own witness lines")


def _start(state: Path) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PRIORITY_")}
    environment |= {
        "PRIORITY_STATE": str(state),
        "PRIORITY_PORT": "0",
        "PRIORITY_AGENTS": str(NODES),
        "PRIORITY_AGENT_CPUS": str(NODE_CPUS),
        "PRIORITY_CONFIG": os.devnull,
    }
    with (state / "up.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "priority", "up"], env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )


def _client(state: Path, service: subprocess.Popen[bytes]) -> Client:
    """Of the service in `state`, once it answers and its nodes are there."""
    deadline = time.monotonic() + STEP_TIMEOUT_S
    settings = Settings(state=state, url="", token="")
    while time.monotonic() < deadline and service.poll() is None:
        with suppress(PriorityError):
            client = Client.find(settings)
            if len([node for node in client.nodes()["items"] if node["state"] == "up"]) == NODES:
                return client
            client.close()
        time.sleep(0.1)
    raise Unavailable("the service did not come up")


def _stop(service: subprocess.Popen[bytes]) -> int:
    service.send_signal(signal.SIGTERM)
    try:
        return service.wait(timeout=STEP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        service.kill()
        return service.wait()


def _set_up(story: Story, roles_file: Path) -> None:
    desired = yaml.safe_load(roles_file.read_text(encoding="utf-8"))["roles"]
    changes = story.client.apply_roles(desired)["changes"]
    story.say(f"{len(changes)} changes from [cyan]{roles_file}[/] applied: {', '.join(sorted(desired))}")


def _clear(story: Story) -> None:
    """End what would run for ever, and see it end."""
    for name in ("mc", "tests", "ana"):
        story.client.kill(story.uids[name], why="the demo is over")
    ended = story.client.wait(*story.uids.values(), timeout_s=STEP_TIMEOUT_S)
    story.check("everything was killed at the end, nothing is left", lambda: all(job["active"] == 0 for job in ended))


def _draw(story: Story, done: threading.Event) -> None:
    """Bring the picture up to date some times a second until the story is over."""
    while not done.wait(0.15):
        with suppress(PriorityError):
            story.refresh()


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
