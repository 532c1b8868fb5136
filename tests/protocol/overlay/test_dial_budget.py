"""Budgets of a witness: a burst, then a trickle; per asker, address and subnet; refused questions cost nothing."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Refused
from protocol.overlay.dial_budget import IN_ALL, PER_ADDRESS, PER_ASKER, PER_SUBNET, REMEMBERED_MAX, DialBudget
from protocol.units import HOUR, SECOND, Micros, PeerId

NOW = Micros(1_800_000_000 * SECOND)


def peer(number: int) -> PeerId:
    return PeerId(number.to_bytes(32, "big"))


def test_one_asker() -> None:
    budget = DialBudget()
    for _ in range(PER_ASKER.burst):
        budget.spend(peer(1), "11.1.0.1", 1, NOW)
    with pytest.raises(Refused, match="for you") as caught:
        budget.spend(peer(1), "11.1.0.1", 1, NOW)
    assert caught.value.numbers["wait_us"] == PER_ASKER.interval
    budget.spend(peer(1), "11.1.0.1", 1, Micros(NOW + PER_ASKER.interval))


def test_many_askers_of_one_address_and_subnet() -> None:
    budget = DialBudget()
    for number in range(PER_ADDRESS.burst):
        budget.spend(peer(number), "11.1.0.1", 1, NOW)
    with pytest.raises(Refused, match="to your address"):
        budget.spend(peer(99), "11.1.0.1", 1, NOW)
    for number in range(PER_SUBNET.burst - PER_ADDRESS.burst):
        budget.spend(peer(1000 + number), f"11.1.1.{number}", 1, NOW)
    with pytest.raises(Refused, match="to your subnet"):
        budget.spend(peer(99), "11.1.2.1", 1, NOW)
    budget.spend(peer(99), "11.2.0.1", 1, NOW)


def test_a_crowd_from_everywhere_is_bounded_in_dials_and_memory() -> None:
    budget = DialBudget()
    done = 0
    for number in range(20_000):
        try:
            budget.spend(peer(number), f"11.{number % 250}.{number // 250}.1", 1, Micros(NOW + number * 10_000))
            done += 1
        except Refused:
            continue
    assert done <= IN_ALL.burst + 20_000 * 10_000 // IN_ALL.interval + 1
    assert len(budget) <= REMEMBERED_MAX


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 60 * SECOND)), max_size=100))
def test_never_more_than_burst_and_rate_in_any_window(asks: list[tuple[int, int]]) -> None:
    budget, now = DialBudget(), int(NOW)
    done: deque[tuple[int, int]] = deque()
    for dials, wait in asks:
        now += wait
        try:
            budget.spend(peer(1), "11.1.0.1", dials, Micros(now))
        except Refused as refused:
            assert 0 < int(refused.numbers["wait_us"]) <= HOUR
            continue
        done.append((now, dials))
        for start, _ in done:
            spent = sum(count for at, count in done if at >= start)
            assert spent <= PER_ASKER.burst + (now - start) // PER_ASKER.interval
