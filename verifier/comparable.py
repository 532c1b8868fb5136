"""What rules out a comparison by numbers before any number is compared: the beginning of every class's `compare`.

Finiteness comes first, since no comparison with nan is true. Spec: specs/31-units.md.
"""

from __future__ import annotations

import math

import numpy as np

from verifier.score import Comparison
from verifier.tensors import Tensors


def incomparable(detail: str) -> Comparison:
    """States that no number can compare: one is missing, or has another shape than its replay."""
    return Comparison(math.inf, "shape_differs", detail)


def not_finite(*states: Tensors) -> Comparison | None:
    """The first tensor of `states` with nan or an infinity; None where all numbers are finite."""
    for tensors in states:
        for name, array in tensors.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                return Comparison(math.inf, "not_finite", f"{name} holds nan or an infinity")
    return None


def unlike(claimed: Tensors, replayed: Tensors) -> str:
    """In which name, type or shape two sets of tensors differ; empty when in none."""
    if set(claimed) != set(replayed):
        return f"only one of the two has {min(set(claimed) ^ set(replayed))}"
    for name, array in replayed.items():
        if claimed[name].dtype != array.dtype or claimed[name].shape != array.shape:
            return f"{name} is {claimed[name].dtype}{list(claimed[name].shape)}, not {array.dtype}{list(array.shape)}"
    return ""
