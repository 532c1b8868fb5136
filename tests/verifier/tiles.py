"""Tiles of a picture for tests of the rendering class, honest and otherwise, from the ball that the guest renders."""

from __future__ import annotations

from functools import cache
from typing import cast

import numpy as np
import numpy.typing as npt

from node.guest.work.ball import Ball
from node.guest.work.rendering import mean_light
from protocol.proof import Tolerance

EXACT = Tolerance(t_ok=10**6, t_bad=10**9)
"""1e-6 and 1e-3: for renderers in integers."""

Numbers = npt.NDArray[np.float64]
"""Or of integers, as the tensors of an exact renderer are: the arithmetic is written the same."""

Tile = dict[str, Numbers]


@cache
def _aux(index: int, samples: int, seed: bytes, side: int) -> Tile:
    work = Ball(side, samples)
    work.seed = seed
    return cast("Tile", dict(work.row(index)[1]))


def honest(index: int = 2, samples: int = 64, seed: bytes = bytes(32), side: int = 64) -> Tile:
    """What an honest unit tells of its tile."""
    return {name: array.copy() for name, array in _aux(index, samples, seed, side).items()}


def states(aux: Tile, index: int = 2, samples: int = 64) -> tuple[Tile, Tile]:
    """(state before, state after) a unit that told this: a claim is always consistent with itself."""
    before = np.zeros((index, 32, 32, 3), np.float32)
    row = mean_light(aux["sums"], samples, float(1 << 20))
    return cast("Tile", {"rows": before}), cast("Tile", {"rows": np.concatenate([before, row[None]])})


def replayed(index: int = 2, challenge: bytes = b"challenge", samples: int = 64, seed: bytes = bytes(32)) -> Tile:
    """The part that an auditor computes."""
    work = Ball(64, samples)
    work.seed, work.part = seed, True
    return cast("Tile", dict(work.replay({"rows": np.zeros((index, 32, 32, 3), np.float32)}, index, challenge)[1]))


def few_samples(aux: Tile, share: int) -> Tile:
    """One `share`-th of the samples, each counted `share` times: range k has those of range k // share of a frame that
    took as long as a `share`-th."""
    few = honest(samples=64 // share)
    return {**aux, "sums": few["sums"] * share, "squares": few["squares"] * share}


def enlarged(aux: Tile, times: int) -> Tile:
    """A tile of 32 / times pixels across, each shown times × times times."""
    return {name: _grown(array, times) if array.ndim > 1 else array for name, array in aux.items()}


def smoothed(aux: Tile) -> Tile:
    """Every pixel the mean of nine, as a denoiser would have it; the squares are left as they were."""
    return {**aux, "sums": _blurred(aux["sums"].astype(np.float64))}


def _grown(array: Numbers, times: int) -> Numbers:
    small = array[..., ::times, ::times, :]
    return small.repeat(times, axis=-3).repeat(times, axis=-2)


def _blurred(sums: Numbers) -> Numbers:
    padded = np.pad(sums, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    height, width = sums.shape[1:3]
    nine = [padded[:, y : y + height, x : x + width] for y in range(3) for x in range(3)]
    mean: Numbers = np.mean(nine, axis=0)
    return mean
