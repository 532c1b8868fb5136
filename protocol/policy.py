"""How strictly a network holds its members to their word: windows, shares and bonds, fixed in its genesis.

A genesis without a policy pays at the verdict and draws from block hashes, as small private networks may.
Spec: specs/32-economics.md.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from protocol.units import DAY, MINUTE, PPM, Micros

Ppm = Annotated[int, Meta(ge=0, le=PPM)]

DISPUTE_WINDOW: Final = Micros(10 * MINUTE)
"""Microseconds for which pay is held unless a network says otherwise: a panel of three re-executes a 2-minute chunk."""

UNBOND_TIME: Final = Micros(8 * DAY)
"""Stake stays out of reach this long, µs: longer than evidence may be old (7 d) and than any lease may run."""

ROUNDS_MAX: Final = 3
"""Two panels and the game: what comes after a game has nobody left to ask."""

BURN_MIN: Final = PPM // 2
"""Parts per million of every slash that leaves the world: who challenges himself through a friend still loses half."""


class Policy(Struct, frozen=True, forbid_unknown_fields=True):
    """The economics in force. Shares are in parts per million, times in microseconds."""

    dispute_window: Annotated[int, Meta(ge=0, le=30 * 86_400_000_000)] = DISPUTE_WINDOW
    """From a decision until what it moves is paid; 0: at once."""
    rule_time: Annotated[int, Meta(ge=1_000_000, le=30 * 86_400_000_000)] = Micros(30 * MINUTE)
    """From an appeal until the last decision stands because nobody ruled."""
    burn: Annotated[int, Meta(ge=BURN_MIN, le=PPM)] = BURN_MIN
    """Of every slash and every lost bond; never less than half."""
    bond_min: Annotated[int, Meta(ge=1, le=2**62)] = 10_000
    """Smallest units that an appeal stakes at least, however cheap the chunk is."""
    audit_rate: Ppm = 100_000
    """Share of results that is executed again at least (features V2)."""
    collusion: Ppm = 200_000
    """Share of auditors that may be the provider's own."""
    has_exposure_cap: bool = False
    """Whether leases beyond what stake and held pay cover are refused."""
    audit_fee: Ppm = 600_000
    """Share of the commission of an audited result that its auditor gets: 6 % of the price, because replaying 4 of 64
    units costs 4.5 % of it, and not auditing must not pay better."""
    auditor_slash: Ppm = 100_000
    """Share of its stake that an auditor loses whose sealed result two others refuted."""
    probation: Annotated[int, Meta(ge=0, le=1_000)] = 50
    """Results that are all audited after a statistical rejection."""
    has_beacon: bool = False
    """Whether audits are drawn from commit-reveal beacons of the validators instead of block hashes."""
    beacon_time: Annotated[int, Meta(ge=100_000, le=600_000_000)] = Micros(10_000_000)
    """From the first sealed part of a beacon until those who have not opened theirs are slashed."""


def longest_dispute(policy: Policy) -> Micros:
    """From a verdict to the end of all that can follow, µs: a window before and after each round, and each ruling late.

    >>> longest_dispute(Policy()) < UNBOND_TIME
    True
    """
    return Micros((ROUNDS_MAX + 1) * (policy.dispute_window + 1) + ROUNDS_MAX * (policy.rule_time + 1))
