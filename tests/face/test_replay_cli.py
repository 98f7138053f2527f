"""`priority replay`: recorded rounds decided again, and side by side with another policy."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from priority.claim import Claim
from priority.face.cli import app
from priority.node import Node
from priority.plan import Plan, Preemption, make_plan
from priority.recording import Watched
from priority.service.record import FOLDER, Recorder, recorded

S = 1_000_000


def run(*words: object, status: int = 0) -> Result:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == status, done.output
    return done


def record(folder: Path, *, wrong: bool = False) -> Path:
    """Three rounds: devel fills the node; prod displaces one of it (another one if `wrong`); the victim is gone."""
    recorder, snapshot = Recorder(folder, 2**20), Watched()
    snapshot.put_node(Node("n1", {"cpus": 2000}))
    for name in "ab":
        snapshot.put_task(Claim(name, "j", "r", "u", "devel", 0, {"cpus": 1000}))
    recorder.take(snapshot, make_plan(snapshot))
    snapshot.now_us = 10 * S
    for name in "ab":
        snapshot.move_task(name, state="running", node="n1", since_us=0)
    snapshot.put_task(Claim("p", "k", "r", "u", "prod", 0, {"cpus": 1000}, since_us=9 * S))
    plan = make_plan(snapshot)
    if wrong:
        taken = (Preemption("b", "n1", "p"),)
        plan = Plan(plan.launch, plan.reserve, taken, plan.wait)
    recorder.take(snapshot, plan)
    snapshot.now_us = 12 * S
    snapshot.drop_task("a")
    recorder.take(snapshot, make_plan(snapshot))
    recorder.close()
    (path,) = recorded(folder)
    return path


def test_the_same_again(tmp_path: Path) -> None:
    path = record(tmp_path)
    assert run("replay", path).stdout == "3 rounds decided again: 3 the same, 0 otherwise\n"
    assert json.loads(run("replay", path, path, "--json").stdout) == {"rounds": 6, "same": 6, "differing": []}


def test_a_decision_that_is_not_the_same_is_shown(tmp_path: Path) -> None:
    path = record(tmp_path, wrong=True)
    text = run("replay", path, status=1).stdout
    assert f"{path}: round 2 is decided otherwise:" in text
    assert '-preempt {"for": "p", "node": "n1", "task": "b"}' in text
    assert '+preempt {"for": "p", "node": "n1", "task": "a"}' in text
    assert "3 rounds decided again: 2 the same, 1 otherwise" in text
    found = json.loads(run("replay", path, "--json", status=1).stdout)
    assert found["differing"] == [{"file": str(path), "round": 2}]


def test_another_policy(tmp_path: Path) -> None:
    path, policy = record(tmp_path), tmp_path / "new.yaml"
    policy.write_text("tiers: {devel: {rank: 1, preemptible: false}}\nroles: {r: {weight: 2}}\n")
    found = json.loads(run("replay", path, "--policy", policy, "--json").stdout)
    assert (found["rounds"], found["decided_otherwise"]) == (3, 1)
    same, on = found["same_rounds"], found["from_there_on"]
    assert (same["recorded"]["victims"], same["recorded"]["lost_cpu_s"]) == (1, 10.0)
    assert (same["policy"]["victims"], same["policy"]["lost_cpu_s"]) == (0, 0.0)
    assert on["tasks"] == 3 and on["recorded"]["waits"]["prod"]["tasks"] == on["policy"]["waits"]["prod"]["tasks"] == 1
    text = run("replay", path, "--policy", policy).stdout
    assert "3 rounds, 1 decided otherwise by new.yaml" in text
    assert re.search(r"IN THE SAME ROUNDS +RECORDED +new.yaml\n", text) and re.search(r"victims of devel +1 +0\n", text)
    assert re.search(r"SIMULATED FROM THERE ON +RECORDED RULES +new.yaml\n", text) and "prod: longest wait" in text


def test_a_torn_end_is_skipped_with_a_note(tmp_path: Path) -> None:
    path = record(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[:-5])
    done = run("replay", path)
    left = int(re.findall(r"the last (\d+) bytes are torn or damaged, and are skipped\n$", done.stderr)[0])
    assert 0 < left < len(data) and re.fullmatch(
        r"[12] rounds decided again: [12] the same, 0 otherwise\n", done.stdout
    )
    path.write_bytes(b"no recording at all")
    done = run("replay", path)
    assert "the last 19 bytes" in done.stderr and done.stdout.startswith("0 rounds")


def test_the_recordings_of_the_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIORITY_STATE", str(tmp_path))
    assert run("replay", status=2).stderr.startswith(f"priority: FILE: nothing is recorded in {tmp_path / FOLDER}")
    record(tmp_path / FOLDER)
    assert run("replay").stdout.startswith("3 rounds decided again: 3 the same")


def test_what_cannot_be_replayed_is_named(tmp_path: Path) -> None:
    assert "no.gz: cannot be read" in run("replay", tmp_path / "no.gz", status=2).stderr
    import gzip

    path = tmp_path / "other.jsonl.gz"
    for text, problem in (
        ("3\n", "line 1: line: must be an object"),
        ('{"changes": {}, "plan": {}}\n', "line 1: snapshot: is missing"),
        ('{"snapshot": {"now": 1}, "plan": {}}\n', "line 1: "),
    ):
        path.write_bytes(gzip.compress(text.encode()))
        assert run("replay", path, status=2).stderr.startswith(f"priority: {path}: {problem}")
