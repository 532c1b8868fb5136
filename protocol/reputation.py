"""Reputation: what a provider's past says about its next result. Spec: specs/10-reputation.md.

Formula L3 in integer parts per million. It orders assignments; it never buys immunity: audits have their own rule
(`verifier.sampling`), and a single wrong result brings them back in full.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

from protocol.units import CREDIT, MINUTE, PPM, Credits, Micros, PeerId

SUCCESS_WEIGHT: Final = 500_000
"""Parts per million: half of the score is the share of results that were accepted (features L3)."""

RESPONSE_WEIGHT: Final = 200_000
"""Parts per million for answering fast, 1/(1 + t/60 s) (features L3)."""

UPTIME_WEIGHT: Final = 200_000
"""Parts per million for being there (features L3)."""

STAKE_WEIGHT: Final = 100_000
"""Parts per million for having something to lose, up to the recommended stake (features L3)."""

RESPONSE_HALF: Final = Micros(MINUTE)
"""Microseconds of mean response at which that part is one half (features L3)."""

STAKE_RECOMMENDED: Final = Credits(100 * CREDIT)
"""Smallest units; ten times the default spend cap of a job, so that cheating on one never pays."""

SUCCESS_STEP: Final = 1_000
"""Parts per million gained per accepted result: +0.1 of 100 points (features L3)."""

MINOR_STEP: Final = 50_000
"""Parts per million lost for not delivering: −5 points (features L3)."""

MAJOR_STEP: Final = 150_000
"""Parts per million lost for a wrong result: −15 points (features L3)."""

SEVERE_STEP: Final = 300_000
"""Parts per million lost for proven fraud: −30 points (features L3)."""

BONUS_MAX: Final = 100_000
"""Parts per million that successes can add: 100 of them, so that a long record cannot prepay for a wrong result."""

NEWCOMER_RESULTS: Final = 10
"""Results with a verdict below which a provider is a newcomer: too few for its success rate to mean much."""

SUCCESS_PRIOR: Final = 500_000
"""Parts per million assumed for a provider without any result: neither trusted nor distrusted."""

Event = Literal["accept", "missing", "wrong", "fraud"]

STEPS: Final[dict[Event, int]] = {
    "accept": SUCCESS_STEP, "missing": -MINOR_STEP, "wrong": -MAJOR_STEP, "fraud": -SEVERE_STEP,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Record:
    """What is known about a provider: counts from the ledger, the rest as this peer observed it."""

    accepted: int = 0
    missing: int = 0
    wrong: int = 0
    fraud: int = 0
    points: int = 0
    """Running balance of `points_after`, parts per million, −PPM to BONUS_MAX."""
    response: Micros = Micros(0)
    """Mean time from a grant to its answer, microseconds."""
    observed: Micros = Micros(0)
    """Time over which its presence was watched; 0 = not yet."""
    present: Micros = Micros(0)
    """Part of `observed` in which it was there."""
    stake: Credits = Credits(0)

    @property
    def results(self) -> int:
        """Leases that ended with a verdict."""
        return self.accepted + self.missing + self.wrong + self.fraud

    @property
    def is_newcomer(self) -> bool:
        """Too few results to judge by."""
        return self.results < NEWCOMER_RESULTS


def points_after(points: int, event: Event) -> int:
    """The balance after one more verdict, clamped at every step, so that old merit cannot hide a new fault.

    >>> points_after(BONUS_MAX, "wrong")
    -50000
    """
    return max(-PPM, min(BONUS_MAX, points + STEPS[event]))


def score(record: Record, recommended: Credits = STAKE_RECOMMENDED) -> int:
    """Reputation in parts per million, 0 to 1_000_000.

    >>> score(Record())
    650000
    """
    success = record.accepted * PPM // record.results if record.results else SUCCESS_PRIOR
    response = PPM * RESPONSE_HALF // (RESPONSE_HALF + max(0, record.response))
    uptime = min(record.present, record.observed) * PPM // record.observed if record.observed else PPM
    stake = min(PPM, record.stake * PPM // recommended) if recommended > 0 else PPM
    weighted = (
        SUCCESS_WEIGHT * success + RESPONSE_WEIGHT * response + UPTIME_WEIGHT * uptime + STAKE_WEIGHT * stake
    ) // PPM  # fmt: skip
    return max(0, min(PPM, weighted + record.points))


@dataclass(frozen=True, slots=True)
class Rank:
    """What the order of assignment looks at."""

    reputation: int
    """Parts per million."""
    stake: Credits
    is_newcomer: bool


NOBODY: Final = Rank(score(Record()), Credits(0), is_newcomer=True)
"""The rank of a peer about whom nothing is known."""


def rank(record: Record, recommended: Credits = STAKE_RECOMMENDED) -> Rank:
    """The rank that a record gives."""
    return Rank(score(record, recommended), record.stake, record.is_newcomer)


def order(peers: Iterable[PeerId], ranks: Mapping[PeerId, Rank], exploration: int, dice: Random) -> list[PeerId]:
    """Reputation, then stake; at each place a newcomer comes first with probability `exploration` (parts per million)."""
    waiting = sorted(peers, key=lambda peer: (*_descending(ranks.get(peer, NOBODY)), peer))
    ordered: list[PeerId] = []
    while waiting:
        newcomers = [peer for peer in waiting if ranks.get(peer, NOBODY).is_newcomer]
        chosen = waiting[0]
        if 0 < len(newcomers) < len(waiting) and dice.randrange(PPM) < exploration:
            chosen = newcomers[dice.randrange(len(newcomers))]
        waiting.remove(chosen)
        ordered.append(chosen)
    return ordered


def _descending(known: Rank) -> tuple[int, int]:
    return -known.reputation, -known.stake
