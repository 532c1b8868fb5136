"""A tile of a picture compared with what an auditor computed of it.

The claimed state's last row is the tile's mean light; its aux has what lies behind: `n` samples of each of R ranges,
their `sums` in steps of 1 / `scale`, and the `squares`. An auditor computes the pixels that the challenge chose with
all samples (`pixels`, `pixel_sums`, `pixel_squares`), and all pixels with the samples of one range (`range`,
`range_sums`). Spec: specs/35-rendering-proof.md.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from protocol.proof import PPT, Tolerance
from verifier import variance
from verifier.comparable import incomparable, not_finite
from verifier.score import Comparison
from verifier.tensors import Array, Tensors

ROWS: Final = "rows"
TORN: Final = "torn"
SCALE: Final = "scale"
WITHIN: Final = "within_tolerance"

OUTLIERS: Final = 1e-3
"""Share of pixels that may differ by any amount, and one more: paths whose ray misses an edge on one machine only."""

FLOOR: Final = 1e-2
"""Of the tile's mean light: below it a pixel is compared absolutely, since all of a dark pixel may be rounding."""

ROW_OK: Final = 1e-6
"""Relative: the mean that the state holds against the sums of the aux; a few last bits of 32-bit floats."""


def compare(
    start: Tensors,
    claimed: Tensors | None,
    replayed: Tensors | None,
    claimed_aux: Tensors,
    replayed_aux: Tensors,
    tolerance: Tolerance,
) -> Comparison:
    """The worst of the chosen pixels, the chosen range and the laws that need no replay. Never raises for what a peer
    wrote. `replayed` is the whole state after the unit, or None where the auditor computed a part."""
    if claimed is None:
        return incomparable("a tile ends in a state, and there is none")
    if infinite := not_finite(claimed, claimed_aux, replayed or {}, replayed_aux, start):
        return infinite
    if fault := _misshapen(claimed, claimed_aux, replayed_aux):
        return incomparable(fault)
    if fault := _too_few(claimed_aux, replayed_aux):
        return Comparison(math.inf, "too_few_samples", fault)
    if fault := _misshapen_part(replayed_aux, claimed_aux["sums"].shape):
        return incomparable(fault)
    if fault := _torn(start, claimed, replayed_aux) or _unlike_sums(claimed, claimed_aux, replayed_aux):
        return Comparison(math.inf, "rows_differ", fault)
    noise = variance.examine(claimed_aux["sums"], claimed_aux["n"], claimed_aux.get("squares"))
    if fault := variance.broken(noise):
        return Comparison(math.inf, "variance_law", fault)
    err, what = _pixels(claimed_aux, replayed_aux)
    said = f"{what} differ by {err:.2e}"
    return Comparison(err, WITHIN if err * PPT <= tolerance.t_ok else "pixels_differ", said)


def apart(claimed: Array, replayed: Array) -> float:
    """Distance of two sets of pixels (m, 3): the largest relative difference when the OUTLIERS farthest are left out,
    or the difference of all in parts of all light, so that the ones left out cannot be anything."""
    one, other = np.asarray(claimed, np.float64).reshape(-1, 3), np.asarray(replayed, np.float64).reshape(-1, 3)
    if not other.size:
        return math.inf
    with np.errstate(all="ignore"):
        difference = np.abs(one - other).sum(axis=1)
        light = np.abs(other).sum(axis=1)
        floor = FLOOR * light.mean()
        relative = difference / np.maximum(light, floor) if floor > 0 else np.where(difference > 0, math.inf, 0.0)
        kept = np.sort(relative)[: max(1, len(relative) - 1 - int(OUTLIERS * len(relative)))]
        whole = float(difference.sum() / light.sum()) if floor > 0 else 0.0
    worst = max(float(kept[-1]), whole) if floor > 0 else float(relative.max())
    return worst if not math.isnan(worst) else math.inf


def _pixels(claimed: Tensors, replayed: Tensors) -> tuple[float, str]:
    """The largest distance of anything that both have, and what it is of."""
    height, width = claimed["sums"].shape[1:3]
    flat = claimed["sums"].reshape(len(claimed["n"]), height * width, 3)
    found: list[tuple[float, str]] = []
    if "pixels" in replayed:
        chosen = np.asarray(replayed["pixels"], np.int64)
        found.append((apart(flat[:, chosen], replayed["pixel_sums"]), f"{len(chosen)} pixels with all samples"))
        if "squares" in claimed and "pixel_squares" in replayed:
            squares = claimed["squares"].reshape(height * width, 3)[chosen]
            found.append((apart(squares, replayed["pixel_squares"]), f"squares of {len(chosen)} pixels"))
    if "range" in replayed:
        which = int(replayed["range"][0])
        found.append((apart(flat[which], replayed["range_sums"]), f"all pixels of range {which}"))
    if "sums" in replayed:
        found.append((apart(flat, replayed["sums"]), "all pixels with all samples"))
    return max(found, key=lambda one: one[0])


