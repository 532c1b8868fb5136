"""Reputation: what a provider's past says about its next result. Spec: specs/10-reputation.md.

Formula L3 in integer parts per million. It orders assignments; it never buys immunity: audits have their own rule
(`verifier.sampling`), and a single wrong result brings them back in full.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol

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
"""Parts per million lost for a wrong result, or one outside its tolerance: −15 points (features L3)."""

SEVERE_STEP: Final = 300_000
"""Parts per million lost for proven fraud and other severe faults: −30 points (features L3)."""

BONUS_MAX: Final = 100_000
"""Parts per million that successes can add: 100 of them, so that a long record cannot prepay for a wrong result."""

NEWCOMER_RESULTS: Final = 10
"""Results with a verdict below which a provider is a newcomer: too few for its success rate to mean much."""

NEVER: Final = Micros(0)
"""Microseconds: presence that nobody has watched; it counts as full."""

NOTHING: Final = Credits(0)
"""The stake of a peer that has none, smallest units."""

SUCCESS_PRIOR: Final = 500_000
"""Parts per million assumed for a provider without any result: neither trusted nor distrusted."""


class StandingView(Protocol):
    """The sums that the ledger keeps about a provider (`protocol.escrow_state.Standing`)."""

    @property
    def accepted(self) -> int: ...
    @property
    def wrong(self) -> int: ...
    @property
    def missing(self) -> int: ...
    @property
    def fenced(self) -> int: ...
    @property
    def expired(self) -> int: ...
    @property
    def fraud(self) -> int: ...
    @property
    def severe(self) -> int: ...
    @property
    def rejected(self) -> int: ...
    @property
    def withheld(self) -> int: ...
    @property
    def consecutive_valid(self) -> int: ...
    @property
    def response_time_sum(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Record:
    """What is known about a provider: counts from the ledger, the rest as this peer observed it."""

    accepted: int = 0
    missing: int = 0
    wrong: int = 0
    fraud: int = 0
    consecutive_valid: int = 0
    """Accepted since the last fault."""
    response: Micros = NEVER
    """Mean time from a grant to its answer, microseconds."""
    observed: Micros = NEVER
    """Time over which its presence was watched; 0 = not yet."""
    present: Micros = NEVER
    """Part of `observed` in which it was there."""
    stake: Credits = NOTHING

    @property
    def results(self) -> int:
        """Leases that ended with a verdict."""
        return self.accepted + self.missing + self.wrong + self.fraud

    @property
    def is_newcomer(self) -> bool:
        """Too few results to judge by."""
        return self.results < NEWCOMER_RESULTS


def record(standing: StandingView | None, stake: Credits, observed: Micros = NEVER, present: Micros = NEVER) -> Record:
    """A record from the ledger's sums and what this peer saw itself. Leases lost by silence count as not delivered."""
    if standing is None:
        return Record(stake=stake, observed=observed, present=present)
    return Record(
        accepted=standing.accepted,
        missing=standing.missing + standing.expired + standing.fenced + standing.withheld,
        wrong=standing.wrong + standing.rejected,
        fraud=standing.fraud + standing.severe,
        consecutive_valid=standing.consecutive_valid,
        response=Micros(standing.response_time_sum // standing.accepted if standing.accepted else 0),
        observed=observed,
        present=present,
        stake=stake,
    )


def points(known: Record) -> int:
    """Balance of rewards and penalties, parts per million, −1_000_000 to BONUS_MAX.

    Old merit cannot hide a new fault: since the last one it is at most the bonus less that fault plus what came after.

    >>> points(Record(accepted=10_000, wrong=1)), points(Record(accepted=10_150, wrong=1, consecutive_valid=150))
    (-50000, 100000)
    """
    faults = MINOR_STEP * known.missing + MAJOR_STEP * known.wrong + SEVERE_STEP * known.fraud
    balance = min(BONUS_MAX, SUCCESS_STEP * known.accepted - faults)
    if faults:
        worst = SEVERE_STEP if known.fraud else MAJOR_STEP if known.wrong else MINOR_STEP
        balance = min(balance, BONUS_MAX - worst + SUCCESS_STEP * known.consecutive_valid)
    return max(-PPM, balance)


def score(known: Record, recommended: Credits = STAKE_RECOMMENDED) -> int:
    """Reputation in parts per million, 0 to 1_000_000.

    >>> score(Record())
    650000
    """
    success = known.accepted * PPM // known.results if known.results else SUCCESS_PRIOR
    response = PPM * RESPONSE_HALF // (RESPONSE_HALF + max(0, known.response))
    uptime = min(known.present, known.observed) * PPM // known.observed if known.observed else PPM
    stake = min(PPM, known.stake * PPM // recommended) if recommended > 0 else PPM
    weighted = (
        SUCCESS_WEIGHT * success + RESPONSE_WEIGHT * response + UPTIME_WEIGHT * uptime + STAKE_WEIGHT * stake
    ) // PPM  # fmt: skip
    return max(0, min(PPM, weighted + points(known)))


@dataclass(frozen=True, slots=True)
class Rank:
    """What the order of assignment looks at."""

    reputation: int
    """Parts per million."""
    stake: Credits
    is_newcomer: bool


NOBODY: Final = Rank(score(Record()), Credits(0), is_newcomer=True)
"""The rank of a peer about whom nothing is known."""


def rank(known: Record, recommended: Credits = STAKE_RECOMMENDED) -> Rank:
    """The rank that a record gives."""
    return Rank(score(known, recommended), known.stake, known.is_newcomer)


def order(peers: Iterable[PeerId], ranks: Mapping[PeerId, Rank], exploration: int, dice: Random) -> list[PeerId]:
    """Reputation, then stake; at each place a newcomer comes first with probability `exploration` (ppm)."""
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
