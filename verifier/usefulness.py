"""Whether training was of use: the loss on records that nobody was told of beforehand, before and after.

This is another question than whether the work was done. Honest arithmetic on bad data makes a model worse, and no
replay can tell; so a loss that falls earns a bonus, and one that rises costs nothing. Spec: specs/33-training-proof.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from protocol.units import PPM
from verifier.tensors import Tensors

BONUS_MAX: Final = 100_000
"""ppm of the price that the best update can add."""

FULL_SHARE: Final = 50_000
"""ppm by which the hidden loss falls in one chunk for the whole bonus."""

NOISE_MAX: Final = 1_000
"""ppm: a smaller fall than this is noise of the shard, and earns nothing."""


class Usefulness(Struct, frozen=True, forbid_unknown_fields=True):
    """Losses on the hidden shard, and what they are worth."""

    before: float
    after: float
    bonus: int
    """ppm of the price, never below zero."""
    code: str
    """`useful`, `not_useful`, or `not_finite`; none of them is a fault."""


def usefulness(before: float, after: float) -> Usefulness:
    """The bonus for a hidden loss that went from `before` to `after`, in proportion up to FULL_SHARE.

    >>> [usefulness(2.0, after).bonus for after in (1.8, 1.95, 2.0, 9.0, float("nan"))]
    [100000, 50000, 0, 0, 0]
    """
    if not (0 < before < math.inf and 0 <= after < math.inf):
        return Usefulness(before, after, 0, "not_finite")
    fall = math.floor(max(0.0, 1 - after / before) * PPM + 0.5)
    if fall <= NOISE_MAX:
        return Usefulness(before, after, 0, "not_useful")
    return Usefulness(before, after, min(BONUS_MAX, BONUS_MAX * fall // FULL_SHARE), "useful")


def measured(loss: Callable[[Tensors], float], before: Tensors, after: Tensors) -> Usefulness:
    """`loss` evaluates a model on the hidden shard, which is drawn after the claim and shown to no provider."""
    return usefulness(loss(before), loss(after))
