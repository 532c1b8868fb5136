"""specs/14-steward.md against protocol.steward, job, leasing and granting."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

import specs
from protocol import granting, job, leasing, steward
from protocol.units import Micros

SPEC = specs.load("14-steward")


def test_constants_are_those_of_the_code() -> None:
    found = {}
    for module in (granting, job, leasing, steward):
        found.update({name: getattr(module, name) for name in SPEC.constants if hasattr(module, name)})
    assert found == SPEC.constants


@given(price=st.integers(0, 10**12), estimate=st.integers(1, 10**11))
def test_price_rule(price: int, estimate: int) -> None:
    assert SPEC.functions["chunk_price"](price, estimate) == granting.chunk_price(price, Micros(estimate))
