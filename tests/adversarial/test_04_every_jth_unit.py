"""Attack 04: leave out every j-th unit and compute all others honestly."""

from __future__ import annotations

from math import comb

import pytest

from simulations.units import EXACT
from tests.verifier.unit_court import UnitCourt, skipping, unit_job
from verifier.challenge import fixed

UNITS, SAMPLES = 24, 6
TRIALS = 250


def escapes(units: int, bad: int, uniform: int) -> float:
    """Chance that none of `uniform` units, drawn without replacement from those that are not fixed, is bad."""
    return comb(units - bad, uniform) / comb(units, uniform)


@pytest.mark.parametrize("every", [8, 4])
def test_it_is_caught_as_often_as_the_samples_promise(every: int) -> None:
    """The cheat knows which units are always looked at, and leaves those alone."""
    bad = tuple(range(2, UNITS - 1, every))
    spec, caught = unit_job(count=UNITS, samples=SAMPLES), 0
    for beacon in range(1, TRIALS + 1):
        court = UnitCourt(spec, skipping(*bad)).begin(beacon).unfold()
        assert court.case.unfolded is not None
        caught += bool(set(court.case.unfolded.indices) & set(bad))
    # Of the fixed units two are honest ends; the third is drawn among equals, so it is one more chance.
    uniform = SAMPLES - fixed(SAMPLES) + 1
    expected = 1 - escapes(UNITS - 2, len(bad), uniform)
    spread = (expected * (1 - expected) / TRIALS) ** 0.5
    assert abs(caught / TRIALS - expected) < 4 * spread


def test_whoever_is_caught_loses_all_and_not_a_part() -> None:
    spec = unit_job(count=UNITS, samples=UNITS)
    assert UnitCourt(spec, skipping(9)).judged(EXACT, EXACT) == ("fraud", "unit_differs", True)
    assert UnitCourt(spec, skipping(*range(UNITS))).judged(EXACT, EXACT) == ("fraud", "unit_differs", True)


def test_chain_continuity_a_state_cannot_be_swapped_between_two_units() -> None:
    """The state behind a unit is the state before the next: one leaf, which cannot say two things."""
    court = UnitCourt(unit_job(count=UNITS, samples=UNITS)).begin().unfold()
    court.replay()
    court.show()
    assert court.case.unfolded is not None
    assert set(court.case.unfolded.leaves) == set(range(UNITS + 1))


def test_the_honest_twin_is_accepted() -> None:
    spec = unit_job(count=UNITS, samples=SAMPLES)
    for beacon in range(1, 20):
        assert UnitCourt(spec).judged(EXACT, beacon=beacon) == ("accept", "units_equal", True)
