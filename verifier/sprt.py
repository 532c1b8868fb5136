"""Deciding between two rates after as few observations as possible: Wald's sequential test.

Each token either is what the reference would have drawn, or is a miss. An honest machine misses at most at the rate
`honest`, the mildest cheat of the battery at least at the rate `cheat`. Evidence of several requests adds up; while it
is weaker than ODDS in either direction nothing is decided. Spec: specs/34-inference-proof.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

ODDS: Final = 1_000_000
"""To one: a decision is wrong at most so rarely, given that either hypothesis is true."""
BOUND: Final = math.log(ODDS)
"""The same in nats."""

Decision = Literal["accept", "reject", "more"]


class Evidence(NamedTuple):
    """What was seen so far."""

    misses: int = 0
    tokens: int = 0

    def __add__(self, other: object) -> Evidence:
        """Both together."""
        if not isinstance(other, Evidence):
            return NotImplemented
        return Evidence(self.misses + other.misses, self.tokens + other.tokens)


class Hypotheses(NamedTuple):
    """Two rates of misses, 0 < honest < cheat < 1, from a calibration."""

    honest: float
    cheat: float

    def log_odds(self, seen: Evidence) -> float:
        """Nats by which the evidence speaks for a cheat.

        >>> rates = Hypotheses(0.01, 0.05)
        >>> round(rates.log_odds(Evidence(0, 100)), 2), round(rates.log_odds(Evidence(10, 100)), 2)
        (-4.12, 12.38)
        """
        hits = seen.tokens - seen.misses
        return seen.misses * math.log(self.cheat / self.honest) + hits * math.log((1 - self.cheat) / (1 - self.honest))

    def decide(self, seen: Evidence) -> Decision:
        """`more` while the odds are below ODDS to one in both directions."""
        found = self.log_odds(seen)
        if found >= BOUND:
            return "reject"
        return "accept" if found <= -BOUND else "more"

    def tokens_expected(self, rate: float) -> float:
        """Tokens that it takes on average when misses come at this rate; infinite where the evidence goes nowhere."""
        drift = rate * math.log(self.cheat / self.honest) + (1 - rate) * math.log((1 - self.cheat) / (1 - self.honest))
        return BOUND / abs(drift) if drift else math.inf


def pooled(seen: Iterable[Evidence]) -> Evidence:
    """The evidence of several requests or audits together."""
    total = Evidence()
    for one in seen:
        total = total + one
    return total
