"""The failure detector: three states, and no death without silence."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.liveness import HEALTH_MAX, PHI_MAX, SILENCE_DEAD, WINDOW, Alive, Dead, Detector, Unknown
from protocol.units import SECOND, Micros

START = Micros(1_000 * SECOND)


def regular(count: int = 20, interval: int = SECOND) -> Detector:
    detector = Detector(START)
    for number in range(1, count + 1):
        detector.beat(Micros(START + number * interval))
    return detector


@pytest.mark.parametrize(
    ("silence_ms", "state"),
    [(0, Alive), (1000, Alive), (1600, Alive), (1700, Unknown), (2000, Unknown), (4999, Unknown), (5000, Dead)],
)
def test_a_regular_peer_falls_silent(silence_ms: int, state: type) -> None:
    detector = regular()
    assert type(detector.state(Micros(detector.last + silence_ms * 1000))) is state


def test_a_peer_that_never_beats_counts_from_the_start() -> None:
    detector = Detector(START)
    assert isinstance(detector.state(Micros(START + SECOND)), Alive)
    assert isinstance(detector.state(Micros(START + 2 * SECOND)), Unknown)
    assert isinstance(detector.state(Micros(START + 5 * SECOND)), Dead)


def test_an_irregular_peer_is_given_more_time() -> None:
    detector = Detector(START)
    now = START
    for number in range(100):
        now = Micros(now + (4 * SECOND if number % 2 else SECOND // 2))
        detector.beat(now)
    assert isinstance(detector.state(Micros(now + 6 * SECOND)), Unknown)
    assert isinstance(detector.state(Micros(now + 14 * SECOND)), Dead)


def test_no_habit_makes_anybody_immortal() -> None:
    detector = regular(count=2 * WINDOW, interval=600 * SECOND)
    assert isinstance(detector.state(Micros(detector.last + 20 * SECOND)), Dead)


def test_the_observers_own_lateness_slows_its_judgement() -> None:
    detector = regular()
    late = Micros(detector.last + 39 * SECOND)
    assert isinstance(detector.state(late), Dead)
    assert isinstance(detector.state(late, HEALTH_MAX), Unknown)
    assert isinstance(detector.state(Micros(late + SECOND), HEALTH_MAX), Dead)
    assert detector.state(late, 99) == detector.state(late, HEALTH_MAX)


def test_a_goodbye_is_believed_unless_beats_go_on() -> None:
    detector = regular()
    detector.goodbye(detector.last)
    assert isinstance(detector.state(detector.last), Unknown)
    assert isinstance(detector.state(Micros(detector.last + 2 * SECOND)), Dead)
    detector.beat(Micros(detector.last + SECOND))
    assert isinstance(detector.state(Micros(detector.last + SECOND)), Alive)


def test_a_span_without_looking_is_not_silence() -> None:
    detector = regular()
    woken = Micros(detector.last + 60 * SECOND)
    detector.excuse(Micros(59 * SECOND), woken)
    assert isinstance(detector.state(woken), Alive)
    detector.excuse(Micros(10**12), woken)
    assert detector.last == woken


@given(
    silences=st.lists(st.integers(0, 10**9), min_size=2, max_size=20),
    beats=st.lists(st.integers(0, 10**8), max_size=250),
)
def test_suspicion_grows_with_silence(silences: list[int], beats: list[int]) -> None:
    detector, now = Detector(START), START
    for interval in beats:
        now = Micros(now + interval)
        detector.beat(now)
    levels = [detector.phi(Micros(silence)) for silence in sorted(silences)]
    assert levels == sorted(levels)
    assert all(0.0 <= level <= PHI_MAX for level in levels)


@given(beats=st.lists(st.integers(0, 10**8), max_size=250), silence=st.integers(0, 10**8), health=st.integers(1, 8))
def test_nobody_is_dead_before_five_seconds(beats: list[int], silence: int, health: int) -> None:
    detector, now = Detector(START), START
    for interval in beats:
        now = Micros(now + interval)
        detector.beat(now)
    state = detector.state(Micros(now + silence), health)
    assert state.silence == silence
    if isinstance(state, Dead):
        assert silence >= SILENCE_DEAD * health


def test_a_lossy_wire_kills_nobody() -> None:
    """One beat in twenty lost, delays up to 300 ms, for an hour: the detector may doubt, it never buries."""
    dice, detector = Random(3), Detector(START)
    arrivals = sorted(START + n * SECOND + dice.randrange(300_000) for n in range(1, 3_600) if dice.random() > 0.05)
    dead = 0
    for arrival in arrivals:
        dead += isinstance(detector.state(Micros(arrival)), Dead)
        detector.beat(Micros(arrival))
    assert dead == 0
