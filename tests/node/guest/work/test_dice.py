"""Chance that is a function of seed and place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.guest.work.dice import Dice

SEED = bytes(range(32))


def test_the_numbers_of_one_seed_are_fixed_for_ever() -> None:
    assert Dice(SEED, "batch", 3).words(2).tolist() == Dice(SEED, "batch", 3).words(3).tolist()[:2]
    assert Dice(SEED, "batch", 3).integers(1000, 6).tolist() == [865, 925, 529, 944, 90, 788]
    assert (
        len({tuple(Dice(SEED, *place).words(2).tolist()) for place in [(), ("a",), ("a", 1), ("a1",), (1, "a")]}) == 5
    )


@given(st.integers(1, 2**61), st.integers(0, 50))
def test_integers_are_below_their_bound(below: int, count: int) -> None:
    found = Dice(SEED, "x").integers(below, count)
    assert len(found) == count
    assert all(0 <= value < below for value in found.tolist())


@given(st.integers(0, 200))
def test_an_order_holds_every_number_once(count: int) -> None:
    assert sorted(Dice(SEED, "order").order(count).tolist()) == list(range(count))


def test_later_calls_give_other_numbers() -> None:
    dice = Dice(SEED, "x")
    assert dice.words(4).tolist() != dice.words(4).tolist()


def test_uniform_numbers_fill_the_unit_interval() -> None:
    found = Dice(SEED, "u").uniform(20_000)
    assert 0 <= found.min() < 0.001 and 0.999 < found.max() < 1
    assert abs(found.mean() - 0.5) < 0.01
    assert np.histogram(found, 10, (0, 1))[0].min() > 1800


@pytest.mark.parametrize("below", [0, -1, 2**62])
def test_impossible_bounds_are_said(below: int) -> None:
    with pytest.raises(ValueError, match="cannot be drawn"):
        Dice(SEED).integers(below, 1)
