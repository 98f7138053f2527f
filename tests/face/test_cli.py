"""The command line through its runner, against a live API: what is printed, and the exit status."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner, Result

from priority.errors import Unavailable
from priority.face import locate, shell
from priority.face.cli import app
from priority.face.client import Client
from priority.face.listen import announce, withdraw
from priority.orders import LogChunk, LogRequest
from priority.service.settings import Settings
from priority.service.up import first_token, hold

from .live import Live, parts_in, serving, spec

ROLES_FILE = Path(__file__).parents[2] / "config" / "roles.yaml"
Run = Callable[..., Result]
Eventually = Callable[..., Any]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with serving(parts_in(tmp_path_factory.mktemp("cli"))) as found:
        yield found


@pytest.fixture
def run(live: Live, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """`run("list", "--json", user="ada")`."""

    def invoke(*args: str, user: str = "root", stdin: str | bytes | None = None) -> Result:
        monkeypatch.setenv("PRIORITY_URL", live.url)
        monkeypatch.setenv("PRIORITY_TOKEN", live.tokens[user])
        monkeypatch.setenv("PRIORITY_STATE", str(tmp_path))
        monkeypatch.setenv("PRIORITY_CONFIG", os.devnull)
        monkeypatch.setattr("typer.testing._get_command", lambda _: TREE)
        return CliRunner().invoke(app, list(args), input=stdin)

    return invoke


def good(result: Result | subprocess.CompletedProcess[str]) -> Any:
    """Its JSON: one document."""
    status = result.exit_code if isinstance(result, Result) else result.returncode
    assert status == 0, result.stderr
    return json.loads(result.stdout)


TREE: Any = get_command(app)
"""Made once: it takes a fifth of a second."""


def commands() -> list[str]:
    def walk(command: Any, path: str) -> Iterator[str]:
        yield path
        for name, child in getattr(command, "commands", {}).items():
            yield from walk(child, f"{path} {name}".strip())

    return list(walk(TREE, ""))


@pytest.mark.parametrize("command", commands())
def test_help(run: Run, command: str) -> None:
    result = run(*command.split(), "--help")
    assert result.exit_code == 0 and "Usage: priority" in result.stdout


@pytest.mark.parametrize("command", [one for one in commands() if one])
def test_every_command_and_option_says_what_it_is(command: str) -> None:
    found: Any = TREE
    for word in command.split():
        found = found.commands[word]
    assert found.help
    for parameter in found.params:
        assert parameter.help, f"{command} {parameter.name}"


WITHOUT_JSON = {"up", "api", "scheduler", "agent", "demo"}
"""Those that run until they are stopped."""


def test_json_everywhere() -> None:
    for command in commands():
        found: Any = TREE
        for word in command.split():
            found = found.commands[word]
        if not getattr(found, "commands", None) and command not in WITHOUT_JSON:
            assert any("--json" in getattr(one, "opts", ()) for one in found.params), command


def test_the_epilog_documents_each_exit_status() -> None:
    from priority import errors
    from priority.face.shell import EXIT_STATUSES

    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.PriorityError):
            assert f" {kind.exit_status} " in f" {EXIT_STATUSES} "


def test_submit_on_the_line(run: Run) -> None:
    result = run(
        "submit", "--role", "physics", "--tier", "devel", "--name", "hello", "--cpus", "1", "--mem", "64MiB",
        "--env", "A=b=c", "--label", "run=1", "--notice", "5s", "--json", "--", "echo", "hello", "--loud",
    )  # fmt: skip
    job = good(result)
    assert job["key"] == "physics/devel/hello"
    assert job["spec"]["command"] == ["echo", "hello", "--loud"]
    assert (job["spec"]["env"], job["spec"]["labels"]) == ({"A": "b=c"}, {"run": "1"})
    assert job["resources"] == {"cpus": 1, "mem": 64}
    line = run("job", "submit", "--role", "physics", "--name", "shell", "--", "a | b")
    assert line.exit_code == 0 and line.stdout.startswith("physics/devel/shell submitted (")
    assert good(run("status", "physics/devel/shell", "--json"))["spec"]["command"] == "a | b"


def test_submit_files(run: Run, tmp_path: Path) -> None:
    several = tmp_path / "several.yaml"
    several.write_text("\n---\n".join(yaml.safe_dump(spec(f"devel/y{number}")) for number in range(3)))
    assert [job["name"] for job in good(run("submit", str(several), "--json"))] == ["y0", "y1", "y2"]
    as_list = tmp_path / "list.json"
    as_list.write_text(json.dumps([spec("devel/j0"), spec("devel/j1")]))
    assert len(good(run("submit", str(as_list), "--json"))) == 2
    lines = "\n".join(json.dumps(spec(f"devel/l{number}")) for number in range(2))
    assert len(good(run("submit", "-", "--json", stdin=lines))) == 2
    assert good(run("submit", "-", "--json", stdin=json.dumps(spec("devel/one"))))["name"] == "one"


def test_more_than_one_request_can_hold(run: Run) -> None:
    lines = "\n".join(json.dumps(spec(f"devel/many-{number}", cpus=0.001)) for number in range(1500))
    result = run("submit", "-", "--json", "--key", "k", stdin=lines)
    assert len(good(result)) == 1500 and "2 requests" in result.stderr
    again = run("submit", "-", "--json", "--key", "k", stdin=lines)
    assert [job["uid"] for job in good(again)] == [job["uid"] for job in good(result)]
    assert run("kill", "physics/devel/many-0", "--json").exit_code == 0


BAD = [
    # what                                          exit  words of the one line
    (["submit"],                                    2, ["FILE"]),
    (["submit", "nowhere.yaml"],                    2, ["nowhere.yaml", "cannot be read"]),
    (["submit", "-"],                               2, ["no job"]),
    (["submit", "--name", "x"],                     2, ["command"]),
    (["submit", "--name", "x", "--", "true"],       2, ["--role"]),
    (["submit", "--cpus", "1", "x.yaml"],           2, ["resources", "--name"]),
    (["submit", "--role", "ci", "--", "true"],      2, ["--name: is missing", "role"]),
    (["submit", "--name", "x", "--role", "physics", "--env", "A=1", "--env", "A=2", "--", "true"], 2, ["A is there t"]),
    (["submit", "--name", "x", "--resource", "fpgas=1", "--resource", "fpgas=2", "--", "true"], 2, ["fpgas is there"]),
    (["submit", "--name", "x", "--cpus", "1", "--resource", "cpus=2", "--", "true"], 2, ["cpus is there twice"]),
    (["kill", "a b"],                               2, ["a b: a job is named by its uid or role/tier/name"]),
    (["kill", "physics/prod/x", "-i", "3-1"],       2, ["--instances: 3-1 ends before it begins: write 1-3"]),
    (["restart", "physics/prod/x", "-i", "5,2-0"],  2, ["--instances: 2-0 ends before it begins: write 0-2"]),
    (["preemptions", "--job", "a b"],               2, ["job: must be a job's uid or role/tier/name"]),
    (["quota", "set", "physics", "devel", "cpu=5"], 2, [" quota.cpu: is not a resource", "write cpus"]),
    (["quota", "set", "physics", "devel", "cpus=1", "cpus=2"], 2, ["cpus is there twice"]),
    (["submit", "--name", "x", "--role", "physics", "--cpus", "nan", "--", "true"], 2, ["cpus"]),
    (["submit", "--name", "x", "--role", "physics", "--cpus", "-1", "--", "true"], 2, ["cpus", "negative"]),
    (["submit", "--name", "x", "--role", "physics", "--env", "A", "--", "true"], 2, ["--env"]),
    (["submit", "--name", "x", "--role", "nowhere", "--", "true"], 3, ["nowhere"]),
    (["submit", "--name", "x", "--role", "physics", "--tier", "gold", "--", "true"], 2, ["gold"]),
    (["submit", "--name", "x", "--role", "physics", "--tier", "prod", "--cpus", "99", "--", "true"], 6, ["short by"]),
    (["submit", "--name", "x", "--role", "physics", "-n", "1000000", "--", "true"], 2, ["instances"]),
    (["status", "physics/prod/nothing"],            3, ["physics/prod/nothing"]),
    (["status", "ci/devel"],                        2, ["ci/devel: a job is named by its uid or role/tier/name"]),
    (["restart", "ci/devel/x/1"],                   2, ["one of its instances by -i 1"]),
    (["statu"],                                     2, ["Did you mean 'status', 'restart'; see `priority --help`"]),
    (["kill", "ci//x"],                             2, ["role/tier/name"]),
    (["status"],                                    2, ["JOB", "--help"]),
    (["kill", "physics/prod/x", "-i", "1-"],        2, ["--instances"]),
    (["kill", "physics/prod/x", "-i", "0-99999999"], 2, ["--instances"]),
    (["job", "scale", "a/b/c", "zero"],             2, ["INSTANCES: must be a whole number, not \"zero\""]),
    (["scale", "a/b/c", "0"],                       2, ["INSTANCES: must be at least 1, not 0; `priority kill`"]),
    (["list", "--limit", "0"],                      2, ["--limit / -n: must be at least 1"]),
    (["list", "--tier", "gold"],                    2, ["tier: 'gold' is not a tier; there are"]),
    (["list", "--label", "x"],                      2, ["label: must be such as run=4711"]),
    (["list", "--role", "a b"],                     2, ["role: must be letters"]),
    (["submit", "--name", "x", "--cpus", "many"],   2, ["--cpus: must be a number, not \"many\""]),
    (["logs", "a/b/c", "--stream", "stdin"],        2, ["--stream"]),
    (["quota", "set", "physics", "devel"],          2, ["NAME=AMOUNT"]),
    (["quota", "set", "physics", "devel", "cpus"],  2, ["NAME=AMOUNT"]),
    (["quota", "set", "physics", "devel", "cpus=nan"], 2, ["cpus"]),
    (["quota", "set", "physics", "gold", "cpus=1"], 2, ["gold"]),
    (["roles", "apply", "nowhere.yaml"],            2, ["nowhere.yaml"]),
    (["token", "create", "--expires", "soon"],      2, ["--expires"]),
    (["token", "revoke", "nothing"],                3, ["nothing"]),
    (["node", "drain", "nothing"],                  3, ["nothing"]),
    (["user", "create", "ada"],                     5, ["ada"]),
    (["frobnicate"],                                2, ["frobnicate", "--help"]),
    (["list", "--colour"],                          2, ["--colour", "--help"]),
    (["up", "--agents", "-1"],                      2, ["agents"]),
    (["up", "--mesos-master", "http://m:5050"],      2, ["--backend mesos"]),
    (["up", "--mem", "much"],                       2, ["agent_mem"]),
    (["agent", "--name", "a/b"],                    2, ["--name"]),
    (["plan", "nowhere.json"],                      2, ["nowhere.json"]),
    (["plan"],                                      2, ["SNAPSHOT", "--example"]),
    (["audit", "list", "--action", "bogus"],        2, ["bogus", "is not an action; there are", "quota.set"]),
    (["audit", "list", "--since", "soon"],          2, ["since", "7d"]),
    (["audit", "list", "--action", "Q u"],          2, ["action"]),
]  # fmt: skip


@pytest.mark.parametrize(("args", "status", "words"), BAD, ids=[" ".join(row[0])[:60] for row in BAD])
def test_an_error_is_one_line(run: Run, args: list[str], status: int, words: list[str]) -> None:
    result = run(*args, stdin="")
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith("priority: ") or args[0] == "plan"
    for word in words:
        assert word in result.stderr


def test_a_bad_file_is_named_with_its_field_or_line(run: Run, tmp_path: Path) -> None:
    field, line = tmp_path / "field.yaml", tmp_path / "line.yaml"
    field.write_text("role: physics\ntier: devel\nname: x\ncommand: 'true'\ncolour: red\n")
    line.write_text("role: physics\n  tier: [\n")
    assert f"{field}: colour: is not known" in run("submit", str(field)).stderr
    assert f"{line}: line 2" in run("submit", str(line)).stderr


JOB = "role: physics\ntier: devel\nname: x\ncommand: 'true'\n"
TWICE = [
    # file, text, command, what it says
    ("a.yaml", JOB + "env: {A: '1', B: '2', A: '3'}\n", ["submit"], "env.A: is there twice"),
    ("b.yaml", "---\n".join((JOB, JOB + "role: chem\n")), ["submit"], "jobs[1].role: is there twice"),
    ("c.json", '[{"role": "a"}, {"env": {"A": "1", "A": "2"}}]', ["submit"], "jobs[1].env.A: is there twice"),
    ("d.json", '{"role": "a", "role": "b"}', ["submit"], "role: is there twice"),
    ("e.jsonl", '{"role": "a"}\n{"name": "x", "name": "y"}\n', ["submit"], "jobs[1].name: is there twice"),
    (
        "f.yaml",
        "roles:\n  x: {}\n  y: {}\n  x: {}\n",
        ["roles", "diff"],
        "roles.x: is there twice in one mapping: first on line 2, aga",
    ),
    ("g.json", '{"roles": {"x": {"quota": {}, "quota": {}}}}', ["roles", "apply"], "roles.x.quota: is there twice"),
    (
        "h.yaml",
        "- {name: a, capacity: {cpus: 1, cpus: 2}}\n",
        ["simulate", "t", "--nodes"],
        "[0].capacity.cpus: is there twice",
    ),
    ("empty.yaml", "", ["submit"], "there is no job in it"),
    ("deep.json", "[" * 10_000, ["roles", "diff"], "not YAML: nested too deeply"),
    ("deep.yaml", "[" * 10_000, ["simulate", "t", "--nodes"], "not YAML: nested too deeply"),
    ("big.json", '{"jobs": [], "more": 1}', ["roles", "diff"], "jobs: is not known"),
    ("i.yaml", JOB.replace("command", "comand"), ["submit"], "comand: is not known; did you mean command?"),
    ("k.yaml", "---\n".join((JOB.replace("name", "nam"), JOB)), ["submit"], "jobs[0].nam: is not known; did you mean"),
    ("l.yaml", "- {role: a, tier: devel}\n- {}\n", ["submit"], "jobs[0].name: is missing"),
    ("m.json", '{"role": "a", "tier": "devel"}', ["submit"], "name: is missing"),
    ("n.jsonl", '{"role": "a", "role": "b"}\n{"name": "x"}\n', ["submit"], "jobs[0].role: is there twice"),
    ("o.yaml", JOB.replace("tier: devel\n", ""), ["submit"], "tier: is missing: say prod, devel or opportunistic"),
    (
        "p.yaml",
        JOB + "resources: {cpus: 1e3}\n",
        ["submit"],
        "resources.cpus: must be a number, not '1e3', which is text",
    ),
    ("j.yaml", JOB.replace("devel", "gold"), ["submit"], "tier: 'gold' is not a tier"),
]


@pytest.mark.parametrize(("name", "text", "command", "says"), TWICE, ids=[row[0] for row in TWICE])
def test_what_a_file_may_not_say(run: Run, tmp_path: Path, name: str, text: str, command: list[str], says: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    result = run(*command, str(file))
    assert result.exit_code == 2
    assert result.stderr.startswith(f"priority: {file}: {says}"), result.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "PRIORITY_CONFIG: {file}: there is no such file"),
        ("port: 1\nport: 2\n", "{file}: port: is there twice in one mapping"),
        ("- port\n", "{file}: must be settings with their values, such as `port: 8330`, not a list"),
        ("text\n", '{file}: must be settings with their values, such as `port: 8330`, not "text"'),
        ("lease_s: .inf\n", "lease_s: must be a finite number, not inf"),
        ("redis: host\n", "redis: must be a URL: redis://HOST:PORT, "),
        ("redis: redis://host:port\n", "redis: must be a URL: redis://HOST:PORT, "),
        ("agent_mem: 3GiX\n", "agent_mem: must be a number of MiB or a string such as "),
    ],
)
def test_a_file_of_settings_that_cannot_count(tmp_path: Path, text: str | None, says: str) -> None:
    file = tmp_path / "priority.yaml"
    if text is not None:
        file.write_text(text)
    done = process("config", PRIORITY_CONFIG=str(file))
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"priority: {says.format(file=file)}"), done.stderr


def test_a_file_of_settings_in_another_encoding(tmp_path: Path) -> None:
    file = tmp_path / "priority.yaml"
    file.write_bytes(b"host: caf\xe9\n")
    done = process("config", PRIORITY_CONFIG=str(file))
    assert (done.returncode, done.stdout) == (2, "") and "is not text in UTF-8" in done.stderr


def test_no_service_and_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PRIORITY_URL", "PRIORITY_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PRIORITY_CONFIG", os.devnull)
    nothing = CliRunner().invoke(app, ["--state", str(tmp_path), "list"])
    assert nothing.exit_code == 7 and "priority up" in nothing.stderr
    monkeypatch.setenv("PRIORITY_URL", "http://127.0.0.1:9")
    no_token = CliRunner().invoke(app, ["--state", str(tmp_path), "list"])
    assert no_token.exit_code == 4 and "PRIORITY_TOKEN" in no_token.stderr


@pytest.mark.parametrize(
    ("token", "says"),
    [
        ("", "PRIORITY_TOKEN: is set but empty; give it a user's token, or unset it"),
        (" ", "PRIORITY_TOKEN: is set but empty"),
        ("pri_a\nb", "PRIORITY_TOKEN: holds characters that no token has"),
        ("prí", "PRIORITY_TOKEN: holds characters that no token has"),
    ],
)
def test_a_token_that_cannot_be_one_is_not_the_admins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str, says: str
) -> None:
    (tmp_path / "admin.token").write_text("pri_secret")
    monkeypatch.setenv("PRIORITY_CONFIG", os.devnull)
    monkeypatch.setenv("PRIORITY_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("PRIORITY_TOKEN", token)
    done = CliRunner().invoke(app, ["--state", str(tmp_path), "list"])
    assert done.exit_code == 4 and done.stderr.startswith(f"priority: {says}")
    assert len(done.stderr.splitlines()) == 1


def test_a_token_may_have_its_lines_end(live: Live, run: Run) -> None:
    live.tokens["with an end"] = live.tokens["ada"] + "\n"
    assert good(run("user", "me", "--json", user="with an end"))["name"] == "ada"


def test_a_service_that_was_killed_whole_is_not_waited_for_as_if_it_came_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its `api.json` is left; whoever wrote it is dead, and nobody holds the folder."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    (tmp_path / "up.lock").touch()
    (tmp_path / "api.json").write_text(json.dumps({"url": "http://127.0.0.1:9", "pid": gone.pid}))
    (tmp_path / "admin.token").write_text("pri_x")
    monkeypatch.setattr(locate, "GRACE_S", 0.2)
    assert not locate.lives(tmp_path)
    with Client.find(Settings(state=tmp_path, url=""), retry_s=3600.0) as client, pytest.raises(Unavailable):
        client.me()
    (tmp_path / "api.json").write_text(json.dumps({"url": "http://127.0.0.1:9", "pid": os.getpid()}))
    assert locate.lives(tmp_path)


@pytest.mark.parametrize(
    ("url", "tries", "says"),
    [
        ("http://127.0.0.1:9", True, "no answer from http://127.0.0.1:9 (Connection refused); does `priority up` run"),
        ("http://no.such.host.invalid", False, "; is the URL right (--url, PRIORITY_URL)?"),
    ],
)
def test_an_address_where_nobody_is(monkeypatch: pytest.MonkeyPatch, url: str, tries: bool, says: str) -> None:
    if not tries:  # whatever resolves names here
        gone = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        monkeypatch.setattr(socket, "getaddrinfo", Mock(side_effect=gone))
    told: list[str] = []
    slept = [0.0]
    clock = SimpleNamespace(monotonic=lambda: sum(slept), sleep=slept.append)
    monkeypatch.setattr("priority.face.transport.time", clock)
    with Client(url, "x", retry_s=3600.0, refused_s=0.3, waits=told.append) as client:
        for _ in range(2):
            with pytest.raises(Unavailable) as error:
                client.me()
            assert says in str(error.value)
    assert told == (["no answer from http://127.0.0.1:9 (Connection refused); trying for 0.3 s"] if tries else [])
    assert (0.0 < sum(slept) <= 0.6) == tries, "twice"


def test_a_service_that_was_there_is_waited_for_as_long_as_ever(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    with Client(live.url, live.tokens["ada"], retry_s=60.0, refused_s=0.0) as client:
        client.me()
        client.close()
        connect, refusals = socket.create_connection, iter([ConnectionRefusedError(111, "Connection refused")] * 3)

        def refuse(*args: Any, **more: Any) -> socket.socket:
            for error in refusals:
                raise error
            return connect(*args, **more)

        monkeypatch.setattr("http.client.socket.create_connection", refuse)
        assert client.me()["name"] == "ada"


def test_in_parts_the_first_token_comes_with_the_database(tmp_path: Path, live: Live) -> None:
    state = tmp_path / "state"
    given = {"PRIORITY_STATE": str(state), "PRIORITY_CONFIG": os.devnull, "PRIORITY_URL": live.url}
    for _ in range(2):
        made = process("db", "upgrade", "--json", **given)
        assert good(made) == {"upgraded": True, "token_file": str(state / "admin.token")}
    assert (state / "admin.token").stat().st_mode & 0o777 == 0o600
    (state / "admin.token").unlink()
    settings = Settings(state=state)
    assert first_token(settings, only_if_none=True) is None, "an API makes no second one"
    health = process("health", "--json", **given)
    assert json.loads(health.stdout)["status"] in ("ok", "degraded"), "needs no token"


def test_a_service_that_is_starting_is_waited_for(tmp_path: Path, live: Live) -> None:
    found: list[str] = []

    def look() -> None:
        with Client.find(Settings(state=tmp_path, token="t", url="")) as client:
            found.append(client.url)

    with hold(tmp_path):
        looking = threading.Thread(target=look)
        looking.start()
        announce(tmp_path, live.url)
        looking.join(timeout=60)
    assert found == [live.url]
    withdraw(tmp_path)
    with pytest.raises(Unavailable, match="nothing runs"):
        Client.find(Settings(state=tmp_path, token="t", url=""))


def test_a_whole_day(live: Live, run: Run, eventually: Eventually) -> None:
    """Submit, look, wait, read the output, ask why; each also in plain columns."""
    job = good(run("submit", "--role", "physics", "--tier", "prod", "--name", "day", "--json", "--", "true"))
    task = f"{job['uid']}-0-1"
    eventually(lambda: task in live.backend.running())
    assert any(one["uid"] == job["uid"] for one in good(run("list", "--tier", "prod", "--json")))
    assert "physics/prod/day" in run("list").stdout
    live.backend.write(task, b"out\n")
    live.backend.write(task, b"err\n", "stderr")
    both = run("logs", "physics/prod/day")
    assert (both.stdout, both.stderr) == ("out\n", "err\n")
    assert run("logs", task, "--stream", "stdout", "--tail", "3").stdout == "ut\n"
    assert good(run("logs", task, "--stream", "stderr", "--json"))["data"] == "err\n"
    assert "day" in run("explain", "physics/prod/day").stdout
    assert good(run("explain", task, "--json"))["job"] == "physics/prod/day"
    live.backend.finish(task, exit_code=3)
    eventually(lambda: live.client().job(job["uid"])["state"] == "ended")
    shown = run("status", job["uid"])
    assert "failed" in shown.stdout and "true" in shown.stdout
    assert good(run("list", "--all", "--role", "physics", "--json"))
    assert run("logs", job["uid"], "-f").stdout == "out\n"


def test_logs_say_what_is_gone(live: Live, run: Run, eventually: Eventually, monkeypatch: pytest.MonkeyPatch) -> None:
    job = live.client().submit(spec("prod/long", cpus=0.1))
    task = f"{job['uid']}-0-1"
    eventually(lambda: task in live.backend.running())
    live.backend.write(task, b"0123456789")
    whole = live.backend.logs

    def cut(request: LogRequest) -> LogChunk:
        """As if the first bytes had been over the limit."""
        return whole(request if request.offset < 0 else replace(request, offset=max(6, request.offset)))

    monkeypatch.setattr(live.backend, "logs", cut)
    found = run("logs", "physics/prod/long", "--stream", "stdout")
    assert found.stdout == "6789"
    assert found.stderr.startswith(
        "priority: stdout: 6 bytes after byte 0 are gone: of a long output only the last part"
    )
    assert run("logs", "physics/prod/long", "--stream", "stdout", "--tail", "2").stderr == ""
    live.client().kill(job["uid"])


def test_logs_say_that_a_task_has_not_started(live: Live, run: Run, eventually: Eventually) -> None:
    job = live.client().submit(spec("opportunistic/late", cpus=1000))
    found = run("logs", "physics/opportunistic/late")
    assert (found.exit_code, found.stdout) == (0, "")
    assert found.stderr == (
        "priority: physics/opportunistic/late has not started, so there is no output yet; "
        "-f waits until it has, `priority explain` says why it has not\n"
    ), "once, not for each stream"
    done: list[Result] = []
    following = threading.Thread(target=lambda: done.append(run("logs", "physics/opportunistic/late", "-f")))
    following.start()
    live.client().kill(job["uid"])
    following.join(timeout=60)
    assert done[0].exit_code == 0 and done[0].stdout == ""
    assert " has not started" in done[0].stderr or " has ended and never started" in done[0].stderr
    assert "has ended and never started" in run("logs", f"{job['uid']}-0-1").stderr


def test_wait_and_its_exit_status(live: Live, run: Run) -> None:
    root = live.client()
    list(root.kill_selected(role="physics"))  # what other tests left must not hold the room

    def end(name: str, exit_code: int, after: int) -> None:
        client = live.client()
        for event in client.events(after):
            runs = event["kind"] == "task.running" and event["task"] in live.backend.running()
            if runs and client.job(str(event["job"]))["name"] == name:
                live.backend.finish(str(event["task"]), exit_code)
                return

    for name, exit_code, status in (("well", 0, 0), ("badly", 1, 8)):
        ender = threading.Thread(target=end, args=(name, exit_code, root.last_event()))
        ender.start()
        result = run("submit", "--role", "physics", "--name", name, "--wait", "--json", "--", "true")
        ender.join()
        assert result.exit_code == status, result.output
        assert json.loads(result.stdout)["state"] == "ended"


def test_numbers_and_bytes_that_no_json_library_takes_are_bad_input(run: Run) -> None:
    huge = str(10**20)
    for command in (
        ("scale", "physics/devel/many", huge),
        ("submit", "--role", "physics", "--name", "huge", "-n", huge, "--", "true"),
    ):
        result = run(*command)
        assert result.exit_code == 2 and "instances: " in result.stderr and "at most" in result.stderr, result.stderr
    for command in (
        ("kill", "physics/devel/\udcff"),
        ("kill", "physics/devel/many", "--why", "\udcff"),
        ("list", "--name", "\udcff"),
    ):
        result = run(*command)
        assert result.exit_code == 2 and "must be text in UTF-8" in result.stderr, result.stderr


def test_kill_restart_scale(run: Run) -> None:
    run("submit", "--role", "physics", "--name", "many", "--cpus", "999", "-n", "4", "--", "true")
    assert good(run("job", "scale", "physics/devel/many", "6", "--json"))[0]["active"] == 6
    assert good(run("kill", "physics/devel/many", "-i", "0,2-3", "--json"))[0]["active"] == 3
    assert run("job", "restart", "physics/devel/many").exit_code == 0
    assert good(run("scale", "physics/devel/many", "7", "--json"))[0]["pending"] == 4
    assert "begins anew" in run("restart", "physics/devel/many", "-i", "1").stdout
    assert "has ended" in run("kill", "physics/devel/many", "--why", "done").stdout


def test_what_is_not_granted_is_said_in_the_users_words(run: Run) -> None:
    for command in ("kill", "status", "explain"):
        result = run(command, "chem/prod/run", user="ada")
        assert (result.exit_code, result.stderr) == (
            3, "priority: there is no job chem/prod/run, or you have no grant for it\n",
        )  # fmt: skip


def test_an_unknown_setting_is_said_with_the_closest(tmp_path: Path) -> None:
    file = tmp_path / "priority.yaml"
    file.write_text("agent: 3\nport: 1\n5: 1\n")
    done = process("config", PRIORITY_CONFIG=str(file), PRIORITY_PROT="1", PRIORITY_JOB="a/b/c", PRIORITY_TEST_X="1")
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "priority: PRIORITY_PROT is not a setting; did you mean PRIORITY_PORT?",
        f"priority: {file}: agent is not a setting; did you mean agents?",
        f"priority: {file}: 5 is not a setting (`priority config` lists them all)",
    ]


def test_all_that_fit_are_killed_after_asking(run: Run) -> None:
    for number in range(22):
        run("submit", "--role", "physics", "--name", f"fit{number}", "--cpus", "999", "--", "true")
    fit = ("kill", "--role", "physics", "--name", "fit*")
    result = run(*fit)
    assert result.exit_code == 2
    assert "--yes: say it to kill 22 active jobs that fit, or --dry-run to see which" in result.stderr
    dry = run(*fit, "--dry-run").stdout.splitlines()
    assert dry[0] == "physics/devel/fit21 would be killed" and dry[20] == "... and 2 more"
    assert "physics/devel/fit1 begins anew" in run("restart", "--name", "fit?", "--yes").stdout
    assert len(good(run(*fit, "--yes", "--json"))) == 22
    assert run(*fit).stdout == "no active job fits\n"
    for args, says in (
        ((), "JOB: name the jobs to kill, or select them by --role, --tier, --name, --user, --label"),
        (("a/b/c", "--tier", "devel"), "JOB: name jobs, or select them by --tier, not both"),
        (("--tier", "devel", "-i", "0"), "--instances: goes with jobs that are named"),
        (("--name", "a b"), "name: must be a name, in which * stands for any letters and ? for one"),
        (("--label", "x"), "label: must be such as run=4711"),
    ):
        result = run("kill", *args)
        assert result.exit_code == 2 and says in result.stderr, result.output


def test_no_active_jobs_is_not_no_jobs(run: Run) -> None:
    run("submit", "--role", "physics", "--name", "over", "--cpus", "999", "--", "true")
    run("kill", "physics/devel/over")
    said = run("list", "--name", "over").stdout
    assert said.strip() == "no active jobs; --ended shows those that have ended, --all both"
    assert "physics/devel/over" in run("list", "--name", "over", "--ended").stdout
    assert run("list", "--name", "never", "--all").stdout.strip() == "no jobs"


def test_only_words_have_a_plural(run: Run) -> None:
    assert run("roles", "--help").exit_code == 0
    result = run("mesoss", "--help")
    assert result.exit_code == 2 and "mesoss" in result.stderr


def test_of_several_instances_logs_say_which(run: Run) -> None:
    never = ("--cpus", "500")  # so it has no output, now and later
    good(run("submit", "--json", "--role", "physics", "--name", "three", "-n", "3", *never, "--", "true"))
    asked = ("logs", "physics/devel/three")
    said = "priority: this is instance 0 of 3 of physics/devel/three; -i chooses another"
    assert said in run(*asked).stderr.splitlines()
    for chosen in ([*asked, "-i", "0"], [*asked, "--json", "-i", "1"], ["logs", "physics/devel/three[2]"]):
        done = run(*chosen)
        assert done.exit_code == 0 and "this is instance" not in done.stderr
    assert "there is no instance 7" in run("logs", "physics/devel/three[7]").stderr
    run("kill", "physics/devel/three")


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        (["status", "physics/devel/x[3]"], 2, "physics/devel/x[3]: physics/devel/x is the job, -i 3 its instance"),
        (["logs", "physics/devel/x[3]", "-i", "2"], 2, "physics/devel/x is the job, -i 3 its instance"),
        (["status", "mc"], 3, "there is no job mc, or you have no grant for it; a job's whole name is role/tier/name"),
        (["status", "physics/production/x"], 3, "; production is not a tier: there are prod, devel, opportunistic"),
        (["status", "physics/prod/nothing"], 3, "there is no job physics/prod/nothing, or you have no grant for it\n"),
        (
            ["status", "1k0z5ftwjyrtzcd6j1swp"],
            3,
            "there is no job 1k0z5ftwjyrtzcd6j1swp, or you have no grant for it\n",
        ),
        (["squeue"], 2, "No such command 'squeue'; here it is `priority list`"),
        (["sbatch", "x.sh"], 2, "No such command 'sbatch'; here it is `priority submit`"),
        (["frobnicate"], 2, "No such command 'frobnicate'; see `priority --help`"),
    ],
)
def test_what_others_call_it(run: Run, args: list[str], status: int, says: str) -> None:
    done = run(*args, user="ada")
    assert done.exit_code == status and says in done.stderr and len(done.stderr.splitlines()) == 1


def test_what_we_call_it_is_there(run: Run) -> None:
    for theirs, ours in shell.ELSEWHERE.items():
        assert theirs not in TREE.commands
        for one in ours.split("` or `priority "):
            assert run(*one.split()[:1], "--help").exit_code == 0, ours


def test_which_instances_are_killed_is_said(run: Run) -> None:
    good(run("submit", "--json", "--role", "physics", "--name", "some", "-n", "5", "--cpus", "500", "--", "true"))
    assert run("kill", "physics/devel/some", "-i", "1,3-4").stdout == "physics/devel/some[1,3-4] is being killed\n"
    lines = run("status", "physics/devel/some").stdout.splitlines()
    rows = [line.split()[:3] for line in lines if line.split()[1:2] == ["1"]]
    assert rows == [["0,2", "1", "pending"], ["1,3-4", "1", "killed"]], "what is alike shares a line"
    lines = run("status", "--all", "physics/devel/some").stdout.splitlines()
    assert [line.split()[0] for line in lines if line.split()[1:2] == ["1"]] == ["0", "1", "2", "3", "4"]
    run("kill", "physics/devel/some")


def test_one_name_that_is_not_there_and_nothing_is_killed(run: Run) -> None:
    for name in ("k1", "k2"):
        run("submit", "--role", "physics", "--name", name, "--cpus", "999", "--", "true")
    result = run("kill", "physics/devel/k1", "physics/devel/nothing", "physics/devel/k2")
    assert result.exit_code == 3 and "physics/devel/nothing" in result.stderr
    assert good(run("status", "physics/devel/k1", "--json"))["state"] == "active"
    assert run("kill", "physics/devel/k1", "physics/devel/k2").exit_code == 0


def test_a_token_that_is_over_is_expired(run: Run, eventually: Eventually) -> None:
    run("token", "create", "--label", "short", "--expires", "0.1s")
    eventually(lambda: any("short" in line and "expired" in line for line in run("token", "list").stdout.splitlines()))


def test_what_the_system_refuses_is_one_plain_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for command in (["up"], ["api", "--port", "0"], ["db", "upgrade"]):
        done = process(*command, PRIORITY_STATE=str(file), PRIORITY_CONFIG=os.devnull)
        assert (done.returncode, done.stderr) == (1, f"priority: cannot use {file}: File exists\n"), command
    missing = tmp_path / "missing"
    done = process("scheduler", PRIORITY_STATE=str(missing), PRIORITY_CONFIG=os.devnull)
    assert done.returncode == 7 and f"the database {missing}/priority.db cannot be opened: No such file" in done.stderr
    assert "`priority db upgrade` makes it" in done.stderr and len(done.stderr.splitlines()) == 1
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "priority", "job", "schema"], stdout=full, stderr=subprocess.PIPE,
            text=True, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "priority: cannot use standard output: No space left on device\n")


def test_roles_three_ways_that_agree(run: Run) -> None:
    fresh = {"roles": {"new": {"quota": {"devel": {"cpus": 3}}, "users": {"nora": {}, "nils": {"grants": []}}}}}
    text = yaml.safe_dump(fresh)
    diff = good(run("roles", "diff", "-", "--json", stdin=text))
    assert not diff["applied"] and diff["changes"]
    assert run("role", "show", "new").exit_code == 3
    *lines, count = run("roles", "apply", "-", stdin=text).stdout.splitlines()
    assert lines and count == f"{len(lines)} changes made"  # each change has its line
    assert good(run("roles", "diff", "-", "--json", stdin=text))["changes"] == []
    change = good(run("quota", "set", "new", "devel", "cpus=5", "mem=2GiB", "--json"))["changes"]
    assert change == [{"path": "new/quota/devel", "before": {"cpus": 3}, "after": {"cpus": 5, "mem": 2048}}]
    assert yaml.safe_load(run("role", "show", "new").stdout)["roles"]["new"]["quota"]["devel"]["cpus"] == 5
    assert good(run("quota", "show", "new", "--json"))["items"][0]["quota"] == {"cpus": 5, "mem": 2048}
    assert good(run("quota", "set", "new", "devel", "cpus=1", "--user", "nora", "--json"))["applied"]
    assert good(run("quota", "set", "new", "devel", "--remove", "--json"))["changes"][0]["after"] is None
    assert "new" in run("role", "list").stdout and "new" in run("quota", "show").stdout
    assert any(row["subject"] == "role:new" for row in good(run("audit", "list", "--json")))
    assert "role:new" in run("audit", "list").stdout


def test_a_quota_that_loses_a_limit_is_said_and_asked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    both = {"roles": {"both": {"quota": {"devel": {"cpus": 3, "mem": "2GiB"}}, "users": {"nora": {}}}}}
    assert run("roles", "apply", "-", stdin=yaml.safe_dump(both)).exit_code == 0
    said = "priority: warning: mem will not be limited any more (mem 2GiB until now)"
    monkeypatch.setattr("priority.face.cli_role._asks", lambda: True)
    no = run("quota", "set", "both", "devel", "cpus=5", stdin="n\n")
    assert no.exit_code == 130 and no.stderr.startswith(said)
    assert good(run("quota", "show", "both", "--json"))["items"][0]["quota"] == {"cpus": 3, "mem": 2048}
    for args in (["cpus=5", "mem=2GiB"], ["cpus=5", "mem=1GiB", "--yes"], ["cpus=1", "--user", "nora"]):
        assert "not be limited" not in run("quota", "set", "both", "devel", *args).stderr
    monkeypatch.setattr("priority.face.cli_role._asks", lambda: False)
    assert "warning: mem will not be limited" in run("quota", "set", "both", "devel", "cpus=5").stderr
    assert good(run("quota", "show", "both", "--json"))["items"][0]["quota"] == {"cpus": 5}


def test_roles_that_a_file_does_not_name_are_said(run: Run) -> None:
    for name in ("here", "gone"):
        assert run("roles", "apply", "-", stdin=yaml.safe_dump({"roles": {name: {}}})).exit_code == 0
    every = yaml.safe_load(run("role", "show").stdout)
    for verb in ("diff", "apply"):
        assert "does not name" not in run("roles", verb, "-", stdin=yaml.safe_dump(every)).stderr
    del every["roles"]["gone"]
    done = run("roles", "apply", "-", stdin=yaml.safe_dump(every))
    assert "priority: - does not name gone: unchanged (--delete deletes such roles)" in done.stderr.splitlines()
    assert "does not name" not in run("roles", "diff", "-", "--delete", stdin=yaml.safe_dump(every)).stderr
    assert run("role", "show", "gone").exit_code == 0


def test_a_role_is_shown_with_every_grant(run: Run) -> None:
    plain = {"roles": {"grants": {"users": {"nora": {}, "ned": {"quota": {"devel": {"cpus": 1}}}}}}}
    assert run("roles", "apply", "-", stdin=yaml.safe_dump(plain)).exit_code == 0
    users = yaml.safe_load(run("role", "show", "grants").stdout)["roles"]["grants"]["users"]
    assert users == {"nora": {"grants": ["submit"]}, "ned": {"grants": ["submit"], "quota": {"devel": {"cpus": 1}}}}
    assert run("roles", "diff", "-", stdin=run("role", "show").stdout).stdout.startswith("nothing to change")


def test_every_fault_of_a_file_is_told_a_line_each(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text("role: physics\ntier: devel\nnmae: x\ncomand: y\nresources: {cpus: -1}\ninstances: 0\n")
    said = run("submit", str(file))
    assert said.exit_code == 2
    assert sorted(said.stderr.splitlines()) == [
        f"priority: {file}: comand: is not known; did you mean command? See `priority job schema`",
        f"priority: {file}: instances: must be at least 1, not 0",
        f"priority: {file}: nmae: is not known; did you mean name? See `priority job schema`",
        f"priority: {file}: resources.cpus: must not be negative, but is -1",
    ]
    file.write_text("---\n".join("role: physics\nname: n\ncommand: 5\n" for _ in range(20)))
    lines = run("submit", str(file)).stderr.splitlines()
    assert len(lines) == 10, lines
    assert lines[2] == f"priority: {file}: jobs[1].tier: is missing: say prod, devel or opportunistic"
    roles = {"roles": {"a": {"wieght": 3}, "b": {"weight": "much"}}}
    lines = run("roles", "diff", "-", stdin=yaml.safe_dump(roles)).stderr.splitlines()
    assert [line.split(": ")[2] for line in lines] == ["roles.a.wieght", "roles.b.weight"]


def test_a_diff_says_beforehand_what_would_be_promised_in_vain(run: Run) -> None:
    vast = yaml.safe_dump({"roles": {"vast": {"quota": {"prod": {"cpus": 100_000}}}}})
    for args in (("diff", "-"), ("apply", "-", "--dry-run"), ("apply", "-")):
        said = run("roles", *args, stdin=vast)
        assert said.exit_code == 0 and " cpus, but the cluster has " in said.stderr, said.stderr
        assert "priority: warning: the prod quotas add up to 100" in said.stderr
    assert len(json.loads(run("quota", "set", "vast", "prod", "cpus=200000", "--json").stdout)["warnings"]) == 1
    small = run("quota", "set", "vast", "prod", "cpus=0")
    assert small.exit_code == 0 and "add up to 200" not in small.stderr


def test_a_diff_says_that_apply_would_refuse_and_why(run: Run) -> None:
    tight: dict[str, Any] = {"roles": {"tight": {"quota": {"prod": {"cpus": 4, "mem": "8GiB"}, "devel": {"cpus": 4}}}}}
    assert run("roles", "apply", "-", stdin=yaml.safe_dump(tight)).exit_code == 0
    run("submit", "--role", "tight", "--tier", "prod", "--name", "a", "--cpus", "3", "--", "true")
    tight["roles"]["tight"]["quota"]["prod"]["cpus"] = 2
    lower = yaml.safe_dump(tight)
    for args in (("diff", "-"), ("apply", "-", "--dry-run")):
        said = run("roles", *args, stdin=lower)
        assert said.exit_code == 5
        assert "~ tight/quota/prod: cpus 4, mem 8GiB -> cpus 2, mem 8GiB" in said.stdout
        assert "would be refused: the new quota of role tight, tier prod is below its use by cpus 1" in said.stderr
    document = run("roles", "diff", "-", "--json", stdin=lower)
    assert document.exit_code == 5 and len(json.loads(document.stdout)["refused"]) == 1
    assert run("roles", "apply", "-", stdin=lower).exit_code == 5
    assert run("roles", "diff", "-", "--force", stdin=lower).exit_code == 0
    gone = run("roles", "diff", "-", "--delete", stdin=yaml.safe_dump({"roles": {}}))
    assert gone.exit_code == 5 and "role tight has active jobs, such as tight/prod/a" in gone.stderr
    assert run("roles", "diff", "-", stdin=yaml.safe_dump({"roles": {}})).exit_code == 0
    run("kill", "tight/prod/a")


def test_an_amount_has_its_unit(run: Run) -> None:
    assert run("quota", "set", "chem", "prod", "cpus=8", "mem=8GiB").exit_code == 0
    assert "mem: 8GiB" in run("roles", "show", "chem").stdout
    assert run("quota", "set", "chem", "prod", "cpus=8").exit_code == 0
    assert "cpus 9, mem 16GiB" in run("quota", "set", "chem", "devel", "cpus=9", "mem=16GiB").stdout
    assert "- chem/quota/devel: cpus 9, mem 16GiB" in run("quota", "set", "chem", "devel", "--remove").stdout


def test_the_demos_roles_can_be_read(run: Run) -> None:
    result = run("roles", "diff", str(ROLES_FILE), "--json")
    assert good(result)["changes"]


def test_users_tokens_nodes(run: Run) -> None:
    assert good(run("user", "create", "zoe", "--json"))["name"] == "zoe"
    assert "zoe" in run("user", "list").stdout
    made = run("token", "create", "--user", "zoe", "--expires", "30d", "--label", "laptop")
    assert made.stdout.startswith("pri_") and "PRIORITY_TOKEN" in made.stderr
    token = next(one for one in good(run("token", "list", "--user", "zoe", "--json")) if one["label"] == "laptop")
    assert "revoked" in run("token", "revoke", token["id"]).stdout
    assert good(run("user", "me", "--json", user="ada"))["grants"] == {"physics": ["submit"]}
    assert [one["name"] for one in good(run("node", "list", "--json"))] == ["n1", "n2"]
    assert good(run("node", "drain", "n2", "--json"))["drained"]
    assert "takes tasks again" in run("node", "undrain", "n2").stdout
    assert "/4 " in run("node", "list").stdout  # what others hold, of 4 cpus
    assert run("node", "forget", "n2").exit_code == 5
    refused = run("node", "drain", "n1", user="ada")
    assert refused.exit_code == 3 and "there is no node n1 that you may change (a cluster admin may)" in refused.stderr
    for name in ("nora", "zoe"):  # who is there, and who is not
        refused = run("user", "create", name, user="ada")
        says = f"there is no user {name} that you may make or change (a cluster admin may)\n"
        assert refused.exit_code == 3 and refused.stderr == f"priority: {says}"
    for name, user, says in (
        ("physics", "ada", "there is no role physics that you may change (its admins may)\n"),
        ("physics", "ben", "there is no role physics that you may change so (a cluster admin may)\n"),
        ("chem", "ada", "there is no role chem, or you have no grant for it\n"),
        ("nowhere", "ada", "there is no role nowhere, or you have no grant for it\n"),
    ):
        refused = run("quota", "set", name, "devel", "cpus=1", user=user)
        assert refused.exit_code == 3 and refused.stderr.endswith(f"priority: {says}")


def test_health_config_schema_openapi(run: Run) -> None:
    assert good(run("health", "--json"))["parts"]["database"] == "ok"
    settings = {row["variable"]: row for row in good(run("config", "--json"))}
    assert settings["PRIORITY_TOKEN"]["value"] == "(set)"
    assert all(row["description"] for row in settings.values())
    assert "PRIORITY_PORT" in run("config").stdout
    assert good(run("job", "schema", "--json"))["properties"]["command"]
    assert good(run("roles", "schema"))["properties"]["roles"]
    assert good(run("openapi", "--json"))["openapi"].startswith("3.")


PLAIN = {"now": "2026-01-01T00:00:00Z", "nodes": [{"name": "n", "capacity": {"cpus": 4}}], "tasks": []}


def test_plan_one_line_a_file_and_the_others_go_on(run: Run, tmp_path: Path) -> None:
    first, bad = tmp_path / "good.json", tmp_path / "bad.json"
    first.write_text(json.dumps(PLAIN))
    bad.write_text(json.dumps({**PLAIN, "nodes": [{"name": "n", "capacity": {"cpus": -4}}]}))
    result = run("plan", str(first), str(bad), "-", stdin=json.dumps(PLAIN))
    assert result.exit_code == 2
    assert [json.loads(line)["launch"] for line in result.stdout.splitlines()] == [[], []]
    assert result.stderr.startswith(f"{bad}: nodes[0].capacity.cpus: ") and len(result.stderr.splitlines()) == 1


def test_a_plan_to_begin_with(run: Run) -> None:
    example = run("plan", "--example", "--json")
    assert example.exit_code == 0
    assert good(run("plan", "-", stdin=example.stdout))["preempt"]
    assert good(run("plan", "--schema"))["$defs"].keys() == {"Snapshot", "Plan"}


def process(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {name: value for name, value in os.environ.items() if not name.startswith("PRIORITY_")}
    return subprocess.run(
        [sys.executable, "-m", "priority", *args],
        env={**given, **environment}, capture_output=True, text=True, check=False, timeout=120,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_as_a_process_in_a_pipe_and_a_narrow_window(live: Live) -> None:
    service = {"PRIORITY_URL": live.url, "PRIORITY_TOKEN": live.tokens["root"], "COLUMNS": "20"}
    listed = process("node", "list", **service)
    assert listed.returncode == 0 and "\x1b" not in listed.stdout
    assert "ATTRIBUTES" in listed.stdout and "\u2026" not in listed.stdout, "in a pipe nothing is cut"
    bad = process("status", "a/b/c", **service)
    assert (bad.returncode, bad.stdout, len(bad.stderr.splitlines())) == (3, "", 1)


@pytest.mark.parametrize("words", ["list", "config", "plan --help", "list --json"])
def test_who_reads_only_the_first_line_gets_no_traceback(live: Live, words: str) -> None:
    """Tables of our own, of `rich`, `typer`'s help, and JSON: the status is that of a program that SIGPIPE ends."""
    for number in range(3):
        live.client().submit(spec(f"devel/pipe-{words[:1]}{len(words)}-{number}"))
    reading, writing = os.pipe()
    os.close(reading)
    environment = {**os.environ, "PRIORITY_URL": live.url, "PRIORITY_TOKEN": live.tokens["root"]}
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "priority", *words.split()],
            env=environment,
            stdout=closed,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, b"")


def test_light_commands_import_little() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from priority.face.cli import app; "
        "CliRunner().invoke(app, ['plan', '/dev/null']); CliRunner().invoke(app, ['--help']); "
        "heavy = {'fastapi', 'sqlalchemy', 'sqlmodel', 'redis', 'rq', 'uvicorn', 'httpx'} & set(sys.modules); "
        "print(sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_completion_is_offered() -> None:
    shown = process("--show-completion", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert shown.returncode in (0, 1, 2)
    completed = process(_PRIORITY_COMPLETE="complete_bash", COMP_WORDS="priority sub", COMP_CWORD="1")
    assert "submit" in completed.stdout
