"""A unit of training compared with its replay: the update it makes, its losses, and its first gradient.

States hold `parameters/<name>`, the optimizer's `momentum/<name>` and `variance/<name>`, and `step`. With W before and
after the unit, the claimed update of a tensor g is D_g = W'_g - W_g and the replayed one D'_g:

    e_G = max over g of ||D'_g - D_g|| / ||D'||

The maximum, so that one frozen tensor cannot hide among the others; the norm of the whole update below, because a
tensor whose true gradient is zero moves by pure noise under Adam. Spec: specs/33-training-proof.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from protocol import merkle
from protocol.errors import Refused
from protocol.proof import PPT, Tolerance
from verifier.comparable import incomparable, not_finite, unlike
from verifier.grid import compare_on_grid, grid_of
from verifier.score import Comparison, rescaled
from verifier.tensors import Array, Tensors

PARAMETERS: Final = "parameters/"
MOMENTUM: Final = "momentum/"
VARIANCE: Final = "variance/"
STEP: Final = "step"
LOSSES: Final = "losses"
NORMS: Final = "norms"
GRADIENT: Final = "gradient"

GRADIENT_OK: Final = 1e-5
"""Relative L2 of the first step's raw gradient: honest machines were measured to differ by up to 1.3e-6 in fp32."""

GRADIENT_BAD: Final = 5e-2
"""Relative L2 that skipping a thirty-second of a batch shows."""

LOSS_OK: Final = 1e-5
"""Relative: a claimed loss must reproduce on the schedule's own batch."""

LOSS_BAD: Final = 1e-4
"""Relative: the scale between is short, since the loss of another batch differs by percents."""

LOSS_FLOOR: Final = 1e-2
"""Losses below this are compared absolutely: close to zero they are differences of rounding errors."""

WITHIN: Final = "within_tolerance"


def compare(
    start: Tensors,
    claimed: Tensors | None,
    replayed: Tensors | None,
    claimed_aux: Tensors,
    replayed_aux: Tensors,
    tolerance: Tolerance,
) -> Comparison:
    """The worst of everything that is compared, on the scale of `tolerance`. Never raises for what a peer wrote."""
    if claimed is None or replayed is None:
        return incomparable("a unit of training ends in a state, and there is none")
    if fault := _malformed(start, claimed, replayed, claimed_aux, replayed_aux):
        return fault
    if bits := grid_of(tolerance.profile):
        return compare_on_grid(claimed, replayed, bits, steps=max(1, replayed_aux[LOSSES].size))
    if _stood_still(start, claimed) and not _stood_still(start, replayed):
        return Comparison(math.inf, "no_update", "the parameters after the unit are those before it")
    err, where = unit_error(start, claimed, replayed)
    found = (
        _gradient(claimed_aux, replayed_aux, tolerance),
        Comparison(err, "update_differs", f"e_G is {err:.2e}" + (f", at {where}" if where else "")),
        _losses(claimed_aux, replayed_aux, tolerance),
    )
    worst = max(one.err for one in found)
    # Named after what went wrong first: another gradient makes another update, and that other losses.
    for one in found:
        if not one.err * PPT <= tolerance.t_ok:
            return Comparison(worst, one.code, one.detail)
    return Comparison(worst, WITHIN, found[1].detail)


def update_error(start: Tensors, claimed: Tensors, replayed: Tensors) -> tuple[float, str]:
    """(e_G, the tensor that shows it). `inf` where the replay moved nothing and the claim did."""
    names = [name for name in replayed if name.startswith(PARAMETERS)]
    whole = math.sqrt(sum(_squares(replayed[name], start[name]) for name in names))
    worst, where = 0.0, ""
    for name in names:
        apart = math.sqrt(_squares(replayed[name], claimed[name]))
        if apart > worst:
            worst, where = apart, name
    return _share(worst, whole), where


def unit_error(start: Tensors, claimed: Tensors, replayed: Tensors) -> tuple[float, str]:
    """(error of the whole state, where): e_G, or that of the optimizer's own tensors, each kind in parts of its norm.
    The next unit begins with them too."""
    found = [update_error(start, claimed, replayed)]
    for kind in (MOMENTUM, VARIANCE):
        names = [name for name in replayed if name.startswith(kind)]
        whole = math.sqrt(sum(_squares(replayed[name], None) for name in names))
        worst = max((math.sqrt(_squares(claimed[name], replayed[name])) for name in names), default=0.0)
        found.append((_share(worst, whole), kind[:-1]))
    return max(found)


