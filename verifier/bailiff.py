"""What a court needs of the peer that it sits at: its ledger, who may be called, and what it has heard of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from protocol.identity import Identity
from protocol.units import Digest, PeerId
from verifier.docket import HeldView
from verifier.summons import Fitness, Networks
from verifier.views import Facts, LedgerView


class CourtLedger(LedgerView, Protocol):
    """What the court reads of the ledger, besides what judges do."""

    @property
    def held(self) -> Mapping[bytes, HeldView]: ...


Fits = Callable[[Facts, PeerId, PeerId], Fitness]
"""Whether the execution of a peer, the last one, can be compared with a provider's, by their offers."""


@dataclass(frozen=True, slots=True)
class Bailiff:
    """What the court needs of its peer; wired once."""

    identity: Identity
    chain: str
    ledger: Callable[[], CourtLedger]
    validators: Callable[[], tuple[PeerId, ...]]
    roll: Callable[[], Mapping[PeerId, int]]
    """Who may be called to a panel, and the stake that counts: by the ledger alone (`verifier.summons.roll`)."""
    fits: Fits
    read_blob: Callable[[Digest], bytes]
    networks: Networks = lambda peer: frozenset()
