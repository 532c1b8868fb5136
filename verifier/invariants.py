"""What must hold of every honest result, checked on all of them, at a fraction of the price of computing it.

Each function measures one number that is 0 for a perfect result and `inf` for one that is none; `check` compares it
with the limit that the job states. Spec: specs/36-scientific-proof.md.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from verifier.score import Comparison

Floats = npt.NDArray[np.float64]

WITHIN: Final = "within_tolerance"

CODES: Final = {
    "residual": "residual_too_large",
    "drift": "drift_too_large",
    "violation": "constraint_violated",
    "gap": "gap_too_large",
}
"""What a broken invariant is called in a verdict."""


def check(kind: str, value: float, limit: float) -> Comparison:
    """The measured number against the job's limit. Raises KeyError for a kind that CODES lacks."""
    said = f"{kind} is {value:.3e}, at most {limit:.3e} is allowed"
    return Comparison(value, WITHIN if value <= limit else CODES[kind], said)


def residual(matrix: Floats, solution: Floats, right: Floats) -> float:
    """‖Ax − b‖ / (‖A‖ ‖x‖ + ‖b‖): how large an error in A and b would make the solution exact (Rigal and Gaches, "On
    the compatibility of a given solution with the data of a linear system", 1967)."""
    if matrix.ndim != 2 or matrix.shape != (len(right), len(solution)) or not _finite(matrix, solution, right):
        return math.inf
    with np.errstate(all="ignore"):
        size = float(np.linalg.norm(matrix) * np.linalg.norm(solution) + np.linalg.norm(right))
        return _share(float(np.linalg.norm(matrix @ solution - right)), size)


def drift(series: Floats, scale: float = 0.0) -> float:
    """Largest distance of an invariant from its first value, relative to that, or to `scale` where it may be zero."""
    if series.ndim != 1 or not len(series) or not _finite(series):
        return math.inf
    return _share(float(np.abs(series - series[0]).max()), scale or abs(float(series[0])))


def violation(constraints: Floats, scale: float = 1.0) -> float:
    """Largest absolute value of functions that should all be zero, in parts of `scale`: bond lengths, divergence."""
    if not _finite(constraints):
        return math.inf
    return _share(float(np.abs(constraints).max(initial=0.0)), scale)


def gap(matrix: Floats, right: Floats, costs: Floats, primal: Floats, dual: Floats) -> float:
    """For min c·x with Ax ≥ b, x ≥ 0: the largest of duality gap, primal and dual infeasibility, each relative. Zero
    proves that x is the optimum, whoever found it."""
    shapes_fit = matrix.ndim == 2 and matrix.shape == (len(right), len(costs)) == (len(dual), len(primal))
    if not shapes_fit or not _finite(matrix, right, costs, primal, dual):
        return math.inf
    with np.errstate(all="ignore"):
        value, bound = float(costs @ primal), float(right @ dual)
        size = 1.0 + abs(value)
        lacks = np.maximum(right - matrix @ primal, 0.0).max(initial=0.0) / (1.0 + np.abs(right).max(initial=0.0))
        exceeds = np.maximum(matrix.T @ dual - costs, 0.0).max(initial=0.0) / (1.0 + np.abs(costs).max(initial=0.0))
        below = max(np.maximum(-primal, 0.0).max(initial=0.0), np.maximum(-dual, 0.0).max(initial=0.0))
        worst = max(abs(value - bound) / size, float(lacks), float(exceeds), float(below))
    return worst if not math.isnan(worst) else math.inf


def _share(part: float, whole: float) -> float:
    """`part` of `whole`; nothing is 0 of nothing, and something is infinitely much of it."""
    if not part:
        return 0.0
    share = part / whole if 0.0 < whole < math.inf else math.inf
    return share if not math.isnan(share) else math.inf


def _finite(*arrays: Floats) -> bool:
    return all(bool(np.isfinite(array).all()) for array in arrays)
