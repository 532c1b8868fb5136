"""The variance law of a picture made of random samples: what honest noise looks like, told without rendering anything.

The samples of a tile are summed in R ranges. Three facts about independent samples then follow from what is claimed:

    between      the means of the ranges scatter as the samples inside them do: their ratio F is 1
    whiteness    the difference of two halves of the samples has no picture in it, only noise: neighbours do not agree
    neighbours   a pixel differs from its neighbours at least as much as its own noise makes it

A frame with fewer samples breaks the first, a frame enlarged or smoothed the second and the third. Who invents noise
of the right size passes all three: the law is an alarm before the replay, not instead of it.
Spec: specs/35-rendering-proof.md.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from verifier.tensors import Array

Floats = npt.NDArray[np.float64]

SIGMAS: Final = 6.0
"""Standard deviations beyond which a tile is refused: by chance 1e-9 per test, one tile in 10^8."""

BETWEEN_MARGIN: Final = 0.1
"""How far F may be from 1 on top of chance: samples of one range follow one another in a sequence."""

WHITE_MARGIN: Final = 0.1
"""Agreement of neighbours that is allowed on top of nothing: enlarging twice shows 0.5, a 3 × 3 blur 0.4."""

NEIGHBOURS_MIN: Final = 0.7
"""Smallest mean square of a pixel's difference from its neighbours, in what its noise alone makes: honest 1 or more."""

PLACES_MIN: Final = 200
"""Pixels with noise that a statement about noise needs."""

QUIET: Final = 1e-6
"""Relative difference of two halves below which a pixel has no noise: rounding agrees everywhere."""

RATIO_MAX: Final = 9.0
"""A single pixel counts at most so much among the neighbours: an edge is no noise."""


class Noise(Struct, frozen=True):
    """What the three tests measured; `nan` where a test does not apply."""

    between: float
    """F: 1 for independent samples, 0 for one range written R times, 16 for a sixteenth of the samples."""
    between_sigma: float
    """Standard deviation of F by chance."""
    agreement: float
    """Largest mean agreement of neighbours in direction of the noise: 0 for independent pixels."""
    agreement_sigma: float
    neighbours: float
    """Mean square of differences from neighbours in units of the implied noise: 1 or more."""


def examine(sums: Array, counts: Array, squares: Array | None) -> Noise:
    """Measure a tile: `sums` (R, height, width, 3) and finite, `counts` (R,) positive, `squares` of all samples."""
    wide = np.asarray(sums, np.float64)
    sizes = np.asarray(counts, np.float64)
    with np.errstate(all="ignore"):
        between, between_sigma = _between(wide, sizes, squares)
        agreement, agreement_sigma = _agreement(wide, sizes)
        neighbours = _neighbours(wide, sizes, squares)
    return Noise(between, between_sigma, agreement, agreement_sigma, neighbours)


def broken(noise: Noise) -> str:
    """Which part of the law a tile breaks, one sentence; empty when none."""
    room = BETWEEN_MARGIN + SIGMAS * noise.between_sigma
    if abs(noise.between - 1.0) > room:
        return f"ranges of samples scatter {noise.between:.3f} times as much as their samples, not 1 ± {room:.3f}"
    limit = max(WHITE_MARGIN, SIGMAS * noise.agreement_sigma)
    if noise.agreement > limit:
        return f"neighbours share {noise.agreement:.3f} of their noise, at most {limit:.3f} is chance"
    if noise.neighbours < NEIGHBOURS_MIN:
        return f"pixels differ from their neighbours by {noise.neighbours:.3f} of their own noise"
    return ""


def _variance(sums: Floats, sizes: Floats, squares: Array | None) -> Floats | None:
    """Variance of one sample, per pixel and colour; None where nobody added up squares. Never negative."""
    total = float(sizes.sum())
    if squares is None or total < 2:
        return None
    whole = sums.sum(axis=0)
    variance: Floats = np.maximum(np.asarray(squares, np.float64) - whole * whole / total, 0.0) / (total - 1.0)
    return variance


def _between(sums: Floats, sizes: Floats, squares: Array | None) -> tuple[float, float]:
    """F, and its standard deviation. Its mean is 1 exactly, whatever the samples' distribution: a range is a random
    part of them."""
    variance = _variance(sums, sizes, squares)
    ranges = len(sizes)
    if variance is None or ranges < 2:
        return math.nan, 0.0
    weights = sizes[:, None, None, None]
    mean = sums.sum(axis=0) / sizes.sum()
    scatter = (weights * np.square(sums / weights - mean)).sum(axis=0) / (ranges - 1)
    noisy = variance > np.square(QUIET * mean)
    places = int(noisy.any(axis=-1).sum())
    if places < PLACES_MIN:
        return (0.0 if _pretends(scatter, variance) else math.nan), 0.0
    # The three colours of a pixel are one path: they count as one place.
    return float((scatter[noisy] / variance[noisy]).mean()), math.sqrt(2.0 / ((ranges - 1) * places))


def _pretends(scatter: Floats, variance: Floats) -> bool:
    """Noise between the ranges and none inside them is impossible."""
    return bool((scatter[variance == 0.0] > 0.0).sum() > PLACES_MIN)


def _agreement(sums: Floats, sizes: Floats) -> tuple[float, float]:
    """Largest mean of sign(D)·sign(D of a neighbour), D = one half of the ranges less the other, which cancels the
    picture. Equal halves: both signs are equally likely for every honest pixel, so this is a coin's law."""
    half = len(sizes) // 2
    if not half:
        return math.nan, 0.0
    light = sums.sum(axis=-1)
    one = light[:half].sum(axis=0) / sizes[:half].sum()
    other = light[-half:].sum(axis=0) / sizes[-half:].sum()
    apart = one - other
    sign = np.sign(np.where(np.abs(apart) > QUIET * (np.abs(one) + np.abs(other)), apart, 0.0))
    pairs = [(sign[:, 1:], sign[:, :-1]), (sign[1:], sign[:-1])]
    pairs += [(sign[1:, 1:], sign[:-1, :-1]), (sign[1:, :-1], sign[:-1, 1:])]
    worst, sigma = math.nan, 0.0
    for ours, theirs in pairs:
        count = int(np.count_nonzero(ours * theirs))
        if count >= PLACES_MIN and not (agreed := float((ours * theirs).sum()) / count) <= worst:
            worst, sigma = agreed, 1.0 / math.sqrt(count)
    return worst, sigma


def _neighbours(sums: Floats, sizes: Floats, squares: Array | None) -> float:
    """Mean of (pixel - mean of its four neighbours)² over what independent noise of the implied size would make."""
    variance = _variance(sums, sizes, squares)
    if variance is None or min(variance.shape[:2]) < 3:
        return math.nan
    mean = sums.sum(axis=0) / sizes.sum()
    noise = variance / sizes.sum()
    apart = mean[1:-1, 1:-1] - _around(mean) / 4.0
    expected = noise[1:-1, 1:-1] + _around(noise) / 16.0
    noisy = expected > np.square(QUIET * mean[1:-1, 1:-1])
    if int(noisy.any(axis=-1).sum()) < PLACES_MIN:
        return math.nan
    return float(np.minimum(np.square(apart[noisy]) / expected[noisy], RATIO_MAX).mean())


def _around(values: Floats) -> Floats:
    """Sum of the four neighbours of every inner pixel."""
    return values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:]
