"""The machines of custody in a live node: what they see of the world, and who else listens to them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Final

import trio

from node import entropy
from node.blobs import BlobStore
from node.clock import Clock
from node.config import Config
from node.store import RecordStore
from node.transport import Transport
from protocol import matching, wire
from protocol.identity import Identity
from protocol.offers import OfferBook
from protocol.overlay.place import estimate
from protocol.provider_lease import Lease
from protocol.units import GIB, Micros
from storage.hazard import Hazard
from storage.interval import Cadence
from storage.neighbourhood import Seen
from storage.wiring import StorageOutside, Vault, wire_storage
from verifier.wiring import Machines

FREE_BYTES_MIN: Final = 1 * GIB
"""What is left of the disk for everything else, however much others would like to keep here."""

NOTE_EVERY_S: Final = 60.0
"""Seconds between two notes that the host is up: a failure is dated to the minute."""

HAZARD_KEY: Final = "hazard"
"""The record in which a host's own history is kept."""

RUNNING_KEY: Final = "running"
"""Until when this node was up: found again at the start, it tells that the last run did not end by itself."""

_hazards: Final = wire.decoder(Hazard)


class Host:
    """How long this host usually stays, learnt from its own runs."""

    def __init__(self, records: RecordStore, identity: Identity, clock: Clock) -> None:
        self._records = records
        self._clock = clock
        self.since = clock.now()
        known = records.get(HAZARD_KEY)
        self.hazard = wire.decode(known, _hazards, identity.peer) if known is not None else Hazard()
        crashed = records.get(RUNNING_KEY)
        if crashed is not None:
            self.hazard.fail(Micros(int(crashed)))
        self._lived = self.since
        self.note()

    def note(self) -> None:
        """Still here. Called now and then."""
        now = self._clock.now()
        self.hazard.live(self._lived, now)
        self._lived = now
        self._records.put(HAZARD_KEY, wire.encode(self.hazard))
        self._records.put(RUNNING_KEY, str(now).encode())

    async def keep_note(self) -> None:
        """Until cancelled."""
        while True:
            await trio.sleep(NOTE_EVERY_S)
            self.note()

    def leave(self) -> None:
        """A clean end: no failure."""
        self.note()
        self._records.put(RUNNING_KEY, None)


def wire_custody(
    identity: Identity,
    config: Config,
    machines: Machines,
    transport: Transport,
    blobs: BlobStore,
    host: Host,
    clock: Clock,
) -> Vault:
    """Custody behind the same door as the other machines of this peer."""
    is_worker = "provider" in config.roles

    def pace(lease: Lease, now: Micros) -> Cadence:
        wanted = lease.spec.protection
        return Cadence(wanted.profile, wanted.every, host.hazard, host.since, now)

    def free_bytes() -> int:
        return max(0, shutil.disk_usage(config.data).free - FREE_BYTES_MIN)

    outside = StorageOutside(
        peers=lambda: seen(machines.offers, transport, clock.now()),
        dice=entropy.dice,
        has=blobs.has,
        free_bytes=free_bytes,
        quota=config.keep_bytes_max,
        pace=pace,
    )
    vault = wire_storage(identity, config.network, outside)
    if is_worker:
        machines.provider.guards.append(vault.protector)
        vault.protector.listeners.append(machines.reclaim)
        machines.hands.cut_now = vault.protector.cut_now
    return vault


def seen(offers: OfferBook, transport: Transport, now: Micros) -> Sequence[Seen]:
    """Everybody who could keep something."""
    here = transport.place.coordinate
    found = []
    for peer, offer in offers.offers(now).items():
        place = matching.place_of(offer)
        found.append(Seen(peer, offer.addresses, place.region, estimate(here, place.coordinate)))
    return found
