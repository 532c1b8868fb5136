"""Segments and sweeps compared: what passes, what does not, and how long a segment may be."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Refused
from protocol.proof import Tolerance
from verifier.scientific import change_error, check_canaries, compare, detection, lyapunov, segment_length
from verifier.tensors import Array

ARGON = Tolerance(t_ok=30_000_000, t_bad=340_000_000, profile="openmm/argon")
DICE = np.random.default_rng(5)
Numbers = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
State = dict[str, Numbers]


def segment() -> tuple[State, State]:
    """Positions and velocities of a thousand particles before and after a segment, and what was kept."""
    x, v = DICE.normal(size=(1000, 3)) * 10, DICE.normal(size=(1000, 3)) * 0.2
    before: State = {"x": x, "v": v, "history": np.array([[-5.0, 2.0]]), "step": np.array([100])}
    moved = {"x": x + 0.2 * v, "v": v + DICE.normal(size=v.shape) * 0.1, "step": np.array([200])}
    return before, {**moved, "history": np.array([[-5.0, 2.0], [-5.0, 2.1]])}


def code(before: State, claimed: State | None, replayed: State | None, aux: State | None = None) -> str:
    return compare(before, claimed, replayed, aux or {}, aux or {}, ARGON).code


def with_(state: State, **tensors: Array) -> State:
    return {**state, **cast("State", tensors)}


def test_equal_segments_and_those_that_differ_by_rounding_pass() -> None:
    before, after = segment()
    assert compare(before, after, after, {}, {}, ARGON).err == 0.0
    assert code(before, with_(after, x=after["x"] + 1e-7), after) == "within_tolerance"
    assert code(before, after, after, {"invariants": np.array([-5.0, 2.1])}) == "within_tolerance"


def test_returning_the_start_is_an_error_of_one_and_more() -> None:
    before, after = segment()
    lazy = with_(after, x=before["x"], v=before["v"])
    found = compare(before, lazy, after, {}, {}, ARGON)
    assert found.code == "segment_differs" and found.err > 1
    cosine = float((before["x"] * after["x"]).sum() / np.linalg.norm(before["x"]) / np.linalg.norm(after["x"]))
    assert cosine > 0.9999


def test_one_particle_cannot_hide_among_a_thousand() -> None:
    before, after = segment()
    x = after["x"].copy()
    x[417, 1] += 1e-3
    relative = float(np.linalg.norm(x - after["x"]) / np.linalg.norm(after["x"]))
    assert relative < 1e-5
    assert code(before, with_(after, x=x), after) == "segment_differs"


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("step", np.array([201]), "segment_differs"),
        ("history", np.array([[-5.0, 2.0], [-4.9, 2.1]]), "segment_differs"),
        ("history", np.array([[-5.1, 2.0], [-5.0, 2.1]]), "rows_differ"),
        ("v", np.full((1000, 3), np.nan), "not_finite"),
        ("v", np.zeros((1000, 2)), "shape_differs"),
        ("x", np.zeros((1000, 3), np.float32), "shape_differs"),
        ("more", np.zeros(1), "shape_differs"),
    ],
)
def test_every_difference_has_its_word(name: str, change: Array, expected: str) -> None:
    before, after = segment()
    assert code(before, with_(after, **{name: change}), after) == expected


def test_history_grows_by_one_row() -> None:
    before, after = segment()
    longer = with_(after, history=np.zeros((4, 2)))
    assert code(before, longer, longer) == "rows_differ"
    assert code(before, None, after) == code(before, after, None) == "shape_differs"


def test_a_sweeps_row_is_compared_in_parts_of_itself() -> None:
    before: State = {"rows": np.ones((3, 2))}
    after: State = {"rows": np.vstack([np.ones((3, 2)), [[1e-3, 5.0]]])}
    near: State = {"rows": np.vstack([np.ones((3, 2)), [[1e-3, 5.0 * (1 + 1e-8)]]])}
    far: State = {"rows": np.vstack([np.ones((3, 2)), [[1e-3, 5.1]]])}
    assert code(before, near, after) == "within_tolerance"
    assert code(before, far, after) == "segment_differs"


@given(
    kinds=st.lists(st.sampled_from(["f4", "f8", "i8", "u1", "?"]), min_size=4, max_size=4),
    shapes=st.lists(st.lists(st.integers(0, 3), max_size=3), min_size=4, max_size=4),
    names=st.lists(st.sampled_from(["rows", "history", "x"]), min_size=4, max_size=4),
)
def test_whatever_strangers_send_is_answered(kinds: list[str], shapes: list[list[int]], names: list[str]) -> None:
    assert code({}, {}, {}) == "shape_differs"
    made = [{name: np.ones(shape, kind)} for name, shape, kind in zip(names, shapes, kinds, strict=True)]
    found = compare(made[0], made[1], made[2], made[3], made[3], ARGON)
    assert found.code and found.err >= 0


def test_a_change_from_nothing_is_measured_in_parts_of_the_result() -> None:
    assert change_error(None, np.array([1.01]), np.array([1.0])) == pytest.approx(0.01)
    assert change_error(np.zeros(2), np.zeros(2), np.zeros(2)) == 0.0
    assert change_error(np.zeros(2), np.ones(2), np.zeros(2)) == math.inf


def logistic(start: float, steps: int) -> list[float]:
    found = [start]
    for _ in range(steps):
        found.append(4.0 * found[-1] * (1.0 - found[-1]))
    return found


def test_the_growth_of_a_known_chaos_is_found() -> None:
    """x → 4x(1 − x) has the exponent ln 2; averaged over starts, since one orbit is short."""
    growths = []
    for start in DICE.uniform(0.1, 0.9, 40):
        apart = np.abs(np.subtract(logistic(start, 60), logistic(start + 1e-12, 60)))
        growths.append(lyapunov(apart))
    assert np.mean(growths) == pytest.approx(math.log(2), rel=0.1)


def test_the_length_of_a_segment_is_where_rounding_stays_below_the_tolerance() -> None:
    length = segment_length(1e-7, 0.05, 1.4e-4)
    assert 1e-7 * math.exp(0.05 * length) < 1.4e-4 <= 1e-7 * math.exp(0.05 * (length + 1))
    assert length == 144
    found = [abs(a - b) for a, b in zip(logistic(0.3, 30), logistic(0.3 + 1e-12, 30), strict=True)]
    safe = segment_length(1e-12, math.log(2), 1e-4)
    assert max(found[: safe - 2]) < 1e-4 < max(found)


@pytest.mark.parametrize(("rounding", "growth", "t_ok"), [(1e-3, 0.1, 1e-4), (1e-5, 10.0, 1e-4)])
def test_a_system_that_is_lost_at_once_is_refused(rounding: float, growth: float, t_ok: float) -> None:
    with pytest.raises(Refused) as caught:
        segment_length(rounding, growth, t_ok)
    assert caught.value.code == "no_margin"


def test_a_growth_takes_three_points() -> None:
    with pytest.raises(Refused) as caught:
        lyapunov([1e-9, 1e-8])
    assert caught.value.code == "no_growth_seen"
    assert lyapunov([1e-9] * 10) < 1e-9
    with pytest.raises(ValueError, match="no segment"):
        segment_length(0.0, 0.1, 1.0)


def test_planted_points_of_a_sweep() -> None:
    rows = DICE.normal(size=(50, 2))
    answers = {3: rows[3] * (1 + 1e-9), 41: rows[41]}
    assert check_canaries({"rows": rows}, answers, 1e-6).code == "within_tolerance"
    wrong = rows.copy()
    wrong[41] += 0.1
    found = check_canaries({"rows": wrong}, answers, 1e-6)
    assert found.code == "canary_wrong" and "point 41" in found.detail
    assert check_canaries({"rows": wrong * np.nan}, answers, 1e-6).code == "canary_wrong"
    assert check_canaries({"rows": rows[:10]}, answers, 1e-6).code == "shape_differs"
    assert check_canaries({}, answers, 1e-6).code == "shape_differs"


def test_detection_is_what_planting_finds() -> None:
    dice = np.random.default_rng(1)
    caught = [bool((dice.random(12) < 0.1).any()) for _ in range(4000)]
    assert np.mean(caught) == pytest.approx(detection(0.1, 12), abs=0.03)
