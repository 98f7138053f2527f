"""The least cover against all subsets."""

from __future__ import annotations

import random
from itertools import combinations

import pytest

from priority.cover import least_cover


def by_brute_force(amounts: list[list[int]], work: list[int], need: list[int]) -> tuple[int, int] | None:
    for count in range(len(amounts) + 1):
        covers = [
            sum(work[item] for item in items)
            for items in combinations(range(len(amounts)), count)
            if all(sum(amounts[item][column] for item in items) >= lack for column, lack in enumerate(need))
        ]
        if covers:
            return count, min(covers)
    return None


@pytest.mark.parametrize("seed", range(400))
def test_it_is_the_least(seed: int) -> None:
    rng = random.Random(seed)
    columns, most = rng.randint(1, 3), rng.choice([2, 3, 9])
    amounts = [[rng.randint(0, most) for _ in range(columns)] for _ in range(rng.randint(0, 9))]
    work = [rng.randint(0, rng.choice([1, 3, 20])) for _ in amounts]
    need = [rng.randint(0, 3 * most) for _ in range(columns)]
    expected = by_brute_force(amounts, work, need)
    cover = least_cover(amounts, work, need)
    assert (None if cover is None else cover.cost) == expected
    if cover is None or expected is None:
        return
    assert all(sum(amounts[item][column] for item in cover.items) >= lack for column, lack in enumerate(need))
    assert sum(work[item] for item in cover.items) == cover.work
    count, least = expected
    assert least_cover(amounts, work, need, bound=(count, least)) is None
    above = least_cover(amounts, work, need, bound=(count, least + 1))
    assert above is not None
    assert above.cost == expected


def test_of_many_items_it_is_still_a_cover_without_a_needless_item() -> None:
    rng = random.Random(1)
    amounts = [[rng.randint(1, 10**6), rng.randint(1, 10**6), rng.randint(1, 10**6)] for _ in range(300)]
    work = [rng.randint(1, 10**20) for _ in amounts]  # wider than 64 bits, as cores times years can be
    need = [12 * 10**6] * 3
    cover = least_cover(amounts, work, need)
    assert cover is not None
    for left_out in cover.items:
        rest = [amounts[item] for item in cover.items if item != left_out]
        assert any(sum(row[column] for row in rest) < lack for column, lack in enumerate(need))
