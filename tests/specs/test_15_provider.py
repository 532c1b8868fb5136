"""specs/15-provider.md against protocol.provider."""

from __future__ import annotations

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

import specs
from protocol import bidding, provider, provider_lease
from protocol.units import Micros

SPEC = specs.load("15-provider")


def test_constants_are_those_of_the_code() -> None:
    known = {**vars(bidding), **vars(provider_lease), **vars(provider)}
    assert {name: known[name] for name in SPEC.constants} == SPEC.constants


def test_every_phase_of_the_code_is_in_the_table() -> None:
    assert {row["phase"] for row in SPEC.table("Phases of a lease")} == set(get_args(provider_lease.Phase))


@given(slots=st.integers(0, 256), estimate=st.integers(1_000, 10**11))
def test_lease_slots_rule(slots: int, estimate: int) -> None:
    assert SPEC.functions["lease_slots"](slots, estimate) == bidding.lease_slots(slots, Micros(estimate))
