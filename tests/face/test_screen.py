"""What a person sees: on a terminal of any width nothing breaks, and the words say what is."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from priority.face import show
from priority.face.cli_job import _current
from priority.face.terminal import amount, out, table
from priority.service.access import SYSTEM

from .live import Live, parts_in, serving, spec

Eventually = Callable[..., Any]
WIDTHS = (60, 80)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with serving(parts_in(tmp_path_factory.mktemp("screen"))) as found:
        yield found


@pytest.fixture(scope="module")
def busy(live: Live) -> Live:
    """Jobs in every state: on 2 nodes of 4 cpus."""
    root = live.client()
    root.submit(
        spec("opportunistic/mc-with-a-long-name-for-a-job-of-a-person", cpus=1, instances=12, labels={"a": "b"})
    )
    root.submit(spec("prod/run1", cpus=2, instances=2))
    root.submit(spec("devel/nowhere", constraints=[{"attribute": "rack", "in": ["r9"]}]))
    root.submit(spec("devel/ended", cpus=999))
    root.kill("physics/devel/ended", why="a reason that somebody wrote at some length, so that it needs several lines")
    return live


def environment(live: Live, **more: str) -> dict[str, str]:
    given = {name: value for name, value in os.environ.items() if not name.startswith(("PRIORITY_", "COLUMNS"))}
    service = {"PRIORITY_URL": live.url, "PRIORITY_TOKEN": live.tokens["root"], "PRIORITY_CONFIG": os.devnull}
    return {**given, **service, "TERM": "xterm-256color", **more}


def on_terminal(live: Live, width: int, *args: str) -> list[str]:
    """What a terminal of this width shows, without the colours."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    command = [sys.executable, "-m", "priority", *args]
    process = subprocess.Popen(command, env=environment(live), stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    seen = b""
    while True:
        try:
            data = os.read(master, 65_536)
        except OSError:  # its other end is closed
            break
        if not data:
            break
        seen += data
    os.close(master)
    assert process.wait(timeout=60) in (0, 5), seen
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode()).splitlines()]


def in_pipe(live: Live, *args: str) -> str:
    command = [sys.executable, "-m", "priority", *args]
    done = subprocess.run(command, env=environment(live), capture_output=True, text=True, check=False, timeout=120)
    return done.stdout + done.stderr


LONG = "mc-with-a-long-name-for-a-job-of-a-person"
SCREENS = [
    ("list", "--all"), ("status", "physics/prod/run1"), ("status", f"physics/opportunistic/{LONG}"),
    ("explain", f"physics/opportunistic/{LONG}"), ("explain", "physics/devel/nowhere"), ("quota", "show"),
    ("quota", "show", "physics"), ("node", "list"), ("role", "list"), ("user", "list"), ("token", "list"),
    ("audit", "list"), ("health",), ("config",),
]  # fmt: skip


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("args", SCREENS, ids=" ".join)
def test_nothing_is_wider_than_the_window(busy: Live, width: int, args: tuple[str, ...]) -> None:
    lines = on_terminal(busy, width, *args)
    assert lines
    assert [line for line in lines if len(line) > width] == []


def test_a_list_tells_what_runs_from_what_waits(busy: Live, eventually: Eventually) -> None:
    def settled() -> bool:
        run1 = busy.client().job("physics/prod/run1")
        return run1["running"] == 2 and busy.client().job(f"physics/opportunistic/{LONG}")["running"] == 4

    eventually(settled)
    narrow = on_terminal(busy, 80, "list")
    assert narrow[0].split()[:4] == ["JOB", "PENDING", "RUNNING", "FINISHED"]
    row = next(line for line in narrow if line.startswith("physics/prod/run1"))
    assert row.split()[1:4] == ["0", "2", "0"]
    piped = in_pipe(busy, "list").splitlines()
    assert piped[0].split()[:10] == [
        "JOB", "USER", "STATE", "PENDING", "STARTING", "RUNNING", "DYING", "FINISHED", "FAILED", "KILLED",
    ]  # fmt: skip
    assert [line for line in piped if line != line.rstrip()] == []
    for job in busy.client().jobs(limit=100)["items"]:
        assert sum(job[name] for name in ("pending", "starting", "running", "dying")) == job["active"]


