"""protocol.rewards: the owner's formulas, and what of them moves money."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol import rewards
from protocol.operations import commission
from protocol.rewards import Work
from protocol.units import HOUR, PPM, Micros

shares = st.integers(0, PPM)
money = st.integers(0, 10**9)


@given(price=money, elapsed=money, expected=money, reputation=shares)
def test_the_ledger_pays_ninety_percent_whatever_the_formulas_say(
    price: int, elapsed: int, expected: int, reputation: int
) -> None:
    lines = rewards.inference(Work(price, Micros(elapsed), Micros(expected), reputation))
    in_force = [line.amount for line in lines if line.force == "ledger"]
    assert in_force == [price - commission(price)]
    assert all(line.what for line in lines)


def test_fast_is_less_than_eighty_percent() -> None:
    assert rewards.is_fast(Micros(799), Micros(1000))
    assert not rewards.is_fast(Micros(800), Micros(1000))
    assert not rewards.is_fast(Micros(0), Micros(1000))  # Nobody measured it.


def test_a_slow_result_of_a_newcomer_gets_the_plain_share() -> None:
    lines = rewards.inference(Work(1_000, Micros(1000), Micros(1000), 500_000))
    assert [line.amount for line in lines] == [900, 0, 0]


@given(gpu=st.integers(0, 10**12), quality=shares, data=shares)
def test_training_grows_with_each_of_its_parts(gpu: int, quality: int, data: int) -> None:
    found = rewards.training(Micros(gpu), 10**6, quality, data)
    assert 0 <= found <= rewards.training(Micros(gpu + HOUR), 10**6, min(PPM, quality + 1), min(PPM, data + 1))
    assert found * 10 <= gpu * 12 * 10**6 // HOUR  # At most 1.2 times the hours.


@given(exponent=st.integers(-10 * PPM, 10 * PPM), more=st.integers(0, PPM))
def test_powers_grow(exponent: int, more: int) -> None:
    assert rewards.exp2(exponent) <= rewards.exp2(exponent + more)
    assert abs(rewards.exp2(exponent + PPM) - 2 * rewards.exp2(exponent)) <= 1


@given(qualities=st.lists(st.integers(-PPM, 2 * PPM), max_size=60))
def test_performance_is_bounded(qualities: list[int]) -> None:
    assert rewards.MULTIPLIER_MIN <= rewards.performance(qualities) <= rewards.MULTIPLIER_MAX
    assert 0 <= rewards.history(qualities) <= PPM


def test_progress_is_paid_at_once_and_decline_costs_at_once() -> None:
    usual = [600_000] * 30
    assert rewards.performance([*usual, 900_000]) > rewards.performance(usual) > rewards.performance([*usual, 300_000])
