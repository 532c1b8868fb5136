"""The comparison of tiles: what passes, what does not, and under which name."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.proof import Tolerance
from tests.verifier import tiles
from verifier.rendering import apart, compare
from verifier.score import ACCEPT, SECOND, score
from verifier.tensors import Array

LOOSE = Tolerance(t_ok=1_200_000_000, t_bad=13_000_000_000)


def judged(aux: tiles.Tile, ours: tiles.Tile | None = None, tolerance: Tolerance = tiles.EXACT) -> tuple[str, int]:
    before, after = tiles.states(aux)
    found = compare(before, after, None, aux, ours or tiles.replayed(), tolerance)
    return found.code, score(found.err, tolerance)


def test_an_honest_tile_is_equal_to_the_bit() -> None:
    for challenge in (b"a", b"b", b"c"):
        before, after = tiles.states(tiles.honest())
        found = compare(before, after, None, tiles.honest(), tiles.replayed(challenge=challenge), tiles.EXACT)
        assert (found.code, found.err) == ("within_tolerance", 0.0)


def test_a_whole_replay_is_compared_as_well() -> None:
    assert judged(tiles.honest(), tiles.honest()) == ("within_tolerance", 10**6)
    aux = tiles.honest()
    aux["sums"][3, 5:9, 5:9] = 0
    assert judged(aux, tiles.honest())[0] != "within_tolerance"


def test_last_bits_pass_within_a_tolerance() -> None:
    aux = {name: array.astype(np.float64) if name != "n" else array for name, array in tiles.honest().items()}
    aux["sums"] *= 1 + 2e-5 * np.sin(np.arange(aux["sums"].size)).reshape(aux["sums"].shape)
    assert judged(aux, tolerance=LOOSE) == ("within_tolerance", 10**6)
    assert judged(aux)[0] == "pixels_differ"


def test_one_lost_path_passes_and_a_wrong_picture_does_not() -> None:
    aux = tiles.honest()
    ours = tiles.replayed()
    chosen = int(ours["pixels"][7])
    aux["sums"][0].reshape(-1, 3)[chosen] += 3 << 14
    assert judged(aux, ours, LOOSE)[1] >= ACCEPT
    assert judged(tiles.honest(seed=b"\1" * 32), tolerance=LOOSE) == ("pixels_differ", 0)


def test_dimmer_by_a_hundredth_is_refused() -> None:
    aux = tiles.honest()
    dim = {"n": aux["n"], "sums": aux["sums"] * 0.99, "squares": aux["squares"] * 0.99**2}
    code, points = judged(dim, tolerance=LOOSE)
    assert code == "pixels_differ" and points < SECOND


@pytest.mark.parametrize("counts", [[4] * 8, [8] * 7 + [7], [16] * 4])
def test_another_number_of_samples_has_its_own_name(counts: list[int]) -> None:
    aux = tiles.honest()
    aux["n"] = np.array(counts)
    aux["sums"] = aux["sums"][: len(counts)]
    assert judged(aux)[0] == "too_few_samples"


@pytest.mark.parametrize(
    "cheat", [lambda aux: tiles.few_samples(aux, 4), lambda aux: tiles.enlarged(aux, 2), tiles.smoothed]
)
def test_cheaper_tiles_break_the_law_before_any_pixel_is_compared(cheat) -> None:  # type: ignore[no-untyped-def]
    assert judged(cheat(tiles.honest()), tolerance=LOOSE) == ("variance_law", 0)


@pytest.mark.parametrize("factor", [2.0, 0.999, 0.0, -1.0])
def test_a_picture_brighter_than_its_sums(factor: float) -> None:
    aux = tiles.honest()
    before, after = tiles.states(aux)
    after["rows"][2] *= factor
    for said in (1.0, float(1 << 20) / max(factor, 1e-3)):
        told = {**aux, "scale": np.array([said])}
        assert compare(before, after, None, told, tiles.replayed(), LOOSE).code == "rows_differ"


def test_a_row_that_is_not_the_mean_of_its_sums() -> None:
    aux = tiles.honest()
    before, after = tiles.states(aux)
    after["rows"][2, 4, 4] = 1.0
    assert compare(before, after, None, aux, tiles.replayed(), LOOSE).code == "rows_differ"


@pytest.mark.parametrize("change", ["an earlier tile", "one too many", "none", "torn"])
def test_tiles_that_were_done_stay(change: str) -> None:
    aux, ours = tiles.honest(), tiles.replayed()
    before, after = tiles.states(aux)
    if change == "an earlier tile":
        after["rows"][0, 3, 3] = 0.25
    elif change == "one too many":
        after["rows"] = np.concatenate([after["rows"], after["rows"][-1:]])
    elif change == "none":
        after["rows"] = before["rows"]
    else:
        ours["torn"] = np.array([1], np.uint8)
    assert compare(before, after, None, aux, ours, LOOSE).code in ("rows_differ", "shape_differs")


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["sums", "squares", "rows"])
def test_what_is_no_number_is_refused_first(where: str, value: float) -> None:
    aux = {name: array.astype(np.float64) if name != "n" else array for name, array in tiles.honest().items()}
    before, after = tiles.states(aux)
    (after if where == "rows" else aux)[where].reshape(-1)[5] = value
    found = compare(before, after, None, aux, tiles.replayed(), LOOSE)
    assert (found.code, found.err) == ("not_finite", math.inf)


MISSHAPEN: list[tuple[str, Array]] = [
    ("sums", np.zeros((8, 32, 32))),
    ("sums", np.zeros((0, 32, 32, 3))),
    ("sums", np.zeros((8, 16, 16, 3))),
    ("n", np.zeros(8, np.int64)),
    ("n", np.full(8, 8.0)),
    ("n", np.full((8, 1), 8)),
    ("squares", np.zeros(3)),
]


@pytest.mark.parametrize(("name", "array"), MISSHAPEN)
def test_other_shapes_are_refused(name: str, array: Array) -> None:
    aux = {**tiles.honest(), name: array}
    before, after = tiles.states(tiles.honest())
    assert compare(before, after, None, aux, tiles.replayed(), LOOSE).code == "shape_differs"


OURS: list[tuple[str, Array]] = [
    ("pixels", np.array([1024])),
    ("pixels", np.array([-1])),
    ("pixels", np.array([0.5])),
    ("pixels", np.array([], np.int64)),
    ("range", np.array([8])),
    ("range", np.array([0, 1])),
    ("pixel_sums", np.zeros((8, 64))),
    ("pixel_squares", np.zeros((63, 3))),
    ("range_sums", np.zeros((31, 32, 3))),
    ("sums", np.zeros((1, 1, 1, 3))),
    ("scale", np.zeros(1)),
    ("scale", np.array([1])),
    ("scale", np.ones(2)),
]


@pytest.mark.parametrize(("name", "array"), OURS)
def test_an_auditors_tensors_are_not_trusted_either(name: str, array: Array) -> None:
    assert judged(tiles.honest(), cast("tiles.Tile", {**tiles.replayed(), name: array}))[0] == "shape_differs"


def test_an_audit_that_computed_nothing_proves_nothing() -> None:
    assert judged(tiles.honest(), {name: tiles.honest()[name] for name in ("n", "scale")})[0] == "shape_differs"
    before, _ = tiles.states(tiles.honest())
    assert compare(before, None, None, tiles.honest(), tiles.replayed(), LOOSE).code == "shape_differs"


@given(
    names=st.lists(
        st.sampled_from(["rows", "sums", "n", "squares", "pixels", "pixel_sums", "range", "range_sums"]), max_size=8
    ),
    shapes=st.lists(st.lists(st.integers(0, 4), max_size=4), min_size=8, max_size=8),
    kinds=st.lists(st.sampled_from(["f4", "f8", "i8", "u8", "u1", "?"]), min_size=8, max_size=8),
    data=st.integers(0, 2**32),
)
def test_whatever_strangers_send_is_answered(
    names: list[str], shapes: list[list[int]], kinds: list[str], data: int
) -> None:
    dice = np.random.default_rng(data)
    made = {
        name: dice.integers(0, 9, shape).astype(kind) for name, shape, kind in zip(names, shapes, kinds, strict=False)
    }
    found = compare(made, made, None, made, made, LOOSE)
    assert found.code and found.err >= 0


def test_distance_of_dark_pixels_is_absolute() -> None:
    light = np.full((2000, 3), 100.0)
    light[5] = 1e-6
    other = light.copy()
    other[5] = 2e-6
    assert apart(other, light) < 1e-7
    assert apart(np.zeros((4, 3)), np.zeros((4, 3))) == 0.0
    assert apart(np.ones((4, 3)), np.zeros((4, 3))) == math.inf
    assert apart(np.zeros((0, 3)), np.zeros((0, 3))) == math.inf
