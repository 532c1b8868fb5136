"""How far a claimed unit is from its replay, as one number, and what that number means for the claim.

An error between what honest machines reach (`t_ok`) and what the mildest known cheat reaches (`t_bad`) is placed on a
logarithmic scale between them. The two cut-offs are places on that scale; they are no similarities of tensors, which
tell nothing: weights that nobody trained have cosine 0.999997 with those after the step.
Spec: specs/33-training-proof.md.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Final

from msgspec import Struct

from protocol.errors import Refused
from protocol.proof import PPT, Tolerance
from protocol.units import PPM

ACCEPT: Final = 950_000
"""ppm: from this score on the claim stands."""

SECOND: Final = 850_000
"""ppm: from here to ACCEPT a second auditor decides; below, the claim is disputed."""

HONEST_RUNS_MIN: Final = 200
"""Honest runs that a calibration needs: the largest of fewer says little about the next."""

OK_MARGIN: Final = 5
"""t_ok in largest honest errors."""

BAD_SHARE: Final = 2
"""t_bad is the smallest error of a cheat divided by this."""

GAP_MIN: Final = 5
"""t_bad in t_ok, at least: where the two are closer, no tolerance tells an honest machine from a cheat."""


class Comparison(Struct, frozen=True, forbid_unknown_fields=True):
    """What the comparison of a claimed unit with its replay found."""

    err: float
    """On the scale of the job's tolerance; `inf` where no number would do."""
    code: str
    """`within_tolerance`, or what differs: the classes have their own words."""
    detail: str
    """One sentence with the numbers that disagreed."""


def score(err: float, tolerance: Tolerance) -> int:
    """Parts per million: 1 up to t_ok, 0 from t_bad on, logarithmic between them; 0 where `err` is no finite number.

    >>> pair = Tolerance(t_ok=10**6, t_bad=10**10)
    >>> [score(err, pair) for err in (0.0, 1e-6, 1e-4, 1e-2, float("nan"))]
    [1000000, 1000000, 500000, 0, 0]
    """
    if not 0 <= err < math.inf or not tolerance.t_ok < tolerance.t_bad:
        return 0
    scaled = err * PPT
    if scaled <= tolerance.t_ok:
        return PPM
    share = math.log(scaled / tolerance.t_ok) / math.log(tolerance.t_bad / tolerance.t_ok)
    return round(PPM * min(1.0, max(0.0, 1.0 - share)))


def rescaled(err: float, own_ok: float, own_bad: float, tolerance: Tolerance) -> float:
    """`err`, measured against thresholds of its own, on the scale of `tolerance`: both give the same score.

    A comparison that measures several things tells the worst of them. `nan` and infinities become `inf`."""
    if not 0 <= err < math.inf:
        return math.inf
    share = math.log(max(err, own_ok * 1e-9) / own_ok) / math.log(own_bad / own_ok)
    steepness = math.log(tolerance.t_bad / tolerance.t_ok)
    return tolerance.t_ok / PPT * math.exp(min(700.0, max(-700.0, share * steepness)))


def calibrate(honest_errs: Collection[float], cheat_errs: Collection[float], profile: str = "") -> Tolerance:
    """The tolerance that measured errors allow: five largest honest ones, and half the smallest of the cheats.

    Raises Refused `few_runs`, `not_finite`, and `no_margin` where a cheat comes too close to what is honest: such a
    task has no D3, only bitwise classes."""
    if len(honest_errs) < HONEST_RUNS_MIN or not cheat_errs:
        raise Refused(
            f"{len(honest_errs)} honest runs and {len(cheat_errs)} cheats are too few for a tolerance",
            code="few_runs",
            fix=f"Measure at least {HONEST_RUNS_MIN} honest runs, and every cheat of the battery.",
            numbers={"honest": len(honest_errs), "cheats": len(cheat_errs), "honest_min": HONEST_RUNS_MIN},
        )
    if not all(0 <= err < math.inf for err in (*honest_errs, *cheat_errs)):
        raise Refused("an error is no finite number", code="not_finite", fix="Leave out nothing: find the run.")
    t_ok = max(1, math.ceil(OK_MARGIN * max(honest_errs) * PPT))
    t_bad = math.floor(min(cheat_errs) / BAD_SHARE * PPT)
    if t_bad < GAP_MIN * t_ok or t_ok > PPT:
        raise Refused(
            f"the mildest cheat differs by {min(cheat_errs):.2g}, an honest run by up to {max(honest_errs):.2g}",
            code="no_margin",
            fix="Use a bitwise class (D1) for this task, or fp32 instead of a lower precision.",
            numbers={"t_ok": t_ok, "t_bad": t_bad},
        )
    return Tolerance(t_ok=t_ok, t_bad=min(t_bad, 1000 * PPT), profile=profile)
