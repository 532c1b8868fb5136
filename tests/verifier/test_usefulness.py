"""verifier/usefulness.py: a bonus for a model that got better, and never a fault."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from verifier.usefulness import BONUS_MAX, measured, usefulness


def test_the_bonus_grows_with_the_fall_up_to_a_bound() -> None:
    falls = [0.0, 0.001, 0.01, 0.025, 0.05, 0.5, 1.0]
    bonuses = [usefulness(2.0, 2.0 * (1 - fall)).bonus for fall in falls]
    assert bonuses == [0, 0, 20_000, 50_000, BONUS_MAX, BONUS_MAX, BONUS_MAX]
    assert usefulness(2.0, 1.9).code == "useful"


@given(before=st.floats(), after=st.floats())
def test_any_two_losses_are_a_bonus_between_nothing_and_the_bound(before: float, after: float) -> None:
    found = usefulness(before, after)
    assert 0 <= found.bonus <= BONUS_MAX
    assert found.code in {"useful", "not_useful", "not_finite"}
    assert (found.code == "not_finite") == (not (0 < before < math.inf and 0 <= after < math.inf))
    assert found.bonus == 0 or after < before


def test_a_model_is_measured_before_and_after() -> None:
    def loss(model: object) -> float:
        return float(np.sum(model["w"]))  # type: ignore[index]

    found = measured(loss, {"w": np.ones(4)}, {"w": np.ones(4) * 0.9})
    assert (found.before, found.code) == (4.0, "useful")
