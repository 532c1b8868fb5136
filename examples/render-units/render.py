"""One region of the picture, tile by tile: chunk `SHOAL_CHUNK` of the job, whose regions lie below one another."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import shoal_work
from shoal_work.counter_random import key_of
from shoal_work.rendering import Tiles, fixed
from tracer import paths


class Picture(Tiles):
    """The whole picture is WIDTH × HEIGHT; a region is all of its width and HEIGHT / SHOAL_CHUNKS of its height."""

    def __init__(self, width, height, chunks, samples):
        super().__init__()
        self.width, self.height, self.samples = width, height, samples
        self.across, self.lines = width // self.tile, height // chunks

    def measure(self, xs, ys, first, last):
        below = ys + self.chunk * self.lines
        light = paths(key_of(self.seed, "paths"), self.width, self.height, xs, below, first, last)
        steps = fixed(light)
        return steps.sum(axis=1), (steps * steps).sum(axis=1)


def bitwise_run(threads):
    """SHA-256 of a small region, computed by this many threads: the same everywhere."""
    work = Picture(64, 64, 1, 16)
    work.units = 4
    with ThreadPoolExecutor(threads) as pool:
        rows = list(pool.map(work.row, range(work.units)))
    return hashlib.sha256(b"".join(row.tobytes() + aux["sums"].tobytes() for row, aux in rows)).hexdigest()


if __name__ == "__main__":
    sizes = [int(os.environ.get(name) or default) for name, default in (("WIDTH", 256), ("HEIGHT", 256))]
    np.seterr(all="raise", under="ignore")
    shoal_work.run(Picture(*sizes, int(os.environ.get("SHOAL_CHUNKS") or 1), int(os.environ.get("SAMPLES") or 64)))
