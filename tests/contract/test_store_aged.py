"""What is old is found and forgotten, the same over both databases."""

from __future__ import annotations

from priority.job import Job, JobState, parse_spec
from priority.ports import Store
from priority.records import JobQuery, Page
from priority.task import State, Task, task_id

OLD, NEW = 1_000, 9_000


def add(store: Store, uid: str, *, submitted_us: int = OLD, ended_us: int | None = OLD + 1, tasks: int = 1) -> None:
    """An ended job, or with `ended_us` None an active one; with an answer under the key of its own uid."""
    spec = parse_spec({"role": "r", "tier": "devel", "name": uid, "command": "true", "labels": {"a": "b"}})
    over = ended_us is not None
    state = JobState.ENDED if over else JobState.ACTIVE
    times = {"submitted_us": submitted_us, "ended_us": ended_us}
    job = Job(uid=uid, spec=spec, user="ada", active=0 if over else tasks, state=state, **times)  # type: ignore[arg-type]
    of = State.FINISHED if over else State.PENDING
    several = [
        Task(id=task_id(uid, at, 1), job=uid, instance=at, attempt=1, state=of, since_us=OLD) for at in range(tasks)
    ]
    with store.write() as writer:
        writer.add_jobs([job])
        writer.add_tasks(several)
        writer.remember({("r", uid): ("digest", [uid])})


def names(store: Store, query: JobQuery | None = None) -> list[str]:
    with store.read() as reader:
        return sorted(job.uid for job in reader.jobs(query or JobQuery(), Page(100))[0])


def test_old_jobs_are_found_in_pieces(store: Store) -> None:
    add(store, "a", tasks=3)
    add(store, "b", ended_us=None)
    add(store, "c", ended_us=NEW)
    add(store, "d", tasks=0)
    add(store, "e", submitted_us=NEW, ended_us=NEW)
    with store.read() as reader:
        assert reader.old_jobs(0, NEW, 2) == ([("a", 3)], 2)
        assert reader.old_jobs(2, NEW, 2) == ([("d", 0)], 4)
        assert reader.old_jobs(4, NEW, 2) == ([], None)
        assert reader.old_jobs(0, NEW, 100) == ([("a", 3), ("d", 0)], None)
        assert reader.old_jobs(0, OLD, 100) == ([], None)
        assert reader.task_counts(["a", "d", "nobody"]) == {"a": 3}
        assert reader.task_counts([]) == {}


def test_what_goes_goes_whole_and_what_is_active_stays(store: Store) -> None:
    add(store, "a", tasks=4)
    add(store, "b", ended_us=None, tasks=2)
    with store.write() as writer:
        writer.drop_tasks("a", 3)
        writer.drop_tasks("b", 3)
    with store.read() as reader:
        assert [task.instance for task in reader.tasks("a", Page(10))[0]] == [0]
        assert len(reader.tasks("b", Page(10))[0]) == 2
    with store.write() as writer:
        writer.drop_jobs(["a", "b", "c"])
        writer.drop_jobs([])
    assert names(store) == names(store, JobQuery(label=("a", "b"))) == ["b"]
    with store.read() as reader:
        assert reader.tasks("a", Page(10))[0] == [] and len(reader.tasks("b", Page(10))[0]) == 2


def test_an_answer_goes_when_none_of_its_jobs_is_there(store: Store) -> None:
    for uid in "abcd":
        add(store, uid)
    with store.write() as writer:
        writer.remember({("r", "e"): ("digest", ["a", "d"]), ("q", "z"): ("digest", ["a"])})
        writer.drop_jobs(["a", "c"])
    found, after = [], ("", "")
    with store.read() as reader:
        while after is not None:
            some, after = reader.old_answers(after, 2)
            found += some
    assert found == [("q", "z"), ("r", "a"), ("r", "c")]
    with store.write() as writer:
        writer.drop_answers(found)
        left = writer.answered([*found, ("r", "b"), ("r", "d"), ("r", "e")])
    assert left.keys() == {("r", "b"), ("r", "d"), ("r", "e")}
