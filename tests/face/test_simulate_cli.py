"""`priority simulate`: files in, report and picture out, and what it says of a bad line."""

from __future__ import annotations

import gzip
import json
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from priority.face.cli import app
from priority.face.traces import line_of, read_cluster
from priority.trace import Work, parse_line, parse_swf
from priority.workload import workload

CONFIG = Path(__file__).parents[2] / "config"

NODES = "nodes: [{name: n, count: 2, capacity: {cpus: 4, mem: 8GiB}, attributes: {rack: [r1, r2]}}]"
TRACE = [
    {"submit": 0, "runtime": 100, "role": "a", "tier": "devel", "resources": {"cpus": 4}, "instances": 2},
    {"submit": 10, "runtime": "20s", "role": "b", "tier": "prod", "resources": {"cpus": 4}, "id": "p"},
]
SWF = """\
; Version: 2.2
; one job of one processor, one of nine (a gang of three), one that never ran, one of queue 7
1 0 -1 100 1 -1 -1 1 200 -1 1 3 4 1 1 1 -1 -1
2 5 -1 10 9 -1 2048 -1 20 -1 1 3 4 1 1 1 -1 -1

3 6 -1 -1 1 -1 -1 1 20 -1 5 3 4 1 1 1 -1 -1
4 7 -1 10 1 -1 -1 1 20 1024 0 3 -1 1 7 1 -1 -1
"""


def run(*words: object, status: int = 0) -> Result:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == status, done.output
    return done


@pytest.fixture
def nodes(tmp_path: Path) -> Path:
    path = tmp_path / "nodes.yaml"
    path.write_text(NODES)
    return path


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in TRACE) + "\n\n")
    return path


def simulated(*words: object) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(run("simulate", *words, "--json").stdout)
    return report


def test_a_report_of_a_small_trace(trace: Path, nodes: Path) -> None:
    report = simulated(trace, "--nodes", nodes)
    assert report["outcomes"] == {"finished": 3, "failed": 0, "preempted": 0, "refused": 0, "never": 0}
    assert report["waits"]["tiers"]["prod"]["max_s"] == 30, "the victim's notice"
    assert report["preemptions"]["total"] == 1 and report["work"]["lost_cpu_s"] == 40
    assert report["makespan_s"] == 160  # 10 + 30 notice + 20, then the victim's 100 from zero


def test_for_people(trace: Path, nodes: Path) -> None:
    text = run("simulate", trace, "--nodes", nodes).stdout
    assert "2 jobs of 3 tasks on 2 nodes: 3 finished" in text
    for word in ("WAIT OF", "prod/b", "USEFUL", "fairness (Jain)", "makespan", "preemptions 1 (1 devel)"):
        assert word in text


def test_what_is_refused_and_much_memory_for_people(tmp_path: Path) -> None:
    many = tmp_path / "many.yaml"
    many.write_text("- {name: n, count: 3000, capacity: {cpus: 1, mem: 2GiB}}\n")
    policy = tmp_path / "roles.yaml"
    policy.write_text("roles: {a: {quota: {prod: {cpus: 1}}}}\n")
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text('{"submit": 0, "runtime": 1, "role": "a", "tier": "prod", "resources": {"cpus": 2}}\n')
    text = run("simulate", jobs, "--nodes", many, "--policy", policy).stdout
    assert "1 refused\n" in text and "more than the quota of their role" in text
    assert "6000GiB" in text and "e+" not in text


def test_the_same_again(trace: Path, nodes: Path) -> None:
    assert simulated(trace, "--nodes", nodes) == simulated(trace, "--nodes", nodes)


def test_swf(tmp_path: Path, nodes: Path) -> None:
    path = tmp_path / "t.swf.gz"
    path.write_bytes(gzip.compress(SWF.encode()))
    report = simulated(path, "--nodes", nodes, "--queue", "7=opportunistic")
    assert (report["jobs"], report["tasks"], report["left_out"]) == (3, 5, 1)
    # the gang of nine processors is on three nodes' worth of cpus and there are two nodes: it never starts
    assert report["outcomes"] == {"finished": 1, "failed": 1, "preempted": 0, "refused": 0, "never": 3}
    assert set(report["waits"]["tiers"]) == {"devel", "opportunistic"}


