"""The variance law: honest tiles keep it, cheaper ones do not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.verifier import tiles
from verifier.variance import Noise, broken, examine


def noise_of(aux: tiles.Tile) -> Noise:
    return examine(aux["sums"], aux["n"], aux.get("squares"))


@pytest.mark.parametrize("samples", [16, 64, 256])
def test_honest_tiles_keep_the_law(samples: int) -> None:
    found = [noise_of(tiles.honest(index, samples)) for index in range(4)]
    assert [broken(noise) for noise in found] == [""] * 4
    for noise in found:
        assert abs(noise.between - 1) < 5 * noise.between_sigma
        assert abs(noise.agreement) < 5 * noise.agreement_sigma
        assert noise.neighbours > 0.9


def test_two_hundred_honest_tiles_are_not_refused() -> None:
    seeds = [bytes([number]) * 32 for number in range(50)]
    found = [noise_of(tiles.honest(index, 16, seed)) for seed in seeds for index in range(4)]
    assert not [broken(noise) for noise in found if broken(noise)]
    between = [noise.between for noise in found]
    assert abs(np.mean(between) - 1) < 5 * found[0].between_sigma / math.sqrt(len(found))


@pytest.mark.parametrize(("share", "low", "high"), [(2, 1.8, 2.2), (4, 3.6, 4.4), (8, 8.5, 9.5)])
def test_fewer_samples_scatter_as_fewer_samples(share: int, low: float, high: float) -> None:
    noise = noise_of(tiles.few_samples(tiles.honest(), share))
    assert low < noise.between < high
    assert "scatter" in broken(noise)


def test_one_range_written_eight_times_does_not_scatter_at_all() -> None:
    aux = tiles.honest()
    same = {**aux, "sums": np.repeat(aux["sums"][:1], 8, axis=0)}
    assert "scatter" in broken(noise_of(same))


@pytest.mark.parametrize(("times", "least"), [(2, 0.4), (4, 0.6)])
def test_an_enlarged_tile_shares_its_noise(times: int, least: float) -> None:
    noise = noise_of(tiles.enlarged(tiles.honest(), times))
    assert noise.agreement > least
    assert "share" in broken(noise)


def test_a_smoothed_tile_breaks_the_law_with_squares_and_without() -> None:
    smooth = tiles.smoothed(tiles.honest())
    assert noise_of(smooth).between < 0.3 and broken(noise_of(smooth))
    del smooth["squares"]
    noise = noise_of(smooth)
    assert math.isnan(noise.between) and math.isnan(noise.neighbours)
    assert noise.agreement > 0.3 and "share" in broken(noise)


def test_a_smooth_mean_with_honest_looking_ranges_is_too_smooth_for_its_noise() -> None:
    aux = tiles.honest()
    mean = tiles.smoothed({"n": aux["n"], "sums": aux["sums"].mean(axis=0, keepdims=True)})["sums"][0]
    mean = tiles.smoothed({"n": aux["n"], "sums": np.stack([mean])})["sums"][0]
    shifted = aux["sums"] - aux["sums"].mean(axis=0) + mean
    smooth = {"n": aux["n"], "sums": shifted, "squares": aux["squares"]}
    flat = np.full_like(shifted, 0.0) + (aux["sums"] - aux["sums"].mean(axis=0)) + 5e6
    assert noise_of(smooth).neighbours < noise_of(aux).neighbours
    squares = np.square(flat.sum(axis=0)) / 64 + (aux["squares"] - np.square(aux["sums"].sum(axis=0)) / 64.0)
    noise = noise_of({"n": aux["n"], "sums": flat, "squares": squares})
    assert noise.between == pytest.approx(1, abs=0.1) and noise.neighbours < 0.1
    assert "differ from their neighbours" in broken(noise)


def test_a_tile_without_noise_says_nothing() -> None:
    flat = {"n": np.full(8, 8), "sums": np.full((8, 32, 32, 3), 800), "squares": np.full((32, 32, 3), 640_000)}
    assert broken(noise_of(flat)) == ""
    sums = flat["sums"] / 3.0 * (1 + 1e-15 * np.arange(8)[:, None, None, None])
    assert broken(noise_of({"n": flat["n"], "sums": sums})) == ""


def test_noise_between_ranges_and_none_inside_them_is_impossible() -> None:
    aux = tiles.honest()
    squares = np.square(aux["sums"].astype(np.float64).sum(axis=0)) / 64
    assert broken(noise_of({**aux, "squares": squares}))


@pytest.mark.parametrize("shape", [(8, 1, 1, 3), (2, 2, 2, 3)])
def test_small_tiles_are_not_judged(shape: tuple[int, ...]) -> None:
    sums = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    assert broken(examine(sums, np.full(shape[0], 4), sums[0] ** 2)) == ""
