"""The thermal and power policy, as a table and as a state machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from node.thermal import (
    DAY_MINUTES,
    NOTICE,
    OWNER_QUIET,
    RESUME_MARGIN_C,
    STOP_C,
    THROTTLE_C,
    WARN_C,
    Decision,
    Level,
    Policy,
    Reading,
    ThermalMachine,
    is_open,
)
from protocol.errors import Refused
from protocol.units import PPM, SECOND, Micros


def levels(machine: ThermalMachine, *degrees: int) -> list[Level]:
    return [machine.step(Reading(value), Micros(index * SECOND)).level for index, value in enumerate(degrees)]


def test_levels_rise_at_once_and_fall_with_a_margin() -> None:
    machine = ThermalMachine()
    assert levels(machine, 74, 75, 84, 85, 94, 95) == [
        Level.RUN, Level.WARN, Level.WARN, Level.THROTTLE, Level.THROTTLE, Level.STOP,
    ]  # fmt: skip
    assert levels(machine, 91, 90, 81, 80, 71, 70) == [
        Level.STOP, Level.THROTTLE, Level.THROTTLE, Level.WARN, Level.WARN, Level.RUN,
    ]  # fmt: skip


def test_the_owner_gets_the_card_after_ten_seconds_and_keeps_it_for_a_minute() -> None:
    machine, start = ThermalMachine(), Micros(1000 * SECOND)
    first = machine.step(Reading(40, owner_needs_gpu=True), start)
    assert (first.level, first.deadline) == (Level.PAUSE, start + NOTICE)
    again = machine.step(Reading(40, owner_needs_gpu=True), Micros(start + 5 * SECOND))
    assert again.deadline == start + NOTICE, "the notice does not start again"
    last = start + 5 * SECOND
    assert machine.step(Reading(40), Micros(last + OWNER_QUIET - 1)).level == Level.PAUSE
    assert machine.step(Reading(40), Micros(last + OWNER_QUIET)).level == Level.RUN


def test_an_owner_who_shares_is_not_asked() -> None:
    machine = ThermalMachine(Policy(yields_to_owner=False))
    assert machine.step(Reading(40, owner_needs_gpu=True), Micros(0)).level == Level.RUN


def test_power_is_brought_below_the_budget_and_does_not_flap() -> None:
    machine = ThermalMachine(Policy(power_budget_w=200))
    over = machine.step(Reading(40, power_w=250), Micros(0))
    assert (over.level, over.power_ppm) == (Level.THROTTLE, 800_000)
    assert machine.step(Reading(40, power_w=195), Micros(1)).level == Level.THROTTLE
    assert machine.step(Reading(40, power_w=190), Micros(2)).level == Level.RUN
    assert machine.step(Reading(40, power_w=200), Micros(3)).level == Level.RUN


def test_outside_the_hours_work_is_given_back() -> None:
    machine = ThermalMachine(Policy(hours=((22 * 60, 6 * 60),)))
    assert machine.step(Reading(40, minute=23 * 60), Micros(0)).level == Level.RUN
    closed = machine.step(Reading(40, minute=6 * 60), Micros(5))
    assert (closed.level, closed.deadline) == (Level.PAUSE, 5 + NOTICE)


@given(st.tuples(st.integers(0, DAY_MINUTES - 1), st.integers(1, DAY_MINUTES)), st.integers(0, DAY_MINUTES - 1))
def test_a_span_and_its_complement_cover_the_day(span: tuple[int, int], minute: int) -> None:
    start, end = span
    if start not in (end, end % DAY_MINUTES):
        assert is_open(((start, end),), minute) != is_open(((end % DAY_MINUTES, start or DAY_MINUTES),), minute)


@pytest.mark.parametrize(
    "values",
    [{"warn_c": 90}, {"throttle_c": 70}, {"stop_c": 80}, {"warn_c": 0}, {"hours": ((5, 5),)}, {"hours": ((-1, 5),)},
     {"hours": ((0, 1441),)}],
)  # fmt: skip
def test_impossible_policies_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(Refused) as caught:
        Policy(**values)  # type: ignore[arg-type]
    assert caught.value.code == "bad_policy"


class Weather(RuleBasedStateMachine):
    """Any readings in any order, against what must always hold."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = ThermalMachine(Policy(power_budget_w=300))
        self.now = Micros(0)
        self.reading = Reading(20)
        self.decision = Decision(Level.RUN)

    @rule(degrees=st.integers(0, 120), watts=st.integers(0, 600), owner=st.booleans(), seconds=st.integers(0, 100))
    def step(self, degrees: int, watts: int, owner: bool, seconds: int) -> None:
        self.now = Micros(self.now + seconds * SECOND)
        self.reading = Reading(degrees, watts, owner_needs_gpu=owner)
        self.decision = self.machine.step(self.reading, self.now)

    @invariant()
    def heat_is_never_ignored(self) -> None:
        degrees, level = self.reading.temperature_c, self.decision.level
        assert degrees < STOP_C or level == Level.STOP
        assert degrees < THROTTLE_C or level >= Level.THROTTLE
        assert degrees < WARN_C or level >= Level.WARN

    @invariant()
    def a_cool_idle_machine_works(self) -> None:
        reading = self.reading
        if (
            reading.temperature_c <= WARN_C - RESUME_MARGIN_C
            and reading.power_w < 285
            and not self.machine._owner_since
        ):
            assert self.decision.level == Level.RUN

    @invariant()
    def the_owner_is_served(self) -> None:
        assert not self.reading.owner_needs_gpu or self.decision.level >= Level.PAUSE

    @invariant()
    def numbers_make_sense(self) -> None:
        assert 0 <= self.decision.power_ppm <= PPM
        assert (self.decision.level == Level.RUN) == (self.decision.reason == "")
        assert self.decision.takes_work == (self.decision.level in {Level.RUN, Level.WARN})


TestWeather = Weather.TestCase
