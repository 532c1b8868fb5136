"""A node's parts, opened and put together: what `node.run` serves until the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from node import attester, custody, entropy, trust_roots
from node.benchmarking import Benchmarks, Wired, wire_benchmarks
from node.blobs import BlobStore
from node.canaries import Answers
from node.clock import Clock
from node.config import Config
from node.drand import Drand
from node.driver import Driver, World
from node.events import EventLog
from node.host import TASKS, Host, inspect_host, process_tier
from node.isal import erasure_code
from node.journal import Journal
from node.node_api import SOFTWARE
from node.outcomes import Outcomes
from node.protection.shelter import Shelter
from node.proving.examining import Examiner
from node.store import RecordStore
from node.transport import Transport, TransportConfig
from node.uplink import Uplink
from node.work import Works
from protocol.bidding import SPEC_BYTES_MAX
from protocol.completions import Guest
from protocol.genesis import Genesis
from protocol.identity import Identity, peer_from_text
from protocol.units import Digest, Micros, PeerId
from storage import exposure
from storage.erasure import ErasureCode
from storage.wiring import Vault
from verifier.attestation.answering import Attestant
from verifier.case import Place
from verifier.wiring import Machines, Outside, wire_machines

PROCESS_IMAGES: Final = "process-images/1"
"""In Hello's capabilities: programs of any language are started again here after a crash, from where they were."""

MEGABIT: Final = 125_000
"""Bytes."""


@dataclass(slots=True)
class Assembly:
    """Everything that a node consists of."""

    config: Config
    identity: Identity
    clock: Clock
    blobs: BlobStore
    records: RecordStore
    journal: Journal | None
    serves: tuple[PeerId, ...]
    host: Host
    machines: Machines
    outcomes: Outcomes
    transport: Transport
    vault: Vault
    uplink: Uplink
    stay: custody.Host
    world: World
    driver: Driver
    erasure: ErasureCode
    answers: Answers
    drand: Drand | None
    """Public randomness for a validator's beacons, where its owner names a relay."""
    benchmarks: Wired

    def close(self) -> None:
        """Close what is on the disk."""
        self.records.close()
        if self.journal:
            self.journal.close()


async def assemble(config: Config, identity: Identity, genesis: Genesis) -> Assembly:
    """Open the disk, look at the host, wire the machines. Nothing is served yet."""
    clock = Clock()
    blobs = BlobStore(config.data / "blobs", config.blob_bytes_max)
    records = RecordStore(config.data / "node.sqlite")
    is_validator = identity.peer in genesis.validator_set
    journal = Journal(config.data / "blocks.journal") if is_validator else None
    serves = tuple(peer_from_text(text) for text in config.serves)
    erasure = erasure_code()

    async def fetch(digest: Digest, size: int, sources: tuple[PeerId, ...]) -> None:
        await transport.fetch(digest, size, tuple(peer for peer in sources if peer != identity.peer))

    def discard(digest: Digest) -> None:
        if not vault.pins.is_pinned(digest):
            blobs.remove(digest)

    def evicted(task: str) -> None:
        works.give(Guest(task, "ended", "its room was needed", 0))

    def canary(place: Place, provider: PeerId, output: Digest) -> Digest | None:
        offer = machines.offers.get(provider, clock.now())
        runtimes = frozenset(item.digest for item in offer.runtimes) if offer else frozenset[bytes]()
        return answers.proof(machines.ledger, place, output, runtimes)

    def rtt(peer: PeerId) -> Micros | None:
        return transport.overlay.pings.rtt_us(peer) if transport.overlay else None

    answers = Answers(records, blobs, identity.peer)
    images = await process_tier(config, identity, genesis.chain)
    shelter = Shelter(fetch, config.slots, erasure, discard, evicted, process=images)
    drand = Drand(clock.now, servers=(config.drand_url.rstrip("/"),)) if config.drand_url and is_validator else None
    host = await inspect_host(config, blobs, serves, clock, shelter)
    outside = Outside(
        read=lambda digest: blobs.read(digest, SPEC_BYTES_MAX),
        executor=host.runner.choose,
        capability=host.capability,
        audits_at_once=host.audits,
        now=clock.now,
        dice=entropy.dice,
        coordinate=lambda: transport.place.coordinate,
        neighbours=lambda: transport.connected(),
        is_cut=lambda peer: peer != identity.peer and not transport.is_connected(peer),
        loss=exposure.loss,
        canary=canary,
        makers=trust_roots.load(config.trust_roots),
        trusted=lambda peer, offer: benchmarks.issuer.trusted(peer, offer),
        is_doubted=lambda peer: benchmarks.issuer.is_doubted(peer),
        fresh=drand.fresh if drand else bytes,
    )
    machines = wire_machines(identity, genesis, outside, journal or [], records.get("vote"))
    outcomes = Outcomes(lambda: machines.ledger)
    machines.client.listeners.append(outcomes)
    transport = Transport(identity, genesis.chain, _transport_config(config, images is not None), blobs)
    events = EventLog()
    stay = custody.Host(records, identity, clock)
    vault = custody.wire_custody(identity, config, machines, transport, blobs, stay, clock)
    uplink = Uplink(records, transport.bytes_sent, lambda: vault.protector.uplink_seen, config.up_mbps * MEGABIT)
    works = Works(
        identity.peer, transport, blobs, host.runner, erasure, Benchmarks(config.runtimes), attester.of(config)
    )
    works.examiner = Examiner(blobs, shelter, config.data / TASKS)
    validators = genesis.validator_set.peers
    benchmarks = wire_benchmarks(identity.peer, machines, validators, rtt, _benchmarks_per_hour(config))
    world = World(identity.peer, genesis.chain, clock, transport, works, records, journal, events)
    driver = Driver(machines.peer([*vault.listed, *benchmarks.listed, _quoter(identity, validators, machines)]), world)
    return Assembly(
        config, identity, clock, blobs, records, journal, serves, host, machines,
        outcomes, transport, vault, uplink, stay, world, driver, erasure, answers, drand, benchmarks,
    )  # fmt: skip


def _quoter(identity: Identity, validators: tuple[PeerId, ...], machines: Machines) -> Attestant:
    """Who speaks for this machine's trusted hardware."""
    return Attestant(identity.peer, lambda: validators, machines.provider.leases, lambda: machines.ledger)


def _benchmarks_per_hour(config: Config) -> int:
    """Only who carries jobs or judges them has use for what is found."""
    return config.benchmarks_per_hour if {"steward", "validator"} & set(config.roles) else 0


def _transport_config(config: Config, takes_images: bool) -> TransportConfig:
    return TransportConfig(
        listen=config.listen,
        bootstraps=config.bootstrap,
        peer_cache=config.data / "peers.json",
        software=SOFTWARE,
        roles=config.roles,
        announce=config.announce,
        region=config.region,
        relays=config.relay,
        maps_ports=config.port_mapping,
        uses_mdns=config.mdns,
        bulk_port=config.data_port,
        up_rate=config.up_mbps * MEGABIT or None,
        down_rate=config.down_mbps * MEGABIT or None,
        capabilities=(PROCESS_IMAGES,) if takes_images else (),
    )
