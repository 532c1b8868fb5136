"""verifier/score.py: the scale between honest and cheating, and what it takes to draw it."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from protocol.errors import Refused
from protocol.proof import PPT, Tolerance
from protocol.units import PPM
from verifier.score import ACCEPT, GAP_MIN, HONEST_RUNS_MIN, SECOND, calibrate, rescaled, score

WIDE = Tolerance(t_ok=10**6, t_bad=10**10)
tolerances = st.tuples(st.integers(1, 10**10), st.integers(5, 10**4)).map(
    lambda pair: Tolerance(t_ok=pair[0], t_bad=min(1000 * PPT, pair[0] * pair[1]))
)
errors = st.floats(0, 1e6)


def test_the_ends_and_the_middle() -> None:
    assert [score(err, WIDE) for err in (0.0, 1e-7, 1e-6)] == [PPM, PPM, PPM]
    assert score(1e-4, WIDE) == PPM // 2
    assert [score(err, WIDE) for err in (1e-2, 0.5, 1e300)] == [0, 0, 0]


@pytest.mark.parametrize("err", [math.nan, math.inf, -math.inf, -1e-30])
def test_what_is_no_number_scores_nothing(err: float) -> None:
    assert score(err, WIDE) == 0
    assert rescaled(err, 1e-6, 1e-2, WIDE) == math.inf


def test_a_tolerance_without_room_scores_nothing() -> None:
    assert score(0.0, Tolerance(t_ok=5, t_bad=5)) == 0
    assert score(0.0, Tolerance(t_ok=5, t_bad=4)) == 0


@given(one=errors, other=errors, tolerance=tolerances)
def test_a_larger_error_never_scores_more(one: float, other: float, tolerance: Tolerance) -> None:
    low, high = sorted((one, other))
    assert 0 <= score(high, tolerance) <= score(low, tolerance) <= PPM


@given(tolerance=tolerances)
def test_cut_offs_lie_between_the_thresholds(tolerance: Tolerance) -> None:
    assert score(tolerance.t_ok / PPT, tolerance) >= ACCEPT > SECOND
    assert score(tolerance.t_bad / PPT * 1.001, tolerance) < SECOND


@given(share=st.floats(-1, 2), tolerance=tolerances)
def test_another_measure_has_the_same_score_on_the_scale(share: float, tolerance: Tolerance) -> None:
    own = Tolerance(t_ok=3_000_000, t_bad=50_000_000_000)
    err = 3e-6 * (5e-2 / 3e-6) ** share
    assert abs(score(rescaled(err, 3e-6, 5e-2, tolerance), tolerance) - score(err, own)) <= 2


def test_nothing_off_stays_nothing_off() -> None:
    assert score(rescaled(0.0, 3e-6, 5e-2, WIDE), WIDE) == PPM


@given(honest=st.floats(1e-9, 1e-3), cheat=st.floats(1e-9, 10))
def test_calibration_keeps_its_margins_or_refuses(honest: float, cheat: float) -> None:
    assume(abs(cheat / honest - 50) > 1e-3)
    runs = [honest * share for share in (0.1, 0.5, 1.0)] + [0.0] * HONEST_RUNS_MIN
    if cheat < 50 * honest:
        with pytest.raises(Refused) as refused:
            calibrate(runs, [cheat, 10 * cheat])
        assert refused.value.code == "no_margin"
        return
    try:
        found = calibrate(runs, [cheat, 10 * cheat], "here")
    except Refused as refusal:  # Both are so small that whole parts per trillion decide.
        assert refusal.code == "no_margin"
        assert cheat * PPT < 100_000
        return
    assert found.t_ok == pytest.approx(5 * honest * PPT, abs=1)
    assert found.t_bad == pytest.approx(cheat / 2 * PPT, abs=1)
    assert found.t_bad >= GAP_MIN * found.t_ok
    assert all(score(err, found) == PPM for err in runs)
    assert score(cheat, found) == 0


def test_too_few_runs_calibrate_nothing() -> None:
    with pytest.raises(Refused) as refused:
        calibrate([1e-7] * (HONEST_RUNS_MIN - 1), [1e-2])
    assert refused.value.code == "few_runs"
    with pytest.raises(Refused) as refused:
        calibrate([1e-7] * HONEST_RUNS_MIN, [])
    assert refused.value.code == "few_runs"


@pytest.mark.parametrize("odd", [math.nan, math.inf, -1.0])
def test_a_run_without_a_number_is_not_left_out(odd: float) -> None:
    for honest, cheats in (([1e-7] * 300 + [odd], [1e-2]), ([1e-7] * 300, [1e-2, odd])):
        with pytest.raises(Refused) as refused:
            calibrate(honest, cheats)
        assert refused.value.code == "not_finite"