def test_of_a_large_job_what_moves_is_watched_first(busy: Live, eventually: Eventually) -> None:
    """However many wait before it."""
    with busy.client() as client:
        uid = client.job(f"physics/opportunistic/{LONG}")["uid"]
        eventually(lambda: client.job(uid)["running"] == 4)
        running = {task["id"] for task in client.tasks(uid, state=["running"])["items"]}
        chosen, more = _current(client, uid, 5)
        assert more and running <= {task["id"] for task in chosen} and len(chosen) == 5
        screen = Console(width=200, record=True, file=StringIO())
        screen.print(show.watched(client.job(uid), chosen, 10))
    lines = screen.export_text().splitlines()
    assert lines[0].startswith(f"physics/opportunistic/{LONG}: ") and "running" in lines[0]
    assert [line.split()[2] for line in lines[3:7]] == ["running"] * 4


def test_a_status_has_the_newest_attempts_and_all_of_them_newest_first(busy: Live, eventually: Eventually) -> None:
    root = busy.client()
    uid = root.submit(spec("prod/twice", max_failures=3, backoff={"initial": 0, "limit": 0}))["uid"]
    eventually(lambda: f"{uid}-0-1" in busy.backend.running())
    busy.backend.finish(f"{uid}-0-1", exit_code=3)
    eventually(lambda: f"{uid}-0-2" in busy.backend.running())

    def attempts(*more: str) -> list[str]:
        rows = [line.split() for line in on_terminal(busy, 80, "status", uid, *more)]
        return [row[1] for row in rows if len(row) > 2 and row[0] == "0" and row[1].isdigit()]

    assert (attempts(), attempts("--all")) == (["2"], ["2", "1"])
    busy.backend.finish(f"{uid}-0-2")


def test_many_jobs_are_killed_at_once_and_each_is_told(busy: Live) -> None:
    names = [f"physics/devel/kill-{number}" for number in range(25)]
    busy.client().submit_many([spec(name.removeprefix("physics/"), cpus=999) for name in names])
    lines = on_terminal(busy, 80, "kill", *names)
    assert [line for line in lines if line] == [f"{name} has ended" for name in names]
    assert in_pipe(busy, "kill", *names).splitlines() == [f"{name} has ended" for name in names]


