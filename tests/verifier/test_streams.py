"""Monte Carlo: the aggregate is the sum, states continue one another, and statistics only alarm."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Refused
from verifier.merkle_sum import SumTree
from verifier.streams import check_aggregate, check_prefixes, is_odd, oddness, row_of


def counts(dice: random.Random, streams: int, trials: int, share: float) -> list[int]:
    return [sum(dice.random() < share for _ in range(trials)) for _ in range(streams)]


def test_the_aggregate_is_the_sum_of_all_streams() -> None:
    rows = np.arange(24, dtype=np.int64).reshape(8, 3)
    root = SumTree([tuple(row) for row in rows.tolist()]).root
    check_aggregate(rows, root)
    bad = [
        (rows, msgspec.structs.replace(root, sums=(root.sums[0] + 1, *root.sums[1:]))),
        (rows[:-1], root),
        (rows[::-1], root),
        (np.vstack([rows, np.zeros((1, 3), np.int64)]), root),
        (rows.astype(np.float64), root),
        (rows[0], root),
    ]
    for others, said in bad:
        with pytest.raises(Refused) as caught:
            check_aggregate(others, said)
        assert caught.value.code == "sum_differs"


def test_every_opened_state_is_the_beginning_of_the_last() -> None:
    rows = np.arange(20).reshape(10, 2)
    check_prefixes({0: rows[:0], 3: rows[:3], 9: rows[:9], 10: rows}, rows)
    other = rows[:5].copy()
    other[2] += 1
    for count, state in (
        (5, other),
        (4, rows[:5]),
        (5, rows[1:6]),
        (11, np.vstack([rows, rows[:1]])),
        (2, rows[:2, :1]),
    ):
        with pytest.raises(Refused) as caught:
            check_prefixes({count: state}, rows)
        assert caught.value.code == "rows_differ"


def test_honest_streams_raise_no_alarm_a_thousand_times() -> None:
    dice = np.random.default_rng(1)
    alarms = sum(is_odd(dice.binomial(10_000, 0.785, 16).tolist(), 10_000) for _ in range(1000))
    assert alarms == 0


@pytest.mark.parametrize("found", [[500] * 16, [10_000, *[7850] * 15], [7850 + (-1) ** k * 400 for k in range(16)]])
def test_invented_streams_do(found: list[int]) -> None:
    assert is_odd(found, 10_000, 0.785)


def test_streams_that_agree_too_well_are_odd() -> None:
    assert is_odd([7850 + k % 2 for k in range(64)], 10_000)


def test_an_alarm_is_no_proof() -> None:
    """An invented stream near the mean raises none: only a replay finds it."""
    found = counts(random.Random(3), 16, 2000, 0.785)
    found[4] = 1570
    assert not is_odd(found, 2000)


def test_few_streams_and_certain_events_say_nothing() -> None:
    assert not is_odd([1, 2, 3], 10)
    assert oddness([10, 10], 10).tolist() == [0.0, 0.0]
    assert not is_odd([0] * 20, 100)


@given(values=st.lists(st.floats(-1000, 1000), min_size=1, max_size=8))
def test_fixed_point_is_exact_to_its_last_place(values: list[float]) -> None:
    row = row_of(values, 40)
    assert all(abs(number - value * 2.0**40) <= 0.5 for number, value in zip(row, values, strict=True))
