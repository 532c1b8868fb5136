"""What each tier of service promises, when a promise is broken, and what that is worth. Spec: specs/39-trust.md.

A promise is measured over a month of a provider's leases, from what the ledger and the watchers saw. In force on the
ledger is what a verdict does by itself: an undelivered chunk costs the renter nothing. The credit beyond that is a
figure which a gateway owes its own customers; peers owe it to nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from protocol.qos import Tier
from protocol.units import DAY, PPM, SECOND, Micros

PERIOD: Final = Micros(30 * DAY)
"""Microseconds over which promises are measured."""

CREDIT_MAX: Final = 500_000
"""Of what was paid in the period, ppm, that is given back at most."""

Promise = Literal["uptime", "delivered", "correct", "start"]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a tier promises over a period."""

    uptime: int
    """Share of the time in which its watchers heard of it, ppm."""
    delivered: int
    """Share of leases that ended with a result, ppm."""
    correct: int
    """Share of judged results that were accepted, ppm."""
    start: Micros
    """From a lease to the first beat, at most, for 95 of 100 leases."""
    credit: int
    """Of what was paid in the period, ppm, per broken promise."""


SLA: Final[Mapping[Tier, Terms]] = MappingProxyType(
    {
        "gold": Terms(995_000, 995_000, 999_000, Micros(10 * SECOND), 100_000),
        "silver": Terms(990_000, 980_000, 995_000, Micros(30 * SECOND), 50_000),
        "bronze": Terms(950_000, 950_000, 990_000, Micros(120 * SECOND), 25_000),
        "none": Terms(0, 0, 0, PERIOD, 0),
    }
)
"""`silver` promises the 99 % that the owner expects of the fleet; who has no tier promises nothing."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of a provider in one period."""

    observed: Micros
    present: Micros
    leases: int
    delivered: int
    judged: int
    accepted: int
    start: Micros
    """95th of 100 spans from lease to first beat; 0: none was seen."""
    paid: int
    """To it, smallest units."""


@dataclass(frozen=True, slots=True)
class Breach:
    """A promise that was not kept."""

    promise: Promise
    promised: int
    seen: int
    """Both in ppm; `start` in microseconds."""


def breaches(tier: Tier, seen: Seen) -> tuple[Breach, ...]:
    """Every promise of the tier that was broken. What was not measured in the period is not broken.

    >>> seen = Seen(Micros(1000), Micros(994), 100, 100, 100, 100, Micros(0), 0)
    >>> [one.promise for one in breaches("gold", seen)], breaches("silver", seen)
    (['uptime'], ())
    """
    terms = SLA[tier]
    rows: tuple[tuple[Promise, int, int, int], ...] = (
        ("uptime", terms.uptime, min(seen.present, seen.observed), seen.observed),
        ("delivered", terms.delivered, min(seen.delivered, seen.leases), seen.leases),
        ("correct", terms.correct, min(seen.accepted, seen.judged), seen.judged),
    )
    found = [
        Breach(promise, promised, part * PPM // whole)
        for promise, promised, part, whole in rows
        if whole > 0 and part * PPM < promised * whole
    ]
    if seen.start > terms.start:
        found.append(Breach("start", terms.start, seen.start))
    return tuple(found)


def credit(tier: Tier, seen: Seen) -> int:
    """What broken promises are worth to the renters of the period, smallest units: a share of what was paid for each,
    together at most half of it.

    >>> credit("gold", Seen(Micros(1000), Micros(900), 100, 90, 100, 90, Micros(99_000_000), 1_000))
    400
    """
    share = min(CREDIT_MAX, SLA[tier].credit * len(breaches(tier, seen)))
    return max(0, seen.paid) * share // PPM
