"""A unit of a simulation, a sweep or a Monte Carlo run compared with its replay.

A segment takes tensors from `start` to `claimed`. With the replayed change D' = replayed - start of a tensor,

    err = max over tensors of max |claimed - replayed| / rms(D')

The largest element, so that one atom cannot hide among a million; the size of the change below, so that returning the
start is an error of 1 and more, whatever the units of measurement are. Integers must be equal.
Spec: specs/36-scientific-proof.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from protocol.errors import Refused
from protocol.proof import PPT, Tolerance
from verifier.comparable import incomparable, not_finite, unlike
from verifier.score import Comparison, rescaled
from verifier.tensors import Array, Tensors

HISTORY: Final = "history"
ROWS: Final = "rows"
TORN: Final = "torn"
WITHIN: Final = "within_tolerance"

GROWING: Final = (HISTORY, ROWS)
"""Tensors that get one row per unit; the rows before are the start's, to the bit."""

INVARIANT_OK: Final = 1e-5
"""Relative difference of one invariant between honest machines: 2e-7 for the energy of 256 atoms added up in single
precision, and more for more atoms."""

INVARIANT_BAD: Final = 1e-2
"""Relative difference that no honest machine shows."""

LYAPUNOV_MIN: Final = 1e-12
"""Per step: a growth slower than this is none, over any length that a job has."""


def compare(
    start: Tensors,
    claimed: Tensors | None,
    replayed: Tensors | None,
    claimed_aux: Tensors,
    replayed_aux: Tensors,
    tolerance: Tolerance,
) -> Comparison:
    """The worst of all tensors and invariants, on the scale of `tolerance`. Never raises for what a peer wrote."""
    if claimed is None or replayed is None:
        return incomparable("a segment ends in a state, and there is none")
    if fault := not_finite(claimed, claimed_aux, replayed, replayed_aux, start):
        return fault
    if difference := unlike(claimed, replayed) or unlike(claimed_aux, replayed_aux) or _rowless(replayed, replayed_aux):
        return incomparable(difference)
    if torn := _torn(start, claimed):
        return Comparison(math.inf, "rows_differ", torn)
    found = [_segment(name, start.get(name), claimed[name], replayed[name], tolerance) for name in sorted(replayed)]
    found += [_invariants(name, claimed_aux[name], replayed_aux[name], tolerance) for name in sorted(replayed_aux)]
    if not found:
        return incomparable("there is nothing to compare")
    worst = max(found, key=lambda one: one.err)
    return Comparison(worst.err, WITHIN, worst.detail) if worst.err * PPT <= tolerance.t_ok else worst


def change_error(start: Array | None, claimed: Array, replayed: Array) -> float:
    """Largest difference of an element, in parts of the root mean square of the replayed change."""
    ours, theirs = np.asarray(replayed, np.float64), np.asarray(claimed, np.float64)
    with np.errstate(all="ignore"):
        apart = float(np.abs(theirs - ours).max(initial=0.0))
        if not apart:
            return 0.0
        has_start = start is not None and start.shape == replayed.shape
        change = ours - np.asarray(start, np.float64) if has_start else ours
        size = math.sqrt(float(np.square(change).mean()))
    err = apart / size if 0.0 < size < math.inf else math.inf
    return err if not math.isnan(err) else math.inf


def relative(claimed: Array, replayed: Array) -> float:
    """Largest difference of an element in parts of itself, or of a thousandth of the largest one."""
    ours, theirs = np.asarray(replayed, np.float64), np.asarray(claimed, np.float64)
    with np.errstate(all="ignore"):
        size = np.maximum(np.abs(ours), np.abs(ours).max(initial=0.0) * 1e-3)
        apart = np.abs(theirs - ours)
        err = float(np.where(apart > 0.0, apart / size, 0.0).max(initial=0.0))
    return err if not math.isnan(err) else math.inf


def lyapunov(distances: Sequence[float] | npt.NDArray[np.float64]) -> float:
    """Growth per step of the distance of two runs that began a rounding apart: the slope of its logarithm by least
    squares over the part before it saturates (a tenth of the largest). Refused `no_growth_seen` below three points."""
    found = np.asarray(distances, np.float64)
    saturated = np.flatnonzero(found >= max(found.max(initial=0.0) / 10, 10 * found[:1].max(initial=0.0)))
    grown = found[: int(saturated[0]) + 1] if len(saturated) else found
    steps = np.arange(len(grown))
    use = np.isfinite(grown) & (grown > 0.0)
    if int(use.sum()) < 3:
        raise Refused(f"{int(use.sum())} distances are too few to see a growth", code="no_growth_seen")
    slope = float(np.polyfit(steps[use], np.log(grown[use]), 1)[0])
    return max(slope, LYAPUNOV_MIN)