def test_swf_fields() -> None:
    lines = SWF.splitlines()
    one = parse_swf(lines[2], {}, "devel", 4)
    assert one == Work("j1", 0, 100_000_000, "g4", "u3", "devel", {"cpus": 1000})
    nine = parse_swf(lines[3], {}, "devel", 4)
    assert nine is not None
    assert (nine.instances, nine.gang, nine.request) == (3, True, {"cpus": 3000, "mem": 6})
    assert parse_swf(lines[5], {}, "devel", 4) is None
    other = parse_swf(lines[6], {7: "prod"}, "devel", 4)
    assert other == Work("j4", 7_000_000, 10_000_000, "g0", "u3", "prod", {"cpus": 1000, "mem": 1}, failures=1)


def test_policy_is_a_roles_file_too(trace: Path, nodes: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("roles: {b: {description: few, quota: {prod: {cpus: 2}}, users: {u: {grants: [submit]}}}}")
    assert simulated(trace, "--nodes", nodes, "--policy", policy)["outcomes"]["refused"] == 1
    cluster = read_cluster(CONFIG / "nodes.yaml", CONFIG / "roles.yaml")
    assert len(cluster.nodes) == 1000 and "reco" in cluster.roles
    assert cluster.nodes[10].name == "n0011" and cluster.nodes[10].attributes == {"rack": "r1"}


def test_other_tiers(trace: Path, nodes: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("tiers: {prod: {rank: 1, preemptible: true}, devel: {rank: 1, preemptible: true}}")
    report = simulated(trace, "--nodes", nodes, "--policy", policy)
    assert report["preemptions"]["total"] == 0 and report["waits"]["tiers"]["prod"]["max_s"] == 90


def test_pictures(trace: Path, nodes: Path, tmp_path: Path) -> None:
    for name in ("out.svg", "out.html"):
        run("simulate", trace, "--nodes", nodes, "--plot", tmp_path / name)
    root = ElementTree.parse(tmp_path / "out.svg").getroot()
    assert root.tag.endswith("svg")
    assert {"cpus in use", "tasks waiting", "preemptions"} <= {element.text for element in root.iter()}
    text = (tmp_path / "out.html").read_text()
    HTMLParser().feed(text)
    assert "trace.jsonl" in text and "http" not in text.replace("http://www.w3.org/2000/svg", ""), "needs nothing else"
    wrong = run("simulate", trace, "--nodes", nodes, "--plot", "x.gif", status=2)
    assert wrong.stderr == "priority: --plot: must end in .html or .svg, not .gif\n"


def test_a_trace_is_made_up_and_read_again(nodes: Path, tmp_path: Path) -> None:
    path = tmp_path / "made.jsonl.gz"
    options = ("--generate", "--jobs", 50, "--days", 1, "--seed", 3, "--load", 0.5)
    run("simulate", path, "--nodes", nodes, *options)
    report = simulated(path, "--nodes", nodes)
    assert report["jobs"] == 50 and report["outcomes"]["never"] == 0


def test_a_line_written_is_the_work_that_was_read() -> None:
    full = {
        "id": "x", "submit": 1.5, "runtime": 2, "role": "r", "tier": "prod", "user": "u", "instances": 3,
        "resources": {"cpus": 0.5, "mem": 3, "gpus": 1}, "priority": 4, "gang": True, "failures": 1, "max_failures": 2,
        "constraints": [{"attribute": "rack", "in": ["r1"]}], "max_runtime": 9, "backoff": {"initial": 2, "limit": 3},
        "preempt": {"notice": 1, "action": "end"},
    }  # fmt: skip
    work = parse_line(full, 1)
    assert parse_line(line_of(work), 1) == work and line_of(work).keys() == full.keys()
    for one in workload(1, jobs=20, days=1, cpus=8, load=1):
        assert parse_line(line_of(one), 1) == one


GOOD = '{"submit": 0, "runtime": 1, "role": "r", "tier": "devel"}'


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "line: is not JSON"),
        ("[]", "line: must be an object"),
        ('{"submit": 0, "role": "r", "tier": "devel"}', "runtime: is missing"),
        (GOOD.replace("0", "-1"), "submit: must not be negative"),
        (GOOD.replace('"r"', '"r s"'), "role: "),
        (GOOD.replace("devel", "gold"), "tier: 'gold' is not a tier; there are prod, devel, opportunistic"),
        (GOOD.replace("}", ', "cpus": 3}'), "cpus: is not known; there are id, submit, runtime"),
        (GOOD.replace("}", ', "resources": {"cpus": "x"}}'), "resources.cpus: must be a number"),
        (GOOD.replace("}", ', "resources": {"memory": 1}}'), "resources.memory: "),
        (GOOD.replace("}", ', "id": "twice"}'), "id: 'twice' is there twice; first on line 1"),
        (GOOD.replace('"submit": 0', '"submit": 0, "submit": 0'), "submit: is there twice"),
        (GOOD.replace("1,", "NaN,"), "runtime: NaN is not a number"),
        (GOOD.replace("}", ', "gang": "x"}'), "gang: "),
    ],
)
def test_a_bad_line_is_named(line: str, problem: str, nodes: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(GOOD.replace("}", ', "id": "twice"}') + "\n\n" + line + "\n")
    done = run("simulate", path, "--nodes", nodes, status=2)
    assert done.stderr.startswith(f"priority: {path}: line 3: {problem}") and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("1 2 3", "line: must have the 18 numbers of an SWF line, not 3"),
        (SWF.splitlines()[2].replace(" 100 ", " fast "), "run time: must be a number, not 'fast'"),
        (SWF.splitlines()[2].replace("1 0 ", "1 -1 "), "submit time: must not be before the trace begins, but is -1"),
        (SWF.splitlines()[2].replace(" 100 ", " nan "), "run time: must be a number from -1 to 1e15, not nan"),
    ],
)
def test_a_bad_swf_line_is_named(line: str, problem: str, nodes: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.swf"
    path.write_text("; head\n" + line + "\n")
    done = run("simulate", path, "--nodes", nodes, status=2)
    assert done.stderr == f"priority: {path}: line 2: {problem}\n"


def test_several_bad_lines_are_told_at_once(nodes: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text("{}\n" * 30)
    assert len(run("simulate", path, "--nodes", nodes, status=2).stderr.splitlines()) == 10


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nodes: 3", "nodes: must be a list of nodes"),
        ("nodes: [{name: n}]", "nodes[0].capacity: is missing"),
        ("nodes: [{name: n, count: 0, capacity: {}}]", "nodes[0].count: must be a whole number from 1"),
        ("nodes: [{count: 2, capacity: {}}]", "nodes[0].name: must be a string"),
        ("nodes: [{name: n, count: 2, capacity: {}, attributes: {rack: []}}]", "nodes[0].attributes.rack: must not be"),
        ("nodes: [", "line 1: not YAML"),
        ("nodes: [{name: a, capacity: {cpus: -1}}]", "nodes[0].capacity.cpus: must not be negative"),
    ],
)
def test_bad_nodes_are_named(text: str, problem: str, trace: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    done = run("simulate", trace, "--nodes", path, status=2)
    assert done.stderr.startswith(f"priority: {path}: {problem}") and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[]", "policy: must be a mapping"),
        ("rolls: {}", "rolls: is not known; there are tiers, roles, policy"),
        ("roles: {a: {weight: 0}}", "roles.a.weight: must be greater than 0"),
        ("roles: {a: {quota: {gold: {}}}}", "roles.a.quota.gold: is not a tier"),
        ("policy: {no-such: 1}", "policy.no-such: is not a setting"),
        ("tiers: {a: 3}", "tiers.a: must be a JSON object"),
    ],
)
def test_a_bad_policy_is_named(text: str, problem: str, trace: Path, nodes: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    done = run("simulate", trace, "--nodes", nodes, "--policy", path, status=2)
    assert done.stderr.startswith(f"priority: {path}: {problem}")


def test_a_damaged_trace_is_named(nodes: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.swf.gz"
    data = gzip.compress(SWF.encode() * 50)
    for bad in (data[:-12], data[:40] + bytes(20) + data[60:], b"no gzip", b""):
        path.write_bytes(bad)
        done = CliRunner().invoke(app, ["simulate", str(path), "--nodes", str(nodes)])
        assert (done.exit_code, len(done.stderr.splitlines())) in ((2, 1), (2, 10), (0, 0)), done.output
        assert done.exit_code == 0 or str(path) in done.stderr
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"\xff\xfe")
    assert run("simulate", path, "--nodes", nodes, status=2).stderr == f"priority: {path}: is not UTF-8 text\n"


def test_files_that_are_not_there(trace: Path, nodes: Path, tmp_path: Path) -> None:
    assert "no.jsonl: cannot be read" in run("simulate", tmp_path / "no.jsonl", "--nodes", nodes, status=2).stderr
    assert "no.yaml: cannot be read" in run("simulate", trace, "--nodes", tmp_path / "no.yaml", status=2).stderr
    assert "--queue: must be QUEUE=TIER" in run("simulate", trace, "--nodes", nodes, "--queue", "x", status=2).stderr
    assert "--tier: 'x' is not a tier" in run("simulate", trace, "--nodes", nodes, "--tier", "x", status=2).stderr
