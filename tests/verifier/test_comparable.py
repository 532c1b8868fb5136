"""What rules out a comparison before any number is compared."""

from __future__ import annotations

import math

import numpy as np
import pytest

from verifier.comparable import incomparable, not_finite, unlike
from verifier.tensors import Array

HELD: dict[str, Array] = {
    "count": np.arange(4),
    "weights": np.linspace(0.0, 1.0, 6, dtype=np.float32).reshape(2, 3),
}


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_one_number_that_is_none_anywhere_rules_it_out(odd: float) -> None:
    torn = {**HELD, "weights": HELD["weights"].copy()}
    torn["weights"][1, 2] = odd
    assert not_finite(HELD, HELD) is None
    found = not_finite(HELD, {}, torn)
    assert found is not None
    assert (found.err, found.code, found.detail) == (math.inf, "not_finite", "weights holds nan or an infinity")


def test_names_types_and_shapes_are_alike_or_said() -> None:
    assert unlike(HELD, dict(reversed(HELD.items()))) == ""
    assert unlike(HELD, {"count": HELD["count"]}) == unlike({"count": HELD["count"]}, HELD)
    assert unlike({}, HELD) == "only one of the two has count"
    turned = {**HELD, "weights": HELD["weights"].T}
    assert unlike(turned, HELD) == "weights is float32[3, 2], not float32[2, 3]"
    wide = {**HELD, "weights": HELD["weights"].astype(np.float64)}
    assert unlike(wide, HELD) == "weights is float64[2, 3], not float32[2, 3]"


def test_what_cannot_be_compared_is_infinitely_far() -> None:
    found = incomparable("there is nothing")
    assert (found.err, found.code, found.detail) == (math.inf, "shape_differs", "there is nothing")
