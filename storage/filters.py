"""The byte shuffle: first all first bytes of the elements, then all second ones, and so on.

The high bytes of floats are alike, so side by side they compress. Spec: specs/26-shards.md.
"""

from __future__ import annotations

from typing import Final

import numpy as np

ITEMSIZES: Final = (1, 2, 4, 8, 16)
"""Bytes of one element: of a byte up to a complex number of two doubles. 1 = no shuffle."""


def shuffle(content: memoryview, itemsize: int) -> memoryview:
    """As many bytes, shuffled; bytes behind the last whole element stay where they are."""
    return _turn(content, itemsize, (-1, itemsize))


def unshuffle(content: memoryview, itemsize: int) -> memoryview:
    """The inverse."""
    return _turn(content, itemsize, (itemsize, -1))


def _turn(content: memoryview, itemsize: int, shape: tuple[int, int]) -> memoryview:
    whole = len(content) - len(content) % itemsize
    if itemsize == 1 or not whole:
        return content
    found = np.empty(len(content), np.uint8)
    plain = np.frombuffer(content, np.uint8)
    found[:whole].reshape(shape[::-1] if shape[0] == -1 else (-1, itemsize))[:] = plain[:whole].reshape(shape).T
    found[whole:] = plain[whole:]
    return found.data