def _misshapen(claimed: Tensors, aux: Tensors, ours: Tensors) -> str:
    """Why these cannot be compared; empty when they can."""
    rows, sums, counts = claimed.get(ROWS), aux.get("sums"), aux.get("n")
    if rows is None or sums is None or counts is None or "n" not in ours:
        return "a tile has rows, sums and n"
    if sums.ndim != 4 or sums.shape[3] != 3 or not sums.size or counts.shape != (len(sums),):
        return f"sums are {list(sums.shape)} for {list(counts.shape)} ranges"
    if counts.dtype.kind not in "iu" or int(counts.min(initial=1)) < 1:
        return "a range has no samples"
    if rows.ndim != 4 or not len(rows) or rows.shape[1:] != sums.shape[1:]:
        return f"the rows are {list(rows.shape)}, the tile is {list(sums.shape[1:])}"
    if "squares" in aux and aux["squares"].shape != sums.shape[1:]:
        return "the squares have another shape than the tile"
    return ""


def _misshapen_part(ours: Tensors, shape: tuple[int, ...]) -> str:
    places = shape[1] * shape[2]
    scale = ours.get(SCALE)
    if scale is None or scale.shape != (1,) or scale.dtype.kind != "f" or not float(scale[0]) > 0:
        return "the auditor does not say what a step of light is"
    if "pixels" in ours:
        chosen, sums = ours["pixels"], ours.get("pixel_sums")
        if chosen.ndim != 1 or chosen.dtype.kind not in "iu" or not 0 < len(chosen) <= places:
            return "the chosen pixels are no list of places"
        if not 0 <= int(chosen.min()) <= int(chosen.max()) < places:
            return "a chosen pixel lies outside the tile"
        if sums is None or sums.shape != (shape[0], len(chosen), 3):
            return "the chosen pixels have no sums"
        if ours.get("pixel_squares", sums[0]).shape != (len(chosen), 3):
            return "the chosen pixels' squares have another shape"
    if "range" in ours:
        which, sums = ours["range"], ours.get("range_sums")
        if which.shape != (1,) or which.dtype.kind not in "iu" or not 0 <= int(which[0]) < shape[0]:
            return "the chosen range is none of the tile's"
        if sums is None or sums.shape != shape[1:]:
            return "the chosen range has no sums"
    if "sums" in ours and ours["sums"].shape != shape:
        return "the replayed sums have another shape"
    return "" if {"pixels", "range", "sums"} & set(ours) else "nothing was computed again"


def _too_few(aux: Tensors, ours: Tensors) -> str:
    claimed, wanted = aux["n"].astype(np.int64), ours["n"].astype(np.int64)
    if np.array_equal(claimed, wanted):
        return ""
    found, asked = int(claimed.sum()), int(wanted.sum())
    return f"{found} samples in {len(claimed)} ranges, the job asks for {asked} in {len(wanted)}"


def _torn(start: Tensors, claimed: Tensors, ours: Tensors) -> str:
    """A unit adds its row and leaves the others as they were."""
    before, after = start.get(ROWS), claimed[ROWS]
    if TORN in ours and bool(np.any(ours[TORN])):
        return "states of this claim do not continue one another"
    if before is None or len(after) != len(before) + 1 or before.shape[1:] != after.shape[1:]:
        return "the unit does not add one row"
    return "" if np.array_equal(after[:-1], before) else "the unit changed a tile that was done"


def _unlike_sums(claimed: Tensors, aux: Tensors, ours: Tensors) -> str:
    """The mean that the picture shows is that of the sums, by the auditor's word for what one step of light is."""
    total = np.zeros(aux["sums"].shape[1:], np.float64)
    for part in np.asarray(aux["sums"], np.float64):
        total = total + part
    row = np.asarray(claimed[ROWS][-1], np.float64)
    with np.errstate(all="ignore"):
        expected = total / (float(aux["n"].sum()) * float(ours[SCALE][0]))
        off = float(np.abs(row - expected).max(initial=0.0))
        size = float(np.abs(expected).max(initial=0.0))
    return "" if off <= ROW_OK * size else f"the tile is not the mean of its sums: {off:.2e} of {size:.2e}"
