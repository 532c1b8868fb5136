"""A node that does nothing but custody and volumes, in its own process: `volume_process.py FOLDER NAME BOOTSTRAP…`.

It prints its address when others can connect; its control socket is FOLDER/control.sock.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import trio

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[3]))
    gc.disable()  # Until all is imported, as in a real node (shoal/imports.py).

from node import entropy
from node.blob_api import BlobApi
from node.blobs import BlobStore
from node.clock import Clock
from node.control import ControlServer, unary
from node.control_methods import BlobBeginParams, BlobEndParams, BlobGetParams, BlobPartParams, RenterCreateParams
from node.driver import Driver, World
from node.events import EventLog
from node.isal import erasure_code
from node.parts import Parts
from node.renter_api import renter_identity
from node.runner import Runner
from node.store import RecordStore
from node.transport import Transport, TransportConfig
from node.views import Plain
from node.volumes.shards import CustodianShards
from node.volumes.wiring import Surroundings, wire_volumes
from node.work import Works
from protocol.identity import Identity, peer_text
from protocol.job_record import JobRecord
from protocol.peer import Peer
from protocol.provider_lease import Lease
from protocol.units import GIB, Micros, PeerId
from storage.hazard import Hazard
from storage.interval import Cadence
from storage.neighbourhood import Seen
from storage.wiring import StorageOutside, Vault, wire_storage

NETWORK = "reef"


class Node:
    """The parts."""

    def __init__(self, folder: Path, name: str, bootstraps: list[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.clock, self.events = Clock(), EventLog()
        self.identity = Identity(name.encode().ljust(32, b"."))
        self.blobs = BlobStore(folder / "blobs", GIB)
        self.records = RecordStore(folder / "node.sqlite")
        config = TransportConfig(listen=("/ip4/127.0.0.1/tcp/0",), bootstraps=tuple(bootstraps))
        self.transport = Transport(self.identity, NETWORK, config, self.blobs)
        self.renters: dict[PeerId, Identity] = {}

    def vault(self) -> Vault:
        """Custody, with everybody who is connected as a holder."""

        def peers() -> Sequence[Seen]:
            return [Seen(peer, ("/ip4/127.0.0.1/tcp/1",)) for peer in self.transport.connected()]

        def pace(lease: Lease, now: Micros) -> Cadence:
            return Cadence("min-loss", Micros(0), Hazard(), now, now)

        outside = StorageOutside(peers, entropy.dice, self.blobs.has, lambda: GIB, GIB, pace)
        return wire_storage(self.identity, NETWORK, outside)

    async def create_renter(self, params: RenterCreateParams) -> Plain:
        """As `renter.create`."""
        renter = renter_identity(self.identity, params.name)
        self.renters[renter.peer] = renter
        return {"renter": peer_text(renter.peer)}

    async def run(self) -> None:
        """Serve until killed."""
        vault, erasure = self.vault(), erasure_code()
        runner = Runner(self.blobs, self.folder / "tasks", [], {})
        works = Works(self.identity.peer, self.transport, self.blobs, runner, erasure)
        world = World(self.identity.peer, NETWORK, self.clock, self.transport, works, self.records, None, self.events)
        driver = Driver(Peer(vault.listed), world)
        kept = [item for kind in ("shard/", "guard/") for item in self.records.scan(kind)]
        for machine, act in vault.restored(kept):
            driver.later(machine, act)
        jobs: list[JobRecord] = []
        async with self.transport.serving(), trio.open_nursery() as nursery:
            around = Surroundings(
                NETWORK, self.identity.peer, self.transport, self.blobs, self.records, self.events, self.clock.now,
                self.renters.get, lambda: jobs,
            )  # fmt: skip
            shards = CustodianShards(driver, vault.custodian, vault.neighbourhood, self.clock.now)
            volumes = wire_volumes(around, shards, erasure)
            blob = BlobApi(cast("Parts", SimpleNamespace(blobs=self.blobs)), self.folder / "uploads")
            table = {
                **volumes.methods,
                "blob.begin": unary(BlobBeginParams, blob.begin),
                "blob.part": unary(BlobPartParams, blob.part),
                "blob.end": unary(BlobEndParams, blob.end),
                "blob.get": unary(BlobGetParams, blob.get),
                "renter.create": unary(RenterCreateParams, self.create_renter),
            }
            nursery.start_soon(driver.run)
            nursery.start_soon(volumes.run)
            await nursery.start(ControlServer(self.folder / "control.sock", table).serve)
            print(self.transport.addresses()[0], flush=True)
            await trio.sleep_forever()


if __name__ == "__main__":
    gc.freeze()
    gc.enable()
    trio.run(Node(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]).run)
