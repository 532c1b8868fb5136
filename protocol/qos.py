"""Quality of service: one number for how good a provider is to have, and the tier it gives. Spec: specs/39-trust.md.

Reputation says whether a result will come and be right; this says how pleasant, how steady and how dear it is. Pure
integers in parts per million; what nobody measured counts half, so that silence is neither an excuse nor a crime.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from protocol.reputation import Record
from protocol.units import PPM, Micros

LATENCY_WEIGHT: Final = 300_000
ACCURACY_WEIGHT: Final = 250_000
UPTIME_WEIGHT: Final = 200_000
POWER_WEIGHT: Final = 150_000
COST_WEIGHT: Final = 100_000
"""ppm of the score (features L5: .30, .25, .20, .15, .10)."""

LATENCY_HALF: Final = Micros(500_000)
"""Microseconds of round trip at which that part is one half: the bound of the fast tier (features J9)."""

UNMEASURED: Final = 500_000
"""ppm that a part counts which nobody measured."""

GOLD: Final = 900_000
SILVER: Final = 750_000
BRONZE: Final = 500_000
"""ppm: the least score of each tier."""

RESULTS_MIN: Final = 50
"""Results with a verdict below which there is no tier: 98 % of fewer is one bad result."""

Tier = Literal["gold", "silver", "bronze", "none"]


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of a provider; None where nobody measured."""

    record: Record
    latency: Micros | None = None
    """Round trip."""
    work_per_watt: int | None = None
    """Of this host's work per watt, as its benchmark found it."""
    reference_per_watt: int | None = None
    """Of the same for its card's profile; both in the same unit."""
    price: int | None = None
    """Its hourly price, smallest units."""
    median_price: int | None = None
    """Of all live offers."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The five parts, ppm each."""

    latency: int
    accuracy: int
    uptime: int
    power: int
    cost: int

    @property
    def score(self) -> int:
        """ppm.

        >>> Parts(1_000_000, 1_000_000, 1_000_000, 500_000, 500_000).score
        875000
        """
        weighted = (
            LATENCY_WEIGHT * self.latency
            + ACCURACY_WEIGHT * self.accuracy
            + UPTIME_WEIGHT * self.uptime
            + POWER_WEIGHT * self.power
            + COST_WEIGHT * self.cost
        )
        return weighted // PPM


def parts(known: Measured) -> Parts:
    """The five parts of what is known. Uptime that nobody watched is unmeasured here, unlike in reputation."""
    record = known.record
    return Parts(
        latency=UNMEASURED if known.latency is None else PPM * LATENCY_HALF // (LATENCY_HALF + max(0, known.latency)),
        accuracy=record.accepted * PPM // record.results if record.results else UNMEASURED,
        uptime=min(record.present, record.observed) * PPM // record.observed if record.observed else UNMEASURED,
        power=_share(known.work_per_watt, known.reference_per_watt),
        cost=_share(known.median_price, known.price),
    )


def tier(score: int, results: int) -> Tier:
    """The tier of a score after so many results.

    >>> tier(900_000, 50), tier(899_999, 50), tier(1_000_000, 49), tier(499_999, 50)
    ('gold', 'silver', 'none', 'none')
    """
    if results < RESULTS_MIN or score < BRONZE:
        return "none"
    return "gold" if score >= GOLD else "silver" if score >= SILVER else "bronze"


def _share(part: int | None, whole: int | None) -> int:
    """part / whole in ppm, cut at one; unmeasured where one is missing. Free of charge is as cheap as can be."""
    if part is None or whole is None:
        return UNMEASURED
    return PPM if whole <= 0 else max(0, min(PPM, part * PPM // whole))
