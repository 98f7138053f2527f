"""Cron jobs through the API and on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from priority.errors import Conflict, Invalid, Malformed, NotFound, QuotaExceeded
from priority.face.cli import app
from priority.face.client import Client

from .live import Live, spec

RARE = "0 0 1 1 *"
"""It does not fire during a test, unless that runs at a new year in UTC; no test would mind."""


def cron(name: str, **fields: Any) -> dict[str, Any]:
    return {"schedule": RARE, **spec(name, **fields)}


def test_submitted_once_or_twice_or_otherwise(root: Client) -> None:
    made = root.submit_cron(cron("once", timezone="Asia/Tokyo", missed="run_latest"))
    assert (made["made"], made["altered"], made["state"], made["last"]) == (True, True, "active", None)
    assert [at[4:] for at in made["coming"]] == ["-12-31T15:00:00Z"] * 5
    assert [at[4:] for at in made["local"]] == ["-01-01 00:00+09:00"] * 5
    assert (made["next"], made["spec"]["missed"]["policy"]) == (made["coming"][0], "run_latest")
    again = root.submit_cron(cron("once", timezone="Asia/Tokyo", missed="run_latest"))
    assert (again["made"], again["altered"], again["uid"]) == (False, False, made["uid"])
    other = root.submit_cron(cron("once", schedule="@yearly", instances=3))
    assert (other["made"], other["altered"], other["uid"], other["instances"]) == (False, True, made["uid"], 3)
    assert root.cron("physics/devel/once")["spec"] == other["spec"]


def test_a_run_is_a_job_like_any_other(root: Client) -> None:
    key = "physics/devel/byhand"
    root.submit_cron(cron("byhand", cpus=1))
    with pytest.raises(NotFound, match="has not run yet"):
        root.job(key)
    started = root.start_cron(key, "to see it")
    uid = started["started"]["job"]
    assert uid is not None and started["started"]["by"] == "root"
    job = root.job(key)
    assert (job["uid"], job["tick"], job["spec"]["env"]["PRIORITY_TICK"]) == (
        uid,
        started["started"]["tick"],
        job["tick"],
    )
    assert "run of the cron job for" in root.explain(key)["summary"]
    root.kill(key)
    root.wait(uid)
    (tick,) = root.cron_history(key)["items"]
    assert (tick["outcome"], tick["job"]) == ("started", uid)
    assert root.cron_history(key, outcome="missed")["items"] == []


def test_suspended_and_resumed_and_deleted(root: Client) -> None:
    key = "physics/devel/turned"
    root.submit_cron(cron("turned"))
    for _ in range(2):
        assert root.suspend_cron(key, "holiday")["coming"] == []
    assert [one["key"] for one in root.all_crons(state="suspended")] == [key]
    for _ in range(2):
        assert len(root.resume_cron(key)["coming"]) == 5
    root.delete_cron(key)
    for call in (root.cron, root.delete_cron, root.suspend_cron, root.start_cron):
        with pytest.raises(NotFound):
            call(key)
    assert root.cron_history(key)["items"] == []
    assert root.submit_cron(cron("turned"))["made"]


def test_a_list_is_paged(live: Live) -> None:
    cleo = live.client("cleo")
    for number in range(3):
        cleo.submit_cron(cron(f"many{number}", role="chem"))
    assert [one["name"] for one in cleo.all_crons(limit=2)] == ["many2", "many1", "many0"]
    assert [one["name"] for one in cleo.crons(limit=2)["items"]] == ["many2", "many1"]
    assert live.client("nil").crons()["items"] == []
    assert cleo.crons(role="physics")["items"] == []


@pytest.mark.parametrize(
    ("fields", "field", "said"),
    [
        ({"schedule": "0 0 31 2 *"}, "schedule", "never fires"),
        ({"schedule": "* * * * * *"}, "schedule", "must have five fields"),
        ({"timezone": "Mars/Olympus"}, "timezone", "must be a time zone"),
        ({"tier": "gold"}, "tier", "is not a tier"),
        ({"missed": {"policy": "run_all", "limits": 3}}, "missed.limits", "is not known"),
        ({"intances": 3}, "intances", "did you mean instances?"),
    ],
)
def test_what_is_refused(root: Client, fields: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(Invalid) as refused:
        root.submit_cron(cron("refused", **fields))
    assert refused.value.field == field
    assert said in refused.value.message


def test_a_schedule_is_refused_where_jobs_are_submitted(root: Client) -> None:
    with pytest.raises(Invalid, match="send it to /v1/cron"):
        root.submit(cron("elsewhere"))
    root.submit_cron(cron("taken"))
    with pytest.raises(Conflict, match="priority cron start"):
        root.submit(spec("taken"))
    with pytest.raises(QuotaExceeded):
        root.submit_cron(cron("prod/large", resources={"cpus": 99}))
    with pytest.raises(Malformed):
        root.cron("physics/devel")


def test_on_the_command_line(live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIORITY_URL", live.url)
    monkeypatch.setenv("PRIORITY_TOKEN", live.tokens["root"])
    monkeypatch.setenv("PRIORITY_STATE", str(tmp_path))

    def run(*args: str, status: int = 0) -> str:
        result = CliRunner().invoke(app, list(args))
        assert result.exit_code == status, result.output
        return result.output

    file = tmp_path / "jobs.yaml"
    file.write_text(
        "- {role: physics, tier: devel, name: plain, command: 'true'}\n"
        f"- {{role: physics, tier: devel, name: lined, command: 'true', schedule: '{RARE}', timezone: Asia/Tokyo}}\n"
    )
    said = run("submit", str(file))
    assert "physics/devel/plain submitted" in said
    assert "physics/devel/lined submitted" in said and said.count("-01-01 00:00+09:00") == 5
    flags = (
        "--role",
        "physics",
        "--name",
        "flags",
        "--schedule",
        "@yearly",
        "--collision",
        "allow",
        "--missed",
        "run_all",
    )
    made = json.loads(run("submit", *flags, "--json", "--", "true"))
    assert (made["spec"]["schedule"], made["collision"]) == ("@yearly", "allow")
    run("submit", *flags, "--wait", "--", "true", status=2)
    assert {"physics/devel/lined", "physics/devel/flags"} <= {
        one["key"] for one in json.loads(run("cron", "list", "--json"))
    }
    listed = run("cron", "list")
    assert "Asia/Tokyo" in listed and "-01-01 00:00+09:00" in listed, "by the clock that the schedule means"
    shown = run("cron", "show", "physics/devel/lined")
    assert shown.count("-01-01 00:00+09:00") == 5 and "no ticks yet" in shown
    assert "started (" in run("cron", "start", "physics/devel/lined", "--why", "now")
    assert "started by root" in run("cron", "history", "physics/devel/lined")
    assert "is suspended" in run("cron", "suspend", "physics/devel/lined")
    assert "its ticks are skipped until" in run("cron", "show", "physics/devel/lined")
    assert "runs next: " in run("cron", "resume", "physics/devel/lined")
    assert "run of the cron job for" in run("status", "physics/devel/lined")
    assert "is deleted" in run("cron", "delete", "physics/devel/lined")
    run("cron", "show", "physics/devel/lined", status=3)
    assert "schedule" in json.loads(run("cron", "schema"))["properties"]
