"""One clock: near the wall at the start, never back, blind to steps of the wall."""

from __future__ import annotations

import time

import pytest

import specs
from node.clock import Clock


def test_it_starts_at_the_wall() -> None:
    assert abs(Clock().now() - time.time_ns() // 1_000) < 1_000_000


def test_it_never_goes_back() -> None:
    clock = Clock()
    times = [clock.now() for _ in range(10_000)]
    assert times == sorted(times)


def test_a_step_of_the_wall_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    before, wall = clock.now(), time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: wall + 3_600_000_000_000)
    assert clock.now() - before < 60_000_000
    assert abs(clock.drift() - 3_600_000_000) < 60_000_000


def test_it_is_the_specified_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 5_000_000)
    monkeypatch.setattr(time, "monotonic_ns", lambda: 1_000_000)
    clock = Clock()
    monkeypatch.setattr(time, "monotonic_ns", lambda: 3_500_000)
    assert clock.now() == specs.load("01-units").functions["now"](5_000, 1_000, 3_500)
