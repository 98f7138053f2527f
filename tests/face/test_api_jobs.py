"""What clients do with jobs, over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count

import pytest

from priority.errors import Conflict, Invalid, NotFound, PriorityError, QuotaExceeded, TooLarge
from priority.face.client import Client
from priority.task import ACTIVE

from .live import Live, spec

Eventually = Callable[..., object]
_number = count()


def fresh(prefix: str = "job") -> str:
    return f"{prefix}-{next(_number)}"


def finish_all(live: Live, uid: str, exit_code: int = 0) -> None:
    for task in sorted(live.backend.running()):
        if task.startswith(f"{uid}-"):
            live.backend.finish(task, exit_code)


def test_a_submitted_job_is_there_by_uid_and_by_name(root: Client) -> None:
    name = fresh()
    job = root.submit(spec(name, instances=2, labels={"run": "1"}))
    assert job["key"] == f"physics/devel/{name}"
    assert root.job(job["uid"])["spec"]["labels"] == {"run": "1"}
    assert root.job(job["key"])["uid"] == job["uid"]
    assert job["resources"] == {"cpus": 1, "mem": 128}
    assert job["user"] == "root"


def test_mem_that_is_not_named_is_shown_and_none_at_all_refused(root: Client) -> None:
    job = root.submit(spec(fresh(), cpus=4))
    assert root.job(job["uid"])["spec"]["resources"] == {"cpus": 4, "mem": 512}
    with pytest.raises(Invalid) as refused:
        root.submit({**spec(fresh()), "resources": {"cpus": 4, "mem": 0}})
    assert refused.value.message == "resources.mem: must be more than 0: name what it needs, or none for 128 MiB a cpu"
    cron = root.submit_cron({**spec(fresh()), "schedule": "@yearly"})
    assert cron["spec"]["resources"] == {"cpus": 1, "mem": 128}


def test_created_is_201_with_a_location_and_replayed_200(root: Client) -> None:
    body = spec(fresh())
    first = root._http.request("POST", "/v1/jobs", body, headers={"Idempotency-Key": f"key-{body['name']}"})
    again = root._http.request("POST", "/v1/jobs", body, headers={"Idempotency-Key": f"key-{body['name']}"})
    assert (first.status, again.status) == (201, 200)
    assert first.json()["uid"] == again.json()["uid"]
    assert root._http.json("GET", first.headers["Location"])["uid"] == first.json()["uid"]


def test_the_same_key_with_another_body_is_a_conflict(root: Client) -> None:
    key = fresh("key")
    root.submit(spec(fresh()), key)
    with pytest.raises(Conflict):
        root.submit(spec(fresh()), key)


def test_a_name_in_use_is_a_conflict_that_says_what_to_do(root: Client) -> None:
    body = spec(fresh(), cpus=1000, tier="opportunistic")
    root.submit(body)
    with pytest.raises(Conflict, match=body["name"]):
        root.submit(body)


def test_over_quota_is_refused_with_the_numbers(root: Client) -> None:
    with pytest.raises(QuotaExceeded) as refused:
        root.submit(spec(f"prod/{fresh()}", cpus=3, instances=10))
    assert refused.value.details["ask"] == {"cpus": 30, "mem": 3840}
    assert refused.value.details["quota"] == {"cpus": 8}
    assert refused.value.details["short"]["cpus"] >= 22


def test_bulk_is_all_or_nothing(root: Client) -> None:
    names = [fresh("bulk") for _ in range(5)]
    with pytest.raises(QuotaExceeded):
        root.submit_many([spec(name) for name in names] + [spec(f"prod/{fresh()}", cpus=1000)])
    for name in names:
        with pytest.raises(NotFound):
            root.job(f"physics/devel/{name}")
    done = root.submit_many([spec(name, tier="opportunistic") for name in names], "bulk-key")
    assert [job["name"] for job in done["jobs"]] == names
    assert not done["replayed"]
    again = root.submit_many([spec(name, tier="opportunistic") for name in names], "bulk-key")
    assert again["replayed"] and again["jobs"][0]["uid"] == done["jobs"][0]["uid"]


def test_many_are_killed_by_one_request(root: Client) -> None:
    names = [f"one-request-{number}" for number in range(30)]
    uids = [job["uid"] for job in root.submit_many([spec(f"devel/{name}", cpus=999) for name in names])["jobs"]]
    with pytest.raises(NotFound):
        root.kill_many([*uids, "physics/devel/never"])
    assert {job["state"] for job in root.kill_many(uids, dry_run=True)} == {"active"}
    assert len(root.restart_many(uids[:2], [0])) == 2
    killed = root.kill_many([f"physics/devel/{name}" for name in names], why="enough")
    assert [job["uid"] for job in killed] == uids and {job["killed"] for job in killed} == {1}
    assert list(root.kill_selected(role="physics", name="one-request-*")) == []


def test_what_a_choice_of_jobs_may_not_say(root: Client) -> None:
    for body, says in (
        ({}, "jobs: name the jobs, or say which"),
        ({"jobs": ["x"], "role": "physics"}, "jobs: name the jobs, or say which by .*: not both"),
        ({"jobs": []}, "jobs: must"),
        ({"jobs": ["x"] * 1001}, "at most 1000 go into one request"),
        ({"jobs": ["x"], "after": "3"}, "after: goes with jobs that are selected"),
        ({"role": "physics", "instances": [0]}, "instances: goes with jobs that are named"),
        ({"name": "%"}, "name: must be a name, in which"),
        ({"role": "physics", "colour": "red"}, "colour: is not known"),
    ):
        with pytest.raises(PriorityError, match=says):
            root._http.json("POST", "/v1/jobs/kill", body)


def test_bulk_takes_json_lines(root: Client) -> None:
    import orjson

    body = b"\n".join(orjson.dumps(spec(fresh("line"))) for _ in range(3)) + b"\n"
    headers = {"Content-Type": "application/x-ndjson"}
    answer = root._http.request("POST", "/v1/jobs/bulk", body, headers=headers)
    assert answer.status == 201 and len(answer.json()["jobs"]) == 3
    with pytest.raises(Invalid) as bad:
        root._http.request("POST", "/v1/jobs/bulk", body + b'{"role": "physics"}', headers=headers)
    assert bad.value.field.startswith("jobs[3]")


def test_too_many_in_bulk(root: Client) -> None:
    with pytest.raises(TooLarge):
        root.submit_many([spec(fresh("many")) for _ in range(1001)])


def test_pages(root: Client) -> None:
    name = fresh("page")
    jobs = [root.submit(spec(f"{name}-{number}", labels={"of": name}))["uid"] for number in range(5)]
    first = root.jobs(label=f"of={name}", limit=2)
    assert [job["uid"] for job in first["items"]] == jobs[:2:-1]
    assert [job["uid"] for job in root.all_jobs(label=f"of={name}", limit=2)] == jobs[::-1]


def test_run_and_finish(live: Live, root: Client, eventually: Eventually) -> None:
    job = root.submit(spec(f"prod/{fresh()}", instances=2))
    eventually(lambda: [task["state"] for task in root.all_tasks(job["uid"])] == ["running"] * 2)
    finish_all(live, job["uid"])
    ended = root.wait(job["uid"], timeout_s=60)
    assert (ended[0]["finished"], ended[0]["state"]) == (2, "ended")
    task = next(iter(root.all_tasks(job["uid"])))
    assert root.task(task["id"])["exit_code"] == 0


def test_kill_scale_explain(live: Live, root: Client, eventually: Eventually) -> None:
    job = root.submit(spec(fresh(), cpus=1000, instances=3, tier="opportunistic"))
    found = eventually(lambda: (e := root.explain(job["uid"]))["lines"][0]["details"].get("code") == "no-node" and e)
    assert isinstance(found, dict) and found["summary"]
    assert root.scale(job["uid"], 5)["active"] == 5
    assert root.kill(job["uid"], [4])["active"] == 4
    root.kill(job["uid"], why="enough")
    ended = root.job(job["uid"])
    assert (ended["state"], ended["killed"]) == ("ended", 5)
    assert "enough" in root.explain(job["key"])["summary"] + str(root.explain(job["key"])["lines"])
    with pytest.raises(Conflict):
        root.scale(job["uid"], 6)


def test_restart_is_another_attempt(live: Live, root: Client, eventually: Eventually) -> None:
    job = root.submit(spec(f"prod/{fresh()}"))
    eventually(lambda: [task["state"] for task in root.all_tasks(job["uid"])] == ["running"])
    root.restart(job["uid"])
    eventually(lambda: [t["attempt"] for t in root.all_tasks(job["uid"]) if t["state"] in ACTIVE][-1:] == [2])
    root.kill(job["uid"])


def test_logs_by_offset_and_followed(live: Live, root: Client, eventually: Eventually) -> None:
    job = root.submit(spec(f"prod/{fresh()}"))
    task = f"{job['uid']}-0-1"
    eventually(lambda: task in live.backend.running())
    live.backend.write(task, b"one\ntwo\n")
    live.backend.write(task, b"bad \xff bytes", "stderr")
    assert root.logs(job["uid"]) == (0, b"one\ntwo\n", False)
    assert root.logs(job["key"], instance=0, offset=4)[:2] == (4, b"two\n")
    assert root.logs(task, offset=-4)[:2] == (4, b"two\n")
    assert root.logs(task, stream="stderr")[1] == b"bad \xff bytes"
    live.backend.finish(task)
    root.wait(job["uid"], timeout_s=60)
    assert b"".join(root.follow_logs(job["uid"])) == b"one\ntwo\n"
    with root._http.stream(f"/v1/tasks/{task}/logs", {"follow": "true"}) as response:
        assert response.read() == b"one\ntwo\n"


def test_many_clients_share_the_writer(live: Live) -> None:
    """Each of 8 clients submits by itself, and each job is there."""
    name = fresh("together")
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with Client(live.url, live.tokens["root"]) as client:
                for turn in range(20):
                    client.submit(spec(f"{name}-{number}-{turn}", cpus=0.001, labels={"of": name}))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(list(live.client().all_jobs(label=f"of={name}", limit=100))) == 160


def test_the_last_of_the_quota_goes_to_one_of_many(live: Live) -> None:
    """64 clients at once for 2 cpus of chem's 8, when 6 are taken: one gets them."""
    live.client().submit(spec("prod/base", role="chem", cpus=6))
    outcomes: list[str] = []
    gate = threading.Barrier(64)

    def work(number: int) -> None:
        with Client(live.url, live.tokens["cleo"]) as client:
            gate.wait()
            try:
                client.submit(spec(f"prod/last-{number}", role="chem", cpus=2))
                outcomes.append("in")
            except QuotaExceeded:
                outcomes.append("refused")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["in"] + ["refused"] * 63
