"""From the ledger's standing of a provider to its reputation: anybody recomputes it. Spec: specs/10-reputation.md."""

from __future__ import annotations

from protocol.ledger import Ledger
from protocol.reputation import Record, record, score
from protocol.units import Credits, PeerId


def standing_record(ledger: Ledger, provider: PeerId) -> Record:
    """The record behind a reputation: counts and response time as ordered by the ledger, and the stake."""
    return record(ledger.standings.get(provider), Credits(ledger.available("S", provider)))


def rank(ledger: Ledger, provider: PeerId) -> tuple[int, int]:
    """(reputation in parts per million, stake): the order of assignment (features L3)."""
    known = standing_record(ledger, provider)
    return score(known), known.stake
