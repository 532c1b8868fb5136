"""A fingerprint of a forward pass: the largest activations behind its final norm, as 16-bit floats with their places.

Who computes with another model, other weights or another prompt has other activations. Signs count, and numbers are
sent as they are: no polynomial whose modulus a stranger could choose. What it cannot tell is who chose the tokens; that
is `gumbel.py`'s part. NumPy alone: programs in a sandbox use this very file. Spec: specs/34-inference-proof.md. After
TOPLOC, arXiv 2501.16007.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.int32]
Values = npt.NDArray[np.uint16]

STRIDE: Final = 32
"""Tokens of one chunk; what is left at the end belongs to the last one."""
LARGEST: Final = 128
"""Activations of one chunk, 6 bytes each."""
EQUAL_MIN: Final = 90
"""Of LARGEST: as many must have the same place, sign and exponent."""
MANTISSA_MEAN_MAX: Final = 10.0
"""Of 128 steps: mean distance of the mantissas of those that are equal."""
MANTISSA_MEDIAN_MAX: Final = 8.0
"""Of 128 steps: their median."""
POSITIONS_MAX: Final = 1 << 20
"""Tokens of one request, prompt included."""
WIDTH_MAX: Final = 1 << 16
"""Activations of one token."""


class Fingerprint(NamedTuple):
    """A row for every chunk."""

    places: Places
    """int32 (chunks, kept): place in the chunk's activations, row by row; increasing."""
    values: Values
    """uint16 (chunks, kept): the bits of the activation as bfloat16."""


class Likeness(NamedTuple):
    """How like the least like chunk of two fingerprints is, each number by itself."""

    equal: float
    """Share of a chunk with the same place, sign and exponent."""
    mantissa_mean: float
    mantissa_median: float

    @property
    def is_alike(self) -> bool:
        """Within the bounds above. Written so that NaN is outside."""
        return (
            self.equal >= EQUAL_MIN / LARGEST
            and self.mantissa_mean <= MANTISSA_MEAN_MAX
            and self.mantissa_median <= MANTISSA_MEDIAN_MAX
        )


def take(hidden: npt.NDArray[np.generic]) -> Fingerprint:
    """The fingerprint of final norms (positions, width), one row per token. Equal magnitudes count by their place."""
    bits = bfloat16(np.asarray(hidden, np.float32))
    kept = [_largest(bits[start:end].reshape(-1)) for start, end in spans(len(bits))]
    size = min(len(row) for row in kept)
    rows = [np.sort(row[:size]) for row in kept]
    values = [bits[start:end].reshape(-1)[row] for (start, end), row in zip(spans(len(bits)), rows, strict=True)]
    return Fingerprint(np.array(rows, np.int32), np.array(values, np.uint16))


def spans(positions: int) -> list[tuple[int, int]]:
    """(first, end) of the chunks: STRIDE positions each, the last one up to twice as many.

    >>> spans(20), spans(70)
    ([(0, 20)], [(0, 32), (32, 70)])
    """
    starts = range(0, max(positions - STRIDE, 0) + 1, STRIDE)
    return [(start, start + STRIDE if start != starts[-1] else positions) for start in starts]


def bfloat16(values: npt.NDArray[np.float32]) -> Values:
    """Upper halves of the floats, rounded to the nearest, halves to even."""
    words = values.view(np.uint32).astype(np.uint64)
    rounded: Values = ((words + 0x7FFF + ((words >> np.uint64(16)) & np.uint64(1))) >> np.uint64(16)).astype(np.uint16)
    return rounded


def fault(claimed: Fingerprint, positions: int, width: int) -> str:
    """What is wrong with a stranger's fingerprint of so many positions and activations; empty where nothing is.

    Never raises, whatever the arrays hold."""
    if not (1 <= positions <= POSITIONS_MAX and 1 <= width <= WIDTH_MAX):
        return f"{positions} positions of {width} activations have no fingerprint"
    parts = spans(positions)
    shape = (len(parts), min(LARGEST, width * min(end - start for start, end in parts)))
    places, values = claimed
    if places.dtype != np.int32 or values.dtype != np.uint16 or places.shape != shape or values.shape != shape:
        return f"the fingerprint is not {shape[0]} rows of {shape[1]} places (I32) and values (U16)"
    ends = np.array([width * (end - start) for start, end in parts])
    if (places[:, 0] < 0).any() or (places[:, -1] >= ends).any() or (np.diff(places, axis=1) <= 0).any():
        return "places are increasing and inside their chunk"
    if ((values >> 7) & 0xFF == 0xFF).any():
        return "values are finite"
    return ""


def compare(claimed: Fingerprint, replayed: Fingerprint) -> Likeness:
    """The worst of all chunks. Both were found to be without `fault` and have the same shape."""
    rows = [_likeness(*parts) for parts in zip(*claimed, *replayed, strict=True)]
    return Likeness(min(row[0] for row in rows), max(row[1] for row in rows), max(row[2] for row in rows))


def _largest(bits: Values) -> npt.NDArray[np.int64]:
    """Places of the LARGEST magnitudes, largest first. Without signs, floats are in the order of their bits."""
    order = np.argsort(-(bits & 0x7FFF).astype(np.int32), kind="stable")[:LARGEST]
    return order.astype(np.int64)


def _likeness(places: Places, values: Values, own_places: Places, own_values: Values) -> Likeness:
    _, mine, theirs = np.intersect1d(own_places, places, assume_unique=True, return_indices=True)
    a, b = own_values[mine].astype(np.int32), values[theirs].astype(np.int32)
    same = (a >> 7) == (b >> 7)  # Sign and exponent are the upper nine bits.
    if not same.any():
        return Likeness(0.0, 128.0, 128.0)
    apart = np.abs((a[same] & 0x7F) - (b[same] & 0x7F))
    return Likeness(float(same.sum()) / len(places), float(apart.mean()), float(np.median(apart)))
