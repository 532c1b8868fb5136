"""What all jobs of one steward share: who it is, what it knows of the ledger, of providers and of connections.

Wired once (`verifier.wiring`). Spec: specs/14-steward.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from protocol.identity import Identity
from protocol.jobspec import JobSpec
from protocol.ledger import Ledger
from protocol.ledger_client import LedgerClient
from protocol.units import Micros, PeerId


@dataclass(slots=True)
class Desk:
    """What all jobs of one steward share; wired once."""

    identity: Identity
    network: str
    client: LedgerClient
    ledger: Callable[[], Ledger]
    is_current: Callable[[], bool]
    """Whether this peer's copy of the ledger has caught up with the network."""
    random: Random
    rank: Callable[[PeerId], tuple[int, ...]]
    """(reputation in ppm, stake, nearness) of a provider: the larger, the better."""
    peers: Callable[[Micros], list[PeerId]]
    """Peers with a live offer, who can watch."""
    suits: Callable[[JobSpec, PeerId, Micros], bool] = lambda spec, provider, now: True
    """Whether a provider is where the job may run."""
    safety: Callable[[JobSpec, PeerId, Micros], tuple[int, int]] = lambda spec, provider, now: (1, 0)
    """How safe the job's chunks are with a provider (`matching.safety`)."""
    is_cut: Callable[[PeerId], bool] = lambda peer: False
    """Whether no connection to a peer is left: it may be dead, so that others are asked before it."""

    def ranks(self, spec: JobSpec, now: Micros) -> Callable[[PeerId], tuple[int, ...]]:
        """The rank of a provider for one job: safe enough, (reputation, stake), how safe, nearness."""

        def ranked(peer: PeerId) -> tuple[int, ...]:
            (is_safe, less), (*merit, near) = self.safety(spec, peer, now), self.rank(peer)
            return is_safe, *merit, less, near

        return ranked
