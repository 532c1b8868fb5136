"""Who gets which chunk: the choice among bids, and the lease that is offered. Spec: specs/14-steward.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Final

import msgspec
from msgspec import UNSET

from protocol import trust
from protocol.jobspec import JobSpec
from protocol.messages import Bid
from protocol.operations import PRICE_STEP as PRICE_STEP
from protocol.operations import Assign
from protocol.units import HOUR, PPM, SECOND, Credits, Micros, PeerId

CLAIM_MARGIN: Final = Micros(60 * SECOND)
"""Ledger time on top of a chunk's timeout for fetching inputs, starting and claiming (measured: image start ≤ 2 s,
inputs at 60 MB/s; a minute covers 3 GB)."""

VERDICT_WINDOW: Final = Micros(30 * 60 * SECOND)
"""Ledger time from the last claim to the last verdict: one audit of a 10-minute chunk, drawn twice."""

COLLATERAL_PPM: Final = PPM
"""Stake bound per lease, as a share of its price: all of it, so that a proven fraud costs more than it brings."""

EXPLORATION_PPM: Final = 100_000
"""Share of choices that ignore reputation, so that newcomers can earn one (features L3)."""

LEDGER_BEHIND: Final = "ledger_behind"
"""What a provider says that cannot judge a lease yet: it is asked again at once."""


def chunk_price(price_per_hour: int, estimate: Micros) -> Credits:
    """Fixed price of one chunk: hourly price × estimate, rounded up to a whole `PRICE_STEP`.

    >>> chunk_price(1_000_000, Micros(30_000_000))
    8340
    """
    return Credits(-(-price_per_hour * estimate // (HOUR * PRICE_STEP)) * PRICE_STEP)


def chunk_cost(price: int, spec: JobSpec) -> Credits:
    """What one chunk at this price may cost its renter: the price, and what is set aside for auditors."""
    return Credits(price + trust.evidence_price(price, trust.terms(spec), spec.units))


@dataclass(slots=True)
class Bidder:
    """A provider that wants chunks, and how much of it is in use."""

    provider: PeerId
    bid: Bid
    leased: int = 0
    """Leases and open grants it holds in this job."""
    rests_until: Micros = Micros(0)
    """After a refusal or silence it is asked again only from here on."""
    failed: set[int] = field(default_factory=set)
    """Chunks that it gave back or lost: another is preferred for them."""

    def has_room(self, now: Micros) -> bool:
        """Whether it may be asked, however old its bid is: who stands by waits long and need not bid again."""
        return self.leased < self.bid.slots and self.rests_until <= now

    def is_free(self, now: Micros) -> bool:
        """Whether it waits for work."""
        return self.has_room(now) and now < self.bid.expires


def choose(
    bidders: Iterable[Bidder],
    chunk: int,
    now: Micros,
    rank: Callable[[PeerId], tuple[int, ...]],
    random: Random,
    preferred: PeerId | None = None,
) -> Bidder | None:
    """The bidder for a chunk: the standby first, else the least busy, then by `rank`: (reputation, stake).

    Who lost the chunk before gets it again only when nobody else bids: a provider that always fails is always free, and
    would use up the chunk's attempts while the others are at work."""
    known = list(bidders)
    for bidder in known:
        if bidder.provider == preferred and bidder.has_room(now) and chunk not in bidder.failed:
            return bidder
    free = [bidder for bidder in known if bidder.is_free(now)]
    fresh = [bidder for bidder in free if chunk not in bidder.failed]
    if not fresh and not any(chunk not in bidder.failed and now < bidder.bid.expires for bidder in known):
        fresh = free
    if not fresh:
        return None
    if random.randrange(PPM) < EXPLORATION_PPM:
        return fresh[random.randrange(len(fresh))]
    return min(fresh, key=lambda bidder: (bidder.leased, *(-part for part in rank(bidder.provider)), bidder.provider))


def lease(
    escrow: bytes,
    chunk: int,
    epoch: int,
    bidder: Bidder,
    spec: JobSpec,
    watchers: tuple[PeerId, ...],
    ledger_time: Micros,
) -> Assign:
    """The `Assign` that steward and provider both sign. The queue in front of the chunk counts towards its deadline."""
    price = chunk_price(bidder.bid.price_per_hour, spec.estimate)
    claim_by = ledger_time + spec.timeout * (bidder.leased + 1) + CLAIM_MARGIN
    return Assign(
        escrow=escrow,
        chunk=chunk,
        epoch=epoch,
        provider=bidder.provider,
        price=price,
        collateral=price * COLLATERAL_PPM // PPM,
        claim_by=claim_by,
        verdict_by=claim_by + VERDICT_WINDOW,
        watchers=watchers,
        evidence=trust.evidence_price(price, trust.terms(spec), spec.units) or UNSET,
    )


def with_evidence(assign: Assign, most: int) -> Assign:
    """The same lease with at most so much set aside for its auditors."""
    wanted = assign.evidence or 0
    return assign if wanted <= most else msgspec.structs.replace(assign, evidence=most or UNSET)


def watchers(
    steward: PeerId, provider: PeerId, peers: Iterable[PeerId], standby: PeerId | None, random: Random
) -> tuple[PeerId, ...]:
    """Three peers that will listen for the beats: the steward, the standby, and one drawn from the rest."""
    chosen = [steward]
    if standby is not None and standby not in (steward, provider):
        chosen.append(standby)
    rest = sorted(peer for peer in peers if peer not in (*chosen, provider))
    while rest and len(chosen) < 3:
        chosen.append(rest.pop(random.randrange(len(rest))))
    return tuple(chosen)
