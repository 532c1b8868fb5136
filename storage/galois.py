"""Arithmetic in GF(2^8) over x^8 + x^4 + x^3 + x^2 + 1, and products of matrices with columns of shards, in NumPy.

The field of ISA-L. Spec: specs/26-shards.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protocol.errors import LocalError
from protocol.units import KIB

Matrix = tuple[bytes, ...]
"""Rows of field elements."""

POLYNOMIAL: Final = 0x11D
"""The field's modulus; 2 generates all that is not 0."""

LANES: Final = 8
"""Rows computed at once: one 64-bit word of a table holds a byte's products with so many coefficients."""

BLOCK_BYTES: Final = 64 * KIB
"""Of each shard at a time: tables, words and block stay in the cache."""


def _powers() -> list[int]:
    found, value = [], 1
    for _ in range(255):
        found.append(value)
        value = value << 1 ^ (POLYNOMIAL if value & 0x80 else 0)
    return found


EXP: Final = tuple(_powers() * 2)
"""Powers of 2, twice over so that two logarithms may be added."""

LOG: Final = tuple(_powers().index(value) if value else 0 for value in range(256))
"""Logarithms to base 2; that of 0 means nothing."""

PRODUCTS: Final[NDArray[np.uint8]] = np.array(
    [[EXP[LOG[a] + LOG[b]] if a and b else 0 for b in range(256)] for a in range(256)], np.uint8
)
"""PRODUCTS[a, b] = a times b."""


def inverse(value: int) -> int:
    """What gives 1 when multiplied with `value`, which is not 0.

    >>> inverse(2), int(PRODUCTS[2, inverse(2)])
    (142, 1)
    """
    return EXP[255 - LOG[value]]


def inverted(matrix: Matrix) -> Matrix:
    """The inverse of a square matrix by elimination. LocalError when it has none."""
    k = len(matrix)
    work = np.zeros((k, 2 * k), np.uint8)
    for row, values in enumerate(matrix):
        work[row, :k] = np.frombuffer(values, np.uint8)
        work[row, k + row] = 1
    for column in range(k):
        pivots = np.flatnonzero(work[column:, column])
        if not len(pivots):
            raise LocalError("the matrix has no inverse", code="singular_matrix")
        pivot = column + int(pivots[0])
        work[[column, pivot]] = work[[pivot, column]]
        work[column] = PRODUCTS[inverse(int(work[column, column]))][work[column]]
        for row in range(k):
            if row != column and work[row, column]:
                work[row] ^= PRODUCTS[work[row, column]][work[column]]
    return tuple(row.tobytes() for row in work[:, k:])


def product(matrix: Matrix, data: Sequence[memoryview], into: Sequence[memoryview]) -> None:
    """Write the product of `matrix` (rows x columns) with `data` (one shard per column) into one buffer per row.

    All shards and buffers have the same length."""
    columns = [np.frombuffer(view, np.uint8) for view in data]
    rows = [np.frombuffer(view, np.uint8) for view in into]
    size = len(columns[0])
    words, part = np.empty(BLOCK_BYTES, np.uint64), np.empty(BLOCK_BYTES, np.uint64)
    for first in range(0, len(rows), LANES):
        tables = _tables(matrix[first : first + LANES])
        for start in range(0, size, BLOCK_BYTES):
            stop = min(start + BLOCK_BYTES, size)
            total, term = words[: stop - start], part[: stop - start]
            total[:] = 0
            for table, column in zip(tables, columns, strict=True):
                np.take(table, column[start:stop], out=term, mode="clip")
                np.bitwise_xor(total, term, out=total)
            lanes = total.view(np.uint8).reshape(-1, LANES)
            for lane, row in enumerate(rows[first : first + LANES]):
                row[start:stop] = lanes[:, lane]


@lru_cache(maxsize=32)
def _tables(matrix: Matrix) -> tuple[NDArray[np.uint64], ...]:
    """Per column a table: byte -> its products with the column's coefficients, one per lane."""
    found = []
    for column in range(len(matrix[0])):
        lanes = np.zeros((256, LANES), np.uint8)
        for lane, row in enumerate(matrix):
            lanes[:, lane] = PRODUCTS[row[column]]
        found.append(lanes.reshape(-1).view(np.uint64))
    return tuple(found)
