"""How long a host computes: the chunk's own length, the host's speed, and the stragglers that any fleet has.

Dean and Barroso, "The Tail at Scale" (2013), is why stragglers are drawn apart: slow runs are a second population, not
the tail of the first. What is drawn depends on nothing but the generator that a host was given.
"""

from __future__ import annotations

from math import exp
from random import Random
from typing import Final

from protocol.errors import Refused
from simulations.scenario import Duration
from simulations.tables.gpus import REFERENCE, Gpu

STRAGGLE_FACTOR: Final = 10
"""How much longer a straggling chunk takes, as the scenario promises."""


def draw(duration: Duration, random: Random) -> int:
    """One length from the distribution, ns on the reference card, at least 1. Raises `Refused` for impossible ones."""
    if duration.value <= 0:
        raise Refused(
            f"a {duration.model} time of {duration.value} ns is no length",
            code="bad_duration",
            fix="Set the time to more than 0.",
        )
    match duration.model:
        case "fixed":
            return duration.value
        case "exponential":
            return max(1, round(random.expovariate(1.0) * duration.value))
        case "lognormal":
            if not 0.0 <= duration.sigma <= 5.0:
                raise Refused(
                    f"a lognormal time cannot have sigma {duration.sigma}",
                    code="bad_duration",
                    fix="Set sigma between 0 and 5: measured job times have 0.3 to 2.",
                )
            return max(1, round(exp(random.gauss(0.0, duration.sigma)) * duration.value))


class Computer:
    """One host's GPU, and how often it straggles and corrupts."""

    __slots__ = ("_random", "corrupt", "gpu", "straggle")

    def __init__(self, gpu: Gpu, straggle: float, corrupt: float, random: Random) -> None:
        """`straggle`, `corrupt`: shares of chunks, 0..1; both may be set while the simulation runs."""
        for name, share in (("straggle", straggle), ("corrupt", corrupt)):
            if not 0.0 <= share <= 1.0:
                raise Refused(
                    f"{name} is a share of chunks, not {share}", code="bad_share", fix=f"Set {name} between 0 and 1."
                )
        self.gpu = gpu
        self.straggle = straggle
        self.corrupt = corrupt
        self._random = random

    def time(self, work: Duration | int) -> int:
        """How long one chunk takes here, ns. `work`: a distribution to draw from, or ns on the reference card."""
        length = work if isinstance(work, int) else draw(work, self._random)
        here = length * REFERENCE.mflops // self.gpu.mflops
        if self._random.random() < self.straggle:
            here *= STRAGGLE_FACTOR
        return max(1, here)

    def is_corrupt(self) -> bool:
        """Whether a chunk's result is silently wrong. Draw once per execution."""
        return self._random.random() < self.corrupt
