"""Monte Carlo whose chance is keyed by (seed, stream): what its aggregate must be, and when it looks odd.

A stream is a unit. Its integers are exact, so a replayed stream is equal or it is wrong, and the total is the sum of
what was committed or it is wrong. Statistics over the streams are an alarm only: an honest run looks odd now and then.
Spec: specs/36-scientific-proof.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from protocol.errors import Refused
from verifier.merkle_sum import Row, SumRoot, SumTree
from verifier.tensors import Array

ALARM_SIGMAS: Final = 5.0
"""Distance of one stream's mean from the others' at which an audit is worth its price: one honest stream in 10^6."""

STREAMS_MIN: Final = 8
"""Streams below which their scatter says nothing."""


def check_aggregate(rows: Array, said: SumRoot) -> None:
    """Refused `sum_differs` unless the rows (n, k) of the last state make exactly this root and total."""
    if rows.ndim != 2 or rows.dtype.kind not in "iu":
        raise Refused(f"streams are rows of integers, not {rows.dtype} {list(rows.shape)}", code="sum_differs")
    tree = SumTree([tuple(row) for row in rows.tolist()])
    if tree.root != said:
        raise Refused(
            f"{len(rows)} streams add up to {tree.root.sums}, not {said.sums}",
            code="sum_differs",
            fix="Publish the sum of the streams that were committed.",
        )


def check_prefixes(opened: Mapping[int, Array], rows: Array) -> None:
    """Refused `rows_differ` unless every opened state, by its number of rows, is the beginning of the last one: a claim
    whose states were exchanged in a unit that nobody looks at."""
    for count, state in opened.items():
        if state.shape != (count, *rows.shape[1:]) or count > len(rows) or not np.array_equal(state, rows[:count]):
            raise Refused(f"the state after {count} units is not the beginning of the last one", code="rows_differ")


def oddness(counts: Sequence[int], trials: int, expected: float | None = None) -> npt.NDArray[np.float64]:
    """z of each stream that counted successes among `trials`: against `expected`, the share of successes, or against
    all streams together. An alarm, never a verdict."""
    found = np.asarray(counts, np.float64)
    share = float(found.mean()) / trials if expected is None else expected
    scale = math.sqrt(trials * share * (1.0 - share)) if 0.0 < share < 1.0 else 0.0
    if not scale:
        return np.where(found == share * trials, 0.0, math.inf)
    z: npt.NDArray[np.float64] = (found - trials * share) / scale
    return z


def is_odd(counts: Sequence[int], trials: int, expected: float | None = None) -> bool:
    """Whether some stream is farther off than chance makes it, or all lie closer together than chance allows."""
    if len(counts) < STREAMS_MIN:
        return False
    if expected is None and sum(counts) in (0, trials * len(counts)):
        return False  # What never or always happens does not scatter.
    z = oddness(counts, trials, expected)
    if not float(np.abs(z).max()) <= ALARM_SIGMAS:
        return True
    # Chi-square of n - 1 (or n) degrees of freedom, by Wilson and Hilferty's cube root.
    freedom = len(z) - (expected is None)
    cube = (float((z * z).sum()) / freedom) ** (1 / 3)
    off: float = abs(cube - (1 - 2 / (9 * freedom))) / math.sqrt(2 / (9 * freedom))
    return off > ALARM_SIGMAS


def row_of(values: Sequence[float], digits: int) -> Row:
    """Numbers as integers in fixed point with `digits` binary places, rounded to nearest: sums without rounding."""
    return tuple(round(math.ldexp(value, digits)) for value in values)
