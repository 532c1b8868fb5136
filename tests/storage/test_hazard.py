"""The hazard of a host: the prior, what it learns, and the bounds of both."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from protocol import wire
from protocol.units import DAY, HOUR, MINUTE, Micros, PeerId
from storage.hazard import AGE_MIN, HOURS, MEAN_UPTIME, SHAPE, Hazard, hour_of

MIDNIGHT = Micros(20_000 * DAY)


def test_the_prior_of_an_unknown_host() -> None:
    hazard = Hazard()
    assert hazard.mean == 4 * HOUR
    assert Hazard("server").mean == 24 * HOUR
    scale = hazard.mean / math.gamma(1 + 1 / SHAPE)
    at_scale = hazard.expected(Micros(round(scale)), MIDNIGHT)
    assert abs(at_scale - scale / SHAPE) < 2, "there the rate is shape over scale"


@given(age=st.integers(0, 30 * DAY), more=st.integers(1, DAY))
def test_the_longer_a_host_is_up_the_safer_it_is(age: int, more: int) -> None:
    hazard = Hazard()
    assert hazard.expected(Micros(age), MIDNIGHT) <= hazard.expected(Micros(age + more), MIDNIGHT)
    assert hazard.expected(Micros(0), MIDNIGHT) == hazard.expected(AGE_MIN, MIDNIGHT) > 10 * MINUTE


def test_a_mean_is_learnt_from_uptime_and_failures() -> None:
    hazard = Hazard()
    for day in range(10):
        start = Micros(MIDNIGHT + day * DAY)
        hazard.live(start, Micros(start + DAY))
    assert hazard.mean == 10 * DAY + MEAN_UPTIME["home"]
    hazard.fail(MIDNIGHT)
    assert hazard.mean == (10 * DAY + MEAN_UPTIME["home"]) / 2


@given(start=st.integers(0, 10 * DAY), span=st.integers(0, 3 * DAY))
def test_time_lived_is_booked_whole_and_by_the_hour(start: int, span: int) -> None:
    hazard = Hazard()
    hazard.live(Micros(start), Micros(start + span))
    assert sum(hazard.lived) == span
    if span < HOUR and hour_of(Micros(start)) == hour_of(Micros(start + span)):
        assert hazard.lived[hour_of(Micros(start))] == span


def test_the_evening_in_which_a_host_always_leaves_is_learnt() -> None:
    """Up from 8 to 20 o'clock every day, gone then: the hour before is the dangerous one."""
    hazard = Hazard()
    for day in range(30):
        start = Micros(MIDNIGHT + day * DAY + 8 * HOUR)
        hazard.live(start, Micros(start + 12 * HOUR))
        hazard.fail(Micros(start + 12 * HOUR - 1))
    age = Micros(6 * HOUR)
    morning, evening = (hazard.expected(age, Micros(MIDNIGHT + hour * HOUR)) for hour in (9, 19))
    assert evening * 5 < morning
    assert hazard.expected(age, Micros(MIDNIGHT + 3 * HOUR)) < morning, "never seen at night: the plain law"


@given(
    lived=st.lists(st.integers(0, 2**50), min_size=HOURS, max_size=HOURS),
    failed=st.lists(st.integers(0, 1000), min_size=HOURS, max_size=HOURS),
    age=st.integers(0, 2**55),
    now=st.integers(0, 2**60),
)
def test_whatever_was_seen_the_expectation_is_a_span(lived: list[int], failed: list[int], age: int, now: int) -> None:
    hazard = Hazard("home", sum(failed), lived, failed)
    assert hazard.expected(Micros(age), Micros(now)) > 0
    assert wire.decode(wire.encode(hazard), wire.decoder(Hazard), PeerId(bytes(32))) == hazard
