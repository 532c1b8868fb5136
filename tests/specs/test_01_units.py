"""specs/01-units.md against protocol/units.py, protocol/credits.py and the money rules."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

import specs
from protocol import operations, units
from protocol.credits import credits_from_text, credits_text

SPEC = specs.load("01-units")
AMOUNTS = st.integers(min_value=0, max_value=2**62)


def test_constants_are_the_code_s() -> None:
    assert SPEC.constants
    for name, value in SPEC.constants.items():
        assert getattr(units, name) == value, name


def test_every_constant_of_the_code_is_documented() -> None:
    in_code = {name for name, value in vars(units).items() if name.isupper() and isinstance(value, int)}
    assert in_code == set(SPEC.constants)


@given(st.integers(min_value=-(2**62), max_value=2**62))
def test_money_is_written_alike(amount: int) -> None:
    assert credits_text(amount) == SPEC.functions["credits_text"](amount)


@given(st.integers(min_value=0, max_value=10**18 - 1))
def test_money_reads_back_exactly(amount: int) -> None:
    assert credits_from_text(credits_text(amount)) == amount


@given(AMOUNTS)
def test_commission_and_pay_add_up(price: int) -> None:
    parts = SPEC.functions["split"](price, operations.COMMISSION_PPM)
    assert parts == (operations.commission(price), price - operations.commission(price))


def test_text_forms_of_ids() -> None:
    forms = {row["kind"]: row["text form"] for row in SPEC.table("kinds")}
    assert forms["escrow"] == "`esc_` and 64 hexadecimal digits"
    assert operations.escrow_text(bytes(32)) == "esc_" + "00" * 32
