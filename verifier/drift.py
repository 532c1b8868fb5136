"""Small errors that all point the same way: a provider that stays inside the tolerance and pushes at every unit.

One audited unit whose error is nine tenths of what is tolerated is fine. Thirty of them whose errors add up are not:
rounding has no direction. Two statistics are standard normal as long as every error may as well have had the other
sign: the mean of the errors along the update, and what the errors have in common in any direction.
Spec: specs/33-training-proof.md.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from protocol.completions import UnitError
from protocol.proof import PPT, Tolerance
from verifier.tensors import Tensors
from verifier.training import PARAMETERS, tree_sum

SKETCH: Final = 256
"""Numbers that one unit's error is reduced to: two errors without a relation then look alike by a sixteenth."""

UNITS_MIN: Final = 8
"""Audited units below which there is no verdict."""

UNITS_MAX: Final = 256
"""Audited units that are remembered of one provider and task: half a megabyte."""

Z_MAX: Final = 5.0
"""Standard deviations: an honest provider is flagged once in three million looks."""

FLOOR_SHARE: Final = 5
"""Errors below t_ok divided by this are never flagged: honest machines were measured to differ as much."""


class SignedError(Struct, frozen=True, forbid_unknown_fields=True):
    """What one audited unit adds to the account."""

    size: float
    """||D - D'|| / ||D'||."""
    along: float
    """(D - D')·D' / ||D'||²: how much too far the claim went."""
    sketch: tuple[float, ...]
    """D - D' in parts of ||D'||, reduced to SKETCH numbers that keep angles."""


class Drift(Struct, frozen=True):
    """What the account shows."""

    units: int
    mean: float
    """Mean error along the update, in parts of it."""
    z_along: float
    z_common: float
    is_flagged: bool
    detail: str

    @property
    def code(self) -> str:
        """`drift`, or `within_tolerance`."""
        return "drift" if self.is_flagged else "within_tolerance"


def signed_error(start: Tensors, claimed: Tensors, replayed: Tensors, secret: bytes) -> SignedError:
    """For states that `verifier.training.compare` found to be within the tolerance.

    `secret` is the judge's own and stays with it, the same for all units of an account: who knew it could push where it
    does not look."""
    inner, whole, apart = [], [], []
    sketch = np.zeros(SKETCH)
    for name in sorted(name for name in replayed if name.startswith(PARAMETERS)):
        ours = np.asarray(replayed[name], np.float64).ravel() - np.asarray(start[name], np.float64).ravel()
        error = np.asarray(claimed[name], np.float64).ravel() - np.asarray(replayed[name], np.float64).ravel()
        inner.append(tree_sum(error * ours))
        whole.append(tree_sum(ours * ours))
        apart.append(tree_sum(error * error))
        sketch += _sketch(secret + name.encode(), error)
    norm = math.sqrt(sum(whole))
    if not norm:
        return SignedError(0.0, 0.0, (0.0,) * SKETCH)
    size, along = math.sqrt(sum(apart)) / norm, sum(inner) / norm**2
    return SignedError(size, along, tuple((sketch / norm).tolist()))


def coded(error: SignedError) -> UnitError | None:
    """In whole parts per trillion; None for what is no number."""
    numbers = (error.size, error.along, *error.sketch)
    if not all(math.isfinite(number) for number in numbers):
        return None
    size, along, *sketch = (round(number * PPT) for number in numbers)
    return UnitError(size, along, tuple(sketch))


def decoded(error: UnitError) -> SignedError:
    """The inverse of `coded`, to a part per trillion."""
    return SignedError(error.size / PPT, error.along / PPT, tuple(number / PPT for number in error.sketch))


def drift(errors: Sequence[SignedError], tolerance: Tolerance) -> Drift:
    """What the last UNITS_MAX audited units of one provider and task have in common."""
    kept = errors[-UNITS_MAX:]
    along = [one.along for one in kept]
    rows = np.array([one.sketch for one in kept], np.float64).reshape(len(kept), SKETCH)
    typical = math.sqrt(sum(one.size**2 for one in kept) / len(kept)) if kept else 0.0
    mean = sum(along) / len(kept) if kept else 0.0
    z_along, z_common = _z_of_numbers(along), _z_of_vectors(rows)
    is_large = typical * PPT * FLOOR_SHARE > tolerance.t_ok
    strongest = max(abs(z_along), z_common)
    flagged = len(kept) >= UNITS_MIN and is_large and not strongest <= Z_MAX
    said = (
        f"errors of {typical:.1e} over {len(kept)} units, z {z_along:.1f} along the updates, {z_common:.1f} in common"
    )
    return Drift(len(kept), mean, z_along, z_common, flagged, said)


def _z_of_numbers(values: Sequence[float]) -> float:
    """The sum in its own standard deviations, if every sign were a coin's."""
    spread = math.sqrt(sum(value * value for value in values))
    return sum(values) / spread if spread else 0.0


def _z_of_vectors(rows: npt.NDArray[np.float64]) -> float:
    """The same for what every pair of rows has in common."""
    gram = rows @ rows.T
    np.fill_diagonal(gram, 0.0)
    spread = math.sqrt(2.0 * float(np.square(gram).sum()))
    return float(gram.sum()) / spread if spread else 0.0


def _sketch(key: bytes, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Every element added to one of SKETCH numbers, with a sign; both from a hash."""
    if not values.size:
        return np.zeros(SKETCH)
    words = np.frombuffer(hashlib.shake_256(b"shoal/1\0drift\0" + key).digest(2 * values.size), "<u2")
    signed = np.where(words & 0x8000, 1.0, -1.0) * values
    sketch = np.bincount((words % SKETCH).astype(np.int64), weights=signed, minlength=SKETCH)
    return sketch.astype(np.float64)
