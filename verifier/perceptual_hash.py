"""A hash of what a picture looks like (pHash): for previews and for finding duplicates, never for proof.

An enlarged thumbnail has the same hash as the picture itself, so equal hashes say nothing about work.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

SIDE: Final = 32
"""Pixels of the thumbnail whose frequencies are taken."""

KEPT: Final = 8
"""Lowest frequencies of each direction that make the 64 bits."""


def perceptual_hash(picture: npt.NDArray[np.floating]) -> int:
    """64 bits of a picture (height, width, 3), at least SIDE × SIDE: which low frequencies are above their median."""
    grey = np.asarray(picture, np.float64).mean(axis=-1)
    small = _shrunk(_shrunk(grey).T).T
    cosines = np.cos(np.pi / SIDE * (np.arange(SIDE) + 0.5) * np.arange(KEPT)[:, None])
    low = (cosines @ small @ cosines.T).ravel()
    bits = low > np.median(low[1:])
    return int("".join("1" if bit else "0" for bit in bits), 2)


def distance(one: int, other: int) -> int:
    """Bits that differ, 0 to 64."""
    return (one ^ other).bit_count()


def _shrunk(lines: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """SIDE rows, each the mean of its share of the rows."""
    edges = np.arange(SIDE) * len(lines) // SIDE
    sizes = np.diff(np.append(edges, len(lines)))
    shrunk: npt.NDArray[np.float64] = np.add.reduceat(lines, edges, axis=0) / sizes[:, None]
    return shrunk
