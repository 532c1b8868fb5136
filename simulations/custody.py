"""The machines of custody behind a simulated peer, wired as `node/custody.py` wires them in a live one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from protocol import matching
from protocol.provider_lease import Lease
from protocol.units import GIB, Micros
from simulations import chance
from storage.hazard import Hazard
from storage.interval import Cadence
from storage.neighbourhood import Seen
from storage.wiring import StorageOutside, Vault, wire_storage

if TYPE_CHECKING:
    from simulations.simpeer import SimPeer

QUOTA: Final = 256 * GIB
"""Bytes that shards of others may take on a simulated host: what a home computer's disk can spare."""


@dataclass(slots=True)
class Stay:
    """How long a host usually stays, learnt from its own runs. It outlives them, as a record on disk does."""

    hazard: Hazard = field(default_factory=Hazard)
    since: Micros = Micros(0)

    def come(self, now: Micros) -> None:
        """The program starts."""
        self.since = now

    def go(self, now: Micros) -> None:
        """It ended without a word."""
        self.hazard.live(self.since, Micros(max(now, self.since)))
        self.hazard.fail(now)


def wire_custody(peer: SimPeer, network: str) -> Vault:
    """Custody behind the same door as the other machines of this peer, which are wired already."""
    clock, queue, library, index = peer.clock, peer.queue, peer.library, peer.index
    dice = iter(range(1 << 30))
    machines, boots = peer.machines, peer.boots

    def pace(lease: Lease, now: Micros) -> Cadence:
        wanted = lease.spec.protection
        return Cadence(wanted.profile, wanted.every, peer.stay.hazard, peer.stay.since, now)

    def seen() -> Sequence[Seen]:
        found = machines.offers.offers(clock.read(queue.now))
        return [Seen(other, offer.addresses, matching.place_of(offer).region) for other, offer in found.items()]

    outside = StorageOutside(
        peers=seen,
        dice=lambda: chance.stream(peer.seed, peer.name, "custody", boots, next(dice)),
        has=lambda digest: library.has(index, digest),
        free_bytes=lambda: QUOTA,
        quota=QUOTA if peer.role == "provider" else 0,
        pace=pace,
    )
    vault = wire_storage(peer.identity, network, outside)
    if peer.role == "provider":
        machines.provider.guards.append(vault.protector)
        vault.protector.listeners.append(machines.reclaim)
        machines.hands.cut_now = vault.protector.cut_now
    return vault
