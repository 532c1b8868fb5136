"""Token buckets: never more than promised, never stuck."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway import limits
from gateway.limits import Limiter

GAPS = st.lists(st.floats(min_value=0, max_value=30), min_size=1, max_size=200)


@given(st.integers(1, 50), GAPS)
def test_no_window_holds_more_than_burst_and_refill(per_minute: int, gaps: list[float]) -> None:
    limiter, now, allowed = Limiter(per_minute), 0.0, []
    for gap in gaps:
        now += gap
        if limiter.take("a", now).is_allowed:
            allowed.append(now)
    for start in allowed:
        within = [time for time in allowed if start <= time <= start + 60]
        assert len(within) <= 2 * per_minute + 1


@given(st.integers(1, 50), st.integers(0, 200))
def test_who_waits_as_long_as_told_is_let_in(per_minute: int, requests: int) -> None:
    limiter = Limiter(per_minute)
    for _ in range(requests):
        limiter.take("a", 0.0)
    answer = limiter.take("a", 0.0)
    assert answer.is_allowed == (requests < per_minute)
    if not answer.is_allowed:
        assert "Retry-After" in answer.headers()
        assert limiter.take("a", float(answer.reset_s)).is_allowed
    assert limiter.take("b", 0.0).is_allowed


def test_old_callers_are_forgotten_first() -> None:
    limiter = Limiter(1)
    assert limiter.take("first", 0.0).is_allowed
    assert not limiter.peek("first", 0.0).is_allowed
    for index in range(limits.BUCKETS_MAX):
        limiter.take(str(index), 0.0)
    assert limiter.peek("first", 0.0).is_allowed
