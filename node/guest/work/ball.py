"""The smallest picture that needs everything: a chequered ball under a broad lamp. To measure the class itself.

Only single additions, products, quotients and square roots, so two machines that differ in one bit are not both honest.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Optional

import numpy as np

from .counter_random import circle, key_of, philox, uniform
from .rendering import Places, Tiles, fixed
from .tensors import Array


class Ball(Tiles):
    """`side` pixels across; a sample is one point of a pixel and one point of the lamp."""

    def __init__(self, side: int = 64, samples: int = 64) -> None:
        super().__init__()
        self.side, self.samples, self.across = side, samples, side // self.tile
        self.units = self.across * self.across

    def measure(self, xs: Places, ys: Places, first: int, last: int) -> tuple[Array, Optional[Array]]:
        pixel = np.repeat(ys * self.side + xs, last - first)
        sample = np.tile(np.arange(first, last, dtype=np.int64), len(xs))
        a, b, c, d = philox(key_of(self.seed, "ball"), pixel, sample)
        x = 2.2 * (pixel % self.side + uniform(a)) / self.side - 1.1
        y = 1.1 - 2.2 * (pixel // self.side + uniform(b)) / self.side
        inside = 1.0 - x * x - y * y
        z = np.sqrt(np.maximum(inside, 0.0))
        cosine, sine = circle(uniform(c))
        reach = np.sqrt(uniform(d))
        lx, ly, lz = 0.8 * reach * cosine - 0.7, 0.8 * reach * sine + 0.9, 1.0
        facing = (x * lx + y * ly + z * lz) / np.sqrt(lx * lx + ly * ly + lz * lz)
        light = np.where(inside > 0.0, np.maximum(facing, 0.0) * 2.0, 0.1 + 0.1 * uniform(c))
        dark = (np.floor(4.0 * x) + np.floor(4.0 * y)) % 2.0 == 0.0
        shades = np.stack([light, light * np.where(dark, 0.4, 0.8), light * 0.5], axis=1)
        steps = fixed(shades).reshape(len(xs), last - first, 3)
        return steps.sum(axis=1), (steps * steps).sum(axis=1)


def bitwise_run(threads: int = 1) -> str:
    """SHA-256 of a small picture computed by so many threads: the same on every machine that computes honestly."""
    work = Ball(64, 16)
    with ThreadPoolExecutor(threads) as pool:
        rows = list(pool.map(work.row, range(work.units)))
    return hashlib.sha256(b"".join(row.tobytes() + aux["sums"].tobytes() for row, aux in rows)).hexdigest()
