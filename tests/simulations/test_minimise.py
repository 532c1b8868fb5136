"""Delta debugging finds a part that still fails and of which nothing can be left out."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Refused
from simulations.minimise import minimise, minimise_count

ITEMS = st.lists(st.integers(0, 99), unique=True, max_size=24)


@given(ITEMS, st.data())
def test_a_set_that_is_needed_is_what_remains(items: list[int], data: st.DataObject) -> None:
    needed = set(data.draw(st.lists(st.sampled_from(items), unique=True) if items else st.just([])))
    found = minimise(lambda part: needed <= set(part), items)
    assert found == [item for item in items if item in needed]


@given(ITEMS.filter(lambda items: sum(items) >= 50))
def test_nothing_can_be_left_out(items: list[int]) -> None:
    def fails(part: Sequence[int]) -> bool:
        return sum(part) >= 50

    found = minimise(fails, items)
    assert fails(found)
    assert not any(fails(found[:place] + found[place + 1 :]) for place in range(len(found)))
    assert found == [item for item in items if item in set(found)]  # in their order


@given(ITEMS, st.sets(st.integers(0, 99)), st.sets(st.integers(0, 99)))
def test_also_where_failing_is_not_monotonous(items: list[int], first: set[int], second: set[int]) -> None:
    def fails(part: Sequence[int]) -> bool:
        return len(set(part) & first) % 2 == 1 or second <= set(part)

    if not fails(items):
        with pytest.raises(Refused, match="does not fail"):
            minimise(fails, items)
        return
    found = minimise(fails, items)
    assert fails(found)
    assert not any(fails(found[:place] + found[place + 1 :]) for place in range(len(found)))


@given(ITEMS)
def test_each_part_is_asked_about_once(items: list[int]) -> None:
    asked: list[tuple[int, ...]] = []

    def fails(part: Sequence[int]) -> bool:
        asked.append(tuple(part))
        return not items or items[0] in part

    minimise(fails, items)
    assert len(asked) == len(set(asked))


def test_one_guilty_item_is_found_in_few_questions() -> None:
    asked = 0

    def fails(part: Sequence[int]) -> bool:
        nonlocal asked
        asked += 1
        return 700 in part

    assert minimise(fails, range(1_000)) == [700]
    assert asked < 60


def test_a_failure_that_needs_nothing_leaves_nothing() -> None:
    assert minimise(lambda part: True, [1, 2, 3]) == []


@given(st.integers(0, 1_000), st.integers(0, 1_000))
def test_the_least_count(least: int, more: int) -> None:
    assert minimise_count(lambda count: count >= least, least + more) == least
