"""The simulated clock is exact, and it is the node's clock: the same under steps, sleep, drift and restarts."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.clock import Clock as NodeClock
from protocol.errors import Refused
from protocol.units import SECOND, Micros
from simulations.clock import START, Clock

SECOND_NS = 1_000_000_000
DAY_NS = 86_400 * SECOND_NS

drifts = st.floats(-500.0, 500.0)
offsets = st.integers(-DAY_NS, DAY_NS)
times = st.integers(0, 30 * DAY_NS)


def test_a_perfect_clock_shows_true_time() -> None:
    clock = Clock()
    assert clock.read(0) == START
    assert clock.read(1_999) == START + 1
    assert clock.read(3 * SECOND_NS) == START + 3 * SECOND


def test_offset_and_drift_are_exact() -> None:
    assert Clock(offset_ns=-5_000).read(0) == START - 5
    fast = Clock(drift_ppm=500.0)
    assert fast.read(1_000 * SECOND_NS) == START + 1_000 * SECOND + 500_000
    fast.drift(-500.0, 1_000 * SECOND_NS)
    assert fast.read(2_000 * SECOND_NS) == START + 2_000 * SECOND


@given(offset=offsets, drift=drifts, moments=st.lists(times, min_size=2))
def test_reading_never_goes_back(offset: int, drift: float, moments: list[int]) -> None:
    clock = Clock(offset, drift)
    shown = [clock.read(now) for now in sorted(moments)]
    assert shown == sorted(shown)


@given(offset=offsets, drift=drifts, at=times, then=drifts, asleep=st.integers(0, DAY_NS), ahead=st.integers(1, DAY_NS))
def test_when_is_the_exact_inverse(offset: int, drift: float, at: int, then: float, asleep: int, ahead: int) -> None:
    clock = Clock(offset, drift)
    clock.drift(then, at)
    clock.suspend(at + asleep, at)
    local = Micros(clock.read(at) + ahead)
    due = clock.when(local)
    assert due > at + asleep
    assert clock.read(due) >= local
    assert clock.read(due - 1) < local


def test_what_was_already_shown_is_due_at_the_last_change() -> None:
    clock = Clock()
    clock.drift(10.0, 7 * SECOND_NS)
    assert clock.when(START) == 7 * SECOND_NS


def test_a_running_node_sees_no_step_and_a_restarted_one_does() -> None:
    clock = Clock()
    clock.jump(-288.0, 10 * SECOND_NS)
    assert clock.read(11 * SECOND_NS) == START + 11 * SECOND
    assert clock.ahead() == -288 * SECOND
    clock.restart(12 * SECOND_NS)
    assert clock.read(12 * SECOND_NS) == START + (12 - 288) * SECOND
    assert clock.ahead() == 0


def test_sleep_leaves_the_node_behind_until_it_restarts() -> None:
    clock = Clock()
    clock.suspend(60 * SECOND_NS, 10 * SECOND_NS)
    assert clock.read(59 * SECOND_NS) == START + 10 * SECOND
    assert clock.read(61 * SECOND_NS) == START + 11 * SECOND
    clock.restart(70 * SECOND_NS)
    assert clock.read(70 * SECOND_NS) == START + 70 * SECOND


events = st.lists(
    st.one_of(
        st.tuples(st.just("jump"), st.integers(-400, 400)),
        st.tuples(st.just("sleep"), st.integers(0, 3_600)),
        st.tuples(st.just("restart"), st.just(0)),
        st.tuples(st.just("run"), st.integers(0, 100_000_000_000)),
    ),
    max_size=30,
)


@given(history=events)
def test_it_is_the_nodes_clock(history: list[tuple[str, int]]) -> None:
    """The real one, on a host whose wall and monotonic time do what Linux does, after the same history."""
    wall, monotonic, now = START * 1_000, 5 * DAY_NS, 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: wall)
        patch.setattr(time, "monotonic_ns", lambda: monotonic)
        real, model = NodeClock(), Clock()
        for name, value in history:
            if name == "jump":
                wall += value * SECOND_NS
                model.jump(float(value), now)
            elif name == "sleep":
                model.suspend(now + value * SECOND_NS, now)
                wall, now = wall + value * SECOND_NS, now + value * SECOND_NS
            elif name == "restart":
                real = NodeClock()
                model.restart(now)
            else:
                wall, monotonic, now = wall + value, monotonic + value, now + value
            assert (model.read(now), model.ahead()) == (real.now(), real.drift())


@pytest.mark.parametrize("ppm", [1e6, -1e6, float("nan"), float("inf")])
def test_a_drift_that_no_clock_has_is_refused(ppm: float) -> None:
    with pytest.raises(Refused) as caught:
        Clock(drift_ppm=ppm)
    assert caught.value.code == "bad_drift" and caught.value.fix
