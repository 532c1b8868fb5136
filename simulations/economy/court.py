"""Whether a cheat is found: the node's own draw of audits, auditors and units, over agents that may be bought.

An auditor who is not the attacker's own replays the drawn units and sees every bad one among them; the attacker's own
finds everything as it was claimed. What their words add up to is `verifier.settling`, as on every validator.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from protocol.exposure import floor_ppm
from protocol.jobspec import ZERO_DIGEST
from protocol.operations import Found, commission
from protocol.trust import LEVELS, Level
from protocol.units import PPM, PeerId
from simulations.economy.exchange import Exchange, Place, key
from verifier import sampling, settling
from verifier.challenge import indices
from verifier.challenge import seed as challenge_of
from verifier.settling import Finding

UNITS: Final = 64
"""Units of a claim."""

AUDITOR_STAKE: Final = 1_000_000_000
"""Smallest units that every auditor has bound: the cap of the draw, so that all weigh the same."""

ALL: Final = frozenset(range(UNITS))
NONE: Final = frozenset[int]()


class Court:
    """Auditors, of whom some belong to the attacker, and a renter's level of trust."""

    def __init__(
        self, exchange: Exchange, auditors: Collection[str], bought: Collection[str] = (), level: Level = "standard"
    ) -> None:
        self.exchange = exchange
        self.terms = LEVELS[level]
        self.bought = frozenset(bought)
        self.audits = 0
        self._names = {key(name): name for name in auditors}

    def try_claim(self, place: Place, bad: Collection[int]) -> Found:
        """Claim, draw, audit, judge. `bad`: units that the provider did not compute."""
        exchange = self.exchange
        streak, stake = exchange.streak(place.provider), exchange.stake(place.provider) + place.price
        standing = exchange.ledger.standings.get(key(place.provider))
        exchange.claim(place, trace=bytes(32))
        floor = max(self.terms.floor_ppm, floor_ppm(place.price, stake, exchange.policy.collusion))
        rate = PPM if standing and standing.probation else sampling.audit_ppm(min(PPM, floor), streak)
        beacon = exchange.random_bytes()
        if sampling.is_drawn(beacon, *place.plain, rate):
            return self._audited(place, beacon, bad)
        exchange.judge(place, "accept", "not_sampled")
        return "accept"

    def _audited(self, place: Place, beacon: bytes, bad: Collection[int]) -> Found:
        seed = challenge_of(place.plain, bytes(32), bytes(32), beacon)
        chosen = indices(seed, UNITS, self.terms.samples, [0] * UNITS, touch=True)
        is_hit = any(index in bad for index in chosen)
        findings: list[Finding] = []
        settled = None
        while settled is None:
            drawn = self._draw(place, beacon, findings)
            if drawn is None:
                self.exchange.judge(place, "missing", "unconfirmed")
                return "missing"
            self.audits += 1
            sees = is_hit and self._names[drawn] not in self.bought
            code = "unit_differs" if sees else ""
            findings.append(Finding(drawn, ZERO_DIGEST, "other" if sees else "same", code.encode(), code))
            settled = settling.settle(findings, self.terms.auditors, is_exact=True)
        outcome: Found = "fraud" if settled.end == "refuted" else "accept"
        code = {"refuted": "unit_differs", "stands": "hash_equal"}.get(settled.end, "not_reproducible")
        auditor = "" if settled.end == "irreproducible" else self._names[settled.by.auditor]
        self.exchange.judge(place, outcome, code, auditor, tuple(self._names[peer] for peer in settled.faulted))
        return outcome

    def _draw(self, place: Place, beacon: bytes, findings: list[Finding]) -> PeerId | None:
        """By stake, nobody twice."""
        tried = frozenset({key(place.provider), *(finding.auditor for finding in findings)})
        return sampling.draw_auditor(
            beacon, place.plain, len(findings), dict.fromkeys(self._names, AUDITOR_STAKE), tried
        )


def pay(price: int) -> int:
    """What a provider gets of a price."""
    return price - commission(price)


def cost(price: int, share: float = 1.0) -> int:
    """What computing a share of a chunk costs an honest host: four fifths of its pay, as fierce markets have it."""
    return int(pay(price) * share * 4 // 5)


def bad_units(share: float, exchange: Exchange) -> frozenset[int]:
    """The units that are left out, anywhere in the claim."""
    count = min(UNITS, max(0, round(share * UNITS)))
    return frozenset(exchange.dice.sample(range(UNITS), count))