def test_a_table_in_a_pipe_is_laid_out_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many lines: each in columns, nothing cut, no line broken by what stands in it."""
    shown = StringIO()
    monkeypatch.setattr("sys.stdout", shown)
    rows = [(1, "\u4e2d\u6587", None, "first\nsecond"), (4711, "a", 0.5, "x" * 300)]
    out(table((">N", "NAME", ">SIZE", "WHY"), rows, spare=("SIZE",), quiet=("SIZE",)))
    assert shown.getvalue().splitlines() == [
        "   N  NAME  SIZE  WHY",
        "   1  \u4e2d\u6587     -  first second",
        "4711  a      0.5  " + "x" * 300,
    ]


def test_a_users_escapes_do_nothing(busy: Live) -> None:
    """In what people write (reasons, labels): no title of a terminal, no whole screen, no line before is changed."""
    hostile = "\x1b]0;own\x07\x1b[2J\x9b2Jover\r"
    job = busy.client().submit(spec("devel/hostile", cpus=999, labels={"run": hostile}))
    busy.client().kill(job["uid"], why=hostile)
    on_screens = ["\n".join(on_terminal(busy, 120, command, job["uid"])) for command in ("status", "explain")]
    for shown in (*on_screens, in_pipe(busy, "status", job["uid"])):
        assert "\\x1b]0;own" in shown and not set("\x1b\x07\x9b") & set(shown)


def test_who_is_alike_is_named(busy: Live) -> None:
    lines = on_terminal(busy, 120, "explain", f"physics/opportunistic/{LONG}")
    assert any(re.match(r"\d+-\d+ .* pending ", line) for line in lines), lines
    assert "alike" not in "\n".join(lines)
    assert "has rack r9; no node says what its rack is" in " ".join(
        on_terminal(busy, 120, "explain", "physics/devel/nowhere")
    )


def test_a_quota_tells_what_runs_from_what_waits(busy: Live) -> None:
    rows = [line.split() for line in in_pipe(busy, "quota", "show", "physics").splitlines()]
    assert rows[0] == ["ROLE", "TIER", "USER", "RESOURCE", "QUOTA", "RUNNING", "WAITING", "CRON", "LEFT"]
    found = {(row[1], row[2], row[3]): row[4:] for row in rows[1:]}
    assert found["devel", "-", "cpus"][0] == "100", "waiting work of a ceiling takes nothing of it"
    assert found["devel", "-", "cpus"][1:] == ["0", "1", "0", "100"]
    assert found["prod", "-", "cpus"][0] == "8"
    assert sum(map(int, found["prod", "-", "cpus"][1:])) == 8


def test_changes_are_read_as_changes(busy: Live) -> None:
    busy.service.roles.set_quota(SYSTEM, "chem", "prod", {"cpus": 8000, "mem": 2048})
    shown = in_pipe(busy, "audit", "list", "--role", "chem", "--action", "quota.set", "--since", "1h")
    assert "~ quota/prod: cpus 8 -> cpus 8, mem 2GiB" in shown
    assert "{" not in in_pipe(busy, "audit", "list")
    on_screen = on_terminal(busy, 80, "audit", "list", "--role", "chem", "--action", "quota")
    assert "  ~ quota/prod: cpus 8 -> cpus 8, mem 2GiB" in on_screen
    assert "no changes" in in_pipe(busy, "audit", "list", "--user", "nobody")
    assert "priority: since: must be a time such as" in in_pipe(busy, "audit", "list", "--since", "yesterday")
    assert "priority: action: must be" in in_pipe(busy, "audit", "list", "--action", "Quota!")


@pytest.mark.parametrize(
    ("name", "plain", "shown"),
    [("cpus", 2, "2"), ("cpus", -0.5, "-0.5"), ("mem", 4096, "4GiB"), ("mem", -100, "-100MiB"), ("gpus", None, "-")],
)
def test_amounts(name: str, plain: float | None, shown: str) -> None:
    assert amount(name, plain) == shown


def offered(live: Live, words: str, **more: str) -> list[str]:
    """What Tab offers in bash."""
    given = {"_PRIORITY_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    done = subprocess.run(
        [sys.executable, "-m", "priority"],
        env=environment(live, **given, **more), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


def test_tab_knows_jobs_roles_nodes_users_and_tiers(busy: Live, eventually: Eventually) -> None:
    def offers(words: str, *wanted: str) -> bool:
        """It says nothing where an answer takes too long, as it may on a machine that is busy with other tests."""
        return bool(eventually(lambda: set(wanted) <= set(offered(busy, words)), f"Tab after '{words}'"))

    assert offers("priority kill physics/prod/", "physics/prod/run1")
    assert "physics/devel/ended" not in offered(busy, "priority kill physics/devel/")
    assert offers("priority logs phys", "physics/devel/ended")
    assert offers("priority quota set ", "chem", "physics")
    assert offered(busy, "priority quota set chem p") == ["prod"]
    assert offered(busy, "priority logs --stream std") == ["stdout", "stderr"]
    assert offers("priority node drain ", "n1", "n2")
    assert offers("priority submit --role ch", "chem")
    assert set(offered(busy, "priority submit --role ch")) <= {"chem"}
    assert offers("priority token create --user a", "ada")


def test_tab_is_silent_when_nobody_answers(busy: Live, tmp_path: Path) -> None:
    away = {"PRIORITY_URL": "http://127.0.0.1:9"}
    nowhere = {"PRIORITY_URL": "", "PRIORITY_TOKEN": "", "PRIORITY_STATE": str(tmp_path)}
    for more in (away, nowhere, {"PRIORITY_TOKEN": "bad"}, {"PRIORITY_PORT": "x"}):
        assert offered(busy, "priority node drain ", **more) == []
