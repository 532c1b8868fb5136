"""Chance that is the same on every machine: SHAKE-256 of a seed and a place, read as integers.

No library's generator is used: torch's normal numbers differ between instruction sets, NumPy's may between versions.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Union

import numpy as np
import numpy.typing as npt

Place = Union[int, str]
"""`Union`, because Python 3.9 evaluates this."""


class Dice:
    """Numbers for one place, e.g. `Dice(seed, "batch", step)`; each call goes on where the last one stopped."""

    def __init__(self, seed: bytes, *place: Place) -> None:
        parts = [seed, *(str(part).encode() for part in place)]
        self._key = b"shoal/1\0dice\0" + b"".join(struct.pack("<I", len(part)) + part for part in parts)
        self._turn = 0

    def words(self, count: int) -> npt.NDArray[np.uint64]:
        """`count` numbers of 64 bits."""
        key = self._key + struct.pack("<Q", self._turn)
        self._turn += 1
        return np.frombuffer(hashlib.shake_256(key).digest(8 * count), "<u8").astype(np.uint64)

    def integers(self, below: int, count: int) -> npt.NDArray[np.int64]:
        """`count` integers of 0 to `below` - 1, each as likely as any other: words beyond the last whole multiple of
        `below` are thrown away."""
        if not 1 <= below < 2**62:
            raise ValueError(f"integers below {below} cannot be drawn")
        limit = 2**64 - 2**64 % below
        found = np.empty(0, np.uint64)
        while len(found) < count:
            words = self.words(count - len(found) + 8)
            if limit < 2**64:
                words = words[words < np.uint64(limit)]
            found = np.concatenate([found, words % np.uint64(below)])
        return found[:count].astype(np.int64)

    def order(self, count: int) -> npt.NDArray[np.int64]:
        """The numbers 0 to `count` - 1 in a random order. Equal words, one in 2^64 pairs, keep their order."""
        return np.argsort(self.words(count), kind="stable").astype(np.int64)

    def uniform(self, count: int) -> npt.NDArray[np.float64]:
        """`count` numbers in [0, 1), multiples of 2^-53."""
        return (self.words(count) >> np.uint64(11)).astype(np.float64) / float(1 << 53)
