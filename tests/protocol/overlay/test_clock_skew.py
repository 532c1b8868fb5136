"""Offsets of clocks: the median of several, and no verdict from few."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.overlay.clock_skew import PEERS_MAX, ClockSkew
from protocol.units import SECOND, Micros, PeerId


def peer(number: int) -> PeerId:
    return PeerId(number.to_bytes(32, "big"))


def exchange(skew: ClockSkew, number: int, offset: int, there: int = 10_000, back: int = 10_000) -> None:
    sent = 1_000 * SECOND
    heard = sent + there + offset
    skew.sample(peer(number), Micros(sent), Micros(heard), Micros(heard + 50), Micros(sent + there + 50 + back))


def test_two_clocks_are_no_verdict_and_one_liar_in_three_is_outvoted() -> None:
    skew = ClockSkew()
    exchange(skew, 1, 2 * SECOND)
    exchange(skew, 2, 2 * SECOND)
    assert skew.skew() is None
    exchange(skew, 3, 10**15)
    assert skew.skew() == 2 * SECOND
    skew.forget(peer(1))
    assert skew.skew() is None


@given(st.integers(-(10**9), 10**9), st.integers(0, 10**6), st.integers(0, 10**6))
def test_the_error_is_at_most_half_of_the_asymmetry(offset: int, there: int, back: int) -> None:
    skew = ClockSkew()
    for number in range(3):
        exchange(skew, number, offset, there, back)
    found = skew.skew()
    assert found is not None
    assert abs(found - offset) <= abs(there - back) // 2 + 1


def test_memory_is_bounded() -> None:
    skew = ClockSkew()
    for number in range(10 * PEERS_MAX):
        exchange(skew, number, number)
    found = skew.skew()
    assert found is not None
    assert found >= 9 * PEERS_MAX
