"""The ledger of preemptions, over every store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from priority.errors import Invalid
from priority.ports import Store
from priority.records import Fate, Page, PreemptionQuery, PreemptionRecord, PreemptionSum, Side
from priority.store.sqlite import SqliteSession

ALL = PreemptionQuery()


def side(task: str, key: str = "physics/devel/sim", user: str = "ada") -> Side:
    return Side(task, task.rsplit("-", 2)[0], *key.split("/"), user)


def record(victim: str = "v-0-1", preemptor: str = "p-0-1", **changes: Any) -> PreemptionRecord:
    sides = (
        side(victim, changes.pop("of", "physics/devel/sim")),
        side(preemptor, changes.pop("to", "chem/prod/reco"), "cleo"),
    )
    return replace(PreemptionRecord(7, *sides, "n1", "tier", 5_000), **changes)


def add(store: Store, *records: PreemptionRecord) -> None:
    with store.write() as writer:
        writer.add_preemptions(records)


def rows(store: Store, query: PreemptionQuery = ALL) -> list[PreemptionRecord]:
    with store.read() as reader:
        return reader.preemptions(query, Page(1000))[0]


def settle(store: Store, fates: dict[str, Fate], spared: tuple[str, ...] = ()) -> None:
    with store.write() as writer:
        writer.settle_preemptions(fates, spared)


def test_a_preemption_comes_back_as_it_was(store: Store) -> None:
    plain = record()
    known = record("v-1-1", "p-1-1", rule="priority", lost=2**62, fate=Fate("killed", 9, None, "killed by cleo: ' %"))
    add(store, plain, known)
    assert rows(store) == [replace(known, seq=2), replace(plain, seq=1)]
    assert plain.victim.key == "physics/devel/sim"


def test_work_beyond_all_measure_is_the_most_that_there_is(store: Store) -> None:
    add(store, record(lost=10**27))
    assert rows(store)[0].lost == 2**63 - 1


def test_which_jobs_are_in_the_ledger(store: Store) -> None:
    add(store, record(), record("v-1-1", "q-0-1"))
    with store.read() as reader:
        assert reader.in_ledger(["v", "p", "none"]) == {"v", "p"}
        assert reader.in_ledger(["none"]) == reader.in_ledger([]) == set()


def test_a_task_is_a_victim_once(store: Store) -> None:
    add(store, record(lost=1))
    add(store, record(lost=2), record("v-1-1", lost=3))
    assert sorted(one.lost for one in rows(store)) == [1, 3]


def test_none_at_all(store: Store) -> None:
    add(store)
    settle(store, {})
    settle(store, {"x-0-1": Fate("started", 1)}, ("y-0-1",))
    assert rows(store) == []
    with store.read() as reader:
        assert reader.preemption_sums(ALL) == []


@pytest.mark.parametrize("others", [0, 600])
def test_a_fate_is_that_of_every_room_that_was_made(store: Store, others: int) -> None:
    add(store, record(), record("v-1-1"), record("w-0-1", "q-0-1"))
    started = Fate("started", 20, "n1")
    settle(store, {"p-0-1": started} | {f"o-{number}-1": Fate("lost", 1) for number in range(others)})
    assert {one.victim.task: one.fate for one in rows(store)} == {"v-0-1": started, "v-1-1": started, "w-0-1": None}
    # the first is kept: a task that has started has started
    settle(store, {"p-0-1": Fate("killed", 30), "q-0-1": Fate("killed", 31, None, "killed by cleo")})
    assert {one.preemptor.task: one.fate for one in rows(store)} == {
        "p-0-1": started,
        "q-0-1": Fate("killed", 31, None, "killed by cleo"),
    }


def test_of_a_victim_that_finished_nothing_was_lost(store: Store) -> None:
    add(store, record(), record("v-1-1"))
    settle(store, {}, ("v-1-1", "z-0-1"))
    assert {one.victim.task: one.lost for one in rows(store)} == {"v-0-1": 5_000, "v-1-1": 0}


def test_pages_newest_first(store: Store) -> None:
    add(store, *(record(f"v-{number}-1", at_us=number) for number in range(5)))
    seen, after = [], None
    for _ in range(3):
        with store.read() as reader:
            page, after = reader.preemptions(ALL, Page(2, after))
        seen.append([one.at_us for one in page])
    assert (seen, after) == ([[4, 3], [2, 1], [0]], None)
    with store.read() as reader, pytest.raises(Invalid, match="after"):
        reader.preemptions(ALL, Page(2, "x"))


def test_queries(store: Store) -> None:
    add(
        store,
        record("v-0-1", "p-0-1", at_us=1),
        record("w-0-1", "q-0-1", at_us=2, to="physics/devel/more"),
        record("x-0-1", "r-0-1", at_us=3, of="web/devel/a"),
    )

    def found(**query: Any) -> list[str]:
        return [one.victim.task[0] for one in rows(store, PreemptionQuery(**query))]

    assert found() == ["x", "w", "v"]
    assert found(roles=["web"]) == ["x"]
    assert found(roles=["web", "physics"]) == ["x", "w", "v"]
    assert found(roles=["physics"], role="chem") == ["v"]
    assert found(roles=[]) == found(role="nobody") == []
    assert found(role="physics") == ["w", "v"]
    assert found(job="q") == ["w"] and found(job="x") == ["x"]
    assert found(since_us=2) == ["x", "w"]
    settle(store, {"p-0-1": Fate("started", 9), "q-0-1": Fate("killed", 9)})
    assert (found(started=True), found(started=False)) == (["v"], ["x", "w"])


def test_sums_are_exact_and_do_not_run_over(store: Store) -> None:
    most = 2**63 - 1
    add(
        store,
        *(record(f"v-{number}-1", lost=most) for number in range(4)),
        record("v-9-1", lost=1, fate=Fate("started", 1)),
        record("w-0-1", to="physics/devel/more", lost=1_999_999),
        record("w-1-1", to="physics/devel/more", lost=1),
    )
    with store.read() as reader:
        assert reader.preemption_sums(ALL) == [
            PreemptionSum("chem", "physics", None, 4, 4 * most),
            PreemptionSum("chem", "physics", "started", 1, 1),
            PreemptionSum("physics", "physics", None, 2, 2_000_000),
        ]
        assert reader.preemption_sums(PreemptionQuery(role="chem", since_us=8)) == []


def test_who_made_room_for_a_task_is_found_without_a_look_at_what_is_settled(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[str] = []
    execute = SqliteSession._execute

    def explained(self: SqliteSession, sql: str, params: Any) -> Any:
        plans.extend(str(row[3]) for row in execute(self, f"EXPLAIN QUERY PLAN {sql}", params).fetchall())
        return execute(self, sql, params)

    monkeypatch.setattr(SqliteSession, "_execute", explained)
    for fates in (1, 600):
        plans.clear()
        settle(store, {f"p-{number}-1": Fate("started", 1) for number in range(fates)}, ("v-0-1",))
        assert not [plan for plan in plans if plan == "SCAN preemptions"], plans


def test_old_ones_whose_fate_is_known_go_and_the_newest_stays(store: Store) -> None:
    known = Fate("started", 9, "n1")
    olds = [record(f"v-{number}-1", f"p-{number}-1", fate=known) for number in range(4)]
    add(store, replace(olds[0], fate=None), *olds[1:3], replace(olds[3], at_us=20))
    with store.read() as reader:
        assert reader.old_preemptions(0, 8, 10) == ([2, 3], None)
        assert reader.old_preemptions(0, 8, 2) == ([2], 2)
        assert reader.old_preemptions(0, 7, 10) == ([], None)
        assert reader.old_preemptions(3, 100, 10) == ([4], None)
    with store.write() as writer:
        writer.drop_preemptions([2, 3, 4])
    assert [row.seq for row in rows(store)] == [4, 1]
    settle(store, {"p-0-1": known})
    add(store, record("v-5-1"))
    assert rows(store)[0].seq == 5
