"""What if, the ledger of preemptions, and who is at risk: over HTTP and on the command line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from priority.errors import Invalid, NotFound, TooLarge
from priority.face.cli import app

from .live import Live, parts_in, serving, spec

Run = Callable[..., Result]
Eventually = Callable[..., Any]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Two nodes of 4 cpus. A devel task of ada's has given way to a prod task of cleo's; one of hers runs still."""
    with serving(parts_in(tmp_path_factory.mktemp("plan"))) as found:
        yield found


@pytest.fixture(scope="module")
def story(live: Live) -> dict[str, Any]:
    ada, cleo = live.client("ada"), live.client("cleo")
    devel = ada.submit(spec("devel/sim", cpus=4, instances=2))
    after = ada.last_event()
    running = {task["id"] for task in ada.tasks(devel["uid"])["items"] if task["state"] == "running"}
    for event in ada.events(0, job=devel["uid"], wait_s=20):
        if event["kind"] == "task.running":
            running.add(str(event["task"]))
        if len(running) == 2:
            break
    prod = cleo.submit(spec("prod/reco", role="chem", cpus=3))
    for event in cleo.events(after, job=prod["uid"], wait_s=20):
        if event["kind"] == "task.running":
            break
    return {"devel": devel, "prod": prod}


@pytest.fixture
def run(live: Live, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    def invoke(*args: str, user: str = "root", stdin: str | None = None) -> Result:
        monkeypatch.setenv("PRIORITY_URL", live.url)
        monkeypatch.setenv("PRIORITY_TOKEN", live.tokens[user])
        monkeypatch.setenv("PRIORITY_STATE", str(tmp_path))
        monkeypatch.setenv("PRIORITY_CONFIG", os.devnull)
        return CliRunner().invoke(app, list(args), input=stdin)

    return invoke


def good(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


# --- what if


def test_where_it_would_run_and_whom_it_would_displace(live: Live, story: dict[str, Any]) -> None:
    cleo = live.client("cleo")
    before = cleo.last_event()
    found = cleo.plan(spec("prod/more", role="chem", cpus=2, instances=2))
    assert (found["verdict"], found["refusal"], found["jobs"]) == ("starts-later", None, ["chem/prod/more"])
    assert [(one["instances"], one["count"], one["verdict"]) for one in found["places"]] == [("0-1", 2, "starts-later")]
    (victim,) = found["displaced"]
    assert (victim["job"], victim["taker"], victim["rule"], victim["comes_back"]) == (
        *("physics/devel/sim", "chem/prod/more"),
        *("tier", True),
    )
    assert victim["user"] is None and victim["cpu_s_lost"] == found["cpu_s_lost"] > 0
    assert found["quota"] == [
        {
            "role": "chem", "tier": "prod", "user": None, "quota": {"cpus": 8},
            "use": {"cpus": 3, "mem": 384}, "use_after": {"cpus": 7, "mem": 896},
            "holding": {"cpus": 3, "mem": 384}, "holding_after": {"cpus": 7, "mem": 896},
        }
    ]  # fmt: skip
    assert "1 task of physics/devel/sim would be displaced" in found["summary"]
    assert cleo.last_event() == before
    with pytest.raises(NotFound):
        cleo.job("chem/prod/more")


def test_over_quota_is_an_answer_with_the_numbers(live: Live, story: dict[str, Any]) -> None:
    found = live.client("cleo").plan(spec("prod/large", role="chem", cpus=8))
    assert found["verdict"] == "refused" and found["places"] == []
    assert found["refusal"] is not None
    assert (found["refusal"]["status"], found["refusal"]["code"]) == (403, "quota-exceeded")
    assert (found["refusal"]["use"], found["refusal"]["short"]) == ({"cpus": 3, "mem": 384}, {"cpus": 3})


def test_several_jobs_and_why_some_would_wait(live: Live, story: dict[str, Any]) -> None:
    found = live.client("ada").plan(spec("devel/one", cpus=0.5), spec("devel/two", cpus=99))
    assert found["verdict"] == "waits"
    assert [(one["job"], one["verdict"]) for one in found["places"]] == [
        ("physics/devel/one", "starts"),
        ("physics/devel/two", "waits"),
    ]
    reason = found["places"][1]["reason"]
    assert reason is not None and reason["code"] == "no-node"
    assert found["places"][1]["until"] is None


def test_what_is_no_question(live: Live) -> None:
    ada = live.client("ada")
    for role in ("chem", "norole"):
        with pytest.raises(NotFound, match=f"there is no role {role}, or you have no grant for it"):
            ada.plan(spec("devel/x", role=role))
    with pytest.raises(Invalid, match="jobs"):
        ada.plan()
    with pytest.raises(Invalid, match=r"jobs\[1\]\.cpu|jobs\[1\]\.resources"):
        ada.plan(spec("devel/x"), {**spec("devel/y"), "resources": {"cpu": 1}})
    with pytest.raises(Invalid, match="instances"):
        ada.plan(spec("devel/x", instances=10**9))
    with pytest.raises(TooLarge, match="instances together"):
        ada.plan(spec("devel/x", instances=90_000), spec("devel/y", instances=90_000))


def test_the_command_line_asks_too(run: Run, story: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(json.dumps(spec("prod/more", role="chem", cpus=2, instances=2)), encoding="utf-8")
    found = good(run("explain", "--submit", str(file), "--json", user="cleo"))
    assert found["verdict"] == "starts-later"
    shown = run("explain", "--submit", str(file), user="cleo")
    assert shown.exit_code == 0
    for word in ("chem/prod/more: 2 instances start later", "physics/devel/sim[", "3 -> 7", "AT THE LATEST"):
        assert word in shown.stdout, shown.stdout
    file.write_text(json.dumps(spec("prod/large", role="chem", cpus=8)), encoding="utf-8")
    shown = run("explain", "--submit", str(file), user="cleo")
    assert shown.exit_code == 0 and "would be refused: the quota of role chem, tier prod" in shown.stdout
    for wrong in (["explain"], ["explain", "chem/prod/reco", "--submit", str(file)]):
        result = run(*wrong)
        assert result.exit_code == 2 and "--submit FILE" in result.stderr
    assert run("explain", "--submit", str(tmp_path / "none.yaml")).exit_code == 2


# --- the ledger


def test_who_gave_way_to_whom(live: Live, story: dict[str, Any]) -> None:
    for user, victims, state in (("root", "ada", "running"), ("cleo", None, "running"), ("ada", "ada", None)):
        (one,) = live.client(user).preemptions()["items"]
        assert (one["victim"]["job"], one["victim"]["user"]) == ("physics/devel/sim", victims)
        assert (one["preemptor"]["job"], one["preemptor"]["user"]) == ("chem/prod/reco", "cleo")
        assert (one["preemptor"]["state"], one["rule"], one["outcome"]) == (state, "tier", "started")
        assert one["outcome_at"] is not None and one["outcome_node"] == one["node"] and one["cpu_s_lost"] > 0
    assert live.client("nil").preemptions()["items"] == []
    root = live.client()
    assert len(root.preemptions(role="chem", job="physics/devel/sim", since="1h")["items"]) == 1
    assert root.preemptions(since="2099-01-01T00:00:00Z")["items"] == root.preemptions(role="none")["items"] == []
    assert len(list(root.all_preemptions(limit=1))) == 1
    assert (len(root.preemptions(started=True)["items"]), root.preemptions(started=False)["items"]) == (1, [])
    with pytest.raises(Invalid, match="since"):
        root.preemptions(since="yesterday")
    for user, job in (("root", "chem/prod/none"), ("ada", story["prod"]["uid"])):
        with pytest.raises(NotFound, match="or you have no grant for it"):
            live.client(user).preemptions(job=job)


def test_totals(live: Live, run: Run, story: dict[str, Any]) -> None:
    found = live.client().preemption_totals()
    assert [(one["role"], one["took"]["tasks"], one["gave"]["tasks"]) for one in found["items"]] == [
        ("chem", 1, 0),
        ("physics", 0, 1),
    ]
    assert [(one["preemptor"], one["victim"], one["took"]["started"]) for one in found["pairs"]] == [
        ("chem", "physics", 1)
    ]
    assert [one["role"] for one in live.client("ada").preemption_totals(since="1h")["items"]] == ["physics"]
    assert good(run("preemptions", "--totals", "--json")) == found
    shown = run("preemptions", "--totals", "--role", "chem")
    assert "PREEMPTOR" in shown.stdout and "chem" in shown.stdout
    assert run("preemptions", "--totals", "--job", "chem/prod/reco").exit_code == 2


def test_the_command_line_lists_them(run: Run, story: dict[str, Any]) -> None:
    (one,) = good(run("preemptions", "--role", "physics", "--since", "1h", "--json"))
    assert one["outcome"] == "started"
    shown = run("preemptions", "--job", "chem/prod/reco").stdout
    assert "physics/devel/sim[" in shown and "chem/prod/reco[0]" in shown and "started" in shown
    assert run("preemptions", "--unstarted").stdout.strip() == "no preemptions"
    assert run("preemptions", user="nil").stdout.strip() == "no preemptions"


# --- at risk


def test_the_next_victims(live: Live, run: Run, story: dict[str, Any]) -> None:
    found = live.client("ada").risk("physics/devel/sim")
    assert (found["count"], found["waiting"], found["comes_back"], len(found["tasks"])) == (1, 1, True, 1)
    assert found["cpu_s_lost"] == found["tasks"][0]["cpu_s_lost"] > 0 and found["tasks"][0]["cheaper"] == 0
    assert live.client("ada").risk(story["devel"]["uid"], limit=1)["job"] == "physics/devel/sim"
    for ref in ("physics/devel/sim", story["devel"]["uid"]):
        with pytest.raises(NotFound, match="or you have no grant for it"):
            live.client("cleo").risk(ref)
    assert good(run("risk", "physics/devel/sim", "--json"))["uid"] == story["devel"]["uid"]
    shown = run("risk", "physics/devel/sim").stdout
    assert "may be taken by prod of any role or physics/devel with a priority over 0" in shown
    assert "CHEAPER ONES" in shown and "1 more wait" in shown
    assert run("risk", "physics/devel/none").exit_code == 3


# --- a warning of what no node could hold


def test_a_job_that_no_node_could_hold_is_accepted_with_a_warning(live: Live, run: Run) -> None:
    root = live.client()
    made = root.submit(spec("devel/huge", cpus=50), "huge")
    assert len(made["warnings"]) == 1
    assert made["warnings"][0].startswith("no node could ever hold it: it asks for cpus 50, and the most")
    assert root.submit(spec("devel/huge", cpus=50), "huge")["warnings"] == made["warnings"]  # the same, again
    assert root.submit(spec("devel/small", cpus=4))["warnings"] == []
    bulk = root.submit_many([spec(f"devel/b{number}", cpus=[1, 50][number % 2]) for number in range(4)])
    assert len(bulk["jobs"]) == 4
    assert [line.partition(":")[0] for line in bulk["warnings"]] == ["jobs[1] (physics/devel/b1) and 1 more"]
    line = run("submit", "--role", "physics", "--name", "cli-huge", "--cpus", "50", "--", "true")
    assert line.exit_code == 0 and line.stdout.startswith("physics/devel/cli-huge submitted")
    assert line.stderr.startswith("warning: no node could ever hold it: it asks for cpus 50")
    many = json.dumps([spec("devel/c1", cpus=50), spec("devel/c2")])
    line = run("submit", "-", stdin=many)
    assert line.exit_code == 0 and line.stderr.startswith("warning: jobs[0] (physics/devel/c1): no node could ever")