def segment_length(rounding: float, growth: float, t_ok: float) -> int:
    """Largest L with rounding × exp(growth × L) < t_ok: steps of a chaotic system that two machines can be compared
    after. Refused `no_margin` where not even one step is comparable."""
    if not 0.0 < rounding < math.inf or not growth >= LYAPUNOV_MIN:
        raise ValueError(f"no segment for rounding {rounding} and growth {growth}")
    length = math.ceil(math.log(t_ok / rounding) / growth) - 1 if t_ok > rounding else 0
    if length < 1:
        raise Refused(
            f"an error of {rounding:.2g} that grows by {growth:.2g} per step is beyond {t_ok:.2g} at once",
            code="no_margin",
            fix="Use double precision, a shorter time step, or a bitwise class.",
        )
    return length


def check_canaries(results: Tensors, answers: Mapping[int, Array], tolerance: float) -> Comparison:
    """Points of a sweep whose answers the renter knew: `results` has `rows`, one per point. `canary_wrong` when one is
    off by more than `tolerance`, relative."""
    rows, worst, where = results.get(ROWS), 0.0, -1
    for place, answer in answers.items():
        if rows is None or place >= len(rows) or rows[place].shape != answer.shape:
            return incomparable(f"the sweep has no point {place} like the one that was planted")
        err = change_error(None, rows[place], answer)
        if not err <= worst:
            worst, where = err, place
    said = f"the worst of {len(answers)} known points is off by {worst:.2e}"
    code = WITHIN if worst <= tolerance else "canary_wrong"
    return Comparison(worst, code, said if where < 0 else f"{said}, point {where}")


def detection(share: float, canaries: int) -> float:
    """Chance that a sweep with this share of invented points has a wrong canary: 1 - (1 - f)^c."""
    return 1.0 - (1.0 - share) ** canaries


def _segment(name: str, start: Array | None, claimed: Array, replayed: Array, tolerance: Tolerance) -> Comparison:
    if name == HISTORY and len(replayed):
        return _invariants(name, claimed[-1], replayed[-1], tolerance)
    if replayed.dtype.kind != "f":
        return _equal(name, claimed, replayed)
    if name == ROWS and len(replayed):
        err = relative(claimed[-1], replayed[-1])
        return Comparison(err, "segment_differs", f"the row differs by {err:.2e} of itself")
    err = change_error(start, claimed, replayed)
    return Comparison(err, "segment_differs", f"{name} differs by {err:.2e} of its change")


def _invariants(name: str, claimed: Array, replayed: Array, tolerance: Tolerance) -> Comparison:
    """Each in parts of itself, against thresholds of their own."""
    if replayed.dtype.kind != "f":
        return _equal(name, claimed, replayed)
    err = relative(claimed, replayed)
    worst = 0.0 if err <= INVARIANT_OK else rescaled(err, INVARIANT_OK, INVARIANT_BAD, tolerance)
    return Comparison(worst, "segment_differs", f"{name} differs by {err:.2e} of itself")


def _equal(name: str, claimed: Array, replayed: Array) -> Comparison:
    """What is counted, not measured."""
    is_equal = bool(np.array_equal(claimed, replayed))
    said = f"{name} is {'equal' if is_equal else 'another'}"
    return Comparison(0.0 if is_equal else math.inf, "segment_differs", said)


def _torn(start: Tensors, claimed: Tensors) -> str:
    """Growing tensors have one row more than before, behind the same rows."""
    for name in GROWING:
        after = claimed.get(name)
        if after is None:
            continue
        before = start.get(name)
        if before is not None and not before.ndim:
            return f"{name} had no rows"
        count = 0 if before is None else len(before)
        if len(after) != count + 1:
            return f"{name} has {len(after)} rows after {count}"
        if before is not None and not np.array_equal(after[:-1], before):
            return f"the unit changed rows of {name} that were there"
    return ""


def _rowless(*states: Tensors) -> str:
    for tensors in states:
        if name := next((name for name in GROWING if name in tensors and not tensors[name].ndim), ""):
            return f"{name} has no rows"
    return ""
