"""Jobs come at the rate asked for, in order, within the run, and not more than the limit."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Refused
from simulations.arrivals import HOUR, arrivals
from simulations.scenario import NS, Arrival

kinds = st.builds(
    Arrival,
    model=st.sampled_from(["poisson", "regular", "burst"]),
    per_hour=st.floats(0.0, 1_000.0),
    burst=st.integers(1, 50),
)


@given(
    arrival=kinds, start=st.integers(0, HOUR), length=st.integers(0, HOUR), limit=st.integers(0, 40), seed=st.integers()
)
def test_times_are_in_order_within_the_run_and_limited(
    arrival: Arrival, start: int, length: int, limit: int, seed: int
) -> None:
    found = arrivals(arrival, start, start + length, limit, Random(seed))
    assert found == sorted(found) and all(start <= time < start + length for time in found)
    assert not limit or len(found) <= limit
    assert found == arrivals(arrival, start, start + length, limit, Random(seed))


def test_regular_jobs_are_even_and_do_not_drift() -> None:
    arrival = Arrival(model="regular", per_hour=7.0)
    found = arrivals(arrival, 5 * NS, 1_000 * HOUR + 5 * NS, 0, Random(1))
    assert len(found) == 7_000
    assert found == [5 * NS + number * HOUR // 7 for number in range(7_000)]


def test_a_poisson_stream_has_its_rate_and_its_variance() -> None:
    arrival = Arrival(model="poisson", per_hour=30.0)
    found = arrivals(arrival, 0, 400 * HOUR, 0, Random(2))
    counts = [0] * 400
    for time in found:
        counts[time // HOUR] += 1
    mean = len(found) / 400
    variance = sum((count - mean) ** 2 for count in counts) / 399
    assert mean == pytest.approx(30.0, rel=0.03)
    assert variance == pytest.approx(mean, rel=0.25)


def test_crowds_come_together_at_the_same_mean_rate() -> None:
    arrival = Arrival(model="burst", per_hour=30.0, burst=10)
    found = arrivals(arrival, 0, 2_000 * HOUR, 0, Random(3))
    assert len(found) % 10 == 0 and len(set(found)) == len(found) // 10
    assert len(found) / 2_000 == pytest.approx(30.0, rel=0.05)
    assert len(arrivals(arrival, 0, 2_000 * HOUR, 25, Random(3))) == 25


def test_no_rate_and_no_time_mean_no_jobs() -> None:
    assert arrivals(Arrival(model="poisson", per_hour=5e-324), 0, HOUR, 0, Random(1)) == []
    assert arrivals(Arrival(model="regular", per_hour=0.0), 0, HOUR, 0, Random(1)) == []
    assert arrivals(Arrival(model="regular", per_hour=9.0), HOUR, HOUR, 0, Random(1)) == []


@pytest.mark.parametrize(
    ("arrival", "limit", "code"),
    [
        (Arrival(model="poisson", per_hour=-1.0), 0, "bad_rate"),
        (Arrival(model="poisson", per_hour=float("nan")), 0, "bad_rate"),
        (Arrival(model="poisson", per_hour=float("inf")), 0, "bad_rate"),
        (Arrival(model="burst", per_hour=1.0, burst=0), 0, "bad_rate"),
        (Arrival(model="poisson", per_hour=1.0), -1, "bad_limit"),
        (Arrival(model="poisson", per_hour=1e12), 0, "too_many_jobs"),
    ],
)
def test_bad_rates_are_refused(arrival: Arrival, limit: int, code: str) -> None:
    with pytest.raises(Refused) as caught:
        arrivals(arrival, 0, HOUR, limit, Random(1))
    assert caught.value.code == code and caught.value.fix
