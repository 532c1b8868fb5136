"""Whether a cheat is found: the node's own draw of audits, auditors and units, over agents that may be bought.

An auditor who is not the attacker's own replays the drawn units and sees every bad one among them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from protocol.exposure import floor_ppm
from protocol.operations import commission
from protocol.trust import LEVELS, Level
from protocol.units import PPM, PeerId
from simulations.economy.exchange import Exchange, Found, Place, key
from verifier import challenge, sampling

UNITS: Final = 64
"""Units of a claim."""

AUDITOR_STAKE: Final = 1_000_000_000
"""Smallest units that every auditor has bound: the cap, so that all weigh the same."""


@dataclass(slots=True)
class Court:
    """Auditors, of whom some belong to the attacker, and a renter's level of trust."""

    exchange: Exchange
    auditors: Collection[str]
    bought: Collection[str] = ()
    level: Level = "standard"
    audits: int = 0
    names: dict[PeerId, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = {key(name): name for name in self.auditors}

    def try_claim(self, place: Place, bad: Collection[int]) -> Found:
        """Claim, draw, audit, judge. `bad`: units that the provider did not compute."""
        exchange, terms = self.exchange, LEVELS[self.level]
        streak = exchange.streak(place.provider)
        exchange.claim(place, trace=bytes(32))
        floors = (terms.floor_ppm, floor_ppm(place.price, exchange.stake(place.provider), exchange.policy.collusion))
        standing = exchange.ledger.standings.get(key(place.provider))
        rate = challenge.rate(floors, streak, is_certain=bool(standing and standing.probation))
        beacon = exchange.random_bytes()
        if not sampling.is_drawn(beacon, *place.plain, rate):
            exchange.judge(place, "accept", "not_sampled")
            return "accept"
        return self._audited(place, beacon, bad, terms.auditors, terms.samples)

    def _audited(self, place: Place, beacon: bytes, bad: Collection[int], wanted: int, samples: int) -> Found:
        """Two who see it condemn; enough who do not see it acquit, and refute who did."""
        seed = challenge.seed(place.plain, bytes(32), bytes(32), beacon)
        chosen = challenge.indices(seed, UNITS, samples, [0] * UNITS, touch=True)
        is_hit = any(index in bad for index in chosen)
        against: list[str] = []
        agreed: list[str] = []
        tried = {key(place.provider)}
        candidates = {key(name): AUDITOR_STAKE for name in self.auditors}
        turn = 0
        while len(against) < 2 and len(agreed) < wanted + len(against) and turn < len(candidates):
            drawn = sampling.draw_auditor(beacon, place.plain, turn, candidates, frozenset(tried))
            turn += 1
            if drawn is None:
                break
            tried.add(drawn)
            self.audits += 1
            name = self.names[drawn]
            (against if is_hit and name not in self.bought else agreed).append(name)
        if len(against) >= 2:
            self.exchange.judge(place, "fraud", "unit_differs", auditor=against[-1])
            return "fraud"
        if not agreed:
            self.exchange.judge(place, "missing", "unconfirmed")
            return "missing"
        self.exchange.judge(place, "accept", "hash_equal", auditor=agreed[-1], faulted=tuple(against))
        return "accept"


def pay(price: int) -> int:
    """What a provider gets of a price."""
    return price - commission(price)


def cost(price: int, share: float = 1.0) -> int:
    """What computing a share of a chunk costs an honest host: four fifths of what it gets, as fierce markets have it."""
    return int(pay(price) * share * 4 // 5)


def bad_units(share: float, exchange: Exchange) -> frozenset[int]:
    """The units that are left out, anywhere in the claim."""
    count = min(UNITS, max(0, round(share * UNITS)))
    return frozenset(exchange.dice.sample(range(UNITS), count))


ALL: Final = frozenset(range(UNITS))
NONE: Final = frozenset[int]()
CERTAIN: Final = PPM
