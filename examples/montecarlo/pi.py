"""π by throwing darts: unit i is stream i, whose darts are a function of the job's seed and i. Integers throughout."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import shoal_work
from shoal_work.scientific import Streams

BLOCK = 1 << 15
LIMIT = np.uint64(1 << 62)


class Darts(Streams):
    """A stream counts how many of its darts hit the quarter of a disc, and how many it threw."""

    values = 2

    def __init__(self, darts):
        super().__init__()
        self.darts = darts

    def stream(self, source, number):
        hits = 0
        for start in range(0, self.darts, 2 * BLOCK):
            a, b, c, d = source.words(BLOCK)
            # 31 bits of each: the sum of two squares fits 63.
            a, b, c, d = (word >> np.uint64(1) for word in (a, b, c, d))
            first, second = a * a + b * b < LIMIT, c * c + d * d < LIMIT
            hits += int(np.stack([first, second], axis=1).reshape(-1)[: self.darts - start].sum())
        return [hits, self.darts]


def bitwise_run(threads):
    """SHA-256 of a few streams, computed by this many threads: the same everywhere."""
    work = Darts(50_000)
    with ThreadPoolExecutor(threads) as pool:
        rows = list(pool.map(lambda index: work.row(index)[0], range(8)))
    return hashlib.sha256(b"".join(row.tobytes() for row in rows)).hexdigest()


if __name__ == "__main__":
    shoal_work.run(Darts(int(os.environ.get("DARTS") or 1_000_000)))
