"""Rates and quotas let through what they say, whatever the pieces are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.overlay.relay_rates import BURST_PARTS, Quota, Rate
from protocol.units import HOUR, SECOND, Micros

pieces = st.lists(st.tuples(st.integers(1, 70_000), st.integers(0, 200_000)), min_size=1, max_size=60)


@given(st.integers(1_000, 1 << 24), pieces)
def test_a_rate_never_lets_more_through_than_it_says(rate: int, sizes: list[tuple[int, int]]) -> None:
    line = Rate(rate)
    now = due = Micros(1_700_000_000 * SECOND)
    start = now
    passed = 0
    for size, pause in sizes:
        now = Micros(max(now, due) + pause)
        due = Micros(now + line.take(size, now))
        passed += size
        allowed = rate * (due - start) // SECOND + rate // BURST_PARTS + rate * 2 // SECOND + 2
        assert passed <= allowed


@given(st.integers(1_000, 1 << 24))
def test_a_rate_that_rested_waits_for_nothing(rate: int) -> None:
    line = Rate(rate)
    assert line.take(rate // BURST_PARTS, Micros(5 * SECOND)) == 0
    rounded = BURST_PARTS * SECOND // rate + 1
    assert SECOND - rounded <= line.take(rate, Micros(5 * SECOND)) <= SECOND + 1


@given(st.integers(1, 1 << 30), pieces)
def test_a_quota_is_exact(limit: int, sizes: list[tuple[int, int]]) -> None:
    quota = Quota(limit, HOUR, 10)
    spent, now = 0, Micros(1_700_000_000 * SECOND)
    for size, _ in sizes:
        size = min(size, quota.left("k", now))
        if not size:
            break
        quota.spend("k", size, now)
        spent += size
        assert quota.left("k", now) == limit - spent
    assert spent == min(limit, sum(size for size, _ in sizes))


def test_a_quota_comes_back_within_its_span() -> None:
    quota = Quota(1_000, HOUR, 10)
    quota.spend("k", 1_000, Micros(0))
    assert [quota.left("k", Micros(HOUR * tenth // 10)) for tenth in (0, 1, 5, 10, 20)] == [0, 100, 500, 1_000, 1_000]


def test_a_full_quota_refuses_strangers_until_somebody_has_paid() -> None:
    quota = Quota(1_000, HOUR, 2)
    for key in "ab":
        quota.spend(key, 500, Micros(0))
    assert quota.left("c", Micros(0)) == 0
    assert quota.left("a", Micros(0)) == 500
    quota.forget_paid(Micros(HOUR // 2))
    assert len(quota) == 0
    assert quota.left("c", Micros(HOUR // 2)) == 1_000
