"""A data set: one file of records of equal size, and the Merkle root over them that the specification names.

The tree is the one of the network's ledger (RFC 9162 with the number of leaves bound in), so that a single record can
be shown to belong to the data set, or not to.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

_LEAF, _NODE, _ROOT = b"shoal/1\0leaf\0", b"shoal/1\0node\0", b"shoal/1\0root\0"


class DataNotInRoot(ValueError):
    """`data_not_in_root`: records that the specification's data set does not have."""


class Records:
    """The records of `path`, `size` bytes each. Raises DataNotInRoot unless they have the root `root`."""

    def __init__(self, path: Path, size: int, root: bytes) -> None:
        data = path.read_bytes()
        if not data or len(data) % size:
            raise DataNotInRoot(f"data_not_in_root: {len(data)} bytes are no records of {size} bytes")
        self._rows = np.frombuffer(data, np.uint8).reshape(-1, size)
        found = root_of(self._rows)
        if found != root:
            raise DataNotInRoot(f"data_not_in_root: the root of {path.name} is {found.hex()}, not {root.hex()}")

    @property
    def count(self) -> int:
        """How many."""
        return len(self._rows)

    def rows(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """The records at `places`, shape (number of places, size)."""
        return self._rows[places]

    def path(self, place: int) -> list[bytes]:
        """The siblings that prove record `place`."""
        level, siblings = _leaves(self._rows), []
        while len(level) > 1:
            if place ^ 1 < len(level):
                siblings.append(level[place ^ 1])
            level, place = _above(level), place // 2
        return siblings


def root_of(rows: npt.NDArray[np.uint8]) -> bytes:
    """The Merkle root over rows of bytes."""
    level = _leaves(rows)
    while len(level) > 1:
        level = _above(level)
    return hashlib.sha256(_ROOT + len(rows).to_bytes(8, "big") + level[0]).digest()


def _leaves(rows: npt.NDArray[np.uint8]) -> list[bytes]:
    return [hashlib.sha256(_LEAF + row.tobytes()).digest() for row in rows]


def _above(level: list[bytes]) -> list[bytes]:
    above = [hashlib.sha256(_NODE + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
    return above + level[-1:] if len(level) % 2 else above
