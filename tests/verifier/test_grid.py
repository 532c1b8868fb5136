"""verifier/grid.py: one step of the grid is nothing in a large model, and everything in a small one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from protocol.proof import Tolerance
from verifier import training
from verifier.grid import FLIPS_MARGIN, compare_on_grid, flips, grid_of
from verifier.tensors import Array

ON_GRID = Tolerance(t_ok=1, t_bad=5, profile="grid-24/large")
STEPS = 5
MANY = 1 << 10
"""Steps of a unit, so that a small state has as many element-steps as a large one."""


def large(elements: int = 1 << 16) -> dict[str, Array]:
    """A state of ones: FLIPS_MARGIN × elements × steps / 2^29 flips are allowed."""
    return {"parameters/w": np.ones(elements), "step": np.array(5, np.int64)}


def with_flips(state: dict[str, Array], count: int, step: float) -> dict[str, Array]:
    moved = np.array(state["parameters/w"], np.float64)
    moved[:count] += step
    return {**state, "parameters/w": moved}


def test_profiles_name_a_grid() -> None:
    assert [grid_of(name) for name in ("grid-24", "grid-28/x", "grid-2", "grid-245", "training/grid-24", "")] == [
        24, 28, 0, 0, 0, 0,
    ]  # fmt: skip


def test_a_small_model_has_no_flips() -> None:
    state = large()
    assert flips(state, state, 24, STEPS).allowed == 0
    assert compare_on_grid(state, state, 24, STEPS).code == "within_tolerance"
    assert compare_on_grid(with_flips(state, 1, 2.0**-24), state, 24, STEPS).code == "off_grid"


def test_a_large_one_has_a_handful() -> None:
    state = large()
    allowed = FLIPS_MARGIN * MANY * (1 << 16) >> 29
    assert allowed == flips(state, state, 24, MANY).allowed == 1
    assert compare_on_grid(with_flips(state, allowed, 2.0**-24), state, 24, MANY).code == "within_tolerance"
    for count, step in ((allowed + 1, 2.0**-24), (1, 2.0**-23), (1, 2.0**-25), (1, -(2.0**-22))):
        found = compare_on_grid(with_flips(state, count, step), state, 24, MANY)
        assert (found.code, found.err) == ("off_grid", math.inf)


def test_variances_have_their_own_grid_and_counters_none() -> None:
    state: dict[str, Array] = {"variance/w": np.ones(8), "parameters/w": np.ones(1 << 16), "step": np.array(5)}
    other = {**state, "variance/w": np.ones(8) + np.eye(8)[0] * 2.0**-48}
    assert flips(other, state, 24, MANY).is_match
    assert not flips({**state, "step": np.array(6)}, state, 24, MANY).is_match


@pytest.mark.parametrize("is_equal", [True, False])
def test_the_profile_chooses_the_comparison(is_equal: bool) -> None:
    start = {"parameters/w": np.zeros(4), "step": np.array(0)}
    after: dict[str, Array] = {"parameters/w": np.ones(4), "step": np.array(5)}
    claimed = after if is_equal else {**after, "parameters/w": np.ones(4) + 2.0**-24}
    aux = {"losses": np.ones(STEPS), "norms": np.ones(STEPS)}
    found = training.compare(start, claimed, after, aux, aux, ON_GRID)
    assert found.code == ("within_tolerance" if is_equal else "off_grid")
