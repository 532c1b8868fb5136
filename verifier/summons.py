"""Who is called to a panel: whoever has stake, in an order that the ledger and the appeal's block fix for all judges.

What a judge has heard from peers (offers, addresses) only decides whom it passes over and whom it asks as well; the
first in the order who answer are the panel. Spec: specs/37-verification-game.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from protocol.units import PeerId
from verifier.sampling import AUDITOR_STAKE_CAP

ORDER_MAX: Final = 64
"""Peers in an order: seven seats, as many stand-ins, and four times that of whom cannot sit."""

Fitness = Literal["fit", "unknown", "unfit"]
"""Whether a peer can execute the chunk comparably, by its offer; `unknown` where no offer of it is here."""

Networks = Callable[[PeerId], frozenset[str]]
"""What shows that two peers are one operator's: the networks of their public addresses."""

_BITS: Final = 64
_FRACTION: Final = 48
_SCALE: Final = 48


class _Standing(Protocol):
    @property
    def fraud(self) -> int: ...


def roll(
    stakes: Mapping[PeerId, int], standings: Mapping[bytes, _Standing], judges: Iterable[PeerId]
) -> dict[PeerId, int]:
    """Everybody who may be called, by the ledger alone, with the stake that counts: whoever has some, and every judge;
    nobody who was found to be a cheat."""
    able = {peer: stake for peer, stake in stakes.items() if stake > 0}
    able |= {peer: max(1, stakes.get(peer, 0)) for peer in judges}
    return {peer: stake for peer, stake in able.items() if (known := standings.get(peer)) is None or not known.fraud}


def order(
    seed: bytes, place: tuple[bytes, int, int], stakes: Mapping[PeerId, int], excluded: Collection[PeerId]
) -> tuple[PeerId, ...]:
    """Everybody but `excluded`, the first ORDER_MAX, drawn without putting back by stake up to the cap.

    Each has a ticket of its own (weighted sampling after Efraimidis and Spirakis, 2006): somebody who comes, goes, or
    gets other stake moves nobody else."""
    name = b"shoal/1\0panel\0" + seed + b"%s%d/%d\0" % place
    ranks = {
        peer: (_scarcity(hashlib.sha256(name + peer).digest()) << _SCALE) // min(AUDITOR_STAKE_CAP, stake)
        for peer, stake in stakes.items()
        if stake > 0 and peer not in excluded
    }
    return tuple(sorted(ranks, key=lambda peer: (ranks[peer], peer))[:ORDER_MAX])


@dataclass(frozen=True, slots=True)
class Summons:
    """Who is asked at once, who next, and how many words decide."""

    members: tuple[PeerId, ...]
    reserve: tuple[PeerId, ...]
    seats: int


def summon(
    order: Iterable[PeerId],
    seats: int,
    fitness: Callable[[PeerId], Fitness],
    networks: Networks = lambda peer: frozenset(),
    sides: Collection[PeerId] = (),
) -> Summons:
    """As many as there are seats who can sit, and at most as many more of whom nothing is known, in this order.

    Nobody sits who cannot, who shares a network with `sides`, or with another member. Fewer seats where fewer can."""
    taken = frozenset(network for peer in sides for network in networks(peer))
    able: list[PeerId] = []
    sure: set[PeerId] = set()
    for peer in order:
        known, theirs = fitness(peer), networks(peer)
        if known == "unfit" or theirs & taken:
            continue
        taken |= theirs
        able.append(peer)
        if known == "fit":
            sure.add(peer)
    asked = 0
    while asked < min(len(able), 2 * seats) and len(sure.intersection(able[:asked])) < seats:
        asked += 1
    return Summons(tuple(able[:asked]), tuple(able[asked:]), min(seats, len(able)))


def _scarcity(ticket: bytes) -> int:
    """-log2 of a uniform number between 0 and 1, in units of 2**-48: in integers, so that all get the same."""
    number = int.from_bytes(ticket[: _BITS // 8], "big") | 1
    whole = number.bit_length() - 1
    mantissa, fraction = number << (_BITS - 1 - whole), 0
    for _ in range(_FRACTION):
        mantissa = mantissa * mantissa >> (_BITS - 1)
        fraction <<= 1
        if mantissa >> _BITS:
            mantissa >>= 1
            fraction |= 1
    return ((_BITS - whole) << _FRACTION) - fraction