def loss_error(claimed: Array, replayed: Array) -> float:
    """The largest relative difference of two lists of losses of one length."""
    ours, theirs = _wide(replayed).ravel(), _wide(claimed).ravel()
    with np.errstate(all="ignore"):
        apart = np.abs(theirs - ours) / np.maximum(np.abs(ours), LOSS_FLOOR)
    return float(apart.max(initial=0.0))


def relative(claimed: Array, replayed: Array) -> float:
    """||claimed - replayed|| / ||replayed||: 0 where both are zero, `inf` where only the replay is."""
    return _share(math.sqrt(_squares(claimed, replayed)), math.sqrt(_squares(replayed, None)))


def tree_sum(values: npt.NDArray[np.float64]) -> float:
    """The sum of a vector, with the same rounding on every machine: halves are added element by element, since the
    order of a library's own sum depends on the processor.

    >>> tree_sum(np.arange(5.0))
    10.0
    """
    with np.errstate(all="ignore"):
        while values.size > 1:
            half = values.size // 2
            rest = values[2 * half :]
            values = values[:half] + values[half : 2 * half]
            if rest.size:
                values[0] += rest[0]
    return float(values[0]) if values.size else 0.0


def check_record(root: bytes, record: bytes, index: int, count: int, path: Sequence[bytes]) -> None:
    """Raises Refused `data_not_in_root` unless `record` is number `index` of the `count` of the data set `root`."""
    if not merkle.verify(root, record, index, count, path):
        raise Refused(
            f"record {index} of {count} is not the one that the job's data set holds there",
            code="data_not_in_root",
            fix="Read the records that the schedule names from the data set of the specification.",
            numbers={"index": index, "count": count},
        )


def _malformed(
    start: Tensors, claimed: Tensors, replayed: Tensors, claimed_aux: Tensors, replayed_aux: Tensors
) -> Comparison | None:
    """What rules out a comparison by numbers."""
    if fault := not_finite(claimed, claimed_aux, replayed, replayed_aux, start):
        return fault
    if difference := unlike(start, replayed) or unlike(claimed, replayed):
        return incomparable(difference)
    needed = {LOSSES, NORMS} & set(replayed_aux) | {LOSSES}
    for aux in (claimed_aux, replayed_aux):
        if missing := needed - set(aux):
            return incomparable(f"the unit tells no {min(missing)}")
    if STEP in replayed and not np.array_equal(claimed[STEP], replayed[STEP]):
        return Comparison(math.inf, "update_differs", "the unit ends at another step than its replay")
    return None


def _stood_still(start: Tensors, after: Tensors) -> bool:
    return all(np.array_equal(array, start[name]) for name, array in after.items() if name.startswith(PARAMETERS))


def _gradient(claimed: Tensors, replayed: Tensors, tolerance: Tolerance) -> Comparison:
    """The raw gradient of the unit's first step, before any optimizer has amplified anything: the sharpest test."""
    if GRADIENT not in replayed:
        return Comparison(0.0, "gradient_differs", "the unit tells no gradient")
    ours, theirs = replayed[GRADIENT], claimed.get(GRADIENT)
    if theirs is None or theirs.shape != ours.shape:
        return Comparison(math.inf, "gradient_differs", "the unit does not tell its first gradient")
    err = relative(theirs, ours)
    said = f"the first gradient differs by {err:.2e}"
    return Comparison(rescaled(err, GRADIENT_OK, GRADIENT_BAD, tolerance), "gradient_differs", said)


def _losses(claimed: Tensors, replayed: Tensors, tolerance: Tolerance) -> Comparison:
    ours, theirs = replayed[LOSSES], claimed[LOSSES]
    if ours.size != theirs.size:
        return Comparison(math.inf, "loss_differs", f"{theirs.size} losses of {ours.size} steps")
    err = loss_error(theirs, ours)
    return Comparison(rescaled(err, LOSS_OK, LOSS_BAD, tolerance), "loss_differs", f"a loss differs by {err:.2e}")


def _share(apart: float, whole: float) -> float:
    """`apart` in parts of `whole`; `inf` beside nothing, and where numbers too large for their squares met."""
    if not apart:
        return 0.0
    return apart / whole if 0 < whole < math.inf else math.inf


def _wide(array: Array) -> npt.NDArray[np.float64]:
    return np.asarray(array, dtype=np.float64)


def _squares(array: Array, other: Array | None) -> float:
    """Sum of the squares of a tensor, or of its difference from another."""
    with np.errstate(all="ignore"):
        apart = _wide(array) if other is None else _wide(array) - _wide(other)
        return tree_sum(np.square(apart).ravel())
