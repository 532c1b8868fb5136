"""The byte shuffle: first all first bytes of the elements, then all second ones, and so on.

The high bytes of floats are alike, so side by side they compress. Spec: specs/26-shards.md.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

import numpy as np

from protocol.errors import LocalError

Itemsize = Literal[1, 2, 4, 8, 16]
ITEMSIZES: Final[tuple[Itemsize, ...]] = get_args(Itemsize)
"""Bytes of one element: of a byte up to a complex number of two doubles. 1 = no shuffle."""


def element(size: int) -> Itemsize:
    """The same number, known to be one of `ITEMSIZES`. LocalError when it is not."""
    for known in ITEMSIZES:
        if size == known:
            return known
    raise LocalError(f"elements of {size} bytes; known are {ITEMSIZES}", code="bad_itemsize")


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
