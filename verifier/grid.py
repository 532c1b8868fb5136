"""Grid-FP64: what two replays on an absolute grid may differ in, which is nothing, or nearly nothing in large models.

A job of class D1 computes in fp64 and rounds gradients, optimizer and parameters to multiples of 2^-bits at each step:
noise of 1e-16 disappears, except where a number lies half-way between two multiples. That happens about once in
2^29 element-steps, so states of small models are equal bytes. A large model declares D3 with a profile `grid-<bits>`;
then a few elements off by exactly one grid step are no difference. Spec: specs/33-training-proof.md.
"""

from __future__ import annotations

import math
import re
from typing import Final

import numpy as np
from msgspec import Struct

from verifier.score import Comparison
from verifier.tensors import Tensors

GRID_BITS: Final = 24
"""Multiples of 2^-24 for parameters, gradients and momentum under SGD."""

ADAM_BITS: Final = 28
"""The same under AdamW, which divides by small numbers."""

VARIANCE_BITS: Final = 48
"""Multiples of 2^-48 for the mean of squared gradients."""

FLIP_BITS: Final = 29
"""One in 2^29 element-steps is expected to round to the other side: noise of 1e-16 on a grid of 6e-8."""

FLIPS_MARGIN: Final = 10
"""Flips that are accepted, in expected ones."""

_PROFILE: Final = re.compile(r"grid-(\d\d)(?:/.*)?")


class Flips(Struct, frozen=True):
    """How two states on a grid differ."""

    count: int
    """Elements that differ by exactly one grid step."""
    others: int
    """Elements that differ in any other way."""
    allowed: int
    """Elements that may differ by one step."""

    @property
    def is_match(self) -> bool:
        """Whether the two are the same computation."""
        return not self.others and self.count <= self.allowed


def grid_of(profile: str) -> int:
    """Bits of the grid that a tolerance's profile names; 0 when it names none.

    >>> grid_of("grid-24"), grid_of("grid-28/adder"), grid_of("fp32/adamw")
    (24, 28, 0)
    """
    found = _PROFILE.fullmatch(profile)
    return int(found[1]) if found else 0


def flips(claimed: Tensors, replayed: Tensors, bits: int, steps: int) -> Flips:
    """Compare states of equal names and shapes that `steps` steps led to."""
    count = others = elements = 0
    for name, ours in replayed.items():
        theirs = claimed[name]
        elements += ours.size
        if ours.dtype.kind != "f":
            others += int(np.count_nonzero(ours != theirs))
            continue
        grid = math.ldexp(1.0, -(VARIANCE_BITS if name.startswith("variance/") else bits))
        with np.errstate(all="ignore"):
            apart = np.abs(np.asarray(theirs, np.float64) - np.asarray(ours, np.float64))
        differ = apart != 0
        once = int(np.count_nonzero(apart == grid))
        count += once
        others += int(np.count_nonzero(differ)) - once
    return Flips(count, others, FLIPS_MARGIN * elements * steps >> FLIP_BITS)


def compare_on_grid(claimed: Tensors, replayed: Tensors, bits: int, steps: int) -> Comparison:
    """0 or infinity: on a grid two computations are the same or not."""
    found = flips(claimed, replayed, bits, steps)
    said = f"{found.count} elements off by one step of 2^-{bits}, {found.allowed} may be; {found.others} off by more"
    return Comparison(0.0 if found.is_match else math.inf, "within_tolerance" if found.is_match else "off_grid", said)
