"""A fingerprint of a forward pass: the largest activations behind its final norm, as 16-bit floats with their places.

Who computes with another model, other weights or another prompt has other activations. Signs count, and numbers are
sent as they are: no polynomial whose modulus a stranger could choose. What it cannot tell is who chose the tokens; that
is `gumbel.py`'s part. NumPy alone: programs in a sandbox use this very file. Spec: specs/34-inference-proof.md. After
TOPLOC, arXiv 2501.16007.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.int32]
Values = npt.NDArray[np.uint16]

STRIDE: Final = 32
"""Tokens of one chunk; what is left at the end belongs to the last one."""
LARGEST: Final = 128
"""Activations of one chunk, 6 bytes each."""


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
    """Of 128 steps: mean distance of the mantissas of those that are equal."""
    mantissa_median: float
    """Of 128 steps: their median."""

    def is_within(self, bounds: Likeness) -> bool:
        """Not less like than `bounds` in any of the three. Written so that NaN is outside."""
        return (
            self.equal >= bounds.equal
            and self.mantissa_mean <= bounds.mantissa_mean
            and self.mantissa_median <= bounds.mantissa_median
        )


BOUNDS: Final = {"fp32": Likeness(0.96, 0.5, 0.0), "bf16": Likeness(0.86, 4.0, 4.0)}
"""Arithmetic of a job -> how unlike honest fingerprints may be. Measured (docs/inference-proof.md): fp32 on the same
weights 1.00; bf16 beside fp32 0.92 and 1.1 steps; int8 weights 0.91 and 2.0 steps; int4 weights 0.40 and 17."""


def take(hidden: npt.NDArray[np.generic]) -> Fingerprint:
    """The fingerprint of final norms (positions, width), one row per token. Equal magnitudes count by their place."""
    bits = bfloat16(np.asarray(hidden, np.float32))
    kept = [_largest(bits[start:end].reshape(-1)) for start, end in spans(len(bits))]
    size = min(len(row) for row in kept)
    rows = [np.sort(row[:size]) for row in kept]
    parts = [bits[start:end].reshape(-1) for start, end in spans(len(bits))]
    values = [part[row] for part, row in zip(parts, rows)]  # noqa: B905  Python 3.9
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


def join(parts: Sequence[Fingerprint]) -> Fingerprint:
    """The fingerprints of several requests below each other; all keep as many activations as the one with the least."""
    kept = min(one.places.shape[1] for one in parts)
    rows = [(places[:kept], values[:kept]) for one in parts for places, values in zip(*one)]  # noqa: B905  Python 3.9
    return Fingerprint(np.array([row[0] for row in rows]), np.array([row[1] for row in rows]))


def shape(positions: int, width: int) -> tuple[int, int]:
    """(chunks, activations kept of each) of the fingerprint of so many positions of so many activations."""
    parts = spans(positions)
    return len(parts), min(LARGEST, width * min(end - start for start, end in parts))


def fault(claimed: Fingerprint, expected: tuple[int, ...]) -> str:
    """What is wrong with a stranger's fingerprint that should have this shape; empty where nothing is.

    Never raises, whatever the arrays hold. A place outside of its chunk is no fault: it agrees with nothing."""
    places, values = claimed
    if len(expected) != 2 or min(expected) < 1 or expected[1] > LARGEST:
        return f"no fingerprint has the shape {expected}"
    if places.dtype != np.int32 or values.dtype != np.uint16 or not places.shape == values.shape == expected:
        return f"the fingerprint is not {expected[0]} rows of {expected[1]} places (I32) and values (U16)"
    if (places[:, 0] < 0).any() or (np.diff(places.astype(np.int64), axis=1) <= 0).any():
        return "places are not negative and increase"
    if ((values >> 7) & 0xFF == 0xFF).any():
        return "values are finite"
    return ""


def compare(claimed: Fingerprint, replayed: Fingerprint) -> Likeness:
    """The worst of all chunks. Both were found to be without `fault` and have the same shape."""
    rows = [_likeness(*parts) for parts in zip(*claimed, *replayed, strict=True)]
    return Likeness(min(row[0] for row in rows), max(row[1] for row in rows), max(row[2] for row in rows))


def _largest(bits: Values) -> npt.NDArray[np.int64]:
    """Places of the LARGEST magnitudes, largest first. Without signs, floats are in the order of their bits."""
    sizes = (bits & 0x7FFF).astype(np.int32)
    least = np.partition(sizes, -min(LARGEST, sizes.size))[-min(LARGEST, sizes.size)]
    candidates = np.flatnonzero(sizes >= least)  # Sorting these alone takes a tenth of the time at a width of 4096.
    order = candidates[np.argsort(-sizes[candidates], kind="stable")][:LARGEST]
    return order.astype(np.int64)


def _likeness(places: Places, values: Values, own_places: Places, own_values: Values) -> Likeness:
    _, mine, theirs = np.intersect1d(own_places, places, assume_unique=True, return_indices=True)
    a, b = own_values[mine].astype(np.int32), values[theirs].astype(np.int32)
    same = (a >> 7) == (b >> 7)  # Sign and exponent are the upper nine bits.
    if not same.any():
        return Likeness(0.0, 128.0, 128.0)
    apart = np.abs((a[same] & 0x7F) - (b[same] & 0x7F))
    return Likeness(float(same.sum()) / len(places), float(apart.mean()), float(np.median(apart)))
